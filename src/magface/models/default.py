"""The model that ships with the package."""

from __future__ import annotations

from pathlib import Path

from magface.errors import ModelError

DEFAULT = Path(__file__).with_name("magface-sface.onnx")


def path() -> Path:
    """Path of the default model.

    Raises:
        ModelError: the installation lacks the file.
    """
    if not DEFAULT.is_file():
        raise ModelError("this installation lacks the default model; install magface again, or name a model file.")
    return DEFAULT
