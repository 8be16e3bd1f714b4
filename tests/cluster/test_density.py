"""DBSCAN and HDBSCAN against scikit-learn on all distances."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import DBSCAN, HDBSCAN

from magface.cluster import UNKNOWN, dbscan, density, hdbscan
from magface.cluster.neighbours import exact
from magface.errors import DataError
from magface.metrics.clustering import pairwise
from magface.types import Embeddings


def people(count, persons, seed=0, spread=0.7, size=16):
    rng = np.random.default_rng(seed)
    person = rng.integers(persons, size=count)
    vectors = rng.normal(size=(persons, size))[person] + rng.normal(size=(count, size)) * spread
    return Embeddings(vectors * rng.uniform(1, 30, (count, 1))), person


def trust(faces):
    return np.minimum(1, faces.magnitude / np.quantile(faces.magnitude, 0.1))


def same_groups(first, second):
    return (np.equal.outer(first, first) == np.equal.outer(second, second)).all()


@given(
    *(st.integers(1, 60), st.integers(1, 8), st.integers(0, 1000), st.floats(-0.1, 0.95)),
    *(st.sampled_from([1, 1.5, 2, 3]), st.sampled_from(["unit", "magnitude"])),
)
def test_cores_and_their_groups_are_those_of_scikit_learn(count, persons, seed, threshold, least, weighting):
    faces, _ = people(count, persons, seed)
    distance = 1 - np.clip(faces.direction @ faces.direction.T, -1, 1).astype(float)
    np.fill_diagonal(distance, 0)
    weight = trust(faces) if weighting == "magnitude" else np.ones(count)
    model = DBSCAN(eps=max(1 - threshold, 1e-9), min_samples=1, metric="precomputed")
    reach = distance <= model.eps
    core = (reach @ weight) >= least - 1e-6  # scikit-learn wants whole numbers of samples
    found = dbscan(faces, threshold, least=least, weighting=weighting)
    assert (found[core] >= 0).all()
    if core.any():
        assert same_groups(found[core], model.fit_predict(distance[np.ix_(core, core)]))
    for row in np.flatnonzero(~core):
        near = np.where(core & reach[row], distance[row], np.inf)
        expected = found[near.argmin()] if core.any() and np.isfinite(near.min()) else UNKNOWN
        assert found[row] == expected


@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 1000), st.floats(0.1, 0.95), st.integers(2, 4))
def test_faces_of_no_group_are_the_noise_of_scikit_learn(count, persons, seed, threshold, least):
    faces, _ = people(count, persons, seed)
    model = DBSCAN(eps=1 - threshold, min_samples=least, metric="precomputed")
    distance = 1 - np.clip(faces.direction @ faces.direction.T, -1, 1).astype(float)
    np.fill_diagonal(distance, 0)
    assert ((dbscan(faces, threshold, least=least) >= 0) == (model.fit_predict(distance) >= 0)).all()


def test_poor_faces_alone_make_no_group_and_no_bridge():
    angles = np.radians([0, 5, 25, 45, 50, 90, 95])
    magnitude = np.array([20, 20, 1, 20, 20, 1, 1] + [20] * 20)
    angles = np.concatenate([angles, np.radians(np.linspace(150, 340, 20))])
    faces = Embeddings(np.stack([np.cos(angles), np.sin(angles)], axis=1) * magnitude[:, None])
    threshold = np.cos(np.radians(21))
    plain, aware = (dbscan(faces, threshold, least=3, weighting=weighting)[:7] for weighting in ("unit", "magnitude"))
    assert len(set(plain[:5])) == 1
    assert aware[0] == aware[1] != aware[3] == aware[4] or set(aware[:5]) == {UNKNOWN}
    least_two = dbscan(faces, threshold, least=2, weighting="magnitude")
    assert least_two[5:7].tolist() == [UNKNOWN] * 2
    assert (dbscan(faces, threshold)[5:7] >= 0).all()


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
@pytest.mark.parametrize(
    "algorithm",
    [lambda faces, w: dbscan(faces, 0.6, weighting=w, least=3), lambda faces, w: hdbscan(faces, weighting=w)],
)
def test_order_and_common_scale_change_nothing(algorithm, weighting):
    faces, _ = people(200, 15)
    found = algorithm(faces, weighting)
    order = np.random.default_rng(1).permutation(200)
    assert same_groups(algorithm(faces[order], weighting), found[order])
    assert (algorithm(Embeddings(faces.vectors * 256), weighting) == found).all()


@pytest.mark.parametrize("algorithm", [lambda faces: dbscan(faces, 0.6), hdbscan])
def test_unit_weights_do_not_see_magnitudes(algorithm):
    faces, _ = people(200, 15)
    assert same_groups(algorithm(Embeddings(faces.direction)), algorithm(faces))


@settings(max_examples=60)
@given(
    *(st.integers(4, 60), st.integers(2, 8), st.integers(0, 1000), st.integers(2, 4)),
    st.sampled_from(["unit", "magnitude"]),
)
def test_all_neighbours_give_the_tree_of_all_distances(count, persons, seed, least, weighting):
    faces, _ = people(count, persons, seed)
    distance = np.sqrt(np.maximum(2 - 2 * (faces.direction @ faces.direction.T).astype(float), 0))
    np.fill_diagonal(distance, 0)
    weight = trust(faces) if weighting == "magnitude" else np.ones(count)
    core = np.sort(distance, axis=1)[:, least - 1] / weight
    reach = np.maximum(distance, np.maximum.outer(core, core))
    np.fill_diagonal(reach, 0)
    joined = squareform(cophenet(linkage(squareform(reach, checks=False), "single")))
    tree = density._spanning_tree(density._reachability(exact(faces, count - 1), least, weight))
    assert tree.nnz == 2 * (count - 1)
    edges = np.where(tree.toarray() > 0, tree.toarray(), 9)
    found = squareform(cophenet(linkage(squareform(edges, checks=False), "single")))
    assert found == pytest.approx(joined, abs=2e-3)  # of near copies: float32 cosines under a root


@given(st.integers(4, 60), st.integers(2, 8), st.integers(0, 1000))
def test_groups_of_two_are_those_of_scikit_learn(count, persons, seed):
    faces, _ = people(count, persons, seed)
    expected = HDBSCAN(min_cluster_size=2, copy=True).fit_predict(faces.direction.astype(float))
    assert same_groups(hdbscan(faces, neighbours=count), expected)


def test_plain_hdbscan_is_that_of_scikit_learn():
    faces, person = people(400, 12, spread=0.4)
    expected = HDBSCAN(min_cluster_size=4, copy=True).fit_predict(faces.direction.astype(float))
    found = hdbscan(faces, least=4, neighbours=399)
    assert same_groups(found, expected)
    assert pairwise(person, found).f > 0.9


def test_few_neighbours_find_people_too():
    faces, person = people(900, 30, spread=0.3)
    found = hdbscan(faces, least=5, neighbours=8)
    known = found >= 0
    assert known.mean() > 0.9
    assert pairwise(person[known], found[known]).f > 0.97


def test_copies_are_one_group():
    vectors = np.repeat(np.array([[1, 0, 0], [0, 1, 0], [-1, -0.5, 1]], np.float32), [5, 4, 1], axis=0)
    faces = Embeddings(vectors * 9)
    assert dbscan(faces, 0.9).tolist() == [0] * 5 + [1] * 4 + [UNKNOWN]
    assert hdbscan(faces).tolist() == [0] * 5 + [1] * 4 + [UNKNOWN]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_faces(count):
    faces = Embeddings(np.ones((count, 4), np.float32))
    for weighting in ("unit", "magnitude"):
        assert dbscan(faces, 0.5, weighting=weighting).tolist() == [UNKNOWN] * count
        assert hdbscan(faces, weighting=weighting).tolist() == [UNKNOWN] * count


@pytest.mark.parametrize("threshold", [-1, 0, 0.5])
def test_faces_without_direction_are_unknown(threshold):
    faces = Embeddings(np.array([[0, 0], [1, 0], [1, 0.1], [0, 0]], np.float32))
    assert dbscan(faces, threshold).tolist() == [UNKNOWN, 0, 0, UNKNOWN]
    assert hdbscan(Embeddings(np.zeros((3, 2), np.float32))).tolist() == [UNKNOWN] * 3


@pytest.mark.parametrize("call", [lambda faces: dbscan(faces, 1.5), lambda faces: dbscan(faces, float("nan"))])
def test_what_is_no_cosine_is_refused(call):
    with pytest.raises(DataError, match="cosine"):
        call(Embeddings(np.ones((2, 2), np.float32)))


def test_groups_of_one_and_too_few_neighbours_are_refused():
    faces = Embeddings(np.ones((5, 2), np.float32))
    with pytest.raises(DataError, match="at least 2 faces"):
        hdbscan(faces, least=1)
    with pytest.raises(DataError, match="at least 4 neighbours"):
        hdbscan(faces, least=5, neighbours=3)


def test_more_pairs_than_fit_into_memory_are_refused(monkeypatch):
    monkeypatch.setattr(density, "PAIRS", 40)
    faces = Embeddings(np.ones((10, 2), np.float32))
    with pytest.raises(DataError, match=r"45 pairs of faces reach the cosine 0\.5, more than the 40 "):
        dbscan(faces, 0.5)


@pytest.mark.parametrize("algorithm", [lambda faces: dbscan(faces, 0.9), lambda faces: hdbscan(faces, neighbours=16)])
def test_memory_does_not_grow_with_the_square_of_the_faces(algorithm):
    faces, _ = people(6000, 600, size=64)
    hdbscan(faces[:10])  # imports
    tracemalloc.start()
    algorithm(faces)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000 * 6000 * 4  # bytes of all cosines in float32
