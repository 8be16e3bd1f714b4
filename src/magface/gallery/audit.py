"""What a gallery can tell of itself: copies, wrong faces, people who are one, and how near strangers come.

All of it goes through searches of the store, some faces at a time, so memory does not grow with the gallery.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from magface.data.audit import CHANCE, groups, links, own_cosine, wrong
from magface.errors import DataError
from magface.gallery import openset
from magface.gallery.openset import NONE, Shift
from magface.gallery.policy import Policy
from magface.gallery.records import Person
from magface.gallery.searching import SHORTLIST
from magface.gallery.store import Store
from magface.geometry import cosine, direction, magnitude
from magface.metrics.verification import threshold_at_fmr
from magface.models.card import Card
from magface.quality import qmagface
from magface.quality.qmagface import FALSE_MATCHES
from magface.types import F32

LIMIT = 100_000
"""Findings of a kind that are listed, at most."""
FEWEST = 20
"""People that a gallery can be calibrated with."""
_FACES = 2048
_PEOPLE = 1024
_NEAREST = 8
_MOST = 1024

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Copies:
    """Two faces that show one picture, or one moment.

    Attributes:
        first: id of a face.
        second: id of the other, above `first`.
        people: name of the person of each.
        cosine: of the two.
    """

    first: int
    second: int
    people: tuple[str, str]
    cosine: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """A face that is likely somebody else's.

    Attributes:
        face: id.
        person: whose it is said to be.
        own: cosine to their other faces, without copies.
        nearest: the person whom it resembles most of all others; "" where there is nobody else.
        other: cosine to them; NaN likewise.
    """

    face: int
    person: str
    own: float
    nearest: str
    other: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two people who are likely one.

    Attributes:
        people: their names.
        cosine: of their templates.
    """

    people: tuple[str, str]
    cosine: float


@dataclass(frozen=True, slots=True)
class Audit:
    """What `audit` finds; no list is longer than `LIMIT`.

    Attributes:
        copies: pairs of faces that show one picture, nearest first; those under two names are found where the face
            resembles the other person by at least `near`.
        suspects: faces that resemble the rest of their person less than `far`, or less than somebody whom they
            resemble by at least `near`; the least like their person first.
        same: people who are likely one, whose templates have a cosine of at least `agree`; nearest first.
        poor: names of people all of whose faces are marked.
        far: cosine at the highest false match rate of the model's card.
        near: threshold of a search at the rate of the policy.
        agree: cosine that a tenth of a pair of different people reaches, in a gallery of so many.
    """

    copies: tuple[Copies, ...]
    suspects: tuple[Suspect, ...]
    same: tuple[Likeness, ...]
    poor: tuple[str, ...]
    far: float
    near: float
    agree: float


def audit(store: Store, policy: Policy, shift: Shift, progress: Callable[[int], object]) -> Audit:
    """See `Gallery.audit`."""
    card, people = store.card, store.counts().people
    far = openset.cosine_at(card, max(each.fmr for each in card.thresholds))
    near = openset.threshold(card, policy.fpir, people - 1, shift=shift).threshold
    agree = agreement(card, people, shift)
    same = _likenesses(store, agree, progress)
    twins: dict[int, set[int]] = {}
    for a, b in same:
        twins.setdefault(a, set()).add(b)
        twins.setdefault(b, set()).add(a)
    found = _Faces(store, policy.copy, far, near, twins)
    for block in _blocks(store):
        found.look_at(block)
        progress(len(block.ids))
    names = _names(store, {id for pair in same for id in pair})
    alike = [
        Likeness((names[a], names[b]), value)
        for (a, b), value in sorted(same.items(), key=lambda pair: (-pair[1], pair[0]))
        if a in names and b in names
    ]
    copies = sorted(found.copies.values(), key=lambda each: (-each.cosine, each.first, each.second))
    suspects = sorted(found.suspects, key=lambda each: (each.own - max(each.other, -1), each.face))
    listed = tuple(copies), tuple(suspects[:LIMIT]), tuple(alike[:LIMIT]), tuple(found.poor[:LIMIT])
    return Audit(*listed, far, near, agree)


def agreement(card: Card, people: int, shift: Shift = NONE) -> float:
    """Cosine from which two templates are likely one person: a tenth of a pair of different people reaches it.

    Equation: agreement of people (t(FMR), FMR = 0.1 / (N (N - 1) / 2))

    Args:
        card: of the model.
        people: N, in the gallery.
        shift: of `Gallery.calibrate`.
    """
    pairs = max(people * (people - 1) / 2, 1)
    return openset.cosine_at(card, CHANCE / pairs, shift)


def _likenesses(store: Store, agree: float, progress: Callable[[int], object]) -> dict[tuple[int, int], float]:
    """Pairs of people whose templates are that near, the lower id first."""
    found: dict[tuple[int, int], float] = {}
    everybody = store.people()
    while some := list(islice(everybody, _PEOPLE)):
        k = _NEAREST
        hits = store.search(direction(np.stack([person.template for person in some])), k)
        while k < _MOST and (hits.cosine[:, -1] >= agree).any():
            k *= 4
            hits = store.search(direction(np.stack([person.template for person in some])), k)
        for row, place in np.argwhere(hits.cosine >= agree).tolist():
            pair = sorted((some[row].id, int(hits.people[row, place])))
            if pair[0] != pair[1]:
                found[pair[0], pair[1]] = min(float(hits.cosine[row, place]), 1.0)
        progress(len(some))
    return found


@dataclass(slots=True, eq=False)
class _Block:
    """All faces of some people; n faces of P people."""

    people: list[Person]
    ids: list[int]
    vectors: F32
    owner: Index
    """`(n,)` place in `people`."""
    marked: NDArray[np.bool_]


def _blocks(store: Store) -> Iterator[_Block]:
    """Everybody with their faces, some 2,000 faces at a time, and more only where a person has more."""
    people: list[Person] = []
    rows: list[tuple[int, F32, bool]] = []
    owner: list[int] = []

    def block() -> _Block:
        ids, vectors, marked = zip(*rows, strict=True)
        return _Block(people, list(ids), np.stack(vectors), np.array(owner), np.array(marked))

    for person in store.people():
        mine = [(face.id, face.vector, face.marked) for face in store.faces(person.id)]
        if not mine:  # removed since
            continue
        owner += [len(people)] * len(mine)
        people.append(person)
        rows += mine
        if len(rows) >= _FACES:
            yield block()
            people, rows, owner = [], [], []
    if rows:
        yield block()


class _Faces:
    """What is found of faces, block by block."""

    def __init__(self, store: Store, copy: float, far: float, near: float, twins: dict[int, set[int]]) -> None:
        self._store, self._copy, self._far, self._near, self._twins = store, copy, far, near, twins
        self.copies: dict[tuple[int, int], Copies] = {}
        self.suspects: list[Suspect] = []
        self.poor: list[str] = []

    def look_at(self, block: _Block) -> None:
        """Add what is found in a block."""
        good = np.bincount(block.owner, ~block.marked)
        self.poor += [person.name for person, faces in zip(block.people, good, strict=True) if not faces]
        unit = direction(block.vectors)
        pairs = links(block.vectors, self._copy)
        for a, b, value in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.cosine.tolist(), strict=True):
            names = block.people[block.owner[a]].name, block.people[block.owner[b]].name
            self._copies(block.ids[a], block.ids[b], *names, value)
        mine = block.owner[pairs.first] == block.owner[pairs.second]
        family = groups(len(block.ids), pairs.first[mine], pairs.second[mine])
        own = own_cosine(block.vectors, block.owner, len(block.people), family)
        hits = self._store.search(unit, _NEAREST)
        ids = np.array([person.id for person in block.people])[block.owner]
        near = np.where(hits.people == ids[:, None], np.float32(-np.inf), hits.cosine)
        self._elsewhere(block, unit, hits.people, near)
        self._suspects(block, ids, own, hits.people, near)

    def _elsewhere(self, block: _Block, unit: F32, people: Index, near: F32) -> None:
        """Copies of faces of the block among the faces of people whom they resemble."""
        rows_of: dict[int, list[int]] = {}
        here = {person.id for person in block.people}
        for row, place in np.argwhere(near >= self._near).tolist():
            person = int(people[row, place])
            if person not in here:
                rows_of.setdefault(person, []).append(row)
        names = _names(self._store, rows_of)
        for person, rows in rows_of.items():
            for face in self._store.faces(person):
                values = unit[rows] @ direction(face.vector)
                for at in np.flatnonzero(values >= self._copy).tolist():
                    owner = block.people[block.owner[rows[at]]].name
                    self._copies(block.ids[rows[at]], face.id, owner, names.get(person, ""), float(values[at]))

    def _copies(self, a: int, b: int, of_a: str, of_b: str, value: float) -> None:
        first, second, people = (a, b, (of_a, of_b)) if a < b else (b, a, (of_b, of_a))
        if len(self.copies) < LIMIT:
            self.copies.setdefault((first, second), Copies(first, second, people, min(value, 1.0)))

    def _suspects(self, block: _Block, ids: Index, own: F32, people: Index, near: F32) -> None:
        """Faces that are likely somebody else's."""
        for row, id in enumerate(ids.tolist()):
            if twins := self._twins.get(id):
                near[row, np.isin(people[row], list(twins))] = -np.inf
        best = near.argmax(axis=1)
        rows = np.arange(len(near))
        other, nearest = near[rows, best], people[rows, best]
        found = np.flatnonzero(wrong(own, other, self._far, self._near)).tolist()
        names = _names(self._store, {int(nearest[row]) for row in found if np.isfinite(other[row])})
        for row in found:
            there = bool(np.isfinite(other[row]))
            self.suspects.append(
                Suspect(
                    block.ids[row],
                    block.people[block.owner[row]].name,
                    float(own[row]),
                    names.get(int(nearest[row]), "") if there else "",
                    float(other[row]) if there else math.nan,
                )
            )


def _names(store: Store, ids: Iterable[int]) -> dict[int, str]:
    """Names of people."""
    return {person.id: person.name for person in store.people(sorted(ids))}


def calibrated(store: Store, fpir: float, searches: int, progress: Callable[[int], object]) -> Shift:
    """See `Gallery.calibrate`.

    Who is found as near as one person under two names is, see `agreement`, is taken to be that person and passed over;
    a real double of somebody is so passed over too, and `Shift.passed` says how often.
    """
    card, people = store.card, store.counts().people
    count = min(people, max(searches, 1))
    if count < FEWEST:
        raise DataError(f"a gallery is calibrated with {FEWEST} people at least; there are {count}.")
    rate = min(max(fpir, FALSE_MATCHES / count), 0.5)
    strangers = _Strangers(store, card, agreement(card, people))
    chosen = _chosen(store, {place * people // count for place in range(count)})
    while some := list(islice(chosen, _PEOPLE)):
        strangers.add(some)
        progress(len(some))
    cosine = _beside(strangers.cosine, openset.threshold(card, rate, people - 1, "cosine").threshold, rate)
    score = 0.0
    if card.comparison is not None:
        score = _beside(strangers.score, openset.threshold(card, rate, people - 1, "quality").threshold, rate)
    return Shift(cosine, score, rate, people, len(strangers.cosine), strangers.passed)


def _beside(best: Sequence[float], expected: float, rate: float) -> float:
    """How far the threshold that a rate takes lies above what was expected."""
    found = threshold_at_fmr(best, rate) if best else None
    if found is None:
        raise DataError(f"too few people are there to measure FPIR {rate:g}; enroll more, or do without.")
    return found - expected


def _chosen(store: Store, places: set[int]) -> Iterator[tuple[int, F32]]:
    """Of the people in those places, their id and one of their faces."""
    for place, person in enumerate(store.people()):
        if place in places:
            faces = list(store.faces(person.id))
            if faces:
                yield person.id, faces[place % len(faces)].vector


class _Strangers:
    """The best that each search found among other people.

    Attributes:
        cosine: of each.
        score: quality-aware score of each; empty for a model without.
        passed: searches that found somebody as near as one person under two names is.
    """

    def __init__(self, store: Store, card: Card, agree: float) -> None:
        self._store, self._comparison, self._agree = store, card.comparison, agree
        self.cosine: list[float] = []
        self.score: list[float] = []
        self.passed = 0

    def add(self, probes: Sequence[tuple[int, F32]]) -> None:
        """Search for faces of people, given with their ids, among all others."""
        hits = self._store.search(direction(np.stack([vector for _, vector in probes])), SHORTLIST)
        everybody = {person.id: person for person in self._store.people(np.unique(hits.people).tolist())}
        for (own, vector), ids in zip(probes, hits.people.tolist(), strict=True):
            others = [everybody[id].template for id in ids if id in everybody and id != own]
            if others:
                self._enter(np.stack(others), vector)

    def _enter(self, templates: F32, probe: F32) -> None:
        near = cosine(templates, probe)
        strange = near < self._agree
        self.passed += not strange.all()
        if not strange.any():
            return
        self.cosine.append(float(near[strange].max()))
        if self._comparison is not None:
            lower = np.minimum(magnitude(templates[strange]), magnitude(probe))
            self.score.append(float(qmagface.score(near[strange], lower, self._comparison).max()))
