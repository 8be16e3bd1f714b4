"""Pair counts against scikit-learn and against visiting every pair."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.cluster import pair_confusion_matrix

from magface.errors import DataError
from magface.metrics.clustering import pairwise

labels = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=40)


@given(labels)
def test_counts_are_those_of_visiting_every_pair(rows):
    visited = [(a[0] == b[0], a[1] == b[1]) for a, b in itertools.combinations(rows, 2)]
    found = pairwise([r[0] for r in rows], [r[1] for r in rows])
    assert found.same == sum(same for same, _ in visited)
    assert found.together == sum(together for _, together in visited)
    assert found.correct == sum(same and together for same, together in visited)


@given(labels.filter(lambda rows: len(rows) > 1))
def test_scores_are_scikit_learns(rows):
    identity, group = [r[0] for r in rows], [r[1] for r in rows]
    (_, wrong), (missed, right) = pair_confusion_matrix(identity, group)
    found = pairwise(identity, group)
    assert found.precision == pytest.approx(right / (right + wrong) if right + wrong else 1)
    assert found.recall == pytest.approx(right / (right + missed) if right + missed else 1)
    if found.correct:
        assert found.f == pytest.approx(2 / (1 / found.precision + 1 / found.recall))


def test_names_may_be_strings_and_order_free():
    assert pairwise(["x", "x", "y"], ["b", "b", "a"]).f == 1


@pytest.mark.parametrize("identity", [[], [0]])
def test_fewer_than_two_faces_have_no_pairs(identity):
    found = pairwise(identity, identity)
    assert (found.f, found.same) == (1, 0)


def test_lengths_that_differ_are_refused():
    with pytest.raises(DataError):
        pairwise([0, 1], [0])
