"""Raw photos in, aligned crops out: the faces of a photo, which of them count, and a folder of crops with its table."""

from __future__ import annotations

import csv
import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import cv2
import numpy as np

from magface import align, detect, images, io
from magface.data import table as tables
from magface.data import tar
from magface.data.face_set import FaceSet, Place, Record, Stretch
from magface.detect import Detector, YuNet
from magface.errors import DataError, NoFaceError
from magface.types import U8, Face

PathLike = str | os.PathLike[str]

Which = Literal["largest", "central", "all"]
WHICH: tuple[Which, ...] = get_args(Which)

TABLE = "faces.tsv"
FAILURES = "failures.tsv"
_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_PIXELS = ("x1", "y1", "x2", "y2", *(f"{point}_{axis}" for point in _POINTS for axis in "xy"))
_COLUMNS = (*tables.TITLES, "photo", "face", "faces", *_PIXELS, "detector_score", "state", "made_by")
_FAILURE_COLUMNS = ("photo", "kind", "reason", "state", "made_by")
_NO_FACE, _UNREADABLE = "no face", "unreadable"
_ENDING = ".png"
_NOBODY = "unknown"
_AHEAD = 32
_SECONDS = 5.0
_PATIENCE = 20  # times as long as the table takes to write, at least, passes between two writes

Row = dict[str, str]


class Finder:
    """Finds the faces of photos, in any thread.

    Args:
        detector: a `Detector`, or a file as in `detect.load`; `None` is YuNet.

    Attributes:
        detector: finds the faces.
        name: of the detector; of a Python file, with the start of its hash.

    Raises:
        ModelError: the file is missing, of another kind, or fails.

    Example:
        >>> from skimage import data
        >>> [face] = Finder().faces(data.astronaut())
        >>> face.box.round(-1)
        array([180.,  60., 270., 180.], dtype=float32)
    """

    def __init__(self, detector: Detector | PathLike | None = None) -> None:
        file = Path(detector) if isinstance(detector, str | os.PathLike) else None
        self.detector: Detector = (
            detect.load(file) if detector is None or isinstance(detector, str | os.PathLike) else detector
        )
        self.name = self.detector.name
        if file is not None and file.suffix == ".py":
            self.name += f"-{io.sha256(file)[:12]}"
        # What others wrote may not bear several threads.
        self._turn = nullcontext() if isinstance(self.detector, YuNet) else threading.Lock()

    def faces(self, image: U8) -> list[Face]:
        """Every face of a photo, from left to right.

        Args:
            image: `(H, W, 3)` uint8 RGB, upright.
        """
        with self._turn:
            [faces] = self.detector.detect([image])
        return sorted(faces, key=lambda face: float(face.box[0] + face.box[2]))


def choose(faces: Sequence[Face], which: Which, height: int, width: int) -> list[int]:
    """The faces of a photo that count.

    Args:
        faces: of the photo.
        which: `largest`, the one of the largest box, which `Recognizer.verify` compares; `central`, the one whose box
            has its middle nearest to that of the photo; `all`.
        height: of the photo in pixels.
        width: likewise.

    Returns:
        Index into `faces` of each; empty where there is no face.

    Example:
        >>> def face(*box):
        ...     return Face(np.array(box, np.float32), np.zeros((5, 2), np.float32), 0.9)
        >>> faces = [face(0, 0, 50, 50), face(80, 80, 120, 120)]
        >>> choose(faces, "largest", 200, 200), choose(faces, "central", 200, 200), choose(faces, "all", 200, 200)
        ([0], [1], [0, 1])
    """
    if which == "all" or not faces:
        return list(range(len(faces)))
    if which == "largest":
        return [max(range(len(faces)), key=lambda index: faces[index].area)]
    middle = np.array([width, height]) / 2
    return [min(range(len(faces)), key=lambda i: float(np.hypot(*(faces[i].box[:2] + faces[i].box[2:]) / 2 - middle)))]


class Photos:
    """Makes the crop of the face that counts in a photo: see `benchmarks.faces.Aligner`.

    Args:
        finder: finds the faces; `None` is one with YuNet.
        which: face counts, `largest` or `central`; see `choose`.

    Attributes:
        name: of the detector, and which face counts.

    Example:
        >>> from skimage import data
        >>> photos = Photos()
        >>> photos.name, photos("astronaut.png", data.astronaut()).shape
        ('yunet largest', (112, 112, 3))
    """

    def __init__(self, finder: Finder | None = None, which: Literal["largest", "central"] = "largest") -> None:
        self._finder = finder or Finder()
        self._which: Which = which
        self.name = f"{self._finder.name} {which}"

    def __call__(self, name: str, image: U8) -> U8:
        """See `benchmarks.faces.Aligner`.

        Raises:
            NoFaceError: the image shows no face.
            DataError: the detector's landmarks fit no face.
        """
        faces = self._finder.faces(image)
        chosen = choose(faces, self._which, *image.shape[:2])
        if not chosen:
            raise NoFaceError(_no_face(name))
        return align.crop(image, faces[chosen[0]].landmarks)


@dataclass(frozen=True, slots=True)
class Alignment:
    """What a folder of crops holds.

    Attributes:
        photos: photos that were asked for.
        read_now: photos that were read in this run; the others were known.
        crops: faces that were cut out, from this run and earlier ones.
        without_face: names of photos in which no face was found.
        failures: `(name, reason)` of photos that could not be read.
    """

    photos: int
    read_now: int
    crops: int
    without_face: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]


def find(root: PathLike, without: PathLike | None = None) -> FaceSet:
    """Raw photos of a folder and all below it, or of an uncompressed tar; none is opened.

    Args:
        root: the folder or archive. The folder that a photo lies in names its person; of a photo beside the folders
            nobody knows who it shows.
        without: a folder inside whose images are left out.

    Returns:
        The photos in the order of their names, which are Unicode: other bytes of a name are written as escapes.

    Raises:
        DataError: there is no photo, two have one name, or the archive cannot be read.
        ImageError: the folder cannot be listed.
    """
    folder = Path(root)
    if folder.is_dir():
        records = [
            _record(path.relative_to(folder).as_posix(), Stretch(path))
            for path in _outside(images.find([folder]), without)
        ]
    else:
        members = tar.members(folder)
        records = [_record(name, Stretch(folder, offset, size)) for name, offset, size in members if _is_photo(name)]
    if not records:
        raise DataError(f"{folder} holds no photo; name a folder of photos, or an uncompressed tar of it.")
    return FaceSet.of(sorted(records, key=lambda record: record.name))


def write(
    finder: Finder,
    photos: FaceSet,
    folder: Path,
    which: Which = "largest",
    *,
    started: Callable[[int], object] = lambda count: None,
    progress: Callable[[int], object] = lambda crops: None,
) -> Alignment:
    """Cut the faces of photos out and write them to a folder, with tables of what was found.

    A crop has the name of its photo and the ending `.png`: it keeps what the network sees of the photo, while JPEG of
    any quality is another picture. Where photos of one folder differ in the ending alone, all of that folder keep
    theirs before it. With `all` faces, `#1`, `#2`, ... follow from left to right. Crops of photos that lie in no
    sub-folder get one, `unknown`, so that the folder is a data set for every command.

    `faces.tsv` has a line for each crop, in the form that data sets take and more: `path`, `identity`, `source`,
    `suspect`, `name`, `photo`, `face` (from the left, 1 the first) of how many `faces`, box and landmarks in pixels of
    the upright photo, `detector_score`. `failures.tsv` has a line for each photo without a crop, and why. Both are
    written whole, every few seconds and at the end, also at one that an exception makes. What was read with the same
    detector and choice, of a file of the same size and time, is not read again, except for unreadable photos; crops of
    photos that are gone or changed are removed.

    Args:
        finder: finds the faces.
        photos: raw photos, of any size.
        folder: made where it is missing.
        which: of the faces of a photo are cut out, see `choose`.
        started: called once with the number of photos that must be read.
        progress: called for each photo that was read, with the number of its crops.

    Raises:
        DataError: the folder holds a damaged table, another process writes to it, or a name leads out of it.
        OSError: it cannot be written; what was done before stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with io.locked(folder / ".lock"):
            return _Folder(finder, photos, folder, which).fill(started, progress)
    except BlockingIOError as error:
        raise DataError(f"another run is writing to {folder}; wait for its end, or choose another folder.") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A face that was cut out.

    Attributes:
        face: where it is.
        number: from the left, 1 for the first, of `faces`.
        png: the encoded crop.
    """

    face: Face
    number: int
    faces: int
    png: bytes


class _Folder:
    """Crops and tables, and what of them need not be made again."""

    def __init__(self, finder: Finder, photos: FaceSet, folder: Path, which: Which) -> None:
        self.finder, self.photos, self.folder, self.which = finder, photos, folder, which
        self.made_by = f"{finder.name} {which}"
        self.index = {name: index for index, name in enumerate(photos.names)}
        self.stems = _stems(photos.names)
        self.states = _states(photos.places)
        self.rows: dict[str, list[Row]] = {}
        self.failed: dict[str, Row] = {}
        self._due = 0.0

    def fill(self, started: Callable[[int], object], progress: Callable[[int], object]) -> Alignment:
        self._take_over()
        missing = [name for name in self.photos.names if name not in self.rows and name not in self.failed]
        started(len(missing))
        try:
            for name, cuts in images.decode_ahead(missing, self._content, self._cuts, ahead=_AHEAD):
                self._keep(name, cuts)
                progress(0 if isinstance(cuts, str) else len(cuts))
                if time.monotonic() >= self._due:
                    self._save()
        finally:
            self._save()
        failed = [self.failed[name] for name in self.photos.names if name in self.failed]
        return Alignment(
            photos=len(self.photos),
            read_now=len(missing),
            crops=sum(map(len, self.rows.values())),
            without_face=tuple(row["photo"] for row in failed if row["kind"] == _NO_FACE),
            failures=tuple((row["photo"], row["reason"]) for row in failed if row["kind"] == _UNREADABLE),
        )

    def _take_over(self) -> None:
        """Know what an earlier run made, and remove its crops that are of no use now."""
        old, failed = _read(self.folder / TABLE, _COLUMNS), _read(self.folder / FAILURES, _FAILURE_COLUMNS)
        for photo, group in groupby(old, key=lambda row: row["photo"]):
            rows = list(group)
            if photo in self.index and self._is_whole(photo, rows):
                self.rows[photo] = [{**row, **self._label(photo)} for row in rows]
        kept = {row["path"] for rows in self.rows.values() for row in rows}
        for path in {row["path"] for row in old if row["path"].endswith(_ENDING)} - kept:
            _check_inside(path)
            with suppress(FileNotFoundError):
                (self.folder / path).unlink()
        for row in failed:
            if row["kind"] == _NO_FACE and row["photo"] in self.index and self._is_known(row):
                self.failed[row["photo"]] = row

    def _is_known(self, row: Row) -> bool:
        return (row["state"], row["made_by"]) == (self.states[self.index[row["photo"]]], self.made_by)

    def _is_whole(self, photo: str, rows: Sequence[Row]) -> bool:
        """Whether the rows of a photo are all that this run would write, and their crops are there."""
        count = rows[0]["faces"] if self.which == "all" else "1"
        paths = [self._path(photo, number) for number in range(1, len(rows) + 1)]
        return (
            str(len(rows)) == count
            and all(self._is_known(row) for row in rows)
            and [row["path"] for row in rows] == paths
            and all((self.folder / path).is_file() for path in paths)
        )

    def _path(self, photo: str, number: int) -> str:
        stem = self.stems[self.index[photo]]
        return f"{stem}#{number}{_ENDING}" if self.which == "all" else f"{stem}{_ENDING}"

    def _label(self, photo: str) -> Row:
        index = self.index[photo]
        return {
            "identity": self.photos.people[self.photos.labels[index]],
            "source": str(self.photos.sources[index]),
            "suspect": str(int(self.photos.suspect[index])),
        }

    def _content(self, photo: str) -> bytes:
        return self.photos.encoded(self.index[photo])

    def _cuts(self, photo: str, image: U8) -> list[_Cut]:
        faces = self.finder.faces(image)
        chosen = choose(faces, self.which, *image.shape[:2])
        return [_Cut(faces[i], i + 1, len(faces), _png(align.crop(image, faces[i].landmarks))) for i in chosen]

    def _keep(self, photo: str, cuts: list[_Cut] | str) -> None:
        """Write the crops of a photo and know their rows, or why there is none."""
        made = {"photo": photo, "state": self.states[self.index[photo]], "made_by": self.made_by}
        if isinstance(cuts, str):
            self.failed[photo] = {**made, "kind": _UNREADABLE, "reason": cuts}
        elif not cuts:
            self.failed[photo] = {**made, "kind": _NO_FACE, "reason": _no_face(photo)}
        else:
            rows = []
            for cut in cuts:
                path = self._path(photo, cut.number)
                io.write_atomic(self.folder / path, cut.png)
                rows.append({"path": path, "name": path, **self._label(photo), **made, **_numbers(cut)})
            self.rows[photo] = rows

    def _save(self) -> None:
        """Write both tables, and let so much time pass to the next that it does not count."""
        start = time.monotonic()
        names = self.photos.names
        tables.write_rows(
            self.folder / TABLE,
            _COLUMNS,
            ([row[title] for title in _COLUMNS] for name in names for row in self.rows.get(name, [])),
        )
        tables.write_rows(
            self.folder / FAILURES,
            _FAILURE_COLUMNS,
            ([self.failed[name][title] for title in _FAILURE_COLUMNS] for name in names if name in self.failed),
        )
        end = time.monotonic()
        self._due = end + max(_SECONDS, _PATIENCE * (end - start))


def _outside(paths: Iterable[Path], folder: PathLike | None) -> Iterator[Path]:
    """Photos that do not lie in the folder; no pipes and devices, of which nothing can be read."""
    inside = None if folder is None else Path(os.path.realpath(folder))
    for path in paths:
        if inside not in Path(os.path.realpath(path)).parents and (path.is_file() or not path.exists()):
            yield path


def _is_photo(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in images.EXTENSIONS and not any(part.startswith(".") for part in path.parts)


def _record(name: str, place: Place) -> Record:
    """A photo; bytes of its name that are not Unicode become escapes."""
    path = PurePosixPath(os.fsencode(name).decode(errors="backslashreplace"))
    return Record(str(path), str(path.parent) if len(path.parts) > 1 else "", place)


def _stems(names: Sequence[str]) -> list[str]:
    """Where crops go: names without the ending; with it in folders where two would be one, even if case is ignored.

    Raises:
        DataError: two would be one all the same, or one leads out of the folder.
    """
    paths = [PurePosixPath(name) if "/" in name else PurePosixPath(_NOBODY, name) for name in names]
    counts = Counter(str(path.with_suffix("")).casefold() for path in paths)
    shared = {path.parent for path in paths if counts[str(path.with_suffix("")).casefold()] > 1}
    stems = [str(path if path.parent in shared else path.with_suffix("")) for path in paths]
    if len(set(stems)) < len(stems):
        stem = Counter(stems).most_common(1)[0][0]
        raise DataError(f"two photos would have the crop {stem}{_ENDING}; rename one, or its folder.")
    for stem in stems:
        _check_inside(stem)
    return stems


def _states(places: Sequence[Place]) -> list[str]:
    """What tells a changed photo: size and time of its file, or the hash of bytes that lie elsewhere."""
    times: dict[Path, str] = {}

    def state(place: Place) -> str:
        if not isinstance(place, Stretch):
            return hashlib.sha256(place.read()).hexdigest()
        if place.file not in times:
            times[place.file] = _stat(place.file)
        return times[place.file] if place.size < 0 else f"{place.offset}:{place.size}:{times[place.file]}"

    return [state(place) for place in places]


def _stat(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _check_inside(name: str) -> None:
    path = Path(name)
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise DataError(f"the name {name!r} leads out of the folder; rename the photo.")


def _no_face(name: str) -> str:
    return f"no face was found in {name}; leave it out, or give a photo in which the face is larger or clearer."


def _png(crop: U8) -> bytes:
    return cv2.imencode(_ENDING, cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes()


def _numbers(cut: _Cut) -> Row:
    values = [*cut.face.box.tolist(), *cut.face.landmarks.ravel().tolist()]
    numbers = dict(zip(_PIXELS, (f"{value:.2f}" for value in values), strict=True))
    return {"face": str(cut.number), "faces": str(cut.faces), **numbers, "detector_score": f"{cut.face.score:.4f}"}


def _read(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """Rows of a table that a run wrote; none where there is no table."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="\t", strict=True)
            titles, rows = reader.fieldnames, list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); delete it and run again.") from error
    if tuple(titles or ()) != columns or any(None in row or None in row.values() for row in rows):
        raise DataError(f"{path} is not a table of this package, or damaged; delete it and run again.")
    return rows
