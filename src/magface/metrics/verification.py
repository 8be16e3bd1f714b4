"""One-to-one verification: genuine and impostor scores in, error rates at exact thresholds out.

A comparison is accepted when `score >= threshold`; scores are similarities. Thresholds come from the scores
themselves and never from a grid, so every rate is the exact one. Scores that are sorted already are not sorted again.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError

F64 = NDArray[np.float64]
Float = NDArray[np.floating]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Interval = tuple[float, float]


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

    @property
    def fnmr(self) -> F64:
        """`(K,)` float64, share of genuine scores rejected, falling from 1 to 0: over `fmr`, the DET curve."""
        return 1.0 - self.tar


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


@dataclass(frozen=True, slots=True)
class PeopleIntervals:
    """95 % percentile intervals by drawing people again, not pairs.

    Attributes:
        tar: interval of the true accept rate at each false match rate; None where the data are too few for it.
        eer: interval of the equal error rate.
    """

    tar: tuple[Interval | None, ...]
    eer: Interval


def _checked(values: ArrayLike, kind: str) -> Float:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{kind} scores must be a non-empty list; these have shape {array.shape}.")
    if not np.isfinite(array).all():
        raise DataError(f"{kind} scores hold NaN or infinity; leave out the comparisons that failed.")
    return array


def _ascending(values: ArrayLike, kind: str) -> Float:
    array = _checked(values, kind)
    return array if np.all(array[1:] >= array[:-1]) else np.sort(array)


def _sides(genuine: ArrayLike, impostor: ArrayLike) -> tuple[Float, Float]:
    """Both classes, ascending and in one precision."""
    a, b = _ascending(genuine, "genuine"), _ascending(impostor, "impostor")
    dtype = np.result_type(a, b)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


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
    genuine_sorted, impostor_sorted = _sides(genuine, impostor)
    return _roc_at(np.unique(np.concatenate([genuine_sorted, impostor_sorted])), genuine_sorted, impostor_sorted)


def roc_points(genuine: ArrayLike, impostor: ArrayLike, points: int = 200) -> Roc:
    """Some points of the ROC, for plots and files, without making the whole curve.

    Every one is a point of `roc`. They lie equally far apart on a logarithmic axis of FMR, and of FNMR.

    Args:
        genuine: `(G,)` float similarities; sorted ones take less time.
        impostor: `(I,)` float similarities, likewise.
        points: on each axis, at most; at least 2.

    Returns:
        The first point of the curve, the last, and at most `2 * points` in all beyond the first.

    Raises:
        DataError: `points` is below 2, a class is empty, or a score is NaN or infinite.

    Example:
        >>> curve = roc_points([0.9, 0.4], [0.4, 0.1])
        >>> curve.thresholds, curve.fmr, curve.tar
        (array([inf, 0.9, 0.4, 0.1]), array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    if points < 2:
        raise DataError(f"a curve needs at least 2 points; {points} are too few.")
    genuine_sorted, impostor_sorted = _sides(genuine, impostor)
    wrong, missed = (_geometric(len(side), points) for side in (impostor_sorted, genuine_sorted))
    kept = [impostor_sorted[len(impostor_sorted) - wrong], genuine_sorted[missed - 1]]
    lowest = min(genuine_sorted[0], impostor_sorted[0])
    return _roc_at(np.unique(np.concatenate([*kept, [lowest]])), genuine_sorted, impostor_sorted)


def _geometric(count: int, points: int) -> Index:
    """Whole numbers from 1 to `count`, equally far apart on a logarithmic axis."""
    return np.unique(np.geomspace(1, count, points).astype(np.intp))


def _roc_at(levels: Float, genuine: Float, impostor: Float) -> Roc:
    """The curve at rising scores, of two sorted sides."""
    falling = levels[::-1]

    def accepted(scores: Float) -> F64:
        return np.concatenate([[0.0], 1.0 - np.searchsorted(scores, falling, side="left") / len(scores)])

    return Roc(np.append(np.inf, falling).astype(np.float64), accepted(impostor), accepted(genuine))


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
    genuine_scores, impostor_sorted = _sides(genuine, impostor)
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
    sides = _sides(genuine, impostor)

    def rates(threshold: ArrayLike) -> tuple[float, float]:
        tar, fmr = (1.0 - float(np.searchsorted(side, threshold)) / len(side) for side in sides)
        return fmr, tar

    def cut(side: Float) -> int:  # from here on FMR < FNMR
        return bisect_left(range(len(side)), True, key=lambda k: np.add(*rates(side[k])) < 1.0)

    cuts = [cut(side) for side in sides]
    below = max(side[k - 1] for side, k in zip(sides, cuts, strict=True) if k)
    above = [side[k] for side, k in zip(sides, cuts, strict=True) if k < len(side)]
    ends = np.array([rates(min(above)) if above else (0.0, 0.0), rates(below)])
    return _meeting(ends[:, 0], ends[:, 1])


def _meeting(fmr: F64, tar: F64) -> float:
    """FMR at which FMR = FNMR, on the line through points that rise from (0, 0) to (1, 1)."""
    excess = fmr + tar - 1.0
    after = int(np.argmax(excess >= 0))
    before = after - 1
    step = -excess[before] / (excess[after] - excess[before])
    return float(fmr[before] + step * (fmr[after] - fmr[before]))


def threshold_at_fmr(impostor: ArrayLike, fmr: float) -> float | None:
    """Smallest threshold that accepts no more than the share `fmr` of the impostor scores.

    Args:
        impostor: `(I,)` float similarities of two people.
        fmr: false match rate, between 0 and 1, both excluded.

    Returns:
        The next number, in the precision of the scores, above the highest impostor score that must be rejected; tied
        ones are accepted or rejected together. None when `fmr < 1 / I`: so few comparisons cannot measure it.

    Raises:
        DataError: `fmr` is out of range, the class is empty, or a score is NaN or infinite.

    Example:
        >>> threshold_at_fmr([0.125, 0.25, 0.5, 0.75], 0.5)
        0.25000000000000006
        >>> threshold_at_fmr([0.1, 0.2, 0.3, 0.4], 0.1) is None
        True
    """
    return _threshold(_ascending(impostor, "impostor"), fmr)


def _threshold(scores: Float, fmr: float) -> float | None:
    """`threshold_at_fmr` of ascending scores, in time that grows with the logarithm of their number."""
    if not 0 < fmr < 1:
        raise DataError(f"the false match rate must lie between 0 and 1; {fmr} does not.")
    count = len(scores)
    if fmr < 1 / count:
        return None
    allowed = bisect_left(range(1, count), True, key=lambda accepted: accepted / count > fmr)
    return float(np.nextafter(scores[count - 1 - allowed], np.inf, dtype=scores.dtype))


def tar_at_fmr(genuine: ArrayLike, impostor: ArrayLike, fmr: float) -> OperatingPoint:
    """True accept rate at a false match rate, at the exact threshold: the highest on the ROC up to that rate.

    Differs from scripts such as the official ones for IJB, which take the point of the ROC whose rate is the nearest,
    be it above the one asked for.

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
    (point,) = operating_points(genuine, impostor, [fmr])
    return point


def operating_points(genuine: ArrayLike, impostor: ArrayLike, fmrs: Sequence[float]) -> tuple[OperatingPoint, ...]:
    """True accept rates at several false match rates, at the exact thresholds, with one sort of the scores.

    Args:
        genuine: `(G,)` float similarities of two images of one person.
        impostor: `(I,)` float similarities of two people.
        fmrs: false match rates, each between 0 and 1, both excluded.

    Returns:
        For each rate what `tar_at_fmr` gives.

    Raises:
        DataError: a rate is out of range, a class is empty, or a score is NaN or infinite.

    Example:
        >>> [point.tar for point in operating_points([0.9, 0.8, 0.45, 0.2], [0.1, 0.2, 0.3, 0.4], [0.5, 0.25, 0.1])]
        [0.75, 0.75, None]
    """
    genuine_sorted, impostor_sorted = _sides(genuine, impostor)
    return tuple(_operating_point(genuine_sorted, impostor_sorted, fmr) for fmr in fmrs)


def _operating_point(genuine: Float, impostor: Float, fmr: float) -> OperatingPoint:
    counts = len(genuine), len(impostor)
    threshold = _threshold(impostor, fmr)
    if threshold is None:
        reason = f"FMR {fmr:g} needs at least {math.ceil(1 / fmr):,} impostor comparisons; there are {counts[1]:,}."
        return OperatingPoint(fmr, None, None, None, 0, *counts, reason)
    matches, accepted = (
        len(side) - int(np.searchsorted(side, side.dtype.type(threshold))) for side in (genuine, impostor)
    )
    return OperatingPoint(fmr, threshold, matches / counts[0], wilson(matches, counts[0]), accepted, *counts)


def kfold_accuracy(scores: ArrayLike, same: ArrayLike, folds: ArrayLike) -> FoldAccuracy:
    """Accuracy by the LFW protocol: each fold is judged at the threshold that is best on all other folds.

    Differs from the official code: thresholds are the exact optimum over the scores of the other folds, not the best
    of a grid of step 0.01, and no mean embedding is subtracted.

    Args:
        scores: `(N,)` float similarities; or `(F, N)`, a row for each of the F folds in the order of their numbers,
            where the scores depend on the fold that is judged.
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
    rows, genuine, fold, numbers = _folded(scores, same, folds)
    found = [_judged(row, genuine, fold == k) for k, row in zip(numbers, rows, strict=True)]
    accuracies, thresholds = zip(*found, strict=True)
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), accuracies, thresholds)


def _folded(scores: ArrayLike, same: ArrayLike, folds: ArrayLike) -> tuple[list[F64], Mask, NDArray[np.integer], Index]:
    """Scores of each fold, labels, fold of each pair, and the numbers of the folds."""
    values, genuine, fold = np.asarray(scores), np.asarray(same, bool), np.asarray(folds)
    numbers = np.unique(fold)
    rows = [_checked(row, "verification").astype(np.float64) for row in (values if values.ndim == 2 else values[None])]
    if not genuine.shape == fold.shape == values.shape[-1:]:
        sizes = values.shape[-1:], genuine.shape, fold.shape
        raise DataError("each pair needs a score, a label and a fold; got shapes {}, {}, {}.".format(*sizes))
    if len(numbers) < 2:
        raise DataError("k-fold accuracy needs pairs of at least two folds.")
    if len(rows) not in (1, len(numbers)):
        raise DataError(f"{len(numbers)} folds need one row of scores or one each; there are {len(rows)}.")
    return rows * (len(numbers) // len(rows)), genuine, fold, numbers


def _judged(
    scores: F64, genuine: Mask, judged: Mask, order: Index | None = None, weight: F64 | None = None
) -> tuple[float, float]:
    """Accuracy of the pairs `judged` at the threshold that is best on the others, and that threshold.

    Args:
        scores: `(N,)`.
        genuine: `(N,)`.
        judged: `(N,)`.
        order: `(N,)` rows in the order of rising scores, where it is known.
        weight: `(N,)` how often each pair counts; once by default.
    """
    order = np.argsort(scores) if order is None else order
    counts = np.ones(len(scores)) if weight is None else weight
    others = order[~judged[order] & (counts[order] > 0)]
    threshold = _best_threshold(scores[others], np.where(genuine[others], -counts[others], counts[others]))
    right = (scores[judged] >= threshold) == genuine[judged]
    return float(np.average(right, weights=counts[judged])), threshold


def _best_threshold(scores: F64, gain: F64) -> float:
    """Middle of the gap between scores that gives the highest accuracy, and of equally good gaps the middle one.

    Args:
        scores: `(N,)` ascending.
        gain: `(N,)` what it brings to reject each.
    """
    starts = np.append(0, np.flatnonzero(np.diff(scores)) + 1)
    levels = scores[starts]
    middles = (levels[:-1] + levels[1:]) / 2
    gaps = np.concatenate([[-np.inf], np.where(middles > levels[:-1], middles, levels[1:]), [np.inf]])
    total = np.append(0.0, np.cumsum(gain))[np.append(starts, len(scores))]
    best = np.flatnonzero(total == np.max(total))
    return float(gaps[best[len(best) // 2]])


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
    return _percentiles([statistic(rng.integers(count, size=count)) for _ in range(repeats)])


def _percentiles(values: Sequence[float]) -> Interval:
    """95 % interval of what is defined."""
    defined = np.array(values)[np.isfinite(values)]
    if len(defined) == 0:
        return math.nan, math.nan
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_people(
    scores: ArrayLike,
    same: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    fmrs: Sequence[float] = (),
    *,
    repeats: int = 300,
    seed: int = 0,
) -> PeopleIntervals:
    """Intervals by drawing people again with replacement: comparisons that share a person are not independent.

    Equation: bootstrap over people (w = c_p for a genuine pair of p, c_p c_q for an impostor pair of p and q,
    c ~ multinomial over P people)

    A person who was drawn c times stands there c times: a pair of hers counts c times, a pair of two people as often as
    there are copies of both. Thresholds are found again in each draw.

    Args:
        scores: `(N,)` float similarities.
        same: `(N,)` bool, True for genuine pairs.
        first: `(N,)` int, the person of the first images, from 0.
        second: `(N,)` int, the person of the second images; for genuine pairs as in `first`.
        fmrs: false match rates, each between 0 and 1, both excluded.
        repeats: draws; one without genuine or without impostor pairs is left out.
        seed: of the draws.

    Returns:
        The intervals; NaN where no draw has both kinds of pairs.

    Raises:
        DataError: lengths differ, a class is empty, a score is NaN or infinite, a rate is out of range, a genuine pair
            shows two people or an impostor pair one.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> person = np.arange(100) // 2
        >>> scores = np.append(rng.normal(2, 1, 50), rng.normal(0, 1, 50))
        >>> first, second = np.append(np.arange(50), np.arange(50)), np.append(np.arange(50), np.roll(np.arange(50), 1))
        >>> low, high = bootstrap_people(scores, first == second, first, second).eer
        >>> 0 < low < high < 0.5
        True
    """
    values, genuine = _checked(scores, "verification").astype(np.float64), np.asarray(same, bool)
    draws = People.of(genuine, first, second).draws(repeats, seed)
    points = operating_points(values[genuine], values[~genuine], fmrs)
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)
    found = [_drawn(weight[order], genuine[order], ends, fmrs) for weight in draws]
    eers, tars = [eer for eer, _ in found], zip(*(tar for _, tar in found), strict=True)
    return PeopleIntervals(
        tuple(None if point.tar is None else _percentiles(tar) for point, tar in zip(points, tars, strict=True)),
        _percentiles(eers),
    )


def bootstrap_people_accuracy(
    scores: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    repeats: int = 300,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of `kfold_accuracy` by drawing people again, as `bootstrap_people` does.

    Args:
        scores: `(N,)` or `(F, N)` float similarities, as `kfold_accuracy` takes them.
        same: `(N,)` bool, True for genuine pairs.
        folds: `(N,)` int, the fold of each pair; at least two folds.
        first: `(N,)` int, the person of the first images, from 0.
        second: `(N,)` int, the person of the second images; for genuine pairs as in `first`.
        repeats: draws. A fold of which no pair was drawn is left out of the mean, a draw with fewer than two of all.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN when no draw defines it.

    Raises:
        DataError: as `kfold_accuracy` and `bootstrap_people` say.

    Example:
        >>> person, other = np.arange(100), np.roll(np.arange(100), 1)
        >>> first, second = np.append(person, person), np.append(person, other)
        >>> bootstrap_people_accuracy(first == second, first == second, first % 2, first, second)
        (1.0, 1.0)
    """
    rows, genuine, fold, numbers = _folded(scores, same, folds)
    orders = [np.argsort(row) for row in rows]

    def accuracy(weight: F64) -> float:
        drawn = [k for k, number in enumerate(numbers) if weight[fold == number].any()]
        if len(drawn) < 2:
            return math.nan
        judged = (_judged(rows[k], genuine, fold == numbers[k], orders[k], weight)[0] for k in drawn)
        return float(np.mean(list(judged)))

    return _percentiles([accuracy(weight) for weight in People.of(genuine, first, second).draws(repeats, seed)])


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Who is in each pair."""

    genuine: Mask
    first: Index
    second: Index

    @staticmethod
    def of(genuine: Mask, first: ArrayLike, second: ArrayLike) -> People:
        """Who is in the first and in the second images, each `(N,)`, of N pairs; `genuine` says which show one person.

        Raises:
            DataError: the three differ in length, or contradict each other.
        """
        a, b = np.asarray(first), np.asarray(second)
        if not genuine.shape == a.shape == b.shape:
            raise DataError(f"each pair needs two people; got shapes {genuine.shape}, {a.shape} and {b.shape}.")
        if ((a == b) != genuine).any():
            raise DataError("a genuine pair must show one person and an impostor pair two; check the labels.")
        _, numbers = np.unique([a, b], return_inverse=True)
        return People(genuine, *numbers.reshape(2, -1))

    def draws(self, repeats: int, seed: int) -> Iterator[F64]:
        """How often each pair counts, `(N,)`, in each draw."""
        rng = np.random.default_rng(seed)
        count = int(max(self.first.max(), self.second.max())) + 1
        for _ in range(repeats):
            copies = np.bincount(rng.integers(count, size=count), minlength=count)
            yield np.where(self.genuine, copies[self.first], copies[self.first] * copies[self.second]).astype(
                np.float64
            )


def _drawn(weight: F64, genuine: Mask, ends: Index, fmrs: Sequence[float]) -> tuple[float, list[float]]:
    """EER, and TAR at each rate, of weighted pairs.

    Args:
        weight: `(N,)` in the order of falling scores.
        genuine: `(N,)` likewise.
        ends: the last row of each group of tied scores.
        fmrs: R rates.
    """
    accepted, matches = (np.append(0.0, np.cumsum(np.where(kind, weight, 0.0))[ends]) for kind in (~genuine, genuine))
    if not accepted[-1] or not matches[-1]:
        return math.nan, [math.nan] * len(fmrs)
    fmr, tar = accepted / accepted[-1], matches / matches[-1]
    return _meeting(fmr, tar), [float(tar[np.searchsorted(fmr, rate, side="right") - 1]) for rate in fmrs]
