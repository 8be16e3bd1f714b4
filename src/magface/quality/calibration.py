"""Magnitudes made comparable: a score of 0 to 100 and a percentile, as the card of a model says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.verification import threshold_at_fmr
from magface.models.card import Card, Quality, Threshold

WEAK, STRONG = 20.0, 80.0
"""Scores of a face that 99 % of the reference population beats, and of a typical one."""

FMRS = (1e-2, 1e-3, 1e-4)
"""False match rates at which a model is calibrated unless others are asked for."""
_ANCHORS = ((1, WEAK), (50, STRONG))


def score(magnitude: ArrayLike, card: Card) -> NDArray[np.float64]:
    """Quality score of magnitudes, not rounded.

    Equation: OFIQ UnifiedQualityScore (100 / (1 + exp((a0 - a) / w))), with the constants of the model.

    Args:
        magnitude: `(...)`, float, >= 0, unnormalised.
        card: of the model that made the embeddings.

    Returns:
        `(...)` float64, 0 to 100, rising with the magnitude; NaN for NaN.
    """
    return sigmoid(magnitude, card.quality)


def sigmoid(magnitude: ArrayLike, quality: Quality) -> NDArray[np.float64]:
    """`score` with the two constants alone.

    Example:
        >>> sigmoid([23.0, 24.329985], Quality(a0=23.0, w=2.6)).round()
        array([50., 63.])
    """
    x = (np.asarray(magnitude, np.float64) - quality.a0) / quality.w
    return 50.0 * (1.0 + np.tanh(x / 2.0))  # the same function, without overflow


def unified_score(magnitude: ArrayLike, quality: Quality) -> NDArray[np.int64]:
    """The score as ISO/IEC 29794-5 exchanges it: a whole number, and -1 where there is none.

    Equation: OFIQ UnifiedQualityScore (round(100 / (1 + exp((a0 - a) / w))), clipped to 0..100; -1 for a failure)

    A half is rounded up, as the reference implementation does, and not to the even number.

    Args:
        magnitude: `(...)`, float, >= 0, unnormalised; NaN where a face could not be judged.
        quality: constants of the model that made the embeddings.

    Returns:
        `(...)` int64, -1 or 0 to 100.

    Example:
        >>> unified_score([24.329985, 23.0, np.nan], Quality(a0=23.0, w=2.6))
        array([63, 50, -1])
    """
    found = sigmoid(magnitude, quality)
    rounded = np.clip(np.floor(np.nan_to_num(found) + 0.5), 0, 100).astype(np.int64)
    return np.where(np.isnan(found), -1, rounded)


def percentile(magnitude: ArrayLike, card: Card) -> NDArray[np.float64]:
    """Share of the reference population of the card that a magnitude is above, interpolated.

    Args:
        magnitude: `(...)`, float, >= 0, unnormalised.
        card: of the model that made the embeddings.

    Returns:
        `(...)` float64, 0 to 100; 0 below the lowest, 100 above the highest, NaN for NaN.
    """
    return np.interp(np.asarray(magnitude, np.float64), card.magnitude_percentiles, np.arange(101.0))


def percentiles(magnitudes: ArrayLike) -> tuple[float, ...]:
    """The 101 percentiles 0, 1, ..., 100 of a reference population, for a card.

    Args:
        magnitudes: `(N,)`, float, >= 0, N >= 1.

    Raises:
        DataError: empty, or holds NaN or infinity.

    Example:
        >>> percentiles([10.0, 20.0])[::50]
        (10.0, 15.0, 20.0)
    """
    a = np.asarray(magnitudes, np.float64)
    if a.size == 0 or not np.isfinite(a).all():
        raise DataError("magnitudes to calibrate with must be finite numbers, and at least one.")
    return tuple(np.percentile(a, np.arange(101)).tolist())


def fit_sigmoid(magnitudes: ArrayLike) -> Quality:
    """Constants of the score from a reference population of ordinary photos.

    The median face gets 80 and the 1st percentile 20: a good portrait is above 80, what is worse than nearly all
    ordinary photos is below 20, and two anchors away from the ends do not follow single outliers. They need no labels,
    so scores of models that were calibrated on the same photos compare. How often a comparison fails is not squeezed
    into the score: it depends on the threshold and on the people, and is said beside it, see `quality.reliability`.

    Args:
        magnitudes: `(N,)`, float, >= 0; some hundreds or more.

    Raises:
        DataError: empty, not finite, or the two percentiles coincide.

    Example:
        >>> a = np.random.default_rng(0).normal(25, 3, 10_000)
        >>> sigmoid(np.percentile(a, [1, 50]), fit_sigmoid(a)).round(6)
        array([20., 80.])
    """
    levels = percentiles(magnitudes)
    (low, low_score), (high, high_score) = _ANCHORS
    span = levels[high] - levels[low]
    if span <= 0:
        raise DataError("magnitudes to calibrate with hardly differ; use a larger and more varied set of faces.")
    low_logit, high_logit = _logit(low_score), _logit(high_score)
    w = span / (high_logit - low_logit)
    return Quality(a0=levels[low] - w * low_logit, w=w)


def thresholds(impostor: ArrayLike, fmrs: Sequence[float] = FMRS) -> tuple[Threshold, ...]:
    """Thresholds at false match rates, as far as the comparisons suffice.

    Args:
        impostor: `(I,)` float, cosines of different people; see `comparisons.impostor`.
        fmrs: at least one, each between 0 and 1, both excluded.

    Raises:
        DataError: too few cosines for any of the rates, or one is not finite, or a rate is out of range.

    Example:
        >>> [(each.fmr, round(each.cosine, 2), each.impostors) for each in thresholds(np.linspace(-1, 1, 501))]
        [(0.01, 0.98, 501)]
    """
    cosines = np.asarray(impostor)
    found = [(fmr, threshold_at_fmr(cosines, fmr)) for fmr in fmrs]
    measured = tuple(Threshold(fmr, min(cosine, 1.0), len(cosines)) for fmr, cosine in found if cosine is not None)
    if not measured:
        raise DataError(f"{len(cosines)} pairs of different people are too few; take faces of more people.")
    return measured


def _logit(percent: float) -> float:
    return math.log(percent / (100.0 - percent))
