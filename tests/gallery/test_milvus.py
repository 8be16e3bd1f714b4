import contextlib
import dataclasses
import fcntl
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("milvus_lite")

from milvus_lite.adapter.grpc.server import start_server_in_thread

from magface.errors import DataError
from magface.gallery import enrolling, milvus, milvus_server
from magface.gallery.milvus import MilvusStore
from magface.gallery.records import Counts, Entry, NewPerson, Settings

SIZE = 64


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "faces")


@pytest.fixture
def opened():
    """Opens or makes galleries, and closes them."""
    with contextlib.ExitStack() as stack:
        yield lambda store: stack.enter_context(contextlib.closing(store))


@pytest.fixture
def store(place, card, opened):
    return opened(MilvusStore.create(place, card, Settings()))


@pytest.fixture
def server(tmp_path):
    """Address of a Milvus server, to which everything is as to a cluster."""
    found, database, port = start_server_in_thread(str(tmp_path / "server"))
    yield f"http://127.0.0.1:{port}"
    found.stop(None).wait()
    database.close()


def entries(name, count=1, seed=0):
    rng = np.random.default_rng([seed, *name.encode()])
    return tuple(
        Entry(
            *(name, rng.normal(0, 3, SIZE).astype(np.float32), rng.uniform(0, 100), f"{name}/{seed}/{i}.jpg"),
            *((1.0, 2.5, 3.0, 4.0) if i % 2 else None, rng.bytes(20), 1e9 + i),
        )
        for i in range(count)
    )


def somebody(name, count=1, labels=(), seed=0):
    found = entries(name, count, seed)
    return NewPerson(name, fused(found), found, tuple(i % 2 == 0 for i in range(count)), labels)


def fused(faces):
    return enrolling.template([face.vector for face in faces])


def add(store, *people):
    with store.writing() as transaction:
        return transaction.add_people(people)


def facts(reading):
    """All that is in a gallery, but ids."""
    return {
        person.name: (
            person.labels,
            person.template.tobytes(),
            person.faces,
            [
                (f.vector.tobytes(), f.score, f.source, f.box, f.crop, f.time, f.marked)
                for f in reading.faces(person.id)
            ],
        )
        for person in reading.people()
    }


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def files(place):
    return b"".join(path.read_bytes() for path in sorted(Path(place).rglob("*")) if path.is_file())


# opening


def test_what_was_written_is_there_after_opening_again(place, card, store, opened):
    add(store, somebody("Ann", 3, ("b", "a")), somebody("Bob"))
    before, counts = facts(store), store.counts()
    assert counts == Counts(2, 4, 3)
    store.close()
    again = opened(MilvusStore.open(place))
    assert (facts(again), again.counts()) == (before, counts)
    assert (again.card, again.settings) == (card, Settings())


def test_two_stores_of_one_process_see_each_other(place, store, opened):
    other = opened(MilvusStore.open(place))
    add(store, somebody("Ann", 2))
    assert facts(other) == facts(store)
    add(other, somebody("Bob"))
    assert [person.name for person in store.people()] == ["Ann", "Bob"]


def test_nothing_runs_on_after_closing(place, card):
    before = set(threading.enumerate())
    sockets = set(Path("/tmp").glob("magface-*"))
    with contextlib.closing(MilvusStore.create(place, card, Settings())) as store:
        add(store, somebody("Ann"))
        mine = set(Path("/tmp").glob("magface-*")) - sockets
        assert all(folder.stat().st_mode & 0o077 == 0 for folder in mine)
    assert set(threading.enumerate()) <= before
    assert not any(folder.exists() for folder in mine)


def test_a_gallery_is_not_made_twice(place, card, store):
    with pytest.raises(DataError, match=r"there is a gallery in .*faces already; open it"):
        MilvusStore.create(place, card, Settings())


def test_a_creation_that_was_cut_off_is_made_again(place, card, monkeypatch, opened):
    with monkeypatch.context() as patch:
        patch.setattr(milvus, "_set_state", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            MilvusStore.create(place, card, Settings())
    assert not MilvusStore.exists(place)
    with pytest.raises(DataError, match=r"there is no gallery in .*faces; check the place"):
        MilvusStore.open(place)
    add(opened(MilvusStore.create(place, card, Settings())), somebody("Ann"))
    assert MilvusStore.exists(place)


def test_what_is_no_gallery_is_left_alone(tmp_path, card):
    file, folder = tmp_path / "file.db", tmp_path / "photos"
    file.write_bytes(b"SQLite format 3\0")
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    for path in (file, folder):
        assert not MilvusStore.exists(str(path))
        with pytest.raises(DataError, match=r"there is no gallery .*, it is no folder of Milvus Lite; check the path"):
            MilvusStore.open(str(path))
        with pytest.raises(DataError, match="is something else than a folder of Milvus Lite; choose"):
            MilvusStore.create(str(path), card, Settings())
    with pytest.raises(DataError, match=r"there is no gallery .*, nothing is there; check the path"):
        MilvusStore.open(str(tmp_path / "none"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jpg", "file.db", "photos"]


def test_a_key_is_not_taken_for_encryption(place, card):
    with pytest.raises(DataError, match="cannot be encrypted"):
        MilvusStore.create(place, card, Settings(), "secret")
    assert not Path(place).exists()


def test_a_folder_in_use_is_said_to_be(place, store):
    store.close()
    with Path(place, "LOCK").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="in use by another process"):
            MilvusStore.open(place)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ('{"version": 2}', "of another version of magface"),
        ("{", "is damaged at its state"),
        ("[]", "is damaged at its state"),
        ('{"last": -1}', "is damaged at its state"),
        ('{"last": "1"}', "is damaged at its state"),
        ('{"until": NaN}', "is damaged at its state"),
        ('{"colour": 1}', "is damaged at its state"),
        ('{"generation": 7}', "Milvus at .* could not do it"),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(place, store, state, message):
    store._server.upsert("magface_state", [milvus._text_row(1, state)])
    store.close()
    with pytest.raises(DataError, match=message):
        MilvusStore.open(place)


@pytest.mark.parametrize(
    ("key", "text"), [(key, text) for key in ("card", "settings") for text in ("", "[]", "[", '{"colour": 1}')]
)
def test_a_card_that_makes_no_sense_is_refused(place, store, key, text):
    milvus._Tables(store._server, 1, store.card, store.settings).set_texts({key: text})
    store.close()
    with pytest.raises(DataError, match="is damaged at its card or settings"):
        MilvusStore.open(place)


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"name": 1, "labels": [], "template": ""}',
        '{"name": "A", "labels": [], "template": "AAAA"}',
    ],
)
def test_a_person_that_makes_no_sense_is_refused(store, facts):
    add(store, somebody("Ann"))
    row = {**milvus._person_row(store.person("Ann")), "facts": facts}
    store._server.upsert("magface_people_1", [row])
    with pytest.raises(DataError, match="is damaged at person 1; restore it"):
        list(store.people())


@pytest.mark.parametrize(
    "change",
    [
        {"facts": "{"},
        {"facts": "{}"},
        {"facts": '{"score": 101, "source": "", "box": null, "time": 0}'},
        {"facts": '{"score": 1, "source": "", "box": ["a"], "time": 0}'},
        {"facts": '{"score": NaN, "source": "", "box": null, "time": 0}'},
        {"crop": "!"},
        {"vector": np.zeros(SIZE, np.float32)},
    ],
)
def test_a_face_that_makes_no_sense_is_refused(store, change):
    [[face]] = add(store, somebody("Ann"))
    row = {**milvus._face_row(store.face(face)), **change}
    store._server.upsert("magface_faces_1", [row])
    with pytest.raises(DataError, match=f"is damaged at face {face}; restore it"):
        store.face(face)


@pytest.mark.parametrize("name", ["schema.json", "manifest.json"])
def test_damaged_files_are_an_error(place, store, name):
    add(store, somebody("Ann"))
    store.close()
    for path in Path(place).rglob(f"{name}*"):
        path.write_bytes(b"\xff{")
    with pytest.raises(DataError, match=r"Milvus at .*faces could not do it"):
        MilvusStore.open(place)


# reading and writing


odd = st.text(
    st.characters(blacklist_categories=["C", "Z"]) | st.sampled_from("'\"\\{}[]()%_*,;$"), min_size=1, max_size=30
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, card):
    """A store for many examples."""
    store = MilvusStore.create(str(tmp_path_factory.mktemp("shared") / "faces"), card, Settings())
    yield store
    store.close()


def emptied(store):
    with store.writing() as transaction:
        for person in list(store.people()):
            transaction.remove_person(person.id)
    return store


@settings(max_examples=25)
@given(names=st.lists(odd, min_size=2, max_size=4, unique=True), label=odd, other=odd)
def test_no_name_or_label_is_an_expression(shared, names, label, other):
    store = emptied(shared)
    add(store, *(somebody(name, labels=(label,) if i else (other,)) for i, name in enumerate(names)))
    people = list(store.people())
    assert [person.name for person in people] == names
    assert [store.person(name).id for name in names] == [person.id for person in people]
    assert store.labels() == sorted({label, other})
    hits = store.search(unit(people[0].template)[None], 10, label)
    assert sorted(hits.people[hits.people >= 0].tolist()) == [p.id for p in people if label in p.labels]
    assert hits.searched == sum(label in person.labels for person in people)
    assert store.person(f'{names[0]}" or id > 0 or name == "') is None


@st.composite
def operations(draw):
    """Transactions of operations on people `a` to `d`."""
    name = st.sampled_from("abcd")
    one = st.one_of(
        st.tuples(st.just("add"), name, st.integers(1, 3)),
        st.tuples(st.just("enroll"), name, st.integers(0, 2)),
        st.tuples(st.just("remove"), name),
        st.tuples(st.just("remove faces"), name, st.integers(1, 3)),
        st.tuples(st.just("move"), name, name),
        st.tuples(st.just("vectors"), name),
        st.tuples(st.just("rename"), name, name),
        st.tuples(st.just("label"), name, st.sets(st.sampled_from("xyz"))),
        st.tuples(st.just("note"), name, st.sampled_from(["", "text", "\ud800"])),
    )
    return draw(st.lists(st.lists(one, min_size=1, max_size=5), min_size=1, max_size=4))


def carry_out(transaction, operation, number):
    """One operation, the same on every store, where it has a meaning."""
    kind, name, *more = operation
    person = transaction.person(name)
    if kind == "note":
        transaction.set_note(name, more[0])
    elif kind == "add":
        if person is None:
            transaction.add_people([somebody(name, more[0], seed=number)])
    elif person is None:
        return
    elif kind == "enroll":
        faces = entries(name, more[0], number)
        transaction.add_faces(person.id, faces, [True] * len(faces))
        transaction.set_person(dataclasses.replace(person, template=fused(list(transaction.faces(person.id)))))
    elif kind == "remove":
        transaction.remove_person(person.id)
    elif kind == "remove faces":
        transaction.remove_faces([face.id for face in transaction.faces(person.id)][: more[0]])
        if not list(transaction.faces(person.id)):
            transaction.remove_person(person.id)
    elif kind == "move":
        target = transaction.person(more[0])
        if target is not None and target.id != person.id:
            transaction.move_faces([face.id for face in transaction.faces(person.id)], target.id)
            transaction.remove_person(person.id)
    elif kind == "vectors":
        faces = list(transaction.faces(person.id))
        transaction.set_vectors([(face.id, face.vector + 1, number % 100, not face.marked) for face in faces])
    elif kind == "rename":
        if transaction.person(more[0]) is None:
            transaction.set_person(dataclasses.replace(person, name=more[0]))
    elif kind == "label":
        transaction.set_person(dataclasses.replace(person, labels=tuple(sorted(more[0]))))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transactions=operations(), fails=st.sets(st.integers(0, 3)))
def test_transactions_are_those_of_dictionaries(shared, in_memory, transactions, fails):
    stores = emptied(shared), type(in_memory.store)(shared.card)
    with shared.writing() as transaction:
        for name in "abcd":
            transaction.set_note(name, "")
    number = 0
    for turn, transaction in enumerate(transactions):
        with contextlib.suppress(ZeroDivisionError), contextlib.ExitStack() as stack:
            views = [stack.enter_context(store.writing()) for store in stores]
            for operation in transaction:
                number += 1
                for view in views:
                    carry_out(view, operation, number)
                assert facts(views[0]) == facts(views[1])
                assert views[0].counts() == views[1].counts()
                assert {p.name for p in views[0].people([p.id for p in views[0].people()])} == set(facts(views[1]))
            for person in views[0].people():
                assert all(views[0].face(face.id).source == face.source for face in views[0].faces(person.id))
            if turn in fails:
                1 / 0  # noqa: B018
        assert facts(stores[0]) == facts(stores[1])
        assert stores[0].counts() == stores[1].counts()
        assert stores[0].labels() == stores[1].labels()
        assert all(stores[0].note(name) == stores[1].note(name) for name in "abcd")
        assert {p.template.tobytes() for p in stores[0].people()} == {p.template.tobytes() for p in stores[1].people()}


def test_ids_are_not_used_again(place, store, opened):
    add(store, somebody("Ann", 2), somebody("Bob"))
    last = max(face.id for face in store.faces())
    with store.writing() as transaction:
        transaction.remove_person(transaction.person("Bob").id)
    store.purge()
    store.close()
    again = opened(MilvusStore.open(place))
    assert min(add(again, somebody("Cy"))[0]) > last


def test_notes_of_any_length_and_letters(store):
    texts = {"a": "x" * 200_000, "b": "\ud800 \U0001f600 \"' \\", 'note "': "y"}
    with store.writing() as transaction:
        for key, text in texts.items():
            transaction.set_note(key, text)
    assert {key: store.note(key) for key in texts} == texts
    with store.writing() as transaction:
        transaction.set_note("a", "short")
        transaction.set_note("b", "")
    assert [store.note(key) for key in ("a", "b", "c")] == ["short", "", ""]


@pytest.mark.parametrize(
    ("person", "message"),
    [
        (lambda: with_face(crop=b"x" * 50_000), "the crop of face 2 is longer than a row of Milvus"),
        (lambda: with_face(source="x" * 70_000), "the source of face 2 is longer"),
        (lambda: dataclasses.replace(somebody("Bob"), labels=tuple(f"{i:0499d}" for i in range(200))), "known of Bob"),
    ],
)
def test_what_does_not_fit_is_refused_and_harms_nothing(store, person, message):
    add(store, somebody("Ann"))
    before = facts(store)
    with pytest.raises(DataError, match=message.replace("face 2", "face 4")):
        add(store, person())
    assert facts(store) == before
    add(store, somebody("Cy"))
    assert [person.name for person in store.people()] == ["Ann", "Cy"]
    assert store.counts().faces == 2


def with_face(**changes):
    face = dataclasses.replace(entries("Bob")[0], **changes)
    return NewPerson("Bob", face.vector, (face,), (False,))


def test_a_large_crop_of_an_aligned_face_fits(store):
    add(store, with_face(crop=bytes(112 * 112 * 3 + 1000)))
    assert [len(face.crop) for face in store.faces()] == [112 * 112 * 3 + 1000]


def test_pages_are_whole_and_in_order(store, monkeypatch):
    monkeypatch.setattr(milvus_server, "_FIRST", 3)
    monkeypatch.setattr(milvus_server, "_ROWS", (3, 5))
    monkeypatch.setattr(milvus_server, "_IDS", 4)
    monkeypatch.setattr(milvus_server, "_BYTES", 3000)
    ids = add(store, *(somebody(f"p{i}", 2) for i in range(23)))
    assert [face.id for face in store.faces()] == [id for some in ids for id in some]
    people = [person.id for person in store.people()]
    assert len(people) == 23
    assert people == sorted(people)
    assert [person.id for person in store.people([*people[5:17], 10**12, people[5]])] == people[5:17]


def test_searches_are_those_of_a_matrix(store):
    add(store, *(somebody(f"p{i}") for i in range(200)))
    people = list(store.people())
    probes = unit(np.random.default_rng(1).normal(0, 1, (70, SIZE)).astype(np.float32))
    similar = probes @ unit(np.stack([person.template for person in people])).T
    hits = store.search(probes, 7)
    order = np.argsort(-similar, axis=1)[:, :7]
    np.testing.assert_array_equal(hits.people, np.array([person.id for person in people])[order])
    np.testing.assert_allclose(hits.cosine, np.take_along_axis(similar, order, axis=1), atol=1e-6)
    assert hits.searched == 200


def test_an_approximate_index_finds_nearly_all(place, card, opened):
    store = opened(MilvusStore.create(place, card, Settings(index="approximate", recall=0.9)))
    add(store, *(somebody(f"p{i}") for i in range(500)))
    people = list(store.people())
    templates = unit(np.stack([person.template for person in people]))
    found = store.search(templates, 1)
    assert (found.people[:, 0] == [person.id for person in people]).mean() >= 0.9
    store.close()
    again = opened(MilvusStore.open(place))
    assert again.search(templates[:1], 1).people.tolist() == [[people[0].id]]


@pytest.mark.parametrize(
    ("recall", "visited"), [(0.5, 64), (0.9, 64), (0.99, 200), (0.999, 2000), (0.99999, milvus_server.MOST)]
)
def test_more_recall_visits_more(recall, visited):
    index = milvus._index(Settings(index="approximate", recall=recall))
    assert (index.kind, index.search["ef"]) == ("HNSW", pytest.approx(visited, abs=1))
    assert milvus._index(Settings(index="approximate", recall=1)).kind == "FLAT"


def test_more_people_than_milvus_finds_are_refused(store, monkeypatch):
    monkeypatch.setattr(milvus, "MOST", 3)
    add(store, *(somebody(f"p{i}") for i in range(4)))
    probe = unit(np.ones((1, SIZE), np.float32))
    assert (store.search(probe, 3).people > 0).all()
    with pytest.raises(DataError, match="finds at most 3 people in a search; ask for fewer than 4"):
        store.search(probe, 4)


# whole or not at all


class Crash(BaseException):
    """What no code catches."""


def broken_after(monkeypatch, number):
    """Have the process die after a call of Milvus."""
    calls = []
    call = milvus_server.Server._call

    def counted(self, method, *arguments, **named):
        calls.append(method)
        result = call(self, method, *arguments, **named)
        if len(calls) == number:
            raise Crash
        return result

    monkeypatch.setattr(milvus_server.Server, "_call", counted)
    return calls


def everything(transaction):
    """Additions and changes of every kind."""
    transaction.add_people([somebody("new", 2, ("x",))])
    ann, bob, cy = map(transaction.person, ("Ann", "Bob", "Cy"))
    transaction.add_faces(ann.id, entries("Ann", 1, 9), [True])
    transaction.set_person(dataclasses.replace(ann, name="Anna", template=np.full(SIZE, 2, np.float32)))
    transaction.remove_person(bob.id)
    faces = list(transaction.faces(cy.id))
    transaction.move_faces([faces[0].id], ann.id)
    transaction.set_vectors([(faces[1].id, faces[1].vector * 2, 1.0, True)])
    transaction.remove_faces([faces[2].id])
    transaction.set_note("a", "later")


def write(change):
    def written(store):
        with store.writing() as transaction:
            change(transaction)

    return written


def change_model(store):
    card = dataclasses.replace(store.card, embedding_size=SIZE + 1, sha256="b" * 64)
    vector = np.ones(SIZE + 1, np.float32)
    with store.writing() as transaction:
        for person in list(transaction.people()):
            faces = list(transaction.faces(person.id))
            transaction.set_vectors([(face.id, vector, 1.0, True) for face in faces])
            transaction.set_person(dataclasses.replace(person, template=vector))
        transaction.set_card(card)
        transaction.set_note("a", "later")


def seen(store):
    return facts(store), store.counts(), store.note("a"), store.card.sha256


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(write(everything), id="all"),
        pytest.param(change_model, id="model", marks=pytest.mark.slow),
        pytest.param(MilvusStore.purge, id="purge", marks=pytest.mark.slow),
    ],
)
def test_a_death_after_any_call_leaves_all_or_nothing(tmp_path, card, monkeypatch, act):
    monkeypatch.setattr(milvus, "_LEASE", -1.0)  # the dead are known to be dead
    people = somebody("Ann", 2, ("x", "y")), somebody("Bob", 2), somebody("Cy", 4, ("y",))
    number, outcomes = 0, []
    while True:
        number += 1
        place = str(tmp_path / str(number))
        with contextlib.closing(MilvusStore.create(place, card, Settings())) as store:
            add(store, *people, somebody("Dan"))
            with store.writing() as transaction:
                transaction.remove_person(transaction.person("Dan").id)
                transaction.set_note("a", "earlier")
            before = seen(store)
            with monkeypatch.context() as patch:
                calls = broken_after(patch, number)
                try:
                    act(store)
                    complete = True
                except Crash:
                    complete = False
            with contextlib.closing(MilvusStore.open(place)) as again:
                now = seen(again)
                assert again.note("a") in ("earlier", "later")
                assert len([name for name in again._server.collections() if name.startswith("magface_")]) == 5
                assert again._state().writer == ""
                size = again.card.embedding_size
                add(again, NewPerson("late", np.ones(size, np.float32), (Entry("late", np.ones(size), 1),), (True,)))
                assert "late" in facts(again)
        if complete:
            break
        outcomes.append((now == before, now))
    assert all(same or found == now for same, found in outcomes)
    assert len(calls) > 8
    if act is not MilvusStore.purge:
        assert now != before
        kept = [same for same, _ in outcomes]
        assert True in kept
        assert False in kept
        assert kept == sorted(kept, reverse=True)  # what counts once counts for good


def test_a_store_whose_write_failed_goes_on(store, monkeypatch):
    add(store, somebody("Ann"))
    before = facts(store)
    with monkeypatch.context() as patch:
        broken_after(patch, 4)
        with pytest.raises(Crash):
            add(store, somebody("Bob", 2))
    assert facts(store) == before
    add(store, somebody("Bob", 2))
    assert store.counts() == Counts(2, 3, 2)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_milvus import MilvusStore, somebody, add
store = MilvusStore.open({place!r})
number = store.counts().people
print("ready", flush=True)
while True:
    number += 1
    add(store, somebody(f"p{{number}}", 2))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_kill_loses_nothing_that_was_acknowledged(place, card, opened, store):
    store.close()
    rng, told = np.random.default_rng(0), 0
    script = KILLED.format(tests=str(Path(__file__).parent), place=place)
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            told = max([told, *map(int, process.stdout.read().split())])
        with contextlib.closing(MilvusStore.open(place)) as again:
            names = [person.name for person in again.people()]
            assert names == [f"p{i + 1}" for i in range(len(names))]
            assert told <= len(names) <= told + 1
            assert all(facts(again)[name] == facts_of(somebody(name, 2)) for name in names[-2:])
            assert again.counts().faces == 2 * len(names)
            told = len(names)
    assert told > 20


def facts_of(person):
    faces = [
        (f.vector.tobytes(), f.score, f.source, f.box, f.crop, f.time, mark)
        for f, mark in zip(person.faces, person.marked, strict=True)
    ]
    return person.labels, person.template.tobytes(), len(faces), faces


# removal


def traces(person):
    """Bytes of somebody that could be found in a file."""
    yield person.name.encode()
    for face in person.faces:
        yield face.source.encode()
        yield face.vector.tobytes()[:32]
        yield milvus._packed(face.vector)[:40].encode()
        yield milvus.base64.b64encode(face.crop)[:20]
    yield milvus._packed(person.template)[:40].encode()
    yield unit(person.template).tobytes()[:32]
    yield milvus._key(person.name).encode()


def test_nothing_of_who_was_removed_is_left_in_files(place, store):
    gone = somebody("Nobody Knows", 3, ("secret label",))
    add(store, somebody("Ann", 2), gone)
    with store.writing() as transaction:
        person = transaction.person("Nobody Knows")
        transaction.add_faces(person.id, entries("Nobody Knows", 1, 5), [True])
        transaction.set_person(dataclasses.replace(person, labels=("another label",)))
        transaction.set_note("suspect", "Nobody Knows")
    found = files(place)
    assert any(trace in found for trace in traces(gone))
    kept = facts(store)["Ann"]
    with store.writing() as transaction:
        transaction.remove_person(transaction.person("Nobody Knows").id)
        transaction.set_note("suspect", "")
    assert store.purge()
    for _ in range(2):
        found = files(place)
        for trace in (*traces(gone), b"secret label", b"another label", b"Nobody"):
            assert trace not in found
        assert store.purge()
        add(store, somebody(f"p{len(facts(store))}"))
    assert facts(store)["Ann"] == kept
    store.close()
    found = files(place)
    assert not any(trace in found for trace in traces(gone))


def test_nothing_is_written_anew_where_nothing_was_removed(store):
    add(store, somebody("Ann"))
    assert store.purge()
    assert store._state().generation == 1


# a server


def test_a_server_keeps_a_gallery_too(server, card, opened):
    assert not MilvusStore.exists(server)
    with pytest.raises(DataError, match="there is no gallery in http://127"):
        MilvusStore.open(server)
    store = opened(MilvusStore.create(server, card, Settings()))
    add(store, *(somebody(f"p{i}", 2, ("even",) if i % 2 == 0 else ()) for i in range(20)))
    assert MilvusStore.exists(server)
    other = opened(MilvusStore.open(server))
    assert facts(other) == facts(store)
    assert other.counts() == Counts(20, 40, 20)
    probe = unit(store.person("p3").template)[None]
    assert other.search(probe, 1).people.tolist() == [[store.person("p3").id]]
    assert (other.search(probe, 20, "even").people >= 0).sum() == 10
    write(lambda transaction: transaction.remove_person(transaction.person("p3").id))(other)
    assert store.person("p3") is None
    assert not other.purge()
    change_model(store)
    assert other.card.embedding_size == SIZE + 1
    assert facts(other) == facts(store)


def test_a_database_of_a_server_is_a_gallery_of_its_own(server, card, opened):
    first = opened(MilvusStore.create(server, card, Settings()))
    second = opened(MilvusStore.create(f"{server}/second", card, Settings()))
    add(second, somebody("Ann"))
    assert first.counts() == Counts(0, 0, 0)
    assert opened(MilvusStore.open(f"{server}/second")).counts() == Counts(1, 1, 1)
    with pytest.raises(DataError, match="http://127"):
        MilvusStore.open(f"{server}/third")


def test_writers_wait_for_one_another(server, card, opened, monkeypatch):
    store, other = opened(MilvusStore.create(server, card, Settings())), opened(MilvusStore.open(server))
    state = store._state()
    milvus._set_state(store._server, dataclasses.replace(state, writer="somebody", until=time.time() + 60))
    monkeypatch.setattr(milvus, "PATIENCE", 0.3)
    with pytest.raises(DataError, match="another process is writing to the gallery in http"):
        add(other, somebody("Ann"))
    assert other.counts().people == 0  # readers do not wait
    milvus._set_state(store._server, dataclasses.replace(state, writer="somebody", until=time.time() + 0.1))
    monkeypatch.setattr(milvus, "PATIENCE", 60)
    add(other, somebody("Ann"))
    assert store.counts().people == 1


def test_a_change_that_another_process_came_before_is_not_made(server, card, opened, monkeypatch):
    store, other = opened(MilvusStore.create(server, card, Settings())), opened(MilvusStore.open(server))
    monkeypatch.setattr(milvus, "_LEASE", -1.0)  # the first takes longer than others wait

    def late(transaction):
        transaction.add_people([somebody("Ann")])
        add(other, somebody("Bob"))

    with pytest.raises(DataError, match="another process changed the gallery in http"):
        write(late)(store)
    assert [person.name for person in other.people()] == ["Bob"]
    monkeypatch.undo()
    add(store, somebody("Ann"))
    assert [person.name for person in other.people()] == ["Bob", "Ann"]
    assert store.counts().faces == 2


def test_a_transaction_that_fails_or_changes_nothing_holds_up_nobody(server, card, opened):
    store = opened(MilvusStore.create(server, card, Settings()))
    with contextlib.suppress(ZeroDivisionError), store.writing() as transaction:
        transaction.add_people([somebody("Ann")])
        assert store._state().writer
        1 / 0  # noqa: B018
    with store.writing():
        pass
    assert store._state() == milvus._State()


def test_two_threads_write_one_after_the_other(store):
    errors = []

    def work(number):
        try:
            for turn in range(5):
                add(store, somebody(f"{number} {turn}"))
        except DataError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.counts() == Counts(20, 20, 20)


def test_a_transaction_inside_another_is_refused(store):
    with store.writing() as transaction:
        transaction.add_people([somebody("Ann")])
        with pytest.raises(DataError, match="one transaction at a time"), store.writing():
            pass
        assert store.counts().people == 0
    assert store.counts().people == 1


def test_a_server_that_is_away_is_named(card, monkeypatch, capfd):
    monkeypatch.setattr(milvus_server, "_CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for ask in (MilvusStore.open, MilvusStore.exists, lambda place: MilvusStore.create(place, card, Settings())):
        with pytest.raises(
            DataError, match=rf"cannot reach Milvus at http://127.0.0.1:{port} \(.*\); start it"
        ) as caught:
            ask(f"http://user:secret@127.0.0.1:{port}/database")
        assert "secret" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_server_that_goes_away_is_an_error(tmp_path, card, monkeypatch, opened):
    found, database, port = start_server_in_thread(str(tmp_path / "server"))
    store = opened(MilvusStore.create(f"http://127.0.0.1:{port}", card, Settings()))
    found.stop(None).wait()
    database.close()
    monkeypatch.setattr(milvus_server, "_SECONDS", 0.5)
    with pytest.raises(DataError, match=r"Milvus at http://127.0.0.1:.* could not do it"):
        store.counts()


@pytest.mark.parametrize("place", ["http://", "http://host:port", "https://host:1/a/b", "http://host:99999"])
def test_what_is_no_address_is_refused(place):
    with pytest.raises(DataError, match="no address of a Milvus server"):
        MilvusStore.open(place)
