"""Pairs of faces of known people: what thresholds and expected errors are measured on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.types import F32, Embeddings

PER_PERSON = 100
"""Genuine pairs of a person, at most: else few people with many pictures would speak for all."""
_MOST = 1_000_000
_COMPARED = 4000
_BLOCK = 1 << 14

Labels = NDArray[np.integer]
Index = NDArray[np.int64]


class Pairs(NamedTuple):
    """P comparisons.

    Attributes:
        cosine: `(P,)` float32, within [-1, 1].
        quality: `(P,)` float32: the lower of the two magnitudes.
        first: `(P,)` int32, the person of the first face.
        second: `(P,)` int32, the person of the second face.
    """

    cosine: F32
    quality: F32
    first: NDArray[np.int32]
    second: NDArray[np.int32]

    @staticmethod
    def of(cosine: F32, magnitude: F32, people: Labels, first: Index, second: Index) -> Pairs:
        """Of rows of faces."""
        quality = np.minimum(magnitude[first], magnitude[second])
        return Pairs(cosine, quality, people[first].astype(np.int32), people[second].astype(np.int32))


def genuine(embeddings: Embeddings, labels: Labels) -> Pairs:
    """Genuine pairs: at most 100 of each person, evenly spaced in the list of all.

    Args:
        embeddings: N faces.
        labels: `(N,)` integers, who they are.

    Example:
        >>> faces = Embeddings(np.array([[3, 4], [6, 8], [0, 2]], np.float32))
        >>> pairs = genuine(faces, np.array([0, 0, 1]))
        >>> pairs.cosine, pairs.quality
        (array([1.], dtype=float32), array([5.], dtype=float32))
    """
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(np.asarray(labels)[order], return_index=True)
    people = np.split(order, starts[1:])
    most = max(1, min(PER_PERSON, _MOST // len(people)))
    first, second = (np.concatenate(side) for side in zip(*(_within(rows, most) for rows in people), strict=True))
    direction = embeddings.direction
    cosine = np.empty(len(first), np.float32)
    for start in range(0, len(first), _BLOCK):
        some = slice(start, start + _BLOCK)
        cosine[some] = np.einsum("pd,pd->p", direction[first[some]], direction[second[some]])
    return Pairs.of(cosine, embeddings.magnitude, np.asarray(labels), first, second)


def impostor(embeddings: Embeddings, labels: Labels) -> Pairs:
    """All pairs of different people.

    Args:
        embeddings: N faces; of more than 4,000 as many, evenly spaced, are compared.
        labels: `(N,)` integers, who they are.

    Raises:
        DataError: there is none.

    Example:
        >>> faces = Embeddings(np.array([[3, 4], [6, 8], [0, 2]], np.float32))
        >>> pairs = impostor(faces, np.array([0, 0, 1]))
        >>> pairs.cosine, pairs.quality
        (array([0.8, 0.8], dtype=float32), array([2., 2.], dtype=float32))
    """
    some = np.linspace(0, len(embeddings) - 1, min(len(embeddings), _COMPARED)).astype(int)
    direction, magnitude, people = embeddings.direction[some], embeddings.magnitude[some], np.asarray(labels)[some]
    others = [row + 1 + np.flatnonzero(people[row + 1 :] != people[row]) for row in range(len(some))]
    if not any(map(len, others)):
        raise DataError("there are no two faces of different people to compare; take faces of more people.")
    cosine = np.concatenate([direction[rows] @ direction[row] for row, rows in enumerate(others)])
    first = np.repeat(np.arange(len(some)), [len(rows) for rows in others])
    return Pairs.of(cosine, magnitude, people, first, np.concatenate(others))


def _within(rows: Index, most: int) -> tuple[Index, Index]:
    """Pairs of these rows, of the list (1, 0), (2, 0), (2, 1), (3, 0), ..."""
    before = np.arange(len(rows)) * (np.arange(len(rows)) - 1) // 2  # pairs whose first is an earlier one
    total = len(rows) * (len(rows) - 1) // 2
    place = np.linspace(0, total - 1, min(total, most)).round().astype(np.int64)
    first = np.searchsorted(before, place, side="right") - 1
    return rows[first], rows[place - before[first]]
