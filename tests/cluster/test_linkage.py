"""Average linkage against scipy's full dendrogram."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from magface.cluster import average_linkage
from magface.errors import DataError
from magface.metrics.clustering import pairwise
from magface.types import Embeddings


def people(count, persons, seed=0, spread=0.25):
    rng = np.random.default_rng(seed)
    person = rng.integers(persons, size=count)
    vectors = rng.normal(size=(persons, 32))[person] + rng.normal(size=(count, 32)) * spread * 4
    return Embeddings(vectors * rng.uniform(1, 30, (count, 1))), person


@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 1000), st.floats(-0.2, 0.95))
def test_groups_are_those_of_the_full_dendrogram(count, persons, seed, threshold):
    faces, _ = people(count, persons, seed)
    tree = linkage(faces.direction.astype(float), "average", metric="cosine")
    expected = fcluster(tree, 1 - threshold, "distance")
    found = average_linkage(faces, threshold)
    assert pairwise(expected, found).f == 1
    assert len(set(found)) == len(set(expected))


def test_people_are_found_whatever_their_magnitude():
    faces, person = people(400, 20, spread=0.1)
    assert pairwise(person, average_linkage(faces, 0.65)).f == 1


def test_groups_are_numbered_by_size_then_first_face():
    vectors = np.eye(4, dtype=np.float32)[[3, 0, 1, 0, 1, 0, 2]]
    assert average_linkage(Embeddings(vectors), 0.5).tolist() == [2, 0, 1, 0, 1, 0, 3]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_faces(count):
    assert average_linkage(Embeddings(np.ones((count, 4), np.float32)), 0.5).tolist() == [0] * count


@pytest.mark.parametrize(("cosine", "labels"), [(0.499, [0, 1]), (0.501, [0, 0])])
def test_two_faces_join_at_the_threshold(cosine, labels):
    faces = Embeddings(np.array([[2, 0], [cosine, np.sqrt(1 - cosine**2)]], np.float32))
    assert average_linkage(faces, 0.5).tolist() == labels


def test_copies_and_near_copies_are_one_group():
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(1, 128)), 300, axis=0) * rng.uniform(0.1, 30, (300, 1))
    assert set(average_linkage(Embeddings(vectors), 0.99)) == {0}


def test_faces_without_direction_stay_alone():
    assert average_linkage(Embeddings(np.zeros((3, 4), np.float32)), 0.1).tolist() == [0, 1, 2]


def test_order_of_the_faces_changes_only_the_numbers():
    faces, _ = people(200, 15)
    order = np.random.default_rng(1).permutation(200)
    assert pairwise(average_linkage(faces, 0.3)[order], average_linkage(faces[order], 0.3)).f == 1


def test_memory_grows_with_the_faces_and_not_with_their_square():
    faces, _ = people(3000, 100)
    tracemalloc.start()
    average_linkage(faces, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 3000  # bytes; the condensed matrix alone is 4 N^2


@given(st.integers(2, 25), st.integers(1, 6), st.integers(0, 1000), st.floats(-0.2, 0.95))
def test_a_face_of_magnitude_m_counts_as_m_faces(count, persons, seed, threshold):
    faces, _ = people(count, persons, seed)
    times = np.random.default_rng(seed).integers(1, 5, count)
    tree = linkage(np.repeat(faces.direction.astype(float), times, axis=0), "average", metric="cosine")
    expected = fcluster(tree, 1 - threshold, "distance")[np.cumsum(times) - 1]
    found = average_linkage(Embeddings(faces.direction * times[:, None] * 7), threshold, weighting="magnitude")
    assert pairwise(expected, found).f == 1
    assert len(set(found)) == len(set(expected))


def brute_force(faces, threshold):
    """The two groups of highest weighted mean cosine are joined until none reaches the threshold."""
    weight, cosine = faces.magnitude.astype(float), np.clip(faces.direction @ faces.direction.T, -1, 1).astype(float)
    groups = [[row] for row in range(len(faces))]

    def similarity(a, b):
        return np.average(cosine[np.ix_(a, b)], weights=np.outer(weight[a], weight[b]))

    while len(groups) > 1:
        best, i, j = max((similarity(groups[i], groups[j]), i, j) for i in range(len(groups)) for j in range(i))
        if best < threshold:
            break
        groups[i] = groups[i] + groups[j]
        del groups[j]
    label = np.empty(len(faces), int)
    for number, rows in enumerate(groups):
        label[rows] = number
    return label


@settings(max_examples=30)
@given(st.integers(2, 14), st.integers(1, 5), st.integers(0, 1000), st.floats(-0.2, 0.95))
def test_groups_weighted_by_magnitude_are_those_of_brute_force(count, persons, seed, threshold):
    faces, _ = people(count, persons, seed)
    expected, found = brute_force(faces, threshold), average_linkage(faces, threshold, weighting="magnitude")
    assert pairwise(expected, found).f == 1
    assert len(set(found)) == len(set(expected))


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_the_scale_of_all_embeddings_changes_nothing(weighting):
    faces, _ = people(150, 12)
    found = average_linkage(faces, 0.4, weighting=weighting)
    assert average_linkage(Embeddings(faces.vectors * 1024), 0.4, weighting=weighting).tolist() == found.tolist()


def test_unit_weights_do_not_see_magnitudes():
    faces, _ = people(150, 12)
    assert average_linkage(Embeddings(faces.direction), 0.4).tolist() == average_linkage(faces, 0.4).tolist()


def test_a_poor_face_says_little_about_its_group():
    angles = np.radians([0, 50, -52])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[20], [1], [20]])
    assert average_linkage(Embeddings(vectors), 0.55).tolist() == [0, 0, 1]
    assert average_linkage(Embeddings(vectors), 0.55, weighting="magnitude").tolist() == [0, 0, 0]


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_faces_of_all_sizes_give_groups(weighting):
    vectors = np.array([[3e38, 3e38], [1e-38, 1e-38], [0, 0], [3e38, 0]], np.float32)
    assert average_linkage(Embeddings(vectors), 0.9, weighting=weighting).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("threshold", [1.5, float("nan")])
def test_what_is_no_cosine_is_refused(threshold):
    with pytest.raises(DataError, match="cosine"):
        average_linkage(Embeddings(np.ones((2, 2), np.float32)), threshold)


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_groups_at_exactly_the_threshold_are_one(weighting):
    faces = Embeddings(np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32))
    assert average_linkage(faces, 0.5, weighting=weighting).tolist() == [0, 0]
    assert average_linkage(faces, np.nextafter(0.5, 1), weighting=weighting).tolist() == [0, 1]
