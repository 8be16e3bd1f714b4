import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.quality import comparisons
from magface.types import Embeddings


def drawn(labels, seed=0):
    return Embeddings(np.random.default_rng(seed).normal(size=(len(labels), 6)).astype(np.float32))


def brute_force(embeddings, labels, same):
    """Sorted (cosine, quality) of all pairs of one kind."""
    v = embeddings.vectors.astype(float)
    rows = [
        (v[i] @ v[j] / np.linalg.norm(v[i]) / np.linalg.norm(v[j]), min(np.linalg.norm(v[i]), np.linalg.norm(v[j])))
        for i in range(len(v))
        for j in range(i)
        if (labels[i] == labels[j]) == same
    ]
    return np.array(sorted(rows)).reshape(-1, 2)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_few_faces_give_every_pair(people):
    labels = np.array(people)
    embeddings = drawn(labels)
    for same, pairs in ((True, comparisons.genuine), (False, comparisons.impostor)):
        wanted = brute_force(embeddings, labels, same)
        if not same and not len(wanted):
            with pytest.raises(DataError, match="no two faces of different people"):
                pairs(embeddings, labels)
            continue
        found = pairs(embeddings, labels)
        np.testing.assert_allclose(np.array(sorted(zip(*found[:2], strict=True))).reshape(-1, 2), wanted, atol=1e-5)
        assert ((found.first == found.second) == same).all()
        assert np.isin(found.first, labels).all()


def test_nobody_speaks_for_all():
    labels = np.repeat([0, 1, 2], [500, 30, 2])
    found = comparisons.genuine(drawn(labels), labels)
    assert np.bincount(found.first).tolist() == [100, 100, 1]
    assert len(np.unique(found.cosine)) == 201  # none twice


def test_many_people_give_a_million_pairs_at_most(monkeypatch):
    monkeypatch.setattr(comparisons, "_MOST", 60)
    labels = np.repeat(np.arange(20), 10)
    assert len(comparisons.genuine(drawn(labels), labels).cosine) == 60


def test_of_many_faces_evenly_spaced_ones_are_compared(monkeypatch):
    monkeypatch.setattr(comparisons, "_COMPARED", 5)
    labels = np.arange(9)
    embeddings = drawn(labels)
    found = comparisons.impostor(embeddings, labels)
    every_other = comparisons.impostor(embeddings[::2], labels[::2])
    np.testing.assert_array_equal(found.cosine, every_other.cosine)
    assert len(found.cosine) == 10


def test_no_face_gives_no_pair():
    nothing = Embeddings(np.empty((0, 4), np.float32))
    assert len(comparisons.genuine(nothing, np.empty(0, int)).cosine) == 0
    with pytest.raises(DataError, match="no two faces"):
        comparisons.impostor(nothing, np.empty(0, int))
