"""OpenVINO: the fastest on x86 and ARM processors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, ClassVar

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
        self._options: dict[str, str] = {"INFERENCE_PRECISION_HINT": precision}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = str(threads)

    def __call__(self, batch: Array) -> list[Array]:
        """Outputs of one batch, on all cores."""
        check(batch, self)
        try:
            return list(self._single.infer([batch], share_inputs=True, share_outputs=False).values())
        except RuntimeError as error:
            raise unfit(batch) from error

    def stream(self, batches: Iterable[Array]) -> Iterator[list[Array]]:
        """Outputs of each batch, in order, several batches side by side."""
        free = [self._parallel.create_infer_request() for _ in range(self._width)]
        running: deque[tuple[Any, Array]] = deque()
        try:
            for batch in batches:
                check(batch, self)
                outputs = None
                if not free:
                    request, earlier = running.popleft()
                    outputs = _outputs(request, earlier)
                    free.append(request)
                request = free.pop()
                request.start_async([batch], share_inputs=True)
                running.append((request, batch))  # the engine reads the batch until it is done
                if outputs is not None:
                    yield outputs
            while running:
                yield _outputs(*running.popleft())
        finally:
            for request, _ in running:
                with suppress(RuntimeError):
                    request.wait()

    @cached_property
    def _single(self) -> Any:
        return self._compile("LATENCY").create_infer_request()

    @cached_property
    def _parallel(self) -> Any:
        return self._compile("THROUGHPUT")

    @cached_property
    def _width(self) -> int:
        """Batches in flight: one for each stream of the engine, and one waiting so that none runs dry."""
        return self._parallel.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1

    def _compile(self, hint: str) -> Any:
        try:
            return _core().compile_model(self._model, "CPU", {"PERFORMANCE_HINT": hint, **self._options})
        except RuntimeError as error:
            raise ModelError(DAMAGED) from error


def _outputs(request: Any, batch: Array) -> list[Array]:
    try:
        request.wait()
    except RuntimeError as error:
        raise unfit(batch) from error
    return [tensor.data.copy() for tensor in request.output_tensors]
