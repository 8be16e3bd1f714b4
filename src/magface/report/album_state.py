"""What an album knows: who is on which photo (`people.json`), and what a user said about it (`corrections.json`).

Both are JSON, replaced whole or not at all. `people.json` is the result and the memory of the next run.
`corrections.json` holds what no run can find again: names, and the faces whose person a user settled. Anything may have
happened to either file, so both are held to their form before they are used.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from magface import io
from magface.cluster import UNKNOWN
from magface.errors import DataError

T = TypeVar("T")
PEOPLE, CORRECTIONS, UNDO = "people.json", "corrections.json", ".undo.json"
LONGEST = 500
"""Characters of a name, at most."""

_VERSION = 1
_LARGEST = 1 << 30
_HIGHEST = 1 << 53
_HIGHEST_ID = 1 << 40
_SAME = 0.5
"""Overlap over union of two boxes from which they are of one face."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a face is, so that it is found again after the photo was moved, or read anew.

    Attributes:
        photo: absolute path of the photo.
        box: `x1, y1, x2, y2` in pixels of that photo.
        crop: name of the picture of the face, which is a hash of its pixels.
    """

    photo: str
    box: Box
    crop: str


@dataclass(frozen=True, slots=True)
class AlbumFace:
    """A face in the album.

    Attributes:
        photo: absolute path.
        face: number in the photo, from the left, from 1.
        box: `x1, y1, x2, y2` in pixels of that photo.
        score: 0 to 100.
        magnitude: of the embedding.
        crop: name of the picture in `crops/`.
        poor: whether its score is too low to decide who somebody is.
    """

    photo: str
    face: int
    box: Box
    score: float
    magnitude: float
    crop: str
    poor: bool


Placed = Spot | AlbumFace


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the album.

    Attributes:
        id: stays, whoever comes or goes; no other person ever has it.
        name: that a user gave; "" where none did.
        faces: the representative first, then by falling magnitude; one at least.
    """

    id: int
    name: str
    faces: tuple[AlbumFace, ...]

    @property
    def title(self) -> str:
        """What people call the person."""
        return self.name or f"Person {self.id}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How an album is made; a later run does the same unless it is told otherwise.

    Attributes:
        model: fingerprint of the model.
        model_name: name and version of the model.
        threshold: mean cosine from which two groups are one person.
        auto: whether the threshold was estimated from the faces.
        algorithm: name of the algorithm; "" for the one that fits the number of faces.
        min_score: score from which a face decides who somebody is.
        photos: how photos come into the folders of people: `link`, `copy`, or `none` for no folders.
    """

    model: str
    model_name: str
    threshold: float
    auto: bool
    algorithm: str
    min_score: float
    photos: str


@dataclass(frozen=True, slots=True)
class State:
    """What an album holds.

    Attributes:
        settings: how it was made.
        people: those with most faces first.
        unknown: faces of nobody in particular, by falling magnitude.
        highest: the highest id that was ever given to a person; 0 before the first.
    """

    settings: Settings
    people: tuple[Person, ...]
    unknown: tuple[AlbumFace, ...]
    highest: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What a user said of a person.

    Attributes:
        name: "" where none was given.
        faces: that are of this person and of nobody else, whatever a run finds; also of photos that are gone.
    """

    name: str = ""
    faces: tuple[Spot, ...] = ()


@dataclass(frozen=True, slots=True)
class Corrections:
    """Everything that a user said.

    Attributes:
        people: by their ids.
    """

    people: Mapping[int, Settled] = field(default_factory=dict)

    def name(self, person: int) -> str:
        """Name of a person; "" without one."""
        return self.people[person].name if person in self.people else ""


def find_spots(spots: Sequence[Placed], faces: Sequence[Placed], *, exact: bool) -> NDArray[np.int64]:
    """Find faces again.

    A face is the same where the picture of it has the same pixels, in the same photo first and then in any (a photo
    that was moved), or else where it has the same place in a photo of the same path.

    Args:
        spots: S faces to look for.
        faces: N faces among which they may be.
        exact: the pixels must be the same: the place alone is not enough.

    Returns:
        `(S,)` int64, row of each; -1 where it is not there.

    Example:
        >>> spot = Spot("a.jpg", (0, 0, 10, 10), "f00d")
        >>> moved, redone = Spot("b.jpg", (0, 0, 10, 10), "f00d"), Spot("a.jpg", (1, 0, 10, 10), "beef")
        >>> find_spots([spot], [redone, moved], exact=True), find_spots([spot], [redone], exact=False)
        (array([1]), array([0]))
    """
    by_crop: dict[str, list[int]] = defaultdict(list)
    by_photo: dict[str, list[int]] = defaultdict(list)
    for row, face in enumerate(faces):
        by_crop[face.crop].append(row)
        by_photo[face.photo].append(row)

    def find(spot: Placed) -> int:
        pixels = by_crop.get(spot.crop, [])
        ways = [[row for row in pixels if faces[row].photo == spot.photo], pixels]
        for rows in ways if exact else [*ways, by_photo.get(spot.photo, [])]:
            near, row = max(((_overlap(spot.box, faces[row].box), -row) for row in rows), default=(0.0, 0))
            if near >= _SAME:
                return -row
        return -1

    return np.array([find(spot) for spot in spots], np.int64)


def labels_of(
    people: Iterable[tuple[int, Sequence[Placed]]], faces: Sequence[Placed], *, exact: bool
) -> NDArray[np.int64]:
    """Person of each face, by faces that are known from before.

    Args:
        people: ids, each with faces.
        faces: N faces.
        exact: see `find_spots`.

    Returns:
        `(N,)` int64, `UNKNOWN` for a face of none of them.
    """
    pairs = [(person, spot) for person, spots in people for spot in spots]
    rows = find_spots([spot for _, spot in pairs], faces, exact=exact)
    result = np.full(len(faces), UNKNOWN, np.int64)
    known = rows >= 0
    result[rows[known]] = np.array([person for person, _ in pairs], np.int64)[known]
    return result


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / (area - both) if area > both else 0.0


def checked_name(text: str) -> str:
    r"""A name of a person, without space around it; any letters and signs, but nothing that moves a cursor.

    Raises:
        DataError: it is empty, longer than 500 characters, or holds control characters.

    Example:
        >>> checked_name(" Ann / Bob \U0001f600 ")
        'Ann / Bob 😀'
    """
    name = text.strip()
    if not 1 <= len(name) <= LONGEST:
        raise DataError(f"a name must be 1 to {LONGEST} characters; {name[:40]!r} has {len(name)}.")
    if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in name):
        raise DataError(f"the name {name[:40]!r} holds characters that cannot be printed; leave them out.")
    return name


def save_state(folder: Path, state: State) -> None:
    """Write `people.json`."""
    _save(folder / PEOPLE, _state_content(state))


def load_state(folder: Path) -> State | None:
    """Read `people.json`; None where there is none.

    Raises:
        DataError: it is damaged, or of a later version.
    """
    what_to_do = "remove it and run again: people are grouped anew, and corrections.json keeps what you corrected"
    return _load(folder / PEOPLE, what_to_do, _state)


def save_corrections(folder: Path, corrections: Corrections) -> None:
    """Write `corrections.json`."""
    _save(folder / CORRECTIONS, _corrections_content(corrections))


def load_corrections(folder: Path) -> Corrections:
    """Read `corrections.json`; nothing is corrected where there is none.

    Raises:
        DataError: it is damaged, or of a later version; it is left as it is.
    """
    what_to_do = "it was left as it is: put back a copy of it, or move it away to go on without names and corrections"
    return _load(folder / CORRECTIONS, what_to_do, _corrections) or Corrections()


def save_undo(folder: Path, state: State, corrections: Corrections) -> None:
    """Keep what is so before a correction."""
    _save(folder / UNDO, {"state": _state_content(state), "corrections": _corrections_content(corrections)})


def load_undo(folder: Path) -> tuple[State, Corrections] | None:
    """What was so before the last correction; None where that is not known.

    Raises:
        DataError: the file is damaged, or of a later version.
    """

    def parse(read: dict[str, Any]) -> tuple[State, Corrections]:
        return _state(read["state"]), _corrections(read["corrections"])

    return _load(folder / UNDO, "remove it; the last correction cannot be undone", parse)


def _state_content(state: State) -> dict[str, Any]:
    people = [
        {
            "id": person.id,
            "name": person.name,
            "representative": dataclasses.asdict(person.faces[0]),
            "faces": [dataclasses.asdict(face) for face in person.faces],
        }
        for person in state.people
    ]
    unknown = [dataclasses.asdict(face) for face in state.unknown]
    settings = dataclasses.asdict(state.settings)
    return {"settings": settings, "highest": state.highest, "people": people, "unknown": unknown}


def _state(read: dict[str, Any]) -> State:
    settings = Settings(**{key: _TYPES[kind](read["settings"][key]) for key, kind in _fields(Settings)})
    people = tuple(
        Person(_id(each["id"]), _text(each["name"]), tuple(_face(face) for face in _list(each["faces"])))
        for each in _list(read["people"])
    )
    unknown = tuple(_face(face) for face in _list(read["unknown"]))
    _require(len({person.id for person in people}) == len(people), "two people have one id")
    _require(all(person.faces for person in people), "somebody has no face")
    _require(settings.photos in ("link", "copy", "none"), "settings.photos is unknown")
    _require(-1 <= settings.threshold <= 1, "settings.threshold is no cosine")
    return State(settings, people, unknown, max([_count(read["highest"]), *(person.id for person in people)]))


def _corrections_content(corrections: Corrections) -> dict[str, Any]:
    people = [
        {"id": person, "name": settled.name, "faces": [dataclasses.asdict(spot) for spot in settled.faces]}
        for person, settled in sorted(corrections.people.items())
    ]
    return {"people": people}


def _corrections(read: dict[str, Any]) -> Corrections:
    people = {
        _id(each["id"]): Settled(_text(each["name"]), tuple(_spot(face) for face in _list(each["faces"])))
        for each in _list(read["people"])
    }
    _require(len(people) == len(read["people"]), "two people have one id")
    for settled in people.values():
        _require(not settled.name or settled.name == checked_name(settled.name), "a name is none")
    return Corrections(people)


def _save(path: Path, content: dict[str, Any]) -> None:
    io.write_atomic(path, json.dumps({"version": _VERSION, **content}, ensure_ascii=False, indent=1))


def _load(path: Path, what_to_do: str, parse: Callable[[dict[str, Any]], T]) -> T | None:
    with _Form(path, what_to_do):
        if not path.exists():
            return None
        _require(path.is_file() and path.stat().st_size <= _LARGEST, "it is no file of JSON")
        read = json.loads(path.read_bytes())
        _require(isinstance(read, dict), "it is no JSON object")
    version = read.get("version")
    if type(version) is int and version > _VERSION:
        raise DataError(f"{path} was written by a later version of magface; update this one.")
    with _Form(path, what_to_do):
        _require(version == _VERSION, "it has no version")
        return parse(read)


class _Form:
    """Turns everything that can be wrong with the content of a file into one sentence."""

    def __init__(self, path: Path, what_to_do: str) -> None:
        self.path, self.what_to_do = path, what_to_do

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyError):
            error = ValueError(f"it lacks {error}")
        if isinstance(error, ValueError | TypeError | RecursionError | OSError | DataError):
            reason = str(error).rstrip(".")[:200]
            raise DataError(f"{self.path} is damaged ({reason}); {self.what_to_do}.") from error


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def _list(value: Any) -> list[Any]:
    _require(isinstance(value, list) and all(isinstance(each, dict) for each in value), "it lacks a list of objects")
    return value


def _text(value: Any) -> str:
    _require(isinstance(value, str), "a text is none")
    value.encode()  # halves of surrogate pairs could not be written again
    return value


def _count(value: Any) -> int:
    _require(type(value) is int and 0 <= value < _HIGHEST_ID, "a number is out of range")
    return value


def _id(value: Any) -> int:
    _require(_count(value), "an id is 0")
    return value


def _number(value: Any) -> float:
    known = type(value) is float or (type(value) is int and abs(value) < _HIGHEST)
    _require(known and math.isfinite(value), "a number is none")
    return float(value)


def _flag(value: Any) -> bool:
    _require(isinstance(value, bool), "a yes or no is neither")
    return value


def _box(value: Any) -> Box:
    _require(isinstance(value, list) and len(value) == 4, "a box is none")
    x1, y1, x2, y2 = map(_number, value)
    return x1, y1, x2, y2


def _spot(value: dict[str, Any]) -> Spot:
    return Spot(_text(value["photo"]), _box(value["box"]), _text(value["crop"]))


def _face(value: dict[str, Any]) -> AlbumFace:
    return AlbumFace(**{key: _TYPES[kind](value[key]) for key, kind in _fields(AlbumFace)})


def _fields(kind: Any) -> list[tuple[str, str]]:
    return [(each.name, str(each.type)) for each in dataclasses.fields(kind)]


_TYPES: dict[str, Any] = {"str": _text, "int": _count, "float": _number, "bool": _flag, "Box": _box}
