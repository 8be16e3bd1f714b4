"""A gallery: people and their faces, kept so that a face can be found again, whatever store keeps them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from magface.errors import DataError
from magface.gallery import audit as auditing
from magface.gallery import enrolling, openset, searching
from magface.gallery.audit import Audit
from magface.gallery.openset import By, OpenSet, Shift
from magface.gallery.policy import Enrolment, Policy
from magface.gallery.records import Counts, Entry, NewPerson, Person, Settings, StoredFace, check_name
from magface.gallery.searching import Claim, Search
from magface.gallery.store import Store, Transaction
from magface.models.card import Card
from magface.quality import calibration
from magface.types import F32, Embeddings

if TYPE_CHECKING:
    from magface.gallery.milvus import MilvusStore
    from magface.gallery.sqlite import SqliteStore

KEY = "MAGFACE_GALLERY_KEY"
"""Variable of the environment that holds the key of an encrypted gallery."""

MILVUS = "milvus:"
"""How the address of a folder of Milvus Lite begins."""

_POLICY, _SHIFT = "policy", "shift"


@dataclass(frozen=True, slots=True)
class Info:
    """What there is to know of a gallery.

    Attributes:
        counts: people, faces, and faces that are marked.
        labels: that people have, sorted.
        model: name and version of the model that made the vectors.
        fingerprint: of that model, hex sha256.
        settings: how the gallery is kept and searched.
        policy: who may be enrolled.
        calibrated: what `Gallery.calibrate` found; None where it was not asked.
    """

    counts: Counts
    labels: tuple[str, ...]
    model: str
    fingerprint: str
    settings: Settings
    policy: Policy
    calibrated: Shift | None


def open_gallery(
    uri: str | os.PathLike[str],
    card: Card | None = None,
    *,
    create: bool = False,
    settings: Settings | None = None,
    key: str | None = None,
) -> Gallery:
    """Open a gallery, wherever it is.

    Args:
        uri: a file, for a gallery in SQLite; `http://...` or `https://...` for one in a Milvus server, and
            `milvus:FOLDER` for one in a folder of Milvus Lite.
        card: of the model whose embeddings are to be searched and enrolled; needed to make a gallery, and otherwise
            only compared.
        create: make the gallery where there is none.
        settings: of a gallery that is made.
        key: of a gallery that is encrypted; None for what `MAGFACE_GALLERY_KEY` holds, "" for no encryption.

    Raises:
        DataError: there is no gallery, or it is damaged, of another model, or encrypted with another key.
    """
    place, kind = _store(os.fspath(uri))
    secret = os.environ.get(KEY, "") if key is None else key
    remote = "://" in place
    if create and (remote or _absent(place)):
        if card is None:
            raise DataError(f"name the model whose embeddings the gallery {uri} is to keep, to make it.")
        try:
            return Gallery(kind.create(place, card, settings or Settings(), secret))
        except DataError:
            if not remote and _absent(place):  # else there is one, perhaps since a moment ago
                raise
    gallery = Gallery(kind.open(place, secret))
    if card is not None:
        try:
            gallery.check_model(card.sha256)
        except DataError:
            gallery.close()
            raise
    return gallery


def _absent(place: str) -> bool:
    """Whether there is nothing, or an empty file: a full disk or a kill leaves one where a gallery was to be made."""
    return not os.path.lexists(place) or (Path(place).is_file() and not Path(place).stat().st_size)


def _store(uri: str) -> tuple[str, type[SqliteStore] | type[MilvusStore]]:
    """Where the store is, and its kind."""
    if uri.startswith(("http://", "https://", MILVUS)):
        from magface.gallery.milvus import MilvusStore

        return uri.removeprefix(MILVUS), MilvusStore
    if "://" in uri:
        raise DataError(f"there is no gallery of the kind {uri}; name a file, {MILVUS}FOLDER or http://HOST:PORT.")
    from magface.gallery.sqlite import SqliteStore

    return uri, SqliteStore


class Gallery:
    """People and their faces in a store.

    Every method that changes something returns once the change is durable. A gallery may be open in several processes:
    one changes it at a time, the others wait, and searches see what was changed.

    Args:
        store: that keeps the people; see `open_gallery`.

    Attributes:
        store: the same.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from magface.models import card, default
        >>> model, _ = card.read(default.path())
        >>> ann, bob = np.random.default_rng(0).normal(0, 2, (2, 128)).astype(np.float32)
        >>> with TemporaryDirectory() as folder, open_gallery(f"{folder}/faces.db", model, create=True) as gallery:
        ...     added = gallery.enroll([Entry("Ann", ann, score=90), Entry("Bob", bob, score=50)])
        ...     [found] = gallery.search(ann[None], k=1, fpir=0.01)
        >>> [(each.person, each.marked) for each in added]
        [('Ann', False), ('Bob', True)]
        >>> found.identified.person, round(found.matches[0].cosine, 3)
        ('Ann', 1.0)
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held; a gallery that was closed is not used again."""
        self.store.close()

    @property
    def card(self) -> Card:
        """Card of the model that made the vectors."""
        return self.store.card

    @property
    def settings(self) -> Settings:
        """How the gallery is kept and searched."""
        return self.store.settings

    @property
    def policy(self) -> Policy:
        """Who may be enrolled; kept in the gallery when it is set."""
        return Policy.from_json(self.store.note(_POLICY))

    @policy.setter
    def policy(self, policy: Policy) -> None:
        with self.store.writing() as transaction:
            transaction.set_note(_POLICY, policy.to_json())

    def check_model(self, fingerprint: str) -> None:
        """Refuse embeddings of another model.

        Args:
            fingerprint: hex sha256 of the model; "" when it is not known, which is not refused.

        Raises:
            DataError: it is another model than that of the gallery.
        """
        if fingerprint and self.card.sha256 and fingerprint != self.card.sha256:
            raise DataError(
                f"this gallery keeps embeddings of {self.card.name} {self.card.version} "
                f"({self.card.sha256[:12]}), not of the model {fingerprint[:12]}: use that model, or embed the gallery "
                "again with the new one."
            )

    def info(self) -> Info:
        """What there is to know of the gallery."""
        shift = self._shift()
        model = f"{self.card.name} {self.card.version}"
        labels = tuple(self.store.labels())
        return Info(
            self.store.counts(),
            labels,
            model,
            self.card.sha256,
            self.settings,
            self.policy,
            shift if shift.searches else None,
        )

    # people and faces

    def people(self) -> Iterator[Person]:
        """Everybody, in the order in which they were enrolled."""
        return self.store.people()

    def person(self, name: str) -> Person:
        """The person of that name.

        Raises:
            DataError: there is none.
        """
        return _known(self.store.person(name), name)

    def faces(self, person: str | None = None) -> Iterator[StoredFace]:
        """Faces of a person, or all, in the order in which they were enrolled.

        Raises:
            DataError: there is no such person.
        """
        return self.store.faces(None if person is None else self.person(person).id)

    def entries(self, embeddings: Embeddings, people: Sequence[str], sources: Sequence[str] = ()) -> Iterator[Entry]:
        """Embeddings as faces to enroll, their quality read from their magnitude.

        Args:
            embeddings: N, of the model of the gallery.
            people: name of the person of each.
            sources: of each; none where they are not known.

        Raises:
            DataError: they are of another model, or the lengths differ.
        """
        self.check_model(embeddings.model)
        if len(people) != len(embeddings) or len(sources) not in (0, len(people)):
            raise DataError(
                f"{len(embeddings)} embeddings need as many people, and as many sources or none; there are "
                f"{len(people)} and {len(sources)}."
            )
        scores = calibration.score(embeddings.magnitude, self.card).tolist()
        places = sources or [""] * len(people)
        for person, vector, score, source in zip(people, embeddings.vectors, scores, places, strict=True):
            yield Entry(person, vector, score, source)

    def enroll(
        self,
        entries: Iterable[Entry],
        *,
        labels: Sequence[str] = (),
        model: str = "",
        check: bool = True,
        progress: Callable[[int], object] = lambda _: None,
    ) -> list[Enrolment]:
        """Enroll faces under the names of their people; who is not there yet is added.

        Some 2,000 faces become durable together. Where this stops, by an error, by Ctrl-C or by a power cut, those
        before stay enrolled, and doing it again adds only what is missing.

        Args:
            entries: taken one batch at a time.
            labels: that every person of `entries` gets besides those they have.
            model: fingerprint of the model that made the vectors; "" when it is not known.
            check: compare every face with the other faces of the person, and search it, to report copies and likely
                wrong labels. Without, enrolling does not slow down as the gallery grows.
            progress: called with the number of faces of each batch that is durable.

        Returns:
            What each entry came to, in order.

        Raises:
            DataError: vectors are of another model, a label is no name, or the store cannot be written.
        """
        self.check_model(model)
        for label in labels:
            check_name(label, "a label")
        results: list[Enrolment] = []
        for batch in enrolling.enrolled(self.store, entries, self.policy, labels, check, self._shift()):
            results += batch
            progress(len(batch))
        return results

    def remove(self, *people: str) -> bool:
        """Remove people with all their faces, and every trace of them.

        Returns:
            True when nothing of them is left in any file; False where traces wait for another process that is reading:
            call `purge` when it has finished.

        Raises:
            DataError: a person is not there; nobody was removed.
        """
        with self.store.writing() as transaction:
            for person in [_known(transaction.person(name), name) for name in dict.fromkeys(people)]:
                transaction.remove_person(person.id)
        return self.store.purge()

    def remove_face(self, *faces: int) -> bool:
        """Remove faces, and people of whom no face is left.

        Returns:
            As `remove`.

        Raises:
            DataError: a face is not there; none was removed.
        """
        with self.store.writing() as transaction:
            found = [_face(transaction, face) for face in dict.fromkeys(faces)]
            transaction.remove_faces([face.id for face in found])
            for person in transaction.people(sorted({face.person for face in found})):
                _settle(transaction, person)
        return self.store.purge()

    def purge(self) -> bool:
        """Make sure that nothing of what was removed is left in files; False where others still read old pages."""
        return self.store.purge()

    def rename(self, person: str, name: str) -> bool:
        """Give a person another name.

        Returns:
            As `remove`, of the old name.

        Raises:
            DataError: there is no such person, or there is one of the new name: `merge` makes one of two.
        """
        check_name(name, "a person")
        with self.store.writing() as transaction:
            known = _known(transaction.person(person), person)
            if name != person and transaction.person(name) is not None:
                raise DataError(f"there is a person {name!r} already; merge the two if they are one.")
            transaction.set_person(dataclasses.replace(known, name=name))
        return self.store.purge()

    def relabel(self, person: str, add: Iterable[str] = (), drop: Iterable[str] = ()) -> Person:
        """Change the labels of a person; gives the person.

        Raises:
            DataError: there is no such person, or a label is no name.
        """
        added = list(add)
        for label in added:
            check_name(label, "a label")
        with self.store.writing() as transaction:
            known = _known(transaction.person(person), person)
            labels = tuple(sorted({*known.labels, *added} - set(drop)))
            changed = dataclasses.replace(known, labels=labels)
            transaction.set_person(changed)
        return changed

    def merge(self, into: str, other: str) -> Person:
        """Make one person of two, who keeps the name `into`; gives the person.

        Raises:
            DataError: one of them is not there, or both are the same.
        """
        if into == other:
            raise DataError(f"{into!r} cannot be merged with themselves; name two people.")
        with self.store.writing() as transaction:
            kept, gone = (_known(transaction.person(name), name) for name in (into, other))
            transaction.move_faces([face.id for face in transaction.faces(gone.id)], kept.id)
            transaction.remove_person(gone.id)
            labels = tuple(sorted({*kept.labels, *gone.labels}))
            _fuse(transaction, dataclasses.replace(kept, labels=labels))
        self.store.purge()
        return self.person(into)

    def move(self, face: int, person: str) -> int:
        """Give a face to another person, who is added if not there; the last face takes its old person with it.

        Returns:
            Id of the face; another one where the person is new.

        Raises:
            DataError: there is no such face.
        """
        check_name(person, "a person")
        with self.store.writing() as transaction:
            found = _face(transaction, face)
            target = transaction.person(person)
            if target is not None and target.id == found.person:
                return face
            if target is None:
                entry = Entry(person, found.vector, found.score, found.source, found.box, found.crop, found.time)
                fused = enrolling.template([found.vector])
                [[face]] = transaction.add_people([NewPerson(person, fused, (entry,), (found.marked,))])
                transaction.remove_faces([found.id])
            else:
                transaction.move_faces([face], target.id)
                _fuse(transaction, target)
            for old in transaction.people([found.person]):
                _settle(transaction, old)
        self.store.purge()
        return face

    # searches

    def search(
        self,
        probes: Embeddings | F32,
        k: int = 5,
        *,
        by: By = "cosine",
        fpir: float | None = None,
        label: str | None = None,
    ) -> list[Search]:
        """Find the nearest people of each probe.

        Args:
            probes: `(Q, D)` raw embeddings, or `Embeddings` of the model of the gallery.
            k: people for each, at least 1.
            by: `cosine`, or `quality` for the quality-aware score of QMagFace.
            fpir: false positive identification rate of an open-set decision, see `openset`: the share of searches for
                strangers that may identify somebody; None where no decision is wanted.
            label: search only people with it; the threshold is that of so many people.

        Raises:
            DataError: probes are of another model or shape, hold NaN, infinity or a row of zeros, or an argument is
                out of range.
            ModelError: `by` is `quality`, and the model has no quality-aware score.
        """
        return list(searching.search(self.store, self._probes(probes), k, by, fpir, label, self._shift()))

    def verify(self, probe: F32, person: str, fmr: float = 1e-3) -> Claim:
        """Compare a face with the person whose it is said to be.

        Args:
            probe: `(D,)` raw embedding.
            person: name.
            fmr: false match rate to decide at, one of the model's card.

        Raises:
            DataError: there is no such person, or the embedding is of another shape, not finite or all zeros.
            ModelError: the card has no threshold at `fmr`.
        """
        [row] = self._probes(np.asarray(probe)[None])
        return searching.claim(self.card, row, self.person(person), fmr)

    def threshold(self, fpir: float, *, by: By = "cosine") -> OpenSet:
        """Threshold of searches in the whole gallery at a false positive identification rate, and how it came about."""
        return openset.threshold(self.card, fpir, self.store.counts().people, by, self._shift())

    def calibrate(
        self, fpir: float = 0.1, *, searches: int = 10_000, progress: Callable[[int], object] = lambda _: None
    ) -> Shift:
        """Measure what open-set thresholds have to be for the people of this gallery, and keep it.

        Faces of people in the gallery are searched among all others, as strangers are. What that moves thresholds by,
        beside what the card says, is kept and added in every later search, whatever its rate and however many people
        there are by then.

        Args:
            fpir: rate to measure at, between 0 and 1; a higher one, up to 0.5, where fewer than 10 searches would
                identify somebody.
            searches: at most, one face each of people spread over the gallery.
            progress: called with the number of searches since the last call.

        Returns:
            What was found; `threshold` says what it makes of a rate.

        Raises:
            DataError: there are too few people.
        """
        if not 0 < fpir < 1:
            raise DataError(f"the false positive identification rate must lie between 0 and 1; {fpir:g} does not.")
        shift = auditing.calibrated(self.store, fpir, searches, progress)
        with self.store.writing() as transaction:
            transaction.set_note(_SHIFT, shift.to_json())
        return shift

    def audit(self, progress: Callable[[int], object] = lambda _: None) -> Audit:
        """Look for copies of pictures, likely wrong faces, people who look as one, and people known by poor faces.

        Every person and every face is searched in the whole gallery.

        Args:
            progress: called with the number of people, then of faces, that were searched since the last call.
        """
        return auditing.audit(self.store, self.policy, self._shift(), progress)

    def reembed(self, card: Card, embed: enrolling.Embed) -> None:
        """Replace every vector by that of another model, all of them or none.

        Other writers wait until it is done. What was calibrated is forgotten.

        Args:
            card: of the new model.
            embed: gives vector `(D,)` and score of faces, of at most some hundred at a time, from their crops or
                sources; raises an error where it cannot, which leaves the gallery as it was.

        Raises:
            DataError: a vector is not of the new model, not finite or all zeros.
        """
        mark = self.policy.mark
        with self.store.writing() as transaction:
            enrolling.embed_again(transaction, card, embed, mark)
            transaction.set_card(card)
            transaction.set_note(_SHIFT, "")
        self.store.purge()

    def _shift(self) -> Shift:
        return Shift.from_json(self.store.note(_SHIFT))

    def _probes(self, probes: Embeddings | F32) -> F32:
        """`(Q, D)` float32, checked."""
        if isinstance(probes, Embeddings):
            self.check_model(probes.model)
        vectors = (probes if isinstance(probes, Embeddings) else Embeddings(probes)).vectors
        enrolling.check_size(vectors.shape[1], self.card, "the probes")
        empty = np.flatnonzero(~vectors.any(axis=1))
        if len(empty):
            raise DataError(f"probe {empty[0]} is all zeros, which is nobody's face; leave it out.")
        return vectors


def _known(person: Person | None, name: str) -> Person:
    if person is None:
        raise DataError(f"there is no person {name!r} in the gallery; check the name.")
    return person


def _face(transaction: Transaction, id: int) -> StoredFace:
    face = transaction.face(id)
    if face is None:
        raise DataError(f"there is no face {id} in the gallery; it may have been removed.")
    return face


def _fuse(transaction: Transaction, person: Person) -> None:
    """Make the template that of the faces."""
    vectors = [face.vector for face in transaction.faces(person.id)]
    transaction.set_person(dataclasses.replace(person, template=enrolling.template(vectors)))


def _settle(transaction: Transaction, person: Person) -> None:
    """Make the template that of the faces that are left, or remove the person where there are none."""
    if next(iter(transaction.faces(person.id)), None) is None:
        transaction.remove_person(person.id)
    else:
        _fuse(transaction, person)
