"""IJB-B and IJB-C: templates of many images and media, compared one to one and searched one to many.

Images are embedded once, and every way of fusing them into templates is scored. An image that cannot be read, or has
no embedding in a file, has no share in its template. A template that loses all its images this way scores -1 against
every other, so it is rejected at every threshold, as NIST's protocol has it for templates that failed.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from magface import align, fusion
from magface.benchmarks import fused
from magface.benchmarks.faces import Progress, embed
from magface.benchmarks.fused import REJECTED
from magface.benchmarks.result import Curve, Measure, Result, rate_measure, tpir_measure
from magface.benchmarks.scores import curve, rates
from magface.data import features, ijb
from magface.data.ijb import Enrolled, Identification, Listing, Subset, TemplatePairs
from magface.embedder import Embedder
from magface.errors import DataError
from magface.fusion import WEIGHTINGS, Templates, Weighting
from magface.geometry import direction
from magface.metrics import identification
from magface.metrics.identification import Found
from magface.metrics.verification import wilson
from magface.types import F32, U8, Embeddings

Task = Literal["1:1", "1:N"]
TASKS: tuple[Task, ...] = get_args(Task)
RANKS = (1, 5, 10)
FPIRS = (0.01, 0.1)

_ENTRIES = 1 << 23
"""Scores that are held at a time."""
_NEVER = np.iinfo(np.int64).max
"""Rank of a mate that no search finds, however small the gallery is."""


class Landmarks:
    """Aligns loose crops by the landmarks of the list.

    Attributes:
        name: holds a digest of the landmarks.
    """

    def __init__(self, listing: Listing) -> None:
        self.name = f"landmarks {hashlib.sha256(listing.landmarks.tobytes()).hexdigest()}"
        self._landmarks = listing.landmarks
        self._row = {name: row for row, name in enumerate(listing.names)}

    def __call__(self, name: str, image: U8) -> U8:
        """See `faces.Aligner`."""
        return align.crop(image, self._landmarks[self._row[name]])


def evaluate(
    embedder: Embedder,
    root: str | os.PathLike[str],
    *,
    subset: Subset | None = None,
    weightings: Sequence[Weighting] = WEIGHTINGS,
    flip: bool = False,
    detector_score: bool = False,
    tasks: Sequence[Task] = TASKS,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Embed the loose crops, aligned by the listed landmarks, and measure verification and identification.

    Args:
        embedder: the model.
        root: see `data.ijb.read`.
        subset: needed where `root` holds both.
        weightings: ways of fusing, see `fusion.fuse`.
        flip: add the raw embedding of the mirrored crop to that of each crop.
        detector_score: multiply the raw embedding of each image, after that sum, by the score of the detector. With
            `flip` and the fusion `magface+` this is the setting of insightface's scripts for IJB.
        tasks: `1:1` verification of the listed pairs, `1:N` identification.
        cache: see `faces.embed`.
        progress: called as images are embedded; twice for each image with `flip`.

    Returns:
        For each way of fusing, TAR at FMR 1e-6 to 1e-1, EER and AUC; rank-1, -5 and -10 and TPIR at FPIR 0.01 and 0.1
        (the mate first, and at or above the threshold) in each gallery, their mean, and in the joined galleries, where
        the rates are those of insightface's script for 1:N. Curves are named by the fusion. Images that could not be
        read are in `failures`.

    Raises:
        DataError: a list is missing or malformed, or no image can be embedded.
    """
    listing = ijb.read(root, subset)
    faces, landmarks = listing.faces(), Landmarks(listing)
    kept, embeddings = embed(embedder, faces, cache, progress, align=landmarks)
    vectors = embeddings.vectors
    if flip:
        mirrored, other = embed(embedder, faces, cache, progress, flip=True, align=landmarks)
        if mirrored.names != kept.names:
            raise DataError(f"images of {listing.root} changed while they were embedded; evaluate again.")
        np.add(vectors, other.vectors, out=vectors)
    failures = dict(kept.failures)
    vectors = fused.spread(vectors, np.array([name not in failures for name in listing.names]))
    protocol = "raw embeddings of crop and mirrored crop added" if flip else "single view"
    result = _measure(listing, vectors, weightings, detector_score, tasks, failures)
    return replace(result, model=embedder.fingerprint, protocol=f"{protocol}, {result.protocol}")


def evaluate_features(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    subset: Subset | None = None,
    weightings: Sequence[Weighting] = WEIGHTINGS,
    detector_score: bool = False,
    tasks: Sequence[Task] = TASKS,
) -> Result:
    """Measure ready embeddings.

    Args:
        path: a feature file whose names are those of the list, with or without folders; or `.npy`, `(N, D)` float32
            raw embeddings in the order of the list, zeros for an image that has none.
        root: see `data.ijb.read`; only `meta` is needed.
        subset: see `evaluate`.
        weightings: see `evaluate`.
        detector_score: see `evaluate`.
        tasks: see `evaluate`.

    Returns:
        As `evaluate`; the images that have no embedding are in `failures`.

    Raises:
        DataError: a list or the file is missing or malformed, or holds no embedding of a listed image.
    """
    listing = ijb.read(root, subset)
    vectors, model = _listed(Path(path), listing)
    missing = np.flatnonzero(~vectors.any(axis=1)).tolist()
    failures = {listing.names[row]: "has no embedding" for row in missing}
    if len(failures) == len(listing):
        raise DataError(f"{path} holds no embedding of an image of {listing.root}; name its features.")
    result = _measure(listing, vectors, weightings, detector_score, tasks, failures)
    return replace(result, model=model, protocol=f"ready embeddings, {result.protocol}")


def _listed(path: Path, listing: Listing) -> tuple[F32, str]:
    """Embeddings in the order of the list, zeros where there is none, and the model that made them."""
    if path.suffix.lower() == ".npy":
        return _array(path, len(listing)), ""
    names, embeddings = features.read(path)
    row = {_file(name): at for at, name in enumerate(names)}
    if len(row) < len(names):
        raise DataError(f"{path} names two images alike; it must name each image of {listing.root} once.")
    at = np.array([row.get(_file(name), -1) for name in listing.names])
    if np.array_equal(at, np.arange(len(names))):
        return embeddings.vectors, embeddings.model
    return fused.spread(embeddings.vectors[at[at >= 0]], at >= 0), embeddings.model


def _file(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _array(path: Path, count: int) -> F32:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"cannot read {path}: it is no .npy array of numbers; write it with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 2 or len(array) != count:
        raise DataError(f"{path} must be one float32 array of ({count}, D), a row for each image of the list.")
    try:
        return Embeddings(array).vectors
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _measure(
    listing: Listing,
    vectors: F32,
    weightings: Sequence[Weighting],
    detector_score: bool,
    tasks: Sequence[Task],
    failures: dict[str, str],
) -> Result:
    pairs = ijb.read_pairs(listing) if "1:1" in tasks else None
    searches = ijb.read_identification(listing) if "1:N" in tasks else None
    counts = {"images": len(listing), "images missing": len(failures)}
    measures: list[Measure] = []
    curves: dict[str, Curve] = {}
    weight = listing.score if detector_score else None
    for weighting in weightings:
        templates = fusion.fuse(vectors, listing.template, listing.media, weighting=weighting, weight=weight)
        counts |= {"templates": len(templates), "templates missing": int(templates.empty.sum())}
        if pairs is not None:
            counts |= {"genuine pairs": int(pairs.same.sum()), "impostor pairs": int((~pairs.same).sum())}
            found, curves[weighting] = _verification(templates, pairs)
            measures += fused.named(weighting, found)
        if searches is not None:
            counts |= {"gallery templates": sum(map(len, searches.galleries)), "probes": len(searches.probes)}
            measures += fused.named(weighting, _identification(templates, searches))
    score = "each image times the score of the detector, " if detector_score else ""
    protocol = f"{score}a template without an image scores {REJECTED:g}"
    return Result(listing.subset.lower(), "", tuple(measures), counts, failures, protocol, curves)


def _verification(templates: Templates, pairs: TemplatePairs) -> tuple[list[Measure], Curve]:
    scores = fused.scored(templates, templates.rows(pairs.first), templates.rows(pairs.second))
    genuine, impostor = np.sort(scores[pairs.same]), np.sort(scores[~pairs.same])
    return rates(genuine, impostor), curve(genuine, impostor)


def _identification(templates: Templates, searches: Identification) -> list[Measure]:
    """Each gallery with strangers of the other among the probes, the mean of both, and the joined gallery."""
    parts = [_open_and_closed(_search(templates, searches.probes, gallery)) for gallery in searches.galleries]
    one, two = (fused.named(name, part) for name, part in zip(searches.names, parts, strict=True))
    both = fused.named(" and ".join(searches.names), [_mean(*pair) for pair in zip(*parts, strict=True)])
    return [*one, *two, *both, *fused.named("joined", _joined(templates, searches))]


def _search(templates: Templates, probes: Enrolled, gallery: Enrolled) -> Found:
    """The search of every probe, where a template without an image is found by nobody and finds nobody at any rank."""
    unit = np.asarray(direction(templates.vectors), np.float32)
    entry, probe = templates.rows(gallery.template), templates.rows(probes.template)
    held, empty = ~templates.empty[entry], templates.empty[probe]
    found = identification.search(unit[probe], probes.subject, unit[entry[held]], gallery.subject[held])
    failed = np.isin(probes.subject, gallery.subject) & (empty | ~found.mated)
    return Found(
        mate=np.where(failed, np.float32(REJECTED), found.mate),
        rank=np.where(failed, _NEVER, found.rank),
        other=np.where(empty, np.float32(REJECTED), found.other),
        precision=np.where(failed, 0.0, found.precision),
    )


def _open_and_closed(found: Found) -> list[Measure]:
    return [*_ranks(found), *(tpir_measure(identification.tpir_at_fpir(found, fpir)) for fpir in FPIRS)]


def _ranks(found: Found) -> list[Measure]:
    return [rate_measure(f"rank-{k}", identification.rank_rate(found, k), "probes") for k in RANKS]


def _mean(one: Measure, two: Measure) -> Measure:
    if one.value is None or two.value is None:
        return Measure(one.name, None, note=one.note if one.value is None else two.note)
    return Measure(one.name, (one.value + two.value) / 2, note="mean of both galleries")


def _joined(templates: Templates, searches: Identification) -> list[Measure]:
    """Both galleries as one: every probe has a mate, and the open-set threshold is set by all wrong entries.

    The form of insightface's script: a rate of 0.01 allows one entry of another person at or above the threshold in
    a hundred searches, and a mate counts at any rank.
    """
    one, two = searches.galleries
    gallery = Enrolled(np.append(one.template, two.template), np.append(one.subject, two.subject))
    probes = searches.probes
    found = _search(templates, probes, gallery)
    allowed = [math.ceil(fpir * len(probes)) for fpir in FPIRS]
    wrong = _highest_wrong(templates, probes, gallery, max(allowed))
    measures = _ranks(found)
    for fpir, count in zip(FPIRS, allowed, strict=True):
        threshold = wrong[count - 1] if count <= len(wrong) else REJECTED
        hits = int(np.count_nonzero(found.mate > threshold))
        note = f"cosine > {threshold:.4f}: {count - 1:,} wrong entries in {len(probes):,} searches"
        name = f"TPIR at {fpir:g} wrong entries a search"
        measures.append(Measure(name, hits / len(probes), wilson(hits, len(probes)), note))
    return measures


def _highest_wrong(templates: Templates, probes: Enrolled, gallery: Enrolled, count: int) -> F32:
    """The `count` highest scores of entries of other people, falling."""
    unit = np.asarray(direction(templates.vectors), np.float32)
    entry, probe = templates.rows(gallery.template), templates.rows(probes.template)
    held, sent = ~templates.empty[entry], ~templates.empty[probe]
    entries, subjects = unit[entry[held]], gallery.subject[held]
    highest = np.empty(0, np.float32)
    rows = max(1, _ENTRIES // max(1, len(entries)))
    for start in range(0, int(sent.sum()), rows):
        part = probe[sent][start : start + rows]
        scores = unit[part] @ entries.T
        wrong = scores[probes.subject[sent][start : start + rows, None] != subjects]
        if len(highest) == count:
            wrong = wrong[wrong > highest[0]]
        highest = np.sort(np.concatenate([highest, wrong]))[-count:]
    return highest[::-1]
