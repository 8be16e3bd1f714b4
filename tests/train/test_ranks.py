import pytest
import torch

from magface.errors import EngineError
from magface.train.ranks import Ranks, joined


def test_alone():
    with joined("cpu") as ranks:
        assert ranks == Ranks(0, 1, "cpu")
    assert ranks.first
    assert ranks.any(True, False) == [True, False]
    assert ranks.gather("x") == ["x"]
    tensor = torch.ones(2)
    ranks.sum([tensor])
    assert tensor.tolist() == [1, 1]


@pytest.mark.parametrize("device", ["abacus", "cuda"])
def test_a_device_that_is_not_here_is_one_sentence(device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(EngineError, match="take another --device"), joined(device):
        pass


def test_fellows_that_cannot_be_reached_are_one_sentence(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(EngineError, match="start all ranks with torchrun"), joined("cpu"):
        pass
