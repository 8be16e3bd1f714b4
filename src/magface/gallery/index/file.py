"""The index in a file that is mapped, not read: a cache that can be made again from the store at any time.

A page with a checksum says whose index it is and what there is of each kind; ids, which of them there still are, codes,
what these were learned with, and the rows follow, each from a multiple of the page. Every size follows from the first
page and is compared with the size of the file before anything is looked at.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.gallery.index import sketch
from magface.gallery.index.rows import Ids, Rows, join
from magface.gallery.index.sketch import MOST, Learned, Sketch
from magface.io import atomic_path

MAGIC = b"magface index 1\n"
PAGE = 4096
DIGEST = 32
LARGEST = 1 << 16
"""Numbers of a direction, at most."""
BLOCK = 1 << 13
"""Rows that are written at a time."""
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
        learned: of how many people a sketch was learned; 0 where there is none.
        candidates: that it takes.
    """

    store: str
    sequence: int
    count: int
    dimension: int
    precision: str
    learned: int = 0
    candidates: int = 0

    def __post_init__(self) -> None:
        for value in (self.sequence, self.count, self.dimension, self.learned, self.candidates):
            if type(value) is not int or not 0 <= value < 1 << 62:
                raise ValueError("a number is out of range")
        if not isinstance(self.store, str) or self.precision not in PRECISIONS or not 1 <= self.dimension <= LARGEST:
            raise ValueError("a field is out of range")
        if self.candidates > MOST or (self.learned and not sketch.width(self.dimension)):
            raise ValueError("a field is out of range")

    @property
    def parts(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Arrays in the order of the file."""
        single, width = np.dtype("<f4"), sketch.width(self.dimension)
        axes = sketch.PARTS * width
        made: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "ids": (np.dtype("<i8"), (self.count,)),
            "alive": (np.dtype(np.uint8), (self.count,)),
        }
        if self.learned:
            made["codes"] = np.dtype(np.uint8), (self.count, sketch.PARTS // 2)
            made["mean"] = single, (self.dimension,)
            made["axes"] = single, (self.dimension, axes)
            made["points"] = single, (sketch.PARTS, sketch.POINTS, width)
        made["rows"] = PRECISIONS[self.precision], (self.count, self.dimension)
        return made

    @property
    def places(self) -> dict[str, int]:
        """Bytes at which the arrays begin, and at which the file ends."""
        places, place = {}, PAGE
        for name, (dtype, shape) in self.parts.items():
            places[name] = place
            size = dtype.itemsize * math.prod(shape)
            place += size if name == "rows" else -(-size // PAGE) * PAGE
        return {**places, "end": place}

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


def write(rows: Rows, learned: Learned | None, path: Path, store: str, sequence: int) -> None:
    """Write a file whole or not at all; who was removed is not in it."""
    ids, places = rows.order()
    precision = next(name for name, dtype in PRECISIONS.items() if dtype == rows.dtype)
    header = Header(store, sequence, len(ids), rows.dimension, precision)
    arrays = {"ids": ids, "alive": np.ones(len(ids), bool)}
    if learned is not None:
        header = replace(header, learned=learned.people, candidates=learned.candidates)
        codes = join(learned.codes, learned.sketch.encode(rows.fresh.rows), places)
        arrays |= {"codes": codes, "mean": learned.sketch.mean}
        arrays |= {"axes": learned.sketch.axes, "points": learned.sketch.points}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.page())
        for name, array in arrays.items():
            _write(file, header, name, array)
        for start in range(0, len(ids), BLOCK):
            _write(file, header, "rows", join(rows.base.rows, rows.fresh.rows, places[start : start + BLOCK]), start)
        file.truncate(header.places["end"])


def read(path: Path) -> tuple[Header, Rows, Learned | None]:
    """Map a file.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file:
            header = Header.of(file.read(PAGE))
            if os.fstat(file.fileno()).st_size != header.places["end"]:
                raise ValueError("it has another size than it says")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        arrays = {
            name: np.frombuffer(content, dtype, math.prod(shape), header.places[name]).reshape(shape)
            for name, (dtype, shape) in header.parts.items()
        }
        return header, _rows(arrays), _learned(header, arrays)
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
    header, rows, _ = read(path)
    places = np.flatnonzero(np.isin(rows.base.ids, ids)).tolist()
    try:
        with path.open("rb+") as file:
            for name in {"alive", "codes", "rows"} & header.parts.keys():
                dtype, (_, *shape) = header.parts[name]
                width = dtype.itemsize * math.prod(shape)
                for place in places:
                    file.seek(header.places[name] + place * width)
                    file.write(bytes(width))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"{path} cannot be overwritten: {error.strerror}; delete it, it is made again.") from error


def _write(file: BinaryIO, header: Header, name: str, array: NDArray[Any], row: int = 0) -> None:
    dtype, (_, *shape) = header.parts[name]
    file.seek(header.places[name] + row * dtype.itemsize * math.prod(shape))
    file.write(np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data)


def _rows(arrays: Mapping[str, NDArray[Any]]) -> Rows:
    ids, alive = arrays["ids"], arrays["alive"]
    if len(ids) and (ids[0] < 0 or not (np.diff(ids) > 0).all() or alive.max() > 1):
        raise ValueError("its ids are damaged")
    return Rows(ids, arrays["rows"], alive.astype(bool))


def _learned(header: Header, arrays: Mapping[str, NDArray[Any]]) -> Learned | None:
    if not header.learned:
        return None
    made = Sketch(arrays["mean"], arrays["axes"], arrays["points"])
    if not all(np.isfinite(array).all() for array in (made.mean, made.axes, made.points)):
        raise ValueError("its sketch is damaged")
    return Learned(made, arrays["codes"], header.candidates, header.learned)
