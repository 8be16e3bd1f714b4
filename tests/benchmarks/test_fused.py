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


@given(seed=st.integers(0, 10**6), genuine=st.integers(1, 400), impostor=st.integers(1, 2000))
def test_points_of_a_curve_are_exact(seed, genuine, impostor):
    rng = np.random.default_rng(seed)
    sides = [np.sort(rng.normal(mean, 1, n).round(1).astype(np.float32)) for mean, n in ((1, genuine), (0, impostor))]
    curve = fused.curve(*sides)
    points = set(zip(curve.fmr, curve.tar, strict=True))
    exact = {tuple(1 - (side < t).mean() for side in sides[::-1]) for t in np.concatenate(sides)} | {(0.0, 0.0)}
    assert points <= exact
    assert {(0.0, 0.0), (1.0, 1.0)} <= points
    assert (np.diff(curve.fmr) >= 0).all()
    assert (np.diff(curve.tar) >= 0).all()
    assert (curve.genuine, curve.impostor) == (genuine, impostor)


def test_measures_tell_what_is_not_measurable():
    found = {
        measure.name: measure
        for measure in fused.measures(np.float32([0.2, 0.9]), np.arange(100, dtype=np.float32) / 200)
    }
    assert found["TAR@FMR=0.01"].value == found["TAR@FMR=0.1"].value == 0.5
    assert found["TAR@FMR=0.001"].value is None
    assert found["TAR@FMR=0.001"].note == "FMR 0.001 needs at least 1,000 impostor comparisons; there are 100."
    assert found["AUC"].value == pytest.approx((0.405 + 1) / 2)
    assert fused.named("x", [Measure("EER", 0.5)]) == [Measure("x: EER", 0.5)]
