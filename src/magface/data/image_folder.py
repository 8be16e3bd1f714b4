"""A folder, or an uncompressed tar archive of it, with one sub-folder of images for each person."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from magface import images
from magface.data import table as tables
from magface.data import tar, writing
from magface.data.face_set import FaceSet, Place, Record, Stretch
from magface.errors import DataError

TABLE = "faces.tsv"
"""What `write` leaves in the folder."""


def read(root: str | os.PathLike[str], table: str | os.PathLike[str] | None = None) -> FaceSet:
    """Find the images, in the order of their names `person/file.jpg`; none is opened.

    Args:
        root: the folder, or a `.tar` of it (uncompressed). Where the folder holds a table `faces.tsv` with a column
            `name`, as `write` leaves it there, names, people and what else is known come from that; images that the
            table lacks count too.
        table: tab-separated file with a heading: `path`, and optionally `identity`, `source` and `suspect` (0 or 1);
            only the images it names are taken, and `identity` goes before the name of the sub-folder.

    Raises:
        DataError: there is no such folder, archive or table, or no image in it.
    """
    root = Path(root)
    found = {name: Record(name, str(PurePosixPath(name).parent), place) for name, place in sorted(_find(root))}
    rows = tables.read(table) if table is not None else _own(root)
    missing = [(name, f"{name} is in the table but not in the data; copy it there.") for name in rows.keys() - found]
    records = [
        tables.described(record, rows[path]) if path in rows else record
        for path, record in found.items()
        if path in rows or table is None
    ]
    if not records:
        raise DataError(f"{root} holds no image; it needs one sub-folder of images for each person.")
    return FaceSet.of(records, missing)


def write(
    folder: str | os.PathLike[str],
    faces: FaceSet,
    progress: Callable[[int], object] | None = None,
) -> tuple[tuple[str, str], ...]:
    """Write a sub-folder of images for each person, bit for bit, and a table `faces.tsv` of all that is known.

    Names that a system would not take, or that lead elsewhere, are changed; the table keeps them. A writer that was
    stopped goes on in its folder: files that are there and right are left as they are.

    Args:
        folder: missing or empty, or what a stopped writer of the same set left.
        faces: the set.
        progress: called as images are written.

    Returns:
        Name and reason of every image that cannot be read and was left out.

    Raises:
        DataError: the folder holds something else, or no image can be read.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> from magface.data.face_set import Held
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "faces"), FaceSet.of([Record("7", "../Ann", Held(b"GIF8"))]))
        ...     faces = read(Path(folder, "faces"))
        ...     sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.*")), faces.people
        ()
        (['faces/_Ann/7.gif', 'faces/faces.tsv'], ('../Ann',))
    """
    failures: writing.Failures = []
    with writing.unfinished(folder, "folder", faces) as place:
        rows = list(writing.images_in(place, faces, writing.Layout(taken=TABLE), failures, progress))
        tables.write(place / TABLE, rows)
    return tuple(failures)


def holds_image(root: str | os.PathLike[str]) -> bool:
    """Whether there is an image in a sub-folder of a folder."""
    return next(_find(Path(root)), None) is not None


def _own(root: Path) -> dict[str, dict[str, str]]:
    """What a writer's own table says."""
    path = root / TABLE
    rows = tables.read(path) if path.is_file() else {}
    return {name: row for name, row in rows.items() if "name" in row}


def _find(root: Path) -> Iterator[tuple[str, Place]]:
    if root.is_dir():
        for path in _files(root):
            name = path.relative_to(root).as_posix()
            if _is_image(name):
                yield name, Stretch(path)
    elif root.is_file():
        for member in tar.members(root):
            name = PurePosixPath(member.name).as_posix()
            if _is_image(name):
                yield name, Stretch(root, member.offset, member.size)
    else:
        raise DataError(f"{root} does not exist; name a folder of people, or a .tar of it.")


def _files(root: Path) -> Iterator[Path]:
    """All but folders, through links too, in which each folder counts once; broken links and pipes fail when read."""
    seen = {_number(above) for above in root.resolve().parents}
    for place, folders, files in os.walk(root, followlinks=True, onerror=_unlisted):
        here = Path(place)
        if (number := _number(here)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(number)
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")), key=lambda n: (here / n).is_symlink()
        )
        yield from (here / name for name in files)


def _number(folder: Path) -> tuple[int, int]:
    """The same for every name of a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _unlisted(error: OSError) -> None:
    raise DataError(f"cannot list the folder {error.filename} ({error.strerror}); check its permissions.") from error


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in images.EXTENSIONS and len(path.parts) > 1 and not hidden
