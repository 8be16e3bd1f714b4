import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magface.data.degradations import NAMES, Degrade


@pytest.fixture(scope="module")
def face(astronaut):
    import cv2

    return cv2.resize(astronaut[20:230, 120:330], (112, 112), interpolation=cv2.INTER_AREA)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_changes_nothing(name, face):
    out = NAMES[name](face, 0.0, rng())
    assert np.array_equal(out, face)
    assert out is not face


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strength", [1e-6, 0.02, 0.5, 1.0])
def test_same_shape_and_kind_and_the_input_stays(name, strength, face):
    before = face.copy()
    out = NAMES[name](face, strength, rng())
    assert out.shape == face.shape
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert np.array_equal(face, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_decides_everything(name, face):
    assert np.array_equal(NAMES[name](face, 0.7, rng(3)), NAMES[name](face, 0.7, rng(3)))


@pytest.mark.parametrize("name", NAMES)
def test_severity_rises_with_strength(name, face):
    strengths = (0.0, 0.25, 0.5, 0.75, 1.0)
    change = np.mean(
        [
            [np.abs(NAMES[name](face, s, rng(seed)).astype(float) - face).mean() for s in strengths]
            for seed in range(12)
        ],
        axis=0,
    )
    assert (np.diff(change) > 0).all(), change


@pytest.mark.parametrize(("name", "rows"), [("sunglasses", slice(40, 64)), ("mask", slice(76, 106))])
def test_occlusions_hide_what_they_are_named_for(name, rows, face):
    changed = np.mean([(NAMES[name](face, 1.0, rng(seed)) != face).any(2)[rows, 28:84].mean() for seed in range(20)])
    assert changed > 0.75


@given(
    name=st.sampled_from(sorted(NAMES)),
    strength=st.floats(0, 1),
    height=st.integers(24, 130),
    width=st.integers(24, 130),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=150)
def test_any_size_and_strength(name, strength, height, width, seed):
    image = rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert NAMES[name](image, strength, rng(seed)).shape == image.shape


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_the_range(strength, face):
    with pytest.raises(ValueError, match="strength"):
        NAMES["jpeg"](face, strength, rng())


def test_only_colour_crops(face):
    with pytest.raises(ValueError, match="uint8"):
        NAMES["jpeg"](face[..., 0], 0.5, rng())


def test_composition_is_deterministic_and_leaves_some_crops_alone(face):
    degrade = Degrade(none=0.3)
    outs = [degrade(face, rng(seed)) for seed in range(200)]
    again = [degrade(face, rng(seed)) for seed in range(200)]
    assert all(np.array_equal(a, b) for a, b in zip(outs, again, strict=True))
    unchanged = np.mean([np.array_equal(out, face) for out in outs])
    assert 0.2 < unchanged < 0.42


def test_weights_choose(face):
    only_dark = Degrade(none=0, weights={name: 0.0 for name in NAMES if name != "darkness"})
    assert all(only_dark(face, rng(seed)).mean() <= face.mean() + 2 for seed in range(20))


def test_unknown_names_and_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="rain"):
        Degrade(weights={"rain": 1.0})
    with pytest.raises(ValueError, match="negative"):
        Degrade(weights={"jpeg": -1.0})
    with pytest.raises(ValueError, match="negative"):
        Degrade(none=1.5)
