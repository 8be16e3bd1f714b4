"""Each way to spoil a picture takes its own measure out of the range of good pictures."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface import align
from magface.data.degradations import NAMES
from magface.embedder import Embedder
from magface.quality import components
from magface.quality.components import RANGES


@pytest.fixture(scope="module")
def face(astronaut):
    """Crop of the portrait, and its landmarks in the photo."""
    from magface.recognizer import Recognizer

    [found] = Recognizer().faces(astronaut)
    return found.crop, found.face.landmarks


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


def causes(crop, landmarks=None):
    return {each.name: each.cause for each in components.measure(crop, landmarks) if each.cause}


def scaled(crop, gain, offset=0.0):
    return np.clip(np.rint(crop * np.float32(gain) + offset), 0, 255).astype(np.uint8)


def test_a_good_portrait_has_every_measure_in_range(face):
    crop, landmarks = face
    assert causes(crop, landmarks) == {}
    names = [each.name for each in components.measure(crop, landmarks)]
    assert names == list(RANGES)[: len(names)]
    assert [each.name for each in components.measure(crop)] == names[:4]


@pytest.mark.parametrize(
    ("spoil", "name", "word"),
    [
        (lambda crop: cv2.GaussianBlur(crop, (0, 0), 2), "sharpness", "blurred"),
        (lambda crop: scaled(crop, 0.25), "brightness", "dark"),
        (lambda crop: scaled(crop, 1.6, 60), "brightness", "bright"),
        (lambda crop: scaled(crop, 3.0, -140), "clipped", "black or white"),
        (lambda crop: scaled(crop, 0.2, 100), "contrast", "flat"),
    ],
)
def test_a_spoiled_picture_is_named_for_what_it_is(face, spoil, name, word):
    found = causes(spoil(face[0]))
    assert found[name].startswith(f"{word}")


def test_darkness_is_not_taken_for_blur(face):
    crop, _ = face
    sharp = {each.name: each.value for each in components.measure(crop)}["sharpness"]
    dark = {each.name: each.value for each in components.measure(scaled(crop, 0.3))}["sharpness"]
    assert dark == pytest.approx(sharp, rel=0.15)
    assert "sharpness" not in causes(scaled(crop, 0.3))


def test_what_is_black_beyond_the_photo_is_not_dark(face):
    crop = face[0].copy()
    crop[:20], crop[:, :14], crop[:, 100:] = 0, 0, 0
    assert causes(crop) == {}


def test_brightness_and_contrast_are_those_of_the_middle(face):
    crop, _ = face
    middle = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[28:104, 22:90].astype(float)
    found = {each.name: each.value for each in components.measure(crop)}
    assert found["brightness"] == pytest.approx(middle.mean(), abs=1e-3)
    assert found["contrast"] == pytest.approx(middle.std(), abs=1e-3)
    assert found["clipped"] == pytest.approx(100 * ((middle <= 25) | (middle >= 247)).mean(), abs=1e-3)


@given(st.floats(0.05, 20), st.floats(-180, 180))
def test_size_is_that_of_the_eyes_whatever_the_turn_and_place(zoom, degrees):
    turn = zoom * np.exp(1j * np.deg2rad(degrees))
    points = (align.TEMPLATE @ (1, 1j)) * turn + 300
    landmarks = np.stack([points.real, points.imag], 1).astype(np.float32)
    found = {each.name: each for each in components.measure(np.full((112, 112, 3), 128, np.uint8), landmarks)}
    assert found["size"].value == pytest.approx(zoom * np.hypot(*(align.TEMPLATE[1] - align.TEMPLATE[0])), rel=1e-3)
    assert bool(found["size"].cause) == (found["size"].value < RANGES["size"].low)


def test_a_face_turned_away_says_where_to(face):
    crop, landmarks = face
    for shift, word in ((-18, "turned to the left"), (18, "turned to the right")):
        turned = landmarks.copy()
        turned[2, 0] += shift * np.linalg.norm(landmarks[1] - landmarks[0]) / 35
        assert causes(crop, turned)["yaw"].startswith(word)


@pytest.mark.parametrize(("way", "index"), [("sunglasses", 0), ("mask", 1)])
def test_what_covers_the_face_is_found_where_it_is(face, embedder, way, index):
    def probabilities(crop):
        embedding = embedder.embed(crop[None]).vectors[0]
        hidden = embedder.embed(components.covered(crop)).vectors
        return components.occlusion(crop, embedding, hidden, embedder.card.quality.w)

    crop, _ = face
    hidden = NAMES[way](crop, 0.9, np.random.default_rng(1))
    assert not any(each.cause for each in probabilities(crop))
    found = probabilities(hidden)
    assert found[index].cause
    assert found[index].name in ("eyes covered", "mouth covered")
    assert not found[1 - index].cause


def test_covered_hides_the_eyes_and_the_mouth_and_nothing_else(face):
    crop, _ = face
    eyes, mouth = components.covered(crop)
    points = align.TEMPLATE.round().astype(int)
    for place, picture in ((0, eyes), (1, eyes), (3, mouth), (4, mouth)):
        x, y = points[place]
        assert (picture[y, x] == 128).all()
    np.testing.assert_array_equal(eyes[70:], crop[70:])
    np.testing.assert_array_equal(mouth[:75], crop[:75])


def test_a_cause_never_reads_as_if_it_were_in_range():
    fine = RANGES["brightness"]
    value = fine.low - 0.004
    found = components._component("brightness", value)
    assert found.cause == "dark: brightness 74.996 of 255, fine from 75"


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_any_picture_has_finite_measures(low, high, seed):
    crop = np.random.default_rng(seed).integers(min(low, high), max(low, high) + 1, (112, 112, 3)).astype(np.uint8)
    vectors = np.zeros((2, 4), np.float32)
    found = [*components.measure(crop, align.TEMPLATE), *components.occlusion(crop, vectors[0], vectors, 2.6)]
    assert [each.name for each in found] == list(RANGES)
    assert np.isfinite([each.value for each in found]).all()
    for each in found:
        fine = each.range
        assert bool(each.cause) == bool(each.advice) == (not fine.low <= each.value <= fine.high)


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_are_fine_and_no_more(name):
    for end, beyond in ((RANGES[name].low, -np.inf), (RANGES[name].high, np.inf)):
        if np.isfinite(end):
            assert not components._component(name, end).cause
            assert components._component(name, float(np.nextafter(end, beyond))).cause


def test_what_tells_covered_eyes_is_the_formula():
    crop = np.full((112, 112, 3), 100, np.uint8)
    for (rows, columns), level in zip(components._SKIN, (180, 60, 120), strict=True):
        crop[rows, columns] = level
    for rows, columns in components._BELOW:
        crop[rows, columns] = 40
    for rows, columns in components._EYES:
        crop[rows, columns][:, ::2] = 50  # half at 50, half at 100
    taken, rim, across, texture = components.eyes_features(crop, np.float32([3, 4]), np.float32([0, 2]), 0.5)
    assert taken == pytest.approx((5 - 2) / 0.5)
    luma = crop[..., 0].astype(float)
    skin = np.median([luma[place].mean() for place in components._SKIN])
    below = np.mean([luma[place].mean() for place in components._BELOW])
    assert rim == pytest.approx(np.log((below + 8) / (skin + 8)), abs=1e-4)
    assert rim < 0
    assert texture == pytest.approx(np.log(26), abs=1e-4)
    assert across == pytest.approx(0, abs=1e-4)
