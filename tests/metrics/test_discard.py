"""Several qualities on the same comparisons: against the plain functions, and draws of people against copies."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.metrics import quality as q
from magface.metrics.discard import LIMITS, Comparisons, Start, threshold_at_fnmr
from magface.metrics.repicked import edc_repicked
from magface.metrics.verification import bootstrap_people, tar_at_fmr

LEVELS = np.arange(50) / 50
STARTS = [Start(0.01), Start(0.1), Start(0.2, "FNMR")]


@pytest.fixture(scope="module")
def compared():
    """Scores, labels, quality and people: 30 people with 4 images each, every pair of images."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 4)
    image = rng.normal(0, 1, len(person))
    first, second = np.array(list(itertools.combinations(range(len(person)), 2))).T
    rng.shuffle(order := np.arange(len(first)))
    first, second = first[order], second[order]
    quality = np.minimum(image[first], image[second]).round(1)
    same = person[first] == person[second]
    scores = np.where(same, 2 + quality, 0) + rng.normal(0, 1, len(same))
    return scores.round(2), same, quality, (person[first], person[second])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_the_threshold_of_an_fnmr_is_the_highest_that_keeps_it(scores, fnmr):
    genuine = np.array(scores, float)
    found = threshold_at_fnmr(genuine, fnmr)
    if found is None:
        assert fnmr < 1 / len(genuine)
    else:
        assert np.mean(genuine < found) <= fnmr < np.mean(genuine <= found) + 1e-12


@pytest.mark.parametrize("rate", [0, 1, math.nan])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(DataError, match="between 0 and 1"):
        threshold_at_fnmr([0.5], rate)


def test_a_start_says_what_it_does_to_both_sides(compared):
    scores, same, *_ = compared
    genuine, impostor = scores[same], scores[~same]
    assert Start(0.01).point(genuine, impostor) == tar_at_fmr(genuine, impostor, 0.01)
    point = Start(0.2, "FNMR").point(genuine, impostor)
    assert point.tar == np.mean(genuine >= point.threshold) >= 0.8
    assert point.fmr == np.mean(impostor >= point.threshold)
    assert point.accepted == np.sum(impostor >= point.threshold)
    assert (
        "needs at least 1,000 genuine comparisons; there are 180" in Start(1e-3, "FNMR").point(genuine, impostor).reason
    )
    assert (str(Start(1e-3)), str(Start(0.05, "FNMR"))) == ("FMR 0.001", "FNMR 0.05")


def test_fixed_thresholds_are_those_of_the_plain_functions(compared):
    scores, same, quality, _ = compared
    every = Comparisons(scores, same, STARTS, levels=LEVELS)
    found = zip(
        every.points, every.false_non_matches(quality), every.false_matches(quality), every.ideal(), strict=True
    )
    for point, fnmr, fmr, (best, best_fmr) in found:
        t = point.threshold
        sides = (
            (fnmr, best, q.edc(scores[same], quality[same], t), q.ideal(scores[same], t)),
            (
                fmr,
                best_fmr,
                q.edc_false_matches(scores[~same], quality[~same], t),
                q.ideal_false_matches(scores[~same], t),
            ),
        )
        for one, ideal, curve, best_curve in sides:
            assert one.low is one.high is None
            np.testing.assert_allclose(one.value.error, q.sampled(curve, LEVELS).error)
            np.testing.assert_allclose(ideal.value.error, q.sampled(best_curve, LEVELS).error)
            area, best_area = ([q.pauc(each, limit) for limit in LIMITS] for each in (curve, best_curve))
            np.testing.assert_allclose(one.value.pauc, area)
            np.testing.assert_allclose(one.value.r, area / curve.error[0])
            gain = (curve.error[0] - area) / (curve.error[0] - best_area)
            np.testing.assert_allclose(one.value.efficiency, gain)
            np.testing.assert_allclose(ideal.value.efficiency, 1)
        assert fnmr.value.efficiency[-1] == pytest.approx(q.efficiency(scores[same], quality[same], t).efficiency)


def test_repicked_thresholds_are_those_of_the_plain_function(compared):
    scores, same, quality, _ = compared
    every = Comparisons(scores, same, STARTS, repicked=True, levels=LEVELS)
    for point, found in zip(every.points, every.false_non_matches(quality), strict=True):
        sides = scores[same], scores[~same], quality[same], quality[~same]
        curve = edc_repicked(*sides, point.fmr, LEVELS)
        np.testing.assert_allclose(found.value.error, curve.error)
        np.testing.assert_allclose(found.value.pauc, [q.pauc(curve, limit) for limit in LIMITS])
        np.testing.assert_allclose(found.value.r, found.value.pauc / curve.error[0])
        assert np.isnan(found.value.efficiency).all()


def copies(people, rng):
    """Rows of the pairs of a draw of people, each as often as it counts."""
    first, second = people
    count = max(first.max(), second.max()) + 1
    drawn = np.bincount(rng.integers(count, size=count), minlength=count)
    return np.repeat(np.arange(len(first)), np.where(first == second, drawn[first], drawn[first] * drawn[second]))


@pytest.mark.parametrize("repicked", [False, True])
def test_bands_are_those_of_people_copied_and_thresholds_fixed_again(compared, repicked):
    scores, same, quality, people = compared
    draws, seed = 20, 5
    every = Comparisons(scores, same, STARTS, repicked=repicked, people=people, levels=LEVELS, repeats=draws, seed=seed)
    found, rng = every.false_non_matches(quality), np.random.default_rng(seed)
    drawn = [copies(people, rng) for _ in range(draws)]
    alone = [
        Comparisons(scores[rows], same[rows], STARTS, repicked=repicked, levels=LEVELS).false_non_matches(quality[rows])
        for rows in drawn
    ]
    for number, one in enumerate(found):
        for field in ("error", "pauc", "r"):
            values = np.array([getattr(each[number].value, field) for each in alone])
            low, high = np.nanquantile(values[:, ~np.isnan(values).all(0)], [0.025, 0.975], axis=0)
            known = ~np.isnan(getattr(one.low, field))
            np.testing.assert_allclose(getattr(one.low, field)[known], low)
            np.testing.assert_allclose(getattr(one.high, field)[known], high)


def test_a_draw_that_measures_no_rate_is_left_out_where_thresholds_are_picked_again():
    """Of three people one alone has genuine pairs, whose lowest score accepts all; some draws lack her."""
    scores, people = [0.1, 0.5, 0.3, 0.2, 0.9], ([0, 0, 0, 1, 2], [0, 0, 1, 2, 0])
    same, start = np.array([True, True, False, False, False]), Start(0.5, "FNMR")
    scores[1] = 0.1
    every = Comparisons(scores, same, [start], repicked=True, people=people, levels=[0.0, 0.2], repeats=50)
    [found] = every.false_non_matches(np.arange(5.0))
    assert np.isnan(found.value.error).all()  # at FMR 1, which is that of the lowest genuine score
    assert np.isnan(found.drawn).all()
    assert np.isnan(found.low.error).all()
    every = Comparisons(scores, same, [start], people=people, levels=[0.0, 0.2], repeats=50)
    for [found] in (every.false_non_matches(np.arange(5.0)), every.false_matches(np.arange(5.0))):
        assert found.value.error[0] == found.low.error[0] == found.high.error[0] == found.value.pauc[0]


def test_the_difference_of_two_qualities_is_that_of_each_draw(compared):
    scores, same, quality, people = compared
    every = Comparisons(scores, same, [Start(0.1)], people=people, levels=LEVELS, repeats=30)
    [one], [other] = every.false_non_matches(quality), every.false_non_matches(scores * 0 + people[0])
    value, low, high = other.minus(one)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(30):
        rows = copies(people, rng)
        alone = Comparisons(scores[rows], same[rows], [Start(0.1)], levels=LEVELS)
        of = [alone.false_non_matches(each[rows])[0].value.r for each in (people[0] * 1.0, quality)]
        drawn.append(of[0] - of[1])
    np.testing.assert_allclose(value, other.value.r - one.value.r)
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975], axis=0))
    assert low[0] > 0
    [bare] = Comparisons(scores, same, [Start(0.1)], levels=LEVELS).false_non_matches(quality)
    assert np.isnan(bare.minus(one)[1:]).all()


def test_bands_of_false_matches_too(compared):
    scores, same, quality, people = compared
    every = Comparisons(scores, same, [Start(0.1)], people=people, levels=LEVELS, repeats=20)
    [found] = every.false_matches(quality)
    rng = np.random.default_rng(0)
    alone = []
    for _ in range(20):
        rows = copies(people, rng)
        alone.append(Comparisons(scores[rows], same[rows], [Start(0.1)], levels=LEVELS).false_matches(quality[rows]))
    values = np.array([each[0].value.error for each in alone])
    np.testing.assert_allclose([found.low.error, found.high.error], np.quantile(values, [0.025, 0.975], axis=0))


def test_the_band_where_nothing_is_discarded_is_that_of_the_true_accept_rate(compared):
    scores, same, quality, people = compared
    [found] = Comparisons(scores, same, [Start(0.01)], people=people, levels=LEVELS).false_non_matches(quality)
    ((low, high),) = bootstrap_people(scores, same, *people, [0.01]).tar
    assert (found.low.error[0], found.high.error[0]) == pytest.approx((1 - high, 1 - low))


@given(st.data())
def test_no_quality_beats_the_ideal_and_a_constant_one_is_chance(data):
    count = data.draw(st.integers(4, 40))
    scores = np.array(data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)), float)
    quality = np.array(data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
    same = np.arange(count) < count // 2
    every = Comparisons(scores, same, [Start(0.5)], levels=LEVELS)
    [(best, best_fmr)] = every.ideal()
    for found, ideal in ((every.false_non_matches, best), (every.false_matches, best_fmr)):
        assert (found(quality)[0].value.error >= ideal.value.error - 1e-12).all()
        chance = found(np.ones(count))[0].value
        np.testing.assert_allclose(chance.error, chance.error[0], atol=1e-12)


def test_what_cannot_be_measured_is_refused(compared):
    scores, same, quality, (first, second) = compared
    with pytest.raises(DataError, match="needs at least 100,000 impostor comparisons"):
        Comparisons(scores, same, [Start(1e-5)])
    with pytest.raises(DataError, match="one score and one quality"):
        Comparisons(scores, same, [Start(0.1)]).false_non_matches(quality[1:])
    with pytest.raises(DataError, match="must show one person"):
        Comparisons(scores, same, [Start(0.1)], people=(first, second[::-1]))
    with pytest.raises(DataError, match="between 0 and 1"):
        Comparisons(scores, same, [Start(0.1)], limits=[0.0])
