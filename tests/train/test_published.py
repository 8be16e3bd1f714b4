import cv2
import numpy as np
import pytest
import torch

from magface.errors import DataError, ModelError
from magface.models import packaged
from magface.train import checkpoint, published


@pytest.mark.parametrize("kind", ["noise", "face"])
def test_sface_gives_what_its_file_gives_in_opencv(kind, astronaut):
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    image = noise if kind == "noise" else astronaut[40:264:2, 110:334:2]
    network = cv2.dnn.readNetFromONNX(np.frombuffer(packaged.read("sface"), np.uint8))
    network_input = image.transpose(2, 0, 1)[None].astype(np.float32)
    network.setInput(network_input, "data")
    expected = network.forward()
    model = published.start("sface").eval()
    with torch.no_grad():
        found = model(torch.from_numpy(network_input)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def save(path, model, backbone="sface"):
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.save(path, backbone=backbone, model=model, head=model, optimizer=optimizer, step=1, recipe={}, data="")


def test_an_earlier_checkpoint(tmp_path, toy_network):
    model = published.start("sface")
    torch.nn.init.zeros_(model.fc.bias)
    save(tmp_path / "c.pt", model)
    again = published.start("sface", earlier=tmp_path / "c.pt")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    save(tmp_path / "toy.pt", toy_network(), "toy")
    with pytest.raises(ModelError, match="holds the network 'toy'"):
        published.start("sface", earlier=tmp_path / "toy.pt")
    save(tmp_path / "wrong.pt", toy_network())
    with pytest.raises(ModelError, match="are not those of"):
        published.start("sface", earlier=tmp_path / "wrong.pt")
    with pytest.raises(DataError, match="missing or damaged"):
        published.start("sface", earlier=tmp_path / "none.pt")


def test_unknown_network():
    with pytest.raises(ModelError, match="no backbone"):
        published.start("sphace")
