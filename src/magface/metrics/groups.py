"""Groups of faces beside each other: how far their scores differ, and how often two images pass for one person."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError

F64 = NDArray[np.float64]
Interval = tuple[float, float]
_REPEATS = 300
_BLOCK = 512


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """How far the groups lie from the mean of all.

    Attributes:
        value: `(G,)` in units of the score; weighted by the size of the groups they sum to 0.
        interval: `(G, 2)`, 95 %, by drawing faces again; of the draws in which the group has a face.
        gap: the group with the highest value less the one with the lowest.
        gap_interval: likewise, of the same two groups.
        ends: these two, highest first.
    """

    value: F64
    interval: F64
    gap: float
    gap_interval: Interval
    ends: tuple[int, int]


def differences(
    scores: ArrayLike,
    group: ArrayLike,
    controls: ArrayLike | None = None,
    *,
    repeats: int = _REPEATS,
    seed: int = 0,
) -> Differences:
    """Differences of groups to the mean of all, as they are or with controls held equal.

    Equation: least squares (score_i = alpha_g(i) + beta x_i; difference of g = alpha_g - sum_h n_h / n alpha_h)

    Args:
        scores: `(N,)` finite.
        group: `(N,)` int, 0 to G - 1; none empty.
        controls: `(N, C)` finite, x; None for none, where alpha is the mean of each group.
        repeats: draws of faces for the intervals.
        seed: of the draws.

    Raises:
        DataError: shapes differ, a value is not finite, or a group is empty.

    Example:
        >>> x = np.arange(8.0)
        >>> differences(2 * x, x >= 4).gap, abs(round(differences(2 * x, x >= 4, x[:, None]).gap, 9))
        (8.0, 0.0)
    """
    y, labels = np.asarray(scores, np.float64), np.asarray(group).astype(np.intp)
    x = np.zeros((len(y), 0)) if controls is None else np.asarray(controls, np.float64)
    if y.ndim != 1 or labels.shape != y.shape or x.ndim != 2 or len(x) != len(y) or not len(y):
        raise DataError(f"each score needs a group and its controls; got {y.shape}, {labels.shape} and {x.shape}.")
    sizes = np.bincount(labels)
    if not (np.isfinite(y).all() and np.isfinite(x).all()) or not sizes.all():
        raise DataError("scores and controls must be finite numbers, and every group needs a face.")
    spread = x.std(axis=0)
    design = np.hstack([np.eye(len(sizes))[labels], (x - x.mean(axis=0)) / np.where(spread, spread, 1)])
    value = _fit(design, y, np.ones(len(y)), len(sizes))
    rng = np.random.default_rng(seed)
    draws = [np.bincount(rng.integers(len(y), size=len(y)), minlength=len(y)).astype(float) for _ in range(repeats)]
    drawn = np.array([_fit(design, y, weight, len(sizes)) for weight in draws])
    best, worst = int(value.argmax()), int(value.argmin())
    low, high = _interval(drawn[:, best] - drawn[:, worst])
    each = np.array([_interval(column) for column in drawn.T])
    return Differences(value, each, float(value[best] - value[worst]), (low, high), (best, worst))


def _fit(design: F64, y: F64, weight: F64, groups: int) -> F64:
    weighted = design * weight[:, None]
    alpha = np.linalg.lstsq(design.T @ weighted, weighted.T @ y, rcond=None)[0][:groups]
    share = weighted[:, :groups].sum(axis=0) / weight.sum()
    return np.where(share > 0, alpha - share @ alpha, np.nan)  # a draw may lack a group of few faces


def _interval(draws: F64) -> Interval:
    """95 % of what is defined; NaN where nothing is."""
    known = draws[~np.isnan(draws)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class MatchRate:
    """Comparisons of images that are taken for one person.

    Attributes:
        rate: share accepted; NaN without comparisons.
        interval: 95 %, by drawing images again; None where no comparison was accepted.
        accepted: comparisons at or above the threshold.
        comparisons: all of them.
    """

    rate: float
    interval: Interval | None
    accepted: int
    comparisons: int


def match_rate(
    directions: ArrayLike, threshold: float, apart: ArrayLike | None = None, *, repeats: int = _REPEATS, seed: int = 0
) -> MatchRate:
    """Share of all pairs of images whose cosine reaches the threshold.

    Args:
        directions: `(N, D)` unit vectors.
        threshold: cosine; accepted when `cosine >= threshold`.
        apart: `(N,)` int, of groups; only pairs across two of them count. None for all pairs.
        repeats: draws of images for the interval.
        seed: of the draws.

    Example:
        >>> found = match_rate(np.eye(3)[[0, 0, 1, 2]], 0.5)
        >>> found.accepted, found.comparisons
        (1, 6)
    """
    unit = np.asarray(directions, np.float32)
    group = np.arange(len(unit)) if apart is None else np.asarray(apart)
    first, second = _accepted(unit, threshold, group)
    _, labels = np.unique(group, return_inverse=True)
    total = _pairs(np.ones(len(unit)), labels)
    if not total:
        return MatchRate(math.nan, None, 0, 0)
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(repeats if len(first) else 0):
        copies = np.bincount(rng.integers(len(unit), size=len(unit)), minlength=len(unit)).astype(float)
        pairs = _pairs(copies, labels)
        rates.append(float((copies[first] * copies[second]).sum()) / pairs if pairs else math.nan)
    return MatchRate(len(first) / total, _interval(np.array(rates)) if rates else None, len(first), int(total))


def _pairs(copies: F64, labels: NDArray[np.intp]) -> float:
    """Pairs across groups, each image counted as often as there are copies of it."""
    return float(copies.sum() ** 2 - (np.bincount(labels, copies) ** 2).sum()) / 2


def _accepted(unit: NDArray[np.float32], threshold: float, group: NDArray[np.integer]) -> tuple[NDArray[np.intp], ...]:
    """Rows of the pairs across groups that reach the threshold; a block of rows is compared at a time."""
    firsts, seconds = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for start in range(0, len(unit), _BLOCK):
        rows = slice(start, start + _BLOCK)
        a, b = np.nonzero(unit[rows] @ unit[start:].T >= threshold)
        above = (b > a) & (group[start + a] != group[start + b])
        firsts.append(start + a[above])
        seconds.append(start + b[above])
    return np.concatenate(firsts), np.concatenate(seconds)
