"""ONNX Runtime: wherever OpenVINO is not."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from magface.engines.engine import DAMAGED, Array, Engine, Precision, check, single_input, unfit
from magface.errors import EngineError, ModelError

_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class OnnxruntimeEngine(Engine):
    """A model in ONNX Runtime on the CPU, in f32, without its telemetry."""

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, model: bytes, *, precision: Precision, threads: int | None) -> None:
        import onnxruntime

        if precision != "f32":
            raise EngineError(f"ONNX Runtime has no {precision} on the CPU; use precision f32 or the engine openvino.")
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(DAMAGED) from error
        single_input(len(self._session.get_inputs()))
        source = self._session.get_inputs()[0]
        self._input = source.name
        self.shape = tuple(size if isinstance(size, int) else None for size in source.shape)
        if source.type not in _TYPES:
            raise ModelError(f"the model takes {source.type}, but images are uint8 or float32; use another model.")
        self.dtype = np.dtype(_TYPES[source.type])

    def __call__(self, batch: Array) -> list[Array]:
        """Outputs of one batch."""
        check(batch, self)
        try:
            return self._session.run(None, {self._input: batch})
        except Exception as error:
            raise unfit(batch) from error
