"""Error versus discard against a definition written out pair by pair, and by what must hold for any quality."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from magface.errors import DataError
from magface.metrics import quality as q

pairs = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60)


def unzip(rows):
    return np.array([float(ok) for ok, _ in rows]), np.array([quality for _, quality in rows], float)


@given(
    st.lists(st.booleans(), min_size=1, max_size=60).flatmap(
        lambda ok: st.tuples(st.just(ok), st.permutations(range(len(ok))))
    )
)
def test_curve_without_ties_is_the_definition(case):
    score, quality = np.array(case[0], float), np.array(case[1])
    curve = q.edc(score, quality, 0.5)
    for k in range(len(score)):
        kept = score[np.argsort(quality)[k:]]
        assert curve.discarded[k] == k / len(score)
        assert curve.error[k] == pytest.approx(np.mean(kept < 0.5))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=6))
def test_ties_are_the_mean_over_all_orders(rows):
    score, quality = unzip(rows)
    orders = [
        order for order in itertools.permutations(range(len(rows))) if list(quality[list(order)]) == sorted(quality)
    ]
    curves = [[np.mean(score[list(order[k:])] < 0.5) for k in range(len(rows))] for order in orders]
    np.testing.assert_allclose(q.edc(score, quality, 0.5).error, np.mean(curves, axis=0))


@given(pairs, st.randoms())
def test_order_of_the_pairs_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    np.testing.assert_array_equal(q.edc(*unzip(rows), 0.5).error, q.edc(*unzip(shuffled), 0.5).error)


@given(pairs)
def test_no_quality_beats_the_ideal(rows):
    score, quality = unzip(rows)
    assert np.all(q.ideal(score, 0.5).error <= q.edc(score, quality, 0.5).error + 1e-12)


def test_efficiency_of_the_ideal_chance_and_the_opposite():
    score = np.repeat([0.0, 1.0], [10, 90])
    assert q.efficiency(score, score, 0.5).efficiency == 1
    assert q.efficiency(score, np.ones(100), 0.5).efficiency == pytest.approx(0, abs=1e-9)
    assert q.efficiency(score, -score, 0.5).efficiency < 0


def test_efficiency_is_the_ratio_of_means_with_an_interval_around_it():
    rng = np.random.default_rng(0)
    score = rng.random(1000)
    quality = score + rng.normal(size=1000) * 0.3
    found = q.efficiency(score, quality, 0.1)
    rate = np.mean(score < 0.1)
    order, best = np.argsort(quality), np.argsort(score)
    r, r_ideal = (np.mean([np.mean(score[o[k:]] < 0.1) for k in range(300)]) / rate for o in (order, best))
    assert found.r == pytest.approx(r)
    assert found.r_ideal == pytest.approx(r_ideal)
    assert found.efficiency == pytest.approx((1 - r) / (1 - r_ideal))
    assert found.interval[0] < found.efficiency < found.interval[1]
    assert (found.errors, found.pairs) == (np.sum(score < 0.1), 1000)


@pytest.mark.parametrize("score", [np.ones(5), np.zeros(5)])
def test_all_right_or_all_wrong_has_no_efficiency(score):
    found = q.efficiency(score, np.arange(5), 0.5)
    assert found.efficiency is None
    assert found.interval is None


def test_pauc_is_the_area_of_the_steps():
    curve = q.Curve(np.array([0.0, 0.25, 0.5]), np.array([0.4, 0.2, 0.0]))
    assert q.pauc(curve, 0.3) == pytest.approx((0.25 * 0.4 + 0.05 * 0.2) / 0.3)
    assert q.pauc(curve, 0.25) == pytest.approx(0.4)
    assert q.pauc(curve, 1.0) == pytest.approx(0.15)


@given(pairs, st.floats(0.01, 1))
def test_area_of_a_curve_is_that_of_its_steps_at_any_limit(rows, limit):
    curve = q.edc(*unzip(rows), 0.5)
    fine = (np.arange(20000) + 0.5) / 20000 * limit
    steps = curve.error[np.searchsorted(curve.discarded, fine, side="right") - 1]
    assert q.pauc(curve, limit) == pytest.approx(steps.mean(), abs=0.005)


@given(pairs)
def test_false_matches_are_the_errors_of_the_other_side(rows):
    score, quality = unzip(rows)
    found = q.edc_false_matches(score, quality, 0.5)
    np.testing.assert_allclose(found.error, 1 - q.edc(score, quality, 0.5).error, atol=1e-12)
    assert np.all(q.ideal_false_matches(score, 0.5).error <= found.error + 1e-12)


@given(pairs, st.integers(1, 80))
def test_a_sampled_curve_holds_the_step_of_each_level(rows, count):
    score, quality = unzip(rows)
    curve, levels = q.edc(score, quality, 0.5), np.arange(count) / count
    order = np.lexsort((score, quality))
    found = q.sampled(curve, levels)
    np.testing.assert_array_equal(found.discarded, levels)
    for level, error in zip(levels, found.error, strict=True):
        assert error == curve.error[math.floor(level * len(order) + 1e-9)]


@pytest.mark.parametrize("levels", [[], [0.1], [0, 0.5, 0.5], [0, 1.0], [[0.0]]])
def test_levels_that_do_not_rise_from_zero_are_refused(levels):
    with pytest.raises(DataError, match="rise from 0"):
        q.sampled(q.edc([0.1], [1], 0.5), levels)


TWO = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=20)


@given(TWO)
def test_rules_are_their_formulas(rows):
    formulas = {
        "min": min,
        "max": max,
        "mean": lambda a, b: (a + b) / 2,
        "product": lambda a, b: a * b,
        "geometric mean": lambda a, b: math.sqrt(a * b),
        "harmonic mean": lambda a, b: 2 / (1 / a + 1 / b) if a > 1e-300 and b > 1e-300 else 0,
        "difference": lambda a, b: -abs(a - b),
    }
    assert formulas.keys() == q.RULES.keys()
    for name, formula in formulas.items():
        expected = [formula(a, b) for a, b in rows]
        np.testing.assert_allclose(q.pair_quality(*zip(*rows, strict=True), name), expected, rtol=1e-9, atol=1e-150)


def test_a_rule_keeps_the_precision_and_takes_whole_numbers():
    one = np.array([3, 1], np.float32)
    assert q.pair_quality(one, one[::-1]).dtype == np.float32
    assert q.pair_quality([3, 1], [2, 2], "mean").tolist() == [2.5, 1.5]


def test_rules_that_need_positive_qualities_say_so():
    assert q.pair_quality([-3.0], [2.0], "difference") == [-5]
    with pytest.raises(DataError, match="product takes no qualities below 0; choose one of min, max, mean, difference"):
        q.pair_quality([-3.0], [2.0], "product")
    with pytest.raises(DataError, match="no rule median"):
        q.pair_quality([3.0], [2.0], "median")


@pytest.mark.parametrize(("score", "quality"), [([], []), ([0.1], [1, 2]), ([math.nan], [1]), ([0.1], [math.nan])])
def test_what_cannot_be_measured_is_refused(score, quality):
    with pytest.raises(DataError):
        q.edc(score, quality, 0.5)


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_limits_out_of_range_are_refused(limit):
    with pytest.raises(DataError, match="between 0 and 1"):
        q.pauc(q.edc([0.1], [1], 0.5), limit)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30))
def test_rank_correlation_is_scipys(rows):
    x, y = [r[0] for r in rows], [r[1] for r in rows]
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(q.spearman(x, y))
    else:
        assert q.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_rank_correlation_needs_two_values():
    with pytest.raises(DataError, match="two values"):
        q.spearman([1], [1])


def test_a_score_at_the_threshold_is_accepted():
    score, quality = [0.5, 0.2, 0.5, 0.9], [1.0, 2.0, 3.0, 4.0]
    assert q.edc(score, quality, 0.5).error.tolist() == [1 / 4, 1 / 3, 0, 0]
    assert q.edc_false_matches(score, quality, 0.5).error.tolist() == [3 / 4, 2 / 3, 1, 1]
    assert q.ideal(score, 0.5).error.tolist() == [1 / 4, 0, 0, 0]
    assert q.ideal_false_matches(score, 0.5).error.tolist() == [3 / 4, 2 / 3, 1 / 2, 0]


def test_a_share_that_rounding_left_below_a_step_lies_on_it():
    curve = q.Curve(np.arange(10) / 10, 1 - np.arange(10) / 10)
    assert 1 - 0.9 < 0.1
    assert q.sampled(curve, [0, 1 - 0.9]).error.tolist() == [1, 0.9]


def test_what_begins_at_the_limit_does_not_count():
    assert q.pauc(q.Curve(np.array([0.0, 0.5]), np.array([0.25, np.nan])), 0.5) == 0.25


def test_the_interval_of_the_efficiency_draws_pairs_as_often_as_they_come():
    rng = np.random.default_rng(0)
    score, quality = rng.random(40), rng.permutation(40) * 1.0
    drawn, state = [], np.random.default_rng(0)
    for _ in range(300):
        rows = state.integers(40, size=40)
        shares = []
        for curve in (q.edc(score[rows], quality[rows], 0.3), q.ideal(score[rows], 0.3)):
            shares.append(q.pauc(curve) / curve.error[0])
        drawn.append((1 - shares[0]) / (1 - shares[1]))
    assert q.efficiency(score, quality, 0.3).interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
