"""Verification of listed pairs: LFW, CFP, AgeDB-30, CALFW, CPLFW, XQLFW, sets in a `.bin`, or a list of your own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.faces import Aligner, Progress, embed
from magface.benchmarks.result import Measure, Result
from magface.benchmarks.scores import FMRS, Scores, curve, measures
from magface.data import formats, verification_bin
from magface.data import pairs as lists
from magface.data.face_set import FaceSet
from magface.data.pairs import Pairs
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.protocols import PROTOCOLS, Compared, contiguous
from magface.metrics.quality import pair_quality
from magface.metrics.verification import bootstrap_people_accuracy
from magface.types import Embeddings

Missing = Literal["exclude", "reject"]
Interval = Literal["pairs", "people"]
Mask = NDArray[np.bool_]
Index = NDArray[np.int64]
_MISSING = {"exclude": "are left out", "reject": "count as rejected"}


def find_pairs(data: Path, name: str) -> Path:
    """The list of pairs of a set inside its folder of crops, or beside the folder or archive.

    Raises:
        DataError: there is none.
    """
    lower = name.replace("-", "_")
    wanted = [f"{lower}_pairs.txt", f"{lower}_pair.txt", f"pairs_{name.upper()}.txt", "pairs.txt", "pair.list"]
    places = [folder / file for folder in (data, data.absolute().parent) for file in wanted]
    if _split(name):
        places = [folder / "Protocol" / "Split" / _split(name) for folder in (data, data.absolute().parent)] + places
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(f"there is no {' or '.join(wanted)} in or beside {data}; name the list of pairs.")
    return found


def evaluate(
    embedder: Embedder,
    data: FaceSet | str | os.PathLike[str],
    *,
    name: str = "pairs",
    pairs: Pairs | str | os.PathLike[str] | None = None,
    protocol: str = "single",
    missing: Missing = "exclude",
    interval: Interval = "pairs",
    align: Aligner | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure verification, and error versus discard, on the pairs of a list.

    Args:
        embedder: the model.
        data: images; or where they lie in any form that `data.formats` reads; or a verification `.bin`.
        name: of the benchmark. `cfp-ff` and `cfp-fp` choose the split of CFP.
        pairs: the list, or its file; None looks for it in and beside `data`. A `.bin` has its own.
        protocol: `single`, `insightface` or `magface-official`; see `metrics.protocols`.
        missing: a pair that lacks an image is left out, or counts as rejected with similarity -1 and quality 0. The
            folds of all others stay the same.
        interval: 95 % intervals by drawing pairs, or people, again. Those of people need names that tell them.
        align: makes crops of the images; None where they are crops.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        Accuracy at exact thresholds and its std over folds, the same at the thresholds of the script that the protocol
        follows, TAR at FMR 1e-6 to 1e-1 where the pairs can tell it, EER, AUC, EDC r and efficiency. Images that are
        missing are counted and named, and so are pairs that lack one.

    Raises:
        DataError: the list or the data are missing or malformed, no genuine or no impostor pair is left, or people are
            asked for who cannot be told.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"there is no protocol {protocol}; choose one of {', '.join(PROTOCOLS)}.")
    faces, listed = opened(data, pairs, name)
    found = Found.of(faces, listed, embedder, protocol, align, cache, progress)
    kept = np.full(len(listed), True) if missing == "reject" else ~found.absent
    compared, scores, fold = found.compared(protocol, kept)
    who = found.people(kept) if interval == "people" else None
    counts = {
        "images": len(found.faces),
        "images missing": len(found.failures),
        "genuine pairs": int(np.sum(listed.same & kept)),
        "impostor pairs": int(np.sum(~listed.same & kept)),
        "pairs missing": int(np.sum(found.absent)),
    }
    how = f"pairs that lack an image {_MISSING[missing]}; intervals over {interval}"
    return Result(
        name,
        embedder.fingerprint,
        (*_accuracy(compared, scores.same, fold, who), *measures(scores, FMRS, who)),
        counts,
        found.failures,
        f"{protocol}: {PROTOCOLS[protocol].text}; {how}",
        {name: curve(scores.similarity[scores.same], scores.similarity[~scores.same])},
    )


def opened(
    data: FaceSet | str | os.PathLike[str], pairs: Pairs | str | os.PathLike[str] | None, name: str
) -> tuple[FaceSet, Pairs]:
    """The images and the pairs of a benchmark, as `evaluate` takes them."""
    path = Path() if isinstance(data, FaceSet) else Path(data)
    if path.suffix.lower() == ".bin":
        if pairs is not None:
            raise DataError(f"{path} holds its own pairs; leave out the list.")
        return verification_bin.read(path)
    if pairs is None:
        if isinstance(data, FaceSet):
            raise DataError("a set of images needs a list of pairs; name one.")
        pairs = find_pairs(path, name)
    listed = pairs if isinstance(pairs, Pairs) else lists.read(pairs, _split(name))
    return data if isinstance(data, FaceSet) else formats.read(path), listed


def _split(name: str) -> str:
    return {"cfp-ff": "FF", "cfp-fp": "FP"}.get(name, "")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What there is of a list of pairs, embedded; `of` finds it.

    Attributes:
        listed: N pairs.
        faces: the images that could be embedded.
        embeddings: of one view of them.
        vectors: what is compared, raw.
        first: `(N,)` row among `faces`, -1 where there is none.
        second: `(N,)` likewise.
        failures: by name, why there is none.
    """

    listed: Pairs
    faces: FaceSet
    embeddings: Embeddings
    vectors: NDArray[np.floating]
    first: Index
    second: Index
    failures: dict[str, str]

    @staticmethod
    def of(
        faces: FaceSet,
        listed: Pairs,
        embedder: Embedder,
        protocol: str,
        align: Aligner | None,
        cache: Path | None,
        progress: Progress | None,
    ) -> Found:
        """Embed the images that the list names, as `evaluate` takes the arguments."""
        wanted = listed.first + listed.second
        rows = lists.match(wanted, faces.names)
        used = np.unique(rows[rows >= 0])
        if not len(used):
            raise DataError(
                f"the data hold no image of the list, such as {wanted[0]}; check that they belong together."
            )
        images = replace(faces[used], failures=())
        kept, embeddings = embed(embedder, images, cache, progress, align=align)
        vectors: NDArray[np.floating] = embeddings.vectors
        if PROTOCOLS[protocol].flip:
            _, mirrored = embed(embedder, images, cache, progress, flip=True, align=align)
            vectors = vectors.astype(np.float64) + mirrored.vectors
        place = {name: row for row, name in enumerate(kept.names)}
        index = np.full(len(faces) + 1, -1)  # the last one for -1
        index[used] = [place.get(name, -1) for name in images.names]
        first, second = index[rows].reshape(2, -1)
        reasons = dict(faces.failures)
        absent = sorted({name for name, row in zip(wanted, rows.tolist(), strict=True) if row < 0})
        failures = {name: reasons.get(name, "is not in the data") for name in absent} | dict(kept.failures)
        return Found(listed, kept, embeddings, vectors, first, second, failures)

    @property
    def absent(self) -> Mask:
        """`(N,)` pairs that lack an image."""
        return (self.first < 0) | (self.second < 0)

    def compared(self, protocol: str, kept: Mask) -> tuple[Compared, Scores, Index]:
        """The pairs kept: what the protocol makes of them, their scores, and their folds."""
        first, second, same = self.first[kept], self.second[kept], self.listed.same[kept]
        if same.all() or not same.any():
            kind = "impostor" if same.any() else "genuine"
            raise DataError(f"no {kind} pair of the list has both images; an evaluation needs pairs of both kinds.")
        fold = (contiguous(len(self.listed)) if PROTOCOLS[protocol].contiguous else self.listed.fold)[kept]
        compared = PROTOCOLS[protocol].compare(self.vectors, first, second, fold, self.absent[kept])
        magnitude = np.append(self.embeddings.magnitude, np.float32(0))  # the last one for -1
        quality = np.asarray(pair_quality(magnitude[first], magnitude[second]), np.float32)
        return compared, Scores(compared.similarity, quality, same), fold

    def people(self, kept: Mask) -> tuple[Index, Index]:
        """Who is in the pairs kept, by the names of the list, or else by the folders of the images."""
        rows, listed = np.flatnonzero(kept), self.listed
        first, second = _chosen(listed.first, rows), _chosen(listed.second, rows)
        named = lists.people(Pairs(first, second, listed.same[kept], listed.fold[kept]))
        if named is not None:
            return named[0], named[1]
        a, b = self.faces.labels[self.first[kept]], self.faces.labels[self.second[kept]]
        if self.absent[kept].any() or ((a == b) != listed.same[kept]).any():
            raise DataError("neither names nor folders tell who is in the images; ask for intervals over pairs.")
        return a, b


def _chosen(names: Sequence[str], rows: NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(names[row] for row in rows)


def _accuracy(compared: Compared, same: Mask, fold: Index, who: tuple[Index, Index] | None) -> tuple[Measure, ...]:
    folds = len(np.unique(fold))
    if folds < 2:
        return (Measure("accuracy", None, note="needs pairs of two folds."),)
    exact, grid = compared.accuracy(same, fold), compared.grid_accuracy(same, fold)
    interval = None if who is None else bootstrap_people_accuracy(compared.judged, same, fold, *who)
    found = [
        Measure("accuracy", exact.accuracy, interval, f"mean of {folds} folds"),
        Measure("accuracy std", exact.std, note="over folds"),
    ]
    if grid is not None:
        found += [
            Measure("accuracy on grid", grid.accuracy, note="thresholds in steps of 0.01, as the script takes them"),
            Measure("accuracy on grid std", grid.std, note="over folds"),
        ]
    return tuple(found)
