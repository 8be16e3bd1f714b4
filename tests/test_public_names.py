import subprocess
import sys

import pytest

import magface

PUBLIC = """
__version__ Recognizer RecognizedFace Photo Verification analyze Embedder Embeddings Face Detector YuNet Card
direction magnitude cosine angle score percentile average_linkage fuse Templates
Gallery Entry open_gallery
MagfaceError ImageError NoFaceError ModelError EngineError DataError
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_public_names_are_these():
    assert magface.__all__ == PUBLIC.split()
    assert dir(magface) == sorted(magface.__all__)


@pytest.mark.parametrize("name", PUBLIC.split())
def test_every_name_can_be_used_and_is_documented(name):
    assert getattr(magface, name).__doc__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Recogniser'"):
        magface.Recogniser  # noqa: B018


def test_import_loads_nothing_heavy():
    loaded = run("import sys, magface; print(*sys.modules)").split()
    assert not {"numpy", "cv2", "torch", "onnxruntime", "openvino", "pyarrow", "rich", "typer"} & set(loaded)


def test_import_takes_less_than_a_tenth_of_a_second():
    code = "import time; t = time.perf_counter(); import magface; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.1


def test_recognition_needs_no_torch():
    code = """
import sys
sys.modules["torch"] = None  # importing it fails
import magface
from skimage import data
[face] = magface.Recognizer().faces(data.astronaut())
print(face.score > 0)
"""
    assert run(code).strip() == "True"


def test_command_imports_only_itself():
    code = """
import sys
from magface.cli.main import main
try:
    main(["verify", "--help"])
except SystemExit:
    print(*sys.modules)
"""
    loaded = set(run(code).split())
    assert "magface.cli.verify" in loaded
    others = {f"magface.cli.{name}" for name in ("analyze", "finetune", "evaluate", "export")}
    assert not loaded & (others | {"torch", "cv2", "openvino", "pyarrow"})
