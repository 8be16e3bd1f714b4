"""Embeddings in files: `.npz`, `.parquet`, and the official text list `path v1 ... vD`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from magface import io
from magface.errors import DataError
from magface.types import Embeddings

_MODEL = b"magface.model"
_TEXT = (".txt", ".list")
FORMATS = (".npz", ".parquet", *_TEXT)


def write(path: str | os.PathLike[str], names: Sequence[str], embeddings: Embeddings) -> None:
    r"""Write embeddings and their names in the format that the suffix of `path` says.

    `.npz` (`names`, `vectors`, `model`; no pickle) and `.parquet` (`path`, `embedding`) keep the fingerprint of
    the model; `.txt` and `.list` are the official form, in digits that give the same float32 back.

    Raises:
        DataError: the suffix is another, names and embeddings differ in number, or a name cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "feat.list")
        ...     write(file, ["a.jpg"], Embeddings(np.array([[3, 4]], np.float32)))
        ...     file.read_text()
        'a.jpg 3.0 4.0\n'
    """
    if len(names) != len(embeddings):
        raise DataError(f"{len(names)} names do not fit {len(embeddings)} embeddings.")
    check_names(path, names)
    match check_format(path):
        case ".npz":
            _write_npz(Path(path), names, embeddings)
        case ".parquet":
            _write_parquet(Path(path), names, embeddings)
        case _:
            _write_text(Path(path), names, embeddings)


def read(path: str | os.PathLike[str]) -> tuple[list[str], Embeddings]:
    """Names and embeddings of a file that `write`, or the official code, made, or of a folder of `magface embed`.

    Raises:
        DataError: the file is missing, malformed (a text list is named with its line), or of an unknown format; of a
            folder, it holds no `part-*.parquet`, or such of several models.
    """
    if Path(path).is_dir():
        return _read_folder(Path(path))
    suffix = check_format(path)
    if not Path(path).is_file():
        raise DataError(f"there is no feature file {path}; check the path.")
    match suffix:
        case ".npz":
            return _read_npz(Path(path))
        case ".parquet":
            return _read_parquet(Path(path))
        case _:
            return _read_text(Path(path))


def check_format(path: str | os.PathLike[str]) -> str:
    """Suffix of a feature file, in lower case; to be asked before the work whose result goes there.

    Raises:
        DataError: it is not one of `FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"cannot tell the format of {path}; let the name end in {', '.join(FORMATS)}.")
    return suffix


def check_names(path: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Refuse names that the format of `path` cannot hold; to be asked before the work whose result goes there.

    Raises:
        DataError: a name cannot be written, or the suffix of `path` is not one of `FORMATS`.
    """
    suffix = check_format(path)
    for name in names:
        if suffix == ".parquet" and not _is_unicode(name):
            raise DataError(f"{name!a} is not Unicode text, which Parquet needs; write .npz instead.")
        if suffix in _TEXT and not _is_path_of_a_list(name):
            raise DataError(f"the name {name!r} cannot be told from the numbers of a text list; write .npz instead.")


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _is_path_of_a_list(name: str) -> bool:
    one_line = bool(name) and name.strip() == name and len(name.splitlines()) == 1
    return one_line and not _is_number(name.rsplit(" ", 1)[-1])


def _write_npz(path: Path, names: Sequence[str], embeddings: Embeddings) -> None:
    with io.atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file, names=np.array(names, dtype=np.str_), vectors=embeddings.vectors, model=np.array(embeddings.model)
        )


def _read_npz(path: Path) -> tuple[list[str], Embeddings]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names, vectors, model = arrays["names"], arrays["vectors"], arrays["model"]
    except Exception as error:  # numpy, zipfile and zlib fail on hostile bytes in a dozen ways
        raise _damaged(path) from error
    if names.dtype.kind != "U" or model.dtype.kind != "U" or model.ndim or vectors.dtype != np.float32:
        raise _damaged(path)
    return _checked(path, names.tolist(), vectors, str(model))


def _write_parquet(path: Path, names: Sequence[str], embeddings: Embeddings) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    size = embeddings.vectors.shape[1]
    column = pa.array(names, pa.string())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.vectors.ravel()), size)
    table = pa.table({"path": column, "embedding": vectors})
    with io.atomic_path(path) as temporary:
        parquet.write_table(table.replace_schema_metadata({_MODEL: embeddings.model.encode()}), temporary)


def _read_parquet(path: Path) -> tuple[list[str], Embeddings]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, columns=["path", "embedding"])
        names = table["path"].cast(pa.string()).to_pylist()
        vectors = table["embedding"].combine_chunks()
        rows = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        rows = rows.reshape(len(table), vectors.type.list_size)
        model = (table.schema.metadata or {}).get(_MODEL, b"").decode()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise _damaged(path) from error
    if None in names:
        raise _damaged(path)
    return _checked(path, names, rows, model)


def _read_folder(folder: Path) -> tuple[list[str], Embeddings]:
    files = sorted(folder.glob("part-*.parquet"))
    if not files:
        raise DataError(f"{folder} holds no part-*.parquet; name a feature file, or a folder of `magface embed`.")
    names, parts = zip(*map(_read_parquet, files), strict=True)
    return list(chain.from_iterable(names)), Embeddings.concatenate(parts)


def _write_text(path: Path, names: Sequence[str], embeddings: Embeddings) -> None:
    with io.atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        for name, row in zip(names, embeddings.vectors.tolist(), strict=True):
            file.write(f"{name} {' '.join(map(repr, row))}\n")


def _read_text(path: Path) -> tuple[list[str], Embeddings]:
    names: list[str] = []
    rows: list[np.ndarray] = []
    size = 0
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            tokens = line.rstrip().split(" ")
            size = size or _trailing_numbers(tokens)
            try:
                row = np.array(tokens[-size:], dtype=np.float32)
            except ValueError:
                row = np.empty(0, np.float32)
            name = " ".join(tokens[:-size])
            if not size or len(row) != size or not name or _is_number(tokens[-size - 1]) or not np.isfinite(row).all():
                wanted = f"a path and {size} finite numbers" if size else "a path and numbers"
                raise DataError(f"{path}, line {number}: expected {wanted} with one space between them.")
            names.append(name)
            rows.append(row)
    if not rows:
        raise DataError(f"{path} holds no embeddings.")
    return names, Embeddings(np.stack(rows))


def _trailing_numbers(tokens: Sequence[str]) -> int:
    count = 0
    while count < len(tokens) and _is_number(tokens[-1 - count]):
        count += 1
    return count


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _checked(path: Path, names: list[str], vectors: np.ndarray, model: str) -> tuple[list[str], Embeddings]:
    if vectors.ndim != 2 or len(names) != len(vectors):
        raise _damaged(path)
    try:
        return names, Embeddings(vectors, model)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _damaged(path: Path) -> DataError:
    return DataError(f"{path} is damaged or not a feature file of this package; make it again with `magface embed`.")
