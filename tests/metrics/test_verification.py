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
    best = next(t for t in np.nextafter(sorted(set(impostor)), 2) if np.mean(np.array(impostor) >= t) <= fmr)
    assert point.threshold == best
    assert point.accepted == sum(s >= best for s in impostor)
    assert point.tar == sum(s >= best for s in genuine) / len(genuine)
    assert (point.genuine, point.impostor, point.reason) == (len(genuine), len(impostor), "")


@given(scores, scores, rates)
def test_tar_is_the_highest_on_scikit_learns_roc(genuine, impostor, fmr):
    fpr, tpr, _ = sklearn_metrics.roc_curve(*both(genuine, impostor), drop_intermediate=False)
    point = v.tar_at_fmr(genuine, impostor, fmr)
    assert point.tar in (None, pytest.approx(max(tpr[fpr <= fmr])))


def test_a_genuine_score_between_two_impostors_is_accepted():
    point = v.tar_at_fmr([0.5, 0.2], [0.9, 0.3, 0.1], 0.34)
    assert (point.tar, point.accepted, point.threshold) == (0.5, 1, np.nextafter(0.3, 1))


@pytest.mark.parametrize(("count", "fmr", "accepted"), [(100, 0.29, 29), (3000, 1e-3, 3), (200_000, 1e-3, 200)])
def test_round_rates_accept_round_counts(count, fmr, accepted):
    impostor = np.random.default_rng(0).permutation(count) / count
    assert v.tar_at_fmr([1.0], impostor, fmr).accepted == accepted


def test_tied_highest_impostors_are_all_rejected():
    point = v.tar_at_fmr(np.float32([0.7, 0.9]), np.full(10, 0.7, np.float32), 0.1)
    assert point.accepted == 0
    assert point.tar == 0.5
    assert point.threshold == np.nextafter(np.float32(0.7), np.float32(1))


@given(scores, scores)
def test_det_is_scikit_learns(genuine, impostor):
    fmr, fnmr, _ = sklearn_metrics.det_curve(*both(genuine, impostor), drop_intermediate=False)
    curve = v.roc(genuine, impostor)
    ours = set(zip(curve.fmr.round(9), curve.fnmr.round(9), strict=True))
    assert set(zip(fmr.round(9), fnmr.round(9), strict=True)) <= ours  # it leaves out what is perfect in one rate


@given(scores, scores)
def test_eer_is_read_off_the_whole_curve(genuine, impostor):
    curve = v.roc(genuine, impostor)
    after = np.argmax(curve.fmr >= 1 - curve.tar - 1e-12)
    (x0, x1), (y0, y1) = curve.fmr[after - 1 : after + 1], 1 - curve.tar[after - 1 : after + 1]
    share = (y0 - x0) / ((y0 - x0) - (y1 - x1))
    assert v.eer(genuine, impostor) == pytest.approx(x0 + share * (x1 - x0))


@given(scores, scores, st.lists(rates, max_size=5))
def test_operating_points_are_those_found_one_by_one(genuine, impostor, fmrs):
    points = v.operating_points(genuine, np.sort(impostor), fmrs)
    assert points == tuple(v.tar_at_fmr(genuine, impostor, fmr) for fmr in fmrs)


def test_levels_finer_than_the_data_are_not_measurable():
    points = v.operating_points([0.5], np.arange(1000) / 1000, [10.0**-k for k in range(1, 7)])
    assert [point.tar is None for point in points] == [False, False, False, True, True, True]
    assert [point.accepted for point in points] == [100, 10, 1, 0, 0, 0]
    assert "at least 1,000,000" in points[-1].reason


def test_precisions_may_differ():
    genuine, impostor = np.float32([0.1, 0.7]), np.float64([0.1, 0.69999998, 0.8, 0.9])
    assert v.tar_at_fmr(genuine, impostor, 0.5).tar == 0.5
    assert v.tar_at_fmr(genuine.astype(float), np.float32(impostor), 0.5).tar == 0  # in float32 both are 0.7


@given(scores, scores, st.integers(2, 9))
def test_some_points_of_a_curve_are_points_of_the_whole(genuine, impostor, points):
    curve, small = v.roc(genuine, impostor), v.roc_points(genuine, impostor, points)
    assert len(small.fmr) <= 2 * points + 2
    rows = [curve.thresholds.tolist().index(threshold) for threshold in small.thresholds]
    assert rows[0] == 0
    assert rows[-1] == len(curve.fmr) - 1
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(small.fmr, curve.fmr[rows])
    np.testing.assert_array_equal(small.tar, curve.tar[rows])


def test_some_points_of_a_curve_look_the_same_on_logarithmic_axes():
    rng = np.random.default_rng(3)
    genuine, impostor = rng.normal(3, 1, 20_000), rng.normal(0, 1, 200_000)
    curve, small = v.roc(genuine, impostor), v.roc_points(genuine, impostor)
    inside = (curve.fmr > 1e-4) & (curve.fnmr > 1e-3)  # beyond, single errors make steps
    axes = np.log10(np.maximum(small.fmr, 1e-9)), np.log10(np.maximum(small.fnmr, 1e-9))
    shown = np.interp(np.log10(curve.fmr[inside]), *axes)
    np.testing.assert_allclose(shown, np.log10(curve.fnmr[inside]), atol=0.03)


def test_a_curve_of_one_point_is_refused():
    with pytest.raises(DataError, match="at least 2"):
        v.roc_points([1.0], [0.0], 1)


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


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), min_size=4, max_size=40))
def test_scores_may_depend_on_the_fold(rows):
    values, same = np.array([row[:2] for row in rows], float).T, np.array([row[2] for row in rows])
    folds = np.arange(len(rows)) % 2
    found = v.kfold_accuracy(values, same, folds)
    expected = [brute_accuracy(values[k], same, folds)[k] for k in (0, 1)]
    assert found.per_fold == pytest.approx(expected)


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


people = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(-8, 8)), min_size=6, max_size=40)


def pairs_of(rows):
    rows = [(0, 0, 5), (1, 1, -3), (2, 3, 2), (4, 5, -6), *rows]
    first, second, values = (np.array(column) for column in zip(*rows, strict=True))
    return values / 8, first == second, first, second


def percentiles(values):
    values = [value for value in values if not math.isnan(value)]
    return tuple(np.quantile(values, [0.025, 0.975])) if values else (math.nan, math.nan)


def repeated(seed, repeats, same, first, second):
    """For each draw the rows of all pairs, each as often as it really is there."""
    rng = np.random.default_rng(seed)
    present = np.unique([first, second])
    for _ in range(repeats):
        drawn = present[rng.integers(len(present), size=len(present))].tolist()
        yield [
            row
            for row in range(len(same))
            for a in drawn
            if a == first[row]
            for b in ([a] if same[row] else drawn)
            if b == second[row]
        ]


def brute_tar(genuine, impostor, fmr):
    return np.mean(genuine > min(t for t in impostor if np.mean(impostor > t) <= fmr))


@given(people, st.integers(0, 9), rates)
def test_people_drawn_again_are_pairs_repeated(rows, seed, fmr):
    values, same, first, second = pairs_of(rows)
    found = v.bootstrap_people(values, same, first, second, [fmr], repeats=8, seed=seed)
    tars, eers = [], []
    for again in repeated(seed, 8, same, first, second):
        genuine, impostor = values[again][same[again]], values[again][~same[again]]
        if len(genuine) and len(impostor):
            tars.append(brute_tar(genuine, impostor, fmr))
            eers.append(v.eer(genuine, impostor))
    assert found.eer == pytest.approx(percentiles(eers), nan_ok=True)
    if fmr < 1 / np.sum(~same):
        assert found.tar == (None,)
    else:
        assert found.tar[0] == pytest.approx(percentiles(tars), nan_ok=True)


@given(people, st.integers(0, 9))
def test_accuracy_of_people_drawn_again_is_that_of_pairs_repeated(rows, seed):
    values, same, first, second = pairs_of(rows)
    folds = np.arange(len(same)) % 3
    found = v.bootstrap_people_accuracy(values, same, folds, first, second, repeats=8, seed=seed)
    accuracies = [
        v.kfold_accuracy(values[again], same[again], folds[again]).accuracy
        for again in repeated(seed, 8, same, first, second)
        if len(np.unique(folds[again])) > 1
    ]
    assert found == pytest.approx(percentiles(accuracies), nan_ok=True)


def test_people_who_share_their_errors_widen_the_interval():
    rng = np.random.default_rng(0)
    first, second = np.repeat(np.arange(40), 50), np.repeat(np.arange(40), 50)
    genuine = np.repeat(rng.normal(2, 1, 40), 50)  # every pair of a person is as good as another
    a, b = rng.integers(40, size=2000), rng.integers(1, 40, size=2000)
    values, same = np.append(genuine, rng.normal(0, 1, 2000)), np.arange(4000) < 2000
    ((low, high),) = v.bootstrap_people(
        values, same, np.append(first, a), np.append(second, (a + b) % 40), [0.01], repeats=200
    ).tar
    wilson_low, wilson_high = v.tar_at_fmr(values[same], values[~same], 0.01).interval
    assert high - low > 3 * (wilson_high - wilson_low)


@pytest.mark.parametrize(
    ("same", "first", "second", "word"),
    [
        ([True, False], [0, 1], [0, 1], "two"),
        ([True, False], [0, 1], [2, 3], "one"),
        ([True, False], [0], [0], "people"),
    ],
)
def test_pairs_of_the_wrong_people_are_refused(same, first, second, word):
    with pytest.raises(DataError, match=word):
        v.bootstrap_people([0.1, 0.2], same, first, second)
    with pytest.raises(DataError, match=word):
        v.bootstrap_people_accuracy([0.1, 0.2], same, [0, 1], first, second)


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
    [
        ([0.1], [True], [0]),
        ([0.1, 0.2], [True], [0, 1]),
        ([math.nan, 1], [True, False], [0, 1]),
        (np.zeros((3, 2)), [True, False], [0, 1]),
        (np.zeros((2, 3)), [True, False], [0, 1]),
        (np.zeros((1, 1, 2)), [True, False], [0, 1]),
    ],
)
def test_folds_that_cannot_be_judged_are_refused(values, same, folds):
    with pytest.raises(DataError):
        v.kfold_accuracy(values, same, folds)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (2, 1), (-1, 3)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(DataError):
        v.wilson(successes, trials)
