"""The folder of an analysis: what was read from each photo, kept from the moment it is known.

`photos.parquet` holds one row for each photo, with its faces inside. While an analysis runs, rows go into small files
beside it (`journal/`), each written whole or not at all; at the end they are merged into `photos.parquet`. So a kill
at any moment loses a few seconds of work, and the next run goes on. Everything else in the folder is made from these
rows and can be made again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from magface import io
from magface.errors import DataError
from magface.recognizer import Photo, RecognizedFace
from magface.types import F32

_CROP = re.compile(r"[0-9a-f]{32}\.jpg")
_ROWS = 64
_SECONDS = 5.0
_JPEG_QUALITY = 90


def name_of(path: Path) -> str:
    """Absolute path as text."""
    return _unicode(str(path.absolute()))


def _unicode(text: str) -> str:
    """Text in which bytes of a file name that are not Unicode are written as escapes."""
    return os.fsencode(text).decode(errors="backslashreplace")


def face_fields(size: int) -> list[pa.Field]:
    """Columns of one face, for embeddings of `size` numbers."""
    return [
        pa.field("face", pa.int32()),
        *(pa.field(name, pa.float32()) for name in ("x1", "y1", "x2", "y2")),
        pa.field("landmarks", pa.list_(pa.list_(pa.float32(), 2), 5)),
        *(pa.field(name, pa.float32()) for name in ("detector_score", "magnitude", "score", "percentile")),
        pa.field("crop", pa.string()),
        pa.field("embedding", pa.list_(pa.float32(), size)),
    ]


class Results:
    """Rows of an analysis in its folder; as a context manager it keeps others out, and what is done when it is left.

    Args:
        folder: made where it is missing.
        model: fingerprint of the model; rows of another model are not used.
        detector: name of the detector; rows of another are not used.
        size: of an embedding.

    Attributes:
        refused: whether the folder holds results of another model or detector.

    Raises:
        DataError: the folder cannot be made or written; when it is entered: another process is writing to it.
    """

    def __init__(self, folder: Path, model: str, detector: str, size: int) -> None:
        self.folder = folder
        self.crops = folder / "crops"
        self.refused = False
        self._journal = folder / "journal"
        self._merged = folder / "photos.parquet"
        self._metadata = {"magface.model": model, "magface.detector": detector}
        self._schema = pa.schema(
            [
                pa.field("photo", pa.string()),
                pa.field("bytes", pa.int64()),
                pa.field("modified_ns", pa.int64()),
                pa.field("error", pa.string()),
                pa.field("faces", pa.list_(pa.struct(face_fields(size)))),
            ],
            metadata=self._metadata,
        )
        self._lock = ExitStack()
        self._rows: list[dict[str, Any]] = []
        self._written = time.monotonic()
        with writing(folder):
            self.crops.mkdir(parents=True, exist_ok=True)
            self._journal.mkdir(exist_ok=True)

    @classmethod
    def of(cls, folder: Path) -> Results | None:
        """The results that a folder holds, of whatever model and detector; None where it holds none.

        Raises:
            DataError: they are damaged.
        """
        merged = folder / "photos.parquet"
        if not merged.is_file():
            return None
        schema = _schema(merged)
        try:
            model, detector = (schema.metadata[name].decode() for name in (b"magface.model", b"magface.detector"))
            size = schema.field("faces").type.value_type.field("embedding").type.list_size
        except (TypeError, LookupError, AttributeError, ValueError) as error:
            raise _damaged(merged) from error
        return cls(folder, model, detector, size)

    def __enter__(self) -> Results:
        with writing(self.folder):
            self._lock.enter_context(io.locked(self.folder / ".lock"))
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.flush()

    def missing(self, photos: Sequence[Path]) -> list[Path]:
        """Photos that are new, were changed since they were read, lost a crop, or could not be read."""
        present = {crop.name for crop in self.crops.iterdir()}
        done: dict[str, tuple[int, int] | None] = {}
        for part in self._parts():
            with _reading(part):
                rows = _read(part, ["photo", "bytes", "modified_ns", "error", "faces.list.element.crop"]).to_pylist()
                for row in rows:  # inside: damage to the name of a column leaves the column out
                    whole = not row["error"] and all(face["crop"] in present for face in row["faces"])
                    done[row["photo"]] = (row["bytes"], row["modified_ns"]) if whole else None
        return [photo for photo in photos if done.get(name_of(photo)) != _state(photo)]

    def add(self, photo: Photo) -> None:
        """Keep what was read from a photo."""
        size, modified = _state(photo.path)
        with writing(self.folder):
            faces = [self._row(number, face) for number, face in enumerate(photo.faces, start=1)]
        name = name_of(photo.path)
        row = {"photo": name, "bytes": size, "modified_ns": modified, "error": _unicode(photo.error), "faces": faces}
        self._rows.append(row)
        if len(self._rows) >= _ROWS or time.monotonic() - self._written > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are only in memory."""
        if self._rows:
            table = pa.Table.from_pylist(self._rows, self._schema)
            with writing(self.folder):
                _write(table, self._journal / f"{time.time_ns():020}.parquet")
        self._rows = []
        self._written = time.monotonic()

    def merge(self, photos: Sequence[Path]) -> pa.Table:
        """Join the rows of `photos`, in their order, into `photos.parquet`; others are dropped."""
        self.flush()
        table = pa.concat_tables([self._schema.empty_table(), *map(_read, self._parts())])
        with _reading(self._merged):
            newest = {name: row for row, name in enumerate(table["photo"].to_pylist())}
            table = table.take([newest[name_of(photo)] for photo in photos]).combine_chunks()
        with writing(self.folder):
            _write(table, self._merged)
            shutil.rmtree(self._journal)
        return table

    def table(self) -> pa.Table:
        """What the last merge gave."""
        with _reading(self._merged):
            return pa.concat_tables([self._schema.empty_table(), _read(self._merged)]).combine_chunks()

    def sweep(self, table: pa.Table) -> None:
        """Remove crops that no row speaks of, and what a killed run left behind."""
        kept = set(pc.struct_field(pc.list_flatten(table["faces"]), "crop").to_pylist())
        with writing(self.folder):
            for crop in self.crops.iterdir():
                if _CROP.fullmatch(crop.name) and crop.name not in kept:
                    crop.unlink()
            for left in self.folder.glob(".*.part.*"):
                if left.name.startswith((".photos.parquet.", ".faces.parquet.", ".report.html.")):
                    left.unlink()

    def _parts(self) -> Iterator[Path]:
        """Files with rows of this model, oldest first."""
        journal = sorted(part for part in self._journal.glob("*.parquet") if not part.name.startswith("."))
        for part in [self._merged, *journal]:
            if part.exists():
                schema = _schema(part)
                if schema.equals(self._schema) and schema.metadata == self._schema.metadata:
                    yield part
                else:
                    self.refused = True

    def _row(self, number: int, face: RecognizedFace) -> dict[str, Any]:
        x1, y1, x2, y2 = face.face.box.tolist()
        return {
            "face": number,
            **{"x1": x1, "y1": y1, "x2": x2, "y2": y2},
            "landmarks": face.face.landmarks.tolist(),
            "detector_score": face.face.score,
            "magnitude": face.magnitude,
            "score": face.score,
            "percentile": face.percentile,
            "crop": self._save(face),
            "embedding": face.embedding,
        }

    def _save(self, face: RecognizedFace) -> str:
        """Write the portrait under the hash of its content, so that another run gives the same names."""
        bgr = cv2.cvtColor(face.portrait, cv2.COLOR_RGB2BGR)
        content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.jpg"
        (self.crops / name).write_bytes(content)
        return name


def photo_names(folder: Path) -> list[str]:
    """Names of the photos that were merged in a folder, by whatever model; none where nothing was."""
    merged = folder / "photos.parquet"
    if not merged.exists():
        return []
    with _reading(merged):
        return _read(merged, ["photo"])["photo"].to_pylist()


def vectors(photos: pa.Table) -> F32:
    """Raw embeddings of the faces of photos, in order.

    Args:
        photos: as `Results.merge` gives them.

    Returns:
        `(N, D)` float32.
    """
    column = pc.struct_field(pc.list_flatten(photos["faces"]), "embedding").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def write_faces(path: Path, photos: pa.Table, people: np.ndarray) -> pa.Table:
    """Write one row for each face: its photo, what was read from it, and the number of its person.

    Args:
        path: `faces.parquet`.
        photos: as `Results.merge` gives them.
        people: `(N,)` int, person of each face, from 1.

    Returns:
        The table.
    """
    [faces] = photos["faces"].chunks or [pa.array([], photos.schema.field("faces").type)]
    columns = dict(zip([field.name for field in faces.type.value_type], faces.flatten().flatten(), strict=True))
    photo = photos["photo"].take(pc.list_parent_indices(faces))
    table = pa.table({"photo": photo, "person": pa.array(people, pa.int32()), **columns})
    table = table.replace_schema_metadata(photos.schema.metadata)
    with writing(path.parent):
        _write(table, path)
    return table


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written, or not now, into one sentence.

    Raises:
        DataError: something could not be written.
    """
    try:
        yield
    except BlockingIOError as error:
        raise DataError(
            f"another run is writing to {folder}; wait until it has ended, or choose another folder with -o."
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise DataError(
            f"cannot write to {folder} ({reason}); what was done before is kept: make room or choose another folder "
            "with -o, and run again."
        ) from error


def _write(table: pa.Table, path: Path) -> None:
    with io.atomic_path(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _schema(part: Path) -> pa.Schema:
    _check_file(part)
    with _reading(part):
        return parquet.read_schema(part)


def _read(part: Path, columns: list[str] | None = None) -> pa.Table:
    _check_file(part)
    with _reading(part), parquet.ParquetFile(part, page_checksum_verification=True) as file:
        return file.read(columns=columns)


def _check_file(part: Path) -> None:
    """A pipe would wait for ever."""
    if not part.is_file():
        raise _damaged(part)


@contextmanager
def _reading(part: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(part) from error


def _damaged(part: Path) -> DataError:
    return DataError(f"{part} is damaged; remove it and run again.")


def _state(photo: Path) -> tuple[int, int]:
    """Size and time of change, by which a changed photo is known; of a photo that is gone, nothing."""
    try:
        status = photo.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
