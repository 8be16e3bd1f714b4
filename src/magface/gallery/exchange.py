"""A gallery as one Parquet file, to keep a copy or to move to another store.

A row is a face: who it shows, the raw embedding, and all that is kept of it. The file carries the card of the model.
It is not encrypted, whatever the gallery is: whoever can read the file can search for the people in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from magface import io
from magface.errors import DataError, ModelError
from magface.gallery import enrolling
from magface.gallery.records import Box, Entry, NewPerson, Person, StoredFace, check_name
from magface.gallery.store import Store, Transaction
from magface.geometry import magnitude
from magface.models.card import Card
from magface.types import F32

SUFFIX = ".parquet"
_CARD, _VERSION = b"magface.card", b"magface.gallery"
_NUMBER = b"1"
_ROWS = 1024
_BYTES = 1 << 24
_BATCH = 64
_LARGEST = 1 << 28
_LONGEST = 1 << 20
_METADATA = 1 << 23
_MANY = 4096
_BUFFER = 1 << 16
_TEXTS = ["person", "source", "source_bytes", "crop", "labels.list.element"]
_OPTIONAL = ("box", "source_bytes")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to.

    Attributes:
        people: who are new in the gallery.
        faces: that were added.
        known: faces that were there already.
    """

    people: int
    faces: int
    known: int


def export(store: Store, path: str | os.PathLike[str], progress: Callable[[int], object] | None = None) -> int:
    """Write all people and faces to a Parquet file, which is not encrypted.

    Memory does not grow with the gallery. What others change meanwhile may or may not be in the file.

    Args:
        store: that keeps the people.
        path: the file, `.parquet`; it takes the place of one that is there when it is whole.
        progress: called with the number of faces that were written since.

    Returns:
        How many faces there are in the file.

    Raises:
        DataError: the name of the file has another suffix, or the gallery is damaged.
        OSError: the file cannot be written.
    """
    from pyarrow import parquet

    if Path(path).suffix.lower() != SUFFIX:
        raise DataError(f"a gallery is exported to Parquet; let the name of {path} end in {SUFFIX}.")
    schema = _schema(store.card.embedding_size)
    described = schema.with_metadata({_VERSION: _NUMBER, _CARD: store.card.to_json().encode()})
    count = 0
    with (
        io.atomic_path(path) as temporary,
        parquet.ParquetWriter(temporary, described, compression="zstd", use_dictionary=["person"]) as writer,
    ):
        for faces in _groups(store.faces()):
            people = {person.id: person for person in store.people(sorted({face.person for face in faces}))}
            # somebody may have been removed since
            faces = [face for face in faces if face.person in people]
            writer.write_table(_table(faces, people, schema), row_group_size=_ROWS)
            count += len(faces)
            if progress:
                progress(len(faces))
    return count


def card(path: str | os.PathLike[str]) -> Card:
    """Card of the model whose embeddings an exported gallery holds, to make a gallery for it.

    Raises:
        DataError: the file is missing, damaged, or no exported gallery.
    """
    with _opened(Path(path)) as (found, _):
        return found


def import_(path: str | os.PathLike[str], store: Store, progress: Callable[[int], object] | None = None) -> Imported:
    """Add the people and faces of an exported gallery to one of the same model.

    Nobody is refused: scores and marks are those in the file. People of one name are one person, who gets the labels
    of both. A face that is there, the same vector of the same box in the same picture, is not added again, so an import
    that was stopped can be run again. Some 1,000 faces become durable together, and memory does not grow with the file.

    Args:
        path: that `export` wrote.
        store: that gets the people.
        progress: called with the number of faces that were read since.

    Raises:
        DataError: the file is missing, damaged, no exported gallery, or of another model; what was added before the
            damage was met stays.
    """
    path = Path(path)
    people = added = known = 0
    with _opened(path) as (found, table):
        if (found.sha256, found.embedding_size) != (store.card.sha256, store.card.embedding_size):
            raise DataError(
                f"{path} holds embeddings of {found.name} {found.version}, this gallery those of {store.card.name} "
                f"{store.card.version}; import it into a gallery of that model."
            )
        for faces in _read(path, table, store):
            with store.writing() as transaction:
                more = _add(transaction, faces)
            people, added, known = people + more.people, added + more.faces, known + more.known
            if progress:
                progress(len(faces))
    return Imported(people, added, known)


def _schema(size: int) -> Any:
    import pyarrow as pa

    def must(name: str, kind: Any) -> Any:
        return pa.field(name, kind, nullable=False)

    return pa.schema(
        [
            must("face", pa.int64()),
            must("person", pa.string()),
            must("labels", pa.list_(must("element", pa.string()))),
            must("embedding", pa.list_(must("element", pa.float32()), size)),
            must("magnitude", pa.float32()),
            must("score", pa.float64()),
            must("source", pa.string()),
            pa.field("source_bytes", pa.binary()),
            pa.field("box", pa.list_(must("element", pa.float64()))),
            must("time", pa.float64()),
            must("marked", pa.bool_()),
            must("crop", pa.binary()),
        ]
    )


def _groups(faces: Iterable[StoredFace]) -> Iterator[list[StoredFace]]:
    """Faces in groups of bounded size."""
    group: list[StoredFace] = []
    size = 0
    for face in faces:
        group.append(face)
        size += face.vector.nbytes + len(face.crop) + len(face.source)
        if len(group) == _ROWS or size > _BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _table(faces: Sequence[StoredFace], people: dict[int, Person], schema: Any) -> Any:
    import pyarrow as pa

    size = schema.field("embedding").type.list_size
    vectors = np.concatenate([face.vector for face in faces]) if faces else np.empty(0, np.float32)
    texts = [face.source.encode("utf-8", "surrogatepass") for face in faces]
    columns = {
        "face": [face.id for face in faces],
        "person": [people[face.person].name for face in faces],
        "labels": [list(people[face.person].labels) for face in faces],
        "magnitude": magnitude(vectors.reshape(-1, size)),
        "score": [face.score for face in faces],
        "source": [text.decode("utf-8", "replace") for text in texts],
        "source_bytes": [None if _is_unicode(text) else text for text in texts],
        "box": [face.box for face in faces],
        "time": [face.time for face in faces],
        "marked": [face.marked for face in faces],
        "crop": [face.crop for face in faces],
    }
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    arrays["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors), type=schema.field("embedding").type)
    return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _is_unicode(text: bytes) -> bool:
    """Names of files need not be Unicode, texts in Parquet must."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Card, Any]]:
    """Card and table of a file."""
    from pyarrow import parquet

    if not path.is_file():
        raise DataError(f"there is no exported gallery {path}; check the path.")
    settings = {"pre_buffer": False, "buffer_size": _BUFFER}
    limits = {"thrift_string_size_limit": _METADATA, "thrift_container_size_limit": _METADATA}
    with _reading(path):
        with parquet.ParquetFile(path, **settings, **limits) as table:
            found, metadata = _described(path, table), table.metadata
        # texts as numbers of those that differ: a short file can say of each row that it is a long one that came before
        table = parquet.ParquetFile(path, metadata=metadata, read_dictionary=_TEXTS, **settings)
    with table:
        yield found, table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a library says of a damaged file, as our error."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        reason = str(error).strip().partition("\n")[0][:200].rstrip(".")
        raise DataError(f"{path} is damaged or no exported gallery ({reason}); export it again.") from error


def _described(path: Path, table: Any) -> Card:
    """Card in a file, after a look at what else the file says of itself."""
    with _reading(path):
        metadata = table.schema_arrow.metadata or {}
        if metadata.get(_VERSION) != _NUMBER:
            raise ValueError("it does not say that it is one, or is of another version of magface")
        try:
            found = Card.from_json(metadata.get(_CARD, b""))
        except ModelError as error:
            raise ValueError(str(error)) from error
        _check_columns(table.schema_arrow, found.embedding_size)
        _check_sizes(path, table.metadata, found.embedding_size)
    return found


def _check_columns(schema: Any, size: int) -> None:
    for field in _schema(size):
        count = schema.names.count(field.name)
        if count != 1 or _kind(schema.field(field.name).type) != _kind(field.type):
            raise ValueError(f"it has no column {field.name} of {field.type}")


def _kind(kind: Any) -> Any:
    """A type without what makes no difference: names of elements, and how texts are kept in memory."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size, _kind(kind.value_type)
    return [_kind(kind.value_type)] if pa.types.is_list(kind) else str(kind)


def _check_sizes(path: Path, metadata: Any, size: int) -> None:
    """Hold what is decoded at a time to what `export` writes, with room to spare."""
    if metadata.num_rows > path.stat().st_size:
        raise ValueError(f"it announces {metadata.num_rows:,} rows, more than its bytes")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.total_uncompressed_size > _LARGEST or column.num_values > max(_LARGEST // 16, _ROWS * size):
                raise ValueError(f"{column.path_in_schema} of group {number} is too large to be read")


class _Face(NamedTuple):
    """A row: a face, whether it is marked, and the labels of its person."""

    entry: Entry
    marked: bool
    labels: tuple[str, ...]


def _read(path: Path, table: Any, store: Store) -> Iterator[list[_Face]]:
    """Faces of a table in groups of bounded size."""
    columns = [name for name in _schema(store.card.embedding_size).names if name not in ("face", "magnitude")]
    faces: list[_Face] = []
    size = row = 0
    batches = table.iter_batches(_BATCH, columns=columns)
    while True:
        with _reading(path):
            batch = next(batches, None)
            found = [] if batch is None else list(_faces(batch, row))
        for face in found:
            faces.append(face if store.settings.crops else face._replace(entry=replace(face.entry, crop=b"")))
            size += face.entry.vector.nbytes + len(face.entry.crop) + len(face.entry.source)
        if faces and (batch is None or len(faces) >= _ROWS or size > _BYTES):
            yield faces
            faces, size = [], 0
        if batch is None:
            return
        row += len(found)


def _faces(batch: Any, first: int) -> Iterator[_Face]:
    """Rows of a batch, whose first is row `first` of the file."""
    columns = {name: _values(name, batch.column(name)) for name in batch.schema.names}
    for row, face in enumerate(zip(*columns.values(), strict=True), first):
        fields = dict(zip(columns, face, strict=True))
        try:
            yield _face(**fields)
        except DataError as error:
            raise ValueError(f"row {row}: {error}") from error


def _face(
    *,
    person: str,
    labels: list[str],
    embedding: F32,
    score: float,
    source: str,
    source_bytes: bytes | None,
    box: list[float] | None,
    time: float,
    marked: bool,
    crop: bytes,
) -> _Face:
    for label in labels:
        check_name(label, "a label")
    corners: Box | None = None
    if box is not None:
        if len(box) != 4:
            raise DataError(f"a box of {person} has {len(box)} numbers, not 4.")
        corners = box[0], box[1], box[2], box[3]
    place = source if source_bytes is None else source_bytes.decode("utf-8", "surrogatepass")
    entry = Entry(person, embedding, score, place, corners, crop, time)
    return _Face(entry, marked, tuple(labels))


def _values(name: str, column: Any) -> Sequence[Any]:
    """Values of a column, none of them missing where one must be there, none of them large."""
    import pyarrow as pa

    if column.null_count and name not in _OPTIONAL:
        raise ValueError(f"{name} is missing in a row")
    if pa.types.is_fixed_size_list(column.type):
        numbers = column.flatten()
        if numbers.null_count:
            raise ValueError(f"a number of {name} is missing")
        return numbers.to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size).copy()
    if pa.types.is_list(column.type):
        inner = _values("element", column.flatten())
        lengths = [0 if length is None else length for length in column.value_lengths().to_pylist()]
        if max(lengths, default=0) > _MANY:
            raise ValueError(f"{name} has {max(lengths)} values in a row")
        parts = iter(inner)
        lists = [list(islice(parts, length)) for length in lengths]
        return [values if there else None for values, there in zip(lists, column.is_valid().to_pylist(), strict=True)]
    if pa.types.is_dictionary(column.type):
        texts = column.dictionary.to_pylist()
        if any(len(text) > _LONGEST for text in texts if text is not None):
            raise ValueError(f"a value of {name} is longer than {_LONGEST:,}")
        return [None if index is None else texts[index] for index in column.indices.to_pylist()]
    return column.to_pylist()


def _add(transaction: Transaction, faces: Sequence[_Face]) -> Imported:
    """Add what is not there yet."""
    groups: dict[str, list[_Face]] = {}
    for face in faces:
        groups.setdefault(face.entry.person, []).append(face)
    new: list[NewPerson] = []
    added = 0
    for name, group in groups.items():
        person = transaction.person(name)
        there = list(transaction.faces(person.id)) if person else []
        kept = _new(group, there)
        added += len(kept)
        entries, marked = tuple(face.entry for face in kept), tuple(face.marked for face in kept)
        labels = {label for face in group for label in face.labels}
        vectors = [face.vector for face in there] + [entry.vector for entry in entries]
        if person is None:
            new.append(NewPerson(name, enrolling.template(vectors), entries, marked, tuple(sorted(labels))))
        elif kept or not labels <= set(person.labels):
            transaction.add_faces(person.id, entries, marked)
            labels |= set(person.labels)
            transaction.set_person(replace(person, template=enrolling.template(vectors), labels=tuple(sorted(labels))))
    transaction.add_people(new)
    return Imported(len(new), added, len(faces) - added)


def _new(group: Sequence[_Face], there: Sequence[StoredFace]) -> list[_Face]:
    """Faces that are not there, each once."""
    known = {_identity(face) for face in there}
    new = {_identity(face.entry): face for face in reversed(group)}
    return [face for face in group if _identity(face.entry) not in known and new[_identity(face.entry)] is face]


def _identity(face: Entry | StoredFace) -> tuple[bytes, str, Box | None]:
    return face.vector.tobytes(), face.source, face.box
