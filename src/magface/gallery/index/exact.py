"""Search that compares with everybody."""

from __future__ import annotations

import numpy as np

from magface.gallery.index.nearest import Nearest
from magface.gallery.index.rows import Ids, Rows, Vectors
from magface.gallery.records import Hits
from magface.types import F32

PROBES = 256
"""Probes that are compared at a time."""
CELLS = 1 << 22
"""Cosines that are held at a time."""
LONGEST = 1 << 16
"""Rows of a block, at most."""


class Exact:
    """Every probe compared with every row: nobody is missed, and the time grows with the people.

    Args:
        rows: of the people.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def put(self, ids: Ids, directions: F32) -> None:
        """Add people, or replace the directions of those there are: `(N,)` int64 and `(N, D)` float32."""
        self.rows.put(ids, directions)

    def remove(self, ids: Ids) -> None:
        """Take people out: `(N,)` int64; those that there are not change nothing."""
        self.rows.remove(ids)

    def search(self, directions: F32, k: int, among: Ids | None = None) -> Hits:
        """The nearest people, of equally near ones the lower id first.

        Args:
            directions: `(Q, D)` float32, rows of length 1.
            k: people for each, >= 1.
            among: `(N,)` int64, rising; only people of these ids. None for everybody.

        Raises:
            DataError: a row is not of length 1: the file is damaged.
        """
        found = [
            self._search(directions[start : start + PROBES], k, among) for start in range(0, len(directions), PROBES)
        ]
        if not found:
            return Nearest(directions, k, 0).hits()
        return Hits(np.concatenate([hits.people for hits in found]), np.concatenate([hits.cosine for hits in found]))

    def _search(self, probes: F32, k: int, among: Ids | None) -> Hits:
        probes = np.ascontiguousarray(probes, np.float32)
        nearest = Nearest(probes, k, slack=probes.shape[1] * 2.0**-23)
        for block in self.rows.blocks(min(LONGEST, CELLS // len(probes)), among):
            nearest.show(block, quick(probes, block.rows))
        return nearest.hits()


def quick(probes: F32, rows: Vectors) -> F32:
    """Cosines `(Q, B)` float32 of directions `(Q, D)` float32 and rows `(B, D)`."""
    rows = np.asarray(rows, np.float32)
    return (rows @ probes[0])[None] if len(probes) == 1 else probes @ rows.T
