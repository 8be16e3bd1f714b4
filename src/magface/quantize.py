"""A model file with integer arithmetic: smaller and, where the processor has it, faster; and what that costs.

Convolutions compute with 8-bit weights (a scale for each channel) and 8-bit activations, whose ranges come from
calibration crops: for each tensor the mean over crops of a crop's least and greatest value. Whole extremes would
stretch the scale to what one pixel in a thousand crops has. The matrices behind the last feature map have 8-bit weights
but keep their activations: the branch that sets the magnitude sees one number a face where a convolution sees
thousands, so that a mean of extremes would cut off half of the faces, and behind the embedding nothing averages
rounding errors out. Measured on the shipped model, that is what keeps the order of magnitudes.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from magface import engines
from magface.benchmarks import edc
from magface.benchmarks.scores import measures, score
from magface.data.face_set import FaceSet
from magface.errors import DataError, ModelError
from magface.geometry import cosine
from magface.metrics.quality import spearman
from magface.models.graph import strip
from magface.types import U8, Embeddings

MIN_CROPS = 32
CROPS, HELD_OUT = 256, 1000
_BATCH, _ROUNDS = 16, 5
_SHARED = ("TAR@FMR=0.001", "EER", "AUC", "EDC efficiency")
_INTEGER = ("Conv", "PRelu")
_STORED = ("Gemm", "MatMul")


def to_int8(content: bytes, crops: Sequence[U8]) -> bytes:
    """Bytes of the same network with integer arithmetic, without a card; input and output stay as they are.

    The same model and crops give the same bytes.

    Args:
        content: a model as `export.to_onnx` makes it.
        crops: each `(112, 112, 3)` uint8 RGB; some hundreds, as varied as those the model will see.

    Raises:
        DataError: there are fewer than 32 crops.
        ModelError: the graph has no layer that can be quantised, or gives NaN afterwards.

    Example:
        >>> to_int8(b"", [])
        Traceback (most recent call last):
        ...
        magface.errors.DataError: int8 needs at least 32 crops to measure ranges on, not 0; give more.
    """
    if len(crops) < MIN_CROPS:
        raise DataError(f"int8 needs at least {MIN_CROPS} crops to measure ranges on, not {len(crops)}; give more.")
    try:
        model = _with_integers(_folded(content), crops)
    except Exception as error:  # the packages fail in many ways on a graph they do not expect
        raise ModelError(f"the graph cannot be quantised ({error}); export it without int8.") from error
    _store_as_integers(model)
    if not any(tensor.data_type == onnx.TensorProto.INT8 for tensor in model.graph.initializer):
        raise ModelError("the graph cannot be quantised: it has no layer with fixed weights; export it without int8.")
    quantised = _finished(model)
    [found] = engines.load(quantised, "onnxruntime")(np.stack(crops[:2]))
    if not np.isfinite(found).all():
        raise ModelError("the quantised network gives NaN or infinity; export it without int8.")
    return quantised


@dataclass(frozen=True, slots=True)
class Change:
    """One number of a model before and after.

    Attributes:
        name: what it is.
        before: of the first model; None where it is no number of one model, or the data cannot tell.
        after: of the second, or of the two together.
        note: counts behind it, or why there is none.
    """

    name: str
    before: float | None
    after: float | None
    note: str = ""


def divide(faces: FaceSet, seed: int = 0) -> tuple[list[U8], FaceSet]:
    """Crops to calibrate on, and faces of other people to compare with.

    Args:
        faces: N crops by person.
        seed: of the draw of people.

    Returns:
        At most 256 crops, spread over half of the people, and about 1,000 faces of the others at most, all of each
        person.

    Raises:
        DataError: either is less than 32.
    """
    ours, others = faces.split(0.5, seed)
    if min(len(ours), len(others)) < MIN_CROPS:
        raise DataError(
            f"{len(ours)} crops to calibrate int8 on and {len(others)} of other people to check it with are too few; "
            f"give a folder with at least {MIN_CROPS} of each."
        )
    rows = np.linspace(0, len(ours) - 1, min(len(ours), CROPS)).astype(int)
    order = np.random.default_rng(seed).permutation(len(others.people))
    sizes = np.cumsum(np.bincount(others.labels)[order])
    chosen = order[: 1 + int(np.searchsorted(sizes, HELD_OUT))]
    return [ours.read(row) for row in rows], others[np.isin(others.labels, chosen)]


def compare(
    before: bytes, after: bytes, faces: FaceSet, progress: Callable[[int], object] | None = None
) -> tuple[Change, ...]:
    """What another form of a model changes, on faces that had no part in making it.

    Args:
        before: a model.
        after: the other form of it.
        faces: N >= 2 crops by person.
        progress: called with the number of faces that were embedded since the last call.

    Returns:
        Cosine between the two embeddings of a face, mean and least; rank correlation and mean of the magnitudes; TAR,
        EER, AUC and EDC efficiency on pairs of the faces; size of the file; and faces a second on the fastest engine,
        the two models in turn.
    """
    crops = np.stack([faces.read(row) for row in range(len(faces))])
    one, other = (_embedded(model, crops, progress) for model in (before, after))
    alike, images = cosine(one.vectors, other.vectors), f"{len(crops):,} faces"
    speeds = _speeds(before, after, crops[:_BATCH])
    return (
        Change("mean cosine to before", None, float(alike.mean()), images),
        Change("least cosine to before", None, float(alike.min()), images),
        Change("Spearman of magnitudes", None, spearman(one.magnitude, other.magnitude), images),
        Change("mean magnitude", float(one.magnitude.mean()), float(other.magnitude.mean()), images),
        *_verification(one, other, faces),
        Change("size", len(before) / 1e6, len(after) / 1e6, "MB"),
        Change("speed", *speeds, f"faces a second, {speeds[1] / speeds[0]:.2f} times as many"),
    )


def _embedded(model: bytes, crops: U8, progress: Callable[[int], object] | None) -> Embeddings:
    vectors = []
    for [found] in engines.load(model).stream(crops[start : start + _BATCH] for start in range(0, len(crops), _BATCH)):
        vectors.append(found)
        if progress is not None:
            progress(len(found))
    return Embeddings(np.concatenate(vectors))


def _verification(one: Embeddings, other: Embeddings, faces: FaceSet) -> Iterator[Change]:
    if len(faces.people) < 2 or np.bincount(faces.labels).max() < 2:
        yield Change("verification", None, None, "needs two people, and one of them with two faces")
        return
    first, second, same = edc.draw(faces.labels, edc.GENUINE, edc.IMPOSTOR, seed=0)
    found = [
        {measure.name: measure for measure in measures(score(embeddings, first, second, same))}
        for embeddings in (one, other)
    ]
    for name in _SHARED:
        yield Change(name, found[0][name].value, found[1][name].value, found[1][name].note)


def _speeds(before: bytes, after: bytes, batch: U8) -> tuple[float, float]:
    """Faces a second of each: the best of some rounds that alternate."""
    runs = [engines.load(model) for model in (before, after)]
    seconds = [[_seconds(run, batch) for run in runs] for _ in range(_ROUNDS)]
    first, second = np.min(seconds, axis=0)
    return len(batch) / first, len(batch) / second


def _seconds(run: engines.Engine, batch: U8) -> float:
    began = time.perf_counter()
    run(batch)
    return time.perf_counter() - began


def _folded(content: bytes) -> onnx.ModelProto:
    """The graph with plain float32 weights and normalisations inside the convolutions."""
    from onnxscript import optimizer

    model = onnx.load_model_from_string(content)
    model = optimizer.optimize(model, input_size_limit=1 << 31, output_size_limit=1 << 31)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    return model


def _with_integers(model: onnx.ModelProto, crops: Iterable[U8]) -> onnx.ModelProto:
    """Convolutions between pairs of QuantizeLinear and DequantizeLinear."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name = model.graph.input[0].name
    remaining = iter(crops)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            crop = next(remaining, None)
            return None if crop is None else {name: crop[None]}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder, "model.onnx")
        quantize_static(
            model,
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_INTEGER),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"CalibMovingAverage": True},
        )
        return onnx.load(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice of the quantiser to do what is done, and without a handler that logging would add for it."""
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _store_as_integers(model: onnx.ModelProto) -> None:
    """Matrices as 8-bit numbers with a scale for each output, back to float32 before they are used."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    added = []
    for node in graph.node:
        if node.op_type not in _STORED or node.input[1] not in tensors:
            continue
        tensor = tensors[node.input[1]]
        weight = numpy_helper.to_array(tensor)
        rows = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axis = 0 if rows else weight.ndim - 1
        others = tuple(a for a in range(weight.ndim) if a != axis)
        scale = (np.abs(weight).max(others, keepdims=True) / 127).clip(np.finfo(np.float32).tiny).astype(np.float32)
        name = f"{tensor.name}_quantized"
        graph.initializer.append(numpy_helper.from_array(np.rint(weight / scale).astype(np.int8), name))
        graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{tensor.name}_scale"))
        inputs, output = [name, f"{tensor.name}_scale"], f"{tensor.name}_dequantized"
        added.append(helper.make_node("DequantizeLinear", inputs, [output], name=output, axis=axis))
        node.input[1] = output
    nodes = [*added, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)


def _finished(model: onnx.ModelProto) -> bytes:
    """Without traces of how it was made, and without what is not used."""
    graph = model.graph
    tensors = strip(model)
    graph.initializer.extend(tensors)
    domains = {node.domain for node in graph.node}
    opsets = [opset for opset in model.opset_import if opset.domain in domains]
    model.ClearField("opset_import")
    model.opset_import.extend(opsets)
    return model.SerializeToString(deterministic=True)
