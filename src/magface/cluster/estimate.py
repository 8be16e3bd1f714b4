"""A threshold for a set of faces without labels, from the cosines of its pairs.

The right threshold depends on the set: among many people with few pictures each, a rate of false matches that is small
for one comparison makes more false pairs than there are true ones; among few people with poor pictures, the same
threshold tears them apart. How many false pairs to expect shows in the pairs themselves. Nearly all of them are of
different people, and their cosines are normally distributed about a mode near 0; pairs of one person stand out to the
right. On the left of the mode there are hardly any, so that side gives the distribution of different people.

Source: the empirical null of Efron, "Large-Scale Simultaneous Hypothesis Testing", JASA 2004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magface.cluster.weighting import checked
from magface.types import F32, Embeddings

FALSE = 0.1
"""Share of the pairs above the threshold that may be of different people: the mean over a group forgives that many."""
PAIRS = 1000
"""Of fewer pairs, the distribution cannot be told."""
FOUND = 10
"""Pairs that must stand out."""

CHANCE = 2.0
"""Deviations above the mean of different people that a threshold has at least: less is no evidence, however few there
are."""

_BINS = 400
_COSINES = 100_000_000
"""Cosines that are looked at, at most: those of some faces with all others."""
_CELLS = 1 << 22

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A threshold, and whether pairs of one person gave it.

    Attributes:
        cosine: mean cosine at which two groups are still one person.
        reason: why another one was taken; `""` where pairs of one person gave it.
    """

    cosine: float
    reason: str = ""


def threshold(embeddings: Embeddings, fallback: float, *, seed: int = 0) -> Estimate:
    """The lowest cosine from which nearly all pairs are of one person, judged without anybody's name.

    Equation: tail false discovery rate (smallest t with E(t) / N(t) <= 0.1: N(t) pairs reach t, E(t) are expected of a
    normal distribution fitted to those below the mode)

    Measured with the shipped model and average linkage, F over pairs at the threshold of the card, at the estimate and
    at the best there is: LFW 0.870, 0.978, 0.981; Real-world Occluded Faces 0.798, 0.912, 0.943; an album of 60 people
    0.989, 0.991, 0.991.

    Args:
        embeddings: N faces of one model, raw.
        fallback: threshold to take where the faces do not tell; that of the model's card.
        seed: of the faces whose pairs are looked at, where there are more than 10,000.

    Returns:
        The threshold; or the fallback, with the reason that there are too few pairs or most are of one person; or,
        where no pairs stand out, what no pair of different people is expected to reach, but no less than the fallback.

    Raises:
        DataError: `fallback` is not a cosine.

    Example:
        >>> threshold(Embeddings(np.eye(3, dtype=np.float32)), fallback=0.4)
        Estimate(cosine=0.4, reason='3 pairs of faces are too few to estimate a threshold.')
    """
    checked(fallback)
    unit = embeddings.direction[embeddings.vectors.any(axis=1)]
    count = len(unit)
    rows = np.arange(count)
    if count * count > _COSINES:
        rows = np.sort(np.random.default_rng(seed).choice(count, max(1, _COSINES // count), replace=False))
    pairs = len(rows) * (count - 1) // 2
    if pairs < PAIRS:
        return Estimate(fallback, f"{pairs:,} pairs of faces are too few to estimate a threshold.")
    counts = _histogram(unit, rows)
    null = _null(counts)
    if null is None or null.mean >= fallback:
        return Estimate(fallback, "most pairs of faces seem to be of one person, so no threshold can be estimated.")
    expected = null.above(_EDGES[:-1])
    reached = np.cumsum(counts[::-1])[::-1]
    clear = (expected <= FALSE * reached) & (reached - expected >= 2 * FOUND)
    clear &= _EDGES[:-1] >= null.mean + CHANCE * null.spread
    if clear.any():
        return Estimate(round(float(_EDGES[clear.argmax()]), 3))
    alone = max(fallback, round(float(_EDGES[:-1][expected <= 1].min(initial=1)), 3))
    return Estimate(alone, "no pairs of faces stand out: the threshold is one that pairs of different people miss.")


_EDGES = np.linspace(-1, 1, _BINS + 1)
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2


class _Normal(NamedTuple):
    """Pairs of different people."""

    mean: float
    spread: float
    pairs: float

    def above(self, cosine: F64) -> F64:
        """How many reach each cosine."""
        scaled = (cosine - self.mean) / (self.spread * math.sqrt(2))
        return self.pairs / 2 * np.array([math.erfc(each) for each in scaled])


def _histogram(unit: F32, rows: NDArray[np.int64]) -> F64:
    """Cosines of some faces with all others; where these are all faces, each pair counts twice."""
    counts = np.zeros(_BINS)
    step = max(1, _CELLS // len(unit))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        place = ((unit[part] @ unit.T + 1) * (_BINS / 2)).astype(np.int64).clip(0, _BINS - 1)
        place[np.arange(len(part)), part] = _BINS  # of a face with itself
        counts += np.bincount(place.ravel(), minlength=_BINS + 1)[:_BINS]
    return counts


def _null(counts: F64) -> _Normal | None:
    """Normal distribution fitted to the counts up to half a deviation above their mode; the log of one is a parabola.

    None where they have another form.
    """
    mode = int(np.convolve(counts, np.ones(9), "same").argmax())
    below = np.cumsum(counts)
    spread = _MIDDLES[mode] - np.interp(
        0.3173 * below[mode], below, _MIDDLES
    )  # a third lies further than one deviation
    first, last = np.searchsorted(below, 0.01 * below[mode]), np.searchsorted(_MIDDLES, _MIDDLES[mode] + spread / 2)
    fitted = np.arange(first, last + 1)[counts[first : last + 1] > 0]
    if len(fitted) < 4:
        return None
    curve, slope, level = np.polyfit(_MIDDLES[fitted], np.log(counts[fitted]), 2, w=np.sqrt(counts[fitted]))
    if curve >= 0:
        return None
    variance = -1 / (2 * curve)
    mean = slope * variance
    height = math.exp(level + mean**2 / (2 * variance))
    return _Normal(float(mean), math.sqrt(variance), height * math.sqrt(2 * math.pi * variance) * _BINS / 2)
