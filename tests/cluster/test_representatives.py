import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.cluster import representative
from magface.errors import DataError
from magface.types import Embeddings


def faces(count, seed=0):
    rng = np.random.default_rng(seed)
    return Embeddings((rng.normal(size=8) + rng.normal(size=(count, 8))) * rng.uniform(1, 30, (count, 1)))


@given(st.integers(1, 40), st.integers(0, 500), st.sampled_from(["unit", "magnitude"]))
def test_largest_magnitude_among_the_nearer_half(count, seed, weighting):
    each = faces(count, seed)
    labels = np.random.default_rng(seed).integers(-1, 5, count)
    found = representative(each, labels, weighting=weighting)
    assert len(found) == labels.max() + 1
    for name, row in enumerate(found):
        rows = np.flatnonzero(labels == name)
        if not len(rows):
            assert row == -1
            continue
        centre = (each.direction if weighting == "unit" else each.vectors)[rows].astype(float).sum(axis=0)
        near = each.direction[rows] @ centre / np.linalg.norm(centre)
        half = rows[np.argsort(-near)][: len(rows) // 2 + 1]
        assert labels[row] == name
        assert each.magnitude[row] == pytest.approx(each.magnitude[half].max(), rel=1e-5)


def test_an_outlier_of_great_magnitude_is_not_shown():
    vectors = np.array([[0, 9], [0.1, 8], [0.2, 7], [7, 7.2]], np.float32)
    assert representative(Embeddings(vectors), [0] * 4).tolist() == [0]


def test_lengths_that_float32_cannot_hold_are_told_apart():
    vectors = np.array([[1, 0], [2, 0], [0, 0]], np.float32) * np.float32(1.5e38)
    assert representative(Embeddings(vectors), [0, 0, -1]).tolist() == [1]
    assert representative(Embeddings(vectors * np.float32(1e-30) * np.float32(1e-30)), [0, 0, -1]).tolist() == [1]


def test_of_equal_faces_the_first_is_shown():
    assert representative(Embeddings(np.ones((4, 3), np.float32)), [-1, 0, 0, 0]).tolist() == [1]


def test_order_of_the_faces_changes_only_the_rows():
    each = faces(60)
    labels = np.arange(60) % 7
    order = np.random.default_rng(1).permutation(60)
    assert order[representative(each[order], labels[order])].tolist() == representative(each, labels).tolist()


@pytest.mark.parametrize("count", [0, 3])
def test_without_groups_there_is_none(count):
    assert representative(Embeddings(np.ones((count, 2), np.float32)), [-1] * count).tolist() == []


def test_faces_without_direction_have_a_representative_too():
    assert representative(Embeddings(np.zeros((2, 2), np.float32)), [0, 0]).tolist() == [0]


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="one label each"):
        representative(Embeddings(np.ones((3, 2), np.float32)), [0])
