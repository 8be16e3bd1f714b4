"""Error versus discard of any number of qualities on the same comparisons, with bands over people.

A threshold is fixed on all comparisons, by a false match rate or by the share of genuine pairs that it rejects, and
every quality is judged at it; or it is picked again at each level, so that the false match rate stays. The bands come
from people drawn again, as in `verification.bootstrap_people`, and the threshold is fixed anew in each draw: it is as
uncertain as the rest. The draws are the same for every quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from magface.errors import DataError
from magface.metrics.ordered import F64, Mask, Ordered, Removed
from magface.metrics.quality import Curve, checked_levels, checked_limit, checked_pairs, pauc
from magface.metrics.repicked import Places, Repicked, allowed
from magface.metrics.verification import OperatingPoint, People, tar_at_fmr, wilson

LIMITS = (0.1, 0.2, 0.3)
LEVELS = np.arange(1000) / 1000


def threshold_at_fnmr(genuine: ArrayLike, fnmr: float) -> float | None:
    """Highest threshold that rejects no more than the share `fnmr` of the genuine scores.

    Args:
        genuine: `(G,)` float similarities of two images of one person.
        fnmr: false non-match rate, between 0 and 1, both excluded.

    Returns:
        The lowest genuine score that must be accepted; tied ones are accepted or rejected together, so the rate that is
        reached may be lower. None when `fnmr < 1 / G`: so few comparisons cannot measure it.

    Raises:
        DataError: `fnmr` is out of range, there are no scores, or one is NaN or infinite.

    Example:
        >>> threshold_at_fnmr([0.9, 0.8, 0.45, 0.2], 0.25), threshold_at_fnmr([0.9, 0.8], 0.05)
        (0.45, None)
    """
    scores = np.sort(checked_pairs(genuine, np.zeros(np.shape(genuine)))[0])
    rejected = int(allowed(len(scores), _checked_rate(fnmr)))
    return float(scores[rejected]) if rejected else None


def _checked_rate(rate: float) -> float:
    if not 0 < rate < 1:
        raise DataError(f"an error rate must lie between 0 and 1; {rate} does not.")
    return rate


@dataclass(frozen=True, slots=True)
class Start:
    """What fixes the threshold on all comparisons.

    Attributes:
        rate: between 0 and 1, both excluded.
        kind: `FMR`, of impostor pairs; or `FNMR`, the error that every curve starts with.
    """

    rate: float
    kind: Literal["FMR", "FNMR"] = "FMR"

    def __str__(self) -> str:
        return f"{self.kind} {self.rate:g}"

    def point(self, genuine: ArrayLike, impostor: ArrayLike) -> OperatingPoint:
        """The threshold and what it does to `(G,)` genuine and `(I,)` impostor scores.

        Returns:
            As `verification.tar_at_fmr` says; where an FNMR fixes it, `fmr` is the rate that is reached.

        Raises:
            DataError: the rate is out of range, a class is empty, or a score is NaN or infinite.

        Example:
            >>> point = Start(0.25, "FNMR").point([0.9, 0.8, 0.45, 0.2], [0.1, 0.2, 0.3, 0.5])
            >>> point.threshold, point.tar, point.fmr
            (0.45, 0.75, 0.25)
        """
        if self.kind == "FMR":
            return tar_at_fmr(genuine, impostor, self.rate)
        threshold, scores, others = threshold_at_fnmr(genuine, self.rate), np.asarray(genuine), np.asarray(impostor)
        counts = len(scores), len(others)
        if threshold is None:
            reason = f"{self} needs at least {math.ceil(1 / self.rate):,} genuine comparisons; there are {counts[0]:,}."
            return OperatingPoint(math.nan, None, None, None, 0, *counts, reason)
        matches, accepted = int(np.sum(scores >= threshold)), int(np.sum(others >= threshold))
        interval = wilson(matches, counts[0])
        return OperatingPoint(accepted / counts[1], threshold, matches / counts[0], interval, accepted, *counts)


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What a curve comes to; NaN where the data cannot tell.

    Attributes:
        error: `(K,)` error rate at each level.
        pauc: `(L,)` mean error from 0 to each limit.
        r: `(L,)` the same divided by the error without discarding.
        efficiency: `(L,)` share of the gain that the best order brings; NaN where the threshold is picked again.
    """

    error: F64
    pauc: F64
    r: F64
    efficiency: F64


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Error versus discard of one quality, one kind of error, one threshold.

    Attributes:
        value: of all comparisons.
        low: lower ends of 95 % intervals over people; None where they were not drawn.
        high: upper ends.
        drawn: `(D, L)` r in each draw, of the same people for every quality; None where they were not drawn.
    """

    value: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    drawn: F64 | None = None

    def minus(self, other: Found) -> tuple[F64, F64, F64]:
        """How much larger r is than that of another quality, `(L,)`, and the 95 % interval.

        Pairs and people are the same for both, so what chance does to both is left out. The ends are NaN where people
        were not drawn.
        """
        difference = self.value.r - other.value.r
        if self.drawn is None or other.drawn is None:
            unknown = np.full(len(difference), np.nan)
            return difference, unknown, unknown
        return difference, *_percentiles(self.drawn - other.drawn)


class Comparisons:
    """Scored comparisons, on which qualities are judged.

    Args:
        scores: `(N,)` float similarities.
        same: `(N,)` bool, True for genuine pairs.
        starts: what fixes a threshold each, S of them.
        repicked: pick the threshold again at each level, so that the false match rate stays what it is on all pairs.
        people: who is in the first and in the second images, each `(N,)` int, to draw people again; None for no bands.
        levels: `(K,)` shares discarded, rising from 0.
        limits: L shares discarded at which areas end.
        repeats: draws.
        seed: of the draws.

    Attributes:
        points: the S thresholds on all pairs.

    Raises:
        DataError: no genuine or no impostor pair, too few pairs for a rate, NaN, levels or limits out of range, or a
            genuine pair shows two people or an impostor pair one.

    Example:
        >>> scores, same = np.array([0.1, 0.9, 0.8, 0.2, 0.1, 0.3]), np.array([True, True, True, False, False, False])
        >>> compared = Comparisons(scores, same, [Start(0.34)], levels=[0.0, 0.4], limits=[0.3])
        >>> round(compared.points[0].threshold, 9), compared.false_non_matches(same * 1.0)[0].value.error.round(3)
        (0.2, array([0.333, 0.333]))
    """

    def __init__(
        self,
        scores: ArrayLike,
        same: ArrayLike,
        starts: Sequence[Start],
        *,
        repicked: bool = False,
        people: tuple[ArrayLike, ArrayLike] | None = None,
        levels: ArrayLike = LEVELS,
        limits: Sequence[float] = LIMITS,
        repeats: int = 300,
        seed: int = 0,
    ) -> None:
        self.scores, self.same = np.asarray(scores, np.float64), np.asarray(same, bool)
        self.levels, self.limits = checked_levels(levels), tuple(map(checked_limit, limits))
        self.starts, self.repicked = tuple(starts), repicked
        self.points = tuple(start.point(self.scores[self.same], self.scores[~self.same]) for start in starts)
        for point in self.points:
            if point.reason:
                raise DataError(point.reason)
        self._places = Places(self.scores, self.same) if repicked else None
        drawn = None if people is None else People.of(self.same, *people)
        self._weights = lambda: iter(()) if drawn is None else drawn.draws(repeats, seed)
        self._drawn = self._thresholds()

    def false_non_matches(self, quality: ArrayLike) -> tuple[Found, ...]:
        """FNMR versus discard at each of the S thresholds.

        Args:
            quality: `(N,)` float, higher is better.

        Raises:
            DataError: NaN, or another number of pairs.
        """
        _, q = checked_pairs(self.scores, quality)
        if self._places is not None:
            return self._found(self._picking(Repicked(self._places, q)))
        return self._found(self._fixed(self.same, Ordered.of(q[self.same]), -1))

    def false_matches(self, quality: ArrayLike) -> tuple[Found, ...]:
        """FMR versus discard at each of the S thresholds, which stay fixed.

        Args:
            quality: `(N,)` float, higher is better.

        Raises:
            DataError: NaN, or another number of pairs.
        """
        _, q = checked_pairs(self.scores, quality)
        return self._found(self._fixed(~self.same, Ordered.of(q[~self.same]), 1))

    def ideal(self) -> tuple[tuple[Found, Found], ...]:
        """FNMR and FMR of the best order there is, the wrong pairs first, at each of the S fixed thresholds."""
        found = []
        for point in self.points:
            accepted = self.scores >= np.float64(point.threshold)
            errors = ~accepted[self.same], accepted[~self.same]
            both = (Removed.ideal(float(wrong.sum()), float(len(wrong))) for wrong in errors)
            fnmr, fmr = (Found(self._unpacked(self._summary(removed))) for removed in both)
            found.append((fnmr, fmr))
        return tuple(found)

    def _fixed(self, side: Mask, ordered: Ordered, sign: int) -> _Measure:
        scores = self.scores[side]

        def measure(_: float, threshold: float, weight: F64 | None) -> F64:
            if math.isnan(threshold):  # of a draw without genuine or without impostor pairs
                return np.full(len(self.levels) + 3 * len(self.limits), np.nan)
            errors = scores >= threshold if sign > 0 else scores < threshold
            return self._summary(ordered.removed(errors, None if weight is None else weight[side]))

        return measure

    def _picking(self, repicked: Repicked) -> _Measure:
        def measure(fmr: float, _: float, weight: F64 | None) -> F64:
            measurable = 0 < fmr < 1  # an FNMR may accept all impostors or none, and a draw may hold none
            error = repicked.error(fmr, self.levels, weight) if measurable else np.full(len(self.levels), np.nan)
            curve = Curve(self.levels, error)
            area = np.array([pauc(curve, limit) for limit in self.limits])
            unknown = np.full(len(area), np.nan)
            return np.concatenate([error, area, area / error[0] if error[0] > 0 else unknown, unknown])

        return measure

    def _summary(self, removed: Removed) -> F64:
        """The fields of `Numbers` one after the other."""
        r, best = removed.relative(self.limits)
        gain = np.divide(1 - r, 1 - best, out=np.full(len(r), np.nan), where=best < 1)
        return np.concatenate([removed.steps(self.levels), removed.pauc(self.limits), r, gain])

    def _unpacked(self, summary: F64) -> Numbers:
        count, limits = len(self.levels), len(self.limits)
        return Numbers(*np.split(summary, [count, count + limits, count + 2 * limits]))

    def _found(self, measure: _Measure) -> tuple[Found, ...]:
        whole = [measure(point.fmr, float(point.threshold or 0), None) for point in self.points]
        if not self._drawn:
            return tuple(Found(self._unpacked(each)) for each in whole)
        draws = np.array(
            [
                [measure(fmr, threshold, weight) for fmr, threshold in drawn]
                for weight, drawn in zip(self._weights(), self._drawn, strict=True)
            ]
        )
        return tuple(self._between(value, draws[:, start]) for start, value in enumerate(whole))

    def _between(self, value: F64, draws: F64) -> Found:
        first = len(self.levels) + len(self.limits)
        low, high = _percentiles(draws)
        r = draws[:, first : first + len(self.limits)]
        return Found(self._unpacked(value), self._unpacked(low), self._unpacked(high), r)

    def _thresholds(self) -> list[list[tuple[float, float]]]:
        """False match rate and threshold of each start in each draw, as `Start.point` finds them."""
        rising, falling = np.argsort(self.scores[self.same]), np.argsort(-self.scores[~self.same])
        genuine, impostor = self.scores[self.same][rising], self.scores[~self.same][falling]

        def found(start: Start, matches: F64, others: F64) -> tuple[float, float]:
            """Of sums of weights in the order of the scores."""
            if not matches[-1] or not others[-1]:
                return math.nan, math.nan
            if start.kind == "FMR":
                last = np.searchsorted(others, allowed(others[-1], start.rate), side="right")
                return start.rate, float(np.nextafter(impostor[last], np.inf))
            threshold = genuine[np.searchsorted(matches, allowed(matches[-1], start.rate), side="right")]
            accepted = np.append(0.0, others)[np.searchsorted(-impostor, -threshold, side="right")]
            return float(accepted / others[-1]), float(threshold)

        sums = (
            (np.cumsum(weight[self.same][rising]), np.cumsum(weight[~self.same][falling])) for weight in self._weights()
        )
        return [[found(start, *both) for start in self.starts] for both in sums]


_Measure = Callable[[float, float, F64 | None], F64]
"""Takes the false match rate, the threshold, and how often each pair counts; gives a summary."""


def _percentiles(draws: F64) -> tuple[F64, F64]:
    """95 % interval of each column, of what is defined."""
    low, high = np.full((2, draws.shape[1]), np.nan)
    known = ~np.isnan(draws).all(axis=0)
    if known.any():
        low[known], high[known] = np.nanquantile(draws[:, known], [0.025, 0.975], axis=0)
    return low, high
