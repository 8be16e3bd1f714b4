"""Random changes to a gallery through two handles, beside the same changes to one in memory."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from magface.errors import DataError
from magface.gallery import Entry, Gallery

NAMES = st.sampled_from(["Ann", "ann", "Bob", "Zoë", "'; DROP TABLE people; --", "李"])
LABELS = st.sampled_from(["a", "b", "ä%_"])
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(0, 1.5, (12, 64)).astype(np.float32)
STEPS = {"milvus": (3, 12), "encrypted": (4, 20)}


class Broken(Exception):
    """Ends a transaction badly."""


class Changes(RuleBasedStateMachine):
    """One gallery in a place, opened twice, and one in memory."""

    place = card = None

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.here = type(self).place(Path(self.folder.name))
        self.handles = [self.here.create(), self.here.open()]
        self.oracle = Gallery(type(self).memory(self.card))

    def teardown(self):
        self.here.close()
        self.folder.cleanup()

    def both(self, handle, change):
        """Make a change in both, and let it fail in both or in none."""
        results = []
        for gallery in (self.handles[handle], self.oracle):
            try:
                results.append(change(gallery))
            except DataError as error:
                results.append(str(error))
        return results

    @rule(
        handle=st.integers(0, 1), rows=st.lists(st.tuples(NAMES, st.integers(0, 11), st.integers(0, 100)), max_size=5)
    )
    def enroll(self, handle, rows):
        entries = [Entry(name, VECTORS[row], score, f"{row}.jpg", time=1.0) for name, row, score in rows]
        one, other = self.both(handle, lambda gallery: gallery.enroll(entries))
        for a, b in zip(one, other, strict=True):
            assert (a.person, a.refused, a.marked, a.present) == (b.person, b.refused, b.marked, b.present)
            assert np.isclose(a.own, b.own, atol=1e-3, equal_nan=True)

    @rule(handle=st.integers(0, 1), names=st.lists(NAMES, min_size=1, max_size=2))
    def remove(self, handle, names):
        one, other = self.both(handle, lambda gallery: gallery.remove(*names))
        assert isinstance(one, str) == isinstance(other, str)

    @rule(handle=st.integers(0, 1), name=NAMES, place=st.integers(0, 5))
    def remove_face(self, handle, name, place):
        self.both(handle, lambda gallery: gallery.remove_face(face(gallery, name, place)))

    @rule(handle=st.integers(0, 1), name=NAMES, place=st.integers(0, 5), person=NAMES)
    def move(self, handle, name, place, person):
        self.both(handle, lambda gallery: gallery.move(face(gallery, name, place), person) and None)

    @rule(handle=st.integers(0, 1), into=NAMES, other=NAMES)
    def merge(self, handle, into, other):
        self.both(handle, lambda gallery: gallery.merge(into, other) and None)

    @rule(handle=st.integers(0, 1), name=NAMES, new=NAMES)
    def rename(self, handle, name, new):
        self.both(handle, lambda gallery: gallery.rename(name, new) and None)

    @rule(handle=st.integers(0, 1), name=NAMES, add=st.sets(LABELS), drop=st.sets(LABELS))
    def relabel(self, handle, name, add, drop):
        self.both(handle, lambda gallery: gallery.relabel(name, add, drop) and None)

    @rule(handle=st.integers(0, 1))
    def break_off(self, handle):
        with pytest.raises(Broken):
            remove_everybody_and_fail(self.handles[handle].store)

    @rule(handle=st.integers(0, 1))
    def open_again(self, handle):
        self.handles[handle] = self.here.open()

    @rule(handle=st.integers(0, 1), row=st.integers(0, 11), label=st.none() | LABELS, k=st.integers(1, 8))
    def search(self, handle, row, label, k):
        [one], [other] = (
            gallery.search(VECTORS[row][None], k=k, label=label, fpir=0.1)
            for gallery in (self.handles[handle], self.oracle)
        )
        np.testing.assert_allclose(*([match.cosine for match in found.matches] for found in (one, other)), atol=2e-3)
        people = {match.person: match.cosine for match in other.matches}
        for match in one.matches:
            assert match.cosine == pytest.approx(people.get(match.person, other.matches[-1].cosine), abs=2e-3)
        assert one.limit.people == other.limit.people

    @invariant()
    def same(self):
        expected = told(self.oracle)
        for handle in self.handles:
            assert told(handle) == expected


def remove_everybody_and_fail(store):
    with store.writing() as transaction:
        for person in list(transaction.people()):
            transaction.remove_person(person.id)
        raise Broken


def face(gallery, name, place):
    """Id of a face of a person; of none where there is none."""
    faces = sorted(gallery.faces(name), key=lambda each: each.vector.tobytes())
    return faces[place].id if place < len(faces) else 10**6


def told(gallery):
    """Everything that a gallery holds but its ids, in no order."""
    people = {person.id: person for person in gallery.people()}
    faces = {}
    for each in gallery.faces():
        kept = each.vector.tobytes(), each.score, each.source, each.box, each.marked
        faces.setdefault(people[each.person].name, []).append(kept)
    info = gallery.info()
    assert info.counts.faces == sum(map(len, faces.values()))
    assert info.counts.marked == sum(row[-1] for rows in faces.values() for row in rows)
    assert info.counts.people == len(people)
    return info.labels, {
        person.name: (
            person.labels,
            person.faces,
            person.template.round(4).tolist(),
            sorted(faces[person.name], key=str),
        )
        for person in people.values()
    }


def test_random_changes_leave_what_they_leave_in_memory(backend, make_place, card, memory_store):
    examples, steps = STEPS.get(backend, (15, 25))

    class Here(Changes):
        place = staticmethod(lambda folder: make_place(backend, folder))
        memory = memory_store

    Here.card = card
    run_state_machine_as_test(Here, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None))
