import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.models import card, default
from magface.models.card import Quality
from magface.quality import calibration
from magface.types import Embeddings


@pytest.fixture(scope="module")
def ofiq():
    """A card with the constants and a wide range of percentiles."""
    found, _ = card.read(default.path())
    levels = tuple(np.linspace(10.0, 30.0, 101).tolist())
    return dataclasses.replace(found, quality=Quality(a0=23.0, w=2.6), magnitude_percentiles=levels)


def test_score_is_that_of_the_reference_implementation(ofiq):
    magnitudes = np.array([24.329985, 26.449306, 14.262262, 27.733389])
    assert np.rint(calibration.score(magnitudes, ofiq)).tolist() == [63, 79, 3, 86]


def test_score_keeps_shape_and_stays_in_range(ofiq):
    scores = calibration.score(np.array([[0.0, 1e9], [np.nan, 23.0]], np.float32), ofiq)
    assert scores.shape == (2, 2)
    assert scores.dtype == np.float64
    assert scores[0, 0] < 0.1
    assert scores[0, 1] == 100.0
    assert np.isnan(scores[1, 0])
    assert scores[1, 1] == 50.0


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_score_is_the_formula_and_rises(a, b, a0, w):
    low, high = calibration.sigmoid(sorted((a, b)), Quality(a0=a0, w=w))
    assert 0.0 <= low <= high <= 100.0
    if (a0 - a) / w < 700:
        assert calibration.sigmoid(a, Quality(a0=a0, w=w)) == pytest.approx(100 / (1 + np.exp((a0 - a) / w)), abs=1e-9)


def test_percentile_interpolates(ofiq):
    assert calibration.percentile([5, 10, 20.1, 30, 31], ofiq).tolist() == pytest.approx([0, 0, 50.5, 100, 100])


def test_fit_puts_the_anchors_where_they_are_documented():
    magnitudes = np.random.default_rng(1).gamma(40.0, 0.6, 5000)
    quality = calibration.fit_sigmoid(magnitudes)
    assert calibration.sigmoid(np.percentile(magnitudes, [1, 50]), quality).tolist() == pytest.approx([20, 80])


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=50))
def test_percentiles_are_those_of_a_card(magnitudes):
    levels = calibration.percentiles(magnitudes)
    assert len(levels) == 101
    assert list(levels) == sorted(levels)
    assert (levels[0], levels[100]) == (min(magnitudes), max(magnitudes))


@pytest.mark.parametrize("magnitudes", [[], [1.0, np.nan], [np.inf]])
def test_percentiles_of_nothing_are_refused(magnitudes):
    with pytest.raises(DataError, match="finite"):
        calibration.percentiles(magnitudes)


def test_a_constant_population_is_refused():
    with pytest.raises(DataError, match="hardly differ"):
        calibration.fit_sigmoid([3.0, 3.0])


def test_thresholds_are_those_of_all_pairs_of_different_people():
    rng = np.random.default_rng(5)
    vectors, labels = rng.normal(size=(60, 8)).astype(np.float32), np.arange(60) % 20
    found = calibration.thresholds(Embeddings(vectors), labels)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (unit @ unit.T)[np.triu_indices(60, 1)]
    impostors = scores[(labels[:, None] != labels[None])[np.triu_indices(60, 1)]]
    assert [t.fmr for t in found] == [1e-2, 1e-3]  # 1,710 pairs cannot tell 1e-4
    for threshold in found:
        assert threshold.impostors == len(impostors) == 1710
        assert (
            (impostors >= threshold.cosine + 1e-6).mean()
            <= threshold.fmr
            < (impostors >= threshold.cosine - 0.05).mean()
        )


def test_thresholds_need_different_people():
    with pytest.raises(DataError, match="pairs of different people"):
        calibration.thresholds(Embeddings(np.ones((50, 4), np.float32)), np.zeros(50, int))
    with pytest.raises(DataError, match="pairs of different people"):
        calibration.thresholds(Embeddings(np.empty((0, 4), np.float32)), np.zeros(0, int))
