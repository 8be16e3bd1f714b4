"""Racial Faces in-the-Wild: the same verification in four groups of people, and how far the groups lie apart."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from magface.benchmarks import verification
from magface.benchmarks.faces import Aligner, Progress
from magface.benchmarks.result import Curve, Measure, Result
from magface.benchmarks.verification import Interval, Missing
from magface.data import formats
from magface.data import pairs as lists
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError

GROUPS = ("African", "Asian", "Caucasian", "Indian")
_COMPARED = ("accuracy", "accuracy on grid", "TAR@FMR=0.001", "EER")


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    protocol: str = "single",
    missing: Missing = "exclude",
    interval: Interval = "pairs",
    align: Aligner | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure verification in each of the four groups.

    Args:
        embedder: the model.
        data: folder with `txts/GROUP/GROUP_pairs.txt` and, anywhere in it, 112x112 crops
            `GROUP/PERSON/PERSON_0001.jpg`; the groups are African, Asian, Caucasian and Indian. `txts` may also lie in
            `test`, as published, or beside the folder.
        protocol: see `verification.evaluate`, and likewise what follows.
        missing: what becomes of a pair that lacks an image.
        interval: what is drawn again for intervals.
        align: makes crops of the images; None where they are crops.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        All measures of each group, at thresholds of its own, as in `Asian: accuracy`; and over the groups the mean,
        the standard deviation (divided by the groups less one, as published tables do) and the range of accuracy, TAR
        at FMR 1e-3 and EER, as in `mean: accuracy`.

    Raises:
        DataError: a list or the images of a group are missing or malformed.
    """
    root = Path(data)
    texts = _texts(root)
    faces = formats.read(root)
    found = {
        group: verification.evaluate(
            embedder,
            _of(faces, group, root),
            name=group,
            pairs=lists.read(texts / group / f"{group}_pairs.txt"),
            protocol=protocol,
            missing=missing,
            interval=interval,
            align=align,
            cache=cache,
            progress=progress,
        )
        for group in GROUPS
    }
    return _joined(embedder.fingerprint, found)


def _texts(root: Path) -> Path:
    places = [root / "txts", root / "test" / "txts", root.absolute().parent / "txts"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(
            f"there is no folder txts in or beside {root}; it needs txts/African/African_pairs.txt and so on."
        )
    return found


def _of(faces: FaceSet, group: str, root: Path) -> FaceSet:
    rows = np.array([group in PurePosixPath(name).parts[:-1] for name in faces.names])
    if not rows.any():
        raise DataError(f"{root} holds no image in a folder {group}; each group needs its own.")
    return faces[rows]


def _joined(model: str, found: dict[str, Result]) -> Result:
    """One result of those of the groups."""
    measures: list[Measure] = []
    counts: dict[str, int] = {}
    failures: dict[str, str] = {}
    curves: dict[str, Curve] = {}
    for group, result in found.items():
        measures += [replace(measure, name=f"{group}: {measure.name}") for measure in result.measures]
        counts = {name: counts.get(name, 0) + count for name, count in result.counts.items()}
        failures |= result.failures
        curves |= result.curves
    for name in _COMPARED:
        measures += _apart(name, found)
    protocol = f"{found[GROUPS[0]].protocol}; thresholds of each group by itself"
    return Result("rfw", model, tuple(measures), counts, failures, protocol, curves)


def _apart(name: str, found: dict[str, Result]) -> list[Measure]:
    """How far a measure differs between groups; nothing where one of them lacks it."""
    values = [measure.value for result in found.values() for measure in result.measures if measure.name == name]
    known = [value for value in values if value is not None]
    if len(known) < len(found):
        return []
    note = f"of {len(known)} groups"
    return [
        Measure(f"mean: {name}", float(np.mean(known)), note=note),
        Measure(f"std: {name}", float(np.std(known, ddof=1)), note=f"{note}, divided by {len(known) - 1}"),
        Measure(f"range: {name}", max(known) - min(known), note=f"{note}, highest less lowest"),
    ]
