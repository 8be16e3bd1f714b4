"""The model that ships, and crops of a public-domain photo as if of three people."""

import cv2
import pytest

from magface.embedder import Embedder


@pytest.fixture(scope="session")
def embedder():
    return Embedder(threads=1)


@pytest.fixture(scope="session")
def album_of_crops(tmp_path_factory, astronaut):
    """Three "people" with three crops each: one place of the photo is one person, a little brighter each time."""
    root = tmp_path_factory.mktemp("crops")
    for person, (x, y) in {"Ann": (168, 60), "Bob": (10, 300), "Cid": (350, 330)}.items():
        (root / person).mkdir()
        for image in range(1, 4):
            crop = cv2.convertScaleAbs(astronaut[y : y + 112, x : x + 112], alpha=1 - 0.15 * image, beta=8 * image)
            cv2.imwrite(str(root / person / f"{person}_{image:04d}.png"), crop[..., ::-1])
    return root
