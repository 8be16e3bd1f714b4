"""Concordance: how often a quantity puts the better of two apart from the worse, also among those that are alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError

F64 = NDArray[np.float64]
Index = NDArray[np.intp]


def concordance(
    values: ArrayLike, positive: ArrayLike, stratum: ArrayLike | None = None, weight: ArrayLike | None = None
) -> float:
    """Share of pairs of one stratum, a positive and a negative, in which the positive has the higher value.

    Equation: AUC = sum_k (#{v+ > v-} + #{v+ = v-} / 2) / sum_k #pairs, over pairs (v+, v-) in stratum k

    With one stratum it is the area under the ROC. With strata of equal magnitude it is what a quantity says that the
    magnitude does not.

    Args:
        values: `(N,)` float, higher for positives.
        positive: `(N,)` bool.
        stratum: `(N,)` int, only pairs within one of which count; all pairs if not given.
        weight: `(N,)` float, >= 0, how often each counts; once if not given.

    Returns:
        0 to 1; 0.5 for chance, NaN where there is no pair.

    Raises:
        DataError: lengths differ, or NaN.

    Example:
        >>> concordance([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
        0.875
    """
    prepared = _Prepared.of(values, positive, stratum)
    return prepared.share(np.ones(len(prepared.order)) if weight is None else np.asarray(weight, np.float64))


def resampled(
    values: ArrayLike,
    positive: ArrayLike,
    person: ArrayLike,
    stratum: ArrayLike | None = None,
    *,
    repeats: int = 300,
    seed: int = 0,
) -> F64:
    """`concordance` of several quantities with people drawn again, all of them with the same draws.

    Args:
        values: `(M, N)` float, a row for each quantity.
        positive: `(N,)` bool.
        person: `(N,)` int, whose each is; a person who is drawn twice counts twice.
        stratum: `(N,)` int; see `concordance`.
        repeats: draws.
        seed: of the draws.

    Returns:
        `(M, repeats)` float64; NaN where a draw has no pair.

    Raises:
        DataError: lengths differ, or NaN.

    Example:
        >>> resampled([[0, 1, 1, 2]], [False, False, True, True], [0, 1, 2, 3], repeats=2, seed=1).round(2)
        array([[0.83, 1.  ]])
    """
    rows = [_Prepared.of(row, positive, stratum) for row in np.asarray(values)]
    _, whose = np.unique(np.asarray(person), return_inverse=True)
    if any(len(row.order) != len(whose) for row in rows):
        raise DataError("each value needs a person.")
    people, rng = int(whose.max(initial=-1)) + 1, np.random.default_rng(seed)
    found = np.empty((len(rows), repeats))
    for repeat in range(repeats):
        weight = np.bincount(rng.integers(people, size=people), minlength=people)[whose].astype(np.float64)
        found[:, repeat] = [row.share(weight) for row in rows]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """Values in order.

    Attributes:
        order: `(N,)` rows, stratum by stratum with rising values.
        positive: `(N,)` bool, in that order.
        ties: where each group of equal values of a stratum starts.
        strata: the first group of the stratum, for each group.
    """

    order: Index
    positive: NDArray[np.bool_]
    ties: Index
    strata: Index

    @staticmethod
    def of(values: ArrayLike, positive: ArrayLike, stratum: ArrayLike | None) -> _Prepared:
        value, sign = np.asarray(values, np.float64), np.asarray(positive, bool)
        layer = np.zeros(len(value), np.int64) if stratum is None else np.asarray(stratum)
        if not value.shape == sign.shape == layer.shape or value.ndim != 1:
            raise DataError(f"values, signs and strata differ: {value.shape}, {sign.shape} and {layer.shape}.")
        if np.isnan(value).any():
            raise DataError("a value is NaN; leave it out.")
        order = np.lexsort((value, layer))
        v, k = value[order], layer[order]
        other = np.append(True, k[1:] != k[:-1])[: len(k)]
        ties = np.flatnonzero(other | np.append(True, v[1:] != v[:-1])[: len(v)])
        first = np.flatnonzero(other[ties])
        strata = np.repeat(first, np.diff(np.append(first, len(ties))))
        return _Prepared(order, sign[order], ties, strata)

    def share(self, weight: F64) -> float:
        """Concordance where each row counts `weight`, `(N,)`."""
        if len(self.order) == 0:
            return float("nan")
        counts = weight[self.order]
        above, below = (
            np.add.reduceat(np.where(side, counts, 0.0), self.ties) for side in (self.positive, ~self.positive)
        )
        lower = np.append(0.0, np.cumsum(below))
        before = lower[:-1] - lower[self.strata]
        last = np.append(np.flatnonzero(np.diff(self.strata)), len(self.strata) - 1)
        of_stratum = np.repeat(lower[last + 1] - lower[self.strata[last]], np.diff(np.append(-1, last)))
        pairs = float(above @ of_stratum)
        return float(above @ (before + below / 2)) / pairs if pairs else float("nan")
