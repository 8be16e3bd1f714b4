"""Error versus discard where the threshold is picked again at each level, as the official script does.

All pairs are discarded by quality, impostors too, and the threshold is the one that keeps the false match rate among
the impostors left. Levels are visited from the last, where few pairs are left, to the first; each brings its pairs
back. Pairs are numbered by score and lie in blocks of consecutive numbers whose sums are kept, so the threshold of a
level takes one pass over the sums and one over a block: no level sorts anything.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.quality import Curve, checked_levels, checked_pairs

F64 = NDArray[np.float64]
Float = NDArray[np.floating]


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

    Differs from the official code: of n impostors left `floor(fmr n)` are accepted, not `floor(fmr (n - 1))`, and none
    is never called a false match rate; pairs as good as the worst one kept stay, whatever their order.

    Args:
        genuine: `(G,)` float similarities.
        impostor: `(I,)` float similarities.
        genuine_quality: `(G,)` float quality of the genuine pairs.
        impostor_quality: `(I,)` float quality of the impostor pairs.
        fmr: false match rate kept at every level.
        discarded: `(K,)` float, shares of all pairs to discard, rising from 0; to 0.95 in steps of 0.05 by default.

    Returns:
        One step for each level; the error is NaN where the impostors left cannot measure `fmr`, or no genuine pair is
        left, and from there on.

    Raises:
        DataError: empty, shapes differ, NaN, or `fmr` or levels out of range.

    Example:
        >>> curve = edc_repicked([0.1, 0.9, 0.8], [0.3, 0.2], [1, 3, 3], [3, 2], fmr=0.5, discarded=[0.0, 0.2])
        >>> curve.error.round(3)
        array([0.333, 0.   ])
    """
    levels = checked_levels(np.arange(20) / 20 if discarded is None else discarded)
    genuine_score, genuine_q = checked_pairs(genuine, genuine_quality)
    impostor_score, impostor_q = checked_pairs(impostor, impostor_quality)
    scores = np.concatenate([genuine_score, impostor_score])
    places = Places(scores, np.arange(len(scores)) < len(genuine_score))
    return Curve(levels, Repicked(places, np.concatenate([genuine_q, impostor_q])).error(fmr, levels))


class Places:
    """Pairs numbered by score, from the lowest on; of tied ones the genuine come first, as they are rejected together.

    Args:
        scores: `(N,)` similarities.
        genuine: `(N,)` whether each pair is of one person.
    """

    def __init__(self, scores: Float, genuine: NDArray[np.bool_]) -> None:
        self.genuine = genuine
        order = np.lexsort((~genuine, scores))
        self.of = np.empty(len(order), np.intp)
        self.of[order] = np.arange(len(order))


class Repicked:
    """Error versus discard of one quality, for any rates and weights.

    Args:
        places: of N pairs.
        quality: `(N,)` likewise, higher is better.
    """

    def __init__(self, places: Places, quality: Float) -> None:
        order = np.argsort(quality)
        self._order, self._quality = order, quality[order]
        self._genuine, self._place = places.genuine[order], places.of[order]

    def error(self, fmr: float, levels: F64, weight: F64 | None = None) -> F64:
        """FNMR at each level.

        Args:
            fmr: false match rate kept at every level.
            levels: `(K,)` shares discarded, rising.
            weight: `(N,)` how often each pair counts, whole numbers; once by default.

        Returns:
            `(K,)`, NaN where the pairs left cannot measure it.

        Raises:
            DataError: `fmr` is out of range.
        """
        if not 0 < fmr < 1:
            raise DataError(f"the false match rate must lie between 0 and 1; {fmr} does not.")
        counts = np.ones(len(self._order)) if weight is None else weight[self._order]
        starts = self._starts(levels, counts)
        left = _Left(len(counts))
        errors = np.full(len(levels), np.nan)
        for level, (start, stop) in reversed(list(enumerate(zip(starts, [*starts[1:], len(counts)], strict=True)))):
            left.add(self._place[start:stop], self._genuine[start:stop], counts[start:stop])
            errors[level] = left.fnmr(fmr)
        return errors

    def _starts(self, levels: F64, counts: F64) -> list[int]:
        """The first pair in the order of quality that is kept at each level."""
        total = np.cumsum(counts)
        gone = np.minimum(np.floor(levels * total[-1] + 1e-9), total[-1] - 1)
        lowest = np.searchsorted(total, gone, side="right")
        return np.searchsorted(self._quality, self._quality[lowest], side="left").tolist()


class _Left:
    """The pairs left, by number, with sums over blocks of numbers."""

    def __init__(self, count: int) -> None:
        self._size = math.isqrt(count - 1) + 1
        blocks = -(-count // self._size)
        self._genuine, self._impostor = np.zeros((2, blocks, self._size))
        self._genuine_of, self._impostor_of = np.zeros((2, blocks))

    def add(self, place: NDArray[np.intp], genuine: NDArray[np.bool_], counts: F64) -> None:
        """Bring back the pairs at some places, which come once each."""
        sides = (genuine, self._genuine, self._genuine_of), (~genuine, self._impostor, self._impostor_of)
        for kind, each, blocks in sides:
            here = place[kind]
            each.reshape(-1)[here] = counts[kind]
            blocks += np.bincount(here // self._size, counts[kind], len(blocks))

    def fnmr(self, fmr: float) -> float:
        """Share of the genuine pairs below the smallest threshold that keeps the false match rate."""
        impostors, matches = self._impostor_of.sum(), self._genuine_of.sum()
        accepted = allowed(impostors, fmr)
        if not accepted or not matches:
            return math.nan
        rejected = impostors - accepted  # the highest of them is just below the threshold
        upto = np.cumsum(self._impostor_of)
        block = int(np.searchsorted(upto, rejected))
        inside = np.cumsum(self._impostor[block]) + upto[block] - self._impostor_of[block]
        last = int(np.searchsorted(inside, rejected))
        below = self._genuine_of[:block].sum() + self._genuine[block, :last].sum()
        return float(below / matches)


def allowed(impostors: float, fmr: float) -> float:
    """The most of so many impostors that may be accepted at a false match rate.

    Example:
        >>> allowed(3000, 0.001), allowed(999, 0.001)
        (3.0, 0.0)
    """
    accepted = math.floor(impostors * fmr)
    accepted += (accepted + 1) / impostors <= fmr if impostors else 0  # as their product may be rounded
    return float(accepted - (accepted > 0 and accepted / impostors > fmr))
