"""A set of faces in any form: told by its content when it is read, by its name when it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from magface.data import image_folder, image_list, parquet, recordio, verification_bin, webdataset, writing
from magface.data import pairs as pair_lists
from magface.data import table as tables
from magface.data.face_set import FaceSet
from magface.data.pairs import Pairs
from magface.errors import DataError

FORMS = ("folder", "list", "rec", "webdataset", "parquet", "bin")

_SUFFIXES = {
    "": "folder",
    **dict.fromkeys(image_list.SUFFIXES, "list"),
    ".rec": "rec",
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".bin": "bin",
}
_KNOWN = (
    "a folder of people or an uncompressed .tar of it, a list (.txt, .list, .lst), .rec, WebDataset shards (.tar), "
    ".parquet, or a folder of the last three"
)
_REC = b"\x0a\x23\xd7\xce"
_HEAD = 512


def read(
    path: str | os.PathLike[str],
    table: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> FaceSet:
    """Open a set of faces of any form; no image is decoded.

    Args:
        path: a folder of people, or a `.tar` of it; a list; a `.rec`; shards of WebDataset; a `.parquet`; or a folder
            that holds one of the last three.
        table: tab-separated file with a heading: `path` (the name of an image in the set), and optionally `identity`,
            `source` and `suspect` (0 or 1); only the images it names are taken.
        root: folder that the paths of a list start from; that of the list if not given.

    Raises:
        DataError: there is nothing there, it has no known form, is damaged, or a writer has not finished it.

    Example:
        >>> read("no-such-folder")
        Traceback (most recent call last):
        ...
        magface.errors.DataError: no-such-folder does not exist; check the path.
    """
    path = Path(path)
    form = form_at(path)
    if root is not None and form != "list":
        raise DataError(f"{path} is no list, and only the paths of a list start from a root; leave it out.")
    match form:
        case "bin":
            raise DataError(
                f"{path} holds pairs of people without names; measure on it with `magface evaluate pairs {path}`, "
                "or take its images out with `magface data convert`."
            )
        case "folder":
            return image_folder.read(path, table)
        case "list":
            faces = image_list.read(path, root)
        case "rec":
            faces = recordio.read(_rec(path))
        case "webdataset":
            faces = webdataset.read(path)
        case _:
            faces = parquet.read(path)
    return faces if table is None else _described(faces, tables.read(table))


def form_at(path: str | os.PathLike[str]) -> str:
    """Which of the `FORMS` lies at `path`.

    Raises:
        DataError: nothing does, or nothing known.
    """
    path = Path(path)
    if path.is_dir():
        return _form_of_folder(path)
    if not path.is_file():
        if path.suffix.lower() == ".tar" and "{" in path.name:
            return "webdataset"
        known = (
            f"is no file and no folder; give {_KNOWN}." if os.path.lexists(path) else "does not exist; check the path."
        )
        raise DataError(f"{path} {known}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from error
    suffix = path.suffix.lower()
    if head[257:262] == b"ustar" or suffix == ".tar":
        return "webdataset" if webdataset.is_shard(path) else "folder"
    form = (
        "parquet" if head[:4] == b"PAR1" else "rec" if head[:4] == _REC else _SUFFIXES.get(suffix) if suffix else None
    )
    if form is None:
        raise DataError(f"{path} has no form that is known; give {_KNOWN}.")
    return form


def form_of(path: str | os.PathLike[str]) -> str:
    """Which of the `FORMS` is to be written to `path`, by its name.

    Raises:
        DataError: the name does not tell.

    Example:
        >>> form_of("faces"), form_of("faces-{000000..000010}.tar"), form_of("train.lst")
        ('folder', 'webdataset', 'list')
    """
    form = _SUFFIXES.get(Path(path).suffix.lower())
    if form is None:
        raise DataError(f"the name {path} does not say in which form to write; say it with --to {'|'.join(FORMS)}.")
    return form


def write(
    path: str | os.PathLike[str],
    faces: FaceSet,
    form: str,
    progress: Callable[[int], object] | None = None,
    *,
    pairs: Pairs | None = None,
) -> tuple[tuple[str, str], ...]:
    """Write a set of faces, every image bit for bit; whole, or not there, or such that the same call goes on.

    Args:
        path: the file or folder, which must not be there unless the same call was stopped.
        faces: the set.
        form: one of the `FORMS`.
        progress: called as images are written.
        pairs: of images in `faces`; for `bin`.

    Returns:
        Name and reason of every image that cannot be read and was left out.

    Raises:
        ImageError: see `recordio.write`.
        DataError: there is something at `path`, or the form cannot hold the set; the sentence says why.
        OSError: a file cannot be written.
    """
    match form:
        case "folder":
            return image_folder.write(path, faces, progress)
        case "list":
            return image_list.write(path, faces, progress)
        case "webdataset":
            return webdataset.write(path, faces, progress)
        case "parquet":
            return parquet.write(path, faces, progress)
        case "rec":
            path = Path(path) if Path(path).suffix == ".rec" else Path(path, "train.rec")
            _free(path, path.with_suffix(".idx"), path.with_suffix(".tsv"), path.with_name("property"))
            kept, failures = _readable(faces)
            recordio.write(path, kept, progress)
            return failures
        case "bin" if pairs is not None:
            _free(Path(path))
            kept, failures = _readable(faces)
            verification_bin.write(path, kept, _named(pairs, kept))
            return failures
    raise DataError(f"there is no form {form}, or it needs a list of pairs; choose one of {', '.join(FORMS)}.")


def _form_of_folder(path: Path) -> str:
    if (path / writing.UNFINISHED).is_file():
        raise DataError(f"{path} is unfinished; run the same `magface data convert` again to complete it.")
    if next(path.glob("[!.]*.rec"), None) is not None:
        return "rec"
    if image_folder.holds_image(path):
        return "folder"
    if next(path.glob("[!.]*.tar"), None) is not None:
        return "webdataset"
    return "folder" if next(path.rglob("[!.]*.parquet"), None) is None else "parquet"


def _rec(path: Path) -> Path:
    """The `.rec` itself, or that of a folder."""
    if path.is_file():
        return path
    found = sorted(path.glob("[!.]*.rec"))
    if len(found) > 1:
        raise DataError(f"{path} holds {', '.join(file.name for file in found)}; name one of them.")
    return found[0]


def _described(faces: FaceSet, rows: dict[str, dict[str, str]]) -> FaceSet:
    known = set(faces.names)
    missing = [
        (name, f"{name} is in the table but not in the data; copy it there.") for name in rows if name not in known
    ]
    records = [tables.described(record, rows[record.name]) for record in faces.records() if record.name in rows]
    if not records:
        raise DataError("the table names no image of the data; its column `path` must hold their names.")
    return FaceSet.of(records, [*faces.failures, *missing])


def _free(*targets: Path) -> None:
    for target in targets:
        if os.path.lexists(target):
            raise DataError(f"{target} exists; delete it, or choose another place.")


def _readable(faces: FaceSet) -> tuple[FaceSet, tuple[tuple[str, str], ...]]:
    """The images that can be read, for forms that are written whole, and what is wrong with the others."""
    failures: writing.Failures = []
    rows = [row for row, content in writing.encoded(faces, failures) if content is not None]
    writing.some(faces, failures)
    return faces[np.array(rows)], tuple(failures)


def _named(pairs: Pairs, faces: FaceSet) -> Pairs:
    """The pairs by the names of the set, where it has the images."""
    wanted = (*pairs.first, *pairs.second)
    found = pair_lists.match(wanted, faces.names).tolist()
    names = [name if row < 0 else faces.names[row] for name, row in zip(wanted, found, strict=True)]
    return replace(pairs, first=tuple(names[: len(pairs)]), second=tuple(names[len(pairs) :]))
