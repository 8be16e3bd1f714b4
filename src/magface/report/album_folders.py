"""A folder for each person with the photos that they are on: `people/NAME/`, and `unknown/`.

What is put there is written down in `.album.json` before it is made, and only what stands there, and is still as it was
made, is ever removed or replaced; a copy of a photo that is gone is not removed. Photos themselves are only read.
Everything is added before anything is removed, and to do it again completes what a kill left undone.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magface import io
from magface.errors import DataError
from magface.report.album_state import AlbumFace, Person

MANIFEST = ".album.json"
PLACES = PEOPLE, UNKNOWN = "people", "unknown"

_VERSION = 1
_LARGEST = 1 << 30
_LONGEST, _LONGEST_BYTES, _LONGEST_NAME = 80, 200, 255
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
_UNSAFE = set('/\\:*?"<>|')
_NAME = re.compile(rf"(?:{PEOPLE}/[^/\0]+|{UNKNOWN})/[^/\0]+")
_PART = re.compile(r"\.\d+\.part")
_COARSE_NS = 2_000_000_000
"""Some file systems keep times in steps of two seconds."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A link or copy.

    Attributes:
        photo: that it is of, as a path that the system takes.
        bytes: of the photo when it was copied; -1 for a link.
        modified_ns: likewise.
    """

    photo: str
    bytes: int = -1
    modified_ns: int = -1

    def stands_at(self, path: Path) -> bool:
        """Whether it is there, and is as it was made."""
        if self.bytes < 0:
            return path.is_symlink() and path.readlink() == Path(self.photo)
        if path.is_symlink() or not path.is_file():
            return False
        status = path.stat()
        return status.st_size == self.bytes and abs(status.st_mtime_ns - self.modified_ns) <= _COARSE_NS

    @property
    def is_the_last(self) -> bool:
        """Whether it is a copy of a photo that is gone."""
        return self.bytes >= 0 and not Path(self.photo).exists()


_Manifest = dict[str, tuple[_Made, ...]]
"""By where, what may stand there: more than one while something is replaced."""


def check_place(folder: Path) -> None:
    """Refuse a folder in which somebody else put what has the name of our folders.

    Raises:
        DataError: there is such a thing.
    """
    for place in PLACES:
        if os.path.lexists(folder / place) and not (folder / MANIFEST).exists():
            raise DataError(f"{folder / place} was not made by this command; choose another folder with -o.")


def path_of(name: str) -> str:
    r"""Path of a photo by the name that results have: escapes stand for bytes that are not Unicode.

    Example:
        >>> path_of("/photos/a.jpg")
        '/photos/a.jpg'
    """
    if os.path.lexists(name) or "\\x" not in name:
        return name
    raw = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return os.fsdecode(raw)


def folder_name(name: str) -> str:
    r"""Name of a folder that every file system takes, made of any name.

    Example:
        >>> [folder_name(name) for name in ("Ann", "../etc", "AC/DC\\", "nul", "...", "\U0001f600")]
        ['Ann', '_._etc', 'AC_DC_', 'nul_', '_', '😀']
    """
    text = unicodedata.normalize("NFC", name)
    safe = "".join("_" if sign in _UNSAFE or unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)
    safe = f"_{safe[1:]}" if safe.startswith(".") else safe
    safe = _shortened(safe[:_LONGEST], _LONGEST_BYTES).rstrip(". ") or "_"
    return f"{safe}_" if safe.split(".")[0].strip().lower() in _RESERVED else safe


def folders(people: Sequence[Person]) -> dict[int, str]:
    """Folder of each person, by id: its name, or `person-ID`; no two alike, in letters of any size."""
    taken: set[str] = set()
    result = {}
    for person in sorted(people, key=lambda person: (person.name != "", person.id)):
        name = folder_name(person.name) if person.name else f"person-{person.id}"
        result[person.id] = _free(f"{PEOPLE}/", name, taken)
    return result


def arrange(folder: Path, people: Sequence[Person], unknown: Sequence[AlbumFace], how: str) -> int:
    """Bring the folders to what is known now.

    Args:
        folder: of the album.
        people: each gets a folder with the photos that they are on.
        unknown: photos on which there is nobody but these go into `unknown/`.
        how: `link` for symbolic links, `copy` for copies, `none` for no folders.

    Returns:
        How many files were left alone: links or copies that somebody changed, and copies of photos that are gone.

    Raises:
        DataError: one of our folders is a link, or the file system has no links.
        OSError: something cannot be written.
    """
    made = _read_manifest(folder)
    photos = {} if how == "none" else _wanted(folder, people, unknown, made)
    wanted = {name: _entry(photo, how) for name, photo in photos.items()}
    if not made and not wanted:
        return 0
    for place in {folder / PEOPLE, *((folder / name).parent for name in (*made, *wanted))}:
        if place.is_symlink():
            raise DataError(f"{place} is a link; remove it, or put it elsewhere, and run again.")
    there = {name for name in made if os.path.lexists(folder / name)}
    changed = {name for name in there if not any(entry.stands_at(folder / name) for entry in made[name])}
    _write_manifest(folder, made | {name: (*made.get(name, ()), entry) for name, entry in wanted.items()})
    for name, entry in wanted.items():
        if name not in changed and not (name in there and entry.stands_at(folder / name)):
            _make(folder / name, entry)
    left = {name for name in there - wanted.keys() - changed if any(entry.is_the_last for entry in made[name])}
    for name in there - wanted.keys() - changed - left:
        (folder / name).unlink()
    for place in sorted({(folder / name).parent for name in made}):
        _tidy(place)
    _tidy(folder / PEOPLE)
    _write_manifest(folder, {name: (entry,) for name, entry in wanted.items()})
    return len(changed | left)


def _wanted(folder: Path, people: Sequence[Person], unknown: Sequence[AlbumFace], made: _Manifest) -> dict[str, str]:
    """Path of each photo that is to stand in the folders, by where; what stands there keeps its name."""
    places = folders(people)
    groups = {places[person.id]: {face.photo for face in person.faces} for person in people}
    groups[UNKNOWN] = {face.photo for face in unknown}.difference(*groups.values())
    kept = {(name.rpartition("/")[0], entry.photo): name for name, entries in made.items() for entry in entries}
    result: dict[str, str] = {}
    for place, photos in groups.items():
        paths = sorted(map(path_of, photos))
        old = {kept[place, path]: path for path in paths if (place, path) in kept}
        taken = {name.casefold() for name in old}
        new = [path for path in paths if (place, path) not in kept]
        result |= old
        result |= {_free(f"{place}/", os.path.basename(path), taken, folder): path for path in new}  # noqa: PTH119
    return result


def _free(before: str, name: str, taken: set[str], folder: Path | None = None) -> str:
    """A name that nobody has, in letters of any size; it is taken then. The folder may hold files of others."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 bytes of any kind
    number = 1
    while True:
        end = f" ({number}){suffix}" if number > 1 else suffix
        found = f"{before}{_shortened(stem, _LONGEST_NAME - len(os.fsencode(end)))}{end}"
        if found.casefold() not in taken and (folder is None or not os.path.lexists(folder / found)):
            taken.add(found.casefold())
            return found
        number += 1


def _shortened(text: str, longest: int) -> str:
    """As much of a text as fits into so many bytes."""
    while len(os.fsencode(text)) > longest:
        text = text[:-1]
    return text


def _entry(photo: str, how: str) -> _Made:
    if how == "link":
        return _Made(photo)
    try:
        status = Path(photo).stat()
    except OSError:  # it is gone, so there is nothing to copy
        return _Made(photo, 0, 0)
    return _Made(photo, status.st_size, status.st_mtime_ns)


def _make(path: Path, entry: _Made) -> None:
    """Put a link or a copy there, whole or not at all; of a photo that is gone there is no copy.

    Raises:
        DataError: the file system has no links.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part")
    part.unlink(missing_ok=True)
    if entry.bytes < 0:
        try:
            part.symlink_to(entry.photo)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise DataError(
                f"there can be no links in {path.parent} ({error.strerror}); --copy copies the photos, --json goes "
                "without folders."
            ) from error
    elif Path(entry.photo).is_file():
        shutil.copy2(entry.photo, part)
    else:
        return
    part.replace(path)


def _tidy(place: Path) -> None:
    """Remove what a killed run left in a folder, and the folder if it is empty."""
    if place.is_dir() and not place.is_symlink():
        for left in [each for each in place.iterdir() if _PART.fullmatch(each.name)]:
            left.unlink()
        with suppress(OSError):  # it is not empty
            place.rmdir()


def _write_manifest(folder: Path, made: _Manifest) -> None:
    files = {name: [dataclasses.astuple(entry) for entry in entries] for name, entries in made.items()}
    io.write_atomic(folder / MANIFEST, json.dumps({"version": _VERSION, "files": files}, indent=1))


def _read_manifest(folder: Path) -> _Manifest:
    """What was made; of a file that is damaged nothing is believed, and so nothing is removed.

    Raises:
        DataError: it is damaged.
    """
    path = folder / MANIFEST
    try:
        if path.exists() and not (
            path.is_file() and path.stat().st_size <= _LARGEST
        ):  # a pipe waits, a device never ends
            raise ValueError
        files = json.loads(path.read_bytes())["files"]
        made = {name: tuple(_Made(*entry) for entry in entries) for name, entries in files.items()}
        sound = all(
            _NAME.fullmatch(name)
            and all(part not in (".", "..") for part in name.split("/"))
            and all(
                isinstance(each.photo, str) and type(each.bytes) is type(each.modified_ns) is int for each in entries
            )
            for name, entries in made.items()
        )
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError):
        sound = False
    if not sound:
        raise DataError(
            f"{path} is damaged, so nobody knows which files in {PEOPLE}/ and {UNKNOWN}/ may be replaced; look what is "
            "there, remove it and the two folders, and run again."
        )
    return made
