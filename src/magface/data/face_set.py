"""Encoded face images with names and people, wherever their bytes lie."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from magface import images
from magface.errors import DataError, ImageError, MagfaceError
from magface.threads import READERS, prefetch
from magface.types import U8

SIDE = 112
_AHEAD = 128
_MAX_BYTES = 1 << 31


class Place(Protocol):
    """Where the bytes of an encoded image lie."""

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: the file cannot be read.
            DataError: what lies there is damaged.
        """


@dataclass(frozen=True, slots=True)
class Stretch:
    """A whole file, or a stretch of one."""

    file: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """See `Place`."""
        status = self.file.stat()
        size = status.st_size if self.size < 0 else self.size
        if not stat.S_ISREG(status.st_mode) or size >= _MAX_BYTES:  # a pipe waits, a device never ends
            raise OSError(errno.EINVAL, "it is a folder, pipe or device, or larger than 2 GB", str(self.file))
        if self.offset + size > status.st_size:
            raise DataError(f"{self.file} has become shorter; get it again, then open it again.")
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(size)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes in memory."""

    content: bytes

    def read(self) -> bytes:
        """See `Place`."""
        return self.content


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a set.

    Attributes:
        name: unlike all others of the set; `/` parts folders on every system.
        person: name of the person; `""` where nobody knows.
        place: where its bytes lie.
        source: where the image came from, `""` where nobody wrote it down.
        suspect: the label or the image may be wrong.
    """

    name: str
    person: str
    place: Place
    source: str = ""
    suspect: bool = False


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Images of known people; nothing is decoded before it is asked for, or kept.

    Attributes:
        names: N names.
        people: P names of people, sorted.
        labels: `(N,)` int64, index into `people`.
        sources: `(N,)` strings.
        suspect: `(N,)` bool.
        places: where the N encoded images lie.
        failures: name of every image that was left out, and a sentence that says why.
    """

    names: tuple[str, ...]
    people: tuple[str, ...]
    labels: NDArray[np.int64]
    sources: NDArray[np.str_]
    suspect: NDArray[np.bool_]
    places: tuple[Place, ...]
    failures: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def of(records: Sequence[Record], failures: Iterable[tuple[str, str]] = ()) -> FaceSet:
        """A set of `records`, in their order.

        Raises:
            DataError: two have one name.

        Example:
            >>> faces = FaceSet.of([Record("b/1.jpg", "Bea", Held(b"")), Record("a/1.jpg", "Abe", Held(b""))])
            >>> faces.people, faces.labels
            (('Abe', 'Bea'), array([1, 0]))
        """
        names = tuple(record.name for record in records)
        if len(set(names)) < len(names):
            name = Counter(names).most_common(1)[0][0]
            raise DataError(f"two images are called {name}; give each a name of its own.")
        people = sorted({record.person for record in records})
        index = {person: label for label, person in enumerate(people)}
        return FaceSet(
            names=names,
            people=tuple(people),
            labels=np.array([index[record.person] for record in records], np.int64),
            sources=np.array([record.source for record in records], np.str_),
            suspect=np.array([record.suspect for record in records], bool),
            places=tuple(record.place for record in records),
            failures=tuple(sorted(failures)),
        )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> FaceSet:
        """The images in `rows`, a mask or indices; people without an image are gone and labels start at 0."""
        index = np.arange(len(self))[rows]
        kept, labels = np.unique(self.labels[index], return_inverse=True)
        return replace(
            self,
            names=tuple(self.names[i] for i in index),
            people=tuple(self.people[i] for i in kept),
            labels=labels.astype(np.int64),
            sources=self.sources[index],
            suspect=self.suspect[index],
            places=tuple(self.places[i] for i in index),
        )

    def records(self) -> Iterator[Record]:
        """The images one by one, as `of` takes them."""
        columns = zip(self.names, self.labels, self.places, self.sources.tolist(), self.suspect.tolist(), strict=True)
        for name, label, place, source, suspect in columns:
            yield Record(name, self.people[label], place, source, suspect)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """N hex sha256 of the encoded images; `""` for one that cannot be read."""

        def digest(index: int) -> str:
            try:
                return hashlib.sha256(self.encoded(index)).hexdigest()
            except MagfaceError:
                return ""

        return tuple(prefetch(digest, range(len(self)), workers=READERS, limit=_AHEAD))

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 of the names, people and contents."""
        persons = [self.people[label] for label in self.labels]
        lines = zip(self.names, persons, self.digests, strict=True)
        return hashlib.sha256("\n".join(map(str, lines)).encode(errors="surrogateescape")).hexdigest()

    def encoded(self, index: int) -> bytes:
        """The bytes of one image file.

        Raises:
            ImageError: they cannot be read.
            DataError: what holds them is damaged.
        """
        try:
            return self.places[index].read()
        except OSError as error:
            raise ImageError(f"{self.names[index]} cannot be read ({error.strerror}); check the file.") from error

    def image(self, index: int) -> U8:
        """One image, `(H, W, 3)` uint8 RGB of any size.

        Raises:
            ImageError: it cannot be read or decoded.
            DataError: what holds it is damaged.
        """
        return images.decode(self.encoded(index), name=self.names[index])

    def read(self, index: int) -> U8:
        """One aligned crop, `(112, 112, 3)` uint8 RGB.

        Raises:
            ImageError: it cannot be read or decoded, or has another size.
            DataError: what holds it is damaged.
        """
        return aligned(self.image(index), self.names[index])

    def checked(self, progress: Callable[[int], object] | None = None) -> FaceSet:
        """Only the crops that can be read, so that none surprises later; the others are in `failures`.

        Args:
            progress: called as images are read.

        Raises:
            DataError: there is none.
        """

        def reason(index: int) -> str:
            try:
                self.read(index)
            except MagfaceError as error:
                return str(error)
            return ""

        reasons = []
        for found in prefetch(reason, range(len(self)), workers=READERS, limit=_AHEAD):
            reasons.append(found)
            if progress is not None:
                progress(1)
        return self.without(reasons)

    def without(self, reasons: Sequence[str]) -> FaceSet:
        """Only the images without a reason against them; the others are in `failures`.

        Args:
            reasons: N sentences, `""` for an image that stays.

        Raises:
            DataError: none stays.
        """
        failures = [(name, why) for name, why in zip(self.names, reasons, strict=True) if why]
        if len(failures) == len(self):
            first = f", the first because {failures[0][1].rstrip('.')}" if failures else ""
            raise DataError(f"there is no readable {SIDE}x{SIDE} crop ({len(failures)} left out{first}).")
        kept = self[np.array([not why for why in reasons], bool)]
        return replace(kept, failures=tuple(sorted([*self.failures, *failures])))

    def at_least(self, images: int) -> FaceSet:
        """Only people with so many images, not counting suspect ones."""
        counts = np.bincount(self.labels[~self.suspect], minlength=len(self.people))
        return self[counts[self.labels] >= images]

    def split(self, fraction: float, seed: int = 0) -> tuple[FaceSet, FaceSet]:
        """Split by person, for training and for validation.

        A hash of the name decides, so a person stays on one side whatever else joins or leaves the data.

        Args:
            fraction: share of people for validation, 0 to 1; met on average.
            seed: another number draws other people.
        """
        held = np.array([_uniform(f"{seed}/{person}") < fraction for person in self.people], bool)[self.labels]
        return self[~held], self[held]


def aligned(image: U8, name: str) -> U8:
    """The image, when it is a crop of 112x112.

    Raises:
        ImageError: it is not.
    """
    if image.shape != (SIDE, SIDE, 3):
        height, width, _ = image.shape
        raise ImageError(f"{name} is {width}x{height}; make {SIDE}x{SIDE} crops with `magface data align` first.")
    return image


def _uniform(text: str) -> float:
    """A number within [0, 1) that only the text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
