"""Directions of people in rows: those of a file as they are, and what changed since beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.types import F32

Ids = NDArray[np.int64]
Places = NDArray[np.intp]
Marks = NDArray[np.bool_]
Vectors = NDArray[Any]
"""`(N, D)` float32 or float16."""

SPARSE = 4
"""A stretch of which less than one row in so many is wanted is gathered rather than read as a whole."""
SPARE = 1024
"""Rows that may lie dead in memory, beyond as many as live there."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows to compare with.

    Attributes:
        ids: `(B,)` int64, whose rows they are.
        rows: `(B, D)` float32 or float16.
        alive: `(B,)` bool, which of them count.
    """

    ids: Ids
    rows: Vectors
    alive: Marks

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> Block:
        """A stretch of it, not copied."""
        return Block(self.ids[start:stop], self.rows[start:stop], self.alive[start:stop])

    def at(self, places: Places) -> Block:
        """Rows at places, copied."""
        return Block(self.ids[places], self.rows[places], self.alive[places])


class Rows:
    """Rows by id. The base is never written, so that it may be a mapped file; changes lie in memory beside it.

    Opening costs nothing by row, and a change costs the same however many rows there are. Rows that are replaced or
    removed die where they lie; those in memory are wiped out at once, and swept when half of them are dead.

    Args:
        ids: `(N,)` int64, >= 0, rising.
        rows: `(N, D)` float32 or float16, of length 1.
        alive: `(N,)` bool, which of them there still are.
    """

    def __init__(self, ids: Ids, rows: Vectors, alive: Marks | None = None) -> None:
        self.base = Block(ids, rows, np.ones(len(ids), bool) if alive is None else alive)
        """Rows in the order of their ids, as they were at first."""
        self.sweeps = 0
        """How often rows of `fresh` were moved."""
        self._living = int(np.count_nonzero(self.base.alive))
        self._room = _empty(0, rows.shape[1], rows.dtype)
        self._used = 0
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return self._living + len(self._places)

    @property
    def dimension(self) -> int:
        """D."""
        return self.base.rows.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float16."""
        return self.base.rows.dtype

    @property
    def fresh(self) -> Block:
        """Rows that came since, in the order in which they came."""
        return self._room.part(0, self._used)

    def put(self, ids: Ids, directions: F32) -> None:
        """Add rows, or replace those that have the id; of an id that comes twice the last one stays."""
        self.remove(ids)
        start, stop = self._used, self._used + len(ids)
        if stop > len(self._room):
            self._move(np.arange(start), max(stop, 2 * start, 64))
        self._room.ids[start:stop], self._room.rows[start:stop], self._room.alive[start:stop] = ids, directions, True
        self._used = stop
        for place, id in enumerate(ids.tolist(), start):
            self._die(self._places.get(id))
            self._places[id] = place

    def remove(self, ids: Ids) -> None:
        """Take rows out, and their numbers out of memory; ids that there are not change nothing."""
        found = np.unique(self._in_base(ids))
        self.base.alive[found] = False
        self._living -= len(found)
        for id in ids.tolist():
            self._die(self._places.pop(id, None))
        if self._used > 2 * len(self._places) + SPARE:
            self._sweep()

    def blocks(self, size: int, among: Ids | None = None) -> Iterator[Block]:
        """Rows in blocks of at most `size` that hold a living one; with `among`, rising, one of these ids."""
        fresh = self.fresh
        if among is None:
            yield from _parts(self.base, size)
        else:
            yield from self._stretches(self._in_base(among), size)
            fresh = Block(fresh.ids, fresh.rows, fresh.alive & np.isin(fresh.ids, among))
        yield from _parts(fresh, size)

    def order(self) -> tuple[Ids, Places]:
        """Living ids, rising, and the places of their rows, which count through base and fresh."""
        base, fresh = np.flatnonzero(self.base.alive), np.flatnonzero(self.fresh.alive)
        ids = np.concatenate([self.base.ids[base], self.fresh.ids[fresh]])
        places = np.concatenate([base, len(self.base) + fresh])
        rising = np.argsort(ids, kind="stable")
        return ids[rising], places[rising]

    def _stretches(self, places: Places, size: int) -> Iterator[Block]:
        """Blocks of the base that hold these places, which rise."""
        while len(places):
            start = int(places[0])
            count = int(np.searchsorted(places, start + size))
            part, places = places[:count], places[count:]
            stop = int(part[-1]) + 1
            if stop - start < SPARSE * count:
                block = self.base.part(start, stop)
                chosen = np.zeros(len(block), bool)
                chosen[part - start] = True
                yield Block(block.ids, block.rows, chosen)
            else:
                yield self.base.at(part)

    def _in_base(self, ids: Ids) -> Places:
        """Places of those ids that live in the base, in the order of `ids`."""
        if not len(self.base):
            return np.empty(0, np.intp)
        places = np.minimum(np.searchsorted(self.base.ids, ids), len(self.base) - 1)
        return places[(self.base.ids[places] == ids) & self.base.alive[places]]

    def _die(self, place: int | None) -> None:
        if place is not None:
            self._room.alive[place] = False
            self._room.rows[place] = 0

    def _sweep(self) -> None:
        kept = np.flatnonzero(self.fresh.alive)
        self._move(kept, 2 * len(kept))
        self._places = {id: place for place, id in enumerate(self.fresh.ids.tolist())}
        self.sweeps += 1

    def _move(self, kept: Places, room: int) -> None:
        new, part = _empty(room, self.dimension, self.dtype), slice(0, len(kept))
        new.ids[part], new.rows[part] = self._room.ids[kept], self._room.rows[kept]
        new.alive[part] = self._room.alive[kept]
        self._room, self._used = new, len(kept)


def join(base: NDArray[Any], fresh: NDArray[Any], places: Places) -> NDArray[Any]:
    """Rows at places that count through both; a stretch of the base is not copied."""
    if len(places) and places[-1] < len(base) and (np.diff(places) == 1).all():
        return base[places[0] : places[-1] + 1]
    rows = np.empty((len(places), *base.shape[1:]), base.dtype)
    old = places < len(base)
    rows[old], rows[~old] = base[places[old]], fresh[places[~old] - len(base)]
    return rows


def _parts(block: Block, size: int) -> Iterator[Block]:
    parts = (block.part(start, start + size) for start in range(0, len(block), size))
    return (part for part in parts if part.alive.any())


def _empty(room: int, dimension: int, dtype: np.dtype[Any]) -> Block:
    return Block(np.zeros(room, np.int64), np.zeros((room, dimension), dtype), np.zeros(room, bool))
