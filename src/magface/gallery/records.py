"""What a gallery keeps: people, and the faces that each of them is known by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import time as now

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.geometry import magnitude
from magface.types import F32

LONGEST = 500
"""Characters of a name or label, at most."""

SMALLEST = 1e-12
"""Of the largest number of an embedding, at least; at most its inverse. Squares and sums of others leave float32."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A face to enroll.

    Attributes:
        person: name of the person, unique in a gallery; 1 to 500 characters, none of them a control character.
        vector: `(D,)` float32, raw embedding, finite, its largest number between 1e-12 and 1e12.
        score: quality, 0 to 100.
        source: where the picture is, a path or an address; "" when it is not known.
        box: `[x1, y1, x2, y2]` of the face in that picture, pixels; None for a picture that is the aligned crop.
        crop: the aligned crop as a JPEG or PNG file; empty where it is not kept.
        time: when the face was enrolled, seconds since 1970 in UTC; now, if not given.

    Raises:
        DataError: a field is out of range; the message names the person.
    """

    person: str
    vector: F32
    score: float
    source: str = ""
    box: Box | None = None
    crop: bytes = b""
    time: float = field(default_factory=now)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", np.ascontiguousarray(self.vector, np.float32))
        check_name(self.person, "a person")
        if self.vector.ndim != 1 or not np.isfinite(self.vector).all() or not self.vector.any():
            raise DataError(f"the embedding of {self.person} is no (D,) array of finite numbers, or all zeros.")
        if not SMALLEST <= np.abs(self.vector).max() <= 1 / SMALLEST:
            raise DataError(f"the embedding of {self.person} is too long or too short to be one of a face.")
        if not 0 <= self.score <= 100:
            raise DataError(f"the quality of a face of {self.person} is {self.score}; it must be 0 to 100.")
        if not math.isfinite(self.time):
            raise DataError(f"the time of a face of {self.person} is not finite.")
        if self.box is not None:
            object.__setattr__(self, "box", _four(self.box, self.person))


def _four(box: Box, person: str) -> Box:
    """A box as four floats."""
    try:
        x1, y1, x2, y2 = map(float, box)
    except (TypeError, ValueError):
        x1 = y1 = x2 = y2 = math.nan
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise DataError(f"the box of a face of {person} is no four finite numbers.")
    return x1, y1, x2, y2


@dataclass(frozen=True, slots=True, eq=False)
class StoredFace:
    """A face that is enrolled.

    Attributes:
        id: of the face, never used again once it is removed.
        person: id of the person.
        vector: `(D,)` float32, raw: its direction says who, its magnitude how far to trust it.
        score: quality, 0 to 100.
        source: where the picture is; "" when it is not known.
        box: `[x1, y1, x2, y2]` in that picture, pixels; None for a picture that is the aligned crop.
        crop: the aligned crop as a JPEG or PNG file; empty where it is not kept.
        time: when the face was enrolled, seconds since 1970 in UTC.
        marked: whether its quality asks for a look by a person.
    """

    id: int
    person: int
    vector: F32
    score: float
    source: str
    box: Box | None
    crop: bytes
    time: float
    marked: bool

    @property
    def magnitude(self) -> float:
        """Length of the embedding, > 0."""
        return float(magnitude(self.vector))


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Somebody who is enrolled.

    Attributes:
        id: of the person, never used again once the person is removed.
        name: unique in the gallery.
        template: `(D,)` float32, raw: the magnitude-weighted fusion of all faces of the person.
        faces: how many there are, >= 1.
        labels: what searches can be restricted to, sorted.
    """

    id: int
    name: str
    template: F32
    faces: int
    labels: tuple[str, ...] = ()

    @property
    def magnitude(self) -> float:
        """Length of the template: the quality of the person's pictures together."""
        return float(magnitude(self.template))


@dataclass(frozen=True, slots=True, eq=False)
class NewPerson:
    """A person to add with their faces, at least one.

    Attributes:
        name: unique in the gallery.
        template: `(D,)` float32, raw.
        faces: what is enrolled, `person` of each is `name`.
        marked: for each face whether it is marked.
        labels: of the person.
    """

    name: str
    template: F32
    faces: tuple[Entry, ...]
    marked: tuple[bool, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is.

    Attributes:
        people: in the gallery.
        faces: of all of them.
        marked: faces that are marked.
    """

    people: int
    faces: int
    marked: int


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What Q searches found, nearest person first.

    Attributes:
        people: `(Q, K)` int64, ids of people; -1 where there are fewer than K.
        cosine: `(Q, K)` float32, of probe and template, not rising along K; -inf where there is nobody.
        searched: people who could be found, those with the label that was asked for; None where a store does not count
            them, and everybody is taken to be searched.
    """

    people: NDArray[np.int64]
    cosine: F32
    searched: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How a gallery is kept and searched; chosen when it is made, kept in it.

    Attributes:
        index: `exact` compares with everybody; `approximate` with the likely ones, for more people than memory
            bandwidth allows.
        precision: of the directions in the index, `f32`, or `f16` in half the memory. The store keeps float32.
        recall: share of searches in which an approximate index must find the nearest person, 0 to 1.
        crops: whether the aligned crops of faces are kept.
    """

    index: str = field(default="exact")
    precision: str = field(default="f32")
    recall: float = 0.99
    crops: bool = True

    def __post_init__(self) -> None:
        if self.index not in ("exact", "approximate"):
            raise DataError(f"there is no index {self.index!r}; choose exact or approximate.")
        if self.precision not in ("f32", "f16"):
            raise DataError(f"there is no precision {self.precision!r}; choose f32 or f16.")
        if not 0 < self.recall <= 1:
            raise DataError(f"the recall of an index lies between 0 and 1; {self.recall} does not.")


def check_name(text: str, what: str) -> None:
    """Hold a name or label to what files, terminals and databases take.

    Raises:
        DataError: it is empty, longer than 500 characters, has space around it, or holds control characters or halves
            of surrogate pairs.

    Example:
        >>> check_name("Ann", "a person")
        >>> check_name("", "a label")
        Traceback (most recent call last):
        ...
        magface.errors.DataError: the name of a label must be 1 to 500 characters without space around it; '' is not.
    """
    if not 1 <= len(text) <= LONGEST or text != text.strip():
        raise DataError(
            f"the name of {what} must be 1 to {LONGEST} characters without space around it; {text[:40]!r} is not."
        )
    if not text.isprintable():
        raise DataError(f"the name of {what} holds characters that cannot be printed: {text[:40]!r}; leave them out.")
