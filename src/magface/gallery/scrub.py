"""Zeros in the parts of a SQLite file that belong to no row.

With `secure_delete` SQLite overwrites what it deletes. But when it moves rows from one page to another it leaves copies
of them in the unused middle of the old page, and these outlive the rows. Only that middle is written here: SQLite never
reads it.

This file is run as a program of its own, with a connection of its own: a process that closes any handle of a database
file loses the locks that its SQLite holds on it, and one that is killed must not leave somebody writing without a lock.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LATER = 75
"""Exit code where others write or read, so that it has to be tried again."""
KINDS = {2: 12, 5: 12, 10: 8, 13: 8}
"""Bytes of the head of each kind of page that holds rows."""
_HEADER, _HEADER_1 = b"SQLite format 3\0", 100
_PAGES = 64


def main(path: str, due: int, patience: float) -> int:
    """Overwrite the unused middle of every page, and strike the removal that asked for it off the gallery's list.

    The commit makes other processes forget the pages they hold in memory, which have the old middle.

    Args:
        path: of the database.
        due: number of that removal.
        patience: seconds to wait for whoever writes now.

    Returns:
        0, or `LATER`.

    Raises:
        ValueError: the file is no database.
        OSError: it cannot be written.
    """
    with Path(path).open("rb+", buffering=0) as file:  # outlives the connection, whose locks its end would take
        connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
        try:
            for setting in ("trusted_schema = OFF", "secure_delete = ON", "synchronous = FULL"):
                connection.execute(f"PRAGMA {setting}")
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return LATER
            log = Path(f"{path}-wal")
            if log.exists() and log.stat().st_size:
                return LATER
            scrub(file)
            connection.execute("DELETE FROM meta WHERE key = 'unpurged' AND value = ?", (due,))
            connection.execute("COMMIT")
        finally:
            connection.close()
    return 0


def scrub(file: BinaryIO) -> int:
    """Overwrite the unused middle of every page of a database, and wait until that is on the disk.

    Args:
        file: of which nobody writes a page meanwhile, and of which no change is waiting in a log.

    Returns:
        Pages in which there was something.

    Raises:
        ValueError: the file is no database.
        OSError: it cannot be written.
    """
    found = 0
    for place, end in _gaps(file):
        after = file.tell()
        file.seek(place)
        file.write(bytes(end - place))
        file.seek(after)
        found += 1
    os.fsync(file.fileno())
    return found


def _gaps(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Where unused middles that are not all zeros begin and end."""
    file.seek(0)
    header = file.read(_HEADER_1)
    size = int.from_bytes(header[16:18])
    size = 65536 if size == 1 else size
    # the first byte of a page is its kind, or that of the number of the next page, which stays below any kind
    if not header.startswith(_HEADER) or size < 512 or os.fstat(file.fileno()).st_size >= size << 25:
        raise ValueError("it is no database of a size that can be looked through.")
    file.seek(0)
    start = 0
    while block := file.read(size * _PAGES):
        for first in range(0, len(block) - size + 1, size):
            begin, end = _gap(block[first : first + size], _HEADER_1 if start + first == 0 else 0)
            if begin < end and block.count(0, first + begin, first + end) < end - begin:
                yield start + first + begin, start + first + end
        start += len(block)


def _gap(page: bytes, head: int) -> tuple[int, int]:
    """Where the unused middle of a page begins and ends; nothing where it does not hold together."""
    kind = KINDS.get(page[head])
    if kind is None:
        return 0, 0
    cells = int.from_bytes(page[head + 3 : head + 5])
    content = int.from_bytes(page[head + 5 : head + 7]) or 65536
    begin = head + kind + 2 * cells
    pointers = page[head + kind : begin]
    lowest = min((int.from_bytes(pointers[at : at + 2]) for at in range(0, 2 * cells, 2)), default=len(page))
    return (begin, content) if content <= min(lowest, len(page)) else (0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
