"""An album: the people of a collection of photos, which grows with it and remembers what it was told.

`photos.parquet`, `journal/` and `crops/` hold what was read, see `results`; `people.json` who is on which photo and
`corrections.json` what the user said, see `album_state`; `people/` and `unknown/` links or copies of the photos, see
`album_folders`; `people.html` is the page to look at. Each file is replaced whole. What a run finds counts from the
moment at which `people.json` is written; folders and page follow, and the next run makes up for what a kill left out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from magface import cluster, io
from magface.cluster import UNKNOWN, estimate, incremental
from magface.errors import DataError
from magface.models.card import Card
from magface.quality.verdict import RETAKE
from magface.recognizer import Photo, Recognizer
from magface.report import album_folders, album_page, html
from magface.report.album_corrections import Correction
from magface.report.album_state import (
    CORRECTIONS,
    PEOPLE,
    UNDO,
    AlbumFace,
    Corrections,
    Person,
    Settings,
    State,
    labels_of,
    load_corrections,
    load_state,
    load_undo,
    save_corrections,
    save_state,
    save_undo,
)
from magface.report.results import Results, photo_names, vectors, writing
from magface.types import Embeddings

PAGE = "people.html"
AUTO = "auto"
_NO_PHOTO = "there is no photo to group; name image files or a folder that holds some."
_OURS = tuple(f".{name}." for name in (PAGE, PEOPLE, CORRECTIONS, UNDO, album_folders.MANIFEST))
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wishes:
    """How an album is to be made; what is None is as it was the last time, or by default.

    Attributes:
        threshold: mean cosine, -1 to 1, from which two groups are one person, or `AUTO` to estimate it from the faces;
            that of the model's card by default.
        algorithm: one of `cluster.ALGORITHMS`; by default the one that fits the number of faces.
        min_score: score, 0 to 100, from which a face decides who somebody is; `RETAKE` by default.
        photos: how photos come into the folders: `link` (the default), `copy`, or `none` for no folders.
    """

    threshold: float | str | None = None
    algorithm: str | None = None
    min_score: float | None = None
    photos: str | None = None


@dataclass(frozen=True, slots=True)
class Album:
    """What is in an album.

    Attributes:
        page: path of `people.html`.
        table: path of `people.json`.
        photos: in the album.
        read_now: how many of them were read in this run; the others were known from before.
        gone: photos that were in the album before and are not any more.
        faces: found in all photos.
        people: in the album.
        of_people: faces of them.
        new_people: people who were not in the album before.
        joined: faces that were of nobody before, and are of somebody who was in the album before.
        seen_once: faces that are good enough and of nobody else.
        poor: faces that are of nobody and too poor to tell.
        threshold: mean cosine from which two groups are one person.
        remarks: what else is to be said.
        left_alone: files in the folders that somebody changed, or copies of photos that are gone.
        without_face: names of photos in which no face was found.
        failures: `(name, reason)` of photos that could not be read.
    """

    page: Path
    table: Path
    photos: int
    read_now: int
    gone: int
    faces: int
    people: int
    of_people: int
    new_people: int
    joined: int
    seen_once: int
    poor: int
    threshold: float
    remarks: tuple[str, ...]
    left_alone: int
    without_face: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """Faces of the photos: N of them."""

    photos: pa.Table
    faces: list[AlbumFace]
    embeddings: Embeddings
    reliable: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reliable", np.array([not face.poor for face in self.faces], bool))


def make(
    recognizer: Recognizer,
    photos: Sequence[Path],
    folder: Path,
    wishes: Wishes = Wishes(),
    *,
    rebuild: bool = False,
    only: bool = False,
    started: Callable[[int], object] = lambda count: None,
    progress: Callable[[Photo], object] = lambda photo: None,
    grouping: Callable[[int], object] = lambda faces: None,
) -> Album:
    """Make an album, or bring it to what the photos are now.

    Photos of the album stay in it as long as they are there. Those that did not change are not read again, and their
    faces stay with the person they are of. New faces join known people, or are grouped among themselves. People whose
    photos are all gone leave.

    Args:
        recognizer: what reads the photos.
        photos: files that are to be in the album.
        folder: of the album; made where it is missing.
        wishes: how it is to be made.
        rebuild: whether all faces are grouped anew. Corrections hold, and people keep their numbers where they share
            faces with whom they were.
        only: whether photos of the album that are not among `photos` leave it.
        started: called once with the number of photos that must be read.
        progress: called with each photo that was read.
        grouping: called with the number of faces before they are grouped.

    Raises:
        DataError: there is no photo, the folder cannot be written or holds what others put there, or a file in it is
            damaged; what was there before stays.
    """
    album_folders.check_place(folder)
    if not photos and not folder.exists():
        raise DataError(_NO_PHOTO)
    card, model = recognizer.card, recognizer.embedder.fingerprint
    with Results(folder, model, recognizer.detector.name, card.embedding_size) as results:
        state, corrections, known = load_state(folder), load_corrections(folder), photo_names(folder)
        paths = _all_photos(photos, () if only else known)
        if not paths:
            raise DataError(_NO_PHOTO)
        missing = results.missing(paths)
        started(len(missing))
        for photo in recognizer.stream(missing):
            results.add(photo)
            progress(photo)
        settings = _settings(state, wishes, card, model)
        read = _faces(results.merge(paths), settings)
        grouping(len(read.faces))
        settings, remarks = _with_threshold(settings, wishes, state, rebuild, read, card)
        before = _before(state, read, exact=True)
        labels = _grouped(read, state, corrections, settings, before, rebuild)
        new = _publish(folder, results, read, labels, corrections, settings, state)
        results.sweep(read.photos)
        (folder / UNDO).unlink(missing_ok=True)
    old = set() if state is None else {person.id for person in state.people}
    fresh = before == UNKNOWN
    if results.refused:
        remarks.append("The folder held results of another model or detector; all photos were read again.")
    left = len(set(known).difference(read.photos["photo"].to_pylist()))
    return Album(
        page=folder / PAGE,
        table=folder / PEOPLE,
        photos=len(paths),
        read_now=len(missing),
        gone=left,
        faces=len(labels),
        people=len(new.state.people),
        of_people=int((labels != UNKNOWN).sum()),
        new_people=sum(person.id not in old for person in new.state.people),
        joined=int((fresh & np.isin(labels, list(old))).sum()),
        seen_once=sum(not face.poor for face in new.state.unknown),
        poor=sum(face.poor for face in new.state.unknown),
        threshold=settings.threshold,
        remarks=tuple(remarks),
        left_alone=new.left_alone,
        without_face=html.without_face(read.photos),
        failures=html.failures(read.photos),
    )


def correct(folder: Path, correction: Correction) -> tuple[str, State]:
    """Tell an album what is so, at once and for later runs.

    Args:
        folder: of the album.
        correction: see `album_corrections`.

    Returns:
        What was done, for people, and the album as it is now.

    Raises:
        DataError: there is no album, a file of it is damaged, or the correction does not fit it: nothing is changed. Or
            the folder cannot be written: what was said is kept for the next run if there was room for that.
    """
    with _opened(folder) as album:
        change = correction(album.state, album.corrections)
        rows = {face: row for row, face in enumerate(album.read.faces)}
        for face, person in change.people.items():
            album.labels[rows[face]] = person
        with writing(folder):
            save_undo(folder, album.state, album.corrections)
        return change.message, album.publish(album.labels, change.corrections)


def undo(folder: Path) -> tuple[str, State]:
    """Take the last correction back.

    Args:
        folder: of the album.

    Returns:
        As `correct`.

    Raises:
        DataError: there is no album, a file of it is damaged, or there was no correction since the last run.
    """
    with _opened(folder) as album:
        before = load_undo(folder)
        if before is None:
            raise DataError("there is nothing to undo: nothing was corrected since the last run, or undo.")
        state, corrections = before
        new = album.publish(_before(state, album.read, exact=True), corrections)
        (folder / UNDO).unlink()
    return "The last correction is taken back.", new


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """An album that is there, in the hands of this process alone."""

    folder: Path
    results: Results
    read: _Read
    labels: Labels
    state: State
    corrections: Corrections

    def publish(self, labels: Labels, corrections: Corrections) -> State:
        """Write corrections, and what follows from them."""
        with writing(self.folder):
            save_corrections(self.folder, corrections)
        return _publish(
            self.folder, self.results, self.read, labels, corrections, self.state.settings, self.state
        ).state


@contextmanager
def _opened(folder: Path) -> Iterator[_Opened]:
    """Open an album.

    Raises:
        DataError: there is none, or a file of it is damaged.
    """
    absent = f"there is no album in {folder}; make one first: magface cluster PHOTOS -o {folder}"
    results = Results.of(folder) if (folder / PEOPLE).exists() else None
    if results is None:
        raise DataError(absent)
    album_folders.check_place(folder)
    with results:
        before, corrections = load_state(folder), load_corrections(folder)
        if before is None:
            raise DataError(absent)
        read = _faces(results.table(), before.settings)
        labels = _overridden(_before(before, read, exact=True), corrections, read)
        state = _state(read, labels, corrections, before.settings, before)
        yield _Opened(folder, results, read, labels, state, corrections)
    with suppress(OSError):  # what an interrupted run has read stays
        (folder / "journal").rmdir()


def _all_photos(photos: Sequence[Path], known: Sequence[str]) -> list[Path]:
    """Photos that were named, and those of the album that are still there, each once."""
    found = {os.path.realpath(path): path for path in photos}
    for name in known:
        path = Path(album_folders.path_of(name))
        if path.exists():
            found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def _settings(state: State | None, wishes: Wishes, card: Card, model: str) -> Settings:
    """What was wished for, or else what was so, or else the default."""
    old = None if state is None else state.settings
    same = old is not None and old.model == model
    threshold = old.threshold if old is not None and same else card.cluster_threshold
    auto = old.auto if old is not None else False
    if wishes.threshold is not None:
        auto = wishes.threshold == AUTO
        threshold = threshold if auto else float(wishes.threshold)
    return Settings(
        model=model,
        model_name=f"{card.name} {card.version}",
        threshold=threshold,
        auto=auto,
        algorithm=wishes.algorithm or (old.algorithm if old is not None else ""),
        min_score=wishes.min_score if wishes.min_score is not None else old.min_score if old is not None else RETAKE,
        photos=wishes.photos or (old.photos if old is not None else "link"),
    )


def _with_threshold(
    settings: Settings, wishes: Wishes, state: State | None, rebuild: bool, read: _Read, card: Card
) -> tuple[Settings, list[str]]:
    """Settings with the threshold that the faces give, where it is to be estimated, and remarks on it."""
    again = state is None or rebuild or wishes.threshold is not None or state.settings.model != settings.model
    if not (settings.auto and again):
        return settings, []
    found = estimate.threshold(read.embeddings[read.reliable], card.cluster_threshold)
    remarks = [f"The threshold is that of the model, {found.cosine:.3f}: {found.reason}"] if found.reason else []
    return dataclasses.replace(settings, threshold=found.cosine), remarks


def _faces(photos: pa.Table, settings: Settings) -> _Read:
    [faces] = photos["faces"].chunks or [pa.array([], photos.schema.field("faces").type)]
    names = photos["photo"].take(pc.list_parent_indices(faces)).to_pylist()
    wanted = ("face", "x1", "y1", "x2", "y2", "score", "magnitude", "crop")
    flat = faces.flatten()
    columns = [pc.struct_field(flat, name).to_pylist() for name in wanted]
    found = [
        AlbumFace(photo, number, (x1, y1, x2, y2), score, magnitude, crop, score < settings.min_score)
        for photo, number, x1, y1, x2, y2, score, magnitude, crop in zip(names, *columns, strict=True)
    ]
    return _Read(photos, found, Embeddings(vectors(photos), settings.model))


def _before(state: State | None, read: _Read, *, exact: bool) -> Labels:
    people = () if state is None else state.people
    return labels_of([(person.id, person.faces) for person in people], read.faces, exact=exact)


def _overridden(labels: Labels, corrections: Corrections, read: _Read) -> Labels:
    """Labels in which what the user said comes first."""
    said = labels_of([(number, each.faces) for number, each in corrections.people.items()], read.faces, exact=False)
    return np.where(said == UNKNOWN, labels, said)


def _grouped(
    read: _Read, state: State | None, corrections: Corrections, settings: Settings, before: Labels, rebuild: bool
) -> Labels:
    """Person of each face."""
    nobody = np.full(len(before), UNKNOWN, np.int64)
    known = _overridden(nobody if rebuild else before, corrections, read)
    first = 1 + max([0 if state is None else state.highest, *corrections.people])

    def group(embeddings: Embeddings) -> Labels:
        return cluster.group(embeddings, settings.algorithm or None, settings.threshold, weighting="magnitude")  # type: ignore[arg-type]

    found = incremental.join(
        read.embeddings,
        known,
        settings.threshold,
        reliable=read.reliable,
        group=group,
        first=first,
        several=[number for number, settled in corrections.people.items() if len(settled.faces) > 1],
        regroup=rebuild and bool(corrections.people),
    )
    return incremental.carry(found, _before(state, read, exact=False), first)


@dataclass(frozen=True, slots=True)
class _Published:
    state: State
    left_alone: int


def _publish(
    folder: Path,
    results: Results,
    read: _Read,
    labels: Labels,
    corrections: Corrections,
    settings: Settings,
    before: State | None,
) -> _Published:
    """Write what is known now, then the folders and the page that follow from it."""
    state = _state(read, labels, corrections, settings, before)
    with writing(folder):
        save_state(folder, state)
        left_alone = album_folders.arrange(folder, state.people, state.unknown, settings.photos)
        io.write_atomic(folder / PAGE, album_page.render(state, read.photos, results.crops))
        for left in folder.glob(".*.part.*"):
            if left.name.startswith(_OURS):
                left.unlink()
    return _Published(state, left_alone)


def _state(read: _Read, labels: Labels, corrections: Corrections, settings: Settings, before: State | None) -> State:
    numbers, member = np.unique(labels, return_inverse=True)
    shown = set(cluster.representative(read.embeddings, np.where(labels == UNKNOWN, UNKNOWN, member)).tolist())
    order = sorted(range(len(labels)), key=lambda row: (row not in shown, -read.faces[row].magnitude, row))
    groups: dict[int, list[AlbumFace]] = {int(number): [] for number in numbers}
    for row in order:
        groups[int(labels[row])].append(read.faces[row])
    unknown = groups.pop(UNKNOWN, [])
    people = [Person(number, corrections.name(number), tuple(faces)) for number, faces in groups.items()]
    people.sort(key=lambda person: (-len(person.faces), person.id))
    highest = max([0 if before is None else before.highest, *corrections.people, *groups])
    return State(settings, tuple(people), tuple(unknown), highest)
