"""Neighbours against a matrix of all cosines."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.cluster import neighbours
from magface.errors import DataError
from magface.types import Embeddings


def people(count, persons, seed=0, spread=0.6, size=32):
    rng = np.random.default_rng(seed)
    person = rng.integers(persons, size=count)
    vectors = rng.normal(size=(persons, size))[person] + rng.normal(size=(count, size)) * spread
    return Embeddings(vectors * rng.uniform(1, 30, (count, 1))), person


def all_cosines(faces):
    cosine = faces.direction @ faces.direction.T
    np.fill_diagonal(cosine, -np.inf)
    return cosine


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    monkeypatch.setattr(neighbours, "_COLUMNS", 11)


@pytest.fixture
def cells(monkeypatch):
    """Cells for a few thousand faces already."""
    monkeypatch.setattr(neighbours, "_FEW", 100)


@given(st.integers(2, 60), st.integers(1, 70), st.integers(0, 1000))
def test_exact_neighbours_are_the_largest_of_all_cosines(count, k, seed):
    faces, _ = people(count, 5, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_ROWS", 7)
        patch.setattr(neighbours, "_COLUMNS", 11)
        found = neighbours.exact(faces, k)
    cosine, kept = all_cosines(faces), min(k, count - 1)
    np.testing.assert_allclose(found.cosine[:, :kept], -np.sort(-cosine, axis=1)[:, :kept], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosine, found.index[:, :kept], 1), found.cosine[:, :kept], atol=1e-5)
    assert all(len(set(row)) == kept for row in found.index[:, :kept].tolist())
    assert (found.index[:, kept:] == neighbours.NONE).all()
    assert (found.cosine[:, kept:] == -1).all()


def test_dtypes_and_shapes():
    found = neighbours.exact(people(20, 3)[0], 4)
    assert (found.index.dtype, found.cosine.dtype, found.index.shape, len(found)) == (np.int64, np.float32, (20, 4), 20)


@pytest.mark.parametrize("search", [neighbours.exact, neighbours.approximate])
@pytest.mark.parametrize("count", [0, 1])
def test_nobody_has_neighbours_among_fewer_than_two(search, count):
    assert (search(Embeddings(np.ones((count, 4), np.float32)), 3).index == np.full((count, 3), -1)).all()


@pytest.mark.usefixtures("small_blocks")
def test_copies_are_neighbours_and_no_face_is_its_own():
    faces = Embeddings(np.tile(np.array([[1.0, 2.0, 2.0]], np.float32), (40, 1)))
    found = neighbours.exact(faces, 5)
    assert (found.index != np.arange(40)[:, None]).all()
    np.testing.assert_allclose(found.cosine, 1, atol=1e-6)


def test_a_face_without_direction_has_cosine_0_with_all():
    found = neighbours.exact(Embeddings(np.array([[0, 0], [3, 4], [-3, -4]], np.float32)), 2)
    assert found.cosine[0].tolist() == [0, 0]
    assert found.index[1].tolist() == [0, 2]


@pytest.mark.usefixtures("small_blocks")
def test_opposite_faces_are_neighbours_where_there_are_no_others():
    found = neighbours.exact(Embeddings(np.array([[1, 0], [-1, 0]] * 10, np.float32)), 19)
    assert (np.sort(found.index, axis=1) == [np.delete(np.arange(20), i) for i in range(20)]).all()
    assert (np.sum(found.cosine == -1, axis=1) == 10).all()


def test_order_of_the_faces_changes_only_the_rows():
    faces, _ = people(200, 10)
    order = np.random.default_rng(1).permutation(200)
    found, permuted = neighbours.exact(faces, 6), neighbours.exact(faces[order], 6)
    assert (order[permuted.index] == found.index[order]).all()


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("recall", [0.9, 0.99])
def test_approximate_neighbours_have_the_recall_asked_for(recall):
    faces, _ = people(4000, 200)
    truth, found = neighbours.exact(faces, 10), neighbours.approximate(faces, 10, recall=recall)
    hit = (truth.index[:, :, None] == found.index[:, None, :]).any(axis=2)
    assert hit.mean() >= recall - 0.02  # it was measured on 512 of them
    cosine = np.take_along_axis(all_cosines(faces), found.index, 1)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-5)
    assert (np.diff(found.cosine, axis=1) <= 0).all()
    assert (found.index != np.arange(4000)[:, None]).all()


@pytest.mark.usefixtures("cells")
def test_neighbours_near_the_floor_hardly_count_for_recall(monkeypatch):
    faces, _ = people(3000, 300)
    noise, _ = people(3000, 3000, seed=1)  # their neighbours are anybody
    both = Embeddings.concatenate([faces, noise])
    looked = []
    search = neighbours._search
    monkeypatch.setattr(neighbours, "_search", lambda cells, *rest: looked.append(cells.nprobe) or search(cells, *rest))
    truth, found = neighbours.exact(both, 8), neighbours.approximate(both, 8, recall=0.95, floor=0.5)
    weight = np.maximum(truth.cosine - 0.5, 0)
    hit = (truth.index[:, :, None] == found.index[:, None, :]).any(axis=2)
    assert weight[hit].sum() >= 0.93 * weight.sum()
    few = max(looked)
    neighbours.approximate(both, 8, recall=0.95)
    assert max(looked) > few


@pytest.mark.usefixtures("cells")
def test_one_seed_gives_one_result_on_any_number_of_threads():
    import faiss

    faces, _ = people(3000, 100)
    threads = faiss.omp_get_max_threads()
    results = []
    for count in (1, 2, 1):
        faiss.omp_set_num_threads(count)
        results.append(neighbours.approximate(faces, 8, seed=3))
        assert faiss.omp_get_max_threads() == count
    faiss.omp_set_num_threads(threads)
    for other in results[1:]:
        assert np.array_equal(results[0].index, other.index)
        assert np.array_equal(results[0].cosine, other.cosine)


@pytest.mark.usefixtures("cells")
def test_copies_and_faces_without_direction_have_cells_too():
    vectors = np.ones((1000, 8), np.float32)
    vectors[::3] = 0
    found = neighbours.approximate(Embeddings(vectors), 5, recall=0.5)
    assert (found.index != np.arange(1000)[:, None]).all()
    assert np.isin(found.cosine.round(5), [0, 1, -1]).all()


def test_few_faces_are_compared_exactly():
    faces, _ = people(300, 20)
    assert np.array_equal(neighbours.approximate(faces, 5).index, neighbours.exact(faces, 5).index)


def test_memory_grows_with_the_faces_and_not_with_their_square(monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", 256)
    monkeypatch.setattr(neighbours, "_COLUMNS", 1024)
    faces, _ = people(8000, 100)
    tracemalloc.start()
    neighbours.exact(faces, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8000 * 8000 / 8  # bytes; all cosines are 4 N^2


@pytest.mark.parametrize("search", [neighbours.exact, neighbours.approximate])
def test_a_face_needs_a_neighbour(search):
    with pytest.raises(DataError, match="at least one"):
        search(people(5, 2)[0], 0)


@pytest.mark.parametrize("recall", [0, 1.5, float("nan")])
def test_what_is_no_share_is_refused(recall):
    with pytest.raises(DataError, match="recall"):
        neighbours.approximate(people(5, 2)[0], 2, recall=recall)
