"""What every engine does: run a batch, or a stream of batches while the caller prepares the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from magface.errors import EngineError, ModelError

Array = NDArray[Any]
Precision = Literal["f32", "bf16"]

DAMAGED = "the model file is damaged or not an ONNX model; get it again, or export it again with `magface export`."


class Engine(ABC):
    """One model, ready to run; for one thread at a time.

    Attributes:
        name: `openvino`, `onnxruntime` or `torch`.
        shape: of the input; `None` where any size is taken.
        dtype: of the input.
    """

    name: ClassVar[str]
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def __init__(self, model: bytes, *, precision: Precision, threads: int | None) -> None: ...

    @abstractmethod
    def __call__(self, batch: Array) -> list[Array]:
        """Outputs of one batch in graph order; arrays of the caller's own.

        Raises:
            EngineError: the batch does not fit the model.
        """

    def stream(self, batches: Iterable[Array]) -> Iterator[list[Array]]:
        """Outputs of each batch, in order, computed while the iterator `batches` prepares the next ones.

        A few batches are in flight at any time, however long the stream. An exception of `batches` goes through to
        the caller.
        """
        with ThreadPoolExecutor(1) as worker:
            running: deque[Future[list[Array]]] = deque()
            for batch in batches:
                running.append(worker.submit(self, batch))
                if len(running) > 1:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()


def check(batch: Array, engine: Engine) -> None:
    """Refuse a batch of another type or shape than the model's, which some engines would convert in silence.

    Raises:
        EngineError: it does not fit.
    """
    sizes = zip(batch.shape, engine.shape, strict=False)
    fits = len(batch.shape) == len(engine.shape) and all(size == known or known is None for size, known in sizes)
    if not fits or batch.dtype != engine.dtype:
        raise unfit(batch)


def single_input(count: int) -> None:
    """Refuse a graph that does not take exactly one array.

    Raises:
        ModelError: `count` is not 1.
    """
    if count != 1:
        raise ModelError(f"the model has {count} inputs, but a face network or detector has one; use another model.")


def unfit(batch: Array) -> EngineError:
    """Error of a batch that does not fit the model."""
    return EngineError(f"the model cannot take an input of shape {batch.shape} and type {batch.dtype}.")
