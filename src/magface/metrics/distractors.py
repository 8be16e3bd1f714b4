"""Identification and verification against a crowd of distractors, by the rules of the MegaFace challenge.

Every score of a probe with a distractor is looked at once, while it is in the processor's cache, and forgotten: what
stays is the best of each probe, and the few highest of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.geometry import direction
from magface.metrics.identification import Rate, rate
from magface.metrics.verification import OperatingPoint, wilson

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Crowd = NDArray[np.floating] | Sequence[NDArray[np.floating]]
"""`(N, D)` raw embeddings, or several such arrays one after the other; float32 or float16, memory-mapped or not."""

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
FMRS = (1e-4, 1e-5, 1e-6)
_ROWS = 2048  # distractors, and
_COLUMNS = 4096  # probes, whose scores, 32 MiB, are made together, and looked at by
_PIECE = 256  # distractors


@dataclass(frozen=True, slots=True)
class Challenge:
    """What probes reach against a crowd.

    Attributes:
        sizes: numbers of distractors, as asked for.
        rank_one: of each size, the share of ordered pairs (probe, mate) in which the mate beats every distractor.
        points: true accept rate at each false match rate, over all scores of a probe with a distractor.
    """

    sizes: tuple[int, ...]
    rank_one: tuple[Rate, ...]
    points: tuple[OperatingPoint, ...]


def challenge(
    probes: ArrayLike,
    labels: ArrayLike,
    distractors: Crowd,
    *,
    sizes: Sequence[int] = SIZES,
    fmrs: Sequence[float] = FMRS,
    seed: int = 0,
) -> Challenge:
    """Compare probes with their mates and with distractors.

    Equation: rank-1 at N = share of ordered pairs (i, j) of a person with s(i, j) > max_{d <= N} s(i, d)

    Args:
        probes: `(P, D)` float32, raw embeddings.
        labels: `(P,)` the person of each, numbers or strings; a mate is another probe of the person.
        distractors: of people who are not among the probes; N of them are used, at most the largest of `sizes`.
        sizes: numbers of distractors, each at least 1; each set holds the smaller ones, drawn with `seed`.
        fmrs: false match rates, between 0 and 1, both excluded. Held in memory are up to `2 * max(fmrs) * P * N`
            scores, and next to them a few MiB.
        seed: of the draw.

    Returns:
        Rates and operating points; of a size above the distractors there are, or a false match rate finer than one
        score, the numbers are None and the reason says so.

    Raises:
        DataError: shapes or labels do not fit, nobody has two probes, there is no distractor, a size or rate is out
            of range, or an embedding holds NaN or infinity.

    Example:
        >>> probes = np.array([[2, 0], [3, 1], [0, 5]], np.float32)
        >>> crowd = np.array([[1, 3], [1, 1]], np.float16)
        >>> found = challenge(probes, ["ann", "ann", "bob"], crowd, sizes=[2], fmrs=[0.5])
        >>> found.rank_one[0].hits, found.rank_one[0].trials, found.points[0].tar
        (2, 2, 1.0)
    """
    probe = _probes(probes)
    parts = _parts(distractors, probe.shape[1])
    if not sizes or min(sizes) < 1 or not all(0 < fmr < 1 for fmr in fmrs):
        raise DataError("each number of distractors must be at least 1, and each false match rate between 0 and 1.")
    first, second, scores = _pairs(probe, labels)
    total = sum(map(len, parts))
    used = min(total, max(sizes))
    impostors = len(probe) * used
    highest = _Highest(max((_allowed(fmr, impostors) + 1 for fmr in fmrs), default=0))
    steps = np.array(sorted({size for size in sizes if size <= used} | {used}))
    best = _stream(probe, parts, np.random.default_rng(seed).permutation(total), steps, highest)

    def rank_one(size: int) -> Rate:
        if size > used:
            return rate(0, 0, f"there are {total:,} distractors, fewer than {size:,}.")
        beaten = scores > best[np.searchsorted(steps, size), first]
        return rate(int(np.count_nonzero(beaten)), len(scores), "")

    once, falling = scores[first < second], highest.falling()
    points = tuple(_point(once, falling, impostors, fmr) for fmr in fmrs)
    return Challenge(tuple(sizes), tuple(map(rank_one, sizes)), points)


def _stream(probe: F32, parts: Sequence[NDArray[np.floating]], place: I64, steps: I64, highest: _Highest) -> F32:
    """Best score of each probe with the distractors whose `place` in the draw is below `steps[k]`, `(K, P)`."""
    best = np.full((len(steps), len(probe)), -np.inf, np.float32)
    buffer = np.empty(_ROWS * min(_COLUMNS, len(probe)), np.float32)
    for block, ends in _blocks(parts, place, steps):
        for start in range(0, len(probe), _COLUMNS):
            some = slice(start, min(start + _COLUMNS, len(probe)))
            scores = buffer[: len(block) * (some.stop - start)].reshape(len(block), -1)
            np.matmul(block, probe[some].T, out=scores)
            for step, rows in _pieces(ends):
                peak = scores[rows].max(axis=0)
                np.maximum(best[step, some], peak, out=best[step, some])
                highest.add(scores[rows], peak)
    return np.maximum.accumulate(best, axis=0)


def _pieces(ends: list[int]) -> Iterator[tuple[int, slice]]:
    """Rows of a block that belong to one step, a few at a time."""
    for step, (start, end) in enumerate(pairwise([0, *ends])):
        for first in range(start, end, _PIECE):
            yield step, slice(first, min(first + _PIECE, end))


def _blocks(parts: Sequence[NDArray[np.floating]], place: I64, steps: I64) -> Iterator[tuple[F32, list[int]]]:
    """Directions of some distractors, `(n, D)`, sorted by the first step that takes them, and where each step ends."""
    offset = 0
    for part in parts:
        for start in range(0, len(part), _ROWS):
            some = part[start : start + _ROWS]
            turn = np.searchsorted(steps, place[offset : offset + len(some)], side="right")
            order = np.argsort(turn, kind="stable")
            ends = np.searchsorted(turn, np.arange(len(steps)), side="right", sorter=order).tolist()
            rows = order[: ends[-1]]
            if len(rows):
                with np.errstate(over="ignore"):
                    block = some[rows].astype(np.float32)
                _check_finite(block, offset + rows, "distractor")
                yield direction(block), ends
            offset += len(some)


class _Highest:
    """The `count` highest of all scores that were shown, in bounded memory."""

    def __init__(self, count: int) -> None:
        self._count, self._held, self._size = count, [np.empty(0, np.float32)], 0
        self._floor = np.float32(-np.inf) if count else np.float32(np.inf)

    def add(self, scores: F32, top: F32) -> None:
        """Take what counts of `(R, C)` scores with the highest `top`, `(C,)`, of each column."""
        hot = np.flatnonzero(top > self._floor)
        if len(hot) == 0:
            return
        some = scores[:, hot] if 4 * len(hot) < len(top) else scores  # picking columns is slow
        found = some[some > self._floor]
        self._held.append(found)
        self._size += len(found)
        if self._size > 2 * self._count:
            self._shrink()

    def _shrink(self) -> None:
        joined = np.concatenate(self._held)
        if len(joined) > self._count:
            joined = np.partition(joined, len(joined) - self._count)[len(joined) - self._count :]
            self._floor = joined.min()
        self._held, self._size = [joined], len(joined)

    def falling(self) -> F32:
        """The highest scores, the best first."""
        self._shrink()
        return -np.sort(-self._held[0])


def _allowed(fmr: float, scores: int) -> int:
    """How many of the scores may be accepted."""
    count = math.floor(fmr * scores) + 1
    while count / scores > fmr:
        count -= 1
    return count


def _point(genuine: F32, falling: F32, impostors: int, fmr: float) -> OperatingPoint:
    """The operating point that all the impostor scores give, of which the highest are `falling`."""
    allowed, counts = _allowed(fmr, impostors), (len(genuine), impostors)
    if allowed == 0:
        reason = f"FMR {fmr:g} needs at least {math.ceil(1 / fmr):,} impostor comparisons; there are {impostors:,}."
        return OperatingPoint(fmr, None, None, None, 0, *counts, reason)
    accepted = int(np.count_nonzero(falling[:allowed] > falling[allowed]))
    threshold = np.nextafter(falling[allowed], np.float32(np.inf))
    matches = int(np.count_nonzero(genuine >= threshold))
    tar, interval = matches / len(genuine), wilson(matches, len(genuine))
    return OperatingPoint(fmr, float(threshold), tar, interval, accepted, *counts)


def _pairs(probe: F32, labels: ArrayLike) -> tuple[I64, I64, F32]:
    """Every probe with every other one of the same person: rows and scores, each `(M,)`."""
    people = np.asarray(labels)
    if people.shape != (len(probe),):
        raise DataError(f"each probe needs one label; got {people.shape} for {len(probe)} probes.")
    order = np.argsort(people, kind="stable")
    groups = np.split(order, np.flatnonzero(people[order][1:] != people[order][:-1]) + 1)
    found = []
    for rows in groups:
        a, b = np.nonzero(~np.eye(len(rows), dtype=bool))
        found.append((rows[a], rows[b], (probe[rows] @ probe[rows].T)[a, b]))
    first, second, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    if len(scores) == 0:
        raise DataError("nobody has two probes, so there is no mate to find; give at least two images of a person.")
    return first, second, scores


def _probes(probes: ArrayLike) -> F32:
    array = np.asarray(probes, np.float32)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"probes must be a non-empty (P, D) array; this one has shape {array.shape}.")
    _check_finite(array, np.arange(len(array)), "probe")
    return direction(array)


def _parts(distractors: Crowd, size: int) -> list[NDArray[np.floating]]:
    parts = [distractors] if isinstance(distractors, np.ndarray) else list(distractors)
    for part in parts:
        if part.ndim != 2 or part.shape[1] != size or not np.issubdtype(part.dtype, np.floating):
            raise DataError(f"distractors must be (N, {size}) floats, as the probes; got {part.dtype} {part.shape}.")
    if not sum(map(len, parts)):
        raise DataError("there is no distractor; give at least one.")
    return parts


def _check_finite(rows: F32, numbers: I64, kind: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        raise DataError(f"{kind} {numbers[wrong[0]]} holds NaN or infinity; leave it out, or embed it again.")
