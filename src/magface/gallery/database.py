"""Connections to a gallery's database file, plain or encrypted, and what can go wrong with one.

A file is hostile until its schema is the one written here: no trigger, view or function of a stranger ever runs.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from magface.errors import DataError

APPLICATION = int.from_bytes(b"MgFG")
VERSION = 1
PAGE = 16384
"""Bytes of a page: seven people of 512 numbers each fill one, of which the usual 4096 bytes would hold one."""
LONGEST = 1 << 24
"""Bytes of a row, at most."""
WAIT = 0.5
"""Seconds that SQLite itself waits for a lock; whoever waits longer asks again, so that Ctrl-C is heard."""

TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, sequence INTEGER NOT NULL, name TEXT NOT NULL, "
    "template BLOB NOT NULL)",
    "CREATE UNIQUE INDEX people_name ON people (name)",
    "CREATE INDEX people_sequence ON people (sequence)",
    "CREATE TABLE faces (id INTEGER PRIMARY KEY AUTOINCREMENT, person INTEGER NOT NULL REFERENCES people (id), "
    "score REAL NOT NULL, time REAL NOT NULL, marked INTEGER NOT NULL, vector BLOB NOT NULL, source BLOB NOT NULL, "
    "box BLOB, crop BLOB NOT NULL)",
    "CREATE INDEX faces_person ON faces (person)",
    "CREATE INDEX faces_marked ON faces (marked) WHERE marked",
    "CREATE TABLE labels (label TEXT NOT NULL, person INTEGER NOT NULL REFERENCES people (id), "
    "PRIMARY KEY (label, person)) WITHOUT ROWID",
    "CREATE INDEX labels_person ON labels (person)",
    "CREATE TABLE removed (sequence INTEGER NOT NULL, person INTEGER NOT NULL, "
    "PRIMARY KEY (sequence, person)) WITHOUT ROWID",
)


@contextmanager
def spoken(path: Path, key: str = "") -> Iterator[None]:
    """Say what a database error means for the one who uses the gallery.

    Raises:
        DataError: any error of SQLite or SQLCipher happened in the block.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise DataError(f"{path} cannot hold a text with broken characters: {error.object!r:.60}.") from error
    except UnicodeDecodeError as error:
        raise DataError(_meaning(path, key, "a text in it is broken")) from error
    except Exception as error:
        # the errors of SQLCipher's module are other classes of the same names, and import it would cost who needs none
        if not any(kind.__name__ == "Error" and kind.__module__ in _MODULES for kind in type(error).__mro__):
            raise
        raise DataError(_meaning(path, key, str(error))) from error


_MODULES = ("sqlite3", "sqlcipher3", "sqlcipher3.dbapi2")


def connect(path: Path, key: str = "") -> sqlite3.Connection:
    """Open a file that exists; nothing in it was looked at or believed yet.

    Args:
        path: of the file, without links.
        key: passphrase of an encrypted gallery; "" for a plain one.

    Raises:
        DataError: `key` is given and sqlcipher3 is not installed, or it is no printable text.
    """
    driver = _driver(path, key)
    connection: sqlite3.Connection = driver.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False
    )
    try:
        if key:
            connection.execute("PRAGMA cipher_log_level = NONE")  # it writes to standard error otherwise
            connection.execute(f"PRAGMA key = '{key.replace(chr(39), chr(39) * 2)}'")  # it takes no parameters
            connection.execute(f"PRAGMA cipher_page_size = {PAGE}")
        else:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            connection.execute(f"PRAGMA page_size = {PAGE}")
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {setting}")
        for setting in ("secure_delete = ON", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def make(path: Path, key: str, meta: dict[str, str | int]) -> None:
    """Make a gallery's database where there is no file, or an empty one that a killed process left.

    Raises:
        DataError: there is a file, or it cannot be made.
    """
    _driver(path, key)  # before there is a file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # biometric data are for their owner alone
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        if not path.is_file() or path.stat().st_size:
            raise DataError(f"there is {path} already; open it, or choose another name.") from error
    except OSError as error:
        raise DataError(f"cannot make the gallery {path}: {error.strerror}; choose another place.") from error
    with spoken(path, key), closing(connect(path, key)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise DataError(f"there is {path} already; open it, or choose another name.")
        for statement in TABLES:
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Hold a file to the schema of a gallery, before anything else is asked of it.

    Raises:
        DataError: it is something else, or of a newer version.
    """
    if not path.stat().st_size:
        raise DataError(f"{path} is empty, as if its making was cut off; make the gallery again.")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise DataError(f"{path} is no gallery; check the path.")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise DataError(f"{path} was made by a newer magface (form {version}, not {VERSION}); install that one.")
    schema = connection.execute("SELECT substr(sql, 1, 1000) FROM sqlite_master WHERE sql IS NOT NULL LIMIT 100")
    found = {row[0] for row in schema}
    if found - {"CREATE TABLE sqlite_sequence(name,seq)"} != set(TABLES):
        raise DataError(f"{path} is no gallery, or was changed by another program; restore it from a copy.")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise DataError(f"{path} cannot keep a log beside it; put it on a disk of this machine.")


def _driver(path: Path, key: str) -> ModuleType:
    if not key.isprintable():
        raise DataError(f"the key of {path} must be printable text, in one line.")
    if not key:
        return sqlite3
    try:
        return importlib.import_module("sqlcipher3.dbapi2")
    except ImportError as error:
        raise DataError("an encrypted gallery needs more packages: pip install 'magface[gallery]'") from error


def _meaning(path: Path, key: str, text: str) -> str:
    """One sentence for what the database says."""
    for sign, meaning in _MEANINGS.items():
        if sign in text:
            return meaning.format(path=path)
    if "not a database" in text:
        if key:
            return f"the key does not open {path}, or it is not an encrypted gallery; check both."
        return f"{path} is no gallery, or an encrypted one, which needs its key in MAGFACE_GALLERY_KEY."
    return f"{path} is damaged ({text[:200]}); restore it from a copy."


_MEANINGS = {
    "locked": "{path} is in use by another process that did not finish in time; try again later.",
    "readonly": "{path} or what lies beside it cannot be written; give write permission, or copy it elsewhere.",
    "is full": "the disk of {path} is full; make room, what was kept so far is safe.",
    "unable to open": "cannot open {path}: it is missing, or its folder cannot be written.",
    "disk I/O": "the disk of {path} does not read or write; what was kept so far is safe.",
    "closed database": "{path} was closed; open it again.",
    "FOREIGN KEY": "a face or label in {path} would belong to nobody; look the person up again.",
    "people.name": "two people of {path} would have one name; names must differ.",
    "too big": "a row of {path} is too large; crops and texts must stay below 16 MB.",
}


def begin(connection: Any, statement: str, patience: float) -> None:
    """Begin a transaction; waits for whoever writes now.

    Args:
        connection: to a gallery.
        statement: BEGIN or BEGIN IMMEDIATE.
        patience: seconds to wait, in turns of `WAIT`.
    """
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute(statement)
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() >= end:
                raise
