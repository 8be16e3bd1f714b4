"""OpenVINO: the fastest on x86 and ARM processors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np

from magface.engines.engine import DAMAGED, Array, Engine, Precision, check, single_input, unfit
from magface.errors import EngineError, ModelError


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


class OpenvinoEngine(Engine):
    """A model in OpenVINO on the CPU.

    A single batch runs on all cores for the shortest wait; a stream runs several batches side by side, each on few
    cores, which is faster in all. Each of the two is compiled when first used.
    """

    name: ClassVar[str] = "openvino"

    def __init__(self, model: bytes, *, precision: Precision, threads: int | None) -> None:
        if precision == "bf16" and "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EngineError("this processor has no bf16 arithmetic; use precision f32.")
        try:
            self._model = _core().read_model(model)
        except Exception as error:
            raise ModelError(DAMAGED) from error
        single_input(len(self._model.inputs))
        source = self._model.input(0)
        self.shape = tuple(size.get_length() if size.is_static else None for size in source.partial_shape)
        self.dtype = source.element_type.to_dtype()
        self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
        if threads is not None:
            # threads that are bound to cores would be bound to the same ones in every process
            self._options |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        self._parallel: Any = None
        self._rows = self._width = 0

    def __call__(self, batch: Array) -> list[Array]:
        """Outputs of one batch, on all cores."""
        check(batch, self)
        try:
            return list(self._single.infer([batch], share_inputs=True, share_outputs=False).values())
        except RuntimeError as error:
            raise unfit(batch) from error

    def stream(self, batches: Iterable[Array]) -> Iterator[list[Array]]:
        """Outputs of each batch, in order, several batches side by side.

        Where only the number of rows is free, the model is compiled for the most rows that came so far: a tenth faster
        than for any number. Smaller batches are filled up and take as long.
        """
        running: deque[_Request] = deque()
        try:
            for batch in batches:
                check(batch, self)
                self._prepare(len(batch))
                done = running.popleft() if len(running) == self._width else None
                outputs = None if done is None else done.outputs()
                request = _Request(self._parallel, self._rows) if done is None or done.rows != self._rows else done
                request.start(batch)
                running.append(request)
                if outputs is not None:
                    yield outputs
            while running:
                yield running.popleft().outputs()
        finally:
            for request in running:
                request.wait()

    def _prepare(self, rows: int) -> None:
        """Compile for a stream, and again where a batch has more rows than any before."""
        if None in self.shape[1:]:
            rows = 0
        if self._parallel is not None and rows <= self._rows:
            return
        model = self._model
        if rows:
            model = model.clone()
            model.reshape([rows, *self.shape[1:]])
        self._parallel, self._rows = self._compile(model, "THROUGHPUT"), rows
        # one batch for each stream of the engine, and one waiting so that none runs dry
        self._width = self._parallel.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1

    @cached_property
    def _single(self) -> Any:
        return self._compile(self._model, "LATENCY").create_infer_request()

    def _compile(self, model: Any, hint: str) -> Any:
        try:
            return _core().compile_model(model, "CPU", {"PERFORMANCE_HINT": hint, **self._options})
        except RuntimeError as error:
            raise ModelError(DAMAGED) from error


class _Request:
    """One batch on its way, filled up to `rows`; 0 takes it as it is."""

    def __init__(self, model: Any, rows: int) -> None:
        self.rows = rows
        self._request = model.create_infer_request()

    def start(self, batch: Array) -> None:
        self._count = len(batch)
        missing = max(0, self.rows - self._count)
        self._batch = np.pad(batch, [(0, missing), *[(0, 0)] * (batch.ndim - 1)]) if missing else batch
        self._request.start_async([self._batch], share_inputs=True)  # the engine reads the batch until it is done

    def outputs(self) -> list[Array]:
        try:
            self._request.wait()
        except RuntimeError as error:
            raise unfit(self._batch) from error
        return [tensor.data[: self._count].copy() for tensor in self._request.output_tensors]

    def wait(self) -> None:
        with suppress(RuntimeError):
            self._request.wait()
