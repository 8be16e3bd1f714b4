"""A set of which half is degraded: decided by name and seed, and by nothing else."""

import cv2
import numpy as np
import pytest

from magface.data.degraded import degraded
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import MagfaceError


def picture(shade):
    rng = np.random.default_rng(shade)
    image = cv2.resize(rng.integers(0, 256, (14, 14, 3), np.uint8), (112, 112))
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture(scope="module")
def faces():
    return FaceSet.of([Record(f"p{k // 4}/{k}.png", f"p{k // 4}", Held(picture(k))) for k in range(120)])


def test_about_half_are_degraded_and_known_and_no_other_is_changed(faces):
    found = degraded(faces)
    changed = np.array([found.encoded(row) != faces.encoded(row) for row in range(len(faces))])
    assert found.suspect[changed].all()
    assert 0.9 * found.suspect.sum() < changed.sum() < 0.6 * len(faces)  # some are too mild to change a pixel
    assert found.names == faces.names
    row = int(np.argmax(changed))
    assert found.read(row).shape == (112, 112, 3)
    assert not np.array_equal(found.read(row), faces.read(row))


def test_an_image_is_degraded_alike_whatever_else_is_in_the_set(faces):
    whole, part = degraded(faces, seed=3), degraded(faces[np.arange(50, 70)], seed=3)
    assert part.digests == whole.digests[50:70]
    assert degraded(faces, seed=4).digests != whole.digests


def test_the_share_is_that_asked_for(faces):
    assert not degraded(faces, share=0).suspect.any()
    assert degraded(faces, share=1).suspect.all()


def test_what_is_no_image_is_said_when_it_is_read():
    faces = FaceSet.of([Record("a/1.png", "a", Held(b"nothing"))])
    with pytest.raises(MagfaceError, match=r"a/1\.png"):
        degraded(faces, share=1).read(0)
