"""People and a network small enough to train in seconds: procedural faces, and a few convolutions."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from magface.data import image_folder

PEOPLE, IMAGES = 12, 12


def face(person, image):
    """(112, 112, 3) uint8: smooth colours that stay with the person, shifted and lit as the image has it."""
    import cv2

    stays, changes = np.random.default_rng(person), np.random.default_rng((person, image))
    cells = stays.uniform(40, 220, (7, 7, 3)).astype(np.float32)
    large = cv2.resize(cells, (128, 128), interpolation=cv2.INTER_CUBIC)
    x, y = changes.integers(0, 16, 2)
    lit = large[y : y + 112, x : x + 112] * changes.uniform(0.8, 1.15) + changes.normal(0, 4, (112, 112, 3))
    return lit.clip(0, 255).astype(np.uint8)


def write_faces(root, people=PEOPLE, images=IMAGES):
    for person in range(people):
        folder = root / f"person{person:02d}"
        folder.mkdir(parents=True)
        for image in range(images):
            Image.fromarray(face(person, image)).save(folder / f"{image:02d}.png")


class Branch(nn.Sequential):
    def __init__(self, features):
        super().__init__(nn.Flatten(), nn.Linear(features, 16), nn.LeakyReLU(0.1), nn.Linear(16, 1), nn.Flatten(0))
        nn.init.normal_(self[3].weight, std=0.01)


class ToyFace(nn.Module):
    """Fixed random features, an embedding, a magnitude branch."""

    size = 24

    def __init__(self, branched=True):
        super().__init__()
        self.stem = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 16, 5, 2, 2), nn.Tanh(), nn.AvgPool2d(2))
        self.norm = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 49, self.size)
        if branched:
            self.branch = Branch(16 * 49)

    def trunk(self, x):
        return self.norm(self.stem((x - 127.5) / 64))

    def embed(self, features):
        return 10 * self.fc(features.flatten(1))

    def forward(self, x):
        features = self.trunk(x)
        embedding = self.embed(features)
        if not hasattr(self, "branch"):
            return embedding
        return embedding * self.branch(features).exp()[:, None]


@pytest.fixture(scope="session")
def toy_face():
    """Function (person, image) -> crop."""
    return face


@pytest.fixture(scope="session")
def toy_network():
    """Function (seed, branched) -> network in evaluation mode."""

    def build(seed=0, branched=True):
        torch.manual_seed(seed)
        return ToyFace(branched).eval()

    return build


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    write_faces(root)
    return root


@pytest.fixture(scope="session")
def toy_faces(toy_root):
    return image_folder.read(toy_root)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
