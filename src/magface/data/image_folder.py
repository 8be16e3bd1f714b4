"""A folder, or a tar archive of it, with one sub-folder of 112x112 crops for each person."""

from __future__ import annotations

import csv
import hashlib
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from magface import images
from magface.errors import DataError, ImageError
from magface.types import U8

SIDE = 112
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the bytes of an image lie: a whole file, or a stretch of an archive."""

    file: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)


@dataclass(frozen=True, slots=True, eq=False)
class ImageFolder:
    """Readable crops of known people, in the order of their names; nothing is decoded twice or kept.

    Attributes:
        names: N names `person/file.jpg`, sorted, with `/` on every system.
        people: P names of people, sorted.
        labels: `(N,)` int64, index into `people`.
        sources: `(N,)` strings from the table, `""` without one.
        suspect: `(N,)` bool from the table: the label or the crop may be wrong; False without one.
        digests: N hex sha256 of the files, which tell one data set from another.
        failures: name of every image that was left out, and a sentence that says why.
    """

    names: tuple[str, ...]
    people: tuple[str, ...]
    labels: NDArray[np.int64]
    sources: NDArray[np.str_]
    suspect: NDArray[np.bool_]
    digests: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]
    _places: tuple[_Place, ...]

    @staticmethod
    def open(root: str | os.PathLike[str], table: str | os.PathLike[str] | None = None) -> ImageFolder:
        """Find the crops and try to read each one, so that none surprises later.

        Args:
            root: the folder, or a `.tar` of it (uncompressed).
            table: tab-separated file with a heading: `path`, and optionally `identity`, `source` and `suspect` (0 or
                1); only the images it names are taken, and `identity` goes before the name of the sub-folder.

        Raises:
            DataError: there is no such folder, archive or table, or no readable image in it.
        """
        found = dict(sorted(_find(Path(root))))
        rows = _read_table(Path(table)) if table is not None else {name: {} for name in found}
        failures = [
            (name, f"{name} is in the table but not in the data; copy it there.") for name in rows if name not in found
        ]
        wanted = sorted(rows.keys() & found.keys())
        with ThreadPoolExecutor() as pool:
            checked = dict(zip(wanted, pool.map(lambda name: _check(name, found[name]), wanted), strict=True))
        failures += [(name, reason) for name, (_, reason) in checked.items() if reason]
        names = [name for name in wanted if not checked[name][1]]
        if not names:
            raise DataError(
                f"{root} holds no readable {SIDE}x{SIDE} crop; it needs one sub-folder of crops for each person"
                f"{_examples(failures)}."
            )
        persons = [rows[name].get("identity") or str(PurePosixPath(name).parent) for name in names]
        people, labels = np.unique(persons, return_inverse=True)
        return ImageFolder(
            names=tuple(names),
            people=tuple(people.tolist()),
            labels=labels.astype(np.int64),
            sources=np.array([rows[name].get("source", "") for name in names]),
            suspect=np.array([rows[name].get("suspect", "0") == "1" for name in names]),
            digests=tuple(checked[name][0] for name in names),
            failures=tuple(sorted(failures)),
            _places=tuple(found[name] for name in names),
        )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> ImageFolder:
        """The images in `rows`, a mask or sorted indices; people without an image are gone and labels start at 0."""
        index = np.arange(len(self))[rows]
        kept, labels = np.unique(self.labels[index], return_inverse=True)
        return replace(
            self,
            names=tuple(self.names[i] for i in index),
            people=tuple(self.people[i] for i in kept),
            labels=labels.astype(np.int64),
            sources=self.sources[index],
            suspect=self.suspect[index],
            digests=tuple(self.digests[i] for i in index),
            _places=tuple(self._places[i] for i in index),
        )

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the names, labels and contents."""
        lines = zip(self.names, self.labels.tolist(), self.digests, strict=True)
        return hashlib.sha256("\n".join(map(str, lines)).encode()).hexdigest()

    def read(self, index: int) -> U8:
        """One crop, `(112, 112, 3)` uint8 RGB.

        Raises:
            ImageError: the file was changed or lost since it was checked.
        """
        try:
            return _decode(self._places[index].read(), self.names[index])
        except OSError as error:
            raise ImageError(f"{self.names[index]} cannot be read any more ({error.strerror}).") from error

    def at_least(self, images: int) -> ImageFolder:
        """Only people with so many images, not counting suspect ones."""
        counts = np.bincount(self.labels[~self.suspect], minlength=len(self.people))
        return self[counts[self.labels] >= images]

    def split(self, fraction: float, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
        """Split by person, for training and for validation.

        A hash of the name decides, so a person stays on one side whatever else joins or leaves the data.

        Args:
            fraction: share of people for validation, 0 to 1; met on average.
            seed: another number draws other people.
        """
        held = np.array([_uniform(f"{seed}/{person}") < fraction for person in self.people], bool)[self.labels]
        return self[~held], self[held]


def _find(root: Path) -> Iterator[tuple[str, _Place]]:
    if root.is_dir():
        for path in root.rglob("*"):
            name = path.relative_to(root).as_posix()
            if _is_crop(name) and path.is_file():
                yield name, _Place(path)
    elif root.is_file():
        try:
            with tarfile.open(root, "r:") as archive:
                for member in archive:
                    name = PurePosixPath(member.name).as_posix()
                    if _is_crop(name) and member.isreg():
                        yield name, _Place(root, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise DataError(f"{root} is neither a folder nor an uncompressed .tar archive.") from error
    else:
        raise DataError(f"{root} does not exist; name a folder of people, or a .tar of it.")


def _is_crop(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in _SUFFIXES and len(path.parts) > 1 and not hidden


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from error
    if not rows or "path" not in rows[0]:
        raise DataError(f"{path} needs a heading with a column `path`, and a line for each image.")
    return {row["path"]: row for row in rows}


def _check(name: str, place: _Place) -> tuple[str, str]:
    """Digest of a file, and what is wrong with it, or nothing."""
    try:
        content = place.read()
        _decode(content, name)
    except ImageError as error:
        return "", str(error)
    except OSError as error:
        return "", f"{name} cannot be read ({error.strerror})."
    return hashlib.sha256(content).hexdigest(), ""


def _decode(content: bytes, name: str) -> U8:
    crop = images.decode(content, name=name)
    if crop.shape != (SIDE, SIDE, 3):
        height, width, _ = crop.shape
        raise ImageError(f"{name} is {width}x{height}; align faces to {SIDE}x{SIDE} crops first.")
    return crop


def _examples(failures: list[tuple[str, str]]) -> str:
    return f" ({len(failures)} left out, the first because {failures[0][1].rstrip('.')})" if failures else ""


def _uniform(text: str) -> float:
    """A number within [0, 1) that only the text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
