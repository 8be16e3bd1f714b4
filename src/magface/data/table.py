"""Tables of what is known of images: tab-separated, a line each, under a heading."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from magface import io
from magface.data.face_set import Record
from magface.errors import DataError

TITLES = ("path", "identity", "source", "suspect", "name")
"""`path` is where the image lies and `name` what the set calls it, which a file may be unable to."""


def read(path: str | os.PathLike[str], *, titles: Sequence[str] | None = TITLES) -> dict[str, dict[str, str]]:
    """Read a table; of the titles, only `path` has to be there.

    Args:
        path: of the table.
        titles: columns to read; None for all there are.

    Returns:
        What the table says of each path.

    Raises:
        DataError: it cannot be read, has no column `path` or no line.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe waits, a device never ends
            raise DataError(f"{path} is no file; name a table.")
        with Path(path).open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from error
    if not rows or "path" not in rows[0]:
        raise DataError(f"{path} needs a heading with a column `path`, and a line for each image.")
    wanted = [title for title in titles or rows[0] if title is not None and title in rows[0]]
    return {row["path"]: {title: row[title] for title in wanted if row[title] is not None} for row in rows}


def write(path: str | os.PathLike[str], rows: Iterable[tuple[str, Record]]) -> None:
    """Write where each image lies, and what is known of it."""
    columns = ((place, each.person, each.source, int(each.suspect), each.name) for place, each in rows)
    write_rows(path, TITLES, columns)


def write_rows(path: str | os.PathLike[str], titles: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table with any columns, whole or not at all."""
    with (
        io.atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        plain = csv.writer(file, delimiter="\t", lineterminator="\n")
        quoted = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(titles)
        for row in rows:
            fields = [str(field) for field in row]
            (quoted if "\r" in "".join(fields) else plain).writerow(fields)  # `plain` leaves it bare, an end of line


def described(record: Record, row: Mapping[str, str]) -> Record:
    """A record with what a line of a table says of it.

    An empty `identity` leaves what the set says; in a table with a column `name`, as `write` makes them, nobody knows.
    """
    return Record(
        row.get("name") or record.name,
        row.get("identity", record.person) if "name" in row else row.get("identity") or record.person,
        record.place,
        row.get("source", record.source),
        row["suspect"] == "1" if "suspect" in row else record.suspect,
    )
