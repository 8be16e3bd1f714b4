import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.models import card, default
from magface.models.card import Quality
from magface.quality import calibration


@pytest.fixture(scope="module")
def ofiq():
    """A card with the constants and a wide range of percentiles."""
    found, _ = card.read(default.path())
    levels = tuple(np.linspace(10.0, 30.0, 101).tolist())
    return dataclasses.replace(found, quality=Quality(a0=23.0, w=2.6), magnitude_percentiles=levels)


# UnifiedQualityScore and UnifiedQualityScore.scalar of every picture in the expected results of the reference
# implementation of ISO/IEC 29794-5 (BSI-OFIQ/OFIQ-Project, data/tests/expected_results/expected_results.csv)
PUBLISHED = {
    "b-01": (24.556244, 65),
    "b-02": (24.561085, 65),
    "b-03": (15.676003, 6),
    "b-04": (18.763611, 16),
    "b-05": (17.067568, 9),
    "b-06": (14.515001, 4),
    "b-07": (21.282320, 34),
    "b-08": (18.236141, 14),
    "b-09": (24.800913, 67),
    "c-01": (26.190598, 77),
    "c-02": (14.065577, 3),
    "c-03": (13.274268, 2),
    "c-04": (17.627567, 11),
    "c-05": (17.444412, 11),
    "c-06": (23.321465, 53),
    "c-07": (26.972544, 82),
    "c-08": (23.038937, 50),
    "c-09": (18.410257, 15),
    "c-10": (27.706718, 86),
    "r-01": (26.560804, 80),
    "r-02": (25.333216, 71),
    "r-03": (26.340193, 78),
    "r-04": (20.174515, 25),
    "r-05": (18.559141, 15),
    "r-06": (25.195179, 70),
    "r-07": (23.633057, 56),
    "r-08": (16.442244, 7),
    "r-09": (27.200092, 83),
}


@pytest.mark.parametrize(("magnitude", "score"), PUBLISHED.values(), ids=PUBLISHED)
def test_the_unified_score_is_that_of_the_reference_implementation(magnitude, score):
    assert calibration.unified_score(magnitude, Quality(a0=23.0, w=2.6)) == score


def test_the_unified_score_rounds_a_half_up_and_marks_failures():
    quality = Quality(a0=20.0, w=1.0)
    half = 20.0 + np.log(0.125 / 0.875)  # 12.5, exactly as far from 12 as from 13
    assert calibration.sigmoid(half, quality) == pytest.approx(12.5, abs=1e-12)
    found = calibration.unified_score([[half + 1e-9, half - 1e-9], [np.nan, 20.0], [0.0, 1e9]], quality)
    assert found.tolist() == [[13, 12], [-1, 50], [0, 100]]


@given(st.floats(0, 100))
def test_the_unified_score_is_the_formula(magnitude):
    exact = 100 / (1 + math.exp((23.0 - magnitude) / 2.6))
    if abs(exact % 1 - 0.5) > 1e-9:
        assert calibration.unified_score(magnitude, Quality(23.0, 2.6)) == math.floor(exact + 0.5)


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


def test_thresholds_are_those_of_the_impostors():
    impostors = np.random.default_rng(5).normal(0, 0.2, 1710).clip(-1, 1)
    found = calibration.thresholds(impostors)
    assert [t.fmr for t in found] == [1e-2, 1e-3]  # 1,710 pairs cannot tell 1e-4
    for threshold in found:
        assert threshold.impostors == 1710
        assert (impostors >= threshold.cosine).sum() == int(1710 * threshold.fmr)
    [own] = calibration.thresholds(impostors, [0.2])
    assert (impostors >= own.cosine).sum() == 342


def test_thresholds_need_different_people():
    for impostors in (np.zeros(0), np.zeros(99)):
        with pytest.raises(DataError, match=r"pairs of different people|non-empty"):
            calibration.thresholds(impostors)
    with pytest.raises(DataError, match="between 0 and 1"):
        calibration.thresholds(np.zeros(99), [2.0])
