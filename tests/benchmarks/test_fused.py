"""Pairs of templates against single cosines, and curves against counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.benchmarks import fused
from magface.benchmarks.result import Measure
from magface.fusion import fuse
from magface.geometry import cosine


@pytest.mark.parametrize("sparse", [0.0, 2.0], ids=["product", "single pairs"])
@given(seed=st.integers(0, 10**6), pairs=st.integers(1, 80), ordered=st.booleans())
def test_cosines_of_pairs_are_those_of_single_ones(sparse, seed, pairs, ordered):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((30, 5)).astype(np.float32)
    vectors[rng.random(30) < 0.1] = 0
    first, second = rng.integers(0, 30, (2, pairs))
    first = np.sort(first) if ordered else first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "_SPARSE", sparse)
        patch.setattr(fused, "_ENTRIES", 40)
        patch.setattr(fused, "_PAIRS", 7)
        scores = fused.compare(vectors, first, second)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, cosine(vectors[first], vectors[second]), atol=1e-6)


def test_no_pairs_have_no_cosines():
    none = np.zeros(0, np.int64)
    assert fused.compare(np.ones((3, 2), np.float32), none, none).shape == (0,)


def test_a_template_without_an_image_is_rejected():
    templates = fuse(np.array([[1, 0], [0, 0], [0, 2], [-1, 0]], np.float32), [1, 2, 3, 4])
    scores = fused.scored(templates, np.array([0, 0, 1, 0]), np.array([1, 2, 1, 3]))
    assert scores.tolist() == [fused.REJECTED, 0, fused.REJECTED, -1]


def test_names_tell_ways_of_fusing_apart():
    assert fused.named("x", [Measure("EER", 0.5)]) == [Measure("x: EER", 0.5)]
