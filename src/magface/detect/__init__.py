"""Faces of a photo: where they are, five landmarks each, and how sure that is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from magface.detect.detector import Detector
from magface.detect.yunet import YuNet
from magface.errors import ModelError

__all__ = ["Detector", "YuNet", "load"]


def load(source: str | Path | None = None) -> Detector:
    """The detector that comes with the package, or the one in a file.

    Args:
        source: `None` for YuNet; an `.onnx` file of the YuNet family; or a Python file that defines `detector()`,
            a function without arguments that returns a `Detector`. The Python file is run: give only one you trust.

    Raises:
        ModelError: the file is missing, of another kind, or fails.

    Example:
        A Python file that finds one face in the middle of every photo:

        >>> code = '''
        ... import numpy as np
        ... from magface import align
        ... from magface.types import Face
        ...
        ... class Middle:
        ...     name = "middle"
        ...
        ...     def detect(self, images):
        ...         return [[self.face(*image.shape[:2])] for image in images]
        ...
        ...     def face(self, height, width):
        ...         landmarks = align.TEMPLATE * (min(height, width) / 112)
        ...         return Face(np.float32([0, 0, width, height]), landmarks, 1.0)
        ...
        ... def detector():
        ...     return Middle()
        ... '''
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "middle.py")
        ...     _ = path.write_text(code)
        ...     middle = load(path)
        >>> middle.detect([np.zeros((224, 224, 3), np.uint8)])[0][0].landmarks[2]
        array([112.0504, 143.4732], dtype=float32)
    """
    if source is None:
        return YuNet()
    path = Path(source)
    if path.suffix == ".onnx":
        return YuNet(path)
    if path.suffix == ".py":
        return _from_python(path)
    raise ModelError(f"{path} is not a face detector; give an .onnx file of the YuNet family, or a .py file.")


def _from_python(path: Path) -> Detector:
    spec = importlib.util.spec_from_file_location(f"magface_detector_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ModelError(f"cannot read the face detector {path}; check the path.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        detector = module.detector()
    except Exception as error:
        raise ModelError(
            f"the face detector {path} fails ({type(error).__name__}: {error}); it must define detector()."
        ) from error
    if not callable(getattr(detector, "detect", None)) or not isinstance(getattr(detector, "name", None), str):
        raise ModelError(f"what detector() of {path} returns needs a name and a method detect(images).")
    return detector
