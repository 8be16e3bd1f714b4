"""The index of a gallery, brought up to date with its database before every search.

The database counts its changes and writes the number of the last one to every person it touches, and to every person
that is gone. An index that knows the number it stands at asks for what came after it. In a large gallery a copy lies in
a file beside the database, so that nobody reads a million vectors to open it; what is in it is never believed to be
newer than what it says.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.gallery import index
from magface.gallery.index import Index
from magface.gallery.index.file import PRECISIONS
from magface.gallery.records import Settings
from magface.geometry import direction
from magface.types import F32

LARGE = 10_000
"""People from which on the index is kept in a file: fewer are read faster than anybody notices."""
BEHIND = 0.02
"""Share of the people that may have changed since the file was written."""
_ROWS = 4096


class Current:
    """An index and where it stands.

    Args:
        database: path of the database.
        settings: of the gallery.
        kept: whether a copy may lie in a file.
    """

    def __init__(self, database: Path, settings: Settings, *, kept: bool) -> None:
        self._database, self._settings = database, settings
        self._path = database.with_name(f"{database.name}.index") if kept else None
        self._index: Index | None = None
        self._name = ""
        self._sequence = 0
        self._behind = 0

    def open(self, connection: Any, name: str, dimension: int) -> None:
        """Take the index out of its file; one that knows more than the database, which was restored, is deleted."""
        self._name = name
        if self._path is None:
            return
        with contextlib.suppress(DataError):
            self._index, self._sequence = index.load(self._path, name, dimension, self._settings)
            if self._sequence > state(connection, self._database)[0]:
                self.forget()

    def read(self, connection: Any, name: str, dimension: int) -> Index:
        """The index of what the database holds; to be called inside of a transaction.

        Args:
            connection: to the database.
            name: of the store and the model of its vectors; with another one everything is read again.
            dimension: D.

        Raises:
            DataError: a template is damaged.
        """
        sequence, forgotten = state(connection, self._database)
        if name != self._name:
            self._index, self._name = None, name
        known = self._index
        if known is None or not forgotten <= self._sequence <= sequence or self._far(connection, len(known)):
            self._index = known = None  # before there is another one in memory
            self._index = known = index.build(*self._all(connection, dimension), self._settings)
            self._behind = len(known)
        elif self._sequence < sequence:
            self._follow(connection, known, dimension)
        self._sequence = sequence
        return known

    @property
    def worth_keeping(self) -> bool:
        """Whether the file is so far behind that it should be written."""
        if self._path is None or self._index is None or len(self._index) < LARGE:
            return False
        return self._behind > BEHIND * len(self._index)

    def keep(self, connection: Any) -> None:
        """Write the file; inside of a transaction that writes, so that nobody is removed meanwhile."""
        if self._path is None or self._index is None or state(connection, self._database)[0] != self._sequence:
            return
        with contextlib.suppress(OSError):  # without the file everything works, only slower
            index.save(self._index, self._path, self._name, self._sequence)
            self._path.chmod(self._database.stat().st_mode & 0o777)
            self._behind = 0

    def wipe(self, connection: Any, name: str, dimension: int) -> None:
        """Take out of files whoever changed or went since they were written; inside of a transaction that writes.

        Raises:
            DataError: a file cannot be deleted.
        """
        if self._path is None:
            return
        for part in self._path.parent.glob(f".{_literal(self._path.name)}.*"):  # of a process that was killed
            _delete(part)
        if not os.path.lexists(self._path):
            return
        try:
            _, sequence = index.load(self._path, name, dimension, self._settings)
            ids = [*_column(connection, "SELECT person FROM removed WHERE sequence > ?", sequence)]
            ids += _column(connection, "SELECT id FROM people WHERE sequence > ?", sequence)
            if sequence < state(connection, self._database)[1]:
                raise DataError("it is too old to know who is to be taken out.")
            index.scrub(self._path, np.array(ids, np.int64))
        except DataError:
            _delete(self._path)

    def forget(self) -> None:
        """Let go of an index that turned out to be damaged, and of its file."""
        self._index = None
        if self._path is not None:
            _delete(self._path)

    def _far(self, connection: Any, people: int) -> bool:
        """Whether so much changed that reading all is faster."""
        (changed,) = _column(connection, "SELECT count(*) FROM people WHERE sequence > ?", self._sequence)
        return changed > max(LARGE, people // 4)

    def _follow(self, connection: Any, known: Index, dimension: int) -> None:
        gone = list(_column(connection, "SELECT person FROM removed WHERE sequence > ?", self._sequence))
        known.remove(np.array(gone, np.int64))
        self._behind += len(gone)
        changed = connection.execute("SELECT id, template FROM people WHERE sequence > ?", (self._sequence,))
        for ids, directions in _blocks(changed, dimension, self._database):
            known.put(ids, directions)
            self._behind += len(ids)

    def _all(self, connection: Any, dimension: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        (count,) = connection.execute("SELECT count(*) FROM people").fetchone()
        ids_N = np.empty(count, np.int64)
        directions_ND = np.empty((count, dimension), PRECISIONS[self._settings.precision])
        start = 0
        everybody = connection.execute("SELECT id, template FROM people ORDER BY id")
        for ids, directions in _blocks(everybody, dimension, self._database):
            ids_N[start : start + len(ids)], directions_ND[start : start + len(ids)] = ids, directions
            start += len(ids)
        return ids_N, directions_ND


def state(connection: Any, database: Path) -> tuple[int, int]:
    """Number of the last change, and of the last of those removals of which it was forgotten whom they took."""
    found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('sequence', 'forgotten')"))
    if not (type(found.get("sequence")) is int and type(found.get("forgotten")) is int):
        raise DataError(f"{database} is damaged: it does not count its changes; restore it from a copy.")
    return found["sequence"], found["forgotten"]


def _blocks(rows: Any, dimension: int, database: Path) -> Iterator[tuple[NDArray[np.int64], F32]]:
    """Ids and directions of a query for ids and templates, some at a time."""
    while batch := rows.fetchmany(_ROWS):
        ids = [row[0] for row in batch]
        if not all(isinstance(row[1], bytes) and len(row[1]) == 4 * dimension for row in batch):
            raise _damaged(database)
        templates = np.frombuffer(b"".join(row[1] for row in batch), "<f4").reshape(len(batch), dimension)
        if not (np.isfinite(templates).all() and templates.any(axis=1).all()):
            raise _damaged(database)
        yield np.array(ids, np.int64), direction(templates.astype(np.float32))


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot delete {path} ({error.strerror}), which is out of date; delete it yourself."
        ) from error


def _damaged(database: Path) -> DataError:
    return DataError(f"{database} is damaged: a template is no vector of its model; restore it from a copy.")


def _column(connection: Any, sql: str, *values: Any) -> Iterator[int]:
    return (row[0] for row in connection.execute(sql, values))


def _literal(name: str) -> str:
    """A file name as a pattern that only it fits."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in name)
