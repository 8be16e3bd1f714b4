"""Enrolment into a store: batches of faces, grouped by person, each batch in one transaction.

The template of a person is fused again from all their faces in the transaction that changes them, so it is always
exactly that of the faces that are there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from magface.errors import DataError
from magface.fusion import fuse
from magface.gallery import openset
from magface.gallery.openset import Shift
from magface.gallery.policy import Enrolment, Policy
from magface.gallery.records import Entry, NewPerson, Person, StoredFace
from magface.gallery.searching import searched
from magface.gallery.store import Store, Transaction
from magface.geometry import cosine, direction, magnitude
from magface.models.card import Card
from magface.types import F32

BATCH = 2048
"""Faces in a transaction, at most."""
_PEOPLE, _FACES = 1024, 256

Embed = Callable[[Sequence[StoredFace]], Sequence[tuple[F32, float]]]
"""Vector `(D,)` and score of each of some faces, by another model."""


def template(vectors: Sequence[F32]) -> F32:
    """Template of a person: the magnitude-weighted fusion of all their faces.

    Args:
        vectors: of each face, `(D,)` float32, raw; in the order of their ids, so that the last bit is always the same.

    Returns:
        `(D,)` float32, raw. Where the faces cancel each other out, as no real ones do, the longest of them.
    """
    fused = fuse(np.stack(vectors), np.zeros(len(vectors), np.int64)).vectors[0]
    return fused if fused.any() else max(vectors, key=magnitude)


def enrolled(
    store: Store, entries: Iterable[Entry], policy: Policy, labels: Sequence[str], check: bool, shift: Shift
) -> Iterator[list[Enrolment]]:
    """What the entries of each batch came to, once it is durable; see `Gallery.enroll`."""
    card, crops = store.card, store.settings.crops
    waiting = iter(entries)
    while batch := [_fitting(entry, card, crops) for entry in islice(waiting, BATCH)]:
        work = _Batch(batch, policy, labels, check)
        with store.writing() as transaction:
            if store.card.sha256 != card.sha256:
                raise DataError("the gallery was embedded again with another model meanwhile; enroll with that one.")
            work.write(transaction)
        if check:
            work.judge(store, shift)
        yield work.results


def check_size(size: int, card: Card, what: str) -> None:
    """Refuse vectors that are not of a model.

    Raises:
        DataError: they are not.
    """
    if size != card.embedding_size:
        raise DataError(
            f"{what}: {size} numbers, where {card.name}, the model of this gallery, makes {card.embedding_size}; embed "
            "the pictures with it."
        )


def embed_again(transaction: Transaction, card: Card, embed: Embed, mark: float) -> None:
    """Replace every vector, and every template with it; see `Gallery.reembed`.

    Args:
        transaction: in which it happens.
        card: of the new model.
        embed: gives vector and score of faces.
        mark: score below which a face is marked.
    """
    ids = np.fromiter((person.id for person in transaction.people()), np.int64)
    for start in range(0, len(ids), _PEOPLE):
        for person in list(transaction.people(ids[start : start + _PEOPLE].tolist())):
            vectors: list[F32] = []
            faces = transaction.faces(person.id)
            while some := list(islice(faces, _FACES)):
                found = [Entry(person.name, vector, score) for vector, score in embed(some)]
                for entry in found:
                    check_size(len(entry.vector), card, f"the new embedding of {person.name}")
                changes = zip(some, found, strict=True)
                transaction.set_vectors([(face.id, e.vector, e.score, e.score < mark) for face, e in changes])
                vectors += [entry.vector for entry in found]
            transaction.set_person(dataclasses.replace(person, template=template(vectors)))


def _fitting(entry: Entry, card: Card, crops: bool) -> Entry:
    """The entry, without its crop where crops are not kept.

    Raises:
        DataError: its vector is not of the model.
    """
    check_size(len(entry.vector), card, f"the embedding of {entry.person}")
    return dataclasses.replace(entry, crop=b"") if entry.crop and not crops else entry


class _Batch:
    """Some entries on their way into a store.

    Attributes:
        results: what each comes to, in order; whole after `write`.
    """

    def __init__(self, entries: Sequence[Entry], policy: Policy, labels: Sequence[str], check: bool) -> None:
        self._entries, self._policy, self._labels, self._check = entries, policy, labels, check
        self._marked = [entry.score < policy.mark for entry in entries]
        self.results = [Enrolment(entry.person, None, policy.verdict(entry.score)) for entry in entries]

    def write(self, transaction: Transaction) -> None:
        """Add what the policy accepts."""
        groups: dict[str, list[int]] = {}
        for row, result in enumerate(self.results):
            if not result.refused:
                groups.setdefault(result.person, []).append(row)
        new: list[_Group] = []
        for name, rows in groups.items():
            person = transaction.person(name)
            known = list(transaction.faces(person.id)) if person else []
            group = _Group.of(name, known, rows, self._entries, self._policy.copy)
            if person:
                self._report(group, self._extend(transaction, person, group))
            else:
                new.append(group)
        if new:
            people = self._people(new)
            for group, ids in zip(new, transaction.add_people(people), strict=True):
                self._report(group, ids)

    def _people(self, new: Sequence[_Group]) -> list[NewPerson]:
        """People who are not there yet; all templates are fused at once."""
        labels = tuple(sorted(set(self._labels)))
        people = []
        for group, fused in zip(new, self._templates(new), strict=True):
            faces = tuple(self._entries[row] for row in group.kept)
            people.append(NewPerson(group.name, fused, faces, self._marks(group), labels))
        return people

    def _templates(self, new: Sequence[_Group]) -> list[F32]:
        """Template of each new person; that of a single face is its vector."""
        templates = [self._entries[group.kept[0]].vector for group in new]
        several = [place for place, group in enumerate(new) if len(group.kept) > 1]
        if several:
            vectors = [[self._entries[row].vector for row in new[place].kept] for place in several]
            owner = np.repeat(several, [len(each) for each in vectors])
            fused = fuse(np.stack([vector for each in vectors for vector in each]), owner).vectors
            for place, mine, found in zip(several, vectors, fused, strict=True):
                templates[place] = found if found.any() else template(mine)
        return templates

    def _extend(self, transaction: Transaction, person: Person, group: _Group) -> list[int]:
        """Add faces, and labels, to a person who is there."""
        kept = [self._entries[row] for row in group.kept]
        ids = transaction.add_faces(person.id, kept, self._marks(group)) if kept else []
        labels = tuple(sorted({*person.labels, *self._labels}))
        if kept or labels != person.labels:
            fused = template(group.vectors(self._entries))
            transaction.set_person(dataclasses.replace(person, template=fused, labels=labels))
        return ids

    def _marks(self, group: _Group) -> tuple[bool, ...]:
        return tuple(self._marked[row] for row in group.kept)

    def _report(self, group: _Group, ids: Sequence[int]) -> None:
        """Enter what became of a person's faces, of which those that are kept have the ids."""
        for row, id in zip(group.kept, ids, strict=True):
            self.results[row] = Enrolment(group.name, id, marked=self._marked[row])
        if group.repeats or self._check:
            faces = [*((face.id, face.marked) for face in group.known), *zip(ids, self._marks(group), strict=True)]
            for row, place in group.repeats.items():
                id, marked = faces[place]
                self.results[row] = Enrolment(group.name, id, marked=marked, present=True)
            if self._check and group.kept:
                for row, (copy, own) in zip(group.kept, self._compared(group), strict=True):
                    found = None if copy is None else faces[copy][0]
                    self.results[row] = dataclasses.replace(self.results[row], copy=found, own=own)

    def _compared(self, group: _Group) -> list[tuple[int | None, float]]:
        """For each face that is kept, the place of a copy of it, and the cosine to those that are none."""
        vectors = np.stack(group.vectors(self._entries))
        first = len(group.known)
        new, unit = vectors[first:], direction(vectors)
        near, itself = unit[first:] @ unit.T, (np.arange(len(new)), np.arange(first, len(vectors)))
        near[itself] = np.inf  # whatever rounding made of its cosine
        other = near < self._policy.copy
        rest = other.astype(np.float32) @ vectors
        own = np.where(other.any(axis=1), cosine(new, rest), np.nan)
        near[itself] = -np.inf
        best = near.argmax(axis=1)
        copies = near[np.arange(len(new)), best] >= self._policy.copy
        return [(int(b) if copy else None, float(c)) for b, copy, c in zip(best, copies, own, strict=True)]

    def judge(self, store: Store, shift: Shift) -> None:
        """Say who is nearer to somebody else, now that all are there."""
        rows = [row for row, result in enumerate(self.results) if result.added]
        if not rows:
            return
        people = {name: store.person(name) for name in {self.results[row].person for row in rows}}
        own = {name: person.id for name, person in people.items() if person is not None}
        hits = store.search(direction(np.stack([self._entries[row].vector for row in rows])), 2)
        limit = openset.threshold(store.card, self._policy.fpir, searched(store, hits) - 1, shift=shift).threshold
        nearer: dict[int, tuple[int, float]] = {}
        for row, ids, cosines in zip(rows, hits.people.tolist(), hits.cosine.tolist(), strict=True):
            result = self.results[row]
            others = [(c, id) for id, c in zip(ids, cosines, strict=True) if id != own.get(result.person)]
            best, id = max(others)
            if best >= limit and not best <= result.own:
                nearer[row] = id, best
        names = {person.id: person.name for person in store.people(sorted({id for id, _ in nearer.values()}))}
        for row, (id, best) in nearer.items():
            if id in names:
                self.results[row] = dataclasses.replace(self.results[row], nearer=names[id], other=best)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Entries of one person.

    Attributes:
        name: of the person.
        known: faces that are there.
        kept: rows of entries that are none of those, nor of one another.
        repeats: rows of the other entries, with the place in `known` and `kept`, one after the other, of what they are.
    """

    name: str
    known: list[StoredFace]
    kept: list[int]
    repeats: dict[int, int]

    @staticmethod
    def of(name: str, known: list[StoredFace], rows: list[int], entries: Sequence[Entry], copy: float) -> _Group:
        """Tell the entries apart: the same vector, or nearly, in the same box of the same picture, is the same face."""
        if not known and len(rows) == 1:
            return _Group(name, known, rows, {})
        vectors: dict[bytes, int] = {}
        spots: dict[object, list[tuple[int, F32]]] = {}
        kept: list[int] = []
        repeats: dict[int, int] = {}

        def place(face: StoredFace | Entry) -> int | None:
            if (same := vectors.get(face.vector.tobytes())) is not None:
                return same
            there = spots.get((face.source, face.box), []) if face.source else []
            return next((i for i, vector in there if cosine(vector, face.vector) >= copy), None)

        def keep(face: StoredFace | Entry, at: int) -> None:
            vectors.setdefault(face.vector.tobytes(), at)
            spots.setdefault((face.source, face.box), []).append((at, face.vector))

        for at, face in enumerate(known):
            keep(face, at)
        for row in rows:
            found = place(entries[row])
            if found is None:
                keep(entries[row], len(known) + len(kept))
                kept.append(row)
            else:
                repeats[row] = found
        return _Group(name, known, kept, repeats)

    def vectors(self, entries: Sequence[Entry]) -> list[F32]:
        """Of all faces of the person, in the order of their ids."""
        return [face.vector for face in self.known] + [entries[row].vector for row in self.kept]
