"""Galleries of which nothing can be read without the key."""

import contextlib
import sys
import traceback

import numpy as np
import pytest

from magface.errors import DataError
from magface.gallery import current, database
from magface.gallery.records import Entry, NewPerson, Settings
from magface.gallery.sqlite import SqliteStore
from magface.geometry import direction

KEY = 'it\'s a "passphrase" with 日本語; DROP TABLE people --'
NAME, SOURCE, LABEL = "Ann Recognisable", "photos/recognisable.jpg", "recognisable label"
VECTOR = np.random.default_rng(0).normal(size=64).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "faces.db"


@pytest.fixture
def store(path, card, monkeypatch):
    pytest.importorskip("sqlcipher3")
    monkeypatch.setattr(current, "LARGE", 1)
    with contextlib.closing(SqliteStore.create(path, card, Settings(), KEY)) as found:
        entry = Entry(NAME, VECTOR, 50.0, SOURCE, crop=b"recognisable crop")
        with found.writing() as transaction:
            transaction.add_people([NewPerson(NAME, VECTOR, (entry,), (False,), (LABEL,))])
        yield found


PIECES = [text.encode() for text in (NAME, SOURCE, LABEL, "recognisable crop", "magface-sface", "CREATE TABLE")] + [
    content[start : start + 16]
    for content in (
        *(VECTOR.tobytes(), direction(VECTOR).tobytes()),
        direction(VECTOR).astype(np.float16).tobytes(),
    )
    for start in range(0, len(content), 16)
]


def test_no_file_holds_anything_in_the_clear(path, store):
    assert store.search(direction(VECTOR)[None], 1).people.tolist() == [[1]]
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert set(files) == {"faces.db", "faces.db-wal", "faces.db-shm"}  # no index
    store.close()
    files |= {f"closed {file.name}": file.read_bytes() for file in path.parent.iterdir()}
    assert not [(name, piece) for name, content in files.items() for piece in PIECES if piece in content]
    assert not files["closed faces.db"].startswith(b"SQLite")
    assert "faces.db.index" not in files


def test_the_same_pieces_are_found_without_a_key(path, card):
    with contextlib.closing(SqliteStore.create(path, card, Settings())) as store:
        entry = Entry(NAME, VECTOR, 50.0, SOURCE, crop=b"recognisable crop")
        with store.writing() as transaction:
            transaction.add_people([NewPerson(NAME, VECTOR, (entry,), (False,), (LABEL,))])
    content = path.read_bytes()
    assert all(piece in content for piece in PIECES[:6])
    assert VECTOR.tobytes() in content


def test_the_key_opens_it_again(path, store):
    store.close()
    with contextlib.closing(SqliteStore.open(path, KEY)) as again:
        person = again.person(NAME)
        assert (person.labels, person.template.tobytes()) == ((LABEL,), VECTOR.tobytes())
        assert again.search(direction(VECTOR)[None], 1).people.tolist() == [[person.id]]
        with again.writing() as transaction:
            transaction.remove_person(person.id)
        assert again.purge()
        assert again.counts().people == 0


@pytest.mark.parametrize("key", ["wrong", KEY + " ", KEY.upper()])
def test_another_key_is_refused_in_one_sentence_without_it(path, store, key, capfd):
    store.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="the key does not open") as caught:
        SqliteStore.open(path, key)
    assert key not in "".join(traceback.format_exception(caught.value))
    assert path.read_bytes() == before
    assert capfd.readouterr().err == ""


def test_no_key_is_refused(path, store):
    store.close()
    with pytest.raises(DataError, match="an encrypted one, which needs its key"):
        SqliteStore.open(path)


def test_a_key_for_a_gallery_that_is_not_encrypted_is_refused(path, card):
    pytest.importorskip("sqlcipher3")
    SqliteStore.create(path, card, Settings()).close()
    with pytest.raises(DataError, match="it is not an encrypted gallery"):
        SqliteStore.open(path, KEY)
    SqliteStore.open(path).close()


@pytest.mark.parametrize("key", ["a\0b", "a\nb", "\udcff"])
def test_a_key_that_no_statement_can_hold_is_refused_without_it(path, card, key):
    with pytest.raises(DataError, match="the key of") as caught:
        SqliteStore.create(path, card, Settings(), key)
    assert key not in str(caught.value)
    assert not path.exists()


def test_the_key_is_in_no_text_of_a_store(store):
    assert KEY not in repr(store)
    assert KEY not in repr(vars(store))


def test_a_damaged_page_is_one_sentence(path, store):
    store.close()
    content = bytearray(path.read_bytes())
    content[database.PAGE + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"faces\.db"), contextlib.closing(SqliteStore.open(path, KEY)) as again:
        list(again.people())


def test_without_the_package_it_says_what_to_install(path, card, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlcipher3.dbapi2", None)
    with pytest.raises(DataError, match=r"pip install 'magface\[gallery\]'"):
        SqliteStore.create(path, card, Settings(), KEY)
    assert not path.exists()
