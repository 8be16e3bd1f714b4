"""Spherical K-means against its own conditions of an optimum, and against scikit-learn."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from magface.cluster import UNKNOWN, kmeans
from magface.errors import DataError
from magface.metrics.clustering import pairwise
from magface.types import Embeddings


def people(count, persons, seed=0, spread=0.1):
    rng = np.random.default_rng(seed)
    person = np.arange(count) % persons
    vectors = rng.normal(size=(persons, 32))[person] + rng.normal(size=(count, 32)) * spread * 4
    return Embeddings(vectors * rng.uniform(1, 30, (count, 1))), person


def served(faces, group, weight):
    """What spherical K-means makes large."""
    return sum(
        np.linalg.norm((faces.direction * weight[:, None])[group == number].sum(axis=0)) for number in set(group)
    )


@settings(max_examples=40)
@given(st.integers(3, 60), st.integers(1, 8), st.integers(0, 1000), st.sampled_from(["unit", "magnitude"]))
def test_no_face_is_nearer_to_another_centre(count, k, seed, weighting):
    faces, _ = people(count, 7, seed, spread=0.4)
    k = min(k, count)
    group = kmeans(faces, k, weighting=weighting, seed=seed, rounds=1000)
    weight = np.ones(count) if weighting == "unit" else faces.magnitude
    sums = np.stack([(faces.direction * weight[:, None])[group == each].sum(axis=0) for each in range(k)])
    cosine = faces.direction @ (sums / np.linalg.norm(sums, axis=1, keepdims=True)).T
    assert set(group) == set(range(k))
    assert (cosine[np.arange(count), group] >= cosine.max(axis=1) - 1e-5).all()


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_people_who_are_apart_are_found(weighting):
    faces, person = people(600, 40)
    assert pairwise(person, kmeans(faces, 40, weighting=weighting)).f > 0.97


def test_as_good_as_the_k_means_of_scikit_learn():
    faces, _ = people(500, 30, spread=0.3)
    one = np.ones(500)
    own = np.mean([served(faces, kmeans(faces, 30, seed=seed), one) for seed in range(5)])
    model = [KMeans(30, n_init=1, random_state=seed).fit_predict(faces.direction) for seed in range(5)]
    assert own >= 0.995 * np.mean([served(faces, group, one) for group in model])


def test_a_centre_weighted_by_magnitude_stays_with_the_good_faces():
    angles = np.radians([0, 2, 50, 52, 100])
    faces = Embeddings(np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[20], [20], [1], [1], [20]]))
    found = kmeans(faces, 2, weighting="magnitude", seed=1)
    assert len(set(found)) == 2
    assert found[0] == found[1] != found[4]


@pytest.mark.parametrize("weighting", ["unit", "magnitude"])
def test_a_seed_gives_one_result_and_no_common_scale_changes_it(weighting):
    faces, _ = people(200, 15, spread=0.3)
    found = kmeans(faces, 15, weighting=weighting, seed=3).tolist()
    assert kmeans(faces, 15, weighting=weighting, seed=3).tolist() == found
    assert kmeans(Embeddings(faces.vectors / 64), 15, weighting=weighting, seed=3).tolist() == found


def test_unit_weights_do_not_see_magnitudes():
    faces, _ = people(200, 15, spread=0.3)
    assert kmeans(Embeddings(faces.direction), 15).tolist() == kmeans(faces, 15).tolist()


def test_groups_of_copies_are_no_more_than_there_are_directions():
    faces = Embeddings(np.eye(3, dtype=np.float32)[[0, 1, 1, 2, 2, 2, 0, 2]] * 7)
    assert kmeans(faces, 8).tolist() == [1, 2, 2, 0, 0, 0, 1, 0]


def test_as_many_groups_as_faces():
    faces, _ = people(30, 30)
    assert kmeans(faces, 30).tolist() == list(range(30))


def test_faces_without_direction_are_unknown():
    assert kmeans(Embeddings(np.array([[0, 0], [3, 0], [0, 0]], np.float32)), 2).tolist() == [UNKNOWN, 0, UNKNOWN]
    assert kmeans(Embeddings(np.zeros((2, 4), np.float32)), 1).tolist() == [UNKNOWN] * 2


def test_an_empty_set_has_no_groups():
    assert kmeans(Embeddings(np.empty((0, 4), np.float32)), 5).tolist() == []


@pytest.mark.parametrize("k", [0, -1, 4])
def test_groups_that_faces_cannot_make_are_refused(k):
    with pytest.raises(DataError, match=f"3 faces make between 1 and 3 groups, not {k}"):
        kmeans(Embeddings(np.ones((3, 2), np.float32)), k)


def test_memory_does_not_grow_with_faces_times_groups():
    faces, _ = people(6000, 3000)
    tracemalloc.start()
    kmeans(faces, 1500, rounds=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 << 20  # bytes: a block of cosines and little else; all are 36 MB, and as much again for each copy
