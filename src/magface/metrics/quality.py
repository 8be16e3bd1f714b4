"""Error versus discard: how fast errors vanish when the pairs of lowest quality are left out.

A pair is as good as its worse image, or as another of `RULES` says. Curves are step functions: `error[i]` holds from
`discarded[i]` up to `discarded[i + 1]`. Pairs of equal quality are taken in every order at once (the expected curve
over random orders), so a result never depends on the order of the input, and a constant quality is exactly as good as
chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.ordered import Ordered, Removed
from magface.metrics.verification import bootstrap

F64 = NDArray[np.float64]
Float = NDArray[np.floating]
LIMIT = 0.3


@dataclass(frozen=True, slots=True)
class Rule:
    """How the qualities of two images become that of their pair.

    Attributes:
        of: takes both, each `(N,)` float, gives `(N,)`; higher is better.
        signed: whether it takes qualities below 0.
    """

    of: Callable[[Float, Float], Float]
    signed: bool = True


RULES: Mapping[str, Rule] = {
    "min": Rule(np.minimum),
    "max": Rule(np.maximum),
    "mean": Rule(lambda a, b: a / 2 + b / 2),
    "product": Rule(np.multiply, signed=False),
    "geometric mean": Rule(lambda a, b: np.sqrt(a) * np.sqrt(b), signed=False),
    "harmonic mean": Rule(lambda a, b: 2 * a * (b / np.maximum(a + b, np.finfo(a.dtype).tiny)), signed=False),
    "difference": Rule(lambda a, b: -np.abs(a - b)),
}
"""By name; `difference` keeps the pairs whose images are equally good, as two pictures of one quality compare best."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """An error rate over the share of pairs discarded, a step function.

    Attributes:
        discarded: `(K,)` float64, rising from 0, below 1: where each step begins.
        error: `(K,)` float64, 0 to 1: error rate of the pairs kept on each step.
    """

    discarded: F64
    error: F64


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


def pair_quality(a: ArrayLike, b: ArrayLike, rule: str = "min") -> NDArray[np.floating]:
    """Quality of pairs: by default the lower of the two images' qualities.

    Args:
        a: `(N,)` float, quality of the first images, such as magnitudes.
        b: `(N,)` float, quality of the second images.
        rule: one of `RULES`.

    Returns:
        `(N,)`.

    Raises:
        DataError: there is no such rule, or it cannot take the qualities below 0 that are among these.

    Example:
        >>> pair_quality([3.0, 1.0], [2.0, 5.0]), pair_quality([3.0, 1.0], [2.0, 5.0], "mean")
        (array([2., 1.]), array([2.5, 3. ]))
    """
    if rule not in RULES:
        raise DataError(f"there is no rule {rule} for the quality of pairs; choose one of {', '.join(RULES)}.")
    first, second = (side * 1.0 for side in (np.asarray(a), np.asarray(b)))  # whole numbers become float
    if not RULES[rule].signed and min(first.min(initial=0), second.min(initial=0)) < 0:
        signed = ", ".join(name for name, each in RULES.items() if each.signed)
        raise DataError(f"the rule {rule} takes no qualities below 0; choose one of {signed}.")
    return RULES[rule].of(first, second)


def checked_pairs(scores: ArrayLike, quality: ArrayLike) -> tuple[Float, Float]:
    """Scores and qualities of the same pairs as arrays.

    Raises:
        DataError: empty, shapes differ, or NaN.
    """
    score, q = np.asarray(scores, float), np.asarray(quality)
    if score.ndim != 1 or score.shape != q.shape or score.size == 0:
        raise DataError(f"each pair needs one score and one quality; got shapes {score.shape} and {q.shape}.")
    if not np.isfinite(score).all() or np.isnan(q).any():
        raise DataError("scores or qualities hold NaN or infinity; leave out the pairs that failed.")
    return score, q


def edc(genuine: ArrayLike, quality: ArrayLike, threshold: float) -> Curve:
    """Error-versus-discard curve of false non-matches at a fixed threshold.

    Equation: FNMR(k / N) = (errors among the N - k pairs of highest quality) / (N - k)

    Differs from the official code: genuine pairs alone are discarded and the threshold stays that of the full set;
    `repicked.edc_repicked` follows the official script.

    Args:
        genuine: `(N,)` float similarities of genuine pairs.
        quality: `(N,)` float quality of the pairs, higher is better; see `pair_quality`.
        threshold: a pair is accepted when `score >= threshold`.

    Returns:
        The curve with N steps, one for each pair discarded; the best pair always stays.

    Raises:
        DataError: empty, shapes differ, or NaN.

    Example:
        >>> edc([0.1, 0.9, 0.8, 0.2], [1.0, 4.0, 3.0, 2.0], threshold=0.5).error.round(3)
        array([0.5 , 0.333, 0. , 0. ])
    """
    score, q = checked_pairs(genuine, quality)
    return _curve(Ordered.of(q).removed(score < threshold))


def edc_false_matches(impostor: ArrayLike, quality: ArrayLike, threshold: float) -> Curve:
    """Error-versus-discard curve of false matches at a fixed threshold.

    Equation: FMR(k / N) = (impostors accepted among the N - k pairs of highest quality) / (N - k)

    Args:
        impostor: `(N,)` float similarities of impostor pairs.
        quality: `(N,)` float quality of the pairs, higher is better; see `pair_quality`.
        threshold: a pair is accepted when `score >= threshold`.

    Returns:
        The curve with N steps, one for each pair discarded; the best pair always stays. Unlike that of false
        non-matches it need not fall: two good pictures of look-alikes match more easily than two bad ones.

    Raises:
        DataError: empty, shapes differ, or NaN.

    Example:
        >>> edc_false_matches([0.1, 0.9, 0.8, 0.2], [1.0, 4.0, 3.0, 2.0], threshold=0.5).error.round(3)
        array([0.5 , 0.667, 1. , 1. ])
    """
    score, q = checked_pairs(impostor, quality)
    return _curve(Ordered.of(q).removed(score >= threshold))


def _curve(removed: Removed) -> Curve:
    count = int(removed.pairs[-1])
    steps = np.arange(float(count))
    return Curve(steps / count, removed.error(steps))


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
        >>> ideal([0.1, 0.9, 0.8, 0.2], threshold=0.5).error.round(3)
        array([0.5 , 0.333, 0. , 0. ])
    """
    score = np.asarray(genuine, float)
    return edc(score, score >= threshold, threshold)


def ideal_false_matches(impostor: ArrayLike, threshold: float) -> Curve:
    """The lowest curve of `edc_false_matches` that any quality can reach.

    Args:
        impostor: `(N,)` float similarities of impostor pairs.
        threshold: a pair is accepted when `score >= threshold`.

    Raises:
        DataError: empty or NaN.

    Example:
        >>> ideal_false_matches([0.1, 0.9, 0.8, 0.2], threshold=0.5).error.round(3)
        array([0.5 , 0.333, 0. , 0. ])
    """
    score = np.asarray(impostor, float)
    return edc_false_matches(score, score < threshold, threshold)


def sampled(curve: Curve, levels: ArrayLike) -> Curve:
    """The curve at some shares discarded: fewer steps, each of them exact where it begins.

    Args:
        curve: of many steps.
        levels: `(K,)` float, rising from 0, below 1.

    Raises:
        DataError: the levels are none.

    Example:
        >>> sampled(Curve(np.array([0.0, 0.25, 0.5, 0.75]), np.array([0.4, 0.3, 0.2, 0.1])), [0.0, 0.5]).error
        array([0.4, 0.2])
    """
    at = checked_levels(levels)
    return Curve(at, curve.error[np.searchsorted(curve.discarded, at + 1e-12, side="right") - 1])


def checked_levels(levels: ArrayLike) -> F64:
    """Shares discarded as an array.

    Raises:
        DataError: they do not rise from 0, or reach 1.
    """
    at = np.asarray(levels, np.float64)
    if at.ndim != 1 or not len(at) or at[0] != 0 or not (np.diff(at) > 0).all() or not at[-1] < 1:
        raise DataError("shares discarded must rise from 0 and stay below 1.")
    return at


def pauc(curve: Curve, limit: float = LIMIT) -> float:
    """Mean error of the curve from 0 to `limit`: the area under its steps divided by `limit`.

    Args:
        curve: any of this package.
        limit: share discarded at which to stop, above 0, at most 1.

    Returns:
        0 to 1; NaN where the curve holds NaN below the limit.

    Raises:
        DataError: `limit` is out of range.

    Example:
        >>> pauc(Curve(np.array([0.0, 0.25]), np.array([0.3, 0.1])), limit=0.5)
        0.2
    """
    inside = curve.discarded < checked_limit(limit)
    widths = np.diff(np.append(curve.discarded[inside], limit))
    return float(np.dot(widths, curve.error[inside]) / limit)


def checked_limit(limit: float) -> float:
    """A share discarded at which to stop.

    Raises:
        DataError: it is out of range.
    """
    if not 0 < limit <= 1:
        raise DataError(f"the discarded share must lie between 0 and 1; {limit} does not.")
    return limit


def share(r: float, r_ideal: float) -> float:
    """`efficiency` of both `r`; NaN where the ideal order gains nothing."""
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
    score, q = checked_pairs(genuine, quality)
    errors, ordered, count, limits = score < threshold, Ordered.of(q), len(score), [checked_limit(limit)]

    def relative(weight: F64 | None = None) -> tuple[float, float]:
        [r], [r_ideal] = ordered.removed(errors, weight).relative(limits)
        return float(r), float(r_ideal)

    r, r_ideal = relative()
    found, counts = share(r, r_ideal), (int(errors.sum()), count)
    if np.isnan(found):
        return Efficiency(None, None, None, None, *counts)
    interval = bootstrap(lambda rows: share(*relative(np.bincount(rows, minlength=count).astype(np.float64))), count)
    return Efficiency(r, r_ideal, found, interval, *counts)


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
    a, b = checked_pairs(x, y)
    if len(a) < 2:
        raise DataError("a rank correlation needs at least two values.")
    a, b = _centred_ranks(a), _centred_ranks(b)
    length = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / length if length else np.nan


def _centred_ranks(values: NDArray[np.floating]) -> F64:
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[group]
    return ranks - ranks.mean()
