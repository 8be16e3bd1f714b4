"""A gallery in Milvus: in a folder of Milvus Lite on this machine, or on a server or cluster.

What a transaction adds is written first, under ids above the last that counts; what it changes or removes goes to a
journal; then one row, the state, says that both count, and the journal is carried out. A process that dies in between
leaves additions that do not count, or a journal that whoever opens the gallery next carries out: a transaction happens
whole or not at all.

What is weaker than in the SQLite store:

- Who reads while another writes can see a part of what is being written.
- Milvus has no locks. A writer announces itself for a minute, and others wait; of two that begin in the same moment
  both may go on. Let one process write. The folder of Milvus Lite is open in one process at a time.
- Milvus Lite leaves it to the operating system when its files reach the disk: the end of a process loses nothing, a
  power cut may.
- Nothing is encrypted. A server may encrypt its disks.
- A server keeps what was removed in its files until it collects garbage, so `purge` says False. Milvus Lite is written
  anew without it, which takes as long as enrolling everybody again.
- Vectors are float32 whatever `Settings.precision` says.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import math
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError, MagfaceError
from magface.gallery.milvus_server import MOST, TEXT, Index, Row, Server, is_address, is_folder
from magface.gallery.records import Counts, Entry, Hits, NewPerson, Person, Settings, StoredFace, check_name
from magface.geometry import direction
from magface.models.card import Card
from magface.types import F32

T = TypeVar("T", Person, StoredFace)

PATIENCE = 60.0
"""Seconds that a writer waits for the one before."""
_LEASE = 60.0
"""Seconds after which a writer that says no more has died."""
_POLL = 0.2
_PAUSE = 0.02
"""Seconds after which a writer looks whether another one began in the same moment."""
_VERSION = 1
_STATE = "magface_state"
_FIELDS = {
    "people": {"direction": "vector", "name": "key", "labels": "keys", "faces": "integer", "facts": "text"},
    "faces": {"vector": "vector", "person": "integer", "marked": "flag", "facts": "text", "crop": "text"},
    "texts": {"unused": "vector", "text": "text"},
    "journal": {"unused": "vector", "text": "text"},
}
_UNUSED = np.ones(2, np.float32)
"""Every collection of Milvus has a vector."""
_LINKS, _BUILD = 32, 200
"""Neighbours of a node of HNSW, and how many are looked at to find them."""
_BATCH = 64
_CHUNK = 60_000
_PARTS = 1 << 14


@dataclass(frozen=True, slots=True)
class _State:
    """The row that says what counts.

    Attributes:
        generation: of the collections; a gallery that is written anew gets new ones.
        last: the largest id that counts.
        reserved: the largest id that a transaction may have written.
        journal: parts of a journal that counts; 0 where there is none.
        writer: token of who writes; "" where nobody does.
        until: when that writer has died if it says no more, seconds since 1970.
        removed: whether something was replaced or removed since the gallery was written anew.
        changes: transactions until now.
        version: of all this.
    """

    generation: int = 1
    last: int = 0
    reserved: int = 0
    journal: int = 0
    writer: str = ""
    until: float = 0.0
    removed: bool = False
    changes: int = 0
    version: int = _VERSION

    @staticmethod
    def from_json(text: str, place: str) -> _State:
        try:
            state = _State(**json.loads(text))
            numbers = (state.generation, state.last, state.reserved, state.journal, state.changes, state.version)
            sound = all(type(number) is int and number >= 0 for number in numbers) and math.isfinite(state.until)
        except (TypeError, ValueError, RecursionError):
            sound = False
        if not sound:
            raise _damaged(place, "its state")
        if state.version != _VERSION:
            raise DataError(f"the gallery in {place} is of another version of magface; update the older of the two.")
        return state


class MilvusStore:
    """People and faces in Milvus; fulfils `Store`. The head of this file says what it promises.

    Args:
        server: that has a gallery; `create` and `open` connect to it.

    Attributes:
        settings: of the gallery.
    """

    settings: Settings

    def __init__(self, server: Server) -> None:
        self._server = server
        self._token = secrets.token_hex(8)
        self._thread: int | None = None
        self._generation = 0
        self._counted: tuple[int, dict[str | None, int]] = (-1, {})
        self._tables()

    @classmethod
    def create(cls, place: str, card: Card, settings: Settings, key: str = "") -> MilvusStore:
        """Make a gallery.

        Args:
            place: `http://host:port`; `https://host:port/database`, which is made where it is not there; or a path
                where nothing is yet, which becomes a folder of Milvus Lite. Only this user can reach that one.
            card: of the model whose vectors are kept.
            settings: of the gallery.
            key: token of the server; Milvus Lite has none.

        Raises:
            DataError: there is a gallery, the server does not answer, or the path cannot be used.
        """
        server = Server(place, key, new=True)
        try:
            if _state(server) is not None:
                raise DataError(f"there is a gallery in {server.name} already; open it, or choose another place.")
            _drop(server, ())  # what is left of a creation that was cut off
            tables = _Tables(server, 1, card, settings)
            tables.make()
            tables.set_texts({"card": card.to_json(), "settings": json.dumps(asdict(settings))})
            server.create(_STATE, {"unused": "vector", "text": "text"}, len(_UNUSED), Index())
            _set_state(server, _State())
            return cls(server)
        except BaseException:
            server.close()
            raise

    @classmethod
    def open(cls, place: str, key: str = "") -> MilvusStore:
        """Open a gallery; what a process that died left half done is done or undone.

        Args:
            place: as in `create`.
            key: likewise.

        Raises:
            DataError: there is none, it is damaged or of another version, the server does not answer, or another
                process has the folder open.
        """
        server = Server(place, key)
        try:
            return cls(server)
        except BaseException:
            server.close()
            raise

    @staticmethod
    def exists(place: str, key: str = "") -> bool:
        """Whether there is a gallery.

        Raises:
            DataError: the server does not answer, or another process has the folder open.
        """
        if not is_address(place) and not is_folder(place):
            return False
        server = Server(place, key)
        try:
            return _state(server) is not None
        finally:
            server.close()

    def close(self) -> None:
        """Give back what is held; a store that was closed is not used again."""
        self._server.close()

    # reading

    @property
    def card(self) -> Card:
        """Of the model that made the vectors, also where another process changed it."""
        self._tables()
        return self._card

    def counts(self) -> Counts:
        """How much there is."""
        return self._tables().counts()

    def person(self, name: str) -> Person | None:
        """The person of that name; None where there is none."""
        return self._tables().person(name)

    def people(self, ids: Sequence[int] | None = None) -> Iterator[Person]:
        """People in the order of their ids; all, or those of `ids` that there are."""
        return self._tables().people(ids)

    def faces(self, person: int | None = None) -> Iterator[StoredFace]:
        """Faces in the order of their ids; all, or those of a person."""
        return self._tables().faces(person)

    def face(self, id: int) -> StoredFace | None:
        """One face; None where there is none."""
        return next(self._tables().faces_of([id]), None)

    def labels(self) -> list[str]:
        """All labels that people have, sorted."""
        return self._tables().labels()

    def note(self, key: str) -> str:
        """Text under a key; "" where there is none."""
        return self._tables().text(f"note {key}")

    def search(self, directions: F32, k: int, label: str | None = None) -> Hits:
        """The nearest people; at most 16,384 for each, which is what Milvus gives.

        Args:
            directions: `(Q, D)` float32, rows of length 1.
            k: people for each, >= 1.
            label: search only people with it.
        """
        tables = self._tables()
        people, cosine = tables.search(directions, k, label)
        return Hits(people, cosine, self._searched(tables, label))

    def _searched(self, tables: _Tables, label: str | None) -> int:
        """How many have a label; counted once until something changes, as Milvus Lite is slow at it."""
        changes = self._state().changes
        if changes != self._counted[0]:
            self._counted = changes, {}
        counted = self._counted[1]
        if label not in counted:
            counted[label] = tables.count(label)
        return counted[label]

    # writing

    @contextmanager
    def writing(self) -> Iterator[_Transaction]:
        """One writer at a time; others wait. When the block ends well, what it changed is in Milvus.

        What is added or changed is held in memory until then.

        Raises:
            DataError: another writer did not finish in time, or Milvus could not do it. What it could not do is
                undone or done when the gallery is used next.
        """
        with self._alone() as state:
            tables = self._at(state)
            transaction = _Transaction(tables, state.last)
            if self._server.remote:
                self._announce(state, state.last)
            try:
                yield transaction
            except BaseException:
                self._withdraw(state)
                raise
            if transaction.card is not None:
                self._write_anew(state, transaction, transaction.card)
            elif transaction.changed:
                self._commit(state, tables, transaction)
            else:
                self._withdraw(state)

    def purge(self) -> bool:
        """Write a folder of Milvus Lite anew if something was removed; ask a server to drop it, and say False."""
        with self._alone() as state:
            if state.removed and not self._server.remote:
                self._write_anew(state, _Transaction(self._at(state), state.last), self._card)
            elif state.removed:
                self._at(state).compact()
            return not (state.removed and self._server.remote)

    @contextmanager
    def _alone(self) -> Iterator[_State]:
        """The state, while nobody else in this process writes, and nobody who announced it elsewhere."""
        if self._thread == threading.get_ident():
            raise DataError("a gallery is written by one transaction at a time; end the one before.")
        if not self._server.writer.acquire(timeout=PATIENCE):
            raise _busy(self._server.name)
        try:
            self._thread = threading.get_ident()
            yield self._settled()
        finally:
            self._thread = None
            self._server.writer.release()

    def _settled(self) -> _State:
        """The state after every writer has finished, or died and was cleaned up after."""
        end = time.monotonic() + PATIENCE
        while (state := self._state()).writer and not self._is_dead(state):
            if time.monotonic() > end:
                raise _busy(self._server.name)
            time.sleep(_POLL)
        return self._recover(state) if state.writer else state

    def _is_dead(self, state: _State) -> bool:
        """Whether who announced to write cannot go on; asked by who holds the lock of this process."""
        return not self._server.remote or state.writer == self._token or time.time() > state.until

    def _recover(self, state: _State) -> _State:
        """Carry out a journal that counts; undo additions that do not."""
        tables = self._at(state)
        if state.journal:
            tables.apply(tables.journal(state.journal))
        else:
            tables.undo(state.last, state.reserved)
        _drop(self._server, _names(state.generation))
        return self._finish(state, tables)

    def _finish(self, state: _State, tables: _Tables) -> _State:
        done = replace(state, last=state.reserved, journal=0, writer="", until=0.0, changes=state.changes + 1)
        _set_state(self._server, done)
        tables.clear_journal()
        return done

    def _announce(self, state: _State, reserved: int) -> _State:
        """Say who writes, and up to which id."""
        held = replace(state, reserved=reserved, writer=self._token, until=time.time() + _LEASE)
        if self._server.remote:
            now = self._state()
            if now.changes != state.changes or now.writer not in ("", self._token):
                raise DataError(f"another process changed the gallery in {self._server.name} meanwhile; do it again.")
        _set_state(self._server, held)
        if self._server.remote:
            time.sleep(_PAUSE)
            if self._state() != held:
                raise _busy(self._server.name)
        return held

    def _withdraw(self, state: _State) -> None:
        """Take back what was announced."""
        if self._server.remote and self._state().writer == self._token:
            _set_state(self._server, state)

    def _commit(self, state: _State, tables: _Tables, transaction: _Transaction) -> None:
        held = self._announce(state, transaction.last)

        def alive() -> None:
            _set_state(self._server, replace(held, until=time.time() + _LEASE))

        tables.insert("faces", map(_face_row, transaction.new_faces()), alive)
        tables.insert("people", map(_person_row, transaction.new_people()), alive)
        changes = transaction.changes()
        if changes:
            parts = tables.set_journal(changes)
            held = replace(held, journal=parts, removed=True, until=time.time() + _LEASE)
            _set_state(self._server, held)
            tables.apply(changes, alive)
        self._finish(held, tables)

    def _write_anew(self, state: _State, transaction: _Transaction, card: Card) -> None:
        """Write all that is left to new collections, and drop the old ones."""
        held = self._announce(state, transaction.last)
        new = _Tables(self._server, state.generation + 1, card, self.settings)
        _drop(self._server, _names(state.generation))
        new.make()

        def alive() -> None:
            _set_state(self._server, replace(held, until=time.time() + _LEASE))

        new.insert("faces", map(_face_row, transaction.faces()), alive)
        new.insert("people", map(_person_row, transaction.people()), alive)
        new.copy_texts(transaction.tables)
        new.set_texts({**transaction.texts, "card": card.to_json()})
        _set_state(
            self._server, replace(held, generation=new.generation, last=transaction.last, journal=0, removed=False)
        )
        _drop(self._server, _names(new.generation))
        self._finish(self._state(), new)

    # the state

    def _state(self) -> _State:
        state = _state(self._server)
        if state is None:
            raise DataError(f"there is no gallery in {self._server.name}; check the place, or make one.")
        return state

    def _tables(self) -> _Tables:
        """What there is now, after what was left half done."""
        state = self._state()
        idle = self._thread is None and (self._server.remote or not self._server.writer.locked())
        if state.writer and idle and self._is_dead(state):
            with self._alone() as state:
                return self._at(state)
        return self._at(state)

    def _at(self, state: _State) -> _Tables:
        """The collections of a state; card and settings are those in them."""
        if state.generation != self._generation:
            self._card, self.settings = _Tables.described(self._server, state.generation)
            self._generation = state.generation
            _Tables(self._server, state.generation, self._card, self.settings).load()
        return _Tables(self._server, state.generation, self._card, self.settings)


class _Changes(NamedTuple):
    """Changes of rows that are there; to make them twice changes nothing more.

    Attributes:
        people: rows to replace.
        faces: likewise.
        gone: ids of people to remove with their faces.
        faces_gone: ids of faces to remove.
        texts: by key; "" to remove.
    """

    people: list[Row]
    faces: list[Row]
    gone: list[int]
    faces_gone: list[int]
    texts: dict[str, str]

    def __bool__(self) -> bool:
        return any(self)

    def to_json(self) -> str:
        return json.dumps(self._asdict(), default=_packed)

    @staticmethod
    def from_json(text: str, place: str) -> _Changes:
        try:
            changes = _Changes(**json.loads(text))
            for rows, field in ((changes.people, "direction"), (changes.faces, "vector")):
                for row in rows:
                    row[field] = _unpacked(row[field])
            return changes
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _damaged(place, "its journal") from error


class _Tables:
    """The collections of a generation, and what their rows mean."""

    def __init__(self, server: Server, generation: int, card: Card, settings: Settings) -> None:
        self.server, self.generation = server, generation
        self._size = card.embedding_size
        self._index = _index(settings)

    @staticmethod
    def described(server: Server, generation: int) -> tuple[Card, Settings]:
        """What the texts of a generation say of it."""
        card, settings = (_text(server, _name("texts", generation), key) for key in ("card", "settings"))
        try:
            return Card.from_json(card), Settings(**json.loads(settings))
        except (MagfaceError, TypeError, ValueError, RecursionError) as error:
            raise _damaged(server.name, "its card or settings") from error

    def name(self, kind: str) -> str:
        return _name(kind, self.generation)

    def make(self) -> None:
        for kind, fields in _FIELDS.items():
            size = len(_UNUSED) if "unused" in fields else self._size
            self.server.create(self.name(kind), fields, size, self._index if kind == "people" else Index())

    def load(self) -> None:
        for kind in _FIELDS:
            self.server.load(self.name(kind))

    def compact(self) -> None:
        for kind in _FIELDS:
            self.server.compact(self.name(kind))

    def insert(self, kind: str, rows: Iterable[Row], alive: Any) -> None:
        self.server.insert(self.name(kind), rows, alive)

    def undo(self, last: int, reserved: int) -> None:
        """Remove additions that do not count."""
        if reserved > last:
            for kind in ("faces", "people"):
                self.server.delete(self.name(kind), f"id > {last} and id <= {reserved}")
        self.clear_journal()

    # people and faces

    def counts(self) -> Counts:
        people, faces = (self.server.count(self.name(kind)) for kind in ("people", "faces"))
        return Counts(people, faces, self.server.count(self.name("faces"), "marked == true"))

    def person(self, name: str) -> Person | None:
        found = map(self._person, self.server.rows(self.name("people"), f'name == "{_key(name)}"'))
        return next((person for person in found if person.name == name), None)

    def people(self, ids: Sequence[int] | None = None) -> Iterator[Person]:
        fields = ("id", "faces", "facts")
        name = self.name("people")
        rows = self.server.rows(name, "", fields) if ids is None else self.server.picked(name, ids, fields)
        return map(self._person, rows)

    def faces(self, person: int | None = None) -> Iterator[StoredFace]:
        return map(self._face, self.server.rows(self.name("faces"), "" if person is None else f"person == {person}"))

    def faces_of(self, ids: Iterable[int]) -> Iterator[StoredFace]:
        return map(self._face, self.server.picked(self.name("faces"), ids))

    def labels(self) -> list[str]:
        rows = self.server.rows(self.name("people"), "array_length(labels) > 0", ("id", "faces", "facts"))
        return sorted({label for row in rows for label in self._person(row).labels})

    def count(self, label: str | None) -> int:
        """People with a label, or all."""
        return self.server.count(self.name("people"), _labelled(label))

    def search(self, directions: F32, k: int, label: str | None) -> tuple[NDArray[np.int64], F32]:
        people = np.full((len(directions), k), -1, np.int64)
        cosine = np.full(people.shape, -np.inf, np.float32)
        if k > MOST and self.count(label) > MOST:
            raise DataError(f"Milvus finds at most {MOST:,} people in a search; ask for fewer than {k:,}.")
        for start in range(0, len(directions), _BATCH):
            block = directions[start : start + _BATCH]
            found = self.server.search(
                self.name("people"), "direction", block, min(k, MOST), _labelled(label), self._index
            )
            for row, hits in enumerate(found, start):
                order = sorted(hits, key=lambda hit: (-hit["distance"], hit["id"]))[:k]
                people[row, : len(order)] = [hit["id"] for hit in order]
                cosine[row, : len(order)] = np.clip([hit["distance"] for hit in order], -1, 1)
        return people, cosine

    def _person(self, row: Row) -> Person:
        try:
            facts = json.loads(row["facts"])
            labels = tuple(facts["labels"])
            for text, what in ((facts["name"], "a person"), *((label, "a label") for label in labels)):
                check_name(text, what)
            return Person(row["id"], facts["name"], self._sized(_unpacked(facts["template"])), row["faces"], labels)
        except (MagfaceError, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise _damaged(self.server.name, f"person {row.get('id')}") from error

    def _face(self, row: Row) -> StoredFace:
        try:
            facts = json.loads(row["facts"])
            box = facts["box"] and tuple(map(float, facts["box"]))
            crop = base64.b64decode(row["crop"], validate=True)
            vector = self._sized(np.asarray(row["vector"], np.float32))
            entry = Entry("a face", vector, facts["score"], facts["source"], box, crop, facts["time"])
            more = (entry.source, entry.box, entry.crop, entry.time)
            return StoredFace(row["id"], row["person"], entry.vector, float(entry.score), *more, bool(row["marked"]))
        except (MagfaceError, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise _damaged(self.server.name, f"face {row.get('id')}") from error

    def _sized(self, vector: F32) -> F32:
        if vector.shape != (self._size,) or not np.isfinite(vector).all():
            raise ValueError("a vector of another size, or not finite")
        return vector

    # texts

    def text(self, key: str) -> str:
        return _text(self.server, self.name("texts"), key)

    def set_texts(self, texts: Mapping[str, str]) -> None:
        """Keep texts; "" removes one."""
        for key, text in texts.items():
            first = _first(key)
            parts = _parts(json.dumps(text)) if text else []
            if len(parts) >= _PARTS:
                raise DataError(f"the text under {key!r} is too long for Milvus.")
            self.server.upsert(self.name("texts"), (_text_row(first + i, part) for i, part in enumerate(parts)))
            self.server.delete(self.name("texts"), f"id >= {first + len(parts)} and id < {first + _PARTS}")

    def copy_texts(self, other: _Tables) -> None:
        rows = other.server.rows(other.name("texts"))
        self.server.insert(self.name("texts"), (_text_row(row["id"], row["text"]) for row in rows))

    # the journal

    def journal(self, parts: int) -> _Changes:
        rows = self.server.rows(self.name("journal"), f"id <= {parts}")
        return _Changes.from_json("".join(row["text"] for row in rows), self.server.name)

    def set_journal(self, changes: _Changes) -> int:
        """Write down changes; gives how many rows that took."""
        self.clear_journal()
        parts = _parts(changes.to_json())
        self.server.insert(self.name("journal"), (_text_row(i, part) for i, part in enumerate(parts, 1)))
        return len(parts)

    def clear_journal(self) -> None:
        self.server.delete(self.name("journal"), "id > 0")

    def apply(self, changes: _Changes, alive: Any = None) -> None:
        """Carry out changes, whether some of them are done already or not."""
        self.server.upsert(self.name("faces"), changes.faces, alive)
        self.server.remove(self.name("faces"), changes.faces_gone)
        for person in changes.gone:
            self.server.delete(self.name("faces"), f"person == {person}")
        self.server.upsert(self.name("people"), changes.people, alive)
        self.server.remove(self.name("people"), changes.gone)
        self.set_texts(changes.texts)


class _Transaction:
    """Changes that lie over the collections until they are written; fulfils `Transaction`.

    Attributes:
        tables: what is there without the changes.
        last: the largest id that was given.
        texts: that were set, by key.
        card: of the model whose vectors are kept from now on; None where it stays.
    """

    def __init__(self, tables: _Tables, last: int) -> None:
        self.tables, self.last = tables, last
        self.texts: dict[str, str] = {}
        self.card: Card | None = None
        self._counted = last
        self._people: dict[int, Person | None] = {}
        self._faces: dict[int, StoredFace | None] = {}
        self._vectors: dict[int, tuple[F32, float, bool]] = {}
        self._names: dict[str, int] = {}

    # reading

    def counts(self) -> Counts:
        """How much there is."""
        before = self.tables.counts()
        people = sum(person is not None for person in self._people.values())
        people += before.people - sum(id <= self._counted for id in self._people)
        if self._vectors or self._gone() or any(id <= self._counted for id in self._faces):
            marks = [face.marked for face in self.faces()]
            return Counts(people, len(marks), sum(marks))
        marks = [face.marked for face in self.new_faces()]
        return Counts(people, before.faces + len(marks), before.marked + sum(marks))

    def person(self, name: str) -> Person | None:
        """The person of that name; None where there is none."""
        changed = self._people.get(self._names.get(name, 0))
        if changed is not None and changed.name == name:
            return changed
        found = self.tables.person(name)
        return None if found is None or found.id in self._people else found

    def people(self, ids: Sequence[int] | None = None) -> Iterator[Person]:
        """People in the order of their ids; all, or those of `ids` that there are."""
        if ids is None:
            return _merged(self.tables.people(), self._people, self._people.values())
        others = [id for id in ids if id not in self._people]
        return _merged(self.tables.people(others), {}, map(self._people.get, set(ids)))

    def faces(self, person: int | None = None) -> Iterator[StoredFace]:
        """Faces in the order of their ids; all, or those of a person."""
        if person is not None and person > self._counted:
            kept: Iterator[StoredFace] = iter(())
        else:
            kept = self._left(self.tables.faces(person))
        changed = (face for face in self._faces.values() if face and person in (None, face.person))
        return _merged(kept, self._faces, changed)

    def face(self, id: int) -> StoredFace | None:
        """One face; None where there is none."""
        return next(self._faces_of([id]), None)

    # changing

    def add_people(self, people: Sequence[NewPerson]) -> list[list[int]]:
        """Add people with their faces; gives the ids of the faces of each. Their names are new."""
        added = []
        for new in people:
            self.last += 1
            self._put_person(Person(self.last, new.name, new.template, 0, tuple(sorted(set(new.labels)))))
            added.append(self.add_faces(self.last, new.faces, new.marked))
        return added

    def add_faces(self, person: int, faces: Sequence[Entry], marked: Sequence[bool]) -> list[int]:
        """Add faces to a person; gives their ids. The template is set with `set_person` afterwards."""
        ids = list(range(self.last + 1, self.last + 1 + len(faces)))
        for id, entry, mark in zip(ids, faces, marked, strict=True):
            more = (entry.source, entry.box, entry.crop, entry.time)
            self._faces[id] = StoredFace(id, person, entry.vector, entry.score, *more, bool(mark))
        self._count(person, len(ids))
        self.last += len(ids)
        return ids

    def set_person(self, person: Person) -> None:
        """Replace name, template and labels of the person with that id; `faces` is counted anew."""
        faces = self._known(person.id).faces
        self._put_person(replace(person, faces=faces, labels=tuple(sorted(set(person.labels)))))

    def move_faces(self, faces: Sequence[int], person: int) -> None:
        """Give faces to another person."""
        self._known(person)
        for face in list(self._faces_of(faces)):
            self._count(face.person, -1)
            self._count(person, 1)
            self._faces[face.id] = replace(face, person=person)

    def set_vectors(self, vectors: Sequence[tuple[int, F32, float, bool]]) -> None:
        """Replace vector, score and mark of faces: `(id, vector, score, marked)`."""
        for id, vector, score, marked in vectors:
            self._vectors[id] = (np.asarray(vector, np.float32), float(score), bool(marked))
            if (face := self._faces.get(id)) is not None:
                self._faces[id] = self._now(face)

    def remove_faces(self, faces: Sequence[int]) -> None:
        """Remove faces."""
        for face in list(self._faces_of(faces)):
            self._count(face.person, -1)
            self._drop_face(face.id)

    def remove_person(self, person: int) -> None:
        """Remove a person with all their faces and labels."""
        for id in [face.id for face in self._faces.values() if face is not None and face.person == person]:
            self._drop_face(id)
        if person <= self._counted:
            self._people[person] = None
        else:
            self._people.pop(person, None)

    def set_note(self, key: str, value: str) -> None:
        """Keep a text under a key; "" removes it."""
        self.texts[f"note {key}"] = value

    def set_card(self, card: Card) -> None:
        """The model whose vectors are kept from now on; all vectors are replaced in the same transaction."""
        self.card = card

    # what is to be written

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._people or self._faces or self._vectors or self.texts)

    def new_people(self) -> Iterator[Person]:
        """People that were added."""
        return (person for id, person in self._people.items() if person is not None and id > self._counted)

    def new_faces(self) -> Iterator[StoredFace]:
        """Faces that were added."""
        return (face for id, face in self._faces.items() if face is not None and id > self._counted)

    def changes(self) -> _Changes:
        """What becomes of people and faces that were there."""
        people = {id: person for id, person in self._people.items() if id <= self._counted}
        faces = {id: face for id, face in self._faces.items() if id <= self._counted}
        others = [id for id in self._vectors if id not in self._faces and id <= self._counted]
        return _Changes(
            [_person_row(person) for person in people.values() if person is not None],
            [_face_row(face) for face in faces.values() if face is not None]
            + [_face_row(face) for face in self._faces_of(others)],
            [id for id, person in people.items() if person is None],
            [id for id, face in faces.items() if face is None],
            self.texts,
        )

    def _gone(self) -> set[int]:
        return {id for id, person in self._people.items() if person is None}

    def _known(self, id: int) -> Person:
        person = self._people[id] if id in self._people else next(self.tables.people([id]), None)
        if person is None:
            raise DataError(f"there is no person {id} in the gallery.")
        return person

    def _put_person(self, person: Person) -> None:
        self._people[person.id] = person
        self._names[person.name] = person.id

    def _count(self, person: int, more: int) -> None:
        known = self._known(person)
        self._put_person(replace(known, faces=known.faces + more))

    def _faces_of(self, ids: Sequence[int]) -> Iterator[StoredFace]:
        others = [id for id in ids if id not in self._faces]
        return _merged(self._left(self.tables.faces_of(others)), {}, map(self._faces.get, set(ids)))

    def _left(self, faces: Iterator[StoredFace]) -> Iterator[StoredFace]:
        """Faces that were there, without those of people who are gone."""
        return (self._now(face) for face in faces if self._people.get(face.person, face) is not None)

    def _now(self, face: StoredFace) -> StoredFace:
        """A face with the vector that it has been given since."""
        if face.id not in self._vectors:
            return face
        vector, score, marked = self._vectors[face.id]
        return replace(face, vector=vector, score=score, marked=marked)

    def _drop_face(self, id: int) -> None:
        if id <= self._counted:
            self._faces[id] = None
        else:
            del self._faces[id]


def _merged(kept: Iterator[T], changed: Mapping[int, T | None], now: Iterable[T | None]) -> Iterator[T]:
    """What was there without what changed, and what is there now, in the order of ids."""
    others = sorted((each for each in now if each is not None), key=attrgetter("id"))
    return heapq.merge((each for each in kept if each.id not in changed), others, key=attrgetter("id"))


def _index(settings: Settings) -> Index:
    """The more searches must find the nearest, the more nodes of the graph each of them visits."""
    if settings.index == "exact" or settings.recall == 1:
        return Index()
    visited = int(np.clip(2 / (1 - settings.recall), 64, MOST))
    return Index("HNSW", {"M": _LINKS, "efConstruction": _BUILD}, {"ef": visited})


def _person_row(person: Person) -> Row:
    facts = {"name": person.name, "labels": person.labels, "template": _packed(person.template)}
    return {
        "id": person.id,
        "direction": direction(np.asarray(person.template, np.float32)),
        "name": _key(person.name),
        "labels": [_key(label) for label in person.labels],
        "faces": person.faces,
        "facts": _fitting(json.dumps(facts), f"what is known of {person.name}"),
    }


def _face_row(face: StoredFace) -> Row:
    box = face.box and [float(number) for number in face.box]
    facts = {"score": float(face.score), "source": face.source, "box": box, "time": float(face.time)}
    return {
        "id": face.id,
        "vector": np.asarray(face.vector, np.float32),
        "person": face.person,
        "marked": bool(face.marked),
        "facts": _fitting(json.dumps(facts), f"the source of face {face.id}"),
        "crop": _fitting(base64.b64encode(face.crop).decode(), f"the crop of face {face.id}"),
    }


def _text_row(id: int, text: str) -> Row:
    return {"id": id, "unused": _UNUSED, "text": text}


def _fitting(text: str, what: str) -> str:
    if len(text) > TEXT:
        raise DataError(f"{what} is longer than a row of Milvus, {TEXT:,} bytes; leave it out.")
    return text


def _parts(text: str) -> list[str]:
    return [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]


def _key(text: str) -> str:
    """What rows are found by: no name or label is ever a part of an expression."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _labelled(label: str | None) -> str:
    """Expression for people with a label, or all."""
    return "" if label is None else f'array_contains(labels, "{_key(label)}")'


def _first(key: str) -> int:
    """Id of the first part of a text."""
    return (int(_key(key)[:12], 16) + 1) * _PARTS


def _text(server: Server, name: str, key: str) -> str:
    first = _first(key)
    parts = [row["text"] for row in server.rows(name, f"id >= {first} and id < {first + _PARTS}")]
    try:
        return json.loads("".join(parts)) if parts else ""
    except ValueError as error:
        raise _damaged(server.name, f"the text {key!r}") from error


def _packed(vector: F32) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def _unpacked(text: str) -> F32:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)


def _name(kind: str, generation: int) -> str:
    return f"magface_{kind}_{generation}"


def _names(generation: int) -> list[str]:
    return [_STATE, *(_name(kind, generation) for kind in _FIELDS)]


def _drop(server: Server, keep: Sequence[str]) -> None:
    """Drop the collections of a gallery but those."""
    for name in server.collections():
        if name.startswith("magface_") and name not in keep:
            server.drop(name)


def _state(server: Server) -> _State | None:
    """The state of the gallery of a server; None where there is no gallery."""
    if _STATE not in server.collections():
        return None
    found = list(server.picked(_STATE, [1]))
    return _State.from_json(found[0]["text"], server.name) if found else None


def _set_state(server: Server, state: _State) -> None:
    server.upsert(_STATE, [_text_row(1, json.dumps(asdict(state)))])


def _busy(place: str) -> DataError:
    return DataError(f"another process is writing to the gallery in {place}; try again when it has finished.")


def _damaged(place: str, what: str) -> DataError:
    return DataError(f"the gallery in {place} is damaged at {what}; restore it from a copy.")
