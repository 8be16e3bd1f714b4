"""Regions hide what they are named for, more with every step, and leave training as it is."""

from itertools import pairwise

import numpy as np
import pytest

from magface.align import TEMPLATE
from magface.data import degradations
from magface.data.regions import REGIONS, cover

BLACK = np.zeros((112, 112, 3), np.uint8)


def hidden(region, strength):
    return (cover(BLACK, region, strength) != 0).any(2)


@pytest.mark.parametrize("region", REGIONS)
def test_strength_zero_hides_nothing_and_the_input_stays(region):
    image = np.full((112, 112, 3), 7, np.uint8)
    out = cover(image, region, 0.0)
    assert np.array_equal(out, image)
    cover(image, region, 1.0)
    assert (image == 7).all()


@pytest.mark.parametrize("region", REGIONS)
def test_each_step_hides_what_the_step_before_hid_and_more(region):
    steps = [hidden(region, step / 10) for step in range(11)]
    for before, after in pairwise(steps):
        assert after[before].all()
        assert after.sum() > before.sum()


@pytest.mark.parametrize(
    ("region", "points"),
    [
        ("left eye", [0]),
        ("right eye", [1]),
        ("both eyes", [0, 1]),
        ("nose", [2]),
        ("mouth", [3, 4]),
        ("left half", [0, 3]),
        ("right half", [1, 4]),
        ("upper half", [0, 1]),
        ("lower half", [2, 3, 4]),
    ],
)
def test_a_region_hides_its_landmarks_and_no_others(region, points):
    x, y = np.rint(TEMPLATE).astype(int).T
    found = set(np.flatnonzero(hidden(region, 1.0)[y, x]).tolist())
    assert found - {2} == set(points) - {2}  # the tip of the nose lies on the middle line
    assert (2 in found) or 2 not in points


def test_the_region_grows_with_the_crop():
    large = np.zeros((224, 224, 3), np.uint8)
    assert (cover(large, "mouth", 1.0) != 0).sum() == 4 * (cover(BLACK, "mouth", 1.0) != 0).sum()


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strengths_beyond_the_range_are_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        cover(BLACK, "nose", strength)


def test_training_draws_what_it_drew_before():
    scene, framing = ["sunglasses", "mask", "patch"], ["truncation", "misalignment", "rotation"]
    light, optics = ["darkness", "overexposure", "low_contrast"], ["gaussian_blur", "motion_blur", "downsampling"]
    sensor, file = ["gaussian_noise", "shot_noise"], ["jpeg"]
    assert list(degradations.NAMES) == [*scene, *framing, *light, *optics, *sensor, *file]
