"""A trained backbone as one model file: preprocessing, half-precision weights and the card inside."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from magface import engines, io
from magface.errors import ModelError
from magface.models.card import Card, attach
from magface.models.graph import strip

TOLERANCE = 1e-4
_OPSET = 18


class _Network(nn.Module):
    """Images as they are stored, `(N, 112, 112, 3)` uint8 RGB, to raw embeddings."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        return self.backbone(image.permute(0, 3, 1, 2).float())


def export(backbone: nn.Module, card: Card, path: str | os.PathLike[str]) -> None:
    """Write a backbone as a model file, after ONNX Runtime gave the embeddings that torch gives.

    Args:
        backbone: as in `to_onnx`.
        card: goes into the file, with its `sha256` set.
        path: file to write, whole or not at all.

    Raises:
        ModelError: the embeddings do not have the size in the card, or `to_onnx` refuses the backbone.
    """
    content, size = to_onnx(backbone)
    if size != card.embedding_size:
        raise ModelError(f"the backbone gives {size} numbers a face, but its card says {card.embedding_size}.")
    io.write_atomic(path, attach(content, card))


def to_onnx(backbone: nn.Module, *, half: bool = True) -> tuple[bytes, int]:
    """Bytes of a model that has no card yet, and the size of its embeddings.

    Vectors (biases, normalisation) stay float32. The initializers keep the names of `backbone.state_dict()`, which is
    how the torch engine finds them. The same weights give the same bytes.

    Args:
        backbone: `(N, 3, 112, 112)` float32 RGB 0..255 to `(N, D)` float32 raw embeddings; left unchanged.
        half: round matrices to float16 and store them so, which halves the file.

    Raises:
        ModelError: the embeddings hold NaN, or are more than 1e-4 (relative to the largest) from those of torch when
            ONNX Runtime runs the bytes.
    """
    network = copy.deepcopy(backbone).float()
    if half:
        _round(network)
    network = _Network(network).eval()
    content = _finished(_graph(network))
    return content, _compare(network, content)


@torch.no_grad()
def _round(network: nn.Module) -> None:
    """Set matrices and kernels to values that float16 holds."""
    for tensor in network.state_dict().values():
        if tensor.ndim > 1:
            half = tensor.half().float()
            tensor.copy_(torch.where(half.isfinite(), half, tensor))


def _graph(network: nn.Module) -> onnx.ModelProto:
    image = torch.zeros(2, 112, 112, 3, dtype=torch.uint8)
    # the exporter speaks of torchvision, which has no part here
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            network,
            (image,),
            input_names=["image"],
            output_names=["embedding"],
            dynamic_shapes={"image": {0: torch.export.Dim("N")}},
            opset_version=_OPSET,
            dynamo=True,
            optimize=False,  # the optimiser folds the weights into tensors without names
            verbose=False,
        )
    return program.model_proto


def _finished(model: onnx.ModelProto) -> bytes:
    """The exported graph without traces of this machine, with state-dict names and half-precision weights."""
    graph = model.graph
    names = {}
    casts = []
    for tensor in strip(model):
        name = tensor.name.removeprefix("backbone.")
        values = numpy_helper.to_array(tensor)
        names[tensor.name] = name
        if _is_half(values):
            values = values.astype(np.float16)
            names[tensor.name] = f"{name}.float32"
            casts.append(helper.make_node("Cast", [name], [names[tensor.name]], to=onnx.TensorProto.FLOAT))
        graph.initializer.append(numpy_helper.from_array(values, name))
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    nodes = [*casts, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)
    return model.SerializeToString(deterministic=True)


def _is_half(values: NDArray[Any]) -> bool:
    if values.dtype != np.float32 or values.ndim < 2:
        return False
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def _compare(network: nn.Module, content: bytes) -> int:
    """Run the bytes against torch on noise; the size of the embeddings."""
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    [found] = engines.load(content, "onnxruntime")(images)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error <= TOLERANCE:
        raise ModelError(f"the exported file differs from the backbone by {error:.1e}; its weights may hold NaN.")
    return expected.shape[1]
