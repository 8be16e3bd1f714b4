from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.data.augmentations import Augment, cut, mirrored, reduced, relit

FUNCTIONS = [cut, reduced, relit]


@pytest.fixture(scope="module")
def face(astronaut):
    import cv2

    return cv2.resize(astronaut[20:230, 120:330], (112, 112), interpolation=cv2.INTER_AREA)


def rng(seed=0):
    return np.random.default_rng(seed)


def augment(flip=0.0, crop=0.0, low_resolution=0.0, photometric=0.0):
    return Augment(SimpleNamespace(flip=flip, crop=crop, low_resolution=low_resolution, photometric=photometric))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_same_shape_and_kind_the_generator_decides_and_the_input_stays(function, face):
    before = face.copy()
    for seed in range(20):
        out = function(face, rng(seed))
        assert out.shape == face.shape
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous
        assert np.array_equal(out, function(face, rng(seed)))
    assert np.array_equal(face, before)


@pytest.mark.parametrize("function", FUNCTIONS)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 1000))
def test_any_size(function, height, width, seed):
    image = rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert function(image, rng(seed)).shape == image.shape


def test_mirrored_is_read_from_right_to_left(face):
    assert np.array_equal(mirrored(face), face[:, ::-1])


def test_a_cut_leaves_one_rectangle_in_its_place():
    white = np.full((112, 112, 3), 255, np.uint8)
    shares, aspects = [], []
    for seed in range(400):
        kept = cut(white, rng(seed)).astype(bool).all(2)
        rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
        assert kept[np.ix_(rows, columns)].all()
        assert kept.sum() == len(rows) * len(columns)
        assert (len(rows), len(columns)) == (np.ptp(rows) + 1, np.ptp(columns) + 1)
        shares.append(kept.mean())
        aspects.append(len(columns) / len(rows))
    assert 0.18 < min(shares) < 0.25
    assert 0.9 < max(shares) <= 1
    assert 0.72 < min(aspects) < max(aspects) < 1.38


def test_a_cut_does_not_move_the_face(face):
    out = cut(face, rng(1))
    kept = out.any(2)
    assert np.array_equal(out[kept], face[kept])


def test_what_was_reduced_has_lost_detail(face):
    def detail(image):
        return np.abs(np.diff(image.astype(float), axis=1)).mean()

    found = np.array([detail(reduced(face, rng(seed))) for seed in range(60)]) / detail(face)
    assert found.min() < 0.6
    assert found.mean() < 0.95


def test_relit_colours_follow_the_formula():
    """On one colour: brightness scales it, contrast holds its grey, saturation moves it along the line to its grey."""
    colour = np.array([120, 100, 80], np.uint8)
    image = np.broadcast_to(colour, (8, 8, 3)).copy()
    grey = colour @ np.array([0.299, 0.587, 0.114])
    for seed in range(30):
        out = relit(image, rng(seed))
        assert (out == out[0, 0]).all()
        brightness, contrast, saturation = rng(seed).uniform(0.5, 1.5, 3)
        expected = brightness * (grey + contrast * saturation * (colour - grey))
        assert out[0, 0] == pytest.approx(expected, abs=3)  # rounded after each


def test_contrast_moves_towards_the_mean():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4] = 100
    for seed in range(30):
        brightness, contrast, _ = rng(seed).uniform(0.5, 1.5, 3)
        low, high = relit(image, rng(seed))[[7, 0], 0, 0]
        expected = brightness * (50 + contrast * np.array([-50.0, 50.0]))
        assert [low, high] == pytest.approx(expected.clip(0, 255), abs=3)


def test_nothing_happens_without_a_probability(face):
    assert augment()(face, rng()) is face


@pytest.mark.parametrize("name", ["flip", "crop", "low_resolution", "photometric"])
def test_each_happens_as_often_as_it_should(name, face):
    chosen, generator = augment(**{name: 0.2}), rng()
    happened = np.mean([chosen(face, generator) is not face for _ in range(3000)])
    assert happened == pytest.approx(0.2, abs=0.03)


def test_all_of_them_in_order(face):
    generator = rng(5)
    out = augment(1, 1, 1, 1)(face, rng(5))
    expected = face
    for function in (lambda image, _: mirrored(image), cut, reduced, relit):
        generator.random()
        expected = function(expected, generator)
    assert np.array_equal(out, expected)


def test_flip_alone_spares_the_rest(face):
    assert np.array_equal(augment(1, 1, 1, 1).flip(face, rng()), mirrored(face))
