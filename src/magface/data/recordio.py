"""RecordIO files `.rec` of encoded faces in insightface's form, read and written without mxnet.

```
FOLDER/train.rec     the records, one behind the other
FOLDER/train.idx     a line `key <tab> byte` for each record
FOLDER/property      people,height,width
FOLDER/train.tsv     names, which the other files cannot hold; only `write` makes it
```

A record is the magic word, a word of 3 bits (whole, first, middle or last part) and 29 bits (bytes), the bytes, and
zeros up to the next multiple of 4. Where the bytes hold the magic word at such a multiple, the writer takes it out and
goes on with another part. The bytes are a header `flag, label, id, id2`, then `flag` more labels of which the first
counts, then the image. Insightface's files have a record of key 0 without an image, whose first label is the key behind
the last image; keys from there on are people, and no images.
"""

from __future__ import annotations

import csv
import os
import struct
import weakref
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from magface import io
from magface.data.face_set import FaceSet
from magface.errors import DataError, ImageError
from magface.threads import READERS, prefetch

I64 = NDArray[np.int64]

_MAGIC = struct.pack("<I", 0xCED7230A)
_FRAME = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEAD = np.dtype([("flag", "<u4"), ("label", "<f4"), ("id", "<u8"), ("id2", "<u8"), ("first", "<f4")])
_EXACT = 1 << 24
"""Whole numbers up to here have a float32 of their own."""
_LARGEST = 1 << 30
"""Bytes of a record at most."""
_MOST_PARTS = 1 << 14
_MOST_DAMAGES = 1000
_LONGEST_SOURCE = 255
_BUFFER = 1 << 16
_AHEAD = 128
_TITLES = ("key", "bytes", "path", "identity", "source", "suspect")


def read(path: str | os.PathLike[str]) -> FaceSet:
    """Find the images of a `.rec`; none is decoded.

    The records are found by their own lengths, so no index can lead to a wrong image. The `.idx` only says how the
    records are called: where it is missing, the ids within the records do (their numbers, from 0, where two ids are the
    same); where it lists another number of records or other places, they do too, and `failures` says so. Every record
    counts, in the order of the keys.

    A damaged stretch, or the record that a cut leaves incomplete, is one of `failures`, and so is an image whose label
    is not a whole number from 0 to 16,777,215 (float32 holds no others exactly). What surrounds it is used.

    Images are called `label/key` and people by their label, in 8 digits, since the format has no names. Where a `.tsv`
    of `write` lies beside the file and fits its keys, sizes and labels, names, sources and suspicion come from there.

    Args:
        path: the `.rec`.

    Raises:
        DataError: the file cannot be read, holds no image, or is damaged in more than 1,000 places.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe waits, a device never ends
            raise DataError(f"{path} is no file; name a .rec.")
        records, damages = _scan(path)
        listed = _read_index(path.with_suffix(".idx"))
    except OSError as error:
        raise DataError(f"cannot read {error.filename or path} ({error.strerror}); check the path.") from error
    keys, failures = _keys(path, records, listed)
    chosen, notes = _images(path, records, keys)
    shown, wrong = _labelled(path, records, keys, chosen)
    if not len(shown):
        reason = (*damages, *failures, *notes, *wrong, ("", f"{path} holds no image; get the file again."))[0][1]
        raise DataError(f"there is no usable image in {path}: {reason}")
    failures = [*damages, *failures, *notes, *wrong]
    shown = shown[np.argsort(keys[shown], kind="stable")]
    return _face_set(path, records, keys, shown, failures)


def write(path: str | os.PathLike[str], faces: FaceSet, progress: Callable[[int], object] | None = None) -> None:
    """Write a `.rec` with its `.idx`, `property` and `.tsv`, each whole or not at all, the `.rec` last.

    The images are copied bit for bit, those of a person brought together, people in their order, under the keys 1 to N;
    then come record 0 and a record for each person, as insightface's tools write them. The names of images and people,
    sources and suspicion have no place there and lie in the `.tsv`, which only `read` knows.

    Args:
        path: ends in `.rec`; one set a folder, as `property` has one name.
        faces: at most 16,777,215 images and people together.
        progress: called as images are written.

    Raises:
        ImageError: an image cannot be read; `faces.checked()` leaves those out.
        DataError: there is no image, or too many, one is larger than 512 MB, or the folder holds another `.rec`.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> from magface.data.face_set import Held, Record
        >>> png = bytes.fromhex(
        ...     "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
        ...     "3a7e9b550000000a49444154789c63680000008200817775b6550000000049454e44ae426082"
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "train.rec"), FaceSet.of([Record("Ann/1.png", "Ann", Held(png))]))
        ...     Path(folder, "property").read_text(), read(Path(folder, "train.rec")).names
        ('1,1,1', ('Ann/1.png',))
    """
    path = Path(path)
    _check(path, faces)
    order = np.argsort(faces.labels, kind="stable").tolist()
    height, width, _ = faces.image(order[0]).shape
    with ExitStack() as stack:
        # the stack ends with the first, so what lies beside an old `.rec` for a moment does not fit, and `read` sees it
        rec, idx, names, sizes = (
            stack.enter_context(io.atomic_path(target))
            for target in (path, path.with_suffix(".idx"), path.with_suffix(".tsv"), path.with_name("property"))
        )
        with (
            rec.open("wb") as records,
            idx.open("w", newline="\n") as index,
            names.open("w", encoding="utf-8", errors="surrogateescape", newline="") as table,
        ):
            _write_images(_Writer(records, index), table, faces, order, progress)
        sizes.write_text(f"{len(faces.people)},{height},{width}", encoding="ascii")


class _Place(NamedTuple):
    """A record of an open file; a plain tuple, as there are millions."""

    file: _File
    number: int

    def read(self) -> bytes:
        """See `face_set.Place`."""
        return self.file.image(self.number)


class _File:
    """A `.rec` that threads read from at once, each record with one call of the system."""

    def __init__(self, path: Path, records: _Records, keys: I64) -> None:
        self._path, self._records, self._keys = path, records, keys
        self._handle: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _File, (self._path, self._records, self._keys)

    def image(self, number: int) -> bytes:
        """The encoded image of a record.

        Raises:
            OSError: the file cannot be read.
            DataError: the record is not what it was when the file was opened.
        """
        content = _content(self._bytes(int(self._records.start[number]), int(self._records.size[number])))
        if content is None or _head(content) != self._records.heads[number].tobytes():
            raise DataError(
                f"{self._path}, record {self._keys[number]} has changed since the file was opened; open it again."
            )
        return content[_HEADER.size + 4 * int.from_bytes(content[:4], "little") :]

    def _bytes(self, start: int, size: int) -> bytes:
        if not hasattr(os, "pread"):
            with self._path.open("rb") as stream:
                stream.seek(start)
                return stream.read(size)
        if self._handle is None:
            handle = os.open(self._path, os.O_RDONLY)
            self._handle = handle  # a second thread that was as fast opened another: each is closed in the end
            weakref.finalize(self, os.close, handle)
        return os.pread(self._handle, size, start)


def _content(stretch: bytes) -> bytes | None:
    """The bytes of a record, its parts joined; None where the stretch is not one record."""
    parts: list[bytes] = []
    start = 0
    while start + _FRAME.size <= len(stretch):
        magic, word = _FRAME.unpack_from(stretch, start)
        kind, size = word >> 29, word & (1 << 29) - 1
        start += _FRAME.size
        if magic != _MAGIC or kind not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
            return None
        if start + size > len(stretch):
            return None
        parts.append(stretch[start : start + size])
        start += size + -size % 4
        if kind in (_WHOLE, _LAST):
            return _MAGIC.join(parts) if start >= len(stretch) else None
    return None


def _head(content: bytes) -> bytes:
    """The header of a record and the label behind it, or what else lies there."""
    return content[: _HEAD.itemsize].ljust(_HEAD.itemsize, b"\0")


class _Records(NamedTuple):
    """The whole records of a file, in its order."""

    start: I64
    """Where they start, bytes."""
    size: I64
    """Bytes with words, parts and padding."""
    image: I64
    """Bytes of the image; below 0 where the labels do not fit in."""
    heads: NDArray[Any]
    """Their headers, `_HEAD`."""


def _scan(path: Path) -> tuple[_Records, list[tuple[str, str]]]:
    """Go from record to record by their lengths and, behind a damage, search for the next one."""
    start, stop, content, heads = array("q"), array("q"), array("q"), bytearray()
    damages: list[tuple[str, str]] = []
    with path.open("rb", buffering=_BUFFER) as stream:
        total = os.fstat(stream.fileno()).st_size
        position = 0
        while position < total:
            found = _record(stream, position, total)
            if found is not None:
                start.append(position)
                position, size, head = found
                stop.append(position)
                content.append(size)
                heads += head
                continue
            after = _next_record(stream, position, total)
            what = "is damaged" if after < total else "is damaged or cut off"
            damages.append(
                (
                    f"{path.name} at byte {position}",
                    f"{path}, record {len(start) + len(damages)} of the file, at byte {position}, {what}; the next "
                    f"{after - position} bytes are left out. Get the file again.",
                )
            )
            if len(damages) > _MOST_DAMAGES:
                raise DataError(f"{path} is no RecordIO file, or damaged all over; get the file again.")
            position = after
    table = np.frombuffer(heads, _HEAD)
    begin, end, sizes = (np.frombuffer(column, np.int64) for column in (start, stop, content))
    return _Records(begin, end - begin, sizes - _HEADER.size - 4 * table["flag"].astype(np.int64), table), damages


def _record(stream: BinaryIO, position: int, total: int) -> tuple[int, int, bytes] | None:
    """End of the record at `position`, bytes of its content, and the header with the first label; None if damaged."""
    size, head = 0, b""
    for number in range(_MOST_PARTS):
        stream.seek(position)
        stretch = stream.read(_FRAME.size + _HEAD.itemsize)
        if len(stretch) < _FRAME.size or stretch[:4] != _MAGIC:
            return None
        word = int.from_bytes(stretch[4:8], "little")
        kind, part = word >> 29, word & (1 << 29) - 1
        if kind not in ((_MIDDLE, _LAST) if number else (_WHOLE, _FIRST)):
            return None
        between = _MAGIC if number else b""
        if len(head) < _HEAD.itemsize:
            head += between + stretch[_FRAME.size : _FRAME.size + part]
        size += len(between) + part
        position += _FRAME.size + part
        if position > total or size >= _LARGEST:
            return None
        position = min(position + -part % 4, total)
        if kind in (_WHOLE, _LAST):
            return None if size < _HEADER.size else (position, size, _head(head))
    return None


def _next_record(stream: BinaryIO, position: int, total: int) -> int:
    """Where the next record seems to start: the writer left no magic word at a multiple of 4 within one."""
    position += 4
    while position < total:
        stream.seek(position)
        stretch = stream.read(_BUFFER)
        found = stretch.find(_MAGIC)
        while found >= 0:
            if found % 4 == 0 and stretch[found + 7 : found + 8] and stretch[found + 7] >> 5 in (_WHOLE, _FIRST):
                return position + found
            found = stretch.find(_MAGIC, found + 1)
        position += max(len(stretch) - _FRAME.size, 4) & ~3
    return total


def _read_index(path: Path) -> I64 | None:
    """The keys and places of an index, `(N, 2)`; an empty array where it is damaged, None where there is none."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    if not path.is_file():
        return None
    try:
        table = arrow.read_csv(
            path,
            arrow.ReadOptions(column_names=["key", "place"]),
            arrow.ParseOptions(delimiter="\t", quote_char=False),
            arrow.ConvertOptions(column_types={"key": pa.int64(), "place": pa.int64()}, null_values=[]),
        )
        return np.stack([table["key"].to_numpy(), table["place"].to_numpy()], axis=1)
    except (pa.ArrowException, ValueError):
        return np.empty((0, 2), np.int64)


def _keys(path: Path, records: _Records, listed: I64 | None) -> tuple[I64, list[tuple[str, str]]]:
    """The key of each record, by the index if that fits."""
    notes = []
    if listed is not None:
        name = path.with_suffix(".idx")
        listed = np.append(listed[np.argsort(listed[:, 1], kind="stable")], [[-1, -1]], axis=0)
        places = listed[:-1, 1]
        keys, found = listed[np.searchsorted(places, records.start)].T
        if (found == records.start).all() and (keys >= 0).all() and _differ(keys) and _differ(places):
            missing = len(places) - len(keys)
            if missing:
                notes.append((name.name, f"{path} lacks {missing:,} records of its index; get the file again."))
            return keys, notes
        notes.append((name.name, f"{name} does not fit {path.name} and was not used; delete it or get both again."))
    ids = records.heads["id"]
    if not _differ(ids) or (ids > np.iinfo(np.int64).max).any():
        return np.arange(len(ids)), notes
    return ids.astype(np.int64), notes


def _differ(numbers: NDArray[Any]) -> bool:
    """Whether no two are the same; many times faster than `np.unique`."""
    ordered = np.sort(numbers)
    return bool((ordered[1:] != ordered[:-1]).all())


def _images(path: Path, records: _Records, keys: I64) -> tuple[I64, list[tuple[str, str]]]:
    """Numbers of the records that should be images."""
    heads = records.heads
    header = np.flatnonzero((keys == 0) & (heads["flag"] > 0) & (records.image == 0))
    chosen = np.ones(len(keys), bool)
    notes = []
    if len(header):
        behind = float(heads["first"][header[0]])
        exact = 0 < behind <= _EXACT
        # above, the number is rounded, and people are told by what they lack
        chosen = (keys > 0) & ((keys < behind) if exact else (records.image != 0))
        if exact and chosen.sum() != behind - 1:
            found = f"{int(chosen.sum()):,} of the {int(behind) - 1:,} images that its record 0 counts"
            notes.append((path.name, f"{path} holds {found}; get the file again."))
        left = int(np.sum(~chosen & (records.image > 0)))
        if left:
            notes.append((path.name, f"{path} holds {left:,} images that its record 0 does not count; left out."))
    return np.flatnonzero(chosen), notes


def _labelled(path: Path, records: _Records, keys: I64, chosen: I64) -> tuple[I64, list[tuple[str, str]]]:
    """Those of the records that hold an image with a label, and what is wrong with the others."""
    label, image = _labels(records)[chosen], records.image[chosen]
    with np.errstate(invalid="ignore"):
        whole = (label >= 0) & (label < _EXACT) & (label == np.floor(label))
    wrong = []
    for row in np.flatnonzero(~whole | (image <= 0)).tolist():
        key = keys[chosen[row]]
        if image[row] < 0:
            reason = f"is too short for the {records.heads['flag'][chosen[row]]} labels that its header announces"
        elif image[row] == 0:
            reason = "holds no image"
        else:
            reason = f"has the label {label[row]:g}, which is not a whole number from 0 to {_EXACT - 1:,}"
        wrong.append((f"{path.name} record {key}", f"{path}, record {key} {reason}; it is left out."))
    return chosen[whole & (image > 0)], wrong


def _labels(records: _Records) -> NDArray[np.float32]:
    return np.where(records.heads["flag"] > 0, records.heads["first"], records.heads["label"])


def _face_set(path: Path, records: _Records, keys: I64, shown: I64, failures: list[tuple[str, str]]) -> FaceSet:
    labels, which = np.unique(_labels(records)[shown].astype(np.int64), return_inverse=True)
    people = [f"{label:08d}" for label in labels.tolist()]
    names: tuple[str, ...] = tuple(
        f"{people[label]}/{key:08d}" for label, key in zip(which.tolist(), keys[shown].tolist(), strict=True)
    )
    sources, suspect = np.zeros(len(shown), np.str_), np.zeros(len(shown), bool)
    table = path.with_suffix(".tsv")
    if table.is_file():
        found = _read_table(table, keys[shown], records.image[shown], which)
        if found is None:
            failures.append((table.name, f"{table} does not fit {path.name}, so numbers are names; write both again."))
        else:
            names, people, sources, suspect = found.names, found.people, found.sources, found.suspect
    failures += _check_property(path, len(people))
    order = sorted(range(len(people)), key=people.__getitem__)
    rank = np.argsort(order)
    file = _File(path.absolute(), records, keys)
    return FaceSet(
        names=names,
        people=tuple(people[label] for label in order),
        labels=rank[which].astype(np.int64),
        sources=sources,
        suspect=suspect,
        places=tuple(map(_Place, repeat(file), shown.tolist())),
        failures=tuple(sorted(failures)),
    )


def _check_property(path: Path, people: int) -> list[tuple[str, str]]:
    """What `property` has against the number of people, if it is there."""
    try:
        with path.with_name("property").open("rb") as file:
            said = file.read(100).split(b",")[0].strip()
    except OSError:
        return []
    if said == b"%d" % people:
        return []
    counted = f"{int(said):,} people" if said.isdigit() else "something else than a number of people"
    return [("property", f"property announces {counted} and {path} shows {people:,}; see whether both are complete.")]


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    names: tuple[str, ...]
    people: list[str]
    sources: NDArray[np.str_]
    suspect: NDArray[np.bool_]


def _read_table(path: Path, keys: I64, sizes: I64, which: I64) -> _Table | None:
    """The names of the images with these keys; None where the table is of another file."""
    names: list[str] = []
    sources: list[str] = []
    suspect: list[bool] = []
    people: dict[int, str] = {}
    wanted = zip(keys.tolist(), sizes.tolist(), which.tolist(), strict=True)
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            if tuple(next(rows, ())) != _TITLES:
                return None
            for key, size, person in wanted:
                row = next(row for row in rows if row[0] == str(key))
                _, bytes_, name, identity, source, mark = row
                if bytes_ != str(size) or people.setdefault(person, identity) != identity:
                    return None
                if len(source) > _LONGEST_SOURCE or mark not in ("0", "1"):
                    return None
                names.append(name)
                sources.append(source)
                suspect.append(mark == "1")
    except (OSError, ValueError, IndexError, StopIteration, csv.Error):
        return None
    known = [people[person] for person in range(len(people))]
    if len(set(names)) < len(names) or len(set(known)) < len(known):
        return None
    return _Table(tuple(names), known, np.array(sources, np.str_), np.array(suspect, bool))


def _check(path: Path, faces: FaceSet) -> None:
    if path.suffix != ".rec":
        raise DataError(f"{path} must end in .rec.")
    if not len(faces):
        raise DataError(f"there is no image to write to {path}.")
    if len(faces) + len(faces.people) >= _EXACT:
        raise DataError(f"{path} can count {_EXACT - 1:,} images and people at most; write several files.")
    if faces.sources.dtype.itemsize > 4 * _LONGEST_SOURCE:
        raise DataError(f"a source of an image is longer than {_LONGEST_SOURCE} letters; shorten it.")
    others = [other.name for other in path.parent.glob("[!.]*.rec") if other.name != path.name]
    if others:
        raise DataError(f"{path.parent} holds {others[0]}, whose `property` would be lost; write to another folder.")


class _Writer:
    """Appends records to a file and its index."""

    def __init__(self, records: BinaryIO, index: TextIO) -> None:
        self._records, self._index = records, index

    def write(self, key: int, labels: tuple[float, ...], image: bytes = b"") -> None:
        """A record with one label in its header, or with several behind it."""
        flag, label = (0, labels[0]) if len(labels) == 1 else (len(labels), 0.0)
        more = struct.pack(f"<{flag}f", *labels[:flag])
        content = _HEADER.pack(flag, label, key, 0) + more + image
        cuts = list(_aligned_magic(content))
        if len(content) >= 1 << 29 or len(cuts) >= _MOST_PARTS:
            raise DataError(f"image {key} ({len(image):,} bytes) is larger than RecordIO can hold; leave it out.")
        self._index.write(f"{key}\t{self._records.tell()}\n")
        begins, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            kind = _WHOLE if not cuts else _FIRST if not number else _MIDDLE if number < len(cuts) else _LAST
            self._records.write(_FRAME.pack(_MAGIC, kind << 29 | (end - begin)))
            self._records.write(content[begin:end])
        self._records.write(bytes(-len(content) % 4))


def _aligned_magic(content: bytes) -> Iterator[int]:
    found = content.find(_MAGIC)
    while found >= 0:
        if found % 4 == 0:
            yield found
        found = content.find(_MAGIC, found + 1)


def _write_images(
    writer: _Writer, table: TextIO, faces: FaceSet, order: list[int], progress: Callable[[int], object] | None
) -> None:
    rows = csv.writer(table, delimiter="\t", lineterminator="\n")
    rows.writerow(_TITLES)
    encoded = prefetch(faces.encoded, order, workers=READERS, limit=_AHEAD)
    for key, (index, image) in enumerate(zip(order, encoded, strict=True), 1):
        label = int(faces.labels[index])
        if not image:
            raise ImageError(f"{faces.names[index]} is empty; leave it out.")
        writer.write(key, (label,), image)
        suspect = int(faces.suspect[index])
        rows.writerow([key, len(image), faces.names[index], faces.people[label], str(faces.sources[index]), suspect])
        if progress is not None:
            progress(1)
    counts = np.bincount(faces.labels, minlength=len(faces.people))
    bounds = [1, *(1 + np.cumsum(counts)).tolist()]
    writer.write(0, (bounds[-1], bounds[-1] + len(counts)))
    for key, (begin, end) in enumerate(pairwise(bounds), bounds[-1]):
        writer.write(key, (begin, end))
