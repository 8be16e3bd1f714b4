"""A cluster of two processes on this machine; in a process of its own, for Ray leaves threads and warnings behind."""

import json
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

from magface.bulk import job
from magface.bulk.job import local
from magface.bulk.reader import Source

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs magface[ray]")


def test_actors_and_processes_that_are_killed_lose_nothing(tmp_path, write_photos, detector, colours):
    """One photo kills the actor once, another its process always; the rest is as in a job on this machine."""
    photos = write_photos(tmp_path / "in", [colours.slow] * 17 + [colours.parent] + [1] * 11 + [colours.kill])
    out = tmp_path / "out"
    command = [
        "embed",
        photos,
        "-o",
        out,
        "--shard-size",
        5,
        "--ray",
        "local",
        "--processes",
        2,
        "--detector",
        detector,
    ]
    command = [sys.executable, "-m", "magface", *map(str, command), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["photos"], facts["faces"], facts["photos_unreadable"]) == (1, 30, 29, 1)
    [[name, reason]] = facts["failures"]
    assert name == str(photos / "029.png")
    assert "ends the process that reads it (SIGKILL)" in reason
    assert (tmp_path / "own.py.done").exists()  # the actor was killed
    source = Source(detector=detector)
    job.embed([photos], tmp_path / "calm", source, shard_size=5, run=local(source, 2))
    found = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.parquet")}
    assert found == {
        path.relative_to(tmp_path / "calm"): path.read_bytes() for path in (tmp_path / "calm").rglob("*.parquet")
    }
    assert all(line.startswith("magface: ") for line in done.stderr.splitlines()), done.stderr


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:{}", "ray://127.0.0.1:{}", "nowhere"])
def test_no_cluster_is_a_sentence(tmp_path, write_photos, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(free.getsockname()[1])
    photos = write_photos(tmp_path / "in", [1])
    command = ["embed", photos, "--aligned", "-o", tmp_path / "out", "--ray", address]
    command = [sys.executable, "-m", "magface", *map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(f"magface: there is no Ray cluster at {address} (")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_what_an_actor_cannot_do_is_a_sentence(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", [1])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_photos").touch()
    command = ["embed", photos, "--aligned", "-o", tmp_path / "out", "--ray", "local"]
    done = subprocess.run([sys.executable, "-m", "magface", *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"magface: cannot use {tmp_path}/out/_photos (")
    assert done.stderr.count("\n") == 1
