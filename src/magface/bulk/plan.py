"""What is to be embedded, written down once: the photos, cut into shards, and what reads them.

The plan is one Parquet file; each of its row groups is a shard. Photos that come later are more shards at its end, so
a shard that was written once stays what it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from magface import images, io
from magface.data import tar
from magface.data.face_set import Stretch
from magface.errors import DataError, ImageError

if TYPE_CHECKING:
    import pyarrow as pa

PLAN = "_plan.parquet"
"""In the folder of the shards; readers of Parquet folders pass over names that begin so."""

_SETTINGS = b"magface.settings"
_LONGEST = 1 << 16
"""Bytes of a line of a list, at most."""
_ROWS = 1 << 16
_NO_ARCHIVE = (None, 0, -1)


@dataclass(frozen=True, slots=True)
class Settings:
    """What reads the photos; shards of different settings do not mix.

    Attributes:
        model: fingerprint of the model.
        detector: name of the detector; empty where the photos are aligned crops.
        engine: that runs the network, as it was asked for.
    """

    model: str
    detector: str
    engine: str

    @property
    def aligned(self) -> bool:
        """Whether the photos are aligned crops, in which no face is looked for."""
        return not self.detector


class Entry(NamedTuple):
    """A photo of a plan.

    Attributes:
        name: its absolute path; of one in an archive, that of the archive, `/`, and its name there.
        place: where its bytes lie.
    """

    name: str
    place: Stretch


class Plan:
    """A plan that was written.

    Args:
        folder: that holds it.

    Attributes:
        settings: what reads the photos.
        sizes: photos of each shard.

    Raises:
        DataError: there is none, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        from pyarrow import parquet

        self.folder = folder
        self._path = folder / PLAN
        with _reading(self._path):
            if not self._path.is_file():  # a pipe would wait for ever
                raise ValueError
        with _reading(self._path), parquet.ParquetFile(self._path) as file:
            facts = json.loads((file.schema_arrow.metadata or {})[_SETTINGS])
            self.settings = Settings(**{field.name: str(facts[field.name]) for field in fields(Settings)})
            groups = range(file.metadata.num_row_groups)
            self.sizes = tuple(file.metadata.row_group(group).num_rows for group in groups)

    def entries(self, shard: int) -> list[Entry]:
        """Photos of a shard, in order.

        Raises:
            DataError: the plan is damaged.
        """
        with _reading(self._path):
            [group] = self.groups([shard])
            return [_entry(*row) for row in zip(*(column.to_pylist() for column in group.columns), strict=True)]

    def groups(self, shards: Iterable[int] | None = None) -> Iterator[pa.Table]:
        """Tables of shards, all of them if none are named; see `gather` for the columns."""
        from pyarrow import parquet

        with _reading(self._path), parquet.ParquetFile(self._path) as file:
            for shard in range(len(self.sizes)) if shards is None else shards:
                yield file.read_row_group(shard, columns=_schema().names)

    def names(self, shard: int) -> list[bytes]:
        """Names of the photos of a shard, in order.

        Raises:
            DataError: the plan is damaged.
        """
        [group] = self.groups([shard])
        return group["name"].to_pylist()

    def digest(self, shard: int) -> str:
        """What tells the results of a shard from those of others: hex sha256 of the settings and the names.

        Raises:
            DataError: the plan is damaged.
        """
        settings = json.dumps(asdict(self.settings)).encode()
        return hashlib.sha256(b"\0".join([settings, *self.names(shard)])).hexdigest()

    def all_names(self) -> pa.ChunkedArray:
        """Names of all photos, as bytes."""
        from pyarrow import parquet

        with _reading(self._path), parquet.ParquetFile(self._path) as file:
            return file.read(["name"])["name"]


def make(folder: Path, settings: Settings, photos: pa.Table, shard_size: int) -> Plan:
    """Write the plan of a folder, or add to it the photos that it lacks.

    Photos that are in the plan already keep their shards, and so do those that are not asked for now; the others are
    sorted by name and cut into new shards.

    Args:
        folder: made where it is missing.
        settings: what reads the photos.
        photos: as `gather` gives them.
        shard_size: photos of a new shard, >= 1.

    Raises:
        DataError: the plan that is there is damaged or has other settings, or there is no photo at all.
        OSError: the plan cannot be written.
    """
    import pyarrow.compute as pc

    old = Plan(folder) if (folder / PLAN).exists() else None
    if old is not None:
        _check(folder, old.settings, settings)
        photos = photos.filter(pc.invert(pc.is_in(photos["name"], value_set=old.all_names().combine_chunks())))
    if old is None and not len(photos):
        raise DataError("there is no photo to read; name image files or a folder that holds some.")
    if old is None or len(photos):
        _write(folder, settings, old, photos, shard_size)
    return Plan(folder)


def gather(photos: Iterable[str | os.PathLike[str]], lists: Iterable[Path] = ()) -> pa.Table:
    """Photos of files, folders, archives and lists, each name once, sorted by the bytes of the name.

    Folders are searched as `images.find` does, and uncompressed `.tar` archives by the same names. A file that is
    named, and a path in a list, is taken whatever it is called; whether a listed file is there is seen when it is read.
    Names are absolute; a file that can be reached under two names is two photos.

    Takes about 350 bytes of memory a photo.

    Args:
        photos: files, folders and archives.
        lists: text files with one path a line, relative to the current folder.

    Returns:
        A table of `name` and `archive` as bytes, `offset` and `size` of the bytes in an archive.

    Raises:
        ImageError: a path does not exist, or a folder cannot be listed.
        DataError: an archive is damaged, or a list cannot be read.
    """
    import pyarrow as pa

    rows = _rows(photos, lists)
    schema = _schema()
    tables = [schema.empty_table()]
    while part := list(islice(rows, _ROWS)):
        columns = [pa.array(column, field.type) for column, field in zip(zip(*part, strict=True), schema, strict=True)]
        tables.append(pa.table(columns, schema=schema))
    return _unique(pa.concat_tables(tables))


def _unique(table: pa.Table) -> pa.Table:
    """Sorted by name, and of those with one name the last: in an archive it is the one that counts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = table.take(pc.sort_indices(table["name"])).combine_chunks()
    if len(table) < 2:
        return table
    names = table["name"].chunk(0)
    last = pc.not_equal(names.slice(0, len(names) - 1), names.slice(1))
    return table.filter(pa.concat_arrays([last, pa.array([True])]))


def _rows(photos: Iterable[str | os.PathLike[str]], lists: Iterable[Path]) -> Iterator[tuple[Any, ...]]:
    for path in map(Path, photos):
        if path.is_dir():
            for file in images.walk(path):
                yield _bytes(file), *_NO_ARCHIVE
        elif path.suffix.lower() == ".tar" and path.is_file():
            yield from _members(path)
        elif os.path.lexists(path):  # a broken link is the failure of one photo
            yield _bytes(path), *_NO_ARCHIVE
        else:
            raise ImageError(f"{path} does not exist; check the path.")
    for path in lists:
        for line in _lines(path):
            yield _bytes(os.fsdecode(line)), *_NO_ARCHIVE


def _bytes(path: str | os.PathLike[str]) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 many times faster, and `..` must not stay


def _members(path: Path) -> Iterator[tuple[Any, ...]]:
    archive = _bytes(path)
    for name, offset, size in tar.members(path):
        parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
        hidden = any(part.startswith(".") for part in parts)
        if parts and not hidden and PurePosixPath(parts[-1]).suffix.lower() in images.EXTENSIONS:
            yield b"/".join([archive, *map(os.fsencode, parts)]), archive, offset, size


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST + 1):
                number += 1
                if len(line) > _LONGEST:
                    raise DataError(f"{path}, line {number:,} is no path; give a text file with one path a line.")
                if name := line.rstrip(b"\r\n"):
                    yield name
    except OSError as error:
        raise DataError(f"cannot read the list {path} ({error.strerror}); check the path.") from error


def _entry(name: bytes, archive: bytes | None, offset: int, size: int) -> Entry:
    return Entry(os.fsdecode(name), Stretch(Path(os.fsdecode(archive or name)), offset, size))


def _schema() -> pa.Schema:
    import pyarrow as pa

    # offsets of 32 bits end at 2 GB of names
    kinds = {"name": pa.large_binary(), "archive": pa.large_binary(), "offset": pa.int64(), "size": pa.int64()}
    return pa.schema(kinds.items())


def _check(folder: Path, old: Settings, new: Settings) -> None:
    for field in fields(Settings):
        was, now = getattr(old, field.name), getattr(new, field.name)
        if was != now:
            what = {"detector": f"detector ({was or 'none, as for aligned crops'})", "engine": f"engine ({was})"}
            raise DataError(
                f"{folder} holds embeddings of another {what.get(field.name, field.name)}, and these do not mix; "
                "choose another folder with -o, or remove this one."
            )


def _write(folder: Path, settings: Settings, old: Plan | None, photos: pa.Table, shard_size: int) -> None:
    from pyarrow import parquet

    schema = _schema().with_metadata({_SETTINGS: json.dumps(asdict(settings))})
    folder.mkdir(parents=True, exist_ok=True)
    with io.atomic_path(folder / PLAN) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for part in chain(() if old is None else old.groups(), _cut(photos, shard_size)):
            writer.write_table(part.cast(schema), row_group_size=len(part))


def _cut(photos: pa.Table, shard_size: int) -> Iterator[pa.Table]:
    for start in range(0, len(photos), shard_size):
        yield photos.slice(start, shard_size)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; remove the folder, or choose another one with -o.") from error
