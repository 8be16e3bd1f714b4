"""Pairs in the order of their quality, and what is left of their errors when the lowest are discarded.

What curves, areas and draws of error versus discard have in common. The order is made once; errors, which a threshold
decides, and weights, which a draw decides, come afterwards and cost no sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Float = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """Pairs in the order of rising quality, for any errors and weights of them.

    Attributes:
        order: `(N,)` int, rows.
        ends: `(G,)` int, where each group of equal quality ends in the order.
    """

    order: NDArray[np.intp]
    ends: NDArray[np.intp]

    @staticmethod
    def of(quality: Float) -> Ordered:
        """The order of `(N,)` qualities, N >= 1."""
        order = np.argsort(quality)
        found = quality[order]
        return Ordered(order, np.append(np.flatnonzero(found[1:] != found[:-1]) + 1, len(order)))

    def removed(self, errors: Mask, weight: F64 | None = None) -> Removed:
        """What goes with the pairs discarded.

        Args:
            errors: `(N,)` whether each pair is one.
            weight: `(N,)` how often each pair counts, whole numbers; once by default.
        """
        counts = np.ones(len(self.order)) if weight is None else weight[self.order]
        last = self.ends - 1
        pairs = np.append(0, np.cumsum(counts)[last])
        wrong = np.append(0, np.cumsum(np.where(errors[self.order], counts, 0))[last])
        moved = wrong[1:] != wrong[:-1]  # between two moves a straight line stays one
        kept = np.append(moved, True) | np.append(True, moved)
        return Removed(pairs[kept], wrong[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Removed:
    """Pairs and errors that have gone when groups of equal quality are discarded one after another.

    Attributes:
        pairs: `(K,)` rising from 0 to all.
        errors: `(K,)` likewise; between two of them it rises in a straight line.
    """

    pairs: F64
    errors: F64

    def error(self, discarded: F64) -> F64:
        """`(K,)` error rate of what is kept when so many pairs, `(K,)`, are discarded; below all of them."""
        gone = np.interp(discarded, self.pairs, self.errors)
        return (self.errors[-1] - gone) / (self.pairs[-1] - discarded)

    def steps(self, levels: F64) -> F64:
        """`(K,)` error rate at shares discarded, `(K,)`: that of the step on which each lies."""
        count = self.pairs[-1]
        return self.error(np.minimum(np.floor(levels * count + 1e-9), count - 1))

    def pauc(self, limits: Sequence[float]) -> F64:
        """`(L,)` mean error from 0 to each limit, a share discarded above 0 and up to 1."""
        ends = np.asarray(limits) * self.pairs[-1]
        error = self.error(np.arange(np.ceil(ends.max() - 1e-9)))
        area, whole = np.append(0.0, np.cumsum(error)), np.minimum(ends.astype(np.intp), len(error) - 1)
        return (area[whole] + (ends - whole) * error[whole]) / ends

    @staticmethod
    def ideal(errors: float, pairs: float) -> Removed:
        """So many errors among so many pairs in the best order: all of them first."""
        return Removed(np.array([0.0, errors, pairs]), np.array([0.0, errors, errors]))

    def relative(self, limits: Sequence[float]) -> tuple[F64, F64]:
        """Areas divided by the error without discarding, `(L,)`, and those of the best order; NaN without errors."""
        wrong, count = self.errors[-1], self.pairs[-1]
        if not wrong:
            return np.full(len(limits), np.nan), np.full(len(limits), np.nan)
        return self.pauc(limits) * count / wrong, Removed.ideal(wrong, count).pauc(limits) * count / wrong
