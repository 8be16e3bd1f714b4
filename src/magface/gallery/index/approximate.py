"""Search that compares with the likely ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from magface.gallery.index import sketch
from magface.gallery.index.exact import Exact, quick, slack
from magface.gallery.index.nearest import Nearest
from magface.gallery.index.rows import Block, Ids, Places, Rows, Vectors, join
from magface.gallery.index.sketch import MOST, Learned, Scan
from magface.gallery.records import Hits
from magface.geometry import direction
from magface.types import F32

SMALL = 20_000
"""People up to which comparing with everybody takes no longer than a sketch."""
GROWTH = 4
"""A sketch is made anew when there are so many times the people that it was made for."""
TAIL = 4096
"""People who came last and are compared one by one until there are so many."""
TRIALS = 512
"""Searches from which the number of candidates is found."""
GENUINE = 0.5
"""Cosine of the made-up probe and the person it shows: as low as that of 1 in 20 pairs of photos of LFW."""
MARGIN = 2
"""Times the candidates that the trials needed."""
FEWEST = 128
"""Candidates, at least."""
EACH = 32
"""Candidates for each person that is asked for, at least."""


class Approximate:
    """A probe compared with everybody by four bits at a time, and exactly with those who come out likely.

    How many those are is tried out on the people themselves, with probes made up to be hard: see `GENUINE`. Small
    galleries, searches among some, and a recall of 1 compare with everybody.

    Args:
        rows: of the people.
        recall: share of searches in which the nearest person must be found.
        learned: what was learned of the rows before; None for nothing.
    """

    def __init__(self, rows: Rows, recall: float, learned: Learned | None = None) -> None:
        self.rows, self.recall, self.learned = rows, recall, learned
        self._exact = Exact(rows)
        self._scans: tuple[Scan, Scan] | None = None
        self._sweeps = 0

    def __len__(self) -> int:
        return len(self.rows)

    def put(self, ids: Ids, directions: F32) -> None:
        """Add people, or replace the directions of those there are: `(N,)` int64 >= 0 and `(N, D)` float32."""
        self.rows.put(ids, directions)

    def remove(self, ids: Ids) -> None:
        """Take people out: `(N,)` int64; those that there are not change nothing."""
        self.rows.remove(ids)

    def search(self, directions: F32, k: int, among: Ids | None = None) -> Hits:
        """The nearest people of the likely ones, of equally near ones the lower id first.

        Args:
            directions: `(Q, D)` float32, rows of length 1.
            k: people for each, >= 1.
            among: `(N,)` int64, rising; only people of these ids. None for everybody.

        Raises:
            DataError: a row is not of length 1: the file is damaged; or faiss is not installed.
        """
        self.learn()
        directions = np.ascontiguousarray(directions, np.float32)
        known, count = self.learned, self._count(k)
        if known is None or among is not None or not count:
            return self._exact.search(directions, k, among)
        base, fresh, coded = self._likely(known, directions, count)
        late = self.rows.fresh.part(coded, len(self.rows.fresh))
        nobody = Nearest(directions[:0], k, 0).hits()
        found = [nobody, *(self._best(*each, late, k) for each in zip(directions[:, None], base, fresh, strict=True))]
        return Hits(np.concatenate([hits.people for hits in found]), np.concatenate([hits.cosine for hits in found]))

    def learn(self) -> None:
        """Make a sketch of the people if there is none, or one that was made for far fewer."""
        people = len(self.rows)
        if people < SMALL or self.recall >= 1 or not sketch.width(self.rows.dimension):
            return
        if self.learned is None or people > GROWTH * self.learned.people:
            self._learn(np.random.default_rng(people))

    def _count(self, k: int) -> int:
        """Candidates to compare; 0 where comparing with everybody is better."""
        if self.learned is None or not self.learned.candidates or len(self.rows) < SMALL:
            return 0
        crowd = (len(self.rows.base) + len(self.rows.fresh)) / self.learned.people
        count = math.ceil(max(self.learned.candidates, EACH * k) * max(1, crowd))
        return count if count <= GROWTH * MOST else 0

    def _learn(self, rng: np.random.Generator) -> None:
        _, places = self.rows.order()
        some = np.sort(rng.choice(places, min(sketch.LEARNED, len(places)), replace=False))
        sample = join(self.rows.base.rows, self.rows.fresh.rows, some).astype(np.float32)
        made = sketch.learn(sample, rng)
        known = Learned(made, made.encode(self.rows.base.rows), 0, len(places))
        self._scans = None
        needed = self._needed(known, probes(sample, TRIALS, rng))
        self.learned = replace(known, candidates=0 if needed > MOST else max(FEWEST, needed))

    def _needed(self, known: Learned, directions: F32) -> int:
        """Candidates that find the nearest person as often as asked for, with a margin."""
        nearest = self._exact.search(directions, 1).people
        base, fresh, _ = self._likely(known, directions, MOST)
        ranks = np.minimum(rank(self.rows.base.ids, base, nearest), rank(self.rows.fresh.ids, fresh, nearest))
        share = self.recall + (1 - self.recall) * 0.75
        return MARGIN * int(np.sort(ranks)[math.ceil(share * len(ranks)) - 1] + 1)

    def _likely(self, known: Learned, directions: F32, count: int) -> tuple[Places, Places, int]:
        """Places in base and fresh rows `(Q, count)`, likeliest first, -1 where there are fewer.

        And how many of the fresh rows have codes: no more than a tail lacks them.
        """
        rows, none = self.rows.fresh.rows, known.codes[:0]
        if self._scans is None:
            self._scans = known.sketch.scan(known.codes), known.sketch.scan(none)
        elif self._sweeps != self.rows.sweeps:
            self._scans = self._scans[0], known.sketch.scan(none)
        self._sweeps = self.rows.sweeps
        base, fresh = self._scans
        if len(rows) - len(fresh) > TAIL:
            fresh.add(rows[len(fresh) :])
        return base.likely(directions, count), fresh.likely(directions, count), len(fresh)

    def _best(self, probe: F32, base: Places, fresh: Places, late: Block, k: int) -> Hits:
        """The nearest of the candidates of one probe `(1, D)`, and of people of whom there is no code."""
        nearest = Nearest(probe, k, slack(self.rows))
        for near in (self.rows.base.at(base[base >= 0]), self.rows.fresh.at(fresh[fresh >= 0]), late):
            if len(near):
                nearest.show(near, quick(probe, near.rows))
        return nearest.hits()


def probes(rows: Vectors, count: int, rng: np.random.Generator) -> F32:
    """Other faces of some of these people, made up: `(count, D)` float32, of length 1.

    A face is what is common with the person's row, and for the rest what people differ by.
    """
    own = rows[rng.integers(0, len(rows), count)]
    centred = rows - rows.mean(axis=0)
    other = rng.standard_normal((count, len(rows)), dtype=np.float32) @ centred
    other = direction(other - (other * own).sum(axis=1, keepdims=True) * own)
    return direction(GENUINE * own + math.sqrt(1 - GENUINE**2) * other)


def rank(ids: Ids, places: Places, nearest: Ids) -> Places:
    """Column in which the person comes among the candidates `(Q, C)`; `MOST` where it does not."""
    if not len(ids):
        return np.full(len(places), MOST)
    found = (places >= 0) & (ids[places] == nearest)
    return np.where(found.any(axis=1), found.argmax(axis=1), MOST)
