"""Files of a shard: `part-00000.parquet` has a row for each face, `_photos/part-00000.parquet` one for each photo.

Each file is written whole or not at all, and the one of the faces last: where it is, the shard is done. So a shard may
be made twice at once, on two machines, and still be there once. The same photos give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from magface import geometry, io
from magface.bulk.plan import Plan
from magface.errors import DataError
from magface.models.card import Card
from magface.quality import calibration
from magface.types import F32, Face

if TYPE_CHECKING:
    import pyarrow as pa

PHOTOS = "_photos"
_DIGEST = b"magface.shard"
_FACES = 1024
"""Rows that are written at a time."""


class Found(NamedTuple):
    """What was read of a photo.

    Attributes:
        vectors: of its faces from left to right, each `(D,)` float32, raw.
        faces: where they are; none where the photo is an aligned crop.
        error: why it could not be read; empty where it could.
    """

    vectors: Sequence[F32] = ()
    faces: Sequence[Face] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """What a finished shard holds.

    Attributes:
        photos: of the plan, each accounted for once.
        faces: in these photos.
        without_face: photos in which no face was found.
        failures: name and reason of photos that could not be read.
    """

    photos: int
    faces: int
    without_face: int
    failures: tuple[tuple[str, str], ...]


def part(folder: Path, shard: int) -> Path:
    """Where the faces of a shard are."""
    return folder / f"part-{shard:05}.parquet"


def write(plan: Plan, shard: int, found: Iterable[Found], card: Card) -> None:
    """Write a shard, row group by row group as the photos come.

    Args:
        plan: of the photos.
        shard: its number.
        found: for each photo of the shard, in order.
        card: of the model.

    Raises:
        OSError: the files cannot be written; then the shard is not there.
    """
    from pyarrow import parquet

    names = _names(plan, shard)
    target = part(plan.folder, shard)
    facts = {
        b"magface.model": plan.settings.model.encode(),
        b"magface.detector": plan.settings.detector.encode(),
        b"magface.card": card.to_json().encode(),
        _DIGEST: plan.digest(shard).encode(),
    }
    faces, photos = (schema.with_metadata(facts) for schema in (_face_schema(card.embedding_size), _photo_schema()))
    with _named(target), ExitStack() as stack:
        # left from the last to the first: the file of the faces takes its name when all is written
        files = [io.atomic_path(target), io.atomic_path(plan.folder / PHOTOS / target.name)]
        one, other = (stack.enter_context(file) for file in files)
        face_writer = stack.enter_context(parquet.ParquetWriter(one, faces, compression="zstd"))
        photo_writer = stack.enter_context(parquet.ParquetWriter(other, photos, compression="zstd"))
        rows = _Rows(card)
        accounts = []
        for name, each in zip(names, found, strict=True):
            accounts.append((name, len(each.vectors), _text(each.error)))
            rows.add(name, each)
            if len(rows) >= _FACES:
                face_writer.write_table(rows.taken(faces))
        face_writer.write_table(rows.taken(faces))
        photo_writer.write_table(_table(zip(*accounts, strict=True), photos))


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Name the file in errors of a library that does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(target)) from error


def finished(plan: Plan, shard: int) -> bool:
    """Whether the files of a shard are there and of this plan; only their ends are read."""
    import pyarrow as pa

    try:
        digest = plan.digest(shard).encode()
        with _opened(plan, shard) as files:
            return all((file.schema_arrow.metadata or {}).get(_DIGEST) == digest for file in files)
    except (pa.ArrowException, OSError, ValueError):
        return False


def count(plan: Plan, shard: int) -> Count:
    """Account for a finished shard: every photo of the plan is in it exactly once, and every face of each.

    Raises:
        DataError: a file is missing or damaged, or the photos or faces are others.
    """
    import pyarrow as pa

    try:
        with _opened(plan, shard) as (faces, photos):
            of_faces = faces.read(["photo"])["photo"].to_pylist()
            names, counts, errors = (column.to_pylist() for column in photos.read(_photo_schema().names).columns)
            rows = [name for name, faces in zip(names, counts, strict=True) for _ in range(faces)]
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{part(plan.folder, shard)} is missing or damaged; remove it and run again.") from error
    if names != _names(plan, shard) or of_faces != rows:
        raise DataError(f"{part(plan.folder, shard)} does not hold every photo once; remove it and run again.")
    failures = tuple((name, error) for name, error in zip(names, errors, strict=True) if error)
    return Count(len(names), len(of_faces), counts.count(0) - len(failures), failures)


@contextmanager
def _opened(plan: Plan, shard: int) -> Iterator[tuple[Any, Any]]:
    """Files of the faces and of the photos."""
    from pyarrow import parquet

    target = part(plan.folder, shard)
    others = plan.folder / PHOTOS / target.name
    if not (target.is_file() and others.is_file()):  # a pipe would wait for ever
        raise FileNotFoundError(target)
    with parquet.ParquetFile(target) as faces, parquet.ParquetFile(others) as photos:
        yield faces, photos


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written."""
    for place in (folder, folder / PHOTOS):
        for left in place.glob(".*.part.parquet"):
            if left.name.startswith((".part-", "._plan.")):
                left.unlink(missing_ok=True)


def _names(plan: Plan, shard: int) -> list[str]:
    """Names of photos; bytes that are not Unicode are written as escapes."""
    return [name.decode(errors="backslashreplace") for name in plan.names(shard)]


def _text(reason: str) -> str:
    return os.fsencode(reason).decode(errors="backslashreplace")


class _Rows:
    """Rows of faces that wait to be written."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._names: list[tuple[str, str, int]] = []
        self._vectors: list[F32] = []
        self._faces: list[Face | None] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, photo: str, found: Found) -> None:
        several = len(found.vectors) > 1
        for number, vector in enumerate(found.vectors, start=1):
            self._names.append((f"{photo}#{number}" if several else photo, photo, number))
            self._vectors.append(vector)
            self._faces.append(found.faces[number - 1] if found.faces else None)

    def taken(self, schema: pa.Schema) -> pa.Table:
        """The rows as a table; then there are none."""
        size = self._card.embedding_size
        vectors = np.array(self._vectors, np.float32).reshape(-1, size)
        magnitudes = geometry.magnitude(vectors)
        table = _table(
            [
                *(zip(*self._names, strict=True) if self._names else [(), (), ()]),
                *([None if face is None else float(face.box[side]) for face in self._faces] for side in range(4)),
                [None if face is None else face.landmarks.tolist() for face in self._faces],
                [None if face is None else face.score for face in self._faces],
                magnitudes,
                calibration.score(magnitudes, self._card).astype(np.float32),
                calibration.percentile(magnitudes, self._card).astype(np.float32),
                vectors,
            ],
            schema,
        )
        self._names, self._vectors, self._faces = [], [], []
        return table


def _table(columns: Iterable[Any], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    arrays = [_column(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1]).cast(kind)
    return pa.array(values, kind)


def _face_schema(size: int) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("path", pa.string()),
            pa.field("photo", pa.string()),
            pa.field("face", pa.int32()),
            *(pa.field(name, pa.float32()) for name in ("x1", "y1", "x2", "y2")),
            pa.field("landmarks", pa.list_(pa.list_(pa.float32(), 2), 5)),
            *(pa.field(name, pa.float32()) for name in ("detector_score", "magnitude", "score", "percentile")),
            pa.field("embedding", pa.list_(pa.float32(), size)),
        ]
    )


def _photo_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("photo", pa.string()), ("faces", pa.int32()), ("error", pa.string())])
