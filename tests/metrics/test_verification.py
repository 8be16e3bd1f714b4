"""Rates against scikit-learn, scipy and counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from magface.errors import DataError
from magface.metrics import verification as v

# Few distinct values, so ties are common.
scores = st.lists(st.integers(-8, 8).map(lambda k: k / 8), min_size=1, max_size=60)
rates = st.sampled_from([0.01, 0.1, 0.29, 0.5, 0.9]) | st.floats(0.001, 0.999)


def both(genuine, impostor):
    return [1] * len(genuine) + [0] * len(impostor), genuine + impostor


@given(scores, scores)
def test_roc_is_scikit_learns(genuine, impostor):
    fpr, tpr, thresholds = sklearn_metrics.roc_curve(*both(genuine, impostor), drop_intermediate=False)
    curve = v.roc(genuine, impostor)
    np.testing.assert_allclose(curve.fmr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tar, tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@given(scores, scores)
def test_auc_is_scikit_learns(genuine, impostor):
    assert v.auc(genuine, impostor) == pytest.approx(sklearn_metrics.roc_auc_score(*both(genuine, impostor)))


@given(scores, scores)
def test_eer_is_where_the_interpolated_rates_meet(genuine, impostor):
    curve = v.roc(genuine, impostor)
    along = np.linspace(0, len(curve.fmr) - 1, 20001)
    fmr, fnmr = (np.interp(along, np.arange(len(curve.fmr)), rate) for rate in (curve.fmr, 1 - curve.tar))
    meeting = np.argmin(np.abs(fmr - fnmr))
    assert v.eer(genuine, impostor) == pytest.approx(fmr[meeting], abs=0.01)


@given(scores, scores, rates)
def test_tar_is_the_brute_force_one(genuine, impostor, fmr):
    point = v.tar_at_fmr(genuine, impostor, fmr)
    if fmr < 1 / len(impostor):
        assert point.tar is point.threshold is point.interval is None
        assert "impostor comparisons" in point.reason
        return
    candidates = [*sorted(set(impostor)), np.nextafter(max(impostor), np.inf)]
    best = next(t for t in candidates if sum(s >= t for s in impostor) / len(impostor) <= fmr)
    assert point.threshold == best
    assert point.accepted == sum(s >= best for s in impostor)
    assert point.tar == sum(s >= best for s in genuine) / len(genuine)
    assert (point.genuine, point.impostor, point.reason) == (len(genuine), len(impostor), "")


@pytest.mark.parametrize(("count", "fmr", "accepted"), [(100, 0.29, 29), (3000, 1e-3, 3), (200_000, 1e-3, 200)])
def test_round_rates_accept_round_counts(count, fmr, accepted):
    impostor = np.random.default_rng(0).permutation(count) / count
    assert v.tar_at_fmr([1.0], impostor, fmr).accepted == accepted


def test_tied_highest_impostors_are_all_rejected():
    point = v.tar_at_fmr(np.float32([0.7, 0.9]), np.full(10, 0.7, np.float32), 0.1)
    assert point.accepted == 0
    assert point.tar == 0.5
    assert point.threshold == np.nextafter(np.float32(0.7), np.float32(1))


def brute_accuracy(values, same, folds):
    accuracies = []
    for k in np.unique(folds):
        train = folds != k
        levels = np.unique(values[train])
        gaps = [-math.inf, *((levels[:-1] + levels[1:]) / 2), math.inf]
        hits = [np.sum((values[train] >= t) == same[train]) for t in gaps]
        middle = np.flatnonzero(hits == np.max(hits))
        chosen = gaps[middle[len(middle) // 2]]
        accuracies.append(np.mean((values[~train] >= chosen) == same[~train]))
    return accuracies


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 3)), min_size=8, max_size=80))
def test_folds_are_judged_at_the_threshold_that_is_best_on_the_others(rows):
    values, same, folds = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows]), [r[2] for r in rows]
    folds = np.array([0, 1, *folds[2:]])
    found = v.kfold_accuracy(values, same, folds)
    expected = brute_accuracy(values, same, folds)
    assert found.per_fold == pytest.approx(expected)
    assert found.accuracy == pytest.approx(np.mean(found.per_fold))
    assert found.std == pytest.approx(np.std(found.per_fold))


def test_adjacent_numbers_are_told_apart():
    low = np.nextafter(np.float64(0.5), 0)
    found = v.kfold_accuracy([low, 0.5, low, 0.5], [False, True, False, True], [0, 0, 1, 1])
    assert found.accuracy == 1.0


def test_a_threshold_between_grid_steps_is_found():
    found = v.kfold_accuracy([0.1234, 0.1235, 0.1234, 0.1235], [False, True, False, True], [0, 0, 1, 1])
    assert found.accuracy == 1.0


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts):
    expected = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert v.wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_bootstrap_covers_a_mean_and_repeats():
    values = np.random.default_rng(1).normal(size=400)
    interval = v.bootstrap(lambda rows: values[rows].mean(), 400)
    assert interval == v.bootstrap(lambda rows: values[rows].mean(), 400)
    assert interval == pytest.approx((values.mean() - 0.098, values.mean() + 0.098), abs=0.02)
    assert all(math.isnan(end) for end in v.bootstrap(lambda rows: math.nan, 3))


@pytest.mark.parametrize("function", [v.roc, v.auc, v.eer, lambda g, i: v.tar_at_fmr(g, i, 0.5)])
@pytest.mark.parametrize(
    ("genuine", "impostor", "word"),
    [([], [0.1], "genuine"), ([0.1], [], "impostor"), ([math.nan], [0.1], "NaN"), ([0.1], [math.inf], "infinity")],
)
def test_what_cannot_be_measured_is_refused(function, genuine, impostor, word):
    with pytest.raises(DataError, match=word):
        function(genuine, impostor)


@pytest.mark.parametrize("fmr", [0, 1, -0.1, math.nan])
def test_rates_out_of_range_are_refused(fmr):
    with pytest.raises(DataError, match="between 0 and 1"):
        v.tar_at_fmr([0.5], [0.5], fmr)


@pytest.mark.parametrize(
    ("values", "same", "folds"),
    [([0.1], [True], [0]), ([0.1, 0.2], [True], [0, 1]), ([math.nan, 1], [True, False], [0, 1])],
)
def test_folds_that_cannot_be_judged_are_refused(values, same, folds):
    with pytest.raises(DataError):
        v.kfold_accuracy(values, same, folds)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (2, 1), (-1, 3)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(DataError):
        v.wilson(successes, trials)
