"""Groups that grow: whoever is known stays, corrections always hold, and doing it again changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.cluster import UNKNOWN, average_linkage
from magface.cluster.incremental import carry, join
from magface.errors import DataError
from magface.types import Embeddings

THRESHOLD = 0.4


def linkage(embeddings):
    return average_linkage(embeddings, THRESHOLD, weighting="magnitude")


def joined(embeddings, known, reliable=None, **options):
    known = np.asarray(known)
    reliable = np.ones(len(known), bool) if reliable is None else reliable
    first = int(known.max(initial=-1)) + 1
    return join(embeddings, known, THRESHOLD, reliable=reliable, group=linkage, **{"first": first, **options})


def crowd(seed, people=6, faces=8, size=32, noise=0.9):
    """Faces of several people: the poorer (shorter) a face is, the further it is from its person."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, size))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    truth = np.repeat(np.arange(people), faces)
    magnitude = rng.uniform(4, 15, len(truth))
    away = rng.normal(size=(len(truth), size)) / np.sqrt(size)
    rows = centres[truth] + away * noise * (10 / magnitude[:, None])
    rows *= (magnitude / np.linalg.norm(rows, axis=1))[:, None]
    return Embeddings(rows.astype(np.float32)), truth


def pairs_f(labels, truth):
    labels = np.where(labels < 0, -1 - np.arange(len(labels)), labels)
    upper = np.triu_indices(len(labels), 1)
    same, right = ((x[:, None] == x[None])[upper] for x in (labels, truth))
    return 2 * (same & right).sum() / (same.sum() + right.sum())


@given(st.integers(0, 10_000), st.data())
def test_known_faces_never_move_and_again_changes_nothing(seed, data):
    faces, truth = crowd(seed, noise=data.draw(st.floats(0.1, 2)))
    wrong = np.random.default_rng(seed).integers(-1, 4, len(truth))
    known = np.where(np.random.default_rng(seed + 1).random(len(truth)) < data.draw(st.floats(0, 1)), wrong, UNKNOWN)
    reliable = faces.magnitude >= data.draw(st.floats(0, 16))
    regroup = data.draw(st.booleans())
    labels = joined(faces, known, reliable, regroup=regroup)
    assert (labels[known >= 0] == known[known >= 0]).all()
    again = joined(faces, labels, reliable)
    np.testing.assert_array_equal(again, labels)


def test_new_face_joins_the_nearest_person_by_the_weighted_mean_cosine():
    """Written out: the mean cosine with two faces of magnitudes 9 and 1 is 0.9 of the first and 0.1 of the second."""
    known = np.array([[9, 0, 0, 0], [0, 1, 0, 0], [0, 0, 5, 0]], np.float32)
    at = lambda cosine: np.array([cosine, 0, 0, np.sqrt(1 - cosine**2)], np.float32)  # noqa: E731
    for cosine, person in ((THRESHOLD / 0.9 + 1e-3, 0), (THRESHOLD / 0.9 - 1e-3, UNKNOWN)):
        faces = Embeddings(np.vstack([known, 7 * at(cosine)]))
        assert joined(faces, [0, 0, 1, UNKNOWN])[3] == person


def test_a_group_joins_together_or_becomes_somebody_new():
    old = np.eye(4, dtype=np.float32)[0] * 10
    near = np.array([[0.8, 0.6, 0, 0], [0.3, 0.95, 0, 0]], np.float32) * 10  # the second alone is too far
    far = np.array([[0, 0, 1, 0], [0, 0, 0.9, 0.4]], np.float32) * 10
    faces = Embeddings(np.vstack([old, near, far]))
    assert joined(faces, [3, -1, -1, -1, -1]).tolist() == [3, 3, 3, 4, 4]


def test_poor_faces_decide_nothing_and_come_last():
    good = np.array([[10, 0, 0], [9, 1, 0]], np.float32)
    poor = np.array([[1, 0.3, 0], [0, 0, 1], [0, 0.1, 1]], np.float32)  # the last two are alike, and stay apart
    faces = Embeddings(np.vstack([poor, good]))
    assert joined(faces, [-1] * 5, faces.magnitude > 2).tolist() == [0, -1, -1, 0, 0]


def test_who_is_known_by_poor_faces_alone_is_known_by_those():
    faces = Embeddings(np.array([[1, 0], [1, 0.1], [5, 0.5]], np.float32))
    assert joined(faces, [2, -1, -1], faces.magnitude > 2).tolist() == [2, 2, 2]


def test_somebody_of_poor_faces_whom_another_brings_nearer_is_joined_at_once():
    at = lambda degrees: np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])  # noqa: E731
    faces = Embeddings(np.stack([0.1 * at(0), 1.9 * at(40), 5 * at(85), 5 * at(200)]).astype(np.float32))
    labels = joined(faces, [3, -1, -1, -1], faces.magnitude > 2)  # the third is too far from the first alone
    assert labels.tolist() == [3, 3, 3, -1]
    assert joined(faces, labels, faces.magnitude > 2).tolist() == labels.tolist()


def test_face_without_direction_joins_nobody():
    faces = Embeddings(np.array([[5, 0], [5, 0], [0, 0]], np.float32))
    labels = join(faces, [0, 0, -1], -1, reliable=[True, True, False], group=lambda e: average_linkage(e, -1), first=1)
    assert labels.tolist() == [0, 0, -1]


def test_faces_that_an_algorithm_leaves_out_stay_unknown_and_may_join():
    faces = Embeddings(np.array([[5, 0], [5, 0.1], [0, 5], [0.1, 5]], np.float32))
    labels = join(faces, [0, -1, -1, -1], 0.5, reliable=[True] * 4, group=lambda e: np.full(len(e), UNKNOWN), first=1)
    assert labels.tolist() == [0, 0, -1, -1]


def test_new_faces_join_by_one_of_several_looks():
    """With and without glasses: the mean cosine of the third face with both looks is 0.5."""
    faces = Embeddings(np.array([[10, 0], [10, 0], [0, 10], [0, 10], [0.5, 10]], np.float32))
    known = [0, 0, 0, 0, -1]
    assert join(faces, known, 0.6, reliable=[True] * 5, group=linkage, first=1)[4] == UNKNOWN
    assert join(faces, known, 0.6, reliable=[True] * 5, group=linkage, first=1, several=[0])[4] == 0


def test_regrouping_takes_the_group_along_with_the_face_that_is_known():
    """The named face alone is too far from the others; the group that it is in tells."""
    angles = np.deg2rad([0, 30, 45, 60, 75])
    faces = Embeddings((10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32))
    known = [7, -1, -1, -1, -1]
    group = lambda e: average_linkage(e, 0.5)  # noqa: E731
    alone = join(faces, known, 0.75, reliable=[True] * 5, group=group, first=8)
    along = join(faces, known, 0.75, reliable=[True] * 5, group=group, first=8, regroup=True)
    assert alone.tolist() == [7, 8, 8, 8, 8]
    assert along.tolist() == [7] * 5


def test_regrouping_parts_a_group_of_two_who_were_said_to_differ():
    faces = Embeddings(np.array([[10, 0], [9.5, 1], [9, 3], [9, 4], [8, 5]], np.float32))
    labels = joined(faces, [0, -1, -1, -1, 1], regroup=True)
    assert labels.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_batches_come_close_to_one_go(seed):
    faces, truth = crowd(seed, people=12, faces=10, size=128, noise=0.6)
    labels = np.full(len(truth), UNKNOWN)
    there = np.zeros(len(truth), bool)
    for batch in np.array_split(np.random.default_rng(seed).permutation(len(truth)), 7):
        there[batch] = True
        rows = np.flatnonzero(there)
        first = int(labels.max()) + 1
        labels[rows] = joined(faces[rows], labels[rows], first=first)
    one = pairs_f(joined(faces, np.full(len(truth), UNKNOWN)), truth)
    assert one > 0.95
    assert pairs_f(labels, truth) > one - 0.06


def test_no_faces():
    assert joined(Embeddings(np.zeros((0, 4), np.float32)), np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize(
    ("known", "reliable", "first"), [([0], [True, True], 1), ([0, 1], [True], 2), ([0, 5], [True, True], 5)]
)
def test_what_does_not_fit_is_refused(known, reliable, first):
    faces = Embeddings(np.eye(2, dtype=np.float32))
    with pytest.raises(DataError):
        join(faces, known, THRESHOLD, reliable=reliable, group=linkage, first=first)


@given(st.lists(st.tuples(st.integers(-1, 8), st.integers(-1, 4)), max_size=30))
def test_numbers_are_carried_one_to_one(rows):
    first = 5
    labels, before = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    result = carry(labels, before, first)
    pairs = set(zip(labels.tolist(), result.tolist(), strict=True))
    assert len({new for new, _ in pairs}) == len(pairs) == len({old for _, old in pairs})
    stays = (labels < first) | (labels < 0)
    assert (result[stays] == labels[stays]).all()
    for new, old in pairs:
        if new >= first > old:  # it shares a face with whom it was, and nobody unmatched shares more
            shared = ((labels == new) & (before == old)).sum()
            assert shared > 0
            for other, number in pairs:
                if other >= first and number >= first:
                    assert ((labels == other) & (before == old)).sum() <= shared


def test_the_first_numbers_are_carried_like_others():
    assert carry([5, 5, 6, 0], [0, 0, 1, -1], first=5).tolist() == [5, 5, 1, 0]  # somebody still is the person 0
    assert carry([5, 5, 6], [0, 0, 1], first=5).tolist() == [0, 0, 1]
    assert carry([9, 7], [-1, -1], first=5).tolist() == [6, 5]


def test_a_face_at_exactly_the_threshold_joins():
    faces = Embeddings(np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32))
    for threshold, person in ((0.5, 2), (np.nextafter(np.float32(0.5), np.float32(1)), -1)):
        labels = join(faces, [2, -1], threshold, reliable=[True, True], group=lambda e: np.arange(len(e)), first=3)
        assert labels.tolist() == [2, person]
