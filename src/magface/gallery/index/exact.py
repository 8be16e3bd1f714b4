"""Search that compares with everybody."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import threading
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from magface.gallery.index.nearest import Nearest
from magface.gallery.index.rows import Block, Ids, Rows, Vectors
from magface.gallery.index.sketch import Learned
from magface.gallery.records import Hits
from magface.threads import prefetch
from magface.types import F32

PROBES = 256
"""Probes that are compared at a time."""
CELLS = 1 << 20
"""Cosines that are held at a time: they stay near the processor."""
NUMBERS = 1 << 23
"""Numbers of rows in float16 that are read at a time."""
LONGEST = 1 << 18
"""Rows of a block, at most."""
FEW = 4
"""Probes up to which it is faster to read float16 than to turn it into float32."""

_kept = threading.local()


class Exact:
    """Every probe compared with every row: nobody is missed, and the time grows with the people.

    Args:
        rows: of the people.
    """

    learned: Learned | None = None

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def put(self, ids: Ids, directions: F32) -> None:
        """Add people, or replace the directions of those there are: `(N,)` int64 >= 0 and `(N, D)` float32."""
        self.rows.put(ids, directions)

    def remove(self, ids: Ids) -> None:
        """Take people out: `(N,)` int64; those that there are not change nothing."""
        self.rows.remove(ids)

    def learn(self) -> None:
        """Nothing is to be learned of people who are all compared."""

    def search(self, directions: F32, k: int, among: Ids | None = None) -> Hits:
        """The nearest people, of equally near ones the lower id first.

        Args:
            directions: `(Q, D)` float32, rows of length 1.
            k: people for each, >= 1.
            among: `(N,)` int64, rising; only people of these ids. None for everybody.

        Raises:
            DataError: a row is not of length 1: the file is damaged.
        """
        directions = np.ascontiguousarray(directions, np.float32)
        parts = [directions[start : start + PROBES] for start in range(0, max(1, len(directions)), PROBES)]
        found = [self._search(part, k, among) for part in parts]
        return Hits(np.concatenate([hits.people for hits in found]), np.concatenate([hits.cosine for hits in found]))

    def _search(self, probes: F32, k: int, among: Ids | None) -> Hits:
        nearest = Nearest(probes, k, slack(self.rows))
        if len(probes):
            size, workers = min(LONGEST, CELLS // len(probes)), 1
            if self.rows.dtype == np.float16:
                size = min(size, max(1, NUMBERS // self.rows.dimension))
                workers = threads() if len(probes) <= FEW else 1
            for block, found in _compared(probes, self.rows.blocks(size, among), workers):
                nearest.show(block, found)
        return nearest.hits()


def slack(rows: Rows) -> float:
    """Greatest error of `quick`: of sums in float32 in any order, and of a probe in the precision of the rows."""
    rounding = 2.0**-11 if rows.dtype == np.float16 else 0.0
    return rows.dimension * 2.0**-23 + rounding


def _compared(probes: F32, blocks: Iterator[Block], workers: int) -> Iterator[tuple[Block, F32]]:
    """Blocks with their quick cosines, the next ones made while the caller looks at these."""

    def compare(block: Block) -> tuple[Block, F32]:
        return block, quick(probes, block.rows)

    # a matrix product has its own threads, and one probe leaves the caller nothing to do meanwhile
    alone = workers == 1 and len(probes) <= FEW
    return map(compare, blocks) if alone else prefetch(compare, blocks, workers=workers, limit=workers + 1)


def quick(probes: F32, rows: Vectors) -> F32:
    """Cosines `(Q, B)` float32 of directions `(Q, D)` float32 and rows `(B, D)`, off by at most `slack`."""
    if rows.dtype == np.float16:
        library = _numkong() if len(probes) <= FEW else None
        if library is not None:
            return np.asarray(library.cdist(probes.astype(np.float16), rows, "dot"), np.float32)
        rows = _widened(rows)
    return (rows @ probes[0])[None] if len(probes) == 1 else probes @ rows.T


def threads() -> int:
    """How many threads read rows: as many as those of matrix products."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else min(os.cpu_count() or 1, 8)


def _widened(rows: Vectors) -> F32:
    """In float32, where the thread's last rows were: fresh memory costs several times what the change does."""
    whole: F32 | None = getattr(_kept, "whole", None)
    if whole is None or len(whole) < len(rows) or whole.shape[1] != rows.shape[1]:
        whole = _kept.whole = np.empty(rows.shape, np.float32)
    whole, library = whole[: len(rows)], _numkong()
    if library is None:
        whole[:] = rows
    else:
        library.astype(rows, "f32", out=whole)
    return whole


@functools.cache
def _numkong() -> ModuleType | None:
    """The library that multiplies float16 as it is read; without it there is the slower way."""
    return importlib.import_module("numkong") if importlib.util.find_spec("numkong") else None
