import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.cluster.weighting import checked, weights
from magface.errors import DataError
from magface.types import Embeddings


@given(st.integers(1, 40), st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_weights_are_magnitudes_relative_to_their_mean(count, seed, factor):
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    length = np.sqrt((vectors.astype(float) ** 2).sum(axis=1))
    found = weights(Embeddings(vectors * np.float32(factor)), "magnitude")
    assert found == pytest.approx(length / length.mean(), rel=1e-4)
    assert weights(Embeddings(vectors), "unit").tolist() == [1] * count


@pytest.mark.parametrize("scale", [1e-38, 1e37, 3e38])
def test_vectors_of_any_size_have_finite_weights(scale):
    vectors = np.full((3, 16), scale, np.float32)
    vectors[2] = 0
    found = weights(Embeddings(vectors), "magnitude")
    assert found[:2] == pytest.approx([1.5, 1.5], rel=1e-3)
    assert 0 < found[2] < 1e-3


@pytest.mark.parametrize("count", [0, 2])
def test_faces_without_direction_weigh_alike(count):
    assert weights(Embeddings(np.zeros((count, 4), np.float32)), "magnitude").tolist() == [1] * count


def test_another_weighting_is_refused():
    with pytest.raises(DataError, match="no weighting 'squared'; choose one of unit, magnitude"):
        weights(Embeddings(np.ones((2, 2), np.float32)), "squared")


@pytest.mark.parametrize("threshold", [-1, -0.5, 0, 1])
def test_a_threshold_is_a_cosine(threshold):
    assert checked(threshold) == threshold


@pytest.mark.parametrize("threshold", [-1.001, 1.001, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(DataError, match="between -1 and 1"):
        checked(threshold)
