"""torch: the weights of a model file in the network they were trained in."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from magface.engines.engine import DAMAGED, Array, Engine, Precision, check, unfit
from magface.errors import ModelError
from magface.models import card


class TorchEngine(Engine):
    """The backbone that the card names, with the weights of the file; the preprocessing is that of `export`."""

    name: ClassVar[str] = "torch"
    shape = (None, 112, 112, 3)
    dtype = np.dtype(np.uint8)

    def __init__(self, model: bytes, *, precision: Precision, threads: int | None) -> None:
        import torch

        from magface import backbones

        try:
            name = card.read(model)[0].backbone
        except ModelError as error:
            raise ModelError(f"torch runs only models of this package: {error}") from error
        if threads is not None:
            torch.set_num_threads(threads)
        self._precision = precision
        self._network = backbones.build(name).eval()
        state = {key: torch.from_numpy(value) for key, value in weights(model).items()}
        try:
            missing = self._network.load_state_dict(state, strict=False).missing_keys
        except RuntimeError as error:
            raise ModelError(f"the weights do not fit the backbone {name!r}; export the model again.") from error
        if any(not key.endswith("num_batches_tracked") for key in missing):
            raise ModelError(f"the file lacks weights of the backbone {name!r}; export the model again.")

    def __call__(self, batch: Array) -> list[Array]:
        """Outputs of one batch: `(N, H, W, 3)` uint8 RGB to `[(N, D) float32]`."""
        import torch

        check(batch, self)
        half: Any = torch.autocast("cpu", torch.bfloat16) if self._precision == "bf16" else nullcontext()
        try:
            with torch.inference_mode(), half:
                image = torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float()
                return [self._network(image).float().numpy()]
        except RuntimeError as error:
            raise unfit(batch) from error


def weights(model: bytes) -> dict[str, Array]:
    """Initializers of the graph in float32, under their names."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load_model_from_string(model).graph
        return {tensor.name: numpy_helper.to_array(tensor).astype(np.float32) for tensor in graph.initializer}
    except Exception as error:
        raise ModelError(DAMAGED) from error
