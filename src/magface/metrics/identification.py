"""One-to-many identification: every probe against a gallery, judged closed-set (ranks) and open-set (FPIR).

A search is mated when the gallery holds the person of the probe. Scores are similarities, a tie is always decided
against the probe, and thresholds come from the scores themselves, so every rate is the exact one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.verification import threshold_at_fmr, wilson

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BLOCK = 1 << 24
"""Scores held at a time: 64 MiB."""
_UNIT = 1e-3  # how far a length may be from 1


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the search of each of P probes found.

    Attributes:
        mate: `(P,)` float32, highest score of an entry of the same person; -inf where the gallery has none.
        rank: `(P,)` int64, rank of that entry from 1: one more than the entries of other people with `score >= mate`;
            0 where the gallery has no mate.
        other: `(P,)` float32, highest score of an entry of another person; -inf where there is none.
        precision: `(P,)` float64, average precision over all mates, 0 to 1, entries of other people placed before the
            mates they tie with; NaN where the gallery has no mate.
    """

    mate: F32
    rank: I64
    other: F32
    precision: F64

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def mated(self) -> NDArray[np.bool_]:
        """`(P,)` bool, searches whose person is in the gallery."""
        return self.rank > 0


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of trials, or the reason why there is none.

    Attributes:
        share: 0 to 1; None without trials.
        interval: 95 % Wilson interval of `share`; None without trials.
        hits: trials that succeeded.
        trials: those counted.
        reason: why there is no number, else empty.
    """

    share: float | None
    interval: tuple[float, float] | None
    hits: int
    trials: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SearchPoint:
    """The true positive identification rate at one false positive identification rate, or why the data cannot tell it.

    Attributes:
        fpir: the rate asked for.
        threshold: smallest threshold that keeps it; None when the data are too few.
        tpir: share of mated searches that find the mate at `threshold`, 0 to 1; None when the data are too few.
        interval: 95 % Wilson interval of `tpir`; None when the data are too few.
        accepted: non-mated searches with a score at or above `threshold`.
        mated: mated searches behind `tpir`.
        non_mated: non-mated searches behind `threshold`.
        reason: why there is no number, else empty.
    """

    fpir: float
    threshold: float | None
    tpir: float | None
    interval: tuple[float, float] | None
    accepted: int
    mated: int
    non_mated: int
    reason: str = ""


def search(
    probes: ArrayLike,
    probe_labels: ArrayLike,
    gallery: ArrayLike,
    gallery_labels: ArrayLike,
    *,
    trapezoid: bool = False,
    block: int = BLOCK,
) -> Found:
    """Search every probe in a gallery.

    Equation: rank = 1 + #{others >= mate}; average precision = mean_k k / (k + #{others >= mate_k}), mate_k falling

    Args:
        probes: `(P, D)` float32, directions: rows of length 1, or 0 for an embedding without one.
        probe_labels: `(P,)` the person of each, numbers or strings.
        gallery: `(G, D)` float32, directions.
        gallery_labels: `(G,)` likewise; an entry whose label no probe has is a distractor.
        trapezoid: take the mean of the precision at a mate and at the place before it (1 before the first place), the
            area under the precision-recall curve that official scripts of Market-1501, TinyFace and others compute.
        block: scores held at a time, in whole rows of G; they, and what sorting one row takes, are all the memory
            beyond the arrays.

    Returns:
        Mate, rank, best other and average precision of each probe.

    Raises:
        DataError: a set is empty, shapes or labels do not fit, or a row is not a direction (NaN and infinity included).

    Example:
        >>> found = search([[1, 0], [0, 1]], ["ann", "eve"], [[0.6, 0.8], [0.8, 0.6]], ["ann", "bob"])
        >>> found.mate, found.rank, found.other, found.precision
        (array([ 0.6, -inf], dtype=float32), array([2, 0]), array([0.8, 0.8], dtype=float32), array([0.5, nan]))
    """
    probe, entries = _directions(probes, "probe"), _directions(gallery, "gallery")
    if probe.shape[1] != entries.shape[1]:
        raise DataError(f"probes have {probe.shape[1]} numbers and gallery entries {entries.shape[1]}; use one model.")
    mates = _Mates(_labels(probe_labels, probe, "probe"), _labels(gallery_labels, entries, "gallery"))
    count, rows = len(probe), max(1, block // len(entries))
    found = Found(
        np.full(count, -np.inf, np.float32),
        np.zeros(count, np.int64),
        np.full(count, -np.inf, np.float32),
        np.full(count, np.nan),
    )
    scores = np.empty((min(rows, count), len(entries)), np.float32)
    for start in range(0, count, rows):
        part = scores[: min(rows, count - start)]
        np.matmul(probe[start : start + rows], entries.T, out=part)
        for index, row in enumerate(part, start):
            _judge(found, index, row, mates[index], trapezoid)
    return found


def _judge(found: Found, index: int, row: F32, mates: NDArray[np.intp], trapezoid: bool) -> None:
    """Enter the search with the scores `row`, `(G,)`, which is used up."""
    falling = -np.sort(-row[mates])
    row[mates] = -np.inf
    found.other[index] = row.max()
    if len(falling):
        before = np.zeros(len(falling), np.int64)
        if found.other[index] >= falling[-1]:
            rivals = np.sort(row[row >= falling[-1]])
            before = len(rivals) - np.searchsorted(rivals, falling, side="left")
        found.mate[index], found.rank[index] = falling[0], 1 + before[0]
        found.precision[index] = _average_precision(before, trapezoid)


def _average_precision(before: I64, trapezoid: bool) -> float:
    """Average precision of K mates, best first, with `before`, `(K,)`, entries of other people in front of each."""
    mates = np.arange(1, len(before) + 1)
    places = mates + before
    precision = mates / places
    if trapezoid:
        previous = np.divide(mates - 1, places - 1, out=np.ones(len(before)), where=places > 1)
        precision = (precision + previous) / 2
    return float(precision.mean())


class _Mates:
    """Rows of the gallery that show the person of a probe."""

    def __init__(self, probe_labels: NDArray[np.generic], gallery_labels: NDArray[np.generic]) -> None:
        self._order = np.argsort(gallery_labels, kind="stable")
        ordered = gallery_labels[self._order]
        self._start = np.searchsorted(ordered, probe_labels, side="left")
        self._end = np.searchsorted(ordered, probe_labels, side="right")

    def __getitem__(self, index: int) -> NDArray[np.intp]:
        return self._order[self._start[index] : self._end[index]]


def _directions(rows: ArrayLike, kind: str) -> F32:
    array = np.ascontiguousarray(rows, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{kind} embeddings must be a non-empty (N, D) array; this one has shape {array.shape}.")
    length = np.sqrt(np.einsum("nd,nd->n", array, array))
    wrong = np.flatnonzero(~((np.abs(length - 1) <= _UNIT) | (length == 0)))
    if len(wrong):
        raise DataError(
            f"{kind} row {wrong[0]} has length {length[wrong[0]]:g}; search takes geometry.direction of it."
        )
    return array


def _labels(labels: ArrayLike, rows: F32, kind: str) -> NDArray[np.generic]:
    array = np.asarray(labels)
    if array.shape != (len(rows),):
        raise DataError(f"each {kind} needs one label; got {array.shape} for {len(rows)} rows.")
    return array


def _ranks(found: Found | ArrayLike) -> I64:
    """Ranks of the mated searches."""
    ranks = found.rank if isinstance(found, Found) else np.asarray(found)
    if ranks.ndim != 1 or not np.issubdtype(ranks.dtype, np.integer) or (ranks < 0).any():
        raise DataError("ranks must be a list of whole numbers, 1 or more, and 0 for a search without a mate.")
    return ranks[ranks > 0].astype(np.int64)


def rate(hits: int, trials: int, reason: str) -> Rate:
    """The share of `trials` that are `hits`; without trials `reason` says why there is none.

    Example:
        >>> rate(1, 2, "").share, rate(0, 0, "nobody was searched.").reason
        (0.5, 'nobody was searched.')
    """
    if trials == 0:
        return Rate(None, None, 0, 0, reason)
    return Rate(hits / trials, wilson(hits, trials), hits, trials)


def rank_rate(found: Found | ArrayLike, k: int) -> Rate:
    """Closed-set identification: the share of mated searches whose mate is among the first `k` entries.

    Args:
        found: of `search`, or `(P,)` int ranks as in `Found.rank`.
        k: at least 1.

    Returns:
        The share with its interval; None where no search is mated.

    Raises:
        DataError: `k` is below 1, or a rank is negative.

    Example:
        >>> rank_rate(np.array([1, 3, 0, 1]), 1).share
        0.666...
    """
    if k < 1:
        raise DataError(f"ranks start at 1; there is no rank {k}.")
    ranks = _ranks(found)
    return rate(int(np.count_nonzero(ranks <= k)), len(ranks), "no probe has a mate in the gallery.")


def cmc(found: Found | ArrayLike, length: int) -> F64:
    """Cumulative match characteristic: the closed-set identification rate at every rank.

    Args:
        found: of `search`, or `(P,)` int ranks as in `Found.rank`.
        length: ranks wanted, at least 1.

    Returns:
        `(length,)` float64, rising: element `k - 1` is the share of mated searches with `rank <= k`.

    Raises:
        DataError: no search is mated, `length` is below 1, or a rank is negative.

    Example:
        >>> cmc(np.array([1, 3, 0, 1, 9]), 3)
        array([0.5 , 0.5 , 0.75])
    """
    ranks = _ranks(found)
    if length < 1 or len(ranks) == 0:
        raise DataError("a CMC curve needs at least one rank, and one probe with a mate in the gallery.")
    return np.cumsum(np.bincount(ranks[ranks <= length] - 1, minlength=length)) / len(ranks)


def tpir_at_fpir(found: Found, fpir: float, *, rank: int | None = 1) -> SearchPoint:
    """Open-set identification: true positives at a false positive identification rate, at the exact threshold.

    Equation: FPIR(t) = share of non-mated searches with other >= t; TPIR(t) = share of mated searches with mate >= t
    and rank <= r

    Args:
        found: of `search`; its non-mated searches set the threshold, its mated ones are judged.
        fpir: between 0 and 1, both excluded.
        rank: r, the last rank at which a mate counts; None counts it at any.

    Returns:
        The operating point. Of tied non-mated searches all or none are accepted. Where there is no mated search, or
        `fpir` is finer than one non-mated search, its numbers are None and `reason` says so.

    Raises:
        DataError: `fpir` or `rank` is out of range.

    Example:
        >>> found = Found(np.float32([0.9, 0.4, -np.inf, -np.inf]), np.array([1, 1, 0, 0]),
        ...               np.float32([0.1, 0.2, 0.5, 0.3]), np.array([1, 1, np.nan, np.nan]))
        >>> point = tpir_at_fpir(found, 0.5)
        >>> round(point.threshold, 6), point.tpir, point.accepted
        (0.3, 1.0, 1)
        >>> tpir_at_fpir(found, 0.01).reason
        'FPIR 0.01 needs at least 100 non-mated searches; there are 2.'
    """
    if not 0 < fpir < 1:
        raise DataError(f"the false positive identification rate must lie between 0 and 1; {fpir} does not.")
    if rank is not None and rank < 1:
        raise DataError(f"ranks start at 1; there is no rank {rank}.")
    best, scores, ranks = found.other[~found.mated], found.mate[found.mated], found.rank[found.mated]
    counts = len(scores), len(best)
    threshold = threshold_at_fmr(best, fpir) if len(best) else None
    if threshold is None:
        needed = math.ceil(1 / fpir)
        reason = f"FPIR {fpir:g} needs at least {needed:,} non-mated searches; there are {len(best):,}."
        return SearchPoint(fpir, None, None, None, 0, *counts, reason)
    accepted = int(np.count_nonzero(best >= threshold))
    if len(scores) == 0:
        return SearchPoint(fpir, threshold, None, None, accepted, *counts, "no probe has a mate in the gallery.")
    identified = (scores >= threshold) & (ranks <= (rank or np.iinfo(np.int64).max))
    hits = int(np.count_nonzero(identified))
    return SearchPoint(fpir, threshold, hits / len(scores), wilson(hits, len(scores)), accepted, *counts)
