"""Against the network in torch with the same random choices."""

import copy

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.metrics import pairwise_distances

from magface import engines
from magface.data.degradations import NAMES
from magface.errors import EngineError, ModelError
from magface.geometry import cosine
from magface.models import default, packaged
from magface.quality.serfiq import SerFiq, cut, robustness


@pytest.fixture(scope="module")
def faces(astronaut):
    face = cv2.resize(astronaut[20:230, 120:330], (112, 112), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    return np.stack([face, face[:, ::-1], NAMES["gaussian_blur"](face, 1.0, rng), NAMES["patch"](face, 0.8, rng)])


@pytest.fixture(scope="module")
def serfiq():
    return SerFiq(default.path(), passes=20, threads=1)


@pytest.fixture(scope="module")
def network():
    return engines.load(default.path(), "torch", threads=1)._network


@pytest.fixture(scope="module")
def features(network, faces):
    from magface.backbones.sface import normalised

    with torch.inference_mode():
        x = normalised(torch.from_numpy(faces).permute(0, 3, 1, 2).float())
        for block in network.blocks:
            x = block(x)
        return network.norm(x).flatten(1)


def mean_distance(embeddings):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return pairwise_distances(unit)[np.triu_indices(len(unit), 1)].mean()


def test_the_parts_are_those_of_the_network(network, features, faces):
    body, tail, inputs = cut(default.path().read_bytes())
    assert inputs == features.shape[1]
    [found] = engines.load(body, "onnxruntime", threads=1)(faces)
    assert np.abs(found - features.numpy()).max() <= 1e-4 * features.abs().max()
    with torch.inference_mode():
        expected = network(torch.from_numpy(faces).permute(0, 3, 1, 2).float()).numpy()
    assert cosine(engines.load(tail, "onnxruntime", threads=1)(found)[0], expected) == pytest.approx(1, abs=1e-5)


def test_quality_is_that_of_torch_with_the_same_choices(serfiq, network, features, faces):
    with torch.inference_mode():
        masks = [torch.from_numpy(mask) for mask in serfiq.masks()]
        passes = np.stack([network.fc_norm(network.fc(features * mask)).numpy() for mask in masks], axis=1)
    expected = [2 / (1 + np.exp(mean_distance(embeddings.astype(np.float64)))) for embeddings in passes]
    assert serfiq(faces) == pytest.approx(expected, abs=1e-4)


def test_choices_leave_out_their_share_and_keep_the_mean(serfiq):
    masks = np.stack(list(serfiq.masks()))
    assert len(masks) == serfiq.passes
    assert np.unique(masks) == pytest.approx([0, 1 / 0.6])
    assert np.mean(masks == 0) == pytest.approx(0.4, abs=0.002)
    assert abs(np.corrcoef(masks[0], masks[1])[0, 1]) < 0.02


def changed(serfiq, **settings):
    other = copy.copy(serfiq)
    for name, value in settings.items():
        setattr(other, name, value)
    return other


def test_nothing_left_out_is_perfect(serfiq, faces):
    assert changed(serfiq, dropped=0.0)(faces) == pytest.approx(1, abs=1e-6)


def test_leaving_out_more_is_worse_and_a_blurred_face_is_worse_than_a_clear_one(serfiq, faces):
    found = serfiq(faces)
    assert found[2] < found[0]
    assert (changed(serfiq, dropped=0.7)(faces) < found).all()


def test_a_face_is_judged_alike_whatever_comes_beside_it(serfiq, faces):
    together = serfiq(iter(faces))
    assert serfiq(faces[2:3]) == pytest.approx(together[2:3], abs=1e-6)
    assert np.array_equal(serfiq(faces), together)
    assert serfiq([]).shape == (0,)


def test_the_seed_decides(serfiq, faces):
    other = changed(serfiq, seed=1)(faces)
    assert not np.array_equal(other, serfiq(faces))
    assert other == pytest.approx(serfiq(faces), abs=0.02)


@given(st.integers(2, 6), st.integers(2, 5), st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_robustness(passes, size, seed, scale):
    embeddings = np.random.default_rng(seed).normal(size=(3, passes, size))
    expected = [2 / (1 + np.exp(mean_distance(each))) for each in embeddings]
    assert robustness(embeddings) == pytest.approx(expected, abs=1e-6)
    assert robustness(scale * embeddings) == pytest.approx(expected, abs=1e-6)


def test_robustness_at_its_limits():
    assert robustness([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]]) == 1
    assert robustness([[1.0, 0.0], [-1.0, 0.0]]) == pytest.approx(2 / (1 + np.exp(2)))


def small(*last):
    """A network that sees mean colours, through nodes of ONNX `(kind, constants)`."""
    name, constants, nodes = "mean", [], []
    for step, (kind, *values) in enumerate(last):
        given = [numpy_helper.from_array(np.float32(value), f"{step}.{place}") for place, value in enumerate(values)]
        nodes.append(helper.make_node(kind, [name, *(each.name for each in given)], [f"out{step}"]))
        name, constants = f"out{step}", constants + given
    nodes[:0] = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
    ]
    constants.append(numpy_helper.from_array(np.array([1, 2]), "axes"))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 112, 112, 3])
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None])
    graph = helper.make_graph(nodes, "small", [image], [output], constants)
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


WEIGHT = np.random.default_rng(0).normal(size=(3, 4))


@pytest.mark.parametrize("last", [[], [("Add", WEIGHT[0]), ("Mul", WEIGHT[1])], [("Mul", 0.5), ("LpNormalization",)]])
def test_a_layer_is_found_before_what_scales_shifts_and_normalises(last):
    _, tail, inputs = cut(small(("MatMul", WEIGHT), *last))
    assert inputs == 3
    features = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    expected = features @ WEIGHT
    if last and last[0][0] == "Add":
        expected = (expected + WEIGHT[0]) * WEIGHT[1]
    assert cosine(engines.load(tail, "onnxruntime")(features)[0], expected) == pytest.approx(1, abs=1e-6)


def test_of_two_layers_the_last_is_taken():
    _, _, inputs = cut(small(("MatMul", WEIGHT), ("Relu",), ("MatMul", WEIGHT.T @ WEIGHT)))
    assert inputs == 4


@pytest.mark.parametrize("last", [[("MatMul", WEIGHT), ("Sigmoid",)], [("Mul", WEIGHT[0, :3])]])
def test_a_network_without_such_a_layer_is_refused(last):
    with pytest.raises(ModelError, match="does not come straight from a fully connected layer"):
        SerFiq(small(*last))


def test_what_is_no_face_network_is_refused():
    with pytest.raises(ModelError, match="damaged"):
        SerFiq(b"no model")
    with pytest.raises((ModelError, EngineError)):
        SerFiq(packaged.read("yunet"))


@pytest.mark.parametrize("wrong", [{"passes": 1}, {"dropped": 1.0}, {"dropped": -0.1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match="SER-FIQ needs"):
        SerFiq(default.path(), **wrong)
