"""SER-FIQ: the quality of a face is how little its embedding moves when parts of the network are left out at random.

Source: Terhörst, Kolf, Damer, Kirchbuchner and Kuijper, "SER-FIQ: Unsupervised estimation of face image quality based
on stochastic embedding robustness", CVPR 2020.

Shape letters: N faces, T random passes, F inputs of the last layer, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface import engines
from magface.engines import EngineName
from magface.errors import ModelError
from magface.geometry import direction
from magface.models import card
from magface.types import F32, U8

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

F64 = NDArray[np.float64]

PASSES, DROPPED = 100, 0.4
_TOGETHER = 128  # faces whose embeddings share a pass through the last layer
_BATCH = 4
_LAYERS = ("Gemm", "MatMul")
_STEPS = ("Add", "Sub", "Mul", "Div", "BatchNormalization", "Identity")
_ALIKE = 1e-4


class SerFiq:
    """The last layer of a network, fully connected, run many times with dropout before it; all else runs once.

    Every face meets the same T random choices, so its quality does not depend on the faces beside it.

    Args:
        model: an `.onnx` file whose embedding comes from a fully connected layer, or its bytes. What follows the layer
            may scale and shift each number of the embedding, and set its magnitude.
        passes: T, >= 2.
        dropped: share of the inputs of the last layer that is left out in a pass, from 0 to below 1; the 0.4 of the
            ArcFace networks that its official code runs.
        seed: of the choices.
        engine: see `engines.load`.
        threads: see `engines.load`.

    Raises:
        ModelError: the file is missing or damaged, or its embedding does not come from a fully connected layer.
        EngineError: the model does not take aligned crops, or the engine cannot be used.
        ValueError: `passes` or `dropped` is out of range.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        passes: int = PASSES,
        dropped: float = DROPPED,
        seed: int = 0,
        engine: EngineName = "auto",
        threads: int | None = None,
    ) -> None:
        if passes < 2 or not 0 <= dropped < 1:
            raise ValueError(f"SER-FIQ needs 2 passes or more and a share below 1, not {passes} and {dropped}.")
        body, tail, self._inputs = cut(card.content(model))
        self._body, self._tail = (engines.load(part, engine, threads=threads) for part in (body, tail))
        self.passes, self.dropped, self.seed = passes, dropped, seed

    def __call__(self, crops: Iterable[U8]) -> F64:
        """Quality of crops, each `(112, 112, 3)` uint8 RGB: `(N,)` float64, 0 to 1; of some hundreds at a time."""
        features = (row for outputs in self._body.stream(_batches(crops)) for row in outputs[0])
        found = [robustness(embeddings) for embeddings in self._stochastic(features)]
        return np.concatenate(found) if found else np.zeros(0)

    def masks(self) -> Iterator[F32]:
        """The T random choices, `(F,)` float32 each: 0 where an input is left out, else what keeps the mean."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.passes):
            kept = rng.random(self._inputs, np.float32) >= self.dropped
            yield kept.astype(np.float32) / np.float32(1 - self.dropped)

    def _stochastic(self, features: Iterator[F32]) -> Iterator[F32]:
        """`(N, T, D)` embeddings of a few faces at a time."""
        while some := list(islice(features, _TOGETHER)):
            inputs = np.stack(some)
            yield np.stack([self._tail(inputs * mask)[0] for mask in self.masks()], axis=1)


def robustness(embeddings: ArrayLike) -> F64:
    """Quality of faces from several embeddings of each.

    Equation: SER-FIQ (q = 2 / (1 + exp(d)), d the mean Euclidean distance between two of the T unit embeddings)

    Differs from the paper, as its official code does: the mean is over pairs, `T (T - 1) / 2`, not over `T^2 / 2`.

    Args:
        embeddings: `(..., T, D)` float, raw; T >= 2.

    Returns:
        `(...)` float64, 0 to 1: 1 where all embeddings of a face have one direction.

    Example:
        >>> robustness([[1.0, 0.0], [1.0, 0.0]])
        np.float64(1.0)
    """
    unit = direction(np.asarray(embeddings, np.float64))
    first, second = np.triu_indices(unit.shape[-2], 1)
    cosines = np.minimum((unit @ np.swapaxes(unit, -1, -2))[..., first, second], 1)
    return 2 / (1 + np.exp(np.sqrt(2 - 2 * cosines).mean(axis=-1)))


def cut(model: bytes) -> tuple[bytes, bytes, int]:
    """Take a network apart before its last layer, on the way that sets the direction of the embedding.

    Args:
        model: content of an `.onnx` file.

    Returns:
        Two `.onnx` files, crops to the inputs of the layer, `(N, F)`, and those to `(N, D)` of the direction that the
        embedding has; and F.

    Raises:
        ModelError: it is no ONNX model, or no fully connected layer sets the direction.
        EngineError: it does not take aligned crops.
    """
    import onnx

    whole = engines.load(model, "onnxruntime", threads=1)
    parsed = onnx.load_model_from_string(model)
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    embedding = whole(crops)[0]
    for source, ends in reversed(_layers(parsed.graph)):
        body = _part(parsed, parsed.graph.input[0], source)
        [inputs] = engines.load(body, "onnxruntime", threads=1)(crops)
        if inputs.ndim != 2:
            continue
        given = onnx.helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, ["n", inputs.shape[1]])
        for end in ends:
            tail = _part(parsed, given, end)
            [found] = engines.load(tail, "onnxruntime", threads=1)(inputs)
            if found.shape == embedding.shape and np.allclose(direction(found), direction(embedding), atol=_ALIKE):
                return body, tail, inputs.shape[1]
    raise ModelError(
        "the embedding of this model does not come straight from a fully connected layer, before which SER-FIQ could "
        "leave inputs out; leave SER-FIQ out for it."
    )


def _layers(graph: GraphProto) -> list[tuple[str, list[str]]]:
    """Inputs of each fully connected layer, and its output as it is scaled and shifted by constants, step by step."""
    constants = {"", *(tensor.name for tensor in graph.initializer)}  # an input that is left out has the name ""
    steps: dict[str, str] = {}
    layers = []
    for node in graph.node:
        given = [name for name in node.input if name not in constants]
        if not given:
            constants.update(node.output)
        elif node.op_type in _LAYERS and given == [node.input[0]]:
            layers.append((given[0], node.output[0]))
        elif node.op_type in _STEPS and len(given) == 1:
            steps[given[0]] = node.output[0]
    return [(source, list(_followed(output, steps))) for source, output in layers]


def _followed(name: str, steps: dict[str, str]) -> Iterator[str]:
    while name:
        yield name
        name = steps.get(name, "")


def _part(model: ModelProto, given: ValueInfoProto, wanted: str) -> bytes:
    """An `.onnx` file of what leads from one tensor of a graph to another."""
    from onnx import TensorProto, helper

    needed, nodes = {wanted}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and given.name not in node.output:
            nodes.append(node)
            needed.update(node.input)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    output = helper.make_tensor_value_info(wanted, TensorProto.FLOAT, None)
    part = helper.make_graph(nodes[::-1], "part", [given], [output], weights)
    made = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made.SerializeToString()


def _batches(crops: Iterable[U8]) -> Iterator[U8]:
    remaining = iter(crops)
    while batch := list(islice(remaining, _BATCH)):
        yield np.stack(batch)
