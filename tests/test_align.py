"""The similarity equals the field's references; crops of large photos do not alias."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from magface import align
from magface.errors import DataError


def scattered(count, noise, seed=0):
    """(count, 5, 2) landmarks: the template turned, scaled, shifted and disturbed by `noise` pixels."""
    dice = np.random.default_rng(seed)
    turn = dice.uniform(0.3, 8, count) * np.exp(1j * dice.uniform(-np.pi, np.pi, count))
    points = (align.TEMPLATE @ (1, 1j)) * turn[:, None] + dice.uniform(-500, 500, (count, 1))
    points += noise * (dice.standard_normal((count, 5)) + 1j * dice.standard_normal((count, 5)))
    return np.stack([points.real, points.imag], axis=-1)


@pytest.mark.parametrize("noise", [0.0, 1.0, 10.0])
def test_equals_scikit_image(noise):
    for landmarks in scattered(20, noise):
        reference = SimilarityTransform.from_estimate(landmarks, align.TEMPLATE)
        np.testing.assert_allclose(align.similarity(landmarks), reference.params[:2], atol=1e-3, rtol=1e-4)


def test_equals_opencv_on_clean_landmarks():
    for landmarks in scattered(20, 0.0):
        reference, _ = cv2.estimateAffinePartial2D(landmarks, align.TEMPLATE, method=cv2.LMEDS)
        np.testing.assert_allclose(align.similarity(landmarks), reference, atol=1e-2, rtol=1e-3)


def test_many_at_once():
    landmarks = scattered(6, 1.0).reshape(2, 3, 5, 2)
    together = align.similarity(landmarks)
    assert together.shape == (2, 3, 2, 3)
    assert together.dtype == np.float32
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(together[i], align.similarity(landmarks[i]), rtol=1e-6)


@given(
    scale=st.floats(0.1, 20),
    angle=st.floats(-np.pi, np.pi),
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
)
def test_recovers_a_known_similarity(scale, angle, x, y):
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    known = np.array([[a, -b, x], [b, a, y]])
    landmarks = np.linalg.solve(known[:, :2], (align.TEMPLATE - known[:, 2]).T).T
    np.testing.assert_allclose(align.similarity(landmarks), known, rtol=1e-4, atol=1e-4 * (1 + scale))


def test_never_reflects():
    mirrored = align.TEMPLATE * (-1, 1)
    assert np.linalg.det(align.similarity(mirrored)[:, :2]) >= 0


@pytest.mark.parametrize(
    "landmarks", [np.full((5, 2), 7.0), np.full((5, 2), np.nan), np.full((5, 2), np.inf), np.eye(5, 2) * 1e-9]
)
def test_degenerate_landmarks_are_refused(landmarks):
    with pytest.raises(DataError, match="detect the face again"):
        align.similarity(landmarks)
    with pytest.raises(DataError, match="detect the face again"):
        align.crop(np.zeros((50, 50, 3), np.uint8), landmarks)


def test_a_crop_stays_itself(astronaut):
    image = astronaut[:112, 150:262]
    assert (align.crop(image, align.TEMPLATE) == image).all()


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.9])
def test_equals_a_plain_warp_of_the_whole_photo(astronaut, scale):
    landmarks = align.TEMPLATE * scale + (150, 20)
    plain = cv2.warpAffine(astronaut, align.similarity(landmarks), (112, 112), flags=cv2.INTER_LINEAR)
    assert np.abs(align.crop(astronaut, landmarks).astype(int) - plain).max() <= 2


def test_fine_patterns_of_a_large_face_do_not_alias():
    rows, columns = np.mgrid[:1200, :1200]
    board = np.repeat((((rows + columns) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    for scale in (2.0, 3.7, 8.0, 10.3):
        crop = align.crop(board, align.TEMPLATE * scale + 9.3)
        assert np.abs(crop[3:-3, 3:-3].astype(int) - 127).max() <= 25


def test_a_photo_reduced_first_gives_nearly_the_same_crop(astronaut):
    large = cv2.resize(astronaut, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    landmarks = align.TEMPLATE * 0.9 + (160, 40)
    expected = align.crop(astronaut, landmarks).astype(int)
    got = align.crop(large, (landmarks + 0.5) * 8 - 0.5).astype(int)
    assert np.abs(got - expected).mean() < 3


@pytest.mark.parametrize("shift", [(-5000, 0), (0, 5000), (1e7, 1e7)])
def test_a_face_outside_the_photo_is_black(shift):
    image = np.full((60, 60, 3), 255, np.uint8)
    assert not align.crop(image, align.TEMPLATE + shift).any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (40, 2, 3)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_extreme_shapes(shape, scale):
    crop = align.crop(np.full(shape, 255, np.uint8), align.TEMPLATE * scale)
    assert crop.shape == (112, 112, 3)
    assert crop.dtype == np.uint8


def test_a_turned_face_at_the_border_keeps_its_place(astronaut):
    turned = np.ascontiguousarray(np.rot90(astronaut, -1))
    landmarks = align.TEMPLATE * 3 + (120, -40)
    moved = np.stack([astronaut.shape[0] - 1 - landmarks[:, 1], landmarks[:, 0]], axis=-1)
    difference = np.abs(align.crop(turned, moved).astype(int) - align.crop(astronaut, landmarks))
    assert difference.mean() < 3
