"""Lists of image files with the person of each: MagFace's `path 0 person 0`, and insightface's `.lst`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from magface import io
from magface.data import table as tables
from magface.data import writing
from magface.data.face_set import FaceSet, Record, Stretch
from magface.errors import DataError

SUFFIXES = (".txt", ".list", ".lst")

_LINE = 1 << 16
"""Bytes of a line at most."""
_TRIED = 100
_LARGEST = 1 << 53


def read(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> FaceSet:
    r"""Read a list; no image is opened.

    A line is `path 0 person 0`, parted by spaces (MagFace; the path may hold some), or fields parted by tabs: `number
    person path` (mxnet's `im2rec`), or `1 path person`, perhaps with a box and landmarks behind it (insightface). The
    person is a whole number. A line that repeats an earlier one is left out.

    Where a table `NAME.tsv` of `write` lies beside the list, names, people and what else is known come from there.

    Args:
        path: the list.
        root: folder that relative paths start from; that of the list if not given.

    Raises:
        DataError: the list cannot be read, or none of its first images is there; or a line is of another form, or gives
            an image another person than before, and the sentence names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "train.list").write_text("ann/1.jpg 0 0 0\nbob/1.jpg 0 1 0\n")
        ...     for person in ("ann", "bob"):
        ...         Path(folder, person).mkdir()
        ...         _ = Path(folder, person, "1.jpg").write_bytes(b"an image")
        ...     faces = read(Path(folder, "train.list"))
        >>> faces.names, faces.people
        (('ann/1.jpg', 'bob/1.jpg'), ('0', '1'))
    """
    path = Path(path)
    start = path.parent if root is None else Path(root)
    people: dict[str, tuple[int, str]] = {}
    failures = []
    for number, line in _lines(path):
        image, person = _fields(path, number, line)
        known = people.setdefault(image, (number, person))
        if known[1] != person:
            raise DataError(f"{path}, lines {known[0]} and {number} give {image} two people; keep one of the lines.")
        if known[0] != number:
            failures.append((image, f"{path}, line {number} repeats line {known[0]}, and was left out."))
    if not people:
        raise DataError(f"{path} lists no image.")
    if not any(map(os.path.isfile, islice((start / image for image in people), _TRIED))):
        raise DataError(f"{start / next(iter(people))} does not exist; name the folder that the paths start from.")
    records = [Record(image, person, Stretch(start / image)) for image, (_, person) in people.items()]
    return FaceSet.of(_described(path, records), failures)


def write(
    path: str | os.PathLike[str],
    faces: FaceSet,
    progress: Callable[[int], object] | None = None,
) -> tuple[tuple[str, str], ...]:
    """Write images, bit for bit, into the folder `NAME` beside the list `NAME.txt`, and what is known to `NAME.tsv`.

    People are numbered in their order. Paths have no spaces, so that the official code reads the list. The list comes
    last: where it is there, all is; a writer that was stopped goes on.

    Args:
        path: ends in `.txt` or `.list` for MagFace's form, in `.lst` for mxnet's.
        faces: the set.
        progress: called as images are written.

    Returns:
        Name and reason of every image that cannot be read and was left out.

    Raises:
        DataError: the list or its folder is there and not from a stopped writer of the same set, the name has another
            ending, or no image can be read.
        OSError: a file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} must end in {', '.join(SUFFIXES)}.")
    if len(path.name.split()) > 1:
        raise DataError(f"{path.name!r} has spaces, which part the fields of a list; choose another name.")
    folder = path.with_suffix("")
    for target in (path, path.with_suffix(".tsv")):
        if os.path.lexists(target) and not (folder / writing.UNFINISHED).is_file():
            raise DataError(f"{target} exists; delete it, or choose another place.")
    label = {person: number for number, person in enumerate(faces.people)}
    form = "{number}\t{label}\t{path}\n" if path.suffix.lower() == ".lst" else "{path} 0 {label} 0\n"
    failures: writing.Failures = []
    with writing.unfinished(folder, f"list {path.name}", faces):
        layout = writing.Layout(spaces=False)
        found = writing.images_in(folder, faces, layout, failures, progress)
        rows = [(f"{folder.name}/{image}", record) for image, record in found]
        tables.write(path.with_suffix(".tsv"), rows)
        with io.atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            for number, (image, record) in enumerate(rows):
                file.write(form.format(number=number, label=label[record.person], path=image))
    return tuple(failures)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with something on them, each of bounded length."""
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(_LINE):
                number += 1
                if len(line) == _LINE or b"\0" in line:
                    raise DataError(f"{path}, line {number} is too long or no text; give a list of images.")
                if text := line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").strip():
                    yield number, text
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from error


def _fields(path: Path, number: int, line: str) -> tuple[str, str]:
    """Path and person of a line."""
    fields = line.split("\t")
    if len(fields) == 1:
        fields = line.rsplit(" ", 3)
        image, person = (fields[0], fields[2]) if len(fields) == 4 else ("", "")
    elif len(fields) >= 3 and _whole(fields[1]):
        image, person = fields[-1], fields[1]
    else:
        image, person = (fields[1], fields[2]) if len(fields) >= 3 else ("", "")
    if not image or not _whole(person):
        wanted = "'path 0 person 0', or 'number<tab>person<tab>path'"
        raise DataError(f"{path}, line {number} must be {wanted}, with a whole number for the person.")
    return image, f"{float(person):.0f}"


def _whole(text: str) -> bool:
    """Whether it is a whole number from 0, which mxnet may write as `7.000000`."""
    try:
        number = float(text)
    except ValueError:
        return False
    return 0 <= number <= _LARGEST and number.is_integer() and text.isascii()


def _described(path: Path, records: list[Record]) -> list[Record]:
    """The records with what a writer's own table says of them.

    Raises:
        DataError: its people are others than those of the list.
    """
    beside = path.with_suffix(".tsv")
    rows = {image: row for image, row in tables.read(beside).items() if "name" in row} if beside.is_file() else {}
    found = [tables.described(record, rows.get(record.name, {})) for record in records]
    people = {(here.person, there.person) for here, there in zip(records, found, strict=True)}
    if not len(people) == len({here for here, _ in people}) == len({there for _, there in people}):
        raise DataError(f"{beside} parts people otherwise than {path.name}; delete one of the two.")
    return found
