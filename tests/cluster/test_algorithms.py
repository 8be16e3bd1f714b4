import numpy as np
import pytest

from magface import cluster
from magface.cluster import ALGORITHMS, algorithms, group
from magface.cluster.graph import leiden
from magface.errors import DataError
from magface.metrics.clustering import pairwise
from magface.types import Embeddings


def people(count=300, persons=12):
    rng = np.random.default_rng(0)
    person = rng.integers(persons, size=count)
    vectors = rng.normal(size=(persons, 64))[person] + rng.normal(size=(count, 64)) * 0.3
    return Embeddings(vectors * rng.uniform(1, 30, (count, 1))), person


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_finds_people_who_are_apart(algorithm, weighting):
    faces, person = people()
    found = group(faces, algorithm, 0.6, people=12, weighting=weighting)
    assert found.dtype == np.int64
    assert pairwise(person, found).f > 0.9
    assert (np.diff(np.bincount(found[found >= 0])) <= 0).all()


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_a_name_stands_for_its_function(weighting):
    faces, _ = people()
    calls = {
        "agglomerative": lambda: cluster.average_linkage(faces, 0.6, weighting=weighting),
        "graph": lambda: leiden(faces, 0.6, weighting=weighting, seed=3),
        "dbscan": lambda: cluster.dbscan(faces, 0.6, weighting=weighting),
        "hdbscan": lambda: cluster.hdbscan(faces, weighting=weighting),
        "kmeans": lambda: cluster.kmeans(faces, 9, weighting=weighting, seed=3),
    }
    assert set(calls) == set(ALGORITHMS)
    for name, call in calls.items():
        assert group(faces, name, 0.6, people=9, weighting=weighting, seed=3).tolist() == call().tolist()


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, None])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_faces(algorithm, count):
    assert len(group(Embeddings(np.ones((count, 4), np.float32)), algorithm, 0.5, people=1)) == count


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_faces_without_direction_give_a_result(algorithm, weighting):
    found = group(Embeddings(np.zeros((3, 4), np.float32)), algorithm, 0.5, people=2, weighting=weighting)
    assert len(set(found[found >= 0])) == (found >= 0).sum()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_unknown_weighting_is_refused(algorithm):
    with pytest.raises(DataError, match="no weighting 'raw'"):
        group(people()[0], algorithm, 0.5, people=3, weighting="raw")


@pytest.mark.parametrize("algorithm", ["agglomerative", "graph", "dbscan"])
def test_what_is_no_cosine_is_refused(algorithm):
    with pytest.raises(DataError, match="cosine"):
        group(people()[0], algorithm, 1.01)


def test_the_default_goes_by_the_number_of_faces(monkeypatch):
    faces, _ = people(40)
    called = []
    monkeypatch.setattr(algorithms, "average_linkage", lambda *_, **__: called.append("agglomerative"))
    monkeypatch.setattr(algorithms, "leiden", lambda *_, **__: called.append("graph"))
    group(faces, None, 0.5)
    monkeypatch.setattr(algorithms, "LARGE", 40)
    group(faces, None, 0.5)
    assert called == ["agglomerative", "graph"]


def test_an_unknown_algorithm_and_missing_people_are_refused():
    with pytest.raises(DataError, match="no algorithm 'birch'; choose one of agglomerative, graph, dbscan"):
        group(people()[0], "birch", 0.5)
    with pytest.raises(DataError, match="kmeans needs the number of people"):
        group(people()[0], "kmeans", 0.5)
