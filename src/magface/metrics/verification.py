"""One-to-one verification: genuine and impostor scores in, error rates at exact thresholds out.

A comparison is accepted when `score >= threshold`; scores are similarities. Thresholds are taken from the scores
themselves and never from a grid, so every rate is the exact one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError

F64 = NDArray[np.float64]
Float = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """Rates at every distinct score, from accepting nothing to accepting everything.

    Attributes:
        thresholds: `(K,)` float64, falling; the first is infinity.
        fmr: `(K,)` float64, share of impostor scores accepted, rising from 0 to 1.
        tar: `(K,)` float64, share of genuine scores accepted, rising from 0 to 1.
    """

    thresholds: F64
    fmr: F64
    tar: F64


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The true accept rate at one false match rate, or the reason why the data cannot tell it.

    Attributes:
        fmr: the false match rate asked for.
        threshold: smallest threshold that keeps it; None when the data are too few.
        tar: share of genuine scores accepted, 0 to 1; None when the data are too few.
        interval: 95 % Wilson interval of `tar`; None when the data are too few.
        accepted: impostor scores accepted at `threshold`.
        genuine: genuine comparisons behind `tar`.
        impostor: impostor comparisons behind `threshold`.
        reason: why there is no number, else empty.
    """

    fmr: float
    threshold: float | None
    tar: float | None
    interval: tuple[float, float] | None
    accepted: int
    genuine: int
    impostor: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FoldAccuracy:
    """Accuracy of each fold at the threshold that is best on all others.

    Attributes:
        accuracy: mean over folds, 0 to 1.
        std: standard deviation over folds (divided by their number, as published LFW tables do).
        per_fold: accuracy of each fold, in the order of the fold numbers.
        thresholds: threshold of each fold; minus infinity accepts everything, infinity nothing.
    """

    accuracy: float
    std: float
    per_fold: tuple[float, ...]
    thresholds: tuple[float, ...]


def _checked(values: ArrayLike, kind: str) -> Float:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{kind} scores must be a non-empty list; these have shape {array.shape}.")
    if not np.isfinite(array).all():
        raise DataError(f"{kind} scores hold NaN or infinity; leave out the comparisons that failed.")
    return array


def roc(genuine: ArrayLike, impostor: ArrayLike) -> Roc:
    """Receiver operating characteristic at every distinct score.

    Args:
        genuine: `(G,)` float, similarities of two images of one person.
        impostor: `(I,)` float, similarities of two people.

    Returns:
        The curve, `K = 1 + number of distinct scores` points; tied scores share one point.

    Raises:
        DataError: a class is empty, or a score is NaN or infinite.

    Example:
        >>> curve = roc([0.9, 0.4], [0.4, 0.1])
        >>> curve.thresholds, curve.fmr, curve.tar
        (array([inf, 0.9, 0.4, 0.1]), array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    genuine_sorted = np.sort(_checked(genuine, "genuine"))
    impostor_sorted = np.sort(_checked(impostor, "impostor"))
    levels = np.unique(np.concatenate([genuine_sorted, impostor_sorted]))[::-1].astype(np.float64)

    def accepted(scores: Float) -> F64:
        return np.concatenate([[0.0], 1.0 - np.searchsorted(scores, levels, side="left") / len(scores)])

    return Roc(np.concatenate([[np.inf], levels]), accepted(impostor_sorted), accepted(genuine_sorted))


def auc(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Area under the ROC: the chance that a genuine score is above an impostor one, a tie counting half.

    Args:
        genuine: `(G,)` float similarities.
        impostor: `(I,)` float similarities.

    Returns:
        0 to 1.

    Raises:
        DataError: a class is empty, or a score is NaN or infinite.

    Example:
        >>> auc([0.9, 0.4], [0.4, 0.1])
        0.875
    """
    genuine_scores, impostor_sorted = _checked(genuine, "genuine"), np.sort(_checked(impostor, "impostor"))
    below = np.searchsorted(impostor_sorted, genuine_scores, side="left").mean()
    not_above = np.searchsorted(impostor_sorted, genuine_scores, side="right").mean()
    return float((below + not_above) / 2 / len(impostor_sorted))


def eer(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Equal error rate: where FMR and FNMR meet on the line through the points of the ROC.

    Args:
        genuine: `(G,)` float similarities.
        impostor: `(I,)` float similarities.

    Returns:
        0 to 1.

    Raises:
        DataError: a class is empty, or a score is NaN or infinite.

    Example:
        >>> eer([0.9, 0.4], [0.4, 0.1])
        0.25
    """
    curve = roc(genuine, impostor)
    excess = curve.fmr + curve.tar - 1.0  # FMR - FNMR, rising from -1 to 1
    after = int(np.argmax(excess >= 0))
    before = after - 1
    step = -excess[before] / (excess[after] - excess[before])
    return float(curve.fmr[before] + step * (curve.fmr[after] - curve.fmr[before]))


def threshold_at_fmr(impostor: ArrayLike, fmr: float) -> float | None:
    """Smallest impostor score that, as a threshold, accepts no more than the share `fmr` of the impostor scores.

    Args:
        impostor: `(I,)` float similarities of two people.
        fmr: false match rate, between 0 and 1, both excluded.

    Returns:
        The threshold. Tied scores are accepted or rejected together; when the highest ones are too many, it is the
        next number above them in the precision of the scores. None when `fmr < 1 / I`: so few comparisons cannot
        measure it.

    Raises:
        DataError: `fmr` is out of range, the class is empty, or a score is NaN or infinite.

    Example:
        >>> threshold_at_fmr([0.1, 0.2, 0.3, 0.4], 0.5)
        0.3
        >>> threshold_at_fmr([0.1, 0.2, 0.3, 0.4], 0.1) is None
        True
    """
    scores = np.sort(_checked(impostor, "impostor"))
    if not 0 < fmr < 1:
        raise DataError(f"the false match rate must lie between 0 and 1; {fmr} does not.")
    if fmr < 1 / len(scores):
        return None
    accepted = len(scores) - np.searchsorted(scores, scores, side="left")
    kept = np.flatnonzero(accepted / len(scores) <= fmr)
    return float(scores[kept[0]] if len(kept) else np.nextafter(scores[-1], np.inf, dtype=scores.dtype))


def tar_at_fmr(genuine: ArrayLike, impostor: ArrayLike, fmr: float) -> OperatingPoint:
    """True accept rate at a false match rate, at the exact threshold.

    Args:
        genuine: `(G,)` float similarities of two images of one person.
        impostor: `(I,)` float similarities of two people.
        fmr: false match rate, between 0 and 1, both excluded.

    Returns:
        The operating point. Of tied impostor scores all or none are accepted. Where `fmr` is finer than `1 / I`, its
        numbers are None and `reason` says so.

    Raises:
        DataError: `fmr` is out of range, a class is empty, or a score is NaN or infinite.

    Example:
        >>> point = tar_at_fmr([0.9, 0.8, 0.45, 0.2], [0.1, 0.2, 0.3, 0.4], fmr=0.25)
        >>> point.tar, point.accepted
        (0.75, 1)
        >>> tar_at_fmr([0.9], [0.1, 0.2], fmr=1e-3).reason
        'FMR 0.001 needs at least 1,000 impostor comparisons; there are 2.'
    """
    genuine_scores, impostor_scores = _checked(genuine, "genuine"), _checked(impostor, "impostor")
    counts = len(genuine_scores), len(impostor_scores)
    threshold = threshold_at_fmr(impostor_scores, fmr)
    if threshold is None:
        reason = f"FMR {fmr:g} needs at least {math.ceil(1 / fmr):,} impostor comparisons; there are {counts[1]:,}."
        return OperatingPoint(fmr, None, None, None, 0, *counts, reason)
    matches = int(np.count_nonzero(genuine_scores >= threshold))
    accepted = int(np.count_nonzero(impostor_scores >= threshold))
    return OperatingPoint(fmr, threshold, matches / counts[0], wilson(matches, counts[0]), accepted, *counts)


def _best_threshold(scores: F64, same: NDArray[np.bool_]) -> float:
    """Middle of the gap between scores that gives the highest accuracy, and of equally good gaps the middle one."""
    levels = np.unique(scores)
    middles = (levels[:-1] + levels[1:]) / 2
    gaps = np.concatenate([[-np.inf], np.where(middles > levels[:-1], middles, levels[1:]), [np.inf]])
    rejected_impostors = np.searchsorted(np.sort(scores[~same]), gaps, side="left")
    rejected_genuine = np.searchsorted(np.sort(scores[same]), gaps, side="left")
    best = np.flatnonzero(rejected_impostors - rejected_genuine == np.max(rejected_impostors - rejected_genuine))
    return float(gaps[best[len(best) // 2]])


def kfold_accuracy(scores: ArrayLike, same: ArrayLike, folds: ArrayLike) -> FoldAccuracy:
    """Accuracy by the LFW protocol: each fold is judged at the threshold that is best on all other folds.

    Differs from the official code: thresholds are the exact optimum over the scores of the other folds, not the best
    of a grid of step 0.01, and no mean embedding is subtracted.

    Args:
        scores: `(N,)` float similarities.
        same: `(N,)` bool, True for genuine pairs.
        folds: `(N,)` int, the fold of each pair; at least two folds.

    Returns:
        Mean, spread and folds.

    Raises:
        DataError: lengths differ, there are fewer than two folds, or a score is NaN or infinite.

    Example:
        >>> kfold_accuracy([0.9, 0.1, 0.8, 0.2], [True, False, True, False], [0, 0, 1, 1]).per_fold
        (1.0, 1.0)
    """
    values = _checked(scores, "verification").astype(np.float64)
    genuine, fold = np.asarray(same, bool), np.asarray(folds)
    if not values.shape == genuine.shape == fold.shape:
        raise DataError(f"each pair needs a score, a label and a fold; got {values.size}, {genuine.size}, {fold.size}.")
    numbers = np.unique(fold)
    if len(numbers) < 2:
        raise DataError("k-fold accuracy needs pairs of at least two folds.")
    thresholds = [_best_threshold(values[fold != k], genuine[fold != k]) for k in numbers]
    accuracies = [
        float(np.mean((values[fold == k] >= threshold) == genuine[fold == k]))
        for k, threshold in zip(numbers, thresholds, strict=True)
    ]
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), tuple(accuracies), tuple(thresholds))


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share.

    Args:
        successes: 0 to `trials`.
        trials: at least 1, taken as independent.
        confidence: between 0 and 1.

    Returns:
        Lower and upper end, within [0, 1].

    Raises:
        DataError: no trials, or more successes than trials.

    Example:
        >>> [round(end, 4) for end in wilson(9, 10)]
        [0.5958, 0.9821]
    """
    if not 0 <= successes <= trials or trials == 0:
        raise DataError(f"an interval needs 0 <= successes <= trials and at least one trial; got {successes}/{trials}.")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    centre = (successes + z2 / 2) / (trials + z2)
    half = math.sqrt(z2 * (successes * (trials - successes) / trials + z2 / 4)) / (trials + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], count: int, *, repeats: int = 300, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a statistic of `count` pairs, by drawing them again with replacement.

    Args:
        statistic: takes `(count,)` row numbers, gives a number; NaN where a draw does not define it.
        count: pairs, at least 1.
        repeats: draws.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN when no draw defines the statistic.

    Example:
        >>> values = np.arange(100.0)
        >>> low, high = bootstrap(lambda rows: values[rows].mean(), 100)
        >>> low < 49.5 < high
        True
    """
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(count, size=count)) for _ in range(repeats)])
    defined = values[np.isfinite(values)]
    if len(defined) == 0:
        return math.nan, math.nan
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)
