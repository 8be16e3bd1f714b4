"""TinyFace: native low-resolution probes in a gallery of mates and 153,428 distractors."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.faces import Aligner, Progress, embed
from magface.benchmarks.result import Measure, Result, rate_measure
from magface.data import image_folder
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.identification import Found, rank_rate, search
from magface.metrics.verification import bootstrap

PROBE, MATCH, DISTRACTOR = FOLDERS = ("Probe", "Gallery_Match", "Gallery_Distractor")
RANKS = (1, 5, 20)


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    align: Aligner | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure closed-set identification of low-resolution faces.

    Args:
        embedder: the model.
        data: folder that holds, at any depth, the published folders `Probe`, `Gallery_Match` and `Gallery_Distractor`
            side by side (or an uncompressed tar of it). The person is the number before `_` in the name of a file.
        align: makes crops of the images; None where they are crops.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        Rank-1, -5 and -20, and the mean average precision by trapezoids, as the official script takes it. Images that
        cannot be embedded are left out and named in `failures`, probes that lose all their mates with them are counted
        in `probes without mate` and left out as well.

    Raises:
        DataError: a folder is missing, there are several of one, a name has no number, or no image can be read.
    """
    faces = image_folder.read(data)
    faces = faces[_wanted(Path(data), faces.names)]
    person = {name: _person(name) for name in faces.names if _folder(name) != DISTRACTOR}
    kept, embeddings = embed(embedder, faces, cache, progress, align=align)
    folder = np.array([_folder(name) for name in kept.names])
    people = np.array([person.get(name, "") for name in kept.names])
    direction = embeddings.direction
    probes, gallery = folder == PROBE, folder != PROBE
    for rows, where in ((probes, PROBE), (gallery, f"{MATCH} and {DISTRACTOR}")):
        if not rows.any():
            raise DataError(f"no image of {where} can be embedded, the first because {kept.failures[0][1]}")
    found = search(direction[probes], people[probes], direction[gallery], people[gallery], trapezoid=True)
    rates = [rate_measure(f"rank-{k}", rank_rate(found, k), "probes") for k in RANKS]
    counts = {
        "probes": int(probes.sum()),
        "probes without mate": int((~found.mated).sum()),
        "gallery": int((folder == MATCH).sum()),
        "distractors": int((folder == DISTRACTOR).sum()),
        "images missing": len(kept.failures),
    }
    protocol = "tinyface: closed-set, cosine, single view; unreadable images left out"
    return Result("tinyface", embedder.fingerprint, (*rates, _map(found)), counts, dict(kept.failures), protocol)


def _wanted(data: Path, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Rows of the images in the three folders."""
    folders = [_folder(name) for name in names]
    for folder in FOLDERS:
        places = {_above(name) for name, found in zip(names, folders, strict=True) if found == folder}
        if not places:
            raise DataError(f"{data} has no images in a folder {folder}; name the folder Testing_Set of TinyFace.")
        if len(places) > 1:
            several = " and ".join(f"{place}/{folder}" for place in sorted(places)[:2])
            raise DataError(f"{data} holds {several}; name the folder above one of them.")
    return np.array([bool(folder) for folder in folders])


def _folder(name: str) -> str:
    """The one of the three folders that an image lies in, or nothing."""
    return next((part for part in PurePosixPath(name).parts[:-1] if part in FOLDERS), "")


def _above(name: str) -> str:
    parts = PurePosixPath(name).parts
    return "/".join(parts[: parts.index(_folder(name))])


def _person(name: str) -> str:
    number, _, rest = PurePosixPath(name).stem.partition("_")
    if not number.isdecimal() or not rest:
        raise DataError(f"{name} does not begin with the number of a person and `_`; give it the published name.")
    return str(int(number))


def _map(found: Found) -> Measure:
    precision = found.precision[found.mated]
    if len(precision) == 0:
        return Measure("mAP", None, note="no probe has a mate in the gallery.")
    interval = bootstrap(lambda rows: float(precision[rows].mean()), len(precision))
    return Measure("mAP", float(precision.mean()), interval, f"by trapezoids, of {len(precision):,} probes")
