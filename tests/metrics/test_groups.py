"""Differences and rates of groups, beside scikit-learn and plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from magface.errors import DataError
from magface.metrics.groups import differences, match_rate


def unit(rows, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 6))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_without_controls_they_are_those_of_the_means():
    rng = np.random.default_rng(0)
    group, scores = rng.integers(4, size=500), rng.normal(size=500)
    found = differences(scores, group)
    expected = [scores[group == g].mean() - scores.mean() for g in range(4)]
    np.testing.assert_allclose(found.value, expected, atol=1e-10)
    assert found.ends == (int(np.argmax(expected)), int(np.argmin(expected)))
    assert found.gap == pytest.approx(max(expected) - min(expected))


def test_with_controls_they_are_those_of_a_regression():
    rng = np.random.default_rng(1)
    group, x = rng.integers(3, size=400), rng.normal(5, 3, size=(400, 2))
    scores = np.array([0, 2, 5])[group] + x @ [1, -2] + rng.normal(size=400)
    found = differences(scores, group, x)
    fitted = LinearRegression(fit_intercept=False).fit(np.hstack([np.eye(3)[group], x]), scores)
    alpha = fitted.coef_[:3]
    np.testing.assert_allclose(found.value, alpha - np.bincount(group) / 400 @ alpha, atol=1e-8)


def test_a_difference_of_pictures_alone_vanishes_at_equal_pictures():
    rng = np.random.default_rng(2)
    group = rng.integers(2, size=2000)
    sharpness = rng.normal(group, 1)
    scores = 10 * sharpness + rng.normal(size=2000)
    raw, adjusted = differences(scores, group), differences(scores, group, sharpness[:, None])
    assert raw.gap > 9
    assert raw.gap_interval[0] > 8
    assert abs(adjusted.gap) < 0.3
    assert (adjusted.interval[:, 0] < 0).all()
    assert (adjusted.interval[:, 1] > 0).all()


def test_intervals_are_those_of_the_theory():
    rng = np.random.default_rng(3)
    group, scores = np.arange(4000) % 2, rng.normal(0, 5, 4000)
    found = differences(scores, group, repeats=600)
    low, high = found.gap_interval
    assert high - low == pytest.approx(2 * 1.96 * 5 * math.sqrt(2 / 2000), rel=0.12)


def test_a_control_that_never_changes_does_no_harm():
    group, scores = np.arange(20) % 2, np.arange(20.0)
    np.testing.assert_allclose(
        differences(scores, group, np.ones((20, 1))).value, differences(scores, group).value, atol=1e-9
    )


@pytest.mark.parametrize(
    ("scores", "group", "controls"),
    [
        ([1.0, 2.0], [0], None),
        ([], [], None),
        ([1.0, 2.0], [0, 2], None),
        ([1.0, math.nan], [0, 1], None),
        ([1.0, 2.0], [0, 1], [[1.0]]),
        ([1.0, 2.0], [0, 1], [[1.0], [math.inf]]),
    ],
)
def test_what_cannot_be_compared_is_refused(scores, group, controls):
    with pytest.raises(DataError):
        differences(scores, group, controls)


@given(st.integers(0, 1200), st.floats(-1, 1), st.booleans())
def test_every_pair_counts_once(rows, threshold, across):
    rows = rows if rows > 1000 else rows % 40
    x, group = unit(rows, rows), np.arange(rows) % 3
    cosine = x @ x.T
    counted = np.triu(np.ones_like(cosine), 1) > 0
    if across:
        counted &= group[:, None] != group
    found = match_rate(x, threshold, group if across else None, repeats=3)
    assert found.comparisons == counted.sum()
    assert abs(found.accepted - (cosine >= threshold)[counted].sum()) <= 1  # a block may round another way
    if found.comparisons:
        assert found.rate == found.accepted / found.comparisons
    else:
        assert math.isnan(found.rate)


def test_intervals_of_rates_draw_images_not_pairs():
    x = np.repeat(np.eye(60, dtype=np.float32), 2, axis=0)  # each image has a copy
    found = match_rate(x, 0.5, repeats=500)
    assert found.accepted == 60
    low, high = found.interval
    assert low < found.rate < high
    assert match_rate(np.eye(5), 0.5).interval is None


def test_drawn_rates_are_those_of_the_drawn_images():
    x, group = unit(30, 5), np.arange(30) % 4
    found = match_rate(x, 0.2, group, repeats=40, seed=9)
    rng = np.random.default_rng(9)
    rates = []
    for _ in range(40):
        drawn = rng.integers(30, size=30)
        pairs = [(i, j) for k, i in enumerate(drawn) for j in drawn[:k] if group[i] != group[j]]
        rates.append(np.mean([x[i] @ x[j] >= 0.2 for i, j in pairs]))
    np.testing.assert_allclose(found.interval, np.quantile(rates, [0.025, 0.975]), rtol=1e-6)


def test_draws_without_a_face_of_a_group_say_nothing_of_it():
    scores, group = np.array([50.0, 52.0, 51.0, 53.0, 60.0]), [0, 0, 0, 0, 1]
    found = differences(scores, group)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(300):
        rows = rng.integers(5, size=5)
        if 4 in rows:
            drawn.append(60 - scores[rows].mean())
    assert 150 < len(drawn) < 300
    np.testing.assert_allclose(found.interval[1], np.quantile(drawn, [0.025, 0.975]))
    lacks = next(seed for seed in range(99) if 4 not in np.random.default_rng(seed).integers(5, size=5))
    assert np.isnan(differences(scores, group, repeats=1, seed=lacks).interval[1]).all()


def test_draws_without_a_comparison_give_no_rate():
    found = match_rate(np.eye(2)[[0, 0]], 0.5, [0, 1], repeats=50)  # the one comparison is accepted where it is drawn
    assert found.interval == (1.0, 1.0)


def test_a_cosine_at_the_threshold_is_accepted():
    assert match_rate(np.eye(3)[[0, 0, 1]], 1.0).accepted == 1
