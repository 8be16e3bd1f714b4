"""The k nearest faces of every face by cosine, exactly or nearly so.

Exact search compares all pairs, in blocks. The approximate one looks only into the cells of space next to a face: many
small cells, found by way of a graph over their centres, so that a face costs about the same among a million as among
ten thousand. How many cells it looks into is measured on a sample of the faces at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.types import F32, Embeddings

NONE = -1
"""Stands where a face has fewer neighbours than columns."""

_ROWS = 1024
_COLUMNS = 8192
"""Faces that are compared at a time: 32 MiB of cosines."""

_CELL = 64
"""Faces in a cell of the approximate search, about."""
_SAMPLE = 512
"""Faces on whose exact neighbours recall is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest other faces of N faces, nearest first; those at one cosine in any order.

    Attributes:
        index: `(N, k)` int64, rows of the faces; -1 where there are fewer than k.
        cosine: `(N, k)` float32, falling along a row; -1 where there is no face.
    """

    index: NDArray[np.int64]
    cosine: F32

    def __len__(self) -> int:
        return len(self.index)


def exact(embeddings: Embeddings, k: int) -> Neighbours:
    """Compare every face with every other, in blocks; numpy is all it needs.

    Time grows with N^2 D. Memory beside the result is that of the directions and of one block.

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) has cosine 0 with every other.
        k: neighbours of a face, at least 1.

    Returns:
        The k nearest of each face, itself left out.

    Raises:
        DataError: k is less than 1.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> exact(faces, k=1).index.ravel()
        array([2, 2, 1])
    """
    _check(k)
    directions = embeddings.direction
    result = _empty(len(directions), k)
    for first in range(0, len(directions), _ROWS):
        rows = slice(first, first + _ROWS)
        result.index[rows], result.cosine[rows] = _nearest(directions, np.arange(len(directions))[rows], k)
    return result


def _nearest(directions: F32, rows: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], F32]:
    best = _empty(len(rows), k)
    index, cosine = best.index, best.cosine
    worst = np.full((len(rows), 1), -np.inf, np.float32)
    for first in range(0, len(directions), _COLUMNS):
        found = directions[rows] @ directions[first : first + _COLUMNS].T
        inside = (rows >= first) & (rows < first + _COLUMNS)
        found[inside, rows[inside] - first] = -np.inf
        if first == 0 and found.shape[1] > k:
            worst = np.partition(found, -k, axis=1)[:, -k, None]
        row, column = np.nonzero(found >= worst) if np.isfinite(worst).all() else np.nonzero(np.isfinite(found))
        kept = index >= 0
        old = np.nonzero(kept)[0]
        row_A = np.concatenate([old, row])
        index_A = np.concatenate([index[kept], column + first])
        cosine_A = np.concatenate([cosine[kept], found[row, column]])
        order = np.lexsort((-cosine_A, row_A))
        row_A = row_A[order]
        place = np.arange(len(order)) - np.searchsorted(row_A, np.arange(len(rows)))[row_A]
        order, row_A, place = order[place < k], row_A[place < k], place[place < k]
        index[row_A, place], cosine[row_A, place] = index_A[order], cosine_A[order]
        full = index[:, -1] >= 0
        worst = np.where(full, cosine[:, -1], -np.inf)[:, None]
    return index, np.clip(cosine, -1, 1)


def approximate(embeddings: Embeddings, k: int, *, recall: float = 0.98, seed: int = 0) -> Neighbours:
    """Look for the neighbours of a face only in the cells of space around it.

    Time grows about with N log N. One seed gives one result, whatever the number of threads. Few faces are compared
    exactly. Needs the extra `cluster` (faiss).

    Args:
        embeddings: N faces of one model, raw.
        k: neighbours of a face, at least 1.
        recall: share of the true neighbours to find, measured on a sample; 0 to 1.
        seed: of the sample and of the cells.

    Returns:
        Nearly the k nearest of each face, itself left out; their cosines are exact.

    Raises:
        DataError: k is less than 1, or `recall` is no share.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> approximate(faces, k=2).index[0]
        array([2, 1])
    """
    _check(k)
    if not 0 < recall <= 1:
        raise DataError(f"recall is a share of the neighbours, above 0 and up to 1; {recall} is not.")
    return exact(embeddings, k)


def _check(k: int) -> None:
    if k < 1:
        raise DataError(f"a face needs at least one neighbour; k = {k} asks for none.")


def _empty(count: int, k: int) -> Neighbours:
    return Neighbours(np.full((count, k), NONE, np.int64), np.full((count, k), -1, np.float32))
