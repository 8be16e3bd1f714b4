"""The main job, from photos to the folder with the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magface import cluster, io
from magface.errors import DataError
from magface.recognizer import Photo, Recognizer
from magface.report import html
from magface.report.results import Results, vectors, write_faces, writing
from magface.types import Embeddings


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an analysis found.

    Attributes:
        report: path of `report.html`.
        photos: how many were asked for.
        read_now: how many of them were read in this run; the others were done before.
        faces: found in all photos.
        people: groups of at least two faces.
        singles: faces that are alone in their group.
        without_face: names of photos in which no face was found.
        failures: `(name, reason)` of photos that could not be read.
        other_model: whether the folder held results of another model or detector, which were not used.
    """

    report: Path
    photos: int
    read_now: int
    faces: int
    people: int
    singles: int
    without_face: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]
    other_model: bool


def analyze(
    recognizer: Recognizer,
    photos: Sequence[Path],
    folder: Path,
    *,
    started: Callable[[int], object] = lambda count: None,
    progress: Callable[[Photo], object] = lambda photo: None,
) -> Analysis:
    """Find, assess and group the faces of photos, and write them to a folder.

    The folder gets `report.html`, `faces.parquet` (one row a face), `photos.parquet` (one row a photo, also those
    without a face or that cannot be read) and `crops/`. Photos that were read before and did not change are not
    read again; photos that are no longer asked for are dropped. Grouping is always done anew.

    Args:
        recognizer: what reads the photos.
        photos: files.
        folder: made where it is missing.
        started: called once with the number of photos that must be read.
        progress: called with each photo that was read.

    Raises:
        DataError: no photos, or the folder cannot be written; what was read before stays in it.
    """
    if not photos:
        raise DataError("there is no photo to analyze; name image files or a folder that holds some.")
    card, model = recognizer.card, recognizer.embedder.fingerprint
    with Results(folder, model, recognizer.detector.name, card.embedding_size) as results:
        missing = results.missing(photos)
        started(len(missing))
        for photo in recognizer.stream(missing):
            results.add(photo)
            progress(photo)
        table = results.merge(photos)
        # the person with most faces is number 1
        people = cluster.average_linkage(Embeddings(vectors(table), model), card.cluster_threshold) + 1
        faces = write_faces(folder / "faces.parquet", table, people)
        report = folder / "report.html"
        page = html.render(table, faces, card, results.crops)
        with writing(folder):
            io.write_atomic(report, page)
        results.sweep(table)
    sizes = np.bincount(people)
    return Analysis(
        report=report,
        photos=len(photos),
        read_now=len(missing),
        faces=len(people),
        people=int((sizes > 1).sum()),
        singles=int((sizes == 1).sum()),
        without_face=html.without_face(table),
        failures=html.failures(table),
        other_model=results.refused,
    )
