import dataclasses
import logging

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

from magface import backbones, engines
from magface.data import image_folder
from magface.errors import DataError, ModelError
from magface.export import to_onnx
from magface.geometry import cosine, magnitude
from magface.metrics.quality import spearman
from magface.models import card, default
from magface.quantize import compare, divide, to_int8
from magface.types import Embeddings


class Tiny(nn.Module):
    """A network whose magnitude is set by a branch, as in the shipped model."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.PReLU(8)
        self.mix = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.fc = nn.Linear(16, 8)
        self.branch = nn.Linear(16, 1)

    def forward(self, x):
        x = self.mix(self.relu(self.norm(self.stem(x / 255 - 0.5)))).mean((2, 3))
        return self.fc(x) * self.branch(x).exp()


class NoWeights(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def crops(astronaut):
    """48 pieces of a portrait, from flat to detailed."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 400, (48, 2))
    return [np.ascontiguousarray(astronaut[y : y + 112, x : x + 112]) for y, x in places]


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return to_onnx(Tiny().eval())[0]


@pytest.fixture(scope="module")
def integers(tiny, crops):
    return to_int8(tiny, crops)


@pytest.fixture(scope="module")
def folder(crops, tmp_path_factory):
    """Sixteen people, six crops each; each person a piece of the portrait, moved a little."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(1)
    for person in range(16):
        (root / str(person)).mkdir()
        for number in range(6):
            moved = np.roll(crops[person], rng.integers(-3, 4, 2), (0, 1))
            Image.fromarray(moved).save(root / str(person) / f"{number}.png")
    return image_folder.read(root)


def run(model, crops, engine="onnxruntime"):
    return engines.load(model, engine)(np.stack(crops))[0]


def test_convolutions_compute_with_integers_and_matrices_are_stored_as_such(integers):
    graph = onnx.load_model_from_string(integers).graph
    maker = {output: node for node in graph.node for output in node.output}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        assert [maker[name].op_type for name in node.input] == ["DequantizeLinear"] * len(node.input)
        assert types[maker[node.input[1]].input[0]] == onnx.TensorProto.INT8
    for node in graph.node:
        if node.op_type == "Gemm":
            assert maker[node.input[0]].op_type != "DequantizeLinear"
            assert types[maker[node.input[1]].input[0]] == onnx.TensorProto.INT8
    large = [
        t.name
        for t in graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and numpy_helper.to_array(t).size > 16
    ]
    assert not large


def test_input_and_output_stay(integers, tiny):
    before, after = (onnx.load_model_from_string(model) for model in (tiny, integers))
    onnx.checker.check_model(after, full_check=True)
    for a, b in zip(
        (*before.graph.input, *before.graph.output), (*after.graph.input, *after.graph.output), strict=True
    ):
        assert (a.name, a.type.tensor_type.elem_type) == (b.name, b.type.tensor_type.elem_type)
        assert [d.dim_value for d in a.type.tensor_type.shape.dim] == [
            d.dim_value for d in b.type.tensor_type.shape.dim
        ]
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert {opset.domain for opset in after.opset_import} == {""}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 7])
def test_embeddings_stay_nearly_the_same(integers, tiny, crops, engine, count):
    before, after = run(tiny, crops[:count]), run(integers, crops[:count], engine)
    assert after.shape == before.shape
    assert cosine(before, after).min() > 0.99
    assert magnitude(after) == pytest.approx(magnitude(before), rel=0.1)
    assert not np.array_equal(before, after)


def test_a_matrix_is_rounded_to_its_own_scale(tiny, integers):
    def tensors(model):
        return {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(model).graph.initializer}

    before, after = tensors(tiny)["fc.weight"].astype(np.float32), tensors(integers)
    [name] = [name for name, value in after.items() if value.shape == before.shape and "fc" in name]
    rounded = after[name] * after[name.replace("quantized", "scale")][:, None]
    steps = np.abs(before).max(1, keepdims=True) / 127
    assert (np.abs(rounded - before) <= steps / 2 + 1e-7).all()


def test_same_model_and_crops_give_the_same_bytes_and_tell_nothing_of_the_machine(tiny, crops, integers, tmp_path):
    assert to_int8(tiny, crops) == integers
    assert b"/tmp" not in integers
    assert b".py" not in integers


def test_logging_stays_as_it_was(tiny, crops):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    to_int8(tiny, crops[:32])
    assert (root.level, root.handlers) == before


def test_it_takes_a_card(integers, tmp_path):
    described = dataclasses.replace(card.read(default.path())[0], name="tiny", backbone="tiny", embedding_size=8)
    found, fingerprint = card.read(card.attach(integers, described))
    assert found == dataclasses.replace(described, sha256=fingerprint)


def test_too_few_crops(tiny, crops):
    with pytest.raises(DataError, match="at least 32 crops to measure ranges on, not 31"):
        to_int8(tiny, crops[:31])


def test_graphs_that_cannot_be_quantised(crops):
    with pytest.raises(ModelError, match="no layer with fixed weights"):
        to_int8(to_onnx(NoWeights())[0], crops)
    with pytest.raises(ModelError, match="cannot be quantised"):
        to_int8(b"junk", crops)


def test_halves_share_nobody(folder):
    ours, others = divide(folder)
    assert 32 <= len(ours) <= 96 - len(others)
    held = {others.read(row).tobytes() for row in range(len(others))}
    assert not held & {crop.tobytes() for crop in ours}
    assert len(others) == 6 * len(others.people)
    with pytest.raises(DataError, match="at least 32 of each"):
        divide(folder[np.arange(40)])


def test_a_comparison_with_itself_finds_no_change(tiny, folder):
    found = {change.name: change for change in compare(tiny, tiny, folder)}
    assert found["mean cosine to before"].after == pytest.approx(1, abs=1e-6)
    assert found["Spearman of magnitudes"].after == pytest.approx(1)
    for name in ("mean magnitude", "EER", "AUC", "size"):
        assert found[name].before == found[name].after


def test_a_comparison_says_what_changed(tiny, integers, folder):
    seen = []
    changes = compare(tiny, integers, folder, seen.append)
    found = {change.name: change for change in changes}
    assert sum(seen) == 2 * len(folder)
    crops = [folder.read(row) for row in range(len(folder))]
    one, other = (Embeddings(run(model, crops, "openvino")) for model in (tiny, integers))
    alike = cosine(one.vectors, other.vectors)
    assert found["mean cosine to before"].after == pytest.approx(alike.mean(), abs=1e-3)
    assert found["least cosine to before"].after == pytest.approx(alike.min(), abs=1e-2)
    assert found["mean magnitude"].after == pytest.approx(other.magnitude.mean(), rel=1e-3)
    assert (found["size"].before, found["size"].after) == (len(tiny) / 1e6, len(integers) / 1e6)
    assert found["speed"].before > 0
    assert found["speed"].after > 0
    assert {"TAR@FMR=0.001", "EER", "AUC", "EDC efficiency"} <= found.keys()


def test_a_comparison_without_pairs_says_so(tiny, folder):
    found = compare(tiny, tiny, folder[np.arange(6)])
    assert [change.note for change in found if change.name == "verification"] == [
        "needs two people, and one of them with two faces"
    ]


@pytest.mark.parametrize("name", ["magsface", "mobilefacenet"])
def test_an_exported_network_gives_what_torch_gives(name):
    torch.manual_seed(0)
    network = backbones.build(name).eval()
    content, _ = to_onnx(network, half=False)
    images = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    for engine in ("onnxruntime", "openvino"):
        for count in (1, 5):
            found = run(content, images[:count], engine)
            assert np.abs(found - expected[:count]).max() < 1e-5 * np.abs(expected).max()


def test_the_shipped_model_keeps_its_order_of_magnitudes(train_faces, lfw):
    """Calibrated on and compared with real faces; the bounds lie well below what is measured."""
    calibration, crops = (
        [np.asarray(Image.open(file)) for file in sorted(folder.rglob("*.jpg"))[::step]]
        for folder, step in ((train_faces, 430), (lfw, 130))
    )
    before = default.path().read_bytes()
    after = to_int8(before, calibration)
    one, other = Embeddings(run(before, crops, "openvino")), Embeddings(run(after, crops, "openvino"))
    assert cosine(one.vectors, other.vectors).mean() > 0.985
    assert spearman(one.magnitude, other.magnitude) > 0.95
    assert len(after) < 0.55 * len(before)
