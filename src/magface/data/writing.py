"""What writers of data sets share: images that cannot be read, names that any system takes, work that goes on."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from magface import images, io
from magface.data.face_set import FaceSet, Record
from magface.errors import DataError, MagfaceError
from magface.threads import READERS, prefetch

Progress = Callable[[int], object]
Failures = list[tuple[str, str]]

UNFINISHED = ".unfinished"
"""Name of the file that marks a folder in which a writer was stopped, or is at work."""

_AHEAD = 128
_LONGEST = 100
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_ENDINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


def encoded(
    faces: FaceSet, failures: Failures, progress: Progress | None = None, rows: Sequence[int] | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Rows and bytes of images, in order; None for one that cannot be read, which is added to `failures`.

    Args:
        faces: the set.
        failures: name and reason of every image that is left out.
        progress: called as images are read.
        rows: which images; all if not given.
    """

    def attempt(row: int) -> bytes | str:
        try:
            return faces.encoded(row) or f"{faces.names[row]} is empty; get it again."
        except MagfaceError as error:
            return str(error)

    rows = range(len(faces)) if rows is None else rows
    for row, content in zip(rows, prefetch(attempt, rows, workers=READERS, limit=_AHEAD), strict=True):
        if isinstance(content, str):
            failures.append((faces.names[row], content))
        yield row, None if isinstance(content, str) else content
        if progress is not None:
            progress(1)


def some(faces: FaceSet, failures: Failures) -> None:
    """Check that not all images were left out.

    Raises:
        DataError: they were.
    """
    if len(failures) == len(faces):
        first = f": {failures[0][1]}" if failures else "."
        raise DataError(f"there is no image that can be read{first}")


def ending(content: bytes) -> str:
    """Ending of a file name for an encoded image; `.jpg` where the content is none of those that are told apart.

    Example:
        >>> ending(b"RIFF----WEBPVP8 ")
        '.webp'
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((found for start, found in _ENDINGS if content.startswith(start)), ".jpg")


def clean(text: str) -> str:
    """A name of a file or folder that every system takes, and that stays where it is put; `_` for nothing.

    Example:
        >>> clean("../secret"), clean("nul"), clean("Zoë")
        ('_secret', '_nul', 'Zoë')
    """
    text = _FORBIDDEN.sub("_", text).lstrip(". ").encode()[:_LONGEST].decode(errors="ignore").rstrip(". ")
    return f"_{text}" if not text or _RESERVED.match(text) else text


class Layout:
    """Paths `person/image.jpg` for images of a set, each once, also where a system does not tell `A` from `a`.

    Example:
        >>> layout = Layout()
        >>> layout.path("Ann", "Ann/1.jpg", b""), layout.path("ann", "web/1.jpg", b""), layout.path("", "7", b"GIF8")
        ('Ann/1.jpg', 'ann~2/web_1.jpg', 'unknown/7.gif')
    """

    def __init__(self, spaces: bool = True, taken: str = "") -> None:
        """Start with no path.

        Args:
            spaces: whether paths may have some.
            taken: a name beside the people's folders.
        """
        self._spaces = spaces
        self._taken = {taken}
        self._count: dict[str, int] = {}
        self._folders: dict[str, str] = {}

    def path(self, person: str, name: str, content: bytes | None) -> str:
        """Path of the next image.

        Args:
            person: of the image; `""` where nobody knows.
            name: of the image; where it starts with the person, the rest is the name of the file.
            content: of the image, which decides on the ending where `name` has none.
        """
        if person not in self._folders:
            self._folders[person] = self._once(self._clean(person or "unknown"), "")
        name = name.removeprefix(f"{person}/") if person else name
        stem, dot, suffix = name.rpartition(".")
        if f".{suffix.lower()}" not in images.EXTENSIONS or not stem:
            stem, dot, suffix = name, "", ending(content or b"")
        return self._once(f"{self._folders[person]}/{self._clean(stem)}", dot + suffix)

    def _clean(self, text: str) -> str:
        return clean(text if self._spaces else re.sub(r"\s", "_", text))

    def _once(self, start: str, suffix: str) -> str:
        chosen = start + suffix
        key = _key(chosen)
        while _key(chosen) in self._taken:
            self._count[key] = self._count.get(key, 1) + 1
            chosen = f"{start}~{self._count[key]}{suffix}"
        self._taken.add(_key(chosen))
        return chosen


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def images_in(
    folder: Path, faces: FaceSet, layout: Layout, failures: Failures, progress: Progress | None = None
) -> Iterator[tuple[str, Record]]:
    """Write images as files, and give the path of each within the folder; those that are there and right are left.

    Raises:
        DataError: there was none that could be read.
        OSError: a file cannot be written.
    """
    for (_, content), record in zip(encoded(faces, failures, progress), faces.records(), strict=True):
        path = layout.path(record.person, record.name, content)
        if content is None:
            continue
        file = folder / path
        if not (file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content):
            file.parent.mkdir(exist_ok=True)
            put(file, content)
        yield path, record
    some(faces, failures)


@contextmanager
def unfinished(folder: str | os.PathLike[str], form: str, faces: FaceSet) -> Iterator[Path]:
    """Mark a folder as long as it is being filled; where the block is left by an error or a kill, the mark stays.

    A folder that is there and not empty is taken only with the mark of the same work.

    Args:
        folder: made where it is missing.
        form: what is being written there.
        faces: the set that is being written.

    Raises:
        DataError: the folder holds something else, or another process writes to it.
    """
    folder = Path(folder)
    mark = folder / UNFINISHED
    said = _fingerprint(form, faces).encode()
    if mark.is_file():
        if mark.read_bytes() not in (b"", said):  # nothing, where the disk was full
            raise DataError(f"{folder} holds unfinished work on another set; delete it, or choose another place.")
    elif os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} exists; delete it, or choose another place.")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_bytes(said)
    try:
        with io.locked(mark):
            yield folder
            if hasattr(os, "sync"):
                os.sync()  # once, where flushing each of a million files would take a day
    except BlockingIOError as error:
        raise DataError(f"another run is writing to {folder}; wait for its end, or choose another place.") from error
    mark.unlink(missing_ok=True)


def put(path: Path, content: bytes) -> None:
    """Write a file so that a kill or a full disk leaves the old one, none or a hidden part; see `unfinished`."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)


def _fingerprint(form: str, faces: FaceSet) -> str:
    """Hex sha256 of all but the contents."""
    digest = hashlib.sha256(form.encode())
    for record in faces.records():
        facts = (record.name, record.person, record.source, record.suspect)
        digest.update(ascii(facts).encode())
    return digest.hexdigest()
