"""Does quality help to decide? The cosine beside the quality-aware score and thresholds by quality, on other people.

People fall into folds. Constants and bands come from the people of the other folds, and every two faces or templates
inside a fold are compared with them. Each way of comparing has its own threshold in each fold, at the false match rate
asked for, so that FNMR is compared at the same rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface import fusion
from magface.benchmarks import fused
from magface.benchmarks.drawn import REPEATS, AllPairs, Drawn, draws
from magface.benchmarks.faces import Aligner, Progress, embed, known
from magface.benchmarks.result import Measure, Result
from magface.benchmarks.templates import KINDS, Blurred, deal
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.fusion import Weighting
from magface.metrics.quality import pair_quality
from magface.metrics.verification import threshold_at_fmr
from magface.models.card import Comparison
from magface.quality import bands, qmagface
from magface.types import F32, Embeddings

FMRS = (1e-2, 1e-3, 1e-4)
FMR = 1e-3
FOLDS = 3
IMAGES = 9000
OF_A_PERSON = 100
"""Images of a person, at most."""
TEMPLATES = 20
"""Templates of a person, at most."""
FALSE_MATCHES = 5
"""Expected in each fold at a rate that is measured."""
PARTS = 5
"""Of the quality, in each of which the false match rate is measured."""

COSINE, AWARE, LINE, BANDS = "cosine", "quality-aware", "quality-aware, line", "by band"
MEAN: Weighting = "mean"
FUSED: Weighting = "magface+"

Index = NDArray[np.int64]
F64 = NDArray[np.float64]


def evaluate(
    embedder: Embedder,
    faces: FaceSet,
    *,
    share: float = 0.0,
    align: Aligner | None = None,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compare ways to decide on all pairs of faces, of templates of 2 to 5 faces, and of probes and a gallery.

    Half of the images of a person are probes, the other half is the template of the gallery.

    Args:
        embedder: the model.
        faces: images of people; at most 100 of each, and of so many people that there are at most 9,000.
        share: of the images to blur, 0 to 1, as the benchmark `templates` does.
        align: makes crops of the images; None where they are crops.
        seed: of the folds, the draw, the templates and the blur.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        For pairs of faces FNMR at FMR 1e-2, 1e-3 and 1e-4 of the `cosine`, of the `quality-aware` score with constants
        that were searched, or found by the `line` of the paper, and `by band`; for templates and galleries that of
        the cosine of the `mean` and of `magface+`, and of the latter quality-aware and by band. All with intervals over
        people, and differences to the first on the same draws; then the constants of each fold, the decisions that
        change, and the false match rate in each fifth of the quality with thresholds of other people.

    Raises:
        DataError: `share` is out of range, no image can be read, or a fold has no genuine or too few impostor pairs.
    """
    if not 0 <= share <= 1:
        raise DataError(f"blur a share from 0 to 1 of the images, not {share}.")
    used = _drawn(known(faces), seed)
    blurred = Blurred(used.names, share, KINDS, seed, align)
    kept, embeddings = embed(embedder, used, cache, progress, align=blurred if share else align)
    people, number = np.unique(kept.labels, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(people)) % FOLDS
    alone = _faces(embeddings, number, fold)
    measures = _measured("pairs", alone, {COSINE: _cosine, AWARE: _aware, LINE: _line, BANDS: _by_band})
    counts = {
        "images": len(kept),
        "images blurred": len(blurred.chosen),
        "images missing": len(kept.failures),
        "people": len(people),
        **_counts("", alone),
    }
    ways = {MEAN: _mean, FUSED: _cosine, f"{FUSED} {AWARE}": _aware, f"{FUSED} {BANDS}": _by_band}
    for part, compared in (("templates", _templates), ("gallery", _gallery)):
        try:
            together = compared(embeddings, number, fold, seed)
        except DataError as error:
            measures.append(Measure(f"{part}: FNMR", None, note=str(error)))
        else:
            measures += _measured(part, together, ways)
            counts |= _counts(f", {part}", together)
    protocol = (
        f"{FOLDS} folds of people; constants and bands are those of the other folds; "
        f"{blurred.text if share else 'images as they are'}; "
        f"templates of 2 to 5 images; probes are half of a person's images; intervals of {REPEATS} draws of people"
    )
    return Result("decisions", embedder.fingerprint, tuple(measures), counts, dict(kept.failures), protocol)


def _drawn(faces: FaceSet, seed: int) -> FaceSet:
    """The images that are used, in their order."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(faces))
    rows = rows[np.argsort(faces.labels[rows], kind="stable")]
    own = np.split(rows, np.flatnonzero(np.diff(faces.labels[rows])) + 1)
    drawn = [own[person][:OF_A_PERSON] for person in rng.permutation(len(own))]
    fit = np.cumsum([len(each) for each in drawn]) <= IMAGES
    return faces[np.sort(np.concatenate([each for each, fits in zip(drawn, fit, strict=True) if fits]))]


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """Every two faces or templates of the people of a fold.

    Attributes:
        pairs: N of them.
        plain: `(N,)` cosine without any say of quality.
        cosine: `(N,)` cosine that the ways with quality start from.
        quality: `(N,)` the lower magnitude of each pair.
    """

    pairs: AllPairs
    plain: F32
    cosine: F32
    quality: F32

    @property
    def same(self) -> NDArray[np.bool_]:
        """`(N,)` True for genuine pairs."""
        return self.pairs.same


def _faces(embeddings: Embeddings, number: Index, fold: Index) -> list[_Fold]:
    """Pairs of faces of people `number`, `(N,)`, who are in the folds `fold`, `(P,)`."""
    found = []
    for k in range(FOLDS):
        rows = np.flatnonzero(fold[number] == k)
        pairs = _enough(AllPairs.numbered(number[rows], len(fold)))
        cosine = fused.compare(embeddings.vectors[rows], pairs.first, pairs.second)
        a = embeddings.magnitude[rows]
        found.append(_Fold(pairs, cosine, cosine, _lower(a[pairs.first], a[pairs.second])))
    return found


def _templates(embeddings: Embeddings, number: Index, fold: Index, seed: int) -> list[_Fold]:
    """Pairs of templates of the same people, fused without and with magnitudes."""
    dealt = deal(number, seed, TEMPLATES)
    vectors = embeddings.vectors[dealt.image]
    plain, weighed = (fusion.fuse(vectors, dealt.template, weighting=way) for way in (MEAN, FUSED))
    a = weighed.magnitude
    found = []
    for k in range(FOLDS):
        rows = np.flatnonzero(fold[dealt.person] == k)
        pairs = _enough(AllPairs.numbered(dealt.person[rows], len(fold)))
        first, second = rows[pairs.first], rows[pairs.second]
        without, cosine = (fused.scored(each, first, second) for each in (plain, weighed))
        found.append(_Fold(pairs, without, cosine, _lower(a[first], a[second])))
    return found


def _gallery(embeddings: Embeddings, number: Index, fold: Index, seed: int) -> list[_Fold]:
    """Probes of the same people with the templates of all in the fold."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(number))
    rows = rows[np.argsort(number[rows], kind="stable")]
    place = np.arange(len(rows)) - np.searchsorted(number[rows], number[rows])
    probe = place < np.bincount(number)[number[rows]] // 2
    enrolled = rows[~probe]
    plain, weighed = (
        fusion.fuse(embeddings.vectors[enrolled], number[enrolled], weighting=way) for way in (MEAN, FUSED)
    )
    found = []
    for k in range(FOLDS):
        probes, people = np.sort(rows[probe & (fold[number[rows]] == k)]), np.flatnonzero(fold == k)
        pairs = _enough(AllPairs.across(number[probes], people, len(fold)))
        first, second = probes[pairs.first], people[pairs.second]
        without, cosine = (_searched(embeddings.vectors, each.vectors, first, second) for each in (plain, weighed))
        quality = _lower(embeddings.magnitude[first], weighed.magnitude[second])
        found.append(_Fold(pairs, without, cosine, quality))
    return found


def _searched(probes: F32, gallery: F32, first: Index, second: Index) -> F32:
    return fused.compare(np.concatenate([probes, gallery]), first, second + len(probes))


def _enough(pairs: AllPairs) -> AllPairs:
    genuine, every = int(pairs.same.sum()), len(pairs.same)
    needed = math.ceil(FALSE_MATCHES / max(FMRS))
    if not genuine or every - genuine < needed:
        raise DataError(
            f"each of {FOLDS} folds of people needs two images or templates of one person and {needed:,} pairs of "
            f"different people; one has {genuine:,} and {every - genuine:,}. Take more people."
        )
    return pairs


def _lower(a: F32, b: F32) -> F32:
    return pair_quality(a, b).astype(np.float32)


class _Others:
    """What the pairs of the other folds teach."""

    def __init__(self, folds: Sequence[_Fold]) -> None:
        self.same = np.concatenate([fold.same for fold in folds])
        self.plain = np.concatenate([fold.plain for fold in folds])
        self.cosine = np.concatenate([fold.cosine for fold in folds])
        self.quality = np.concatenate([fold.quality for fold in folds])

    @cached_property
    def searched(self) -> Comparison | str:
        """Constants of `qmagface.search`, or why there are none."""
        return qmagface.search(self.cosine, self.quality, self.same, FMRS)

    @cached_property
    def lined(self) -> Comparison | str:
        """Constants of `qmagface.line`, or why they are none."""
        alpha, beta = qmagface.line(self.cosine, self.quality, self.same)
        lowest = _threshold(self.cosine[~self.same], max(FMRS))
        return qmagface.problem(alpha, beta, lowest) or Comparison(alpha, beta)


Way = Callable[[_Fold | _Others, _Others, float], NDArray[np.floating]]
"""Scores of pairs by what others taught, for a false match rate."""


def _mean(pairs: _Fold | _Others, _others: _Others, _fmr: float) -> NDArray[np.floating]:
    return pairs.plain


def _cosine(pairs: _Fold | _Others, _others: _Others, _fmr: float) -> NDArray[np.floating]:
    return pairs.cosine


def _aware(pairs: _Fold | _Others, others: _Others, _fmr: float) -> NDArray[np.floating]:
    return _scored(pairs, others.searched)


def _line(pairs: _Fold | _Others, others: _Others, _fmr: float) -> NDArray[np.floating]:
    return _scored(pairs, others.lined)


def _scored(pairs: _Fold | _Others, constants: Comparison | str) -> NDArray[np.floating]:
    if isinstance(constants, str):
        return pairs.cosine
    return qmagface.score(pairs.cosine, pairs.quality, constants)


def _by_band(pairs: _Fold | _Others, others: _Others, fmr: float) -> NDArray[np.floating]:
    """How far the cosine is above the threshold of its band."""
    impostor = ~others.same
    return pairs.cosine - bands.threshold(
        pairs.quality, bands.fit(others.cosine[impostor], others.quality[impostor], fmr)
    )


def _measured(part: str, folds: list[_Fold], ways: Mapping[str, Way]) -> list[Measure]:
    """Everything that is said of pairs of faces, or of templates; the first way is what others are compared with."""
    others = [_Others([fold for fold in folds if fold is not judged]) for judged in folds]
    fewest = min(int((~fold.same).sum()) for fold in folds)
    rates = [fmr for fmr in FMRS if fmr * fewest >= FALSE_MATCHES]
    found = {fmr: _rates(folds, others, ways, fmr) for fmr in rates}
    told = [found[fmr][name] for name in found[rates[0]] for fmr in rates]
    for fmr in FMRS[len(rates) :]:
        note = f"needs {FALSE_MATCHES / fmr:,.0f} pairs of different people in each fold; one has {fewest:,}."
        told.append(Measure(f"FNMR@FMR={fmr:g}", None, note=note))
    told += [_constants(way, others) for way in ways if way.endswith((AWARE, LINE))]
    fmr = FMR if FMR in rates else rates[0]
    told += [_changed(folds, others, ways, way, fmr) for way in list(ways)[1:]]
    told += [_by_quality(folds, others, way, score, fmr) for way, score in ways.items()]
    return fused.named(part, told)


def _rates(folds: list[_Fold], others: list[_Others], ways: Mapping[str, Way], fmr: float) -> dict[str, Measure]:
    """FNMR of each way, and differences to the first, by name."""
    people = folds[0].pairs.people
    weights = [np.ones(people, np.int64), *draws(people)]
    missed = {
        way: _missed(
            [Drawn(score(*each, fmr), each[0].pairs, fmr) for each in zip(folds, others, strict=True)], weights
        )
        for way, score in ways.items()
    }
    first = next(iter(ways))
    compared = {f"{way} minus {first}": values - missed[first] for way, values in missed.items() if way != first}
    return {
        name: Measure(f"{name}: FNMR@FMR={fmr:g}", float(values[0]), _interval(values[1:]))
        for name, values in (missed | compared).items()
    }


def _missed(drawn: Sequence[Drawn], weights: Sequence[Index]) -> F64:
    """FNMR over all folds for each draw of people; NaN where there is no genuine pair."""
    sums = np.array([np.sum([each.matched(weight) for each in drawn], axis=0) for weight in weights], np.float64)
    matched, genuine = sums.T
    return 1 - np.divide(matched, genuine, out=np.full(len(sums), np.nan), where=genuine > 0)


def _interval(values: F64) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def _constants(way: str, others: list[_Others]) -> Measure:
    """Where the score begins to differ from the cosine, and the constants of each fold."""
    found = [each.lined if way == LINE else each.searched for each in others]
    ends = [each.alpha / each.beta for each in found if isinstance(each, Comparison)]
    told = (
        f"fold {k}: {each}" if isinstance(each, str) else f"fold {k}: alpha {each.alpha:.4f}, beta {each.beta:.4f}"
        for k, each in enumerate(found, 1)
    )
    return Measure(f"{way}: alpha / beta", float(np.median(ends)) if ends else None, note="; ".join(told))


def _changed(folds: list[_Fold], others: list[_Others], ways: Mapping[str, Way], way: str, fmr: float) -> Measure:
    """Genuine pairs that a way accepts and the first way does not, and the other way round."""
    first, quality = next(iter(ways)), []
    accepted: dict[str, list[NDArray[np.bool_]]] = {first: [], way: []}
    for fold, other in zip(folds, others, strict=True):
        quality.append(fold.quality[fold.same])
        for name, into in accepted.items():
            scores = ways[name](fold, other, fmr)
            into.append(scores[fold.same] >= _threshold(scores[~fold.same], fmr))
    (old, new), every = (np.concatenate(each) for each in accepted.values()), np.concatenate(quality)
    note = f"of {len(every):,} genuine pairs, median quality {np.median(every):.1f}, at FMR {fmr:g}: " + ", ".join(
        f"{which.sum():,} {what}" + (f" (median quality {np.median(every[which]):.1f})" if which.any() else "")
        for what, which in (("won", new & ~old), ("lost", old & ~new))
    )
    return Measure(f"{way}: genuine decisions that change", float(np.mean(old != new)), note=note)


def _by_quality(folds: list[_Fold], others: list[_Others], way: str, score: Way, fmr: float) -> Measure:
    """False match rate in each part of the quality, at thresholds of the other folds."""
    wrong, impostors, missed, genuine = np.zeros((4, PARTS))
    for fold, other in zip(folds, others, strict=True):
        threshold = _threshold(score(other, other, fmr)[~other.same], fmr)
        accepted = score(fold, other, fmr) >= threshold
        edges = np.quantile(fold.quality[~fold.same], np.arange(1, PARTS) / PARTS)
        place = np.searchsorted(edges, fold.quality, side="right")
        wrong += np.bincount(place[accepted & ~fold.same], minlength=PARTS)
        impostors += np.bincount(place[~fold.same], minlength=PARTS)
        missed += np.bincount(place[~accepted & fold.same], minlength=PARTS)
        genuine += np.bincount(place[fold.same], minlength=PARTS)
    fmrs, fnmrs = wrong / np.maximum(impostors, 1), missed / np.maximum(genuine, 1)
    note = "fifths from low to high quality: " + "; ".join(
        f"{name} {', '.join(f'{each:.2g}' for each in values)}" for name, values in (("FMR", fmrs), ("FNMR", fnmrs))
    )
    return Measure(f"{way}: highest FMR of a fifth of quality, at FMR={fmr:g}", float(fmrs.max()), note=note)


def _threshold(impostor: NDArray[np.floating], fmr: float) -> float:
    found = threshold_at_fmr(impostor, fmr)
    if found is None:
        raise DataError(f"FMR {fmr:g} needs more than {len(impostor):,} pairs of different people.")
    return found


def _counts(of: str, folds: list[_Fold]) -> dict[str, int]:
    genuine, impostor = (sum(int(np.sum(fold.same == kind)) for fold in folds) for kind in (True, False))
    return {f"genuine pairs{of}": genuine, f"impostor pairs{of}": impostor}
