"""The best pictures of each person in videos and photos, and the folder that they are written to.

Videos are read twice: once to find and judge every face, of which only numbers are kept, and once to cut out those
that were chosen. So memory does not grow with pictures, and the pictures are as sharp as the video.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from magface import align, cluster, images, io
from magface.errors import DataError, ImageError
from magface.quality import calibration, verdict
from magface.quality.calibration import WEAK
from magface.quality.verdict import Limits
from magface.recognizer import RecognizedFace, Recognizer, portrait
from magface.report.results import writing
from magface.tracking import Sighting, Track, Tracker, apart
from magface.types import U8, Embeddings, Face
from magface.video import EXTENSIONS, Frame, Video, is_video

TABLE = "best.json"
_LOCK = ".lock"
_PART = ".best-"
_PERSON, _PICTURE = re.compile(r"person-\d+"), re.compile(r"\d+\.jpg")
_MARGIN, _LONGEST, _JPEG_QUALITY = 2.2, 1024, 95

Sampling = Callable[[Video], Iterator[Frame]]


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture that was chosen.

    Attributes:
        file: of the picture, in the folder.
        source: video or photo that it was cut from.
        frame: of the video, from 0; None for a photo.
        seconds: in the video; None for a photo.
        box: `x1, y1, x2, y2` of the face in pixels of the frame or photo.
        score: 0 to 100.
        percentile: likewise.
        magnitude: of the embedding.
        verdict: accept, review or retake.
        why: what is out of range, where it is not accepted.
    """

    file: str
    source: str
    frame: int | None
    seconds: float | None
    box: tuple[float, ...]
    score: float
    percentile: float
    magnitude: float
    verdict: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """A person and the best pictures, best first.

    Attributes:
        seen: faces of the person that were looked at.
        shots: one at least.
    """

    seen: int
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True)
class BestShots:
    """What was found.

    Attributes:
        persons: who is seen most first.
        frames: frames and photos that were looked at.
        faces: found in them.
        left_out: people without a picture of the score that was asked for.
        failures: `(source, reason)` of what could not be read, or not to its end.
    """

    persons: tuple[Person, ...]
    frames: int
    faces: int
    left_out: int
    failures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Place:
    source: Path
    frame: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """A sighting that becomes a picture, with its name in the folder."""

    file: str
    sighting: Sighting[_Place]


def find(paths: Sequence[Path]) -> list[Path]:
    """Videos and photos among files and folders, as `images.find` has it."""
    return images.find(paths, extensions=images.EXTENSIONS | EXTENSIONS)


def best_shots(
    recognizer: Recognizer,
    sources: Sequence[Path],
    folder: Path,
    *,
    count: int = 3,
    min_score: float = WEAK,
    sample: Sampling = lambda video: video.rate(5.0),
    limits: Limits = verdict.DEFAULT,
    progress: Callable[[int], object] = lambda faces: None,
) -> BestShots:
    """Choose the best pictures of each person and write them to a folder.

    Faces of a video that overlap from frame to frame and look alike are one track; tracks and the faces of photos are
    grouped by average linkage at the threshold of the model's card. Best are those of highest magnitude; two of one
    video are at least a second apart. The folder gets `person-1/1.jpg`, ..., squares of 2.2 times the face, at most
    1024 pixels, and `best.json`, written last. What an earlier run wrote there is replaced, other files stay.

    Args:
        recognizer: what finds and judges faces.
        sources: videos and photos, by content.
        folder: made where it is missing.
        count: pictures of a person, at most, >= 1.
        min_score: least score of a picture, 0 to 100.
        sample: frames of a video to look at.
        limits: scores that decide on the verdict.
        progress: called after each frame or photo with the number of its faces.

    Raises:
        DataError: there is no source, or the folder cannot be written or holds such pictures of something else.
    """
    if not sources:
        raise DataError("there is no video or photo to read; name files or a folder that holds some.")
    with ExitStack() as held:
        with writing(folder):
            _prepare(folder)
            held.enter_context(io.locked(folder / _LOCK))
            for left in folder.glob(f"{_PART}*"):  # of a run that was killed
                shutil.rmtree(left)
        search = _Search(recognizer, count, sample, progress)
        search.read(sources)
        people = _people(search.tracker.tracks, recognizer)
        best = [_best(tracks, recognizer, count, min_score) for tracks in people]
        kept = [(tracks, shots) for tracks, shots in zip(people, best, strict=True) if shots]
        named = [
            [_Chosen(f"person-{number}/{rank}.jpg", shot) for rank, shot in enumerate(shots, 1)]
            for number, (_, shots) in enumerate(kept, 1)
        ]
        with writing(folder):
            shots = _write_pictures(folder, [each for person in named for each in person], recognizer, limits)
            found = BestShots(
                persons=tuple(
                    Person(sum(track.count for track in tracks), tuple(shots[each.file] for each in person))
                    for (tracks, _), person in zip(kept, named, strict=True)
                ),
                frames=search.frames,
                faces=sum(track.count for track in search.tracker.tracks),
                left_out=len(people) - len(kept),
                failures=tuple(search.failures),
            )
            io.write_atomic(folder / TABLE, json.dumps(_facts(found, recognizer), indent=2))
    return found


class _Search:
    """First reading: numbers of every face, and pictures of none."""

    def __init__(self, recognizer: Recognizer, count: int, sample: Sampling, progress: Callable[[int], object]) -> None:
        card = recognizer.card
        # as many as one that is chosen, with those too near to it, can keep out
        self.tracker: Tracker[_Place] = Tracker(card.cluster_threshold, _magnitude(WEAK, card), keep=3 * count)
        self.frames = 0
        self.failures: list[tuple[str, str]] = []
        self._recognizer, self._sample, self._progress = recognizer, sample, progress
        self._slot = 0

    def read(self, sources: Sequence[Path]) -> None:
        """Look at photos, then at videos; what cannot be read is a failure."""
        photos: list[Path] = []
        videos: list[Path] = []
        for source in sources:
            try:
                filmed = is_video(source) or source.suffix.lower() in EXTENSIONS
                (videos if filmed else photos).append(source)
            except ImageError as error:
                self.failures.append((str(source), str(error)))
        for photo in self._recognizer.stream(photos):
            if photo.error:
                self.failures.append((str(photo.path), photo.error))
            else:
                self._begin()
                self._add(_Place(photo.path), self._slot, 0.0, photo.faces)
        for video in videos:
            self._begin()
            try:
                self._video(video)
            except ImageError as error:
                self.failures.append((str(video), str(error)))

    def _begin(self) -> None:
        """Another source: no face goes on from the last one, and none is too near in time."""
        self.tracker.cut()
        self._slot += 2

    def _video(self, source: Path) -> None:
        video, start = Video(source), self._slot
        places: deque[_Place] = deque()

        def pixels() -> Iterator[U8]:
            for frame in self._sample(video):
                places.append(_Place(source, frame.index, frame.seconds))
                yield frame.image

        for faces in self._recognizer.frames(pixels()):
            place = places.popleft()
            seconds = place.seconds or 0.0
            self._slot = start + math.floor(seconds)
            self._add(place, self._slot, seconds, faces)
        if video.early:
            self.failures.append((str(source), video.early))

    def _add(self, place: _Place, slot: int, seconds: float, faces: Sequence[RecognizedFace]) -> None:
        sightings = [Sighting(place, slot, face.face, face.embedding, face.magnitude) for face in faces]
        self.tracker.add(seconds, sightings)
        self.frames += 1
        self._progress(len(faces))


def _magnitude(score: float, card: Any) -> float:
    """Magnitude of a score: the inverse of `calibration.score`."""
    return card.quality.a0 + card.quality.w * math.log(score / (100 - score))


def _people(tracks: Sequence[Track[_Place]], recognizer: Recognizer) -> list[list[Track[_Place]]]:
    """Tracks of each person; who is seen most first."""
    if not tracks:
        return []
    embeddings = Embeddings(np.stack([track.embedding for track in tracks]))
    groups = cluster.average_linkage(embeddings, recognizer.card.cluster_threshold)
    people: list[list[Track[_Place]]] = [[] for _ in range(groups.max() + 1)]
    for track, group in zip(tracks, groups.tolist(), strict=True):
        people[group].append(track)
    return sorted(people, key=lambda person: -sum(track.count for track in person))


def _best(
    tracks: Sequence[Track[_Place]], recognizer: Recognizer, count: int, min_score: float
) -> list[Sighting[_Place]]:
    candidates = [
        each
        for track in tracks
        for each in track.best
        if float(calibration.score(each.magnitude, recognizer.card)) >= min_score
    ]
    return apart(candidates, count)


def _write_pictures(folder: Path, chosen: Sequence[_Chosen], recognizer: Recognizer, limits: Limits) -> dict[str, Shot]:
    """Second reading: cut out what was chosen, write it beside the old pictures, and put it in their place."""
    part = Path(tempfile.mkdtemp(prefix=_PART, dir=folder))
    try:
        shots = {}
        for each, image in _frames(chosen):
            shots[each.file] = _shot(each, image, recognizer, limits)
            path = part / each.file
            path.parent.mkdir(exist_ok=True)
            bgr = cv2.cvtColor(portrait(image, each.sighting.face, margin=_MARGIN, longest=_LONGEST), cv2.COLOR_RGB2BGR)
            path.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())
        _sweep(folder)
        for each in chosen:
            place = folder / each.file
            place.parent.mkdir(exist_ok=True)
            (part / each.file).replace(place)
    finally:
        shutil.rmtree(part)
    return shots


def _frames(chosen: Sequence[_Chosen]) -> Iterator[tuple[_Chosen, U8]]:
    """What was chosen with its frame or photo, each source read once.

    Raises:
        DataError: a source is no longer what it was.
    """
    by_source: dict[Path, dict[int | None, list[_Chosen]]] = {}
    for each in chosen:
        place = each.sighting.where
        by_source.setdefault(place.source, {}).setdefault(place.frame, []).append(each)
    for source, frames in by_source.items():
        try:
            indexes = [index for index in frames if index is not None]
            for frame in Video(source).at(indexes) if indexes else ():
                yield from ((each, frame.image) for each in frames.pop(frame.index))
            if None in frames:
                image = images.read(source)
                yield from ((each, image) for each in frames.pop(None))
        except ImageError as error:
            raise DataError(f"{source} changed while it was read ({error}); run again.") from error
        if frames:
            raise DataError(f"{source} changed while it was read; run again.")


def _shot(chosen: _Chosen, image: U8, recognizer: Recognizer, limits: Limits) -> Shot:
    sighting, card = chosen.sighting, recognizer.card
    face: Face = sighting.face
    crop = align.crop(image, face.landmarks)
    found = verdict.assess(crop, sighting.embedding, card, recognizer.embedder.embed, face.landmarks, limits)
    return Shot(
        file=chosen.file,
        source=str(sighting.where.source),
        frame=sighting.where.frame,
        seconds=None if sighting.where.seconds is None else round(sighting.where.seconds, 3),
        box=tuple(round(side, 1) for side in face.box.tolist()),
        score=round(float(calibration.score(sighting.magnitude, card)), 4),
        percentile=round(float(calibration.percentile(sighting.magnitude, card)), 4),
        magnitude=round(sighting.magnitude, 4),
        verdict=found.verdict.value,
        why=tuple(f"{each.cause}; {each.advice}" for each in found.causes),
    )


def _facts(found: BestShots, recognizer: Recognizer) -> dict[str, Any]:
    return {"model": recognizer.embedder.fingerprint, **dataclasses.asdict(found)}


def _prepare(folder: Path) -> None:
    """Make the folder; refuse one with pictures that another program, or a person, put where ours go.

    Raises:
        DataError: it has such pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _LOCK).exists() and any(_PERSON.fullmatch(path.name) for path in folder.iterdir()):
        raise DataError(f"{folder} has folders person-... that this command did not write; choose another with -o.")


def _sweep(folder: Path) -> None:
    """Remove what an earlier run wrote, or left behind when it was killed; other files stay."""
    (folder / TABLE).unlink(missing_ok=True)
    for person in [path for path in folder.iterdir() if _PERSON.fullmatch(path.name) and not path.is_symlink()]:
        for picture in list(person.iterdir()):
            if _PICTURE.fullmatch(picture.name):
                picture.unlink()
        if not any(person.iterdir()):
            person.rmdir()
