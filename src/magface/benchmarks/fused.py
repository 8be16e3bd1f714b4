"""Fused templates, compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.result import Measure
from magface.fusion import Templates
from magface.geometry import direction
from magface.types import F32

REJECTED = -1.0
"""Score of a comparison with a template that has no image: below every threshold."""

_ENTRIES = 1 << 23
"""Entries of a matrix product that are held at a time."""
_PAIRS = 1 << 10
_SPARSE = 1 / 60
"""Share of a matrix product below which products of single pairs take less time."""

Index = NDArray[np.integer]


def spread(vectors: F32, kept: NDArray[np.bool_]) -> F32:
    """Embeddings of the images that are kept, zeros for the others, which so have no share in a template.

    Example:
        >>> spread(np.ones((1, 2), np.float32), np.array([False, True]))
        array([[0., 0.],
               [1., 1.]], dtype=float32)
    """
    if kept.all():
        return vectors
    rows = np.zeros((len(kept), vectors.shape[1]), np.float32)
    rows[kept] = vectors
    return rows


def compare(vectors: F32, first: Index, second: Index) -> F32:
    """Cosine of pairs of rows.

    Pairs that fill much of the matrix of all first and all second rows are picked from blocks of it; others are
    multiplied one by one. Memory beside the result, the directions and three numbers a pair is bounded.

    Args:
        vectors: `(T, D)` float32, raw.
        first: `(P,)` int, rows.
        second: `(P,)` int, rows.

    Returns:
        `(P,)` float32, within [-1, 1]; 0 where either vector is zeros.

    Example:
        >>> compare(np.array([[1, 0], [2, 2], [0, 3]], np.float32), np.array([0, 0]), np.array([1, 2])).round(4)
        array([0.7071, 0.    ], dtype=float32)
    """
    unit = np.asarray(direction(vectors), np.float32)
    rows, columns = (np.flatnonzero(np.bincount(side, minlength=len(unit))) for side in (first, second))
    scores = np.empty(len(first), np.float32)
    if len(first) < _SPARSE * len(rows) * len(columns):
        for start in range(0, len(first), _PAIRS):
            block = slice(start, start + _PAIRS)
            scores[block] = np.einsum("ij,ij->i", unit[first[block]], unit[second[block]])
    elif len(first):
        _pick(unit[rows], unit[columns], _position(rows, first), _position(columns, second), scores)
    return np.clip(scores, -1.0, 1.0, out=scores)


def _position(rows: Index, of: Index) -> NDArray[np.int32]:
    """Where each of `of` is in `rows`, which are sorted and hold it."""
    table = np.empty(rows[-1] + 1, np.int32)
    table[rows] = np.arange(len(rows), dtype=np.int32)
    return table[of]


def _pick(left: F32, right: F32, row: Index, column: Index, scores: F32) -> None:
    """Put the entries `row`, `column` of `left @ right.T` into `scores`."""
    order: Index | None = None
    if not (row[1:] >= row[:-1]).all():
        order = np.argsort(row, kind="stable")
        row, column = row[order], column[order]
    height = max(1, _ENTRIES // len(right))
    for start in range(0, len(left), height):
        low, high = np.searchsorted(row, [start, start + height])
        product = left[start : start + height] @ right.T
        picked = product[row[low:high] - start, column[low:high]]
        scores[slice(low, high) if order is None else order[low:high]] = picked


def scored(templates: Templates, first: Index, second: Index) -> F32:
    """Cosine of pairs of templates, `REJECTED` where either has no image."""
    scores = compare(templates.vectors, first, second)
    scores[templates.empty[first] | templates.empty[second]] = REJECTED
    return scores


def named(prefix: str, found: Sequence[Measure]) -> list[Measure]:
    """The measures under names that tell one way of fusing from another.

    Example:
        >>> named("magface+", [Measure("EER", 0.01)])[0].name
        'magface+: EER'
    """
    return [replace(measure, name=f"{prefix}: {measure.name}") for measure in found]
