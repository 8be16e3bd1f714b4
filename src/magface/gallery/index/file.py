"""The index in a file that is mapped, not read: a cache that can be made again from the store at any time.

A page with a checksum says whose index it is and how many rows there are; ids, which of them there still are, and the
rows follow, each from a multiple of the page. Every size follows from the count and is compared with the size of the
file before anything is looked at.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.gallery.index.rows import Ids, Rows
from magface.io import atomic_path

MAGIC = b"magface index 1\n"
PAGE = 4096
DIGEST = 32
LARGEST = 1 << 16
"""Numbers of a direction, at most."""
PRECISIONS: dict[str, np.dtype[Any]] = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2")}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        store: whose index it is.
        sequence: last change of the store that is in it.
        count: rows.
        dimension: numbers of each.
        precision: `f32` or `f16`.
    """

    store: str
    sequence: int
    count: int
    dimension: int
    precision: str

    def __post_init__(self) -> None:
        for value in (self.sequence, self.count, self.dimension):
            if type(value) is not int or not 0 <= value < 1 << 62:
                raise ValueError("a number is out of range")
        if not isinstance(self.store, str) or self.precision not in PRECISIONS or not 1 <= self.dimension <= LARGEST:
            raise ValueError("a field is out of range")

    @property
    def places(self) -> tuple[int, int, int, int]:
        """Bytes at which ids, marks and rows begin, and at which the file ends."""
        marks = PAGE + paged(8 * self.count)
        rows = marks + paged(self.count)
        return PAGE, marks, rows, rows + self.count * self.dimension * PRECISIONS[self.precision].itemsize

    def page(self) -> bytes:
        """As the first page of a file."""
        text = json.dumps(asdict(self)).encode()
        room = PAGE - len(MAGIC) - DIGEST
        if len(text) > room:
            raise ValueError(f"the name of a store has {len(self.store)} characters; that is too long.")
        text = text.ljust(room)
        return MAGIC + hashlib.sha256(text).digest() + text

    @classmethod
    def of(cls, page: bytes) -> Header:
        """From the first page of a file.

        Raises:
            ValueError: it is none.
        """
        digest, text = page[len(MAGIC) :][:DIGEST], page[len(MAGIC) + DIGEST :]
        if len(page) != PAGE or not page.startswith(MAGIC) or hashlib.sha256(text).digest() != digest:
            raise ValueError("its first page is damaged")
        try:
            return cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError("its first page is damaged") from error


def write(rows: Rows, path: Path, store: str, sequence: int) -> None:
    """Write a file whole or not at all; what was removed is not in it."""
    ids, parts = rows.merged()
    precision = next(name for name, dtype in PRECISIONS.items() if dtype == rows.base.dtype)
    header = Header(store, sequence, len(ids), rows.dimension, precision)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.page())
        _section(file, header.places[0], [ids.astype("<i8", copy=False)])
        _section(file, header.places[1], [np.ones(len(ids), np.uint8)])
        _section(file, header.places[2], parts)


def read(path: Path) -> tuple[Header, Rows]:
    """Map a file.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file:
            header = Header.of(file.read(PAGE))
            if os.fstat(file.fileno()).st_size != header.places[-1]:
                raise ValueError("it has another size than it says")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return header, _rows(header, content)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"{path} is no usable index of a gallery: {reason}; delete it, it is made again.") from error


def scrub(path: str | os.PathLike[str], ids: Ids) -> None:
    """Overwrite the rows of people in a file, so that nothing of them is left on the disk when this returns.

    Args:
        path: of the index.
        ids: `(N,)` int64; those that are not in the file change nothing.

    Raises:
        DataError: the file is damaged; nothing of it is to be kept then.
    """
    path = Path(path)
    header, rows = read(path)
    place = np.flatnonzero(np.isin(rows.base_ids, ids))
    width = header.dimension * rows.base.dtype.itemsize
    try:
        with path.open("rb+") as file:
            for row in place.tolist():
                file.seek(header.places[1] + row)
                file.write(b"\0")
                file.seek(header.places[2] + row * width)
                file.write(bytes(width))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"{path} cannot be overwritten: {error.strerror}; delete it, it is made again.") from error


def paged(size: int) -> int:
    """Bytes in whole pages."""
    return -(-size // PAGE) * PAGE


def _section(file: BinaryIO, place: int, parts: Iterator[NDArray[Any]] | list[NDArray[Any]]) -> None:
    file.write(bytes(place - file.tell()))
    for part in parts:
        file.write(np.ascontiguousarray(part).data.cast("B") if part.size else b"")


def _rows(header: Header, content: mmap.mmap) -> Rows:
    first, second, third, _ = header.places
    count, shape = header.count, (header.count, header.dimension)
    ids = np.frombuffer(content, "<i8", count, first)
    marks = np.frombuffer(content, np.uint8, count, second)
    rows = np.frombuffer(content, PRECISIONS[header.precision], shape[0] * shape[1], third).reshape(shape)
    if count and (ids[0] < 0 or not (np.diff(ids) > 0).all() or marks.max() > 1):
        raise ValueError("its ids are damaged")
    return Rows(ids, rows, marks.astype(bool))
