"""Where a gallery keeps its people: the interface that every store fulfils.

A store keeps what it is told and finds what is near; what a template is, who may be enrolled and when a search has
found somebody is for `Gallery` to decide, once for all stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from magface.gallery.records import Counts, Entry, Hits, NewPerson, Person, Settings, StoredFace
from magface.models.card import Card
from magface.types import F32


class Reading(Protocol):
    """What can be asked of a store, inside of a transaction and outside."""

    def counts(self) -> Counts:
        """How much there is."""

    def person(self, name: str) -> Person | None:
        """The person of that name; None where there is none."""

    def people(self, ids: Sequence[int] | None = None) -> Iterator[Person]:
        """People in the order of their ids; all, or those of `ids` that there are. Memory does not grow with them."""

    def faces(self, person: int | None = None) -> Iterator[StoredFace]:
        """Faces in the order of their ids; all, or those of a person. Memory does not grow with them."""

    def face(self, id: int) -> StoredFace | None:
        """One face; None where there is none."""


class Transaction(Reading, Protocol):
    """Changes that become true together when the block of `Store.writing` ends well, and not at all otherwise."""

    def add_people(self, people: Sequence[NewPerson]) -> list[list[int]]:
        """Add people with their faces; gives the ids of the faces of each. Their names are new."""

    def add_faces(self, person: int, faces: Sequence[Entry], marked: Sequence[bool]) -> list[int]:
        """Add faces to a person; gives their ids. The template is set with `set_person` afterwards."""

    def set_person(self, person: Person) -> None:
        """Replace name, template and labels of the person with that id; `faces` is counted anew."""

    def move_faces(self, faces: Sequence[int], person: int) -> None:
        """Give faces to another person."""

    def set_vectors(self, vectors: Sequence[tuple[int, F32, float, bool]]) -> None:
        """Replace vector, score and mark of faces: `(id, vector, score, marked)`."""

    def remove_faces(self, faces: Sequence[int]) -> None:
        """Remove faces."""

    def remove_person(self, person: int) -> None:
        """Remove a person with all their faces and labels."""

    def set_note(self, key: str, value: str) -> None:
        """Keep a text under a key; "" removes it."""

    def set_card(self, card: Card) -> None:
        """The model whose vectors are kept from now on; all vectors are replaced in the same transaction."""


class Store(Reading, Protocol):
    """People and faces that outlive the process."""

    settings: Settings

    @property
    def card(self) -> Card:
        """Of the model that made the vectors, also where another process changed it; `sha256` is its fingerprint."""

    def writing(self) -> AbstractContextManager[Transaction]:
        """One writer at a time; others wait. When the block ends well, what it changed is on the disk.

        Raises:
            DataError: another writer did not finish in time, or the store cannot be written.
        """

    def search(self, directions: F32, k: int, label: str | None = None) -> Hits:
        """The nearest people.

        Args:
            directions: `(Q, D)` float32, rows of length 1.
            k: people for each, >= 1.
            label: search only people with it.
        """

    def labels(self) -> list[str]:
        """All labels that people have, sorted."""

    def note(self, key: str) -> str:
        """Text under a key; "" where there is none."""

    def purge(self) -> bool:
        """Make sure that nothing of what was removed is left in files; False where others still read old pages."""

    def close(self) -> None:
        """Give back what is held; a store that was closed is not used again."""
