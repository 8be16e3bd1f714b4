"""Tracks follow who stays in place and looks alike; the best of each stretch of time are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.tracking import Sighting, Track, Tracker, _overlaps, apart
from magface.types import Face

ANNA, BEN = np.eye(4, dtype=np.float32)[:2]
ALIKE, WEAK = 0.4, 5.0


def face(x=0.0, y=0.0, size=100.0):
    return Face(np.array([x, y, x + size, y + size], np.float32), np.zeros((5, 2), np.float32), 0.9)


def seen(who, magnitude, x=0.0, slot=0, where=None):
    return Sighting(where, slot, face(x), (who * magnitude).astype(np.float32), float(magnitude))


def tracker(keep=9):
    return Tracker(ALIKE, WEAK, keep)


def test_a_face_that_moves_slowly_is_one_track():
    found = tracker()
    for step in range(50):
        found.add(step / 5, [seen(ANNA, 10 + step % 7, x=20 * step)])
    assert [track.count for track in found.tracks] == [50]


def test_another_person_in_the_same_place_is_another_track():
    found = tracker()
    for step, who in enumerate([ANNA, ANNA, BEN, BEN]):
        found.add(step / 5, [seen(who, 20)])
    assert [track.count for track in found.tracks] == [2, 2]


@pytest.mark.parametrize("strength", [(20, 3, 20), (3, 20, 20)])
def test_where_a_face_is_too_weak_to_say_who_the_place_decides(strength):
    found = tracker()
    for step, (who, magnitude) in enumerate(zip((ANNA, BEN, ANNA), strength, strict=True)):
        found.add(step / 5, [seen(who if magnitude < WEAK else ANNA, magnitude)])
    assert [track.count for track in found.tracks] == [3]


def test_a_blurred_stretch_does_not_end_a_track():
    """The newest face may look unlike after it; the best one does not."""
    found = tracker()
    for step, (who, magnitude) in enumerate([(ANNA, 20), (BEN, 4.9), (ANNA, 20)]):
        found.add(step / 5, [seen(who, magnitude)])
    assert [track.count for track in found.tracks] == [3]


def test_who_is_away_too_long_or_jumps_starts_anew():
    found = tracker()
    found.add(0.0, [seen(ANNA, 20)])
    found.add(1.0, [seen(ANNA, 20)])
    found.add(2.5, [seen(ANNA, 20)])
    found.add(2.6, [seen(ANNA, 20, x=90)])
    assert [track.count for track in found.tracks] == [2, 1, 1]
    found.cut()
    found.add(2.7, [seen(ANNA, 20, x=90)])
    assert len(found.tracks) == 4


def test_two_faces_that_cross_keep_to_themselves():
    found = tracker()
    for step in range(21):
        found.add(step / 5, [seen(ANNA, 20, x=10 * step), seen(BEN, 20, x=200 - 10 * step)])
    assert [track.count for track in found.tracks] == [21, 21]
    for track, who in zip(found.tracks, (ANNA, BEN), strict=True):
        assert track.embedding @ who == pytest.approx(np.linalg.norm(track.embedding))


def test_a_face_goes_to_one_track_and_a_track_to_one_face():
    found = tracker()
    found.add(0.0, [seen(ANNA, 20), seen(ANNA, 20, x=30)])
    found.add(0.2, [seen(ANNA, 20, x=28)])
    assert [track.count for track in found.tracks] == [1, 2]
    found.add(0.4, [seen(ANNA, 20, x=28), seen(ANNA, 20, x=29), seen(ANNA, 20, x=30)])
    assert sorted(track.count for track in found.tracks) == [1, 2, 3]


sightings = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 60)), min_size=1, max_size=60)


@given(sightings, st.integers(1, 4))
def test_what_a_track_keeps_suffices_for_the_best_of_all(rows, count):
    """The choice among all sightings and among those kept is the same, whatever the order of the frames."""
    noise = np.random.default_rng(len(rows)).permutation(len(rows)) / 1000  # no two are equal
    everything = [seen(ANNA, a + e, slot=slot) for (slot, a), e in zip(rows, noise, strict=True)]
    track = Track(everything[0])
    for each in everything:
        track.add(each, keep=3 * count)
    assert track.count == len(rows)
    assert len(track.best) <= 3 * count
    assert len({each.slot for each in track.best}) == len(track.best)
    assert apart(track.best, count) == apart(everything, count)


@given(sightings, st.integers(1, 5))
def test_pictures_are_apart_and_best_first(rows, count):
    chosen = apart((seen(ANNA, magnitude, slot=slot) for slot, magnitude in rows), count)
    slots, magnitudes = [each.slot for each in chosen], [each.magnitude for each in chosen]
    assert magnitudes == sorted(magnitudes, reverse=True)
    assert magnitudes[0] == max(magnitude for _, magnitude in rows)
    assert all(abs(a - b) > 1 for i, a in enumerate(slots) for b in slots[:i])
    free = {slot for slot, _ in rows if all(abs(slot - other) > 1 for other in slots)}
    assert len(chosen) == count or not free


def test_overlap_is_intersection_over_union():
    one, other = [face(0), face(500)], [face(0), face(50), face(100), face(0, 0, 50)]
    np.testing.assert_allclose(_overlaps(one, other), [[1, 1 / 3, 0, 1 / 4], [0, 0, 0, 0]], atol=1e-6)
    assert _overlaps([], other).shape == (0, 4)
