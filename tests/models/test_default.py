import pytest

from magface.errors import ModelError
from magface.models import card, default


def test_the_default_model_is_whole_and_describes_itself():
    found, fingerprint = card.read(default.path())
    assert found.embedding_size == 128
    assert found.sha256 == fingerprint
    assert default.path().stat().st_size <= 25_000_000


def test_an_installation_without_the_file_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(default, "DEFAULT", tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match="install magface again"):
        default.path()
