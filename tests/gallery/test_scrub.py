import contextlib
import sqlite3

import pytest

from magface.gallery.scrub import LATER, main, scrub


def fill(path, size, rows):
    """A database that does not overwrite what it deletes."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in (f"PRAGMA page_size = {size}", "PRAGMA secure_delete = OFF"):
            connection.execute(statement)
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID")
        connection.execute("CREATE TABLE words (word TEXT)")
        connection.executemany("INSERT INTO words VALUES (?)", [(f"word {i} " * 5,) for i in range(rows)])
        connection.execute("INSERT INTO words VALUES ('the secret')")
        connection.execute("DELETE FROM words WHERE word = 'the secret'")  # the page lets go of its last row
        connection.executemany("INSERT INTO meta VALUES (?, ?)", [("unpurged", 7), ("other", 1)])
        connection.execute("COMMIT")


def state(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT word FROM words ORDER BY rowid").fetchall()


@pytest.mark.parametrize(("size", "rows"), [(512, 3), (4096, 20), (4096, 3000), (16384, 0), (65536, 500)])
def test_what_belongs_to_no_row_is_overwritten_and_no_row_is(tmp_path, size, rows):
    path = tmp_path / "a.db"
    fill(path, size, rows)
    assert b"the secret" in path.read_bytes()
    before = state(path)
    with path.open("rb+") as file:
        assert scrub(file) > 0
        assert scrub(file) == 0
    assert b"the secret" not in path.read_bytes()
    assert state(path) == before
    assert len(before) == rows


def test_the_removal_that_asked_for_it_is_struck_off(tmp_path):
    path = tmp_path / "a.db"
    fill(path, 4096, 20)
    assert main(str(path), 8, 1.0) == 0
    assert meta(path) == {"unpurged": 7, "other": 1}
    assert main(str(path), 7, 1.0) == 0
    assert meta(path) == {"other": 1}
    assert b"the secret" not in path.read_bytes()


def meta(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT key, value FROM meta"))


def test_a_log_with_changes_comes_first(tmp_path):
    path = tmp_path / "a.db"
    fill(path, 4096, 20)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO words VALUES ('waiting')")
        before = path.read_bytes()
        assert main(str(path), 7, 1.0) == LATER
        assert path.read_bytes() == before


def test_whoever_writes_comes_first(tmp_path):
    path = tmp_path / "a.db"
    fill(path, 4096, 20)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert main(str(path), 7, 0.01) == LATER


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\0" * 200])
def test_what_is_no_database_is_left_alone(tmp_path, content):
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with path.open("rb+") as file, pytest.raises(ValueError, match="no database"):
        scrub(file)
    assert path.read_bytes() == content


def test_pages_that_do_not_hold_together_are_left_alone(tmp_path):
    path = tmp_path / "a.db"
    fill(path, 512, 200)
    content = bytearray(path.read_bytes())
    for page in range(512, len(content), 512):
        content[page + 5 : page + 7] = b"\xff\xff"  # the rows would begin behind the page
    path.write_bytes(content)
    with path.open("rb+") as file:
        scrub(file)
    assert path.read_bytes()[512:] == content[512:]
