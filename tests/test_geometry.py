"""Directions have length 1 at any scale; cosines and angles stay in their ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from magface import geometry

components = st.floats(-1, 1, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
vectors = arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=5), elements=components)
pairs = arrays(np.float32, (2, 5), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))
scales = st.sampled_from([1e-40, 1e-30, 1e-3, 1.0, 1e3, 1e30, 1e38])


@given(vectors, scales)
def test_direction_has_length_one_at_any_scale_or_zero(x, scale):
    x = x * np.float32(scale)
    length = geometry.magnitude(geometry.direction(x))
    np.testing.assert_allclose(length, x.any(axis=-1), atol=1e-6)


@given(vectors, st.sampled_from([1e-30, 1e-3, 1e3, 1e30]))
def test_direction_does_not_depend_on_the_scale(x, scale):
    np.testing.assert_allclose(geometry.direction(x * np.float32(scale)), geometry.direction(x), atol=1e-6)


@given(vectors)
def test_direction_and_magnitude_make_the_embedding_again(x):
    again = geometry.direction(x) * geometry.magnitude(x)[..., None]
    np.testing.assert_allclose(again, x, atol=1e-5)


@given(vectors)
def test_direction_keeps_the_type_and_leaves_its_argument_alone(x):
    before = x.copy()
    assert geometry.direction(x).dtype == geometry.magnitude(x).dtype == np.float32
    np.testing.assert_array_equal(x, before)


@given(pairs)
def test_cosine_and_angle_are_in_range_and_symmetric(pair):
    x, y = pair
    cosine, angle = geometry.cosine(x, y), geometry.angle(x, y)
    assert -1 <= cosine <= 1
    assert 0 <= angle <= np.float32(np.pi)
    assert cosine == geometry.cosine(y, x)


@given(pairs)
def test_an_embedding_agrees_with_itself_and_not_with_its_opposite(pair):
    x = pair[0]
    known = float(x.any())
    assert geometry.cosine(x, x) == pytest.approx(known, abs=1e-6)
    assert geometry.cosine(x, -x) == pytest.approx(-known, abs=1e-6)


def test_zeros_have_no_direction_and_no_likeness():
    zero, one = np.zeros(3, np.float32), np.array([1, 0, 0], np.float32)
    assert not geometry.direction(zero).any()
    assert geometry.cosine(zero, one) == geometry.cosine(zero, zero) == 0
    assert geometry.angle(zero, one) == pytest.approx(np.pi / 2)


def test_nan_is_not_hidden():
    x = np.array([np.nan, 1.0])
    assert np.isnan(geometry.magnitude(x))
    assert np.isnan(geometry.direction(x)).any()
