"""Weighted pairs are pairs that stand there several times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.metrics import quality as q
from magface.metrics.ordered import Ordered, Removed

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40)


@given(ROWS.filter(lambda rows: any(weight for *_, weight in rows)))
def test_weights_are_copies(rows):
    errors, quality, weight = (np.array(column) for column in zip(*rows, strict=True))
    copies = np.repeat(np.arange(len(rows)), weight)
    found = Ordered.of(quality).removed(errors, weight.astype(float))
    curve = q.edc(1.0 - errors[copies], quality[copies], 0.5)
    levels = np.arange(50) / 50
    np.testing.assert_allclose(found.steps(levels), q.sampled(curve, levels).error, atol=1e-12)
    limits = [0.07, 0.3, 1.0]
    np.testing.assert_allclose(found.pauc(limits), [q.pauc(curve, limit) for limit in limits], atol=1e-12)


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_best_order_is_that_of_the_scores(wrong, right):
    score = np.repeat([0.0, 1.0], [wrong, right])
    if len(score):
        best = Removed.ideal(float(wrong), float(len(score)))
        levels = np.arange(20) / 20
        np.testing.assert_allclose(best.steps(levels), q.sampled(q.ideal(score, 0.5), levels).error)


def test_without_errors_nothing_is_relative():
    own, best = Ordered.of(np.arange(4)).removed(np.zeros(4, bool)).relative([0.3])
    assert np.isnan([own, best]).all()


def test_only_places_where_errors_go_are_kept():
    found = Ordered.of(np.arange(1000)).removed(np.arange(1000) == 500)
    assert found.pairs.tolist() == [0, 500, 501, 1000]
    assert found.error(np.array([500.0, 501.0])) == pytest.approx([1 / 500, 0])


def test_levels_that_rounding_left_below_a_step_lie_on_it_and_the_best_pair_stays():
    assert 0.29 * 100 < 29
    found = Ordered.of(np.arange(100)).removed(np.arange(100) >= 28)
    assert found.steps(np.array([0.29, np.nextafter(1, 0)])) == pytest.approx([1, 1])
    assert found.steps(np.array([0.28])) == found.error(np.array([28.0]))
    one = Ordered.of(np.arange(100)).removed(np.arange(100) == 28)
    assert one.steps(np.array([0.29])) == [0]
