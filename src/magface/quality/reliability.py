"""How often two pictures of one person are taken for two people, by the worse of the two pictures.

A score says that one picture is better than another; what people need is how often a comparison of such pictures fails.
Genuine pairs of known people are put in order of the lower of their two magnitudes, and the share that a threshold
misses is made to fall, or stay, as the magnitude rises. What comes out is a stair, with the pairs behind each step.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.verification import wilson
from magface.models.card import Reliability, Threshold

MINIMUM = 100
"""Genuine pairs behind a band, at least: none missed of so many is a rate below 3 % (rule of three, 95 %)."""
_GROUPS = 100

Pairs = NDArray[np.int64]


def pool(errors: ArrayLike, pairs: ArrayLike) -> tuple[Pairs, Pairs, Pairs]:
    """The rates that fall and are nearest to those of groups in a row: pool adjacent violators.

    Equation: isotonic regression (min sum_k n_k (r_k - e_k / n_k)^2, r_1 >= r_2 >= ... >= r_K)

    Args:
        errors: `(K,)` int, 0 to `pairs`.
        pairs: `(K,)` int, >= 1.

    Returns:
        Of each block of groups that share a rate: its first group, its errors and its pairs; the rate is the quotient,
        and falls strictly from block to block.

    Example:
        >>> start, errors, pairs = pool([5, 1, 3, 0], [10, 10, 10, 10])
        >>> start.tolist(), (errors / pairs).tolist()
        ([0, 1, 3], [0.5, 0.2, 0.0])
    """
    blocks: list[tuple[int, int, int]] = []
    for group, (wrong, count) in enumerate(zip(np.asarray(errors).tolist(), np.asarray(pairs).tolist(), strict=True)):
        start = group
        while blocks and wrong * blocks[-1][2] >= blocks[-1][1] * count:  # its rate is not below the one before
            start, more, others = blocks.pop()
            wrong, count = wrong + more, count + others
        blocks.append((start, wrong, count))
    starts, totals, counts = np.array(blocks, np.int64).reshape(-1, 3).T
    return starts, totals, counts


def fit(similarity: ArrayLike, quality: ArrayLike, threshold: Threshold) -> Reliability:
    """Expected FNMR at a threshold by the quality of a pair, from genuine pairs.

    Pairs of equal quality stay in one band. Pairs that share a picture or a person are not independent, so intervals
    that take them for it are too narrow.

    Args:
        similarity: `(N,)` float, cosines of genuine pairs.
        quality: `(N,)` float, >= 0, of each pair the lower of the two magnitudes; see `metrics.quality.pair_quality`.
        threshold: a pair is missed when its cosine is below it.

    Raises:
        DataError: shapes differ, a number is not finite, or there are fewer than 100 pairs.

    Example:
        >>> quality = np.linspace(10, 30, 1000)
        >>> found = fit(np.where(quality < 14, 0.2, 0.6), quality, Threshold(1e-3, 0.4, 10_000))
        >>> found.magnitude[0], found.fnmr[0], found.fnmr[-1], found.genuine
        (10.0, 1.0, 0.0, (200, 800))
    """
    cosine, q = np.asarray(similarity), np.asarray(quality)
    if cosine.ndim != 1 or cosine.shape != q.shape or not (np.isfinite(cosine).all() and np.isfinite(q).all()):
        raise DataError(f"each pair needs one finite score and quality; got shapes {cosine.shape} and {q.shape}.")
    if len(q) < MINIMUM:
        raise DataError(
            f"expected errors need at least {MINIMUM} pairs of one person; there are {len(q):,}: "
            "take more pictures of each person."
        )
    order = np.argsort(q, kind="stable")
    missed, rising = cosine[order] < threshold.cosine, q[order]
    edges = _edges(rising)
    first, errors, pairs = pool(np.add.reduceat(missed.astype(np.int64), edges), np.diff([*edges, len(q)]))
    return Reliability(
        fmr=threshold.fmr,
        cosine=threshold.cosine,
        magnitude=tuple(rising[edges[first]].tolist()),
        fnmr=tuple((errors / pairs).tolist()),
        genuine=tuple(pairs.tolist()),
    )


def _edges(rising: NDArray[np.floating]) -> Pairs:
    """Where groups of about equal size begin, none smaller than `MINIMUM`, none between equal numbers."""
    count = len(rising)
    size = max(MINIMUM, -(-count // _GROUPS))
    edges = [0]
    while count - edges[-1] >= 2 * size:
        edges.append(int(np.searchsorted(rising, rising[edges[-1] + size - 1], side="right")))
    if count - edges[-1] < MINIMUM:
        edges.pop()
    return np.array(edges)


def expected_fnmr(magnitude: float, reliability: Reliability) -> tuple[float, int]:
    """How often a genuine pair of this quality is missed, and the pairs of one person that say so.

    Args:
        magnitude: the lower of the two magnitudes of the pair, >= 0.
        reliability: of the model's card, for one threshold.

    Returns:
        False non-match rate within [0, 1], and the number of pairs. Below the lowest magnitude that was measured it is
        the rate of the lowest band, of which no more is known than that it is not less; NaN of no pairs for NaN.

    Example:
        >>> found = Reliability(1e-3, 0.4, magnitude=(10.0, 20.0), fnmr=(0.25, 0.01), genuine=(100, 900))
        >>> expected_fnmr(12.5, found), expected_fnmr(20.0, found), expected_fnmr(3.0, found)
        ((0.25, 100), (0.01, 900), (0.25, 100))
    """
    if math.isnan(magnitude):
        return math.nan, 0
    band = max(bisect_right(reliability.magnitude, magnitude) - 1, 0)
    return reliability.fnmr[band], reliability.genuine[band]


def interval(rate: float, pairs: int) -> tuple[float, float]:
    """95 % Wilson interval of an expected FNMR, as if its pairs were independent.

    Args:
        rate: of `expected_fnmr`.
        pairs: of the same.

    Example:
        >>> [round(end, 4) for end in interval(0.0, 100)]
        [0.0, 0.037]
    """
    return wilson(round(rate * pairs), pairs)
