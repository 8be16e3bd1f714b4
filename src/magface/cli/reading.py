"""Faces of many photos for the commands that need no folder of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from magface.cli import options
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.embedder import Embedder
    from magface.models.card import Card
    from magface.quality.verdict import Assessment, Limits
    from magface.recognizer import Recognizer
    from magface.types import Embeddings


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Faces of many photos.

    Attributes:
        names: of the faces: the path of the photo and, where it has several, `#1`, `#2`, ... from the left.
        embeddings: one for each name.
        card: of the model.
        failures: `(path, reason)` of photos that could not be read.
        empty: photos in which no face was found.
        total: photos that were asked for.
        assessments: one for each name, where they were asked for.
    """

    names: list[str]
    embeddings: Embeddings
    card: Card
    failures: list[tuple[Path, str]]
    empty: list[Path]
    total: int
    assessments: list[Assessment]

    def finish(self, *, done: bool = True) -> None:
        """Say on stderr what is missing, and exit as `fail` does."""
        if self.empty:
            more = ", ..." if len(self.empty) > 3 else ""
            names = ", ".join(map(str, self.empty[:3]))
            options.say(f"no face in {len(self.empty)} of {self.total} photos: {names}{more}")
        fail(self.failures, self.total, done=done)


def find(photos: Sequence[Path]) -> list[Path]:
    """Image files among files and folders.

    Raises:
        DataError: there is none.
        ImageError: a path does not exist, or a folder cannot be listed.
    """
    from magface import images

    paths = images.find(photos)
    if not paths:
        raise DataError("there is no photo to read; name image files or a folder that holds some.")
    return paths


def read(
    paths: Sequence[Path],
    aligned: bool,
    model: Path | None,
    detector: Path | None,
    engine: options.EngineChoice,
    limits: Limits | None = None,
) -> Read:
    """Find and embed the faces of photos, or embed crops, under a progress bar; with `limits`, also assess them."""
    return (
        _read_crops(paths, model, engine, limits)
        if aligned
        else _read_photos(paths, options.recognizer(model, detector, engine), limits)
    )


def _read_crops(paths: Sequence[Path], model: Path | None, engine: options.EngineChoice, limits: Limits | None) -> Read:
    from magface.embedder import Embedder

    embedder = Embedder(model, engine=engine.value)
    with options.progress() as bar:
        task = bar.add_task("Embedding", total=len(paths), note="")
        embeddings, failures = embedder.embed_files(paths, progress=lambda done: bar.advance(task, done))
    failed = {path for path, _ in failures}
    read = [path for path in paths if path not in failed]
    assessments = [] if limits is None else _assess_crops(read, embeddings, embedder, limits)
    return Read([str(path) for path in read], embeddings, embedder.card, failures, [], len(paths), assessments)


def _assess_crops(
    paths: Sequence[Path], embeddings: Embeddings, embedder: Embedder, limits: Limits
) -> list[Assessment]:
    from magface import images
    from magface.quality import verdict

    with options.progress() as bar:
        task = bar.add_task("Looking for causes", total=len(paths), note="")
        found = []
        for path, vector in zip(paths, embeddings.vectors, strict=True):
            found.append(verdict.assess(images.read(path), vector, embedder.card, embedder.embed, limits=limits))
            bar.advance(task)
    return found


def _read_photos(paths: Sequence[Path], recognizer: Recognizer, limits: Limits | None) -> Read:
    import numpy as np

    from magface.types import Embeddings

    names, vectors, failures, empty, assessments = [], [], [], [], []
    with options.progress() as bar:
        task = bar.add_task("Reading photos", total=len(paths), note="")
        for photo in recognizer.stream(paths):
            if photo.error:
                failures.append((photo.path, photo.error))
            elif not photo.faces:
                empty.append(photo.path)
            several = len(photo.faces) > 1
            names += [f"{photo.path}#{i}" if several else str(photo.path) for i in range(1, len(photo.faces) + 1)]
            vectors += [face.embedding for face in photo.faces]
            if limits is not None:
                assessments += [recognizer.assess(face, limits) for face in photo.faces]
            bar.update(task, advance=1, note=f"{len(names)} faces")
    rows = np.array(vectors, np.float32).reshape(-1, recognizer.card.embedding_size)
    embeddings = Embeddings(rows, recognizer.embedder.fingerprint)
    return Read(names, embeddings, recognizer.card, failures, empty, len(paths), assessments)


def fail(
    failures: Sequence[tuple[object, str]],
    total: int,
    *,
    done: bool = True,
    some: bool | None = None,
    what: str = "photos",
) -> None:
    """Say on stderr which photos could not be read, and exit with the code for it if there are any.

    Args:
        failures: `(path, reason)` of those photos.
        total: photos that were asked for.
        done: whether there is a result.
        some: whether some could be read, or a part; None where all but the failures could.
        what: was asked for.

    Raises:
        typer.Exit: with code 1 if some of the photos could not be read, 2 if none could or there is no result.
    """
    for _, reason in failures:
        options.say(reason)
    if failures:
        options.say(f"{len(failures)} of {total} {what} could not be read.")
    if failures or not done:
        read = len(failures) < total if some is None else some
        raise typer.Exit(1 if done and read else 2)


def fail_set(failures: Sequence[tuple[str, str]], images: int) -> None:
    """Say on stderr what is wrong with a set of faces or its files, and exit with code 1 if anything is.

    Args:
        failures: `(name, reason)`.
        images: that were used all the same, one at least.

    Raises:
        typer.Exit: there is a failure.
    """
    for _, reason in failures:
        options.say(reason)
    if failures:
        options.say(f"{len(failures):,} problems with the set; {images:,} images were used.")
        raise typer.Exit(1)
