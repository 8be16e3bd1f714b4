"""A model file behind one call: arrays in, arrays out, on the fastest engine present."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Literal

from magface.engines.engine import Engine, Precision
from magface.errors import EngineError, interrupted
from magface.models import card

__all__ = ["Engine", "EngineName", "Precision", "load"]

EngineName = Literal["auto", "openvino", "onnxruntime", "torch"]

_FASTEST_FIRST = {"openvino": "OpenvinoEngine", "onnxruntime": "OnnxruntimeEngine", "torch": "TorchEngine"}
_INSTALL = {"openvino": "openvino", "onnxruntime": "onnxruntime", "torch": "'magface[train]'"}


def load(
    model: str | Path | bytes, engine: EngineName = "auto", *, precision: Precision = "f32", threads: int | None = None
) -> Engine:
    """Make a model file runnable.

    All engines agree within 1e-4 (relative to the largest output) in f32.

    Args:
        model: an `.onnx` file, or its bytes, with one input. `torch` runs only files that carry a card.
        engine: `auto` takes the first that is installed of OpenVINO, ONNX Runtime, torch.
        precision: arithmetic inside the network; `bf16` is up to twice as fast on CPUs that have it and moves a
            magnitude by about 1 %. Inputs and outputs do not change.
        threads: CPU threads, >= 1; `None` leaves it to the engine, which takes all cores.

    Raises:
        ModelError: the file is missing, damaged, or not a model that the engine can run.
        EngineError: the engine is unknown, not installed, or has no such precision.

    Example:
        >>> load(Path("model.onnx"), "openvno")
        Traceback (most recent call last):
        ...
        magface.errors.EngineError: unknown engine 'openvno'; did you mean 'openvino'? Choose auto, openvino,
        onnxruntime or torch.
    """
    if engine != "auto" and engine not in _FASTEST_FIRST:
        close = difflib.get_close_matches(str(engine), _FASTEST_FIRST, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise EngineError(f"unknown engine {engine!r}{hint} Choose auto, openvino, onnxruntime or torch.")
    if precision not in ("f32", "bf16"):
        raise EngineError(f"unknown precision {precision!r}. Choose f32 or bf16.")
    if threads is not None and threads < 1:
        raise EngineError(f"threads must be at least 1, not {threads}.")
    kind = _fastest() if engine == "auto" else _kind(engine)
    return kind(card.content(model), precision=precision, threads=threads)


def _kind(name: str) -> type[Engine]:
    module = importlib.import_module(f"magface.engines.{name}")
    try:
        importlib.import_module(name)
    except ImportError as error:
        if interrupted(error):
            raise KeyboardInterrupt from error
        raise EngineError(f"the engine {name} cannot be used ({error}); pip install {_INSTALL[name]}.") from error
    return getattr(module, _FASTEST_FIRST[name])


def _fastest() -> type[Engine]:
    for name in _FASTEST_FIRST:
        try:
            return _kind(name)
        except EngineError:
            continue
    raise EngineError("no engine is installed; pip install onnxruntime.")
