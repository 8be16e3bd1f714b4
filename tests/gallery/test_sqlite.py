import contextlib
import dataclasses
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.gallery import current, database, sqlite
from magface.gallery.records import Counts, Entry, NewPerson, Settings
from magface.gallery.sqlite import SqliteStore
from magface.geometry import direction

SIZE = 64


def vectors(count, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (count, SIZE)).astype(np.float32)


def somebody(name, rows, labels=(), **fields):
    """A person whose template is the mean of the rows."""
    faces = tuple(Entry(name, row, 50.0, f"{name}/{i}.jpg", **fields) for i, row in enumerate(rows))
    return NewPerson(name, rows.mean(axis=0), faces, (False,) * len(faces), tuple(labels))


def add(store, *people):
    with store.writing() as transaction:
        return transaction.add_people(people)


def remove(store, name):
    with store.writing() as transaction:
        transaction.remove_person(store.person(name).id)


def names(store):
    return [person.name for person in store.people()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "faces.db"


@pytest.fixture
def store(path, card):
    with contextlib.closing(SqliteStore.create(path, card, Settings())) as found:
        yield found


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, card):
    """A store that tests add people to."""
    with contextlib.closing(SqliteStore.create(tmp_path_factory.mktemp("shelf") / "faces.db", card, Settings())) as it:
        yield it


@pytest.fixture
def large(monkeypatch):
    """A gallery of 20 people is one that keeps its index in a file."""
    monkeypatch.setattr(current, "LARGE", 20)


# ---------------------------------------------------------------------------------------------------------------------
# what is kept


TEXT = st.text(max_size=20)  # with surrogates and zeros: a path is any bytes
NUMBER = st.floats(-1e12, 1e12)


@given(
    source=TEXT,
    box=st.none() | st.tuples(NUMBER, NUMBER, NUMBER, NUMBER),
    crop=st.binary(max_size=50),
    time=NUMBER,
    score=st.floats(0, 100),
    marked=st.booleans(),
)
def test_a_face_comes_back_as_it_was(shelf, source, box, crop, time, score, marked):
    name, vector = f"person {shelf.counts().people}", vectors(1)[0]
    entry = Entry(name, vector, score, source, box, crop, time)
    [[id]] = add(shelf, NewPerson(name, 2 * vector, (entry,), (marked,), ("b", "a")))
    face = shelf.face(id)
    expected = (source, box, crop, time, score, marked)
    assert (face.source, face.box, face.crop, face.time, face.score, face.marked) == expected
    assert face.vector.tobytes() == vector.tobytes()
    person = shelf.person(name)
    assert (person.labels, person.faces, person.template.tobytes()) == (("a", "b"), 1, (2 * vector).tobytes())


def test_everything_is_there_after_opening_again(path, store, card):
    add(store, *(somebody(f"person {i}", vectors(2, i), ["x"]) for i in range(3)))
    with store.writing() as transaction:
        transaction.set_note("policy", "strict")
    before = [(p.name, p.id, p.template.tobytes(), p.labels) for p in store.people()]
    store.close()
    with contextlib.closing(SqliteStore.open(path)) as again:
        assert [(p.name, p.id, p.template.tobytes(), p.labels) for p in again.people()] == before
        assert again.counts() == Counts(3, 6, 0)
        assert again.card == card
        assert again.settings == Settings()
        assert (again.note("policy"), again.note("other"), again.labels()) == ("strict", "", ["x"])


def test_ids_are_never_used_again(path, store):
    [[first]] = add(store, somebody("Ann", vectors(1)))
    ann = store.person("Ann").id
    remove(store, "Ann")
    store.close()
    with contextlib.closing(SqliteStore.open(path)) as again:
        [[second]] = add(again, somebody("Ann", vectors(1)))
        assert second > first
        assert again.person("Ann").id > ann


def test_a_block_that_fails_changes_nothing(store):
    add(store, somebody("Ann", vectors(1)))
    with contextlib.suppress(ZeroDivisionError), store.writing() as transaction:
        transaction.add_people([somebody("Bob", vectors(1))])
        transaction.remove_person(store.person("Ann").id)
        raise ZeroDivisionError
    assert names(store) == ["Ann"]
    assert store.search(direction(vectors(1)), 2).people[0].tolist() == [store.person("Ann").id, -1]


def test_people_of_one_name_are_refused_together(store):
    with pytest.raises(DataError, match="one name"):
        add(store, somebody("Ann", vectors(1)), somebody("Ann", vectors(1, 1)))
    assert store.counts().people == 0


def test_faces_of_nobody_are_refused(store):
    with pytest.raises(DataError, match="nobody"), store.writing() as transaction:
        transaction.add_faces(7, somebody("Ann", vectors(1)).faces, [False])
    with pytest.raises(DataError, match="nobody"), store.writing() as transaction:
        transaction.set_person(dataclasses.replace(placeholder(), id=7))


def placeholder():
    from magface.gallery.records import Person

    return Person(0, "Ann", vectors(1)[0], 1)


def test_texts_that_are_no_characters_are_refused(store):
    with pytest.raises(DataError, match="broken characters"):
        store.person("\ud800")
    with pytest.raises(DataError, match="broken characters"):
        store.search(direction(vectors(1)), 1, "\udcff")


def test_vectors_of_another_size_are_refused(store):
    with pytest.raises(DataError, match="must have 64 numbers"):
        add(store, NewPerson("Ann", np.ones(3, np.float32), (Entry("Ann", np.ones(3, np.float32), 5.0),), (False,)))
    assert store.counts().people == 0


@pytest.mark.parametrize("card_first", [True, False])
def test_a_new_model_replaces_all_vectors_or_none(path, store, card, card_first):
    [[face]] = add(store, somebody("Ann", vectors(1)))
    new = dataclasses.replace(card, embedding_size=8, sha256="c" * 64)
    vector = np.arange(1, 9, dtype=np.float32)
    with contextlib.closing(SqliteStore.open(path)) as other:
        other.search(direction(vectors(1)), 1)
        with pytest.raises(DataError, match="must have 8 numbers"), store.writing() as transaction:
            transaction.set_card(new)
        assert store.card == card
        with store.writing() as transaction:
            if card_first:
                transaction.set_card(new)
            transaction.set_vectors([(face, vector, 60.0, True)])
            transaction.set_person(dataclasses.replace(transaction.person("Ann"), template=vector))
            transaction.set_card(new)
        for one in (store, other):
            assert one.search(direction(vector)[None], 1).cosine[0, 0] == pytest.approx(1)
            assert one.card == new
            assert one.face(face).vector.tolist() == vector.tolist()


def test_streams_go_on_while_people_come_and_go(store):
    add(store, *(somebody(f"person {i}", vectors(1, i)) for i in range(600)))
    seen = []
    for person in store.people():
        seen.append(person.name)
        if len(seen) == 10:
            remove(store, "person 599")
    assert seen == [f"person {i}" for i in range(599)]
    chosen = [store.person(f"person {i}").id for i in (5, 3, 400)]
    assert [p.name for p in store.people([*chosen, 10**9, chosen[0]])] == ["person 3", "person 5", "person 400"]


# ---------------------------------------------------------------------------------------------------------------------
# search


def test_a_search_sees_what_was_changed_before(path, store):
    rows = vectors(6)
    add(store, *(somebody(f"person {i}", rows[i : i + 1], ["odd"] if i % 2 else []) for i in range(6)))
    with contextlib.closing(SqliteStore.open(path)) as other:
        for one in (store, other):
            assert nearest(one, rows) == names(store)
            assert nearest(one, rows[:2], "odd")[1] == "person 1"
            assert one.search(direction(rows[:1]), 9, "odd").people[0, 3:].tolist() == [-1] * 6
            assert one.search(direction(rows[:1]), 9, "none").people[0].tolist() == [-1] * 9
        remove(store, "person 0")
        ann = store.person("person 1")
        with store.writing() as transaction:
            transaction.set_person(dataclasses.replace(ann, name="Ann", template=rows[0], labels=()))
        for one in (store, other):
            assert nearest(one, rows[:1]) == ["Ann"]
            assert one.search(direction(rows[:1]), 9, "odd").searched == 2
        assert store.purge()


def nearest(store, rows, label=None):
    ids = store.search(direction(rows), 1, label).people[:, 0]
    found = {person.id: person.name for person in store.people()}
    return [found[id] for id in ids.tolist()]


def test_a_search_has_no_place_in_a_block(store):
    with pytest.raises(RuntimeError, match="end the block"), store.writing():
        store.search(direction(vectors(1)), 1)
    with pytest.raises(RuntimeError, match="end the block"), store.writing(), store.writing():
        pass


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_a_large_gallery_opens_from_its_index(path, card, monkeypatch, precision):
    rows = vectors(50)
    with contextlib.closing(SqliteStore.create(path, card, Settings(precision=precision))) as store:
        add(store, *(somebody(f"person {i}", rows[i : i + 1]) for i in range(50)))
        before = store.search(direction(rows), 3)
    assert path.with_name("faces.db.index").stat().st_mode & 0o777 == 0o600
    with contextlib.closing(SqliteStore.open(path)) as store, monkeypatch.context() as patch:
        patch.setattr(current.Current, "_all", None)  # nobody reads all vectors
        assert store.search(direction(rows), 3).people.tolist() == before.people.tolist()
        remove(store, "person 7")
        add(store, somebody("new", rows[7:8]))
        assert nearest(store, rows[7:8]) == ["new"]
    with contextlib.closing(SqliteStore.open(path)) as store:
        assert nearest(store, rows[6:9]) == ["person 6", "new", "person 8"]


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("content", [b"", b"\0" * 10_000, None])
def test_a_damaged_index_is_made_again(path, store, content):
    rows = vectors(30)
    add(store, *(somebody(f"person {i}", rows[i : i + 1]) for i in range(30)))
    store.search(direction(rows), 1)
    store.close()
    file = path.with_name("faces.db.index")
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)
    with contextlib.closing(SqliteStore.open(path)) as again:
        assert nearest(again, rows) == names(again)
        remove(again, "person 1")
        assert again.purge()
        assert nearest(again, rows[:1]) == ["person 0"]


@pytest.mark.usefixtures("large")
def test_an_index_with_damaged_rows_is_made_again(path, store):
    rows = vectors(30)
    add(store, *(somebody(f"person {i}", rows[i : i + 1]) for i in range(30)))
    store.search(direction(rows), 1)
    store.close()
    file = path.with_name("faces.db.index")
    content = bytearray(file.read_bytes())
    content[-SIZE * 4 :] = np.full(SIZE, 2, np.float32).tobytes()
    file.write_bytes(content)
    with contextlib.closing(SqliteStore.open(path)) as again:
        assert nearest(again, rows) == names(again)


@pytest.mark.usefixtures("large")
def test_the_index_of_a_later_state_is_not_believed(path, store):
    """A database that was restored from a copy, beside an index that knows more than it."""
    rows = vectors(60)
    add(store, *(somebody(f"person {i}", rows[i : i + 1]) for i in range(30)))
    store.close()
    copy = path.read_bytes()
    with contextlib.closing(SqliteStore.open(path)) as later:
        add(later, *(somebody(f"later {i}", rows[30 + i : 31 + i]) for i in range(30)))
        later.search(direction(rows), 1)
    path.write_bytes(copy)
    with contextlib.closing(SqliteStore.open(path)) as again:
        add(again, somebody("Ann", rows[59:]))
        add(again, somebody("Bob", rows[58:59]))
        assert nearest(again, rows) == [*names(again)[:30], *nearest(again, rows[30:58]), "Bob", "Ann"]
        assert set(nearest(again, rows[30:58])) <= set(names(again))


@pytest.mark.usefixtures("large")
def test_an_index_that_missed_too_many_removals_is_made_again(path, store, monkeypatch):
    monkeypatch.setattr(sqlite, "REMEMBERED", 2)
    rows = vectors(40)
    add(store, *(somebody(f"person {i}", rows[i : i + 1]) for i in range(40)))
    with contextlib.closing(SqliteStore.open(path)) as other:
        other.search(direction(rows), 1)
        for i in range(6):
            remove(store, f"person {i}")
        assert nearest(other, rows[6:]) == names(store)
        assert set(nearest(other, rows[:6])) <= set(names(store))


# ---------------------------------------------------------------------------------------------------------------------
# several at a time


def write_many(path, prefix, count):
    with contextlib.closing(SqliteStore.open(path)) as store:
        for i in range(count):
            add(store, somebody(f"{prefix} {i}", vectors(1, i)))


def test_writers_queue_while_two_processes_read(path, store):
    start = multiprocessing.get_context("spawn")
    writers = [start.Process(target=write_many, args=(path, f"writer {i}", 20)) for i in range(2)]
    for writer in writers:
        writer.start()
    with contextlib.closing(SqliteStore.open(path)) as other:
        while any(writer.is_alive() for writer in writers):
            first, second = other.counts(), store.counts()
            assert first.people == first.faces
            assert second.people >= first.people
            assert store.search(direction(vectors(1)), 1).people.shape == (1, 1)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert store.counts() == Counts(40, 40, 0)


def test_threads_take_turns(store):
    def work(prefix):
        for i in range(10):
            add(store, somebody(f"{prefix} {i}", vectors(1, i)))
            store.search(direction(vectors(1)), 1)
            list(store.people())

    threads = [threading.Thread(target=work, args=(f"thread {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts() == Counts(40, 40, 0)


def test_what_is_due_does_not_keep_a_gallery_from_opening(path, store, monkeypatch):
    monkeypatch.setattr(sqlite, "_SOON", 0.01)
    add(store, somebody("Ann", vectors(1)), somebody("Bob", vectors(1)))
    remove(store, "Ann")
    with store.writing(), contextlib.closing(SqliteStore.open(path)) as other:
        assert names(other) == ["Bob"]
    assert store._meta("unpurged")
    SqliteStore.open(path).close()
    assert store._meta("unpurged") is None


def test_a_writer_does_not_wait_forever(path, store, monkeypatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0)
    monkeypatch.setattr(database, "WAIT", 0.01)
    with contextlib.closing(SqliteStore.open(path)) as other:
        with store.writing(), pytest.raises(DataError, match="in use by another process"), other.writing():
            pass
        add(other, somebody("Ann", vectors(1)))
    assert names(store) == ["Ann"]


# ---------------------------------------------------------------------------------------------------------------------
# what cannot be a gallery


def test_a_place_that_is_taken_is_refused(path, store, card):
    with pytest.raises(DataError, match="already"):
        SqliteStore.create(path, card, Settings())
    with pytest.raises(DataError, match="already"):
        SqliteStore.create(path.parent, card, Settings())
    with pytest.raises(DataError, match="no gallery"):
        SqliteStore.open(path.parent)
    with pytest.raises(DataError, match=r"no gallery .*nobody\.db"):
        SqliteStore.open(path.with_name("nobody.db"))


def test_a_file_that_a_killed_process_left_empty_is_made_a_gallery(path, card):
    path.touch()
    with pytest.raises(DataError, match="make the gallery again"):
        SqliteStore.open(path)
    SqliteStore.create(path, card, Settings()).close()


def test_a_store_that_was_closed_says_so(store):
    store.close()
    with pytest.raises(DataError, match="was closed"):
        store.counts()


def test_a_gallery_is_for_its_owner_alone(path, store):
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_leads_to_the_gallery_and_its_index(path, store, tmp_path):
    add(store, somebody("Ann", vectors(1)))
    link = tmp_path / "sub" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with contextlib.closing(SqliteStore.open(link)) as other:
        assert names(other) == ["Ann"]
        assert [p.name for p in link.parent.iterdir()] == ["link.db"]


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\0" * 5000, os.urandom(70_000)])
def test_what_is_no_database_is_no_gallery(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"faces\.db"):
        SqliteStore.open(path)
    assert path.read_bytes() == content


HOSTILE = [
    "CREATE TRIGGER t AFTER INSERT ON people BEGIN DELETE FROM people; END",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TABLE more (a)",
    "DROP INDEX people_name",
    "ALTER TABLE notes ADD COLUMN more",
    "PRAGMA application_id = 1",
    "PRAGMA user_version = 99",
    "DELETE FROM meta",
    "UPDATE meta SET value = x'00' WHERE key = 'card'",
    "UPDATE meta SET value = '{}' WHERE key = 'card'",
    "UPDATE meta SET value = '[1]' WHERE key = 'settings'",
    """UPDATE meta SET value = '{"index": "exact", "recall": "1"}' WHERE key = 'settings'""",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_gallery_that_others_changed_is_refused(path, store, statement):
    store.close()
    tamper(path, statement)
    with pytest.raises(DataError, match=r"faces\.db"):
        SqliteStore.open(path)


WRONG = [
    "UPDATE people SET template = x'00'",
    "UPDATE people SET template = zeroblob(256)",
    "UPDATE people SET template = 'text'",
    "UPDATE people SET template = zeroblob(100000000)",
    "UPDATE people SET name = x'ff'",
    "UPDATE people SET name = 'a' || char(10) || 'b'",
    "UPDATE people SET name = CAST(x'ff' AS TEXT)",
    "UPDATE faces SET vector = zeroblob(255)",
    "UPDATE faces SET vector = CAST(x'0000c07f' || zeroblob(252) AS BLOB)",
    "UPDATE faces SET score = 'much'",
    "UPDATE faces SET score = 101",
    "UPDATE faces SET time = 9e999",
    "UPDATE faces SET box = x'00'",
    "UPDATE faces SET source = 5",
    "UPDATE faces SET source = x'ff'",
    "UPDATE faces SET crop = 5",
    "UPDATE labels SET label = 'a' || char(27)",
    "UPDATE meta SET value = 'x' WHERE key = 'sequence'",
    "DELETE FROM meta WHERE key = 'forgotten'",
    "UPDATE sqlite_sequence SET seq = 9223372036854775807",
]


@pytest.mark.parametrize("statement", WRONG)
def test_damaged_rows_are_named_not_believed(path, store, statement):
    add(store, somebody("Ann", vectors(1), ["a"]))
    store.close()
    tamper(path, statement)

    def use(store):
        list(store.people())
        list(store.faces())
        store.search(direction(vectors(1)), 1)
        add(store, somebody("Bob", vectors(1)))

    with contextlib.closing(SqliteStore.open(path)) as again, pytest.raises(DataError, match=r"faces\.db"):
        use(again)


def tamper(path, statement):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_give_an_error_or_a_gallery(path, store, seed):
    add(store, *(somebody(f"person {i}", vectors(1, i), ["a"]) for i in range(40)))
    store.close()
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(content), 200):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        again = SqliteStore.open(path)
        with contextlib.closing(again):
            for read in (again.people, again.faces):
                with contextlib.suppress(DataError):
                    list(read())
            with contextlib.suppress(DataError):
                again.search(direction(vectors(1)), 1)
            remove(again, "person 1")
            again.purge()


def test_a_full_disk_is_one_sentence_and_loses_nothing(store):
    add(store, somebody("Ann", vectors(1)))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DataError, match="is full; make room"):
        add(store, *(somebody(f"person {i}", vectors(5, i)) for i in range(200)))
    assert names(store) == ["Ann"]
    store._connection.execute("PRAGMA max_page_count = 1000000")
    add(store, somebody("Bob", vectors(1)))
    assert names(store) == ["Ann", "Bob"]


def test_a_file_that_cannot_grow_is_one_sentence_and_loses_nothing(path, store):
    add(store, somebody("Ann", vectors(1)))
    store.close()
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from magface.gallery.sqlite import SqliteStore\n"
        "from magface.gallery.records import Entry, NewPerson\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = SqliteStore.open(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "entry = Entry('Bob', np.ones(64, np.float32), 5.0, crop=b'x' * 1_000_000)\n"
        "with store.writing() as transaction:\n"
        "    transaction.add_people([NewPerson('Bob', entry.vector, (entry,), (False,))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "magface.errors.DataError: the disk of" in done.stderr
    with contextlib.closing(SqliteStore.open(path)) as again:
        assert names(again) == ["Ann"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_cannot_be_written_is_one_sentence(path, store, card):
    store.close()
    path.parent.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot"):
            SqliteStore.open(path)
        with pytest.raises(DataError, match="cannot make the gallery"):
            SqliteStore.create(path.with_name("other.db"), card, Settings())
    finally:
        path.parent.chmod(0o700)


# ---------------------------------------------------------------------------------------------------------------------
# what was removed


def recognisable(number, size=SIZE, crops=(30, 2000, 4000, 20_000)):
    """A person, and every piece of bytes by which it could be found again in a file."""
    rng = np.random.default_rng(10_000 + number)
    word = lambda length: rng.bytes(length).hex()  # noqa: E731
    name, labels = word(rng.integers(6, 40)), [word(rng.integers(6, 20)) for _ in range(rng.integers(3))]
    faces = tuple(
        Entry(name, rng.normal(0, 3, size), 50.0, word(rng.integers(8, 90)), None, rng.bytes(int(length)))
        for length in rng.choice(crops, rng.integers(1, 4))
    )
    template = np.mean([face.vector for face in faces], axis=0)
    pieces = {name.encode(), *(label.encode() for label in labels), *(face.source.encode() for face in faces)}
    rows = [template, *(face.vector for face in faces)]
    for content in [
        *(row.tobytes() for row in rows),
        *(direction(row).tobytes() for row in rows),
        *(direction(row).astype(np.float16).tobytes() for row in rows),
    ]:
        pieces |= {content[start : start + 16] for start in range(0, len(content), 16)}
    pieces |= {face.crop[start : start + 16] for face in faces for start in range(0, len(face.crop) - 15, 400)}
    return NewPerson(name, template, faces, (False,) * len(faces), tuple(labels)), pieces


def traces(folder, pieces):
    """Files of a folder and what they hold of somebody."""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    return {(name, piece) for name, content in files.items() for piece in pieces if piece in content}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_removing_a_person_removes_every_trace(path, card, precision):
    people = [recognisable(number) for number in range(40)]
    with contextlib.closing(SqliteStore.create(path, card, Settings(precision=precision))) as store:
        add(store, *(person for person, _ in people))
        store.search(direction(people[0][0].template)[None], 1)
    ann, pieces = people[7]
    held = {name for name, _ in traces(path.parent, pieces)}
    assert held == {"faces.db", "faces.db.index"}
    assert {piece for _, piece in traces(path.parent, pieces)} >= {ann.name.encode(), ann.faces[0].crop[:16]}
    with contextlib.closing(SqliteStore.open(path)) as store:
        remove(store, ann.name)
        assert store.purge()
        assert not run_traces(path.parent, pieces)
        assert len(run_traces(path.parent, people[8][1])) > 20
        assert nearest(store, ann.template[None]) != [ann.name]
    assert not traces(path.parent, pieces)


@pytest.mark.usefixtures("large")
def test_a_reader_puts_off_the_last_traces_and_the_next_change_takes_them(path, store):
    people = [recognisable(number) for number in range(30)]
    add(store, *(person for person, _ in people))
    ann, pieces = people[3]
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM people").fetchone()
    remove(store, ann.name)
    assert not store.purge()
    assert run_traces(path.parent, pieces)
    reader.execute("COMMIT")
    add(store, recognisable(99)[0])
    assert not run_traces(path.parent, pieces)
    assert store.purge()
    # a process that is open but reads nothing does not keep old pages, nor bring its index back
    other = SqliteStore.open(path)
    other.search(direction(ann.template)[None], 1)
    remove(store, people[4][0].name)
    assert store.purge()
    assert not run_traces(path.parent, people[4][1])
    reader.close()
    other.close()
    store.close()
    assert not traces(path.parent, people[4][1])


def remove_and_be_killed(path, name, index_part):
    index_part.write_bytes(SqliteStore.open(path).person(name).template.tobytes())
    remove(SqliteStore.open(path), name)
    os._exit(9)


def test_traces_that_a_killed_process_left_go_when_the_gallery_is_opened(path, store):
    people = [recognisable(number) for number in range(30)]
    add(store, *(person for person, _ in people))
    ann, pieces = people[3]
    part = path.with_name(".faces.db.index.123.part.index")  # of an index that was being written
    process = multiprocessing.get_context("spawn").Process(target=remove_and_be_killed, args=(path, ann.name, part))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert run_traces(path.parent, pieces)
    SqliteStore.open(path).close()
    assert not run_traces(path.parent, pieces)
    assert store.counts().people == 29


def test_copies_that_the_database_leaves_behind_go_too(path, card):
    """Rows of many sizes that come and go: SQLite moves others between pages, and forgets copies of them there."""
    rng = np.random.default_rng(9)
    here, gone = {}, set()
    small = dataclasses.replace(card, embedding_size=16)
    with contextlib.closing(SqliteStore.create(path, small, Settings())) as store:
        with store.writing() as transaction:
            for number in range(500):
                if rng.random() < 0.55 or not here:
                    person, here[number] = recognisable(number, 16, (0, 50, 2000, 4000))
                    transaction.add_people([person])
                else:
                    chosen = int(rng.choice([*here]))
                    name = recognisable(chosen, 16, (0, 50, 2000, 4000))[0].name
                    transaction.remove_person(transaction.person(name).id)
                    gone |= here.pop(chosen)
        assert store.purge()
    content = path.read_bytes()
    assert not any(piece in content for piece in gone)
    with contextlib.closing(database.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def run_traces(folder, pieces):
    """As `traces`, by another process: to close a file takes the locks of this one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(traces, (folder, pieces))
