"""Error versus discard: on pairs drawn from a folder of people with a fixed seed, or on those of a list."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks import methods as quality_methods
from magface.benchmarks import verification
from magface.benchmarks.faces import Progress, embed, known
from magface.benchmarks.qualities import judge
from magface.benchmarks.result import Discard, Measure, Result, number
from magface.benchmarks.scores import FMR, Scores, measures, score
from magface.benchmarks.verification import Interval
from magface.data import formats
from magface.data.degraded import degraded
from magface.data.face_set import FaceSet
from magface.data.pairs import Pairs
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.discard import LEVELS, Comparisons, Found, Start
from magface.metrics.quality import pair_quality
from magface.metrics.verification import OperatingPoint
from magface.types import F32, Embeddings

GENUINE = 20_000
IMPOSTOR = 200_000
FMRS = (1e-3, 1e-2, 1e-4)
"""False match rates that are taken, where the data can measure them, if none is asked for."""
_FEW_LEVELS = LEVELS[::10]
_CONDITIONS = 10
Picked = Literal["fixed", "repicked"]
Index = NDArray[np.int64]


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    pairs: Pairs | str | os.PathLike[str] | None = None,
    fmr: Sequence[float] = (),
    fnmr: float | None = None,
    threshold: Picked = "fixed",
    rule: str = "min",
    methods: Sequence[str] = ("magnitude",),
    beside: Sequence[Embedder | str | Path] = (),
    degrade: int | None = None,
    interval: Interval = "pairs",
    genuine: int = GENUINE,
    impostor: int = IMPOSTOR,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure verification and error versus discard, of one quality or of several on the same comparisons.

    Args:
        embedder: the model whose comparisons are judged.
        data: folder with one sub-folder of 112x112 crops for each person, or an archive of it, in any form that
            `data.formats` reads; with `pairs`, or a `.bin`, any set of crops.
        pairs: list of pairs to compare, or its file; None draws them.
        fmr: false match rates that fix a threshold each; where none is given, those of `FMRS` that can be measured.
        fnmr: instead of them, the error that every curve starts with.
        threshold: `fixed` on all pairs, or `repicked` at each level, so that the false match rate stays; then all pairs
            are discarded, impostors too, and the levels are 100 instead of 1,000.
        rule: how two qualities become that of the pair; one of `metrics.quality.RULES`.
        methods: names of `methods.NAMES`.
        beside: other models, or their files, whose magnitudes are judged besides.
        degrade: seed by which half of the images are degraded first, see `data.degraded`.
        interval: `people` draws them again for 95 % intervals of all rates and bands of all curves, and fixes the
            thresholds anew in each draw; `pairs` has intervals of TAR and EDC efficiency alone.
        genuine: pairs of one person to draw, without repetition; fewer where there are fewer.
        impostor: pairs of two people to draw, likewise.
        seed: of the draw.
        cache: see `faces.embed`; what methods say is kept there too.
        progress: called as images are embedded and judged.

    Returns:
        TAR, EER, AUC; EDC r and efficiency of the magnitude at FMR 1e-3; each threshold; the mean magnitude, of all and
        of each condition where all file names begin with one of a few, as in `masked_0001.jpg`. For each method and
        threshold the mean FNMR (pAUC) up to 10, 20 and 30 % discarded, the same divided by the error at the start (r),
        its efficiency, and r of false matches; where people are drawn, how much larger r is than that of the first
        method. The curves are among the discards, with the best there could be.

    Raises:
        DataError: no readable crop, fewer than two people, or nobody with two images; a list or a name of a method or
            rule is wrong; people are asked for who cannot be told.
    """
    if pairs is None and Path(data).suffix.lower() != ".bin":
        found = _drawn(embedder, data, degrade, (genuine, impostor), seed, cache, progress)
    else:
        found = _listed(embedder, data, degrade, pairs, interval, cache, progress)
    judges = quality_methods.build(methods, embedder, beside)
    magnitude = pair_quality(*found.of(found.embeddings.magnitude), rule)
    scores = replace(found.scores, quality=magnitude.astype(np.float32))
    people = found.people if interval == "people" else None
    starts, points = _starts(scores, fmr, fnmr)
    told = [start for start, point in zip(starts, points, strict=True) if not point.reason]
    repicked = threshold == "repicked"
    compared = Comparisons(
        scores.similarity,
        scores.same,
        told,
        repicked=repicked,
        people=people,
        levels=_FEW_LEVELS if repicked else LEVELS,
        seed=seed,
    )
    report = _Report(compared)
    for name, quality in judge(judges, embedder, found.faces, cache, progress).items():
        report.add(name, pair_quality(*found.of(quality), rule))
    rates = [start.rate for start in starts if start.kind == "FMR"]
    main = measures(scores, [FMR, *(rate for rate in rates if rate != FMR)], people)
    ends = {each.name: each.interval for each in report.measures}.get(f"magnitude: efficiency 30 % at FMR {FMR:g}")
    main = tuple(replace(each, interval=ends) if people and each.name == "EDC efficiency" else each for each in main)
    worse = "" if degrade is None else f"half of the images degraded with seed {degrade}; "
    return Result(
        "edc",
        embedder.fingerprint,
        (*main, *map(_threshold, starts, points), *_magnitudes(found.embeddings, found.faces.names), *report.measures),
        found.counts,
        found.failures,
        f"{worse}{found.pairs}; {report.thresholds}; quality of a pair: {rule}; intervals over {interval}",
        discards=report.discards,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """N comparisons between embedded faces.

    Attributes:
        faces: M images.
        embeddings: of them.
        first: `(N,)` rows.
        second: `(N,)` rows.
        scores: of the pairs.
        people: who is in the first and the second images; None where nobody asked.
        failures: by name, why an image is missing.
        counts: of images, people and pairs.
        pairs: where they come from.
    """

    faces: FaceSet
    embeddings: Embeddings
    first: Index
    second: Index
    scores: Scores
    people: tuple[Index, Index] | None
    failures: dict[str, str]
    counts: dict[str, int]
    pairs: str

    def of(self, values: F32) -> tuple[F32, F32]:
        """Values of the images, `(M,)`, of the first and the second image of each pair."""
        return values[self.first], values[self.second]


def _worse(faces: FaceSet, seed: int | None) -> FaceSet:
    return faces if seed is None else degraded(faces, seed)


def _drawn(
    embedder: Embedder,
    data: str | os.PathLike[str],
    degrade: int | None,
    wanted: tuple[int, int],
    seed: int,
    cache: Path | None,
    progress: Progress | None,
) -> _Pairs:
    faces, embeddings = embed(embedder, known(_worse(formats.read(data), degrade)), cache, progress)
    first, second, same = draw(faces.labels, *wanted, seed)
    if same.all() or not same.any():
        raise DataError(f"{data} needs at least two people, and one of them with two images.")
    counts = {
        "images": len(faces),
        "images missing": len(faces.failures),
        "people": len(faces.people),
        "genuine pairs": int(np.sum(same)),
        "impostor pairs": int(np.sum(~same)),
    }
    people = faces.labels[first], faces.labels[second]
    scores, how = score(embeddings, first, second, same), f"pairs drawn with seed {seed}"
    return _Pairs(faces, embeddings, first, second, scores, people, dict(faces.failures), counts, how)


def _listed(
    embedder: Embedder,
    data: str | os.PathLike[str],
    degrade: int | None,
    pairs: Pairs | str | os.PathLike[str] | None,
    interval: Interval,
    cache: Path | None,
    progress: Progress | None,
) -> _Pairs:
    faces, listed = verification.opened(data, pairs, "pairs")
    found = verification.Found.of(_worse(faces, degrade), listed, embedder, "single", None, cache, progress)
    kept = ~found.absent
    _, scores, _ = found.compared("single", kept)
    counts = {
        "images": len(found.faces),
        "images missing": len(found.failures),
        "genuine pairs": int(np.sum(scores.same)),
        "impostor pairs": int(np.sum(~scores.same)),
        "pairs missing": int(np.sum(~kept)),
    }
    people = found.people(kept) if interval == "people" else None
    rows, how = (found.first[kept], found.second[kept]), "pairs of a list, without those that lack an image"
    return _Pairs(found.faces, found.embeddings, *rows, scores, people, found.failures, counts, how)


def _starts(scores: Scores, fmr: Sequence[float], fnmr: float | None) -> tuple[list[Start], list[OperatingPoint]]:
    """What fixes the thresholds, and where they are on all pairs; the reason where the data are too few."""
    if fmr and fnmr is not None:
        raise DataError("a threshold is fixed by false match rates or by a false non-match rate; leave one out.")
    sides = scores.similarity[scores.same], scores.similarity[~scores.same]
    starts = [Start(rate) for rate in dict.fromkeys(fmr or FMRS)] if fnmr is None else [Start(fnmr, "FNMR")]
    found = [(start, start.point(*sides)) for start in starts]
    if not fmr:
        found = [each for each in found if not each[1].reason] or found[:1]
    return [start for start, _ in found], [point for _, point in found]


def _threshold(start: Start, point: OperatingPoint) -> Measure:
    if point.threshold is None or point.tar is None:
        return Measure(f"threshold at {start}", None, note=point.reason)
    wrong = point.genuine - round(point.tar * point.genuine)
    note = (
        f"rejects {wrong:,} of {point.genuine:,} genuine pairs, accepts {point.accepted:,} of {point.impostor:,} others"
    )
    return Measure(f"threshold at {start}", point.threshold, note=note)


class _Report:
    """Measures and curves of one method after the other, at each threshold."""

    def __init__(self, compared: Comparisons) -> None:
        self._compared = compared
        self._first: tuple[str, tuple[Found, ...]] | None = None
        self.measures: list[Measure] = []
        self.discards: dict[str, Discard] = {}
        fixed = [f"{start} (cosine >= {point.threshold:.4f})" for start, point in self._starts()]
        how = "picked again at each level, as on all pairs" if compared.repicked else "fixed on all pairs"
        self.thresholds = f"threshold {how} at {', '.join(fixed)}" if fixed else "no threshold can be measured"
        if not compared.repicked:
            for (start, point), both in zip(self._starts(), compared.ideal(), strict=True):
                for kind, found in zip(("FNMR", "FMR"), both, strict=True):
                    self._curve("ideal", kind, start, point, found)

    def add(self, name: str, quality: NDArray[np.floating]) -> None:
        """Judge `(N,)` qualities of the pairs."""
        missed = self._compared.false_non_matches(quality)
        for (start, point), found in zip(self._starts(), missed, strict=True):
            self._curve(name, "FNMR", start, point, found)
            self.measures += self._areas(name, start, found)
        self._compare(name, missed)
        if self._compared.repicked:  # so that false matches stay what they are
            return
        for (start, point), found in zip(self._starts(), self._compared.false_matches(quality), strict=True):
            self._curve(name, "FMR", start, point, found)
            last = len(self._compared.limits) - 1
            self.measures.append(self._measure(f"{name}: false match r", "r", last, start, found))

    def _compare(self, name: str, missed: tuple[Found, ...]) -> None:
        """How much more error a method leaves than the first one, where that can be told from chance."""
        if self._first is None:
            self._first = name, missed
            return
        other, before = self._first
        for start, found, first in zip(self._compared.starts, missed, before, strict=True):
            value, low, high = (float(each[-1]) for each in found.minus(first))
            if not math.isnan(low):
                what = f"{name}: r {100 * self._compared.limits[-1]:g} % minus that of {other} at {start}"
                self.measures.append(Measure(what, value, (low, high)))

    def _starts(self) -> Iterator[tuple[Start, OperatingPoint]]:
        return zip(self._compared.starts, self._compared.points, strict=True)

    def _areas(self, name: str, start: Start, found: Found) -> Iterator[Measure]:
        limits = range(len(self._compared.limits))
        for what, field in (("pAUC", "pauc"), ("r", "r")):
            yield from (self._measure(f"{name}: {what}", field, each, start, found) for each in limits)
        if not self._compared.repicked:
            yield self._measure(f"{name}: efficiency", "efficiency", limits[-1], start, found)

    def _measure(self, what: str, field: str, limit: int, start: Start, found: Found) -> Measure:
        name = f"{what} {100 * self._compared.limits[limit]:g} % at {start}"
        measure = number(name, float(getattr(found.value, field)[limit]))
        if measure.value is None:
            return replace(measure, note="no error to discard, or too few pairs")
        if found.low is None or found.high is None:
            return measure
        ends = float(getattr(found.low, field)[limit]), float(getattr(found.high, field)[limit])
        return measure if math.isnan(ends[0]) else replace(measure, interval=ends)

    def _curve(self, name: str, kind: str, start: Start, point: OperatingPoint, found: Found) -> None:
        key = name if kind == "FNMR" else f"{name}, false matches"
        if len(self._compared.starts) > 1:
            key = f"{key} at {start}"
        how = "picked again at each level" if self._compared.repicked else f"cosine >= {point.threshold:.4f}"
        pairs = point.genuine if kind == "FNMR" else point.impostor
        self.discards[key] = _steps(self._compared.levels, found, kind, f"{start}, {how}", pairs)


def _steps(levels: NDArray[np.float64], found: Found, kind: str, start: str, pairs: int) -> Discard:
    """The curve up to where it can be measured, one step for each change."""
    columns = [found.value.error]
    if found.low is not None and found.high is not None:
        columns += [found.low.error, found.high.error]
    rows = np.stack(columns, axis=1)
    rows = rows[: int(np.argmax(np.append(np.isnan(rows).any(axis=1), True)))]
    changes = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))[: len(rows)]
    error, *band = rows[changes].T.tolist()
    ends = tuple(zip(*band, strict=True))
    return Discard(tuple(levels[: len(rows)][changes].tolist()), tuple(error), ends, kind, start, pairs)


def draw(label: Index, genuine: int, impostor: int, seed: int) -> tuple[Index, Index, NDArray[np.bool_]]:
    """Draw pairs without repetition.

    Args:
        label: `(N,)` the person of each image.
        genuine: pairs of one person wanted; all where there are fewer.
        impostor: pairs of two people wanted; all where there are fewer.
        seed: of the draw.

    Returns:
        `first` and `second`, `(P,)` rows with `first > second`, and `same`, `(P,)` bool, genuine pairs before others.

    Example:
        >>> first, second, same = draw(np.array([0, 0, 1]), 5, 1, seed=0)
        >>> first.tolist(), second.tolist(), same.tolist()
        ([1, 2], [0, 1], [True, False])
    """
    rng = np.random.default_rng(seed)
    people = [np.flatnonzero(label == person) for person in np.unique(label)]
    within = [(rows[a], rows[b]) for rows in people for a, b in [np.tril_indices(len(rows), -1)]]
    a, b = (np.concatenate(side) for side in zip(*within, strict=True))
    chosen = rng.choice(len(a), min(genuine, len(a)), replace=False)
    total = math.comb(len(label), 2)
    wanted = math.ceil(1.05 * impostor * total / max(total - len(a), 1)) + 100  # some of them are genuine
    c, d = _unranked(rng.choice(total, min(wanted, total), replace=False))
    others = np.flatnonzero(label[c] != label[d])[:impostor]
    first, second = np.concatenate([a[chosen], c[others]]), np.concatenate([b[chosen], d[others]])
    return first, second, np.arange(len(first)) < len(chosen)


def _unranked(rank: Index) -> tuple[Index, Index]:
    """The pair `i > j` at each place of the list (1, 0), (2, 0), (2, 1), (3, 0), ..."""
    i = ((1 + np.sqrt(1.0 + 8.0 * rank)) / 2).astype(np.int64)
    i -= i * (i - 1) // 2 > rank  # the root may round up
    return i, rank - i * (i - 1) // 2


def _magnitudes(embeddings: Embeddings, names: tuple[str, ...]) -> tuple[Measure, ...]:
    magnitude = embeddings.magnitude
    every = Measure("mean magnitude", float(magnitude.mean()), note=f"{len(names):,} images")
    prefix = np.array([PurePosixPath(name).stem.partition("_")[0] for name in names])
    conditions = sorted(set(prefix.tolist()))
    if not 1 < len(conditions) <= _CONDITIONS:
        return (every,)
    groups = [(name, magnitude[prefix == name]) for name in conditions]
    return (
        every,
        *(Measure(f"mean magnitude {name}", float(a.mean()), note=f"{len(a):,} images") for name, a in groups),
    )
