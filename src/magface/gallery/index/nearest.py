"""The nearest rows out of blocks of them, in bounded memory."""

from __future__ import annotations

import numpy as np

from magface.errors import DataError
from magface.gallery.index.rows import Block, Ids, Vectors
from magface.gallery.records import Hits
from magface.types import F32

FIRST = 2048
"""Rows that say how near others must be, where nobody was found yet."""
LEAST = -2.0
"""Less than a cosine can be; what is dead is less than this."""
CHUNK = 8192
"""People who are found at a time."""
AGAIN = 1 << 16
"""Numbers that are multiplied at a time: they stay near the processor."""


class Nearest:
    """The K nearest of what was shown so far, for each of Q probes.

    A block comes with quick cosines that may be off by `slack`. Whatever could be among the nearest is compared again
    in float64, row by row, so that neither the place of a row nor the number of threads changes the result, and equal
    rows have equal cosines.

    Args:
        probes: `(Q, D)` float32, of length 1.
        k: >= 1.
        slack: greatest error of the quick cosines, >= 0.
    """

    def __init__(self, probes: F32, k: int, slack: float) -> None:
        self.probes, self.k, self.slack = probes, k, slack
        self.people = np.full((len(probes), k), -1, np.int64)
        self.cosine = np.full((len(probes), k), -np.inf, np.float32)

    def show(self, block: Block, quick: F32) -> None:
        """Take in a block, with its quick cosines `(Q, B)` float32, which are written to.

        Raises:
            DataError: a row is not of length 1.
        """
        if not block.alive.all():
            quick[:, ~block.alive] = -np.inf
        if len(block) > FIRST and np.isneginf(self.cosine).any():
            self._look(block.part(0, FIRST), quick[:, :FIRST])
            self._look(block.part(FIRST, len(block)), quick[:, FIRST:])
        else:
            self._look(block, quick)

    def _look(self, block: Block, quick: F32) -> None:
        limit = self.cosine[:, -1] - self.slack
        # not "max >= limit": a block whose greatest is NaN may still hold neighbours
        open_ = np.flatnonzero(~(quick.max(axis=1) < limit))
        for start in range(0, len(open_), max(1, CHUNK // self.k)):
            self._take(block, quick, open_[start : start + max(1, CHUNK // self.k)])

    def hits(self) -> Hits:
        """What was found."""
        return Hits(self.people, self.cosine)

    def _take(self, block: Block, quick: F32, which: Ids) -> None:
        limit = self.cosine[which, -1] - self.slack
        near = quick[which]
        if near.shape[1] > self.k and not np.isfinite(limit).all():
            near[np.isnan(near)] = -np.inf
            top = np.partition(near, near.shape[1] - self.k, axis=1)[:, -self.k]
            limit = np.maximum(limit, top - self.slack)
        q, row = np.divmod(np.flatnonzero(near >= np.maximum(limit, LEAST)[:, None]), near.shape[1])
        cosine = again(self.probes, block.rows, which[q], row)
        there = cosine > -np.inf
        self._merge(which, q[there], block.ids[row[there]], cosine[there])

    def _merge(self, which: Ids, q: Ids, ids: Ids, cosine: F32) -> None:
        count, k = len(which), self.k
        q = np.concatenate([np.repeat(np.arange(count), k), q])
        ids = np.concatenate([self.people[which].ravel(), ids])
        cosine = np.concatenate([self.cosine[which].ravel(), cosine])
        order = np.lexsort((ids, -cosine, q))
        starts = np.searchsorted(q[order], np.arange(count))
        kept = order[starts[:, None] + np.arange(k)]
        self.people[which], self.cosine[which] = ids[kept], cosine[kept]


def again(probes: F32, rows: Vectors, q: Ids, row: Ids) -> F32:
    """Cosine of probe `q[i]` and row `row[i]`, in float64; -inf where the row was wiped out by another process.

    Raises:
        DataError: a row is not of length 1.
    """
    found, size = np.empty(len(q), np.float32), max(1, AGAIN // rows.shape[1])
    for start in range(0, len(q), size):
        part = slice(start, start + size)
        vectors = rows[row[part]].astype(np.float64)
        length = (vectors * vectors).sum(axis=1)
        if not ((np.abs(length - 1) < 0.02) | (length == 0)).all():
            raise DataError("the index of the gallery is damaged: a direction in it is not of length 1; delete it.")
        cosine = np.clip((vectors * probes[q[part]]).sum(axis=1), -1, 1)
        found[part] = np.where(length == 0, -np.inf, cosine)
    return found
