import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from magface import backbones, engines
from magface.errors import ModelError
from magface.export import export, to_onnx
from magface.models import card, default


class Tiny(nn.Module):
    """Every kind of layer that needs care: PReLU, both normalisations, a residual, a batch-dependent flatten."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.PReLU(8)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8 * 14 * 14, 4)
        self.fc_norm = nn.BatchNorm1d(4)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x / 255)))
        x = x + self.mix(x)
        return self.fc_norm(self.fc(x.flatten(1)))


def tiny(seed=0):
    torch.manual_seed(seed)
    network = Tiny()
    network.train()
    with torch.no_grad():
        network(torch.rand(8, 3, 112, 112) * 255)  # statistics that differ from the initial ones
    return network.eval()


@pytest.fixture(scope="module")
def tiny_card():
    return dataclasses.replace(card.read(default.path())[0], name="tiny", backbone="tiny", embedding_size=4)


@pytest.fixture(scope="module")
def exported(tiny_card, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    export(tiny(), tiny_card, path)
    return path


def test_the_file_gives_the_embeddings_of_the_backbone_on_images(exported):
    images = np.random.default_rng(3).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = tiny()(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    for name in ("openvino", "onnxruntime"):
        [found] = engines.load(exported, name)(images)
        assert found.shape == (7, 4)
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3 * np.abs(expected).max())


def test_input_and_output_are_those_of_a_model_file(exported):
    graph = onnx.load(exported).graph
    [image], [embedding] = graph.input, graph.output
    assert (image.name, embedding.name) == ("image", "embedding")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert embedding.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [d.dim_value for d in image.type.tensor_type.shape.dim][1:] == [112, 112, 3]
    assert image.type.tensor_type.shape.dim[0].dim_param
    onnx.checker.check_model(onnx.load(exported), full_check=True)


def test_the_card_is_in_the_file(exported, tiny_card):
    found, fingerprint = card.read(exported)
    assert found == dataclasses.replace(tiny_card, sha256=fingerprint)


def test_weights_have_their_names_and_half_precision(exported):
    state = {key: value for key, value in tiny().state_dict().items() if not key.endswith("num_batches_tracked")}
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(exported).graph.initializer}
    assert set(state) <= set(tensors)
    for key, value in state.items():
        assert tensors[key].dtype == (np.float16 if value.ndim > 1 else np.float32), key
        np.testing.assert_allclose(tensors[key].astype(np.float32), value.numpy(), rtol=1e-3, atol=1e-7)


def test_full_precision_stays_where_it_is_wanted():
    content, _ = to_onnx(tiny(), half=False)
    tensors = {
        each.name: numpy_helper.to_array(each) for each in onnx.load_model_from_string(content).graph.initializer
    }
    for key, value in tiny().state_dict().items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(tensors[key], value.numpy())
    images = np.random.default_rng(3).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = tiny()(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    [found] = engines.load(content, "onnxruntime")(images)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_file_tells_nothing_of_the_machine(exported):
    content = exported.read_bytes()
    assert str(Path.cwd()).encode() not in content
    assert b".py" not in content


def test_same_weights_give_the_same_bytes_in_another_process(exported, tmp_path):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import dataclasses, test_export as t; from magface.models import card, default;"
        "c = dataclasses.replace(card.read(default.path())[0], name='tiny', backbone='tiny', embedding_size=4);"
        "t.export(t.tiny(), c, sys.argv[2])"
    )
    again = tmp_path / "again.onnx"
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", program, folder, again], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert again.read_bytes() == exported.read_bytes()


def test_the_backbone_is_left_as_it_was(tiny_card, tmp_path):
    network = tiny().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    export(network, tiny_card, tmp_path / "t.onnx")
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_weights_beyond_half_precision_stay_as_they_are(tiny_card, tmp_path):
    network = tiny()
    with torch.no_grad():
        network.fc.weight[0, 0] = 1e6
    export(network, tiny_card, tmp_path / "t.onnx")
    images = np.random.default_rng(3).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    assert np.isfinite(engines.load(tmp_path / "t.onnx", "onnxruntime")(images)[0]).all()


def test_a_file_that_would_be_wrong_is_not_written(tiny_card, tmp_path):
    broken = tiny()
    with torch.no_grad():
        broken.fc.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        export(broken, tiny_card, tmp_path / "t.onnx")
    with pytest.raises(ModelError, match="its card says 128"):
        export(tiny(), dataclasses.replace(tiny_card, embedding_size=128), tmp_path / "t.onnx")
    assert not list(tmp_path.iterdir())


def test_a_registered_backbone_comes_back_through_the_torch_engine(tmp_path):
    torch.manual_seed(0)
    network = backbones.build("sface").eval()
    path = tmp_path / "m.onnx"
    export(network, dataclasses.replace(card.read(default.path())[0], backbone="sface"), path)
    images = np.random.default_rng(4).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    outputs = [engines.load(path, name)(images)[0] for name in ("torch", "onnxruntime")]
    assert np.abs(outputs[0] - outputs[1]).max() <= 1e-4 * np.abs(outputs[0]).max()
