"""Searches of a store: the nearest people of a face, whether one of them was found, and claims to be somebody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError, ModelError
from magface.gallery import openset
from magface.gallery.openset import By, OpenSet, Shift
from magface.gallery.records import Hits, Person
from magface.gallery.store import Store
from magface.geometry import cosine, direction, magnitude
from magface.models.card import Card, Threshold
from magface.quality import calibration, qmagface
from magface.types import F32

SHORTLIST = 100
"""People whose quality-aware score is looked at, at least, however few are asked for."""
BATCH = 256
"""Probes that are searched at a time."""


@dataclass(frozen=True, slots=True)
class Match:
    """Somebody whom a probe resembles.

    Attributes:
        person: name.
        id: of the person.
        cosine: of the probe and the template, -1 to 1.
        score: quality-aware score of the two, at most the cosine; None where the model has none.
        magnitude: of the template, > 0: how far the person's pictures together can be trusted.
        quality: the same as a score, 0 to 100.
        labels: of the person.
    """

    person: str
    id: int
    cosine: float
    score: float | None
    magnitude: float
    quality: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """What the search for one probe found.

    Attributes:
        matches: the nearest people, best first; fewer than asked for where there are not as many.
        quality: of the probe, 0 to 100.
        limit: threshold of the open-set decision; None where no rate was stated.
        exact: whether these are the best of all people, as far as the index is exact. Always so by cosine; for the
            quality-aware score where the last of `matches` scores at least the lowest cosine of the shortlist, which
            nobody outside of it can exceed.
    """

    matches: tuple[Match, ...]
    quality: float
    limit: OpenSet | None = None
    exact: bool = True

    @property
    def identified(self) -> Match | None:
        """The best match, where it reaches the threshold; None where it does not, or no rate was stated."""
        if self.limit is None or not self.matches:
            return None
        best = self.matches[0]
        value = best.cosine if self.limit.by == "cosine" else best.score
        return best if value is not None and value >= self.limit.threshold else None


@dataclass(frozen=True, slots=True)
class Claim:
    """Is a face that of the person whose it is said to be?

    Attributes:
        person: name.
        cosine: of the face and the template, -1 to 1.
        score: quality-aware score of the two; None where the model has none.
        quality: of the worse of the two, 0 to 100: what the comparison can be trusted by.
        threshold: of the model's card: cosine at a false match rate, and the comparisons behind it.
    """

    person: str
    cosine: float
    score: float | None
    quality: float
    threshold: Threshold

    @property
    def match(self) -> bool:
        """Whether the cosine reaches the threshold."""
        return self.cosine >= self.threshold.cosine

    @property
    def weak(self) -> bool:
        """Whether the worse of the two is so poor that it may hide who it shows."""
        return self.quality < calibration.WEAK


def search(
    store: Store, probes: F32, k: int, by: By, fpir: float | None, label: str | None, shift: Shift
) -> Iterator[Search]:
    """See `Gallery.search`."""
    if by not in openset.BY:
        raise DataError(f"there is no search by {by!r}; choose {' or '.join(openset.BY)}.")
    if k < 1:
        raise DataError(f"a search finds at least one person; {k} is too few.")
    card = store.card
    if by == "quality" and card.comparison is None:
        raise ModelError(f"{card.name} has no quality-aware score; search by cosine.")
    wanted = k if by == "cosine" else max(10 * k, SHORTLIST)
    if wanted > SHORTLIST:  # there may be no room for as many as were asked for
        wanted = min(wanted, max(SHORTLIST, store.counts().people + 1))
    for start in range(0, len(probes), BATCH):
        block = probes[start : start + BATCH]
        hits = store.search(direction(block), wanted, label)
        limit = None
        if fpir is not None:
            limit = openset.threshold(card, fpir, searched(store, hits), by, shift)
        people = {person.id: person for person in store.people(np.unique(hits.people[hits.people >= 0]).tolist())}
        yield from _judged(card, people, block, hits, k, by, limit)


def searched(store: Store, hits: Hits) -> int:
    """How many people could be found."""
    return store.counts().people if hits.searched is None else hits.searched


def _judged(
    card: Card, people: Mapping[int, Person], probes: F32, hits: Hits, k: int, by: By, limit: OpenSet | None
) -> Iterator[Search]:
    """The searches of a block of probes, that found some of the people."""
    for probe, ids, cosines in zip(probes, hits.people.tolist(), hits.cosine, strict=True):
        # somebody else may have removed people since
        found = [people[id] for id in ids if id in people]
        matches = sorted(_matches(card, probe, found), key=lambda match: (-_value(match, by), -match.cosine, match.id))
        exact = by == "cosine" or len(found) < len(ids) or len(matches) <= k
        if not exact:
            exact = _value(matches[k - 1], by) >= float(cosines[-1])
        quality = float(calibration.score(magnitude(probe), card))
        yield Search(tuple(matches[:k]), quality, limit, exact)


def _value(match: Match, by: By) -> float:
    return match.cosine if by == "cosine" or match.score is None else match.score


def _matches(card: Card, probe: F32, people: list[Person]) -> list[Match]:
    """A probe beside people, in float32 whatever the precision of the index."""
    if not people:
        return []
    templates = np.stack([person.template for person in people])
    cosines, lengths = cosine(templates, probe), magnitude(templates)
    scores = _scores(card, cosines, np.minimum(lengths, magnitude(probe)))
    qualities = calibration.score(lengths, card)
    columns = zip(people, cosines.tolist(), scores, lengths.tolist(), qualities.tolist(), strict=True)
    return [Match(person.name, person.id, c, s, a, q, person.labels) for person, c, s, a, q in columns]


def _scores(card: Card, cosines: F32, lower: NDArray[np.floating]) -> list[float] | list[None]:
    """Quality-aware scores, None for a model without."""
    if card.comparison is None:
        return [None] * len(cosines)
    return qmagface.score(cosines, lower, card.comparison).tolist()


def claim(card: Card, probe: F32, person: Person, fmr: float) -> Claim:
    """See `Gallery.verify`."""
    threshold = card.threshold(fmr)
    [match] = _matches(card, probe, [person])
    quality = min(float(calibration.score(magnitude(probe), card)), match.quality)
    return Claim(person.name, match.cosine, match.score, quality, threshold)
