"""A store in memory that is too simple to be wrong: what the others are compared with."""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np

from magface.gallery.records import Counts, Hits, Person, Settings, StoredFace


class MemoryStore:
    """People, faces and notes in dictionaries; a block of changes that fails puts the copies back."""

    def __init__(self, card, settings=None):
        self.card, self.settings = card, settings or Settings()
        self._people, self._faces, self._notes = {}, {}, {}
        self._last = 0

    def _id(self):
        self._last += 1
        return self._last

    # reading

    def counts(self):
        return Counts(len(self._people), len(self._faces), sum(face.marked for face in self._faces.values()))

    def person(self, name):
        return next(self.people([id for id, person in self._people.items() if person.name == name]), None)

    def people(self, ids=None):
        for id in sorted(self._people if ids is None else set(ids) & set(self._people)):
            yield replace(self._people[id], faces=sum(face.person == id for face in self._faces.values()))

    def faces(self, person=None):
        yield from [self._faces[id] for id in sorted(self._faces) if person in (None, self._faces[id].person)]

    def face(self, id):
        return self._faces.get(id)

    def labels(self):
        return sorted({label for person in self._people.values() for label in person.labels})

    def note(self, key):
        return self._notes.get(key, "")

    def search(self, directions, k, label=None):
        people = [person for person in self._people.values() if label is None or label in person.labels]
        ids, cosine = np.full((len(directions), k), -1), np.full((len(directions), k), -np.inf, np.float32)
        if people:
            templates = np.stack([person.template for person in people])
            similar = directions @ (templates / np.linalg.norm(templates, axis=1, keepdims=True)).T
            order = np.argsort(-similar, axis=1, kind="stable")[:, :k]
            ids[:, : order.shape[1]] = np.array([person.id for person in people])[order]
            cosine[:, : order.shape[1]] = np.take_along_axis(similar, order, axis=1)
        return Hits(ids, cosine, len(people))

    # writing

    @contextmanager
    def writing(self):
        before = self.card, dict(self._people), dict(self._faces), deepcopy(self._notes)
        try:
            yield self
        except BaseException:
            self.card, self._people, self._faces, self._notes = before
            raise

    def add_people(self, people):
        return [self._add_person(person) for person in people]

    def _add_person(self, person):
        assert self.person(person.name) is None
        id = self._id()
        self._people[id] = Person(id, person.name, person.template, 0, person.labels)
        return self.add_faces(id, person.faces, person.marked)

    def add_faces(self, person, faces, marked):
        ids = [self._id() for _ in faces]
        for id, face, mark in zip(ids, faces, marked, strict=True):
            kept = face.vector, face.score, face.source, face.box, face.crop, face.time, mark
            self._faces[id] = StoredFace(id, person, *kept)
        return ids

    def set_person(self, person):
        assert person.id in self._people
        self._people[person.id] = person

    def move_faces(self, faces, person):
        for id in faces:
            self._faces[id] = replace(self._faces[id], person=person)

    def set_vectors(self, vectors):
        for id, vector, score, marked in vectors:
            self._faces[id] = replace(self._faces[id], vector=vector, score=score, marked=marked)

    def remove_faces(self, faces):
        for id in faces:
            del self._faces[id]

    def remove_person(self, person):
        del self._people[person]
        self._faces = {id: face for id, face in self._faces.items() if face.person != person}

    def set_note(self, key, value):
        self._notes[key] = value

    def set_card(self, card):
        self.card = card

    def purge(self):
        return True

    def close(self):
        pass
