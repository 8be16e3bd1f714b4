import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.cluster import UNKNOWN, attach, average_linkage, dbscan, reliable_first
from magface.errors import DataError
from magface.types import Embeddings


def people(count, persons, seed=0):
    rng = np.random.default_rng(seed)
    person = rng.integers(persons, size=count)
    vectors = rng.normal(size=(persons, 16))[person] + rng.normal(size=(count, 16)) * 0.7
    return Embeddings(vectors * rng.uniform(1, 30, (count, 1))), person


@given(st.integers(1, 60), st.integers(0, 500), st.floats(-1, 1), st.sampled_from(["unit", "magnitude"]))
def test_each_unknown_face_goes_to_the_nearest_centre_that_is_near_enough(count, seed, threshold, weighting):
    faces, person = people(count, 5, seed)
    labels = np.where(np.random.default_rng(seed).random(count) < 0.5, person * 3, -7)
    found = attach(faces, labels, threshold, weighting=weighting)
    for row in range(count):
        if labels[row] >= 0:
            assert found[row] == labels[row]
            continue
        near = []
        for name in sorted(set(labels[labels >= 0])):
            each = faces[labels == name]
            centre = (each.direction if weighting == "unit" else each.vectors).astype(float).sum(axis=0)
            near.append((centre @ faces.direction[row] / np.linalg.norm(centre), name))
        best = max(near, default=(-2, UNKNOWN))
        if abs(best[0] - threshold) > 1e-5:
            assert found[row] == (best[1] if best[0] >= threshold else UNKNOWN)


def test_order_and_company_of_the_attached_do_not_matter():
    faces, person = people(300, 10)
    labels = np.where(np.arange(300) < 150, person, UNKNOWN)
    found = attach(faces, labels, 0.5)
    order = np.random.default_rng(1).permutation(300)
    assert attach(faces[order], labels[order], 0.5).tolist() == found[order].tolist()
    fewer = np.arange(300) < 200
    assert attach(faces[fewer], labels[fewer], 0.5).tolist() == found[fewer].tolist()


@pytest.mark.parametrize("labels", [[], [UNKNOWN] * 3])
def test_without_groups_all_stay_unknown(labels):
    assert attach(Embeddings(np.ones((len(labels), 2), np.float32)), labels, -1).tolist() == labels


def test_faces_without_direction_stay_unknown():
    faces = Embeddings(np.array([[1, 0], [0, 0]], np.float32))
    assert attach(faces, [0, UNKNOWN], -1).tolist() == [0, UNKNOWN]


def test_the_labels_that_were_given_are_not_changed():
    labels = np.array([0, UNKNOWN])
    attach(Embeddings(np.ones((2, 2), np.float32)), labels, 0.5)
    assert labels.tolist() == [0, UNKNOWN]


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="3 faces need one label each"):
        attach(Embeddings(np.ones((3, 2), np.float32)), [0, 1], 0.5)
    with pytest.raises(DataError, match="cosine"):
        attach(Embeddings(np.ones((1, 2), np.float32)), [0], 2)


def test_only_reliable_faces_are_grouped_and_the_others_come_last():
    faces, person = people(300, 10)
    seen = []

    def group(each):
        seen.append(each)
        return average_linkage(each, 0.5)

    found = reliable_first(group, faces, least=60, threshold=0.5)
    reliable = faces.magnitude >= 60
    assert (seen[0].vectors == faces.vectors[reliable]).all()
    inner = average_linkage(faces[reliable], 0.5)
    pairs = inner[:, None] == inner
    assert ((found[reliable][:, None] == found[reliable]) == pairs).all()
    assert (np.diff(np.bincount(found[found >= 0])) <= 0).all()
    same = (found[:, None] == found) & (found >= 0)
    assert (person[:, None] == person)[same].mean() > 0.97


def test_what_the_algorithm_leaves_out_may_still_be_attached():
    angles = np.radians([0, 20, 35])
    faces = Embeddings(np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[20], [20], [5]]))
    threshold = np.cos(np.radians(30))
    assert (
        reliable_first(lambda each: dbscan(each, threshold), faces, least=10, threshold=threshold).tolist() == [0] * 3
    )
    assert reliable_first(lambda each: dbscan(each, 0.99), faces, least=10, threshold=0.9).tolist() == [UNKNOWN] * 3


def test_without_reliable_faces_nobody_is_known():
    faces, _ = people(20, 3)
    found = reliable_first(lambda each: average_linkage(each, 0.5), faces, least=1000, threshold=0.1)
    assert found.tolist() == [UNKNOWN] * 20


def test_what_is_exactly_enough_is_enough():
    faces = Embeddings(np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32))
    assert attach(faces, [3, -1], 0.5).tolist() == [3, 3]
    assert attach(faces, [3, -1], np.nextafter(0.5, 1)).tolist() == [3, -1]
    alone = lambda each: np.arange(len(each))  # noqa: E731
    assert reliable_first(alone, faces, least=1, threshold=0.9).tolist() == [0, 1]
