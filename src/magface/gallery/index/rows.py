"""Directions of people in rows: those of a file as they are, and what changed since beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.types import F32

Ids = NDArray[np.int64]
Vectors = NDArray[Any]
"""`(N, D)` float32 or float16."""

SPARSE = 4
"""A block of which less than one row in so many is wanted is gathered rather than read as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows to compare with.

    Attributes:
        ids: `(B,)` int64, whose rows they are.
        rows: `(B, D)` float32 or float16.
        wanted: `(B,)` bool, which count; None for all of them.
    """

    ids: Ids
    rows: Vectors
    wanted: NDArray[np.bool_] | None


class Rows:
    """Rows by id. The base is never written, so that it may be a mapped file; changes lie in memory beside it.

    Opening costs nothing by row, a change costs the same however many rows there are.

    Args:
        ids: `(N,)` int64, >= 0, rising.
        rows: `(N, D)` float32 or float16, of length 1.
        alive: `(N,)` bool, which of them there still are.
    """

    def __init__(self, ids: Ids, rows: Vectors, alive: NDArray[np.bool_] | None = None) -> None:
        self.base_ids, self.base = ids, rows
        self.alive = np.ones(len(ids), bool) if alive is None else alive
        self._dead = len(ids) - int(np.count_nonzero(self.alive))
        self._ids = np.empty(0, np.int64)
        self._rows: Vectors = np.empty((0, rows.shape[1]), rows.dtype)
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.base_ids) - self._dead + len(self._places)

    @property
    def dimension(self) -> int:
        """D."""
        return self.base.shape[1]

    @property
    def changed(self) -> Block:
        """Rows that are not in the base, in no order."""
        count = len(self._places)
        return Block(self._ids[:count], self._rows[:count], None)

    def put(self, ids: Ids, directions: F32) -> None:
        """Add rows, or replace those that have the id; of an id that comes twice the last one stays."""
        self._bury(ids)
        self._grow(len(self._places) + len(ids))
        for id, direction in zip(ids.tolist(), directions, strict=True):
            place = self._places.setdefault(id, len(self._places))
            self._ids[place], self._rows[place] = id, direction

    def remove(self, ids: Ids) -> None:
        """Take rows out, and their numbers out of memory; ids that there are not change nothing."""
        self._bury(ids)
        for id in ids.tolist():
            place = self._places.pop(id, None)
            if place is None:
                continue
            last = len(self._places)
            if place != last:
                self._ids[place], self._rows[place] = self._ids[last], self._rows[last]
                self._places[int(self._ids[place])] = place
            self._rows[last] = 0

    def blocks(self, size: int, among: Ids | None) -> Iterator[Block]:
        """Rows in blocks of at most `size`; with `among`, rising, only those of these ids."""
        if among is None:
            for start in range(0, len(self.base_ids), size):
                part = slice(start, start + size)
                alive = self.alive[part]
                if alive.any():
                    yield Block(self.base_ids[part], self.base[part], None if alive.all() else alive)
        else:
            yield from self._some(self._found(among), size)
        changed = self.changed
        wanted = None if among is None else np.isin(changed.ids, among)
        for start in range(0, len(changed.ids), size):
            part = slice(start, start + size)
            if wanted is None or wanted[part].any():
                yield Block(changed.ids[part], changed.rows[part], None if wanted is None else wanted[part])

    def merged(self) -> tuple[Ids, Iterator[Vectors]]:
        """All ids, rising, and their rows in that order, in blocks of bounded memory."""
        changed = self.changed
        order = np.argsort(changed.ids, kind="stable")
        kept = np.flatnonzero(self.alive)
        ids = np.concatenate([self.base_ids[kept], changed.ids[order]])
        places = np.concatenate([kept, len(self.base_ids) + order])
        rising = np.argsort(ids, kind="stable")
        return ids[rising], self._gathered(places[rising], changed.rows)

    def _gathered(self, places: NDArray[np.intp], changed: Vectors, size: int = 8192) -> Iterator[Vectors]:
        base = len(self.base_ids)
        for start in range(0, len(places), size):
            part = places[start : start + size]
            if part[-1] - part[0] == len(part) - 1 and part.max() < base and (np.diff(part) == 1).all():
                yield self.base[part[0] : part[-1] + 1]
                continue
            rows = np.empty((len(part), self.dimension), self.base.dtype)
            old = part < base
            rows[old], rows[~old] = self.base[part[old]], changed[part[~old] - base]
            yield rows

    def _some(self, places: NDArray[np.intp], size: int) -> Iterator[Block]:
        """Blocks of the base that hold these places, which rise."""
        while len(places):
            start = places[0]
            count = int(np.searchsorted(places, start + size))
            part, places = places[:count], places[count:]
            stop = part[-1] + 1
            if (stop - start) < SPARSE * count:
                wanted = np.zeros(stop - start, bool)
                wanted[part - start] = True
                yield Block(self.base_ids[start:stop], self.base[start:stop], wanted)
            else:
                yield Block(self.base_ids[part], self.base[part], None)

    def _found(self, ids: Ids) -> NDArray[np.intp]:
        """Places in the base of those ids that live there, in the order of `ids`."""
        places = np.searchsorted(self.base_ids, ids)
        places = np.minimum(places, max(len(self.base_ids) - 1, 0))
        if not len(self.base_ids):
            return places[:0]
        return places[(self.base_ids[places] == ids) & self.alive[places]]

    def _bury(self, ids: Ids) -> None:
        places = np.unique(self._found(ids))
        self.alive[places] = False
        self._dead += len(places)

    def _grow(self, count: int) -> None:
        if count <= len(self._ids):
            return
        room = max(count, 2 * len(self._ids), 64)
        ids, rows = np.zeros(room, np.int64), np.zeros((room, self.dimension), self.base.dtype)
        used = len(self._places)
        ids[:used], rows[:used] = self._ids[:used], self._rows[:used]
        self._ids, self._rows = ids, rows
