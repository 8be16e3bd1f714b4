"""A folder, or an uncompressed tar archive of it, with one sub-folder of images for each person."""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from magface import images
from magface.data.face_set import FaceSet, Place, Record, Stretch
from magface.errors import DataError


def read(root: str | os.PathLike[str], table: str | os.PathLike[str] | None = None) -> FaceSet:
    """Find the images, in the order of their names `person/file.jpg`; none is opened.

    Args:
        root: the folder, or a `.tar` of it (uncompressed).
        table: tab-separated file with a heading: `path`, and optionally `identity`, `source` and `suspect` (0 or 1);
            only the images it names are taken, and `identity` goes before the name of the sub-folder.

    Raises:
        DataError: there is no such folder, archive or table, or no image in it.
    """
    found = dict(sorted(_find(Path(root))))
    rows = _read_table(Path(table)) if table is not None else {name: {} for name in found}
    missing = [(name, f"{name} is in the table but not in the data; copy it there.") for name in rows.keys() - found]
    records = [
        Record(
            name,
            rows[name].get("identity") or str(PurePosixPath(name).parent),
            place,
            rows[name].get("source", ""),
            rows[name].get("suspect", "0") == "1",
        )
        for name, place in found.items()
        if name in rows
    ]
    if not records:
        raise DataError(f"{root} holds no image; it needs one sub-folder of images for each person.")
    return FaceSet.of(records, missing)


def _find(root: Path) -> Iterator[tuple[str, Place]]:
    if root.is_dir():
        for path in root.rglob("*"):
            name = path.relative_to(root).as_posix()
            if _is_image(name) and path.is_file():
                yield name, Stretch(path)
    elif root.is_file():
        try:
            with tarfile.open(root, "r:") as archive:
                for member in archive:
                    name = PurePosixPath(member.name).as_posix()
                    if _is_image(name) and member.isreg():
                        yield name, Stretch(root, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise DataError(f"{root} is neither a folder nor an uncompressed .tar archive.") from error
    else:
        raise DataError(f"{root} does not exist; name a folder of people, or a .tar of it.")


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in images.EXTENSIONS and len(path.parts) > 1 and not hidden


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from error
    if not rows or "path" not in rows[0]:
        raise DataError(f"{path} needs a heading with a column `path`, and a line for each image.")
    return {row["path"]: row for row in rows}
