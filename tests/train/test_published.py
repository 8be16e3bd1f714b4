import cv2
import numpy as np
import pytest
import torch

from magface import Embedder, backbones
from magface.errors import MagfaceError, ModelError
from magface.models import default, packaged
from magface.train import checkpoint, published
from magface.train.precision import LossScaler
from magface.train.ranks import Ranks


@pytest.mark.parametrize("kind", ["noise", "face"])
def test_sface_gives_what_its_file_gives_in_opencv(kind, astronaut):
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    image = noise if kind == "noise" else astronaut[40:264:2, 110:334:2]
    network = cv2.dnn.readNetFromONNX(np.frombuffer(packaged.read("sface"), np.uint8))
    network_input = image.transpose(2, 0, 1)[None].astype(np.float32)
    network.setInput(network_input, "data")
    expected = network.forward()
    name, model = published.start("sface")
    assert name == "sface"
    model.eval()
    with torch.no_grad():
        found = model(torch.from_numpy(network_input)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def save(path, model, backbone="sface"):
    optimizers = torch.optim.AdamW(model.parameters()), torch.optim.AdamW(model.parameters())
    state = checkpoint.State(model, model, optimizers, LossScaler("f32"))
    checkpoint.save(path, state, 1, checkpoint.Origin(backbone, {}, ""), Ranks())


def test_an_earlier_checkpoint(tmp_path, toy_network):
    _, model = published.start("sface")
    torch.nn.init.zeros_(model.fc.bias)
    save(tmp_path / "c.pt", model)
    name, again = published.start(str(tmp_path / "c.pt"))
    assert name == "sface"
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    name, branched = published.start(str(tmp_path / "c.pt"), "magsface")
    assert name == "magsface"
    assert torch.equal(branched.fc.weight, model.fc.weight)
    with pytest.raises(ModelError, match="those of 'sface', which 'iresnet18' cannot take"):
        published.start(str(tmp_path / "c.pt"), "iresnet18")
    save(tmp_path / "wrong.pt", toy_network())
    with pytest.raises(ModelError, match="cannot take"):
        published.start(str(tmp_path / "wrong.pt"))
    with pytest.raises(MagfaceError):
        published.start(str(tmp_path / "none.pt"))


def test_a_model_file():
    name, network = published.start(str(default.path()))
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(crops).permute(0, 3, 1, 2).float()).numpy()
    expected = Embedder().embed(crops).vectors
    assert name == "magsface"
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_checkpoint_of_another_project(tmp_path):
    torch.manual_seed(0)
    theirs = backbones.build("iresnet18-arcface")
    torch.save(theirs.state_dict(), tmp_path / "backbone.pth")
    name, network = published.start(str(tmp_path / "backbone.pth"))
    assert name == "iresnet18-arcface"
    assert torch.equal(network.fc.weight, theirs.fc.weight)


def test_scratch_is_decided_by_its_seed():
    one, two, other = (published.scratch("mobilefacenet", seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_unknown_network():
    with pytest.raises(ModelError, match="no backbone"):
        published.scratch("sphace")
