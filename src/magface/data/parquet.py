"""Parquet tables of encoded images, one file or a folder of them, as Hugging Face's `datasets` keeps them too.

The column `image` holds bytes, or a struct of `bytes` and `path`. The person is `identity` or `label`, text or a whole
number; the name of the image is `name`, `path`, or that within the struct; `source` and `suspect` may be there.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from magface import io
from magface.data import writing
from magface.data.face_set import FaceSet, Record
from magface.errors import DataError

ROWS = 256
"""Rows of a group that `write` makes: a reader that wants one image reads that much at most."""

_BYTES = 1 << 25
_BATCH = 8
"""Images read at a time: a short file can say of each that it is a long one that came before."""
_TEXTS = 128
_KEPT = 256
_BUFFER = 1 << 16
_OPEN = 16
_LONGEST = 4096
_LARGEST = 1 << 53
_HUGGING_FACE = b"huggingface"


def read(path: str | os.PathLike[str]) -> FaceSet:
    """Find the images of tables; none is read.

    People are called by `identity`, or else by `label`: its name where Hugging Face's description has one, or its
    number; nobody knows them where there is neither, or no value. Images are called by `name`, `path`, or the path in
    the struct, where that tells all of them apart, and otherwise by their file and row.

    Only a few images are in memory at a time. To read one means to read those before it in its group, so do not shuffle
    a file of large groups; `write` makes small ones.

    Args:
        path: a `.parquet`, or a folder in which all are read.

    Raises:
        DataError: there is none, or one is damaged or has other columns.
    """
    path = Path(path)
    paths = _files(path)
    columns = [_columns(file) for file in paths]
    files = _Files(paths, [each.image for each in columns])
    starts = [file.stem if path.is_file() else file.relative_to(path).with_suffix("").as_posix() for file in paths]
    names = _names([name for each in columns for name in each.names], [len(each.names) for each in columns], starts)
    places = (
        _Place(files, number, group, row)
        for number, each in enumerate(columns)
        for group, rows in enumerate(each.groups)
        for row in range(rows)
    )
    facts = (fact for each in columns for fact in zip(each.people, each.sources, each.suspect, strict=True))
    records = [
        Record(name, person, place, source, suspect)
        for name, place, (person, source, suspect) in zip(names, places, facts, strict=True)
    ]
    if not records:
        raise DataError(f"{path} holds no image; get it again.")
    return FaceSet.of(records)


def write(
    path: str | os.PathLike[str],
    faces: FaceSet,
    progress: Callable[[int], object] | None = None,
) -> tuple[tuple[str, str], ...]:
    """Write one table, images bit for bit and in their order, that Hugging Face's `datasets` shows as images too.

    Args:
        path: the file, which must not be there.
        faces: the set.
        progress: called as images are written.

    Returns:
        Name and reason of every image that cannot be read and was left out.

    Raises:
        DataError: the file is there, a name is no Unicode text, or no image can be read.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from magface.data.face_set import Held
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write(Path(folder, "a.parquet"), FaceSet.of([Record("1.jpg", "Ann", Held(b"image"))]))
        ...     faces = read(Path(folder, "a.parquet"))
        ...     faces.names, faces.people, faces.encoded(0)
        (('1.jpg',), ('Ann',), b'image')
    """
    import pyarrow as pa
    from pyarrow import parquet

    if os.path.lexists(path):
        raise DataError(f"{path} exists; delete it, or choose another place.")
    for text in (*faces.names, *faces.people, *faces.sources.tolist()):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError(f"{text!a} is not Unicode text, which Parquet needs; write another form.")
    failures: writing.Failures = []
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("identity", pa.string()),
            ("label", pa.int64()),
            ("source", pa.string()),
            ("suspect", pa.bool_()),
        ],
        metadata={_HUGGING_FACE: json.dumps(_FEATURES)},
    )
    settings = {
        "compression": "none",
        "data_page_size": _BUFFER,
        "use_dictionary": ["identity", "source"],
        "write_statistics": ["label"],
    }
    with io.atomic_path(path) as temporary:
        with parquet.ParquetWriter(temporary, schema, **settings) as writer:
            for rows in _groups(faces, failures, progress):
                writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=len(rows))
        writing.some(faces, failures)
    return tuple(failures)


_FEATURES = {
    "info": {
        "features": {
            "image": {"_type": "Image"},
            "identity": {"dtype": "string", "_type": "Value"},
            "label": {"dtype": "int64", "_type": "Value"},
            "source": {"dtype": "string", "_type": "Value"},
            "suspect": {"dtype": "bool", "_type": "Value"},
        }
    }
}


def _groups(
    faces: FaceSet, failures: writing.Failures, progress: writing.Progress | None
) -> Iterator[list[dict[str, Any]]]:
    """Rows of the table, as many as make a group of bounded size."""
    rows: list[dict[str, Any]] = []
    size = 0
    for row, content in writing.encoded(faces, failures, progress):
        if content is None:
            continue
        if rows and (len(rows) == ROWS or size + len(content) > _BYTES):
            yield rows
            rows, size = [], 0
        size += len(content)
        label = int(faces.labels[row])
        facts = {"identity": faces.people[label], "label": label, "source": str(faces.sources[row])}
        image = {"bytes": content, "path": faces.names[row]}
        rows.append({"image": image, **facts, "suspect": bool(faces.suspect[row])})
    if rows:
        yield rows


class _Place(NamedTuple):
    """A cell of the column `image`; a plain tuple, as there are millions."""

    files: _Files
    file: int
    group: int
    row: int

    def read(self) -> bytes:
        """See `face_set.Place`."""
        return self.files.image(self.file, self.group, self.row)


class _Files:
    """Tables that threads read from at once: a few open, and the last images, so that nearly their order is enough."""

    def __init__(self, paths: Sequence[Path], columns: Sequence[str]) -> None:
        self._paths, self._columns = paths, columns
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._images: OrderedDict[tuple[int, int, int], bytes | None] = OrderedDict()
        self._bytes = 0
        self._next = (-1, -1, 0)
        """File, group and row that `_rest` goes on with."""
        self._rest: Iterator[Any] = iter(())

    def __reduce__(self) -> tuple[Any, ...]:
        return _Files, (self._paths, self._columns)

    def image(self, file: int, group: int, row: int) -> bytes:
        """The encoded image of a row.

        Raises:
            OSError: the file cannot be read.
            DataError: it is damaged, or no longer what it was, or the row has no image.
        """
        with self._lock, _reading(self._paths[file]):
            while (file, group, row) not in self._images:
                if self._next[:2] != (file, group) or row < self._next[2]:
                    column = self._columns[file]
                    self._rest = self._table(file).iter_batches(_BATCH, row_groups=[group], columns=[column])
                    self._next = (file, group, 0)
                self._keep(next(self._rest, None))
            content = self._images[file, group, row]
        if content is None:
            raise DataError(f"{self._paths[file]}, row {row} of group {group} has no image; leave it out.")
        return content

    def _keep(self, batch: Any) -> None:
        """Take the next images, and forget the oldest."""
        file, group, row = self._next
        if batch is None:
            self._next = (-1, -1, 0)
            raise ValueError(f"group {group} has only {row} rows")
        column = batch.column(0)
        for content in (column.field(0) if "." in self._columns[file] else column).to_pylist():
            self._bytes += len(content or b"") - len(self._images.pop((file, group, row), None) or b"")
            self._images[file, group, row] = content
            row += 1
        self._next = (file, group, row)
        while len(self._images) > _KEPT or (self._bytes > _BYTES and len(self._images) > _BATCH):
            self._bytes -= len(self._images.popitem(last=False)[1] or b"")

    def _table(self, file: int) -> Any:
        if file not in self._open:
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[file] = _opened(self._paths[file])
        self._open.move_to_end(file)
        return self._open[file]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a library says of a damaged file, as our error; what the system says goes through."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise DataError(f"{path} is damaged or no Parquet table of images ({reason}); get it again.") from error


def _opened(path: Path) -> Any:
    """A table that is read page by page."""
    from pyarrow import parquet

    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)


class _Columns(NamedTuple):
    """What a table says of its rows.

    Attributes:
        image: path of the column of bytes.
        groups: rows of each group.
        names: of the images; None where there is none.
        people: of the images.
        sources: likewise.
        suspect: likewise.
    """

    image: str
    groups: list[int]
    names: list[str | None]
    people: list[str]
    sources: list[str]
    suspect: list[bool]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"{path} does not exist; name a .parquet, or a folder of them.")
        return [path]
    found = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith("."))
    if not found:
        raise DataError(f"{path} holds no .parquet; name a folder of tables.")
    return found


def _columns(path: Path) -> _Columns:
    try:
        with _reading(path):
            return _read_columns(path)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from error


def _read_columns(path: Path) -> _Columns:
    with _opened(path) as table:
        schema = table.schema_arrow
        image, name = _image_column(path, schema)
        groups = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    if sum(groups) > path.stat().st_size:
        raise DataError(f"{path} announces {sum(groups):,} rows, more than its bytes; get it again.")
    person = next((title for title in ("identity", "label") if title in schema.names), "")
    name = next((title for title in ("name", "path") if title in schema.names), name)
    source = "source" if "source" in schema.names else ""
    suspect = "suspect" if "suspect" in schema.names else ""
    values = _light(path, [title for title in (person, name, source, suspect) if title], sum(groups))
    nothing = [None] * sum(groups)
    known = _class_names(schema, person)
    return _Columns(
        image,
        groups,
        [_text(path, name, value) or None for value in values.get(name, nothing)],
        [_person(path, person, value, known) for value in values.get(person, nothing)],
        [_text(path, source, value) for value in values.get(source, nothing)],
        [_flag(path, suspect, value) for value in values.get(suspect, nothing)],
    )


def _image_column(path: Path, schema: Any) -> tuple[str, str]:
    """The columns of bytes, and of names if they are beside the bytes."""
    import pyarrow as pa

    kind = schema.field("image").type if schema.names.count("image") == 1 else None
    if kind is not None and pa.types.is_struct(kind):
        parts = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        if _is_bytes(parts.get("bytes")):
            return "image.bytes", "image.path" if "path" in parts else ""
    elif _is_bytes(kind):
        return "image", ""
    found = ", ".join(f"{field.name}: {str(field.type)[:60]}" for field in schema)
    raise DataError(f"{path} has no column `image` of bytes, or of a struct with `bytes`; it has {found or 'none'}.")


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _light(path: Path, titles: Sequence[str], rows: int) -> dict[str, list[Any]]:
    """Columns other than that of the images."""
    values: dict[str, list[Any]] = {title: [] for title in titles}
    if not titles:
        return values
    with _opened(path) as table:
        for batch in table.iter_batches(_TEXTS, columns=list(titles)):
            for title in titles:
                head, _, tail = title.partition(".")
                column = batch.column(head)
                values[title] += _plain(column.field(tail) if tail else column)
    if any(len(found) != rows for found in values.values()):
        raise ValueError(f"its columns have other lengths than {rows} rows")
    return values


def _plain(column: Any) -> list[Any]:
    """Values of a column, none of them a long text."""
    values = column.to_pylist()
    if any(isinstance(value, str) and len(value) > _LONGEST for value in values):
        raise ValueError(f"a text is longer than {_LONGEST} letters")
    return values


def _person(path: Path, title: str, value: Any, known: Sequence[str]) -> str:
    """Name of a person; a number that is missing is NaN in tables of pandas."""
    if isinstance(value, float):
        value = None if value != value else int(value) if value.is_integer() and abs(value) <= _LARGEST else value
    if type(value) is int:
        return known[value] if 0 <= value < len(known) else str(value)
    return _text(path, title, value)


def _text(path: Path, title: str, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{path}: a value of `{title}` is {str(value)[:40]!r}, which is no text; write it as text.")
    return value or ""


def _flag(path: Path, title: str, value: Any) -> bool:
    if value not in (None, False, True):
        raise DataError(f"{path}: a value of `{title}` is {str(value)[:40]!r}, neither true nor false.")
    return bool(value)


def _class_names(schema: Any, title: str) -> list[str]:
    """Names of labels in Hugging Face's description of a table."""
    try:
        names = json.loads((schema.metadata or {})[_HUGGING_FACE])["info"]["features"][title]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _names(names: Sequence[str | None], counts: Sequence[int], starts: Sequence[str]) -> list[str]:
    """Names that tell the images apart."""
    told = [name for name in names if name is not None]
    if len(set(told)) == len(names):
        return told
    rows = ((start, row) for start, count in zip(starts, counts, strict=True) for row in range(count))
    return [f"{start}/{row:07d}" for start, row in rows]
