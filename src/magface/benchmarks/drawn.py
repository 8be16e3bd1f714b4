"""All pairs of some faces or templates, and error rates when their people are drawn again.

Comparisons that share a person are not independent, so intervals come from drawing people. Two ways of comparing are
told apart on the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPEATS = 300
_MARGIN = 4
"""How many times the impostor scores that may be accepted are kept at first: a draw can weigh the highest ones more."""

Index = NDArray[np.int64]


def draws(people: int) -> Iterator[Index]:
    """How often each person counts, `(P,)`, in each of 300 draws with replacement; the same draws each time."""
    rng = np.random.default_rng(0)
    for _ in range(REPEATS):
        yield rng.multinomial(people, np.full(people, 1 / people))


@dataclass(frozen=True, slots=True, eq=False)
class AllPairs:
    """Every two faces or templates, or every one with every one of another set.

    Attributes:
        first: `(N,)` rows.
        second: `(N,)` rows, each above that of `first`; or those of the other set.
        person: `(N,)` numbers of the people of both, from 0.
        same: `(N,)` bool, True where they are one.
        templates: `(P,)` faces or templates of each person.
        others: `(P,)` those of the other set, where there is one.
    """

    first: Index
    second: Index
    person: tuple[Index, Index]
    same: NDArray[np.bool_]
    templates: Index
    others: Index | None = None

    @staticmethod
    def of(person: Index) -> AllPairs:
        """Pairs of faces or templates of these people, `(T,)`."""
        _, number = np.unique(person, return_inverse=True)
        return AllPairs.numbered(number, int(number.max()) + 1)

    @staticmethod
    def numbered(number: Index, people: int) -> AllPairs:
        """Pairs where people have numbers already, `(T,)`, of which some may have no row."""
        first, second = np.triu_indices(len(number), 1)
        sides = number[first], number[second]
        return AllPairs(first, second, sides, sides[0] == sides[1], np.bincount(number, minlength=people))

    @staticmethod
    def across(number: Index, other: Index, people: int) -> AllPairs:
        """Every probe, `(T,)`, with every entry of a gallery, `(G,)`, of numbered people."""
        first, second = (grid.ravel() for grid in np.indices((len(number), len(other))))
        sides = number[first], other[second]
        shown, enrolled = (np.bincount(each, minlength=people) for each in (number, other))
        return AllPairs(first, second, sides, sides[0] == sides[1], shown, enrolled)

    @property
    def people(self) -> int:
        """People who are numbered."""
        return len(self.templates)

    def impostors(self, weight: Index) -> float:
        """Impostor pairs where person p counts `weight[p]` times, `(P,)`."""
        shown = weight * self.templates
        if self.others is None:
            return float(shown.sum() ** 2 - (shown**2).sum()) / 2
        enrolled = weight * self.others
        return float(shown.sum() * enrolled.sum() - (shown * enrolled).sum())


class Drawn:
    """Rates at a false match rate where each person stands there a number of times.

    Args:
        scores: `(N,)` float, of the pairs.
        pairs: N pairs, some of them of different people.
        fmr: false match rate, between 0 and 1.
    """

    def __init__(self, scores: NDArray[np.floating], pairs: AllPairs, fmr: float) -> None:
        self._fmr, self._pairs = fmr, pairs
        self._genuine, self._person = scores[pairs.same], pairs.person[0][pairs.same]
        self._rows = np.flatnonzero(~pairs.same)
        self._scores = scores[self._rows]
        self._keep(math.ceil(_MARGIN * fmr * len(self._rows)) + 1000)

    def _keep(self, wanted: int) -> None:
        """Sort the highest impostor scores only; of many pairs the others never come near the threshold."""
        kept = min(wanted, len(self._rows))
        highest = np.argpartition(-self._scores, kept - 1)[:kept]
        highest = highest[np.argsort(-self._scores[highest], kind="stable")]
        self._impostor, self._sides = self._scores[highest], [side[self._rows[highest]] for side in self._pairs.person]

    def matched(self, weight: Index) -> tuple[int, int]:
        """Genuine pairs that are accepted, and all, where person p counts `weight[p]` times, `(P,)`.

        A pair of a person counts as often as the person, a pair of two as often as there are copies of both.
        """
        allowed = self._fmr * self._pairs.impostors(weight)
        while True:
            counts = weight[self._sides[0]] * weight[self._sides[1]]
            rejected = int(np.searchsorted(np.cumsum(counts), allowed, side="right"))
            if rejected < len(counts) or len(counts) == len(self._rows):
                break
            self._keep(4 * len(counts))
        above = self._impostor[min(rejected, len(counts) - 1)]
        genuine = weight[self._person]
        return int(genuine[self._genuine > above].sum()), int(genuine.sum())

    def tar(self, weight: Index) -> float:
        """True accept rate, likewise; NaN where nobody has a genuine pair."""
        accepted, genuine = self.matched(weight)
        return accepted / genuine if genuine else math.nan
