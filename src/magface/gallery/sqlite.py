"""The store that needs no server: one SQLite file, which is the source of truth.

Write-ahead log, flushed to the disk at every commit: what was acknowledged is durable, readers and a writer do not
wait for each other, writers queue. What is removed is overwritten in the file, and `purge` empties the log of it. The
index that searches go through is made of the file and can be made again at any time (`magface.gallery.current`).
With a key, SQLCipher encrypts everything that reaches the disk, and no index is kept there.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError, MagfaceError
from magface.gallery import database, scrub
from magface.gallery.current import Current, state
from magface.gallery.database import spoken
from magface.gallery.index import Index
from magface.gallery.records import Box, Counts, Entry, Hits, NewPerson, Person, Settings, StoredFace, check_name
from magface.models.card import Card
from magface.types import F32

PATIENCE = 60.0
"""Seconds that a writer waits for those before it."""
REMEMBERED = 100_000
"""People who were removed of whom it is known, at least, so that an index can follow."""
_SOON = 1.0
"""Seconds to wait for what can also be done later."""
_ROWS, _BYTES = 256, 1 << 24
_BOX = struct.Struct("<4d")
_PERSON = (
    "SELECT id, name, template, (SELECT count(*) FROM faces WHERE person = people.id), "
    "(SELECT group_concat(label, char(10)) FROM labels WHERE person = people.id) FROM people"
)
_FACE = "SELECT id, person, vector, score, source, box, crop, time, marked FROM faces"
_ADD_FACE = (
    "INSERT INTO faces (id, person, score, time, marked, vector, source, box, crop) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ADD_LABEL = "INSERT OR IGNORE INTO labels (label, person) VALUES (?, ?)"
_COUNTS = (
    "SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM faces), (SELECT count(*) FROM faces WHERE marked)"
)
_WHAT = "SELECT key, value FROM meta WHERE key IN ('id', 'card', 'model', 'settings')"
_WRONG = (
    "SELECT count(*) FROM people WHERE length(template) <> ?",
    "SELECT count(*) FROM faces WHERE length(vector) <> ?",
)

_Row = tuple[Any, ...]


class _Reading:
    """What can be asked of a database, inside of a transaction and outside."""

    def __init__(self, connection: Any, path: Path, lock: threading.RLock, card: Card) -> None:
        self._connection, self._path, self._lock = connection, path, lock
        self._sizes = {4 * card.embedding_size}
        """Bytes that a vector may have."""

    def counts(self) -> Counts:
        """How much there is."""
        return Counts(*self._rows(_COUNTS)[0])

    def person(self, name: str) -> Person | None:
        """The person of that name; None where there is none."""
        return next(map(self._person, self._rows(f"{_PERSON} WHERE name = ?", name)), None)

    def people(self, ids: Sequence[int] | None = None) -> Iterator[Person]:
        """People in the order of their ids; all, or those of `ids` that there are.

        They are read some at a time, so changes that are made meanwhile are seen by the rest.
        """
        return map(self._person, self._walk(_PERSON, "id > ?") if ids is None else self._chosen(ids))

    def faces(self, person: int | None = None) -> Iterator[StoredFace]:
        """Faces in the order of their ids; all, or those of a person; see `people`."""
        if person is None:
            return map(self._face, self._walk(_FACE, "id > ?"))
        return map(self._face, self._walk(_FACE, "id > ? AND person = ?", int(person)))

    def face(self, id: int) -> StoredFace | None:
        """One face; None where there is none."""
        if not 0 < id < 1 << 63:  # the database has no numbers for others
            return None
        return next(map(self._face, self._rows(f"{_FACE} WHERE id = ?", int(id))), None)

    def _rows(self, sql: str, *values: Any) -> list[_Row]:
        with self._lock, spoken(self._path):
            return self._connection.execute(sql, values).fetchall()

    def _walk(self, select: str, where: str, *values: Any) -> Iterator[_Row]:
        """All rows of a query in the order of their ids, some at a time: no statement stays open in between."""
        last = -(1 << 63)
        while batch := self._some(f"{select} WHERE {where} ORDER BY id LIMIT {_ROWS}", last, *values):
            yield from batch
            last = batch[-1][0]

    def _some(self, sql: str, *values: Any) -> list[_Row]:
        """The first rows of a query, in bounded memory."""
        batch: list[_Row] = []
        size = 0
        with self._lock, spoken(self._path), contextlib.closing(self._connection.execute(sql, values)) as rows:
            for row in rows:
                batch.append(row)
                size += sum(len(value) for value in row if isinstance(value, bytes))
                if size > _BYTES:
                    break
        return batch

    def _chosen(self, ids: Sequence[int]) -> Iterator[_Row]:
        wanted = sorted({int(id) for id in ids})
        for start in range(0, len(wanted), _ROWS):
            part = wanted[start : start + _ROWS]
            yield from self._rows(f"{_PERSON} WHERE id IN ({', '.join('?' * len(part))}) ORDER BY id", *part)

    def _person(self, row: _Row) -> Person:
        id, name, template, faces, labels = row
        known = tuple(sorted(labels.split("\n"))) if labels else ()
        try:
            for text, what in ((name, "a person"), *((label, "a label") for label in known)):
                check_name(text, what)
            return Person(id, name, Entry(name, self._vector(template), 0.0).vector, faces, known)
        except (MagfaceError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f"person {id}") from error

    def _face(self, row: _Row) -> StoredFace:
        id, person, vector, score, source, box, crop, time, marked = row
        try:
            if not isinstance(crop, bytes):
                raise ValueError("it is no picture")
            place: Box | None = None if box is None else _BOX.unpack(box)
            text = source.decode("utf-8", "surrogatepass")
            face = Entry("a face", self._vector(vector), score, text, place, crop, time)
            return StoredFace(id, person, face.vector, score, text, place, face.crop, time, bool(marked))
        except (MagfaceError, TypeError, ValueError, AttributeError, struct.error) as error:
            raise self._damaged(f"face {id}") from error

    def _vector(self, content: bytes) -> F32:
        if not isinstance(content, bytes) or len(content) not in self._sizes:
            raise ValueError("it is a vector of another size")
        return np.frombuffer(content, "<f4").astype(np.float32)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._path} is damaged at {what}; restore it from a copy.")


class _Writing(_Reading):
    """Changes that become true together; see `magface.gallery.store.Transaction`.

    Args:
        card: of the model whose vectors are kept now.
    """

    def __init__(self, connection: Any, path: Path, lock: threading.RLock, card: Card) -> None:
        super().__init__(connection, path, lock, card)
        self.card = card
        self._sequence = state(connection, path)[0] + 1
        self._removed = False

    def add_people(self, people: Sequence[NewPerson]) -> list[list[int]]:
        """Add people with their faces; gives the ids of the faces of each. Their names are new."""
        first, face = self._next("people"), self._next("faces")
        numbered = list(enumerate(people, first))
        rows = ((id, self._sequence, person.name, self._packed(person.template)) for id, person in numbered)
        self._many("INSERT INTO people (id, sequence, name, template) VALUES (?, ?, ?, ?)", rows)
        owned = ((id, *one) for id, person in numbered for one in zip(person.faces, person.marked, strict=True))
        self._many(_ADD_FACE, (self._filed(number, *one) for number, one in enumerate(owned, face)))
        self._many(_ADD_LABEL, ((label, id) for id, person in numbered for label in person.labels))
        ends = accumulate((len(person.faces) for person in people), initial=face)
        return [list(range(start, end)) for start, end in pairwise(ends)]

    def add_faces(self, person: int, faces: Sequence[Entry], marked: Sequence[bool]) -> list[int]:
        """Add faces to a person; gives their ids. The template is set with `set_person` afterwards."""
        first = self._next("faces")
        rows = enumerate(zip(faces, marked, strict=True), first)
        self._many(_ADD_FACE, (self._filed(id, person, *row) for id, row in rows))
        return list(range(first, first + len(faces)))

    def set_person(self, person: Person) -> None:
        """Replace name, template and labels of the person with that id; `faces` is counted anew."""
        before = self._rows(f"{_PERSON} WHERE id = ?", person.id)
        if not before:
            raise self._nobody(person.id)
        old = self._person(before[0])
        self._many(
            "UPDATE people SET sequence = ?, name = ?, template = ? WHERE id = ?",
            [(self._sequence, person.name, self._packed(person.template), person.id)],
        )
        gone, new = set(old.labels) - set(person.labels), set(person.labels) - set(old.labels)
        self._many("DELETE FROM labels WHERE label = ? AND person = ?", ((label, person.id) for label in gone))
        self._many(_ADD_LABEL, ((label, person.id) for label in new))
        self._removed |= bool(gone) or old.name != person.name

    def move_faces(self, faces: Sequence[int], person: int) -> None:
        """Give faces to another person."""
        self._many("UPDATE faces SET person = ? WHERE id = ?", ((int(person), int(face)) for face in faces))

    def set_vectors(self, vectors: Sequence[tuple[int, F32, float, bool]]) -> None:
        """Replace vector, score and mark of faces: `(id, vector, score, marked)`."""
        rows = ((self._packed(vector), float(score), int(marked), int(id)) for id, vector, score, marked in vectors)
        self._many("UPDATE faces SET vector = ?, score = ?, marked = ? WHERE id = ?", rows)

    def remove_faces(self, faces: Sequence[int]) -> None:
        """Remove faces."""
        self._many("DELETE FROM faces WHERE id = ?", ((int(face),) for face in faces))
        self._removed = True

    def remove_person(self, person: int) -> None:
        """Remove a person with all their faces and labels."""
        for sql in ("DELETE FROM labels WHERE person = ?", "DELETE FROM faces WHERE person = ?"):
            self._many(sql, [(int(person),)])
        self._many("DELETE FROM people WHERE id = ?", [(int(person),)])
        self._many("INSERT OR IGNORE INTO removed VALUES (?, ?)", [(self._sequence, int(person))])
        self._removed = True

    def set_note(self, key: str, value: str) -> None:
        """Keep a text under a key; "" removes it."""
        if value:
            self._many("INSERT OR REPLACE INTO notes VALUES (?, ?)", [(key, value)])
        else:
            self._many("DELETE FROM notes WHERE key = ?", [(key,)])

    def set_card(self, card: Card) -> None:
        """The model whose vectors are kept from now on; all vectors are replaced in the same transaction."""
        self.card = card
        self._sizes.add(4 * card.embedding_size)
        self._set_meta(card=card.to_json(), model=card.sha256)

    def finish(self) -> None:
        """Make what was changed consistent, before it becomes true.

        Raises:
            DataError: vectors are not of the model.
        """
        size = 4 * self.card.embedding_size
        if self._sizes != {size} and any(self._rows(wrong, size)[0][0] for wrong in _WRONG):
            raise DataError(f"vectors for {self._path} must have {self.card.embedding_size} numbers.")
        self._set_meta(sequence=self._sequence)
        if self._removed:
            self._set_meta(unpurged=self._sequence)
            self._forget()

    def _forget(self) -> None:
        """Keep the list of who was removed short: an index that is older than it is made again."""
        if self._rows("SELECT count(*) FROM removed")[0][0] <= 2 * REMEMBERED:
            return
        ((last,),) = self._rows("SELECT sequence FROM removed ORDER BY sequence DESC LIMIT 1 OFFSET ?", REMEMBERED)
        self._many("DELETE FROM removed WHERE sequence <= ?", [(last,)])
        self._set_meta(forgotten=last)

    def _set_meta(self, **values: str | int) -> None:
        self._many("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def _next(self, table: str) -> int:
        """The id after the last one that was ever given."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
        last = rows[0][0] if rows else 0
        if type(last) is not int or not 0 <= last < 1 << 62:
            raise self._damaged(f"the number of {table}")
        return last + 1

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._lock, spoken(self._path):
            self._connection.executemany(sql, rows)

    def _filed(self, id: int, person: int, face: Entry, marked: bool) -> _Row:
        """A row of the table of faces."""
        box = None if face.box is None else _BOX.pack(*face.box)
        source = face.source.encode("utf-8", "surrogatepass")
        vector = self._packed(face.vector)
        return id, int(person), float(face.score), float(face.time), int(marked), vector, source, box, face.crop

    def _packed(self, vector: F32) -> bytes:
        self._sizes.add(4 * len(vector))
        return vector.astype("<f4", copy=False).tobytes()

    def _nobody(self, id: int) -> DataError:
        return DataError(f"there is nobody with the id {id} in {self._path}; search again.")


class SqliteStore(_Reading):
    """People and faces in one file, and a cache beside it; see `magface.gallery.store.Store`.

    Any number of processes may have it open. In one process, threads may share it: they take turns, and the whole block
    of `writing` is one turn. A process that was forked opens its own.

    Example:
        >>> SqliteStore.open("missing.db")
        Traceback (most recent call last):
        ...
        magface.errors.DataError: there is no gallery missing.db; check the path, or create it.
    """

    def __init__(self, connection: Any, path: Path, encrypted: bool) -> None:
        found = dict(connection.execute(_WHAT))
        try:
            self.settings = Settings(**json.loads(found["settings"]))
            self._id, self._model = str(found["id"]), str(found["model"])
        except (KeyError, TypeError, ValueError, MagfaceError) as error:
            raise DataError(f"{path} is damaged: it does not say what it holds; restore it from a copy.") from error
        self._card = _card(found.get("card"), path)
        super().__init__(connection, path, threading.RLock(), self._card)
        self._encrypted = encrypted
        self._current = Current(path, self.settings, kept=not encrypted)
        self._due = False

    @classmethod
    def create(cls, path: str | os.PathLike[str], card: Card, settings: Settings, key: str = "") -> SqliteStore:
        """Make a gallery.

        Args:
            path: of a file that is not there yet.
            card: of the model that makes the vectors.
            settings: of the gallery.
            key: passphrase with which everything in it is encrypted; "" for none.

        Raises:
            DataError: there is such a file, it cannot be made, or encryption is not installed.
        """
        place = Path(path).resolve()
        words = {"id": secrets.token_hex(16), "card": card.to_json(), "model": card.sha256}
        words["settings"] = json.dumps(asdict(settings))
        database.make(place, key, {**words, "sequence": 0, "forgotten": 0})
        return cls.open(place, key)

    @classmethod
    def open(cls, path: str | os.PathLike[str], key: str = "") -> SqliteStore:
        """Open a gallery.

        Args:
            path: of its file.
            key: passphrase of an encrypted gallery.

        Raises:
            DataError: the file is missing, no gallery, damaged, of a newer version, or of another key.
        """
        place = Path(path).resolve()
        if not place.is_file():
            raise DataError(f"there is no gallery {path}; check the path, or create it.")
        with spoken(place, key), contextlib.ExitStack() as stack:
            connection = stack.enter_context(contextlib.closing(database.connect(place, key)))
            database.check(connection, place)
            store = cls(connection, place, bool(key))
            store._current.open(connection, store._name, store._card.embedding_size)
            stack.pop_all()
        with contextlib.suppress(DataError):  # it stays due
            store._purge(_SOON)
        return store

    @property
    def card(self) -> Card:
        """Of the model that made the vectors, also where another process changed it."""
        self._follow()
        return self._card

    @contextmanager
    def writing(self) -> Iterator[_Writing]:
        """Changes that become true together and are on the disk when the block ends well; others wait meanwhile.

        Raises:
            DataError: another writer did not finish in time, or the file cannot be written.
        """
        with self._lock:
            with self._transaction("BEGIN IMMEDIATE", PATIENCE):
                self._follow()
                transaction = _Writing(self._connection, self._path, self._lock, self._card)
                yield transaction
                transaction.finish()
            self._follow()
            if self._due:
                self._purge(_SOON)

    def search(self, directions: F32, k: int, label: str | None = None) -> Hits:
        """The nearest people; not inside of the block of `writing`.

        Args:
            directions: `(Q, D)` float32, rows of length 1.
            k: people for each, >= 1.
            label: search only people with it.
        """
        with self._lock:
            index, among = self._searched(label)
            try:
                hits = index.search(directions, k, among)
            except DataError:  # damage in the index's file shows only when a row is looked at
                self._current.forget()
                index, among = self._searched(label)
                hits = index.search(directions, k, among)
            return replace(hits, searched=len(index) if among is None else len(among))

    def labels(self) -> list[str]:
        """All labels that people have, sorted."""
        return [row[0] for row in self._rows("SELECT DISTINCT label FROM labels ORDER BY label")]

    def note(self, key: str) -> str:
        """Text under a key; "" where there is none."""
        rows = self._rows("SELECT value FROM notes WHERE key = ?", key)
        return str(rows[0][0]) if rows else ""

    def purge(self) -> bool:
        """Make sure that nothing of what was removed is left in files.

        What could not be done is tried again after the next change, when the gallery is closed and when it is opened.

        Returns:
            False where others still read old pages.
        """
        with self._lock:
            return self._purge(PATIENCE)

    def close(self) -> None:
        """Give back what is held; a store that was closed is not used again."""
        with self._lock:
            try:
                # what is acknowledged is safe, and what is due is not forgotten, whatever goes wrong here
                with contextlib.suppress(DataError):
                    self._purge(_SOON)
                    if self._current.worth_keeping:
                        self._keep(_SOON)
            finally:
                self._connection.close()

    def _purge(self, patience: float) -> bool:
        for _ in range(3):
            due = self._meta("unpurged")
            if due is None:
                self._due = False
                return True
            with self._transaction("BEGIN IMMEDIATE", patience), spoken(self._path):
                self._current.wipe(self._connection, self._name, self._card.embedding_size)
            if self._rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
                break
            self._scrub(due, patience)
        self._due = True
        return False

    @property
    def _name(self) -> str:
        """Of the index: of this gallery, with vectors of this model."""
        return f"{self._id} {self._model}"

    def _vector(self, content: bytes) -> F32:
        if len(content) not in self._sizes:
            self._follow()
        return super()._vector(content)

    def _follow(self) -> None:
        """Know the model that another process may have changed."""
        model = self._meta("model")
        if model != self._model:
            self._card, self._model = _card(self._meta("card"), self._path), str(model)
            self._sizes = {4 * self._card.embedding_size}

    def _meta(self, key: str) -> Any:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else None

    def _searched(self, label: str | None) -> tuple[Index, NDArray[np.int64] | None]:
        """The index as things are now, and who has the label."""
        with self._transaction("BEGIN"), spoken(self._path):
            self._follow()
            among = None if label is None else self._labelled(label)
            index = self._current.read(self._connection, self._name, self._card.embedding_size)
        if self._current.worth_keeping:
            self._keep(0)
        return index, among

    def _labelled(self, label: str) -> NDArray[np.int64]:
        rows = self._connection.execute("SELECT person FROM labels WHERE label = ? ORDER BY person", (label,))
        return np.fromiter((row[0] for row in rows), np.int64)

    def _keep(self, patience: float) -> None:
        """Write the index to its file, if nobody else writes."""
        with contextlib.suppress(DataError), self._transaction("BEGIN IMMEDIATE", patience), spoken(self._path):
            self._current.keep(self._connection)

    def _scrub(self, due: int, patience: float) -> None:
        """Overwrite copies of rows that SQLite left behind; in an encrypted file they cannot be told from noise."""
        if self._encrypted:
            self._rows("DELETE FROM meta WHERE key = 'unpurged' AND value = ?", due)
            return
        command = [sys.executable, "-I", "-S", scrub.__file__, str(self._path), str(due), str(patience)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode not in (0, scrub.LATER):
            raise DataError(f"cannot overwrite what was removed from {self._path}; see whether it can be written.")

    @contextmanager
    def _transaction(self, begin: str, patience: float = 0) -> Iterator[None]:
        if self._connection.in_transaction:
            raise RuntimeError("a gallery is changed already; end the block of `writing` first.")
        with spoken(self._path):
            database.begin(self._connection, begin, patience)
        try:
            yield
            with spoken(self._path):
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                with spoken(self._path):
                    self._connection.execute("ROLLBACK")


def _card(text: Any, path: Path) -> Card:
    try:
        return Card.from_json(text)
    except (TypeError, MagfaceError) as error:
        raise DataError(f"{path} is damaged: the card of its model is not valid; restore it from a copy.") from error
