"""Graph clustering against average linkage, planted people and its own objective by brute force."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from magface.cluster import average_linkage, graph, neighbours
from magface.cluster.graph import leiden
from magface.cluster.weighting import weights
from magface.errors import DataError
from magface.metrics.clustering import pairwise
from magface.types import Embeddings


def people(count, persons, seed=0, spread=0.6, size=64):
    """Faces of equally many pictures a person, noisier where the magnitude is small."""
    rng = np.random.default_rng(seed)
    person = rng.integers(persons, size=count)
    magnitude = rng.uniform(10, 30, (count, 1))
    vectors = rng.normal(size=(persons, size))[person] + rng.normal(size=(count, size)) * spread * 20 / magnitude
    return Embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * magnitude), person


def surplus(faces, labels, threshold):
    """The objective, pair by pair."""
    cosine = (faces.direction @ faces.direction.T).astype(float)
    same = labels[:, None] == labels[None, :]
    return (cosine - threshold)[np.triu(same, 1)].sum()


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_planted_people_are_found(weighting):
    faces, person = people(1500, 60)
    assert pairwise(person, leiden(faces, 0.4, weighting=weighting)).f > 0.995


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_a_person_has_more_faces_than_a_face_has_neighbours(weighting):
    faces, person = people(900, 3)
    assert pairwise(person, leiden(faces, 0.4, neighbours=8, weighting=weighting)).f > 0.99


def test_small_people_beside_large_ones_are_not_swallowed():
    rng = np.random.default_rng(0)
    person = np.concatenate([np.zeros(600, int), np.repeat(np.arange(1, 301), 2)])
    vectors = rng.normal(size=(301, 64))[person] + rng.normal(size=(1200, 64)) * 0.6
    assert pairwise(person, leiden(Embeddings(vectors), 0.45)).f > 0.995
    found = leiden(Embeddings(vectors), 0.45)
    assert np.mean(found[600::2] == found[601::2]) > 0.95


@pytest.mark.parametrize("threshold", [0.3, 0.4, 0.5, 0.6])
def test_surplus_is_about_that_of_average_linkage_or_more(threshold):
    ours = linkages = 0.0
    for seed in range(8):
        faces, _ = people(150, 4 + seed, seed, spread=1.0)
        found = leiden(faces, threshold, neighbours=neighbours.exact(faces, 150))
        ours += surplus(faces, found, threshold)
        linkages += surplus(faces, average_linkage(faces, threshold), threshold)
    assert ours >= 0.94 * linkages


def test_communities_maximise_the_constant_potts_model():
    """Every partition of seven nodes, against the one found by way of modularity and loops."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(30):
        first, second = np.triu_indices(7, 1)
        kept = rng.random(21) < 0.6
        linked = graph._Graph(first[kept], second[kept], rng.uniform(0.1, 1, kept.sum()), rng.uniform(0.5, 2, 7))
        best = max(potts(linked, np.array(each), 0.2) for each in partitions(7))
        shares.append(potts(linked, graph._communities(linked, 0.2, 0), 0.2) / best)
    assert max(shares) <= 1 + 1e-9
    assert np.mean(shares) > 0.98
    assert np.median(shares) > 1 - 1e-9


def potts(linked, group, threshold):
    inside = group[linked.first] == group[linked.second]
    sizes = np.bincount(group, linked.size)
    null = (np.sum(sizes**2) - np.sum(linked.size**2)) / 2
    return linked.cosines[inside].sum() - threshold * null


def partitions(count):
    """Labels of every partition, each once."""
    if count == 0:
        yield []
        return
    for labels in partitions(count - 1):
        for label in range(max(labels, default=-1) + 2):
            yield [*labels, label]


def test_a_contracted_graph_has_the_cosines_of_all_pairs():
    faces, _ = people(60, 6)
    found = neighbours.exact(faces, 10)
    weight = faces.magnitude.astype(float)
    linked = graph._linked(found, 0.3, weight)
    group = np.arange(60) % 9
    sums = np.zeros((9, 64), np.float32)
    np.add.at(sums, group, faces.vectors)
    contracted = graph._contracted(linked, group, sums)
    all_pairs = faces.vectors @ faces.vectors.T
    for a, b, cosines in zip(contracted.first, contracted.second, contracted.cosines, strict=True):
        assert a < b
        np.testing.assert_allclose(cosines, all_pairs[np.ix_(group == a, group == b)].sum(), rtol=1e-4)
    np.testing.assert_allclose(contracted.size, [weight[group == each].sum() for each in range(9)])


def test_each_link_is_there_once_whoever_found_it():
    index = np.array([[1, 2], [0, -1], [0, 1]])
    cosine = np.array([[0.9, 0.5], [0.9, -1], [0.5, 0.2]], np.float32)
    linked = graph._linked(neighbours.Neighbours(index, cosine), 0.5, np.array([1.0, 2.0, 3.0]))
    assert sorted(zip(*np.sort([linked.first, linked.second], axis=0).tolist(), strict=True)) == [(0, 1), (0, 2)]
    np.testing.assert_allclose(np.sort(linked.cosines), [1.5, 1.8], rtol=1e-6)


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_a_face_that_is_far_from_its_group_goes_to_a_better_one_or_stays_alone(weighting):
    rng = np.random.default_rng(0)
    person = np.repeat([0, 1, 2], [20, 20, 1])
    faces = Embeddings(np.eye(3, 16)[person] * 20 + rng.normal(size=(41, 16)))
    labels = np.where(np.isin(np.arange(41), [25, 40]), 0, person)  # one of the second person, and the third, are wrong
    sums = np.zeros((2, 16), np.float32)
    np.add.at(sums, labels, faces.direction * weights(faces, weighting)[:, None])
    settled = graph._settled(faces, neighbours.exact(faces, 5), 0.5, weighting, labels, sums)
    assert settled[:40].tolist() == person[:40].tolist()
    assert settled[40] not in (0, 1)


def test_no_face_stays_far_from_its_group():
    faces, _ = people(1500, 60, spread=1.2)
    labels, threshold = leiden(faces, 0.4), 0.4
    cosine = faces.direction @ faces.direction.T
    far = []
    for row in range(len(faces)):
        others = np.flatnonzero((labels == labels[row]) & (np.arange(len(faces)) != row))
        if len(others) > 3:
            far.append(cosine[row, others].mean() < 0.6 * threshold)
    assert np.mean(far) < 0.002  # groups change a little when others leave


def test_higher_thresholds_make_more_groups():
    faces, _ = people(1000, 50, spread=1.0)
    counts = [len(np.unique(leiden(faces, threshold))) for threshold in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_below_0_is_like_0():
    faces, _ = people(100, 5)
    assert np.array_equal(leiden(faces, -0.5), leiden(faces, 0))


def test_one_seed_gives_one_result():
    faces, _ = people(800, 40, spread=1.0)
    assert np.array_equal(leiden(faces, 0.3, seed=5), leiden(faces, 0.3, seed=5))


def test_order_of_the_faces_hardly_changes_the_groups():
    faces, _ = people(1000, 50)
    order = np.random.default_rng(1).permutation(1000)
    assert pairwise(leiden(faces, 0.4)[order], leiden(faces[order], 0.4)).f > 0.99


def test_scale_of_the_magnitudes_does_not_matter():
    faces, _ = people(500, 25, spread=1.0)
    larger = Embeddings(faces.vectors * 1024)
    first, second = (leiden(each, 0.3, weighting="magnitude") for each in (faces, larger))
    assert pairwise(first, second).f > 0.99


def test_groups_are_numbered_by_size_then_first_face():
    vectors = np.eye(4, dtype=np.float32)[[3, 0, 1, 0, 1, 0, 2]]
    assert leiden(Embeddings(vectors), 0.5).tolist() == [2, 0, 1, 0, 1, 0, 3]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_faces(count):
    assert leiden(Embeddings(np.ones((count, 4), np.float32)), 0.5).tolist() == [0] * count


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_copies_are_one_group_and_faces_without_direction_stay_alone(weighting):
    vectors = np.concatenate([np.ones((50, 8)), np.zeros((3, 8))])
    assert leiden(Embeddings(vectors), 0.9, weighting=weighting).tolist() == [0] * 50 + [1, 2, 3]


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
@pytest.mark.parametrize("threshold", [0, -1])
def test_faces_without_direction_stay_alone_at_a_threshold_that_their_cosine_reaches(threshold, weighting):
    vectors = np.concatenate([people(20, 20)[0].vectors, np.zeros((3, 64), np.float32)])
    labels = leiden(Embeddings(vectors), threshold, weighting=weighting)
    assert all(np.sum(labels == label) == 1 for label in labels[20:])


def test_copies_at_a_threshold_that_only_copies_reach_come_to_an_end():
    program = """
import numpy as np
from magface.cluster.graph import leiden
from magface.types import Embeddings
rng = np.random.default_rng(0)
for seed in range(60):
    vectors = rng.normal(size=(5, 3))[rng.integers(0, 5, 20)] * rng.choice([1, 3, 0.37], (20, 1))
    leiden(Embeddings(vectors), 1.0, weighting="magnitude", seed=seed)
"""
    subprocess.run([sys.executable, "-c", program], timeout=100, check=True)


@pytest.mark.parametrize("cosine", [0.499, 0.501])
def test_two_faces_join_at_the_threshold(cosine):
    faces = Embeddings(np.array([[2, 0], [cosine, np.sqrt(1 - cosine**2)]], np.float32))
    assert leiden(faces, 0.5).tolist() == [0, int(cosine < 0.5)]


def test_cells_change_little(monkeypatch):
    faces, person = people(3000, 150)
    whole = leiden(faces, 0.4, neighbours=neighbours.exact(faces, 16))
    monkeypatch.setattr(neighbours, "_FEW", 100)
    near = leiden(faces, 0.4, neighbours=16)
    assert abs(pairwise(person, whole).f - pairwise(person, near).f) < 0.01


def test_memory_grows_with_the_faces_and_not_with_their_square():
    faces, _ = people(6000, 300)
    found = neighbours.exact(faces, 8)
    tracemalloc.start()
    leiden(faces, 0.4, neighbours=found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000 * 6000 / 2  # bytes; all cosines are 4 N^2


def test_neighbours_of_other_faces_are_refused():
    with pytest.raises(DataError, match="neighbours of each"):
        leiden(people(10, 2)[0], 0.5, neighbours=neighbours.exact(people(9, 2)[0], 3))


@pytest.mark.parametrize("threshold", [1.5, float("nan")])
def test_what_is_no_cosine_is_refused(threshold):
    with pytest.raises(DataError, match="cosine"):
        leiden(Embeddings(np.ones((2, 2), np.float32)), threshold)


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_blocks_change_nothing(weighting, monkeypatch):
    faces, _ = people(300, 60, spread=2.0)
    expected = leiden(faces, 0.3, weighting=weighting)
    monkeypatch.setattr(graph, "_FACES", 7)
    monkeypatch.setattr(graph, "_PAIRS", 5)
    assert leiden(faces, 0.3, weighting=weighting).tolist() == expected.tolist()
