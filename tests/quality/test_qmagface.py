import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.metrics.verification import tar_at_fmr, threshold_at_fmr
from magface.models.card import Comparison
from magface.quality import qmagface
from magface.quality.qmagface import PUBLISHED, fit, line, problem, score, search

FMRS = (1e-1, 1e-2)
positive = st.floats(1e-3, 10)
cosines = st.floats(-1, 1)
magnitudes = st.floats(0, 110)


def people(seed, loss, alike=0.0, count=60, unit=1.0):
    """Pairs of `count` people: genuine cosines lose `loss`, impostor ones gain `alike`, from best quality to worst."""
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(count, 1)
    first, second = np.tile(first, 8), np.tile(second, 8)
    own = np.repeat(np.arange(count), 60)
    first, second = np.append(first, own), np.append(second, own)
    bad = rng.beta(1, 3, len(first))
    mean = np.where(first == second, 0.7 - loss * bad, alike * bad)
    return rng.normal(mean, 0.1).clip(-1, 1), unit * (25 - 20 * bad), first, second


@pytest.mark.parametrize(("name", "end"), [("iresnet18", 0.686), ("iresnet50", 0.636), ("iresnet100", 0.615)])
def test_published_constants_take_nothing_off_high_cosines(name, end):
    constants = PUBLISHED[f"{name}-magface"]
    assert round(constants.alpha / constants.beta, 3) == end
    assert score(end + 0.001, 25.0, constants) == end + 0.001
    assert score(end - 0.001, 25.0, constants) < end - 0.001


@given(cosines, magnitudes, positive, positive)
def test_score_is_the_formula(s, q, alpha, beta):
    omega = beta * s - alpha
    wanted = s + q * omega if omega < 0 else s
    assert score(s, q, Comparison(alpha, beta)) == pytest.approx(wanted, abs=1e-9)


@given(st.lists(cosines, min_size=2, max_size=2), st.lists(magnitudes, min_size=2, max_size=2), positive, positive)
def test_score_rises_with_the_cosine_and_never_with_the_quality(s, q, alpha, beta):
    constants = Comparison(alpha, beta)
    low, high = score(sorted(s), q[0], constants)
    assert low <= high
    assert high - low >= (max(s) - min(s)) * (1 - 1e-9) - 1e-9 or q[0] == 0
    worse, better = score(s[0], sorted(q), constants)
    assert better <= worse


def test_score_keeps_the_shape():
    assert score(np.zeros((2, 3), np.float32), np.ones(3, np.float32), PUBLISHED["iresnet50-magface"]).shape == (2, 3)


def test_gain_is_found_where_genuine_pairs_lose_with_quality_and_holds_on_others():
    found = fit(*people(0, loss=0.6), fmrs=FMRS)
    assert found.comparison is not None, found.reason
    assert found.gain > 0.2
    assert found.gain > 2 * found.error
    assert "fewer false non-matches" in found.reason
    assert len(found.folds) == qmagface.FOLDS
    s, q, first, second = people(1, loss=0.6)
    same = first == second
    values = score(s, q, found.comparison)
    for fmr in FMRS:
        ours, plain = (tar_at_fmr(x[same], x[~same], fmr).tar for x in (values, s))
        assert 1 - ours < 0.9 * (1 - plain)
    for threshold in found.comparison.thresholds:
        assert np.mean(values[~same] >= threshold.score) == pytest.approx(threshold.fmr, rel=0.25)


def test_thresholds_are_those_of_the_score():
    s, q, first, second = people(0, loss=0.6)
    found = fit(s, q, first, second, fmrs=(*FMRS, 1e-6))
    assert found.comparison is not None
    impostor = score(s, q, found.comparison)[first != second]
    assert [(t.fmr, t.score) for t in found.comparison.thresholds] == [
        (fmr, threshold_at_fmr(impostor, fmr)) for fmr in FMRS
    ]


@pytest.mark.parametrize("method", ["search", "line"])
@pytest.mark.parametrize("seed", range(3))
def test_cosine_stays_where_quality_tells_nothing(method, seed):
    found = fit(*people(seed, loss=0.0), fmrs=FMRS, method=method)
    assert found.comparison is None
    assert found.reason.endswith(".")


@pytest.mark.parametrize("method", ["search", "line"])
def test_cosine_stays_where_impostors_gain_as_much_as_genuine_pairs_lose(method):
    found = fit(*people(0, loss=0.1, alike=0.5), fmrs=FMRS, method=method)
    assert found.comparison is None
    assert found.reason.endswith(".")


@pytest.mark.parametrize("unit", [0.1, 8.0])
def test_unit_of_the_quality_does_not_matter(unit):
    plain, other = (fit(*people(0, loss=0.6, unit=each), fmrs=FMRS) for each in (1.0, unit))
    assert plain.comparison is not None
    assert other.comparison is not None
    assert other.comparison.alpha * unit == pytest.approx(plain.comparison.alpha)
    assert other.comparison.beta * unit == pytest.approx(plain.comparison.beta)
    assert other.gain == pytest.approx(plain.gain)


def test_search_is_the_best_of_its_grid():
    s, q, first, second = people(3, loss=0.6, count=20)
    same = first == second
    found = search(s, q, same, FMRS)
    rates = [[1 - tar_at_fmr(x[same], x[~same], fmr).tar for fmr in FMRS] for x in (score(s, q, found), s)]
    best = np.mean(np.divide(*rates))
    assert best < 1
    for factor in (0.3, 3.0):
        other = Comparison(found.alpha * factor, found.beta * factor)
        worse = [1 - tar_at_fmr(x[same], x[~same], fmr).tar for x in [score(s, q, other)] for fmr in FMRS]
        assert np.mean(np.divide(worse, rates[1])) >= best - 0.02


def test_line_is_that_of_the_paper():
    s, q, first, second = people(4, loss=0.6, count=20)
    same = first == second
    points = []
    for fmr in np.geomspace(1e-5, 1e-2, 50):
        if fmr * np.sum(~same) < 1:
            continue
        tried = []
        for w in np.linspace(-0.5, 0.5, 20) / q.max():
            values = s + w * q
            point = tar_at_fmr(values[same], values[~same], fmr)
            tried.append((1 - point.tar, abs(w), w, point.threshold))
        _, _, w, t = min(tried)
        points.append((t, w))
    slope, offset = np.polyfit(*np.array(points).T, 1)
    assert line(s, q, same) == pytest.approx((-offset, slope), rel=1e-6)


@pytest.mark.parametrize(
    ("alpha", "beta", "said"),
    [
        (0.1, 0.0, "beta is 0"),
        (0.1, -0.1, "must be positive"),
        (-0.1, 0.1, "must be positive"),
        (0.2, 0.1, "where pictures are the same"),
        (0.03, 0.1, "no weight"),
        (np.nan, np.nan, "too few|so few"),
        (0.05, 0.1, "^$"),
    ],
)
def test_degenerate_constants_are_named(alpha, beta, said):
    assert re.search(said, problem(alpha, beta, threshold=0.4))


def test_too_little_is_said():
    s, q, first, second = people(0, loss=0.6)
    some = first != second
    assert "too few" in fit(s[some], q[some], first[some], second[some], fmrs=FMRS).reason
    assert "too few" in fit(s[::500], q[::500], first[::500], second[::500], fmrs=(1e-3,)).reason
    perfect = np.where(first == second, 1.0, 0.0)
    assert "nothing to gain" in fit(perfect, q, first, second, fmrs=FMRS).reason
    assert "tell nothing" in fit(s, 0 * q, first, second, fmrs=FMRS).reason
    pair = np.minimum(first, 1), np.minimum(second, 1)
    assert "too few people" in fit(s, q, *pair, fmrs=FMRS).reason


@pytest.mark.parametrize(
    ("s", "q", "first", "second", "fmrs", "said"),
    [
        ([0.1], [1.0, 2.0], [0], [1], FMRS, "two people"),
        ([np.nan], [1.0], [0], [1], FMRS, "NaN"),
        ([0.1], [-1.0], [0], [1], FMRS, "negative"),
        ([0.1], [1.0], [0], [1], (0.0,), "between 0 and 1"),
    ],
)
def test_wrong_arguments_are_named(s, q, first, second, fmrs, said):
    with pytest.raises(DataError, match=said):
        fit(s, q, np.array(first), np.array(second), fmrs=fmrs)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.lists(st.integers(-3, 3), min_size=20, max_size=60))
def test_rates_of_a_search_are_those_of_the_exact_thresholds(genuine, impostor):
    genuine, impostor = np.array(genuine) / 3, np.array(impostor) / 3
    rates = (0.05, 0.07, 0.29)
    fnmr, levels = qmagface._operating(genuine, impostor, rates)
    points = [tar_at_fmr(genuine, impostor, fmr) for fmr in rates]
    assert fnmr == pytest.approx([1 - point.tar for point in points])
    assert np.nextafter(levels, np.inf).tolist() == [point.threshold for point in points]


def test_a_rate_is_what_it_says_though_its_product_is_rounded_down():
    impostor = np.arange(100.0)
    assert 0.29 * 100 < 29
    assert qmagface._operating(np.array([70.5]), impostor, [0.29])[1].tolist() == [70]


def test_search_tries_the_whole_grid_at_all_rates():
    rng = np.random.default_rng(0)
    same = np.arange(1240) < 40
    q = rng.gamma(4, 5, 1240)  # the median is far from the highest
    s = np.where(same, 0.6 - 1 / (1 + q / 4), 0.0) + rng.normal(0, 0.12, 1240)
    s, rates = s.clip(-1, 1), (0.1, 0.03, 0.01)

    def missed(values):
        return np.array([1 - tar_at_fmr(values[same], values[~same], fmr).tar for fmr in rates])

    lowest = min(tar_at_fmr(s[same], s[~same], fmr).threshold for fmr in rates)
    tried = []
    for end in np.linspace(max(lowest, 0), 1, 18)[1:-1]:
        for beta in np.geomspace(0.02, 8, 14) / np.median(q):
            tried.append((np.mean(missed(s + np.minimum(0, beta * s - end * beta) * q) / missed(s)), end * beta, beta))
    best = min(each[0] for each in tried)
    assert best < 1
    first = next(each for each in tried if each[0] == best)
    found = search(s, q, same, rates)
    assert (found.alpha, found.beta) == pytest.approx(first[1:], rel=1e-6)


def test_constants_never_see_the_people_on_whom_they_are_measured(monkeypatch):
    seen = []
    monkeypatch.setitem(qmagface._METHODS, "search", lambda pairs, _: seen.append(pairs) or Comparison(0.05, 0.1))
    monkeypatch.setattr(qmagface, "_gain", lambda pairs, *_: seen.append(pairs) or 0.0)
    fit(*people(0, loss=0.6), fmrs=FMRS, folds=3)
    *halves, whole = seen
    assert len(whole.cosine) == 8 * 60 * 59 // 2 + 60 * 60
    for train, test in zip(halves[:3], halves[3:], strict=True):
        taught, judged = (set(pairs.first) | set(pairs.second) for pairs in (train, test))
        assert not taught & judged
        assert taught | judged == set(range(60))
        assert all(set(pairs.first[pairs.same]) == told for pairs, told in ((train, taught), (test, judged)))


@pytest.mark.parametrize(("folds", "kept"), [([0.3, 0.1, 0.2], True), ([0.3, 0.01, 0.2], False), ([0.0] * 3, False)])
def test_a_gain_must_be_above_twice_its_standard_error(monkeypatch, folds, kept):
    each = iter(folds)
    monkeypatch.setitem(qmagface._METHODS, "search", lambda *_: Comparison(0.05, 0.1))
    monkeypatch.setattr(qmagface, "_gain", lambda *_: next(each))
    found = fit(*people(0, loss=0.6), fmrs=FMRS, folds=3)
    mean, error = np.mean(folds), np.sqrt(np.var(folds, ddof=1) / 3)
    assert (found.gain, found.error) == pytest.approx((mean, error))
    assert (found.comparison is not None) == kept == (mean > 2 * error)


def test_a_gain_in_a_single_fold_has_no_error_and_is_not_measured():
    s, q, first, second = people(0, loss=0.6)
    inside = np.random.default_rng(0).permutation(60) % 3
    kept = (first != second) | (inside[first] == 0) | (inside[first] == 1) & (first == np.flatnonzero(inside == 1)[0])
    kept &= (inside[first] == 0) | (inside[second] == 0) | (inside[first] != inside[second]) | (first == second)
    found = fit(s[kept], q[kept], first[kept], second[kept], fmrs=FMRS, folds=3)
    assert found.comparison is None
    assert "too few people or impostor pairs" in found.reason
    assert np.isnan(found.gain)


def test_ten_impostors_suffice_for_a_rate():
    same = np.arange(1001) == 0
    assert qmagface._measurable(qmagface._Pairs.labelled(np.zeros(1001), np.ones(1001), same), FMRS) == (0.1, 0.01)
    assert qmagface._measurable(qmagface._Pairs.labelled(np.zeros(1000), np.ones(1000), same[:1000]), FMRS) == (0.1,)


def test_constants_end_within_the_open_range_of_decisions():
    assert "where pictures are the same" in problem(0.1, 0.1, threshold=0.4)
    assert "no weight" in problem(0.25, 0.5, threshold=0.5)


def test_impostors_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(qmagface, "_IMPOSTORS", 4)
    genuine, impostor = qmagface._Pairs.labelled(np.arange(12.0), np.arange(12.0), np.arange(12) >= 10).sides()
    assert genuine.cosine.tolist() == [10, 11]
    assert impostor.cosine.tolist() == impostor.quality.tolist() == [0, 3, 6, 9]


def test_a_line_weighs_quality_where_it_ends_above_the_lowest_threshold(monkeypatch):
    s, q, first, second = people(0, loss=0.6)
    impostor = s[first != second]
    low, high = (threshold_at_fmr(impostor, fmr) for fmr in FMRS)
    monkeypatch.setattr(qmagface, "_line", lambda _: ((low + high) / 2 * 0.1, 0.1))
    found = qmagface._METHODS["line"](qmagface._Pairs.of(s, q, first, second), FMRS)
    assert found == Comparison((low + high) / 2 * 0.1, 0.1)
