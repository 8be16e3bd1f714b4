"""Error versus discard: how fast false non-matches vanish when the pairs of lowest quality are left out.

A pair is as good as its worse image. Curves are step functions: `fnmr[i]` holds from `discarded[i]` up to
`discarded[i + 1]`. Pairs of equal quality are taken in every order at once (the expected curve over random orders),
so a result never depends on the order of the input, and a constant quality is exactly as good as chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.verification import bootstrap, threshold_at_fmr

F64 = NDArray[np.float64]
LIMIT = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """FNMR over the share of genuine pairs discarded, a step function.

    Attributes:
        discarded: `(K,)` float64, rising from 0, below 1: where each step begins.
        fnmr: `(K,)` float64, 0 to 1: false non-match rate of the pairs kept on each step.
    """

    discarded: F64
    fnmr: F64


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How much of the possible gain a quality measure brings.

    Attributes:
        r: mean FNMR over the discarded range divided by FNMR without discarding; None without errors.
        r_ideal: the same for the ideal order, wrong pairs first; None without errors.
        efficiency: `(1 - r) / (1 - r_ideal)`: 0 as good as chance, 1 ideal, negative worse than chance.
        interval: 95 % bootstrap interval of `efficiency` over pairs; None without errors.
        errors: genuine pairs below the threshold.
        pairs: genuine pairs.
    """

    r: float | None
    r_ideal: float | None
    efficiency: float | None
    interval: tuple[float, float] | None
    errors: int
    pairs: int


def pair_quality(a: ArrayLike, b: ArrayLike) -> NDArray[np.floating]:
    """Quality of pairs: the lower of the two images' qualities.

    Args:
        a: `(N,)` float, quality of the first images, such as magnitudes.
        b: `(N,)` float, quality of the second images.

    Returns:
        `(N,)`.

    Example:
        >>> pair_quality([3.0, 1.0], [2.0, 5.0])
        array([2., 1.])
    """
    return np.minimum(np.asarray(a), np.asarray(b))


def _checked(scores: ArrayLike, quality: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    score, q = np.asarray(scores, float), np.asarray(quality, float)
    if score.ndim != 1 or score.shape != q.shape or score.size == 0:
        raise DataError(f"each pair needs one score and one quality; got shapes {score.shape} and {q.shape}.")
    if not np.isfinite(score).all() or np.isnan(q).any():
        raise DataError("scores or qualities hold NaN or infinity; leave out the pairs that failed.")
    return score, q


def edc(genuine: ArrayLike, quality: ArrayLike, threshold: float) -> Curve:
    """Error-versus-discard curve at a fixed threshold.

    Equation: FNMR(k / N) = (errors among the N - k pairs of highest quality) / (N - k)

    Differs from the official code: genuine pairs alone are discarded and the threshold stays that of the full set;
    `edc_repicked` follows the official script.

    Args:
        genuine: `(N,)` float similarities of genuine pairs.
        quality: `(N,)` float quality of the pairs, higher is better; see `pair_quality`.
        threshold: a pair is accepted when `score >= threshold`.

    Returns:
        The curve with N steps, one for each pair discarded; the best pair always stays.

    Raises:
        DataError: empty, shapes differ, or NaN.

    Example:
        >>> edc([0.1, 0.9, 0.8, 0.2], [1.0, 4.0, 3.0, 2.0], threshold=0.5).fnmr.round(3)
        array([0.5 , 0.333, 0. , 0. ])
    """
    score, q = _checked(genuine, quality)
    return _curve(score < threshold, q)


def _curve(errors: NDArray[np.bool_], quality: NDArray[np.floating]) -> Curve:
    count = len(errors)
    order = np.argsort(quality, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(quality[order])) + 1, count)  # where groups of equal quality end
    found = np.append(0, np.cumsum(errors[order]))
    steps = np.arange(count)
    removed = np.interp(steps, np.append(0, ends), found[np.append(0, ends)])
    return Curve(steps / count, (found[-1] - removed) / (count - steps))


def ideal(genuine: ArrayLike, threshold: float) -> Curve:
    """Error-versus-discard curve of a quality that knows which pairs are wrong.

    Args:
        genuine: `(N,)` float similarities of genuine pairs.
        threshold: a pair is accepted when `score >= threshold`.

    Returns:
        The lowest curve that any quality can reach.

    Raises:
        DataError: empty or NaN.

    Example:
        >>> ideal([0.1, 0.9, 0.8, 0.2], threshold=0.5).fnmr.round(3)
        array([0.5 , 0.333, 0. , 0. ])
    """
    return edc(genuine, np.asarray(genuine, float) >= threshold, threshold)


def edc_repicked(
    genuine: ArrayLike,
    impostor: ArrayLike,
    genuine_quality: ArrayLike,
    impostor_quality: ArrayLike,
    fmr: float,
    discarded: ArrayLike | None = None,
) -> Curve:
    """Error-versus-discard curve of the official script: all pairs are discarded, the threshold is picked again.

    Source: MagFace, official `eval_quality.py`

    Args:
        genuine: `(G,)` float similarities.
        impostor: `(I,)` float similarities.
        genuine_quality: `(G,)` float quality of the genuine pairs.
        impostor_quality: `(I,)` float quality of the impostor pairs.
        fmr: false match rate kept at every level.
        discarded: `(K,)` float, rising shares of all pairs to discard; 0 to 0.95 in steps of 0.05 by default.

    Returns:
        One step for each level; FNMR is NaN where the impostors left cannot measure `fmr`, or no genuine pair is left.

    Raises:
        DataError: empty, shapes differ, NaN, or `fmr` out of range.

    Example:
        >>> curve = edc_repicked([0.1, 0.9, 0.8], [0.3, 0.2], [1, 3, 3], [3, 2], fmr=0.5, discarded=[0.0, 0.2])
        >>> curve.fnmr.round(3)
        array([0.333, 0.   ])
    """
    genuine_score, genuine_q = _checked(genuine, genuine_quality)
    impostor_score, impostor_q = _checked(impostor, impostor_quality)
    levels = np.arange(20) / 20 if discarded is None else np.asarray(discarded, float)
    ordered = np.sort(np.concatenate([genuine_q, impostor_q]))
    rates = []
    for level in levels:
        lowest = ordered[min(int(level * len(ordered) + 1e-9), len(ordered) - 1)]
        kept, others = genuine_score[genuine_q >= lowest], impostor_score[impostor_q >= lowest]
        threshold = threshold_at_fmr(others, fmr) if len(others) else None
        rates.append(np.nan if threshold is None or len(kept) == 0 else np.mean(kept < threshold))
    return Curve(levels, np.array(rates))


def pauc(curve: Curve, limit: float = LIMIT) -> float:
    """Mean FNMR of the curve from 0 to `limit`: the area under its steps divided by `limit`.

    Args:
        curve: of `edc`, `ideal` or `edc_repicked`.
        limit: share discarded at which to stop, above 0, at most 1.

    Returns:
        0 to 1; NaN where the curve holds NaN below the limit.

    Raises:
        DataError: `limit` is out of range.

    Example:
        >>> pauc(Curve(np.array([0.0, 0.25]), np.array([0.3, 0.1])), limit=0.5)
        0.2
    """
    if not 0 < limit <= 1:
        raise DataError(f"the discarded share must lie between 0 and 1; {limit} does not.")
    inside = curve.discarded < limit
    widths = np.diff(np.append(curve.discarded[inside], limit))
    return float(np.dot(widths, curve.fnmr[inside]) / limit)


def _relative(errors: NDArray[np.bool_], quality: NDArray[np.floating], limit: float) -> tuple[float, float]:
    """`r` of the quality and of the ideal order; NaN without errors."""
    if not errors.any():
        return np.nan, np.nan
    rate = float(errors.mean())
    return pauc(_curve(errors, quality), limit) / rate, pauc(_curve(errors, (~errors).astype(float)), limit) / rate


def _share(r: float, r_ideal: float) -> float:
    return (1 - r) / (1 - r_ideal) if r_ideal < 1 else np.nan


def efficiency(genuine: ArrayLike, quality: ArrayLike, threshold: float, limit: float = LIMIT) -> Efficiency:
    """Share of the ideal order's gain that a quality reaches; stays comparable when the starting error differs.

    Equation: r = mean FNMR over 0..limit discarded / FNMR at 0; efficiency = (1 - r) / (1 - r_ideal)

    Args:
        genuine: `(N,)` float similarities of genuine pairs.
        quality: `(N,)` float quality of the pairs, higher is better.
        threshold: fixed, of the full set; a pair is accepted when `score >= threshold`.
        limit: share discarded at which to stop.

    Returns:
        Numbers with a bootstrap interval; all None when no genuine pair, or every one, is below the threshold.

    Raises:
        DataError: empty, shapes differ, NaN, or `limit` out of range.

    Example:
        >>> result = efficiency([0.1, 0.9, 0.8, 0.7], [1.0, 4.0, 3.0, 2.0], threshold=0.5)
        >>> result.efficiency, result.errors
        (1.0, 1)
    """
    score, q = _checked(genuine, quality)
    errors = score < threshold
    r, r_ideal = _relative(errors, q, limit)
    share = _share(r, r_ideal)
    counts = int(errors.sum()), len(errors)
    if np.isnan(share):
        return Efficiency(None, None, None, None, *counts)
    interval = bootstrap(lambda rows: _share(*_relative(errors[rows], q[rows], limit)), len(errors))
    return Efficiency(r, r_ideal, share, interval, *counts)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation: how far two qualities order the same images alike.

    Args:
        x: `(N,)` float, N >= 2.
        y: `(N,)` float.

    Returns:
        -1 to 1, ties at their mean rank; NaN when either is constant.

    Raises:
        DataError: fewer than two values, lengths differ, or NaN.

    Example:
        >>> round(spearman([1, 2, 3, 4], [10, 20, 40, 30]), 9)
        0.8
    """
    a, b = _checked(x, y)
    if len(a) < 2:
        raise DataError("a rank correlation needs at least two values.")
    a, b = _centred_ranks(a), _centred_ranks(b)
    length = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / length if length else np.nan


def _centred_ranks(values: NDArray[np.floating]) -> F64:
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[group]
    return ranks - ranks.mean()
