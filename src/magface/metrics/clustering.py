"""How well groups match identities, counted over pairs of faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from magface.errors import DataError


@dataclass(frozen=True, slots=True)
class PairwiseScore:
    """Agreement of two labelings over all pairs of faces.

    Attributes:
        precision: share of the pairs put together that belong together; 1 when none is put together.
        recall: share of the pairs that belong together that are put together; 1 when none belongs together.
        f: harmonic mean of both, 0 when both are 0.
        correct: pairs put together that belong together.
        together: pairs put together.
        same: pairs that belong together.
    """

    precision: float
    recall: float
    f: float
    correct: int
    together: int
    same: int


def pairwise(identity: ArrayLike, group: ArrayLike) -> PairwiseScore:
    """Pairwise precision, recall and F from the contingency table, without visiting the pairs.

    Equation: pairs in a cell of n faces = n (n - 1) / 2

    Args:
        identity: `(N,)` true labels, numbers or strings.
        group: `(N,)` found labels; every label is a group, a face alone in its group is in no pair.

    Returns:
        The scores with the counts behind them. Fewer than two faces: no pairs, all scores 1.

    Raises:
        DataError: lengths differ.

    Example:
        >>> pairwise(["ann", "ann", "bob"], [0, 0, 0])
        PairwiseScore(precision=0.333..., recall=1.0, f=0.5, correct=1, together=3, same=1)
    """
    truth, found = np.asarray(identity), np.asarray(group)
    if truth.ndim != 1 or truth.shape != found.shape:
        raise DataError(f"each face needs one identity and one group; got shapes {truth.shape} and {found.shape}.")
    _, row = np.unique(truth, return_inverse=True)
    names, column = np.unique(found, return_inverse=True)
    cell = row.astype(np.int64) * len(names) + column
    correct, together, same = _pairs(cell), _pairs(column), _pairs(row)
    precision = correct / together if together else 1.0
    recall = correct / same if same else 1.0
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return PairwiseScore(precision, recall, f, correct, together, same)


def _pairs(labels: np.ndarray) -> int:
    sizes = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())
