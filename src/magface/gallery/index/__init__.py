"""The directions of people, searched for the nearest: what a store can make again at any time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np

from magface.errors import DataError
from magface.gallery.index import file
from magface.gallery.index.approximate import Approximate
from magface.gallery.index.exact import Exact
from magface.gallery.index.file import scrub
from magface.gallery.index.rows import Ids, Rows
from magface.gallery.index.sketch import Learned
from magface.gallery.records import Hits, Settings
from magface.types import F32

__all__ = ["Index", "build", "load", "save", "scrub"]


class Index(Protocol):
    """People by the direction of their templates."""

    rows: Rows
    learned: Learned | None

    def __len__(self) -> int: ...

    def put(self, ids: Ids, directions: F32) -> None:
        """Add people, or replace the directions of those there are: `(N,)` int64 >= 0 and `(N, D)` float32."""

    def remove(self, ids: Ids) -> None:
        """Take people out: `(N,)` int64; those that there are not change nothing."""

    def learn(self) -> None:
        """Learn what the next search would learn of the people, and the file keeps."""

    def search(self, directions: F32, k: int, among: Ids | None = None) -> Hits:
        """The nearest people, of equally near ones the lower id first.

        Args:
            directions: `(Q, D)` float32, rows of length 1.
            k: people for each, >= 1.
            among: `(N,)` int64, rising; only people of these ids. None for everybody.

        Raises:
            DataError: a row is not of length 1: the file is damaged.
        """


def build(ids: Ids, directions: F32, settings: Settings) -> Index:
    """Make an index.

    Args:
        ids: `(N,)` int64, >= 0, each once.
        directions: `(N, D)` float32, rows of length 1; kept, not copied, where ids rise and precision is `f32`.
        settings: of the gallery.

    Example:
        >>> index = build(np.array([3, 7]), np.eye(2, dtype=np.float32), Settings())
        >>> index.search(np.array([[0.6, 0.8]], np.float32), k=2).people
        array([[7, 3]])
    """
    ids = np.asarray(ids, np.int64)
    if not (np.diff(ids) > 0).all():
        order = np.argsort(ids, kind="stable")
        ids, directions = ids[order], directions[order]
    if len(ids) and (ids[0] < 0 or not (np.diff(ids) > 0).all()):
        raise ValueError("ids must be >= 0, each once.")
    return _index(Rows(ids, np.ascontiguousarray(directions, file.PRECISIONS[settings.precision])), settings)


def save(index: Index, path: str | os.PathLike[str], store: str, sequence: int) -> None:
    """Write an index to a file, whole or not at all.

    Args:
        index: what to write; people who were removed are not in the file.
        path: of the file, which is replaced; processes that have it mapped keep what they have.
        store: whose it is; a file of another store is not loaded.
        sequence: last change of the store that is in the index, >= 0.

    Raises:
        OSError: the file cannot be written.
    """
    index.learn()
    file.write(index.rows, index.learned, Path(path), store, sequence)


def load(path: str | os.PathLike[str], store: str, dimension: int, settings: Settings) -> tuple[Index, int]:
    """Map an index from a file; takes no time that grows with it.

    Args:
        path: of the file.
        store: whose it must be.
        dimension: D that it must have.
        settings: of the gallery.

    Returns:
        The index, and the last change of the store that is in it.

    Raises:
        DataError: the file is missing, damaged, of another store or made with other settings.
    """
    header, rows, learned = file.read(Path(path))
    if (header.store, header.dimension, header.precision) != (store, dimension, settings.precision):
        raise DataError(f"{path} is the index of another gallery; delete it, it is made again.")
    return _index(rows, settings, learned), header.sequence


def _index(rows: Rows, settings: Settings, learned: Learned | None = None) -> Index:
    return Exact(rows) if settings.index == "exact" else Approximate(rows, settings.recall, learned)
