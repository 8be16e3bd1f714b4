"""Measures of groups against scikit-learn and against visiting every face and pair."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

from magface.errors import DataError
from magface.metrics.clustering import (
    adjusted_rand_index,
    bcubed,
    bcubed_faces,
    normalised_mutual_information,
    pairwise,
    purity,
)

labels = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=40)
MEASURES = (
    adjusted_rand_index,
    bcubed_faces,
    bcubed,
    normalised_mutual_information,
    pairwise,
    purity,
)


def alone(rows):
    """Identities, and groups in which faces without one have a group of their own."""
    return [a for a, _ in rows], [100 + index if b < 0 else b for index, (_, b) in enumerate(rows)]


@given(labels)
def test_counts_are_those_of_visiting_every_pair(rows):
    visited = [(a[0] == b[0], a[1] == b[1] >= 0) for a, b in itertools.combinations(rows, 2)]
    found = pairwise([r[0] for r in rows], [r[1] for r in rows])
    assert found.same == sum(same for same, _ in visited)
    assert found.together == sum(together for _, together in visited)
    assert found.correct == sum(same and together for same, together in visited)


@given(labels.filter(lambda rows: len(rows) > 1))
def test_scores_are_scikit_learns(rows):
    identity, group = alone(rows)
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


@given(labels)
def test_bcubed_is_that_of_visiting_every_face(rows):
    precision, recall = bcubed_faces([a for a, _ in rows], [b for _, b in rows])
    identity, group = alone(rows)
    for i, (a, b) in enumerate(zip(identity, group, strict=True)):
        person = {j for j, other in enumerate(identity) if other == a}
        together = {j for j, other in enumerate(group) if other == b}
        assert precision[i] == len(person & together) / len(together)
        assert recall[i] == len(person & together) / len(person)
    if rows:
        found = bcubed(identity, group)
        p, r = precision.mean(), recall.mean()
        assert (found.precision, found.recall, found.f) == pytest.approx((p, r, 2 * p * r / (p + r)))


@given(labels.filter(len))
def test_information_rand_and_purity_are_scikit_learns(rows):
    identity, group = [a for a, _ in rows], [b for _, b in rows]
    apart = alone(rows)
    information = normalised_mutual_information(identity, group)
    # where one side tells nothing and the other something, both are 0; two single groups tell all
    assert information == pytest.approx(normalized_mutual_info_score(*apart), abs=1e-9)
    assert adjusted_rand_index(identity, group) == pytest.approx(adjusted_rand_score(*apart), abs=1e-12)
    assert purity(identity, group) == contingency_matrix(*apart).max(axis=0).sum() / len(rows)


def test_measures_of_groups_that_are_the_people_are_1():
    identity, group = ["b", "a", "a", "c"], [3, 1, 1, -1]
    assert bcubed(identity, group).f == purity(identity, group) == adjusted_rand_index(identity, group) == 1
    assert normalised_mutual_information(identity, group) == pytest.approx(1)


def test_no_faces_agree():
    assert bcubed([], []).f == purity([], []) == adjusted_rand_index([], []) == 1
    assert normalised_mutual_information([], []) == 1


def test_many_pairs_are_counted_without_overflow():
    groups = np.zeros(100_000, np.int32)
    assert pairwise(groups, groups).same == 100_000 * 99_999 // 2
    assert adjusted_rand_index(groups, groups) == 1


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("group", [[0], [[0, 1]], []])
def test_lengths_that_differ_are_refused(measure, group):
    with pytest.raises(DataError, match="each face needs one identity and one group"):
        measure([0, 1], group)
