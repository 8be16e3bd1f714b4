"""How well groups match identities: by pairs, by faces, and by what one labeling tells of the other.

A face without a group (a negative label) is alone: it is in no pair, and a group of one everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        group: `(N,)` found labels; every label is a group, and negative ones are none.

    Returns:
        The scores with the counts behind them. Fewer than two faces: no pairs, all scores 1.

    Raises:
        DataError: lengths differ.

    Example:
        >>> pairwise(["ann", "ann", "bob"], [0, 0, 0])
        PairwiseScore(precision=0.333..., recall=1.0, f=0.5, correct=1, together=3, same=1)
    """
    table = _Table(identity, group)
    correct, together, same = _pairs(table.cell), _pairs(table.found), _pairs(table.true)
    precision = correct / together if together else 1.0
    recall = correct / same if same else 1.0
    return PairwiseScore(precision, recall, _harmonic(precision, recall), correct, together, same)


@dataclass(frozen=True, slots=True)
class BCubedScore:
    """Agreement of two labelings, averaged over faces.

    Attributes:
        precision: mean share of the faces in the group of a face, itself included, that show the same person.
        recall: mean share of the faces of the person of a face, itself included, that are in its group.
        f: harmonic mean of both.
    """

    precision: float
    recall: float
    f: float


def bcubed_faces(identity: ArrayLike, group: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """BCubed precision and recall of each face: of its group, and of its person.

    Equation: B-cubed (precision_i = |group_i & person_i| / |group_i|, recall_i = |group_i & person_i| / |person_i|)

    Args:
        identity: `(N,)` true labels, numbers or strings.
        group: `(N,)` found labels; negative for a face without a group.

    Returns:
        `(N,)` and `(N,)` float64, > 0 and at most 1.

    Raises:
        DataError: lengths differ.

    Example:
        >>> bcubed_faces(["ann", "ann", "bob", "bob"], [0, 0, 0, 1])[1]
        array([1. , 1. , 0.5, 0.5])
    """
    table = _Table(identity, group)
    shared = table.cell.sizes[table.cell.member]
    return shared / table.found.sizes[table.found.member], shared / table.true.sizes[table.true.member]


def bcubed(identity: ArrayLike, group: ArrayLike) -> BCubedScore:
    """BCubed precision, recall and F, as benchmarks of face clustering report them: each face counts alike.

    Equation: B-cubed (F = 2 P R / (P + R), P and R the means of precision_i and recall_i over all faces)

    Args:
        identity: `(N,)` true labels, numbers or strings.
        group: `(N,)` found labels; negative for a face without a group.

    Returns:
        The scores, 1 where there is no face.

    Raises:
        DataError: lengths differ.

    Example:
        >>> bcubed(["ann", "ann", "bob"], [0, 0, 0])
        BCubedScore(precision=0.555..., recall=1.0, f=0.714...)
    """
    precision, recall = (float(np.mean(side)) if len(side) else 1.0 for side in bcubed_faces(identity, group))
    return BCubedScore(precision, recall, _harmonic(precision, recall))


def normalised_mutual_information(identity: ArrayLike, group: ArrayLike) -> float:
    """NMI: what each labeling tells of the other, over the mean of what each tells of itself.

    Equation: NMI = 2 I(U; V) / (H(U) + H(V)), I and H from the shares of faces in cells and labels

    The mean is the arithmetic one, as in scikit-learn and the benchmarks of face clustering.

    Args:
        identity: `(N,)` true labels, numbers or strings.
        group: `(N,)` found labels; negative for a face without a group.

    Returns:
        0 to 1; 1 where both labelings are a single group, or there is no face.

    Raises:
        DataError: lengths differ.

    Example:
        >>> round(normalised_mutual_information(["ann", "ann", "bob"], [0, 0, 1]), 6)
        1.0
    """
    table = _Table(identity, group)
    true, found, cell = _entropy(table.true), _entropy(table.found), _entropy(table.cell)
    if true + found == 0:
        return 1.0
    return min(1.0, max(0.0, 2 * (true + found - cell) / (true + found)))


def adjusted_rand_index(identity: ArrayLike, group: ArrayLike) -> float:
    """ARI: agreement over pairs, less what labels of these sizes have by chance.

    Equation: ARI = (n - e) / ((a + b) / 2 - e), n pairs in cells, a and b pairs in rows and columns, e = a b / all

    Args:
        identity: `(N,)` true labels, numbers or strings.
        group: `(N,)` found labels; negative for a face without a group.

    Returns:
        At most 1, which is the same groups; 0 for chance, below it for less.

    Raises:
        DataError: lengths differ.

    Example:
        >>> adjusted_rand_index(["ann", "ann", "bob"], [0, 0, 0])
        0.0
    """
    table = _Table(identity, group)
    correct, together, same = _pairs(table.cell), _pairs(table.found), _pairs(table.true)
    count = len(table.cell.member)
    chance = together * same / max(1, count * (count - 1) // 2)
    most = (together + same) / 2
    return 1.0 if most == chance else (correct - chance) / (most - chance)


def purity(identity: ArrayLike, group: ArrayLike) -> float:
    """Share of the faces that show the person whom most faces of their group show.

    Equation: purity = sum_g max_p |g & p| / N

    It is 1 where every face is alone, so it means something beside a measure that asks for groups to be whole.

    Args:
        identity: `(N,)` true labels, numbers or strings.
        group: `(N,)` found labels; negative for a face without a group.

    Returns:
        0 to 1; 1 where there is no face.

    Raises:
        DataError: lengths differ.

    Example:
        >>> purity(["ann", "ann", "bob"], [0, 0, 0])
        0.666...
    """
    table = _Table(identity, group)
    largest = np.zeros(len(table.found.sizes), np.int64)
    np.maximum.at(largest, table.found.member, table.cell.sizes[table.cell.member])
    return float(largest.sum() / len(table.found.member)) if len(largest) else 1.0


class _Labels:
    """Faces by label: `member`, `(N,)`, numbers the label of each, `sizes` counts the faces of each number."""

    def __init__(self, labels: NDArray[np.generic]) -> None:
        _, self.member, self.sizes = np.unique(labels, return_inverse=True, return_counts=True)


class _Table:
    """Contingency of two labelings: by identity, by group, and by both."""

    def __init__(self, identity: ArrayLike, group: ArrayLike) -> None:
        truth, found = np.asarray(identity), np.asarray(group)
        if truth.ndim != 1 or truth.shape != found.shape:
            raise DataError(f"each face needs one identity and one group; got shapes {truth.shape} and {found.shape}.")
        self.true, self.found = _Labels(truth), _Labels(_apart(found))
        self.cell = _Labels(self.true.member.astype(np.int64) * len(self.found.sizes) + self.found.member)


def _apart(group: NDArray[Any]) -> NDArray[Any]:
    """Labels in which faces without a group are alone."""
    if not np.issubdtype(group.dtype, np.signedinteger):
        return group
    return np.where(group < 0, -1 - np.arange(len(group)), group)


def _pairs(labels: _Labels) -> int:
    sizes = labels.sizes.astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())


def _entropy(labels: _Labels) -> float:
    """In nats."""
    share = labels.sizes / max(1, len(labels.member))
    return float(-(share * np.log(share)).sum())


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
