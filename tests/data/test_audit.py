"""What is wrong with a set, against brute force over all pairs, and on sets in which the errors are known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from magface.data import audit as module
from magface.data.audit import (
    audit,
    centroids,
    chance,
    exact_copies,
    groups,
    links,
    other_cosine,
    own_cosine,
    wrong,
)


def cos(x, y):
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return x @ y / lengths if lengths else 0.0


@st.composite
def sets(draw):
    """Vectors, labels from 0 without gaps, groups of copies."""
    people = draw(st.integers(1, 5))
    labels = np.array([*range(people), *draw(st.lists(st.integers(0, people - 1), max_size=14))])
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    vectors = rng.normal(size=(len(labels), 4)).astype(np.float32)
    copies = np.array(draw(st.lists(st.integers(0, 6), min_size=len(labels), max_size=len(labels))))
    return vectors, rng.permutation(labels), copies


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Blocks of few rows, so that their edges count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", 3)
        patch.setattr(module, "_CELLS", 12)
        yield


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12))
def test_exact_copies(digests):
    found = exact_copies(digests)
    pairs = {pair for rows in found for pair in itertools.combinations(rows.tolist(), 2)}
    everything = itertools.combinations(range(len(digests)), 2)
    assert pairs == {(i, j) for i, j in everything if digests[i] and digests[i] == digests[j]}


@given(sets(), st.floats(-0.9, 0.9), st.data())
def test_links_are_all_pairs_above_the_threshold(case, threshold, data):
    vectors, _, _ = case
    rows = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(vectors)))))), int)
    expected = {(i, j): cos(vectors[i], vectors[j]) for i, j in itertools.combinations(rows.tolist(), 2)}
    found = links(vectors, threshold, rows)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert found.total == len(pairs) == len(set(pairs))
    assert {pair for pair, value in expected.items() if value > threshold + 1e-5} <= set(pairs)
    assert all(expected[pair] > threshold - 1e-5 for pair in pairs)
    np.testing.assert_allclose(found.cosine, [expected[pair] for pair in pairs], atol=1e-5)
    assert np.all(np.diff(found.cosine) <= 0)


@given(sets(), st.integers(1, 6))
def test_of_too_many_links_the_nearest_are_kept_and_all_counted(case, limit):
    everything, some = links(case[0], -0.5), links(case[0], -0.5, limit=limit)
    assert some.total == everything.total
    for name in ("first", "second", "cosine"):
        np.testing.assert_array_equal(getattr(some, name), getattr(everything, name)[:limit])


def test_equal_vectors_are_linked_in_the_order_of_their_rows():
    found = links(np.tile(np.float32([3, 0]), (7, 1)), 1.0, limit=8)
    assert found.total == 21
    assert list(zip(found.first, found.second, strict=True)) == list(itertools.combinations(range(7), 2))[:8]


@given(st.integers(1, 20), st.data())
def test_groups_are_connected_components(count, data):
    index = st.integers(0, count - 1)
    pairs = np.array(data.draw(st.lists(st.tuples(index, index), max_size=20)), int).reshape(-1, 2)
    found = groups(count, pairs[:, 0], pairs[:, 1])
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count))
    _, expected = connected_components(graph, directed=False)
    first = [int(np.flatnonzero(expected == expected[i])[0]) for i in range(count)]
    assert found.tolist() == first


@given(sets())
def test_own_and_other_cosine(case):
    vectors, labels, copies = case
    people = int(labels.max()) + 1
    own = own_cosine(vectors, labels, people, copies)
    other, nearest = other_cosine(vectors, labels, centroids(vectors, labels, people), copies)
    for i in range(len(labels)):
        rest = vectors[(labels == labels[i]) & (copies != copies[i])]
        assert np.isnan(own[i]) == (len(rest) == 0)
        if len(rest):
            assert own[i] == pytest.approx(cos(vectors[i], rest.sum(axis=0)), abs=2e-4)
        allowed = [k for k in range(people) if k not in labels[copies == copies[i]]]
        values = {k: cos(vectors[i], vectors[labels == k].sum(axis=0)) for k in allowed}
        assert (nearest[i] == -1) == np.isnan(other[i]) == (not allowed)
        if allowed:
            assert other[i] == pytest.approx(max(values.values()), abs=1e-5)
            assert values[nearest[i]] == pytest.approx(other[i], abs=1e-5)


@given(sets(), st.data())
def test_people_who_are_one_are_not_held_against_each_other(case, data):
    vectors, labels, copies = case
    people = int(labels.max()) + 1
    pairs = data.draw(st.sets(st.sampled_from([*itertools.combinations(range(people), 2)] or [(0, 0)])))
    first, second = np.array(sorted(pairs), int).reshape(-1, 2).T
    same = module.Links(first, second, np.ones(len(first), np.float32), len(first))
    _, nearest = other_cosine(vectors, labels, centroids(vectors, labels, people), copies, same)
    for i, k in enumerate(nearest.tolist()):
        assert tuple(sorted((labels[i], k))) not in pairs


@given(sets())
def test_centroids_are_sums(case):
    vectors, labels, _ = case
    people = int(labels.max()) + 1
    expected = [vectors[labels == k].astype(float).sum(axis=0) for k in range(people)]
    np.testing.assert_allclose(centroids(vectors, labels, people), expected, atol=1e-5)


def test_chance_is_the_normal_quantile_of_all_pairs():
    from scipy.stats import norm

    vectors = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32) + 1
    cosines = [cos(x, y) for x, y in itertools.combinations(vectors.astype(float), 2)]
    expected = norm(np.mean(cosines), np.std(cosines)).isf(0.1 / len(cosines))
    assert chance(vectors) == pytest.approx(expected, abs=1e-6)
    assert chance(vectors[:49]) == -1
    assert chance(np.ones((60, 2), np.float32)) == pytest.approx(1)


def test_what_chance_promises_holds_for_vectors_of_no_person():
    vectors = np.random.default_rng(0).normal(size=(700, 128)).astype(np.float32)
    assert 3 <= links(vectors, chance(vectors, pairs=10)).total <= 25


def test_wrong_needs_an_own_person():
    nan = np.nan
    own, other = np.float32([nan, 0.29, 0.31, 0.61, 0.3, 0.6]), np.float32([0.9, nan, 0.59, 0.6, 0.1, 0.6])
    assert wrong(own, other, far=np.float32(0.3), agree=np.float32(0.6)).tolist() == [0, 1, 0, 0, 0, 0]


class Planted:
    """60 people of 8 images in 64 dimensions; then errors, each on people of its own."""

    def __init__(self, rng):
        centres = rng.normal(size=(60, 64))
        self.labels = np.repeat(np.arange(60), 8)
        self.vectors = (centres[self.labels] + 0.6 * rng.normal(size=(480, 64))).astype(np.float32)
        self.swapped = np.arange(0, 80, 8)  # the first image of ten people, each to the next
        self.labels[self.swapped] = np.roll(self.labels[self.swapped], 1)
        self.labels[20 * 8 : 20 * 8 + 4] = 60  # half a person under another name
        self.digests = [str(row) for row in range(480)]
        self.digests[301] = self.digests[300]
        self.vectors[301] = self.vectors[300]
        self.vectors[310] = self.vectors[311] * 1.1 + 0.05 * rng.normal(size=64)
        self.vectors[400] = self.vectors[330]  # one image under two names
        self.digests[400] = self.digests[330]


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_are_found_and_nothing_else(seed):
    planted = Planted(np.random.default_rng(seed))
    found = audit(planted.vectors, planted.labels, planted.digests, far=0.3, sure=0.4)
    assert np.flatnonzero(found.wrong).tolist() == [*planted.swapped.tolist(), 400]
    assert [rows.tolist() for rows in found.exact] == [[300, 301], [330, 400]]
    assert list(zip(found.near.first, found.near.second, strict=True)) == [(310, 311)]
    assert list(zip(found.same.first, found.same.second, strict=True)) == [(20, 60)]
    assert found.agree > 0.4


def test_a_wrong_image_is_found_although_its_copy_vouches_for_it():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2, 32))
    vectors = np.concatenate([centres[[0, 0, 0, 1]], centres[[1, 1, 1]]])
    vectors = (vectors + 0.3 * rng.normal(size=vectors.shape)).astype(np.float32)
    vectors = np.concatenate([vectors, vectors[3:4]])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 0])
    found = audit(vectors, labels, list("abcdefgd"), far=0.3, sure=0.4)
    assert np.flatnonzero(found.wrong).tolist() == [3, 7]


def test_swapped_images_do_not_make_two_people_one():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 5)
    vectors = (np.eye(8)[[1, 0, 0, 0, 0, 0, 1, 1, 1, 1]] + 0.1 * rng.normal(size=(10, 8))).astype(np.float32)
    assert links(centroids(vectors, labels, 2), 0.4).total == 1
    found = audit(vectors, labels, [""] * 10, far=0.3, sure=0.4, copy=1.1)
    assert len(found.same) == 0
    assert np.flatnonzero(found.wrong).tolist() == [0, 5]
    assert found.nearest[[0, 5]].tolist() == [1, 0]


def test_little_there():
    one = audit(np.ones((1, 3), np.float32), np.zeros(1, int), ["a"], far=0.3, sure=0.4)
    assert (one.exact, len(one.near), len(one.same), one.wrong.tolist()) == ([], 0, 0, [False])
    zeros = audit(np.zeros((4, 3), np.float32), np.array([0, 0, 1, 1]), [""] * 4, far=0.3, sure=0.4)
    assert zeros.wrong.all()
