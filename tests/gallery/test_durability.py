"""Writers and a reader that are killed at any moment: what was acknowledged is there, and nothing is half done.

Run as a program, this file is the experiment: it forks two writers and a reader again and again and kills all three.
Each writer says in a list of its own what it is about to do, and that it was done as soon as the call returned.
"""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from magface.fusion import fuse
from magface.gallery.database import connect
from magface.gallery.records import Entry, NewPerson, Settings
from magface.gallery.sqlite import SqliteStore
from magface.geometry import direction
from magface.models import card as cards
from magface.models import default

WRITERS = 2


def test_killed_ten_times(tmp_path):
    assert_nothing_lost(tmp_path, kills=10, key="")


def test_encrypted_and_killed_three_times(tmp_path):
    pytest.importorskip("sqlcipher3")
    assert_nothing_lost(tmp_path, kills=3, key="a key")


@pytest.mark.slow
def test_killed_two_hundred_times(tmp_path):
    assert_nothing_lost(tmp_path, kills=200, key="")


def assert_nothing_lost(folder, kills, key):
    command = [sys.executable, __file__, str(folder / "faces.db"), str(kills), key]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert summary["kills"] == kills
    assert summary["acknowledged"] >= 2 * kills
    assert summary["removals"] > 0
    assert summary["cut off"] >= kills // 10  # operations that a kill came into


# ---------------------------------------------------------------------------------------------------------------------
# the experiment


def experiment(path, kills, key):
    rng = random.Random(1)
    SqliteStore.create(path, default_card(), Settings(), key).close()
    total = {"kills": 0, "acknowledged": 0, "removals": 0, "cut off": 0}
    before = {}
    for round_ in range(kills):
        lists = [path.with_name(f"{round_}-{writer}.list") for writer in range(WRITERS)]
        jobs = [(write, path, key, lists[writer], f"{writer}", 1000 * round_ + writer) for writer in range(WRITERS)]
        children = [forked(*job) for job in [*jobs, (read, path, key)]]
        while not all(file.exists() and b"done" in file.read_bytes() for file in lists):
            assert all(os.waitpid(child, os.WNOHANG) == (0, 0) for child in children), "one of them failed"
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        for child in rng.sample(children, len(children)):
            os.kill(child, signal.SIGKILL)
            time.sleep(rng.choice([0, 0.003]))
        ends = [os.waitpid(child, 0)[1] for child in children]
        assert ends == [signal.SIGKILL] * len(children), f"one of them failed: {ends}"
        before = verified(path, key, before, [line for file in lists for line in tried(file)], total)
        total["kills"] += 1
    print(json.dumps(total))


def forked(work, *values):
    """Start work in a process of its own; no connection is open when it is made."""
    child = os.fork()
    if child:
        return child
    try:
        work(*values)
    finally:
        os._exit(1)


def write(path, key, log, prefix, seed):
    """Enroll and remove people and faces without end."""
    rng = random.Random(seed)
    store = SqliteStore.open(path, key)
    handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    mine = {person.name: faces_of(store, person) for person in store.people() if person.name.startswith(prefix)}
    for number in range(10**9):
        change = rng.choice(["new", "new", "more", "fewer", "remove"])
        name = rng.choice([*mine]) if mine and change != "new" else f"{prefix} {seed} {number}"
        state = {
            "new": [*mine.get(name, []), seed * 10**6 + number],
            "more": [*mine.get(name, []), seed * 10**6 + number],
            "fewer": mine.get(name, [])[1:],
            "remove": [],
        }[change]
        say(handle, "try", name, state)
        perform(store, name, mine.get(name, []), state)
        say(handle, "done", name, state)
        mine[name] = state
        if not state:
            del mine[name]
            if rng.random() < 0.3:
                store.purge()
        if rng.random() < 0.05:
            store.close()
            store = SqliteStore.open(path, key)


def perform(store, name, before, after):
    """Bring a person from one list of faces to another, in one transaction."""
    with store.writing() as transaction:
        person = transaction.person(name)
        if person is None and after:
            faces = tuple(Entry(name, vector(seed), seed % 100, f"{seed}.jpg", crop=b"x" * 5000) for seed in after)
            added = NewPerson(name, template(after), faces, (False,) * len(faces), (f"label {len(after)}",))
            transaction.add_people([added])
        elif not after:
            if person is not None:
                transaction.remove_person(person.id)
        else:
            known = list(transaction.faces(person.id))
            assert [seed_of(face) for face in known] == before
            if len(after) > len(before):
                entry = Entry(name, vector(after[-1]), after[-1] % 100, f"{after[-1]}.jpg", crop=b"x" * 5000)
                transaction.add_faces(person.id, [entry], [False])
            else:
                transaction.remove_faces([known[0].id])
            fused = type(person)(person.id, name, template(after), 0, (f"label {len(after)}",))
            transaction.set_person(fused)


def read(path, key):
    """Search without end."""
    store = SqliteStore.open(path, key)
    rng = np.random.default_rng(0)
    while True:
        hits = store.search(direction(rng.normal(size=(3, 16)).astype(np.float32)), 5)
        assert hits.people.shape == (3, 5)
        assert sum(1 for _ in store.people()) >= 0


def verified(path, key, before, lines, total):
    """What the gallery holds, after it was compared with what was acknowledged; every write was tried in turn."""
    expected, pending = dict(before), {}
    for word, name, state in lines:
        if word == "try":
            pending[name] = state
        else:
            expected[name] = pending.pop(name)
            total["acknowledged"] += 1
            total["removals"] += not state
    total["cut off"] += len(pending)
    with contextlib.closing(connect(path, key)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    with contextlib.closing(SqliteStore.open(path, key)) as store:
        found = {person.name: faces_of(store, person) for person in store.people()}
        for name in expected.keys() | pending.keys() | found.keys():
            allowed = [expected.get(name, [])] + ([pending[name]] if name in pending else [])
            assert found.get(name, []) in allowed, (name, found.get(name), allowed)
        for person in store.people():
            assert person.template.tobytes() == template(found[person.name]).tobytes()
            assert person.faces == len(found[person.name])
            assert person.labels == (f"label {person.faces}",)
        counts = store.counts()
        assert (counts.people, counts.faces) == (len(found), sum(map(len, found.values())))
        everybody = list(store.people())
        if everybody:
            probes = direction(np.stack([person.template for person in everybody]))
            assert store.search(probes, 1).people[:, 0].tolist() == [person.id for person in everybody]
        assert store.purge()
    return found


def tried(log):
    """Lines of a list; the last one may be cut off."""
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def say(handle, word, name, state):
    os.write(handle, (json.dumps([word, name, state]) + "\n").encode())


def faces_of(store, person):
    return [seed_of(face) for face in store.faces(person.id)]


def seed_of(face):
    seed = int(face.source.removesuffix(".jpg"))
    assert face.vector.tobytes() == vector(seed).tobytes()
    assert face.score == seed % 100
    assert face.crop == b"x" * 5000
    return seed


def vector(seed):
    return np.random.default_rng(seed).normal(size=16).astype(np.float32)


def template(seeds):
    return fuse(np.stack([vector(seed) for seed in seeds]), np.zeros(len(seeds), np.int64)).vectors[0]


def default_card():
    card, _ = cards.read(default.path())
    return dataclasses.replace(card, embedding_size=16, sha256="b" * 64)


if __name__ == "__main__":
    experiment(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
