import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from magface import io
from magface.bulk import job
from magface.bulk.job import local
from magface.bulk.reader import Source
from magface.data import features
from magface.embedder import Embedder
from magface.errors import DataError

CROPS = Source(aligned=True)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_new_photos_become_new_shards_and_old_ones_stay(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", range(5))
    counts = []
    first = job.embed([photos], tmp_path / "out", CROPS, shard_size=3, progress=counts.append)
    assert (first.photos, first.read_now, first.shards, first.faces) == (5, 5, 2, 5)
    assert sum(counts) == 5
    before = contents(tmp_path / "out")
    again = job.embed([photos], tmp_path / "out", CROPS, run=lambda *_: pytest.fail("worked in vain"))
    assert (again.read_now, again.faces) == (0, 5)
    assert contents(tmp_path / "out") == before
    (photos / "000.png").unlink()  # what is known stays
    (photos / "0000.jpg").write_bytes(b"no image")
    started = []
    more = job.embed([photos], tmp_path / "out", CROPS, shard_size=3, started=started.append)
    assert started == [1]
    assert (more.photos, more.read_now, more.shards, more.faces, more.unreadable) == (6, 1, 3, 5, 1)
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before if name != "_plan.parquet"} == {
        name: content for name, content in before.items() if name != "_plan.parquet"
    }


def test_a_shard_that_was_removed_or_damaged_is_made_again(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", range(6))
    job.embed([photos], tmp_path / "out", CROPS, shard_size=2)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "part-00000.parquet").unlink()
    (tmp_path / "out" / "_photos" / "part-00002.parquet").write_bytes(b"x")
    (tmp_path / "out" / ".part-00002.parquet.x.part.parquet").write_bytes(b"half")
    assert job.embed([photos], tmp_path / "out", CROPS).read_now == 4
    assert contents(tmp_path / "out") == before


def test_a_file_is_no_folder(tmp_path, write_photos):
    (tmp_path / "out").write_text("mine")
    for place in (tmp_path / "out", os.devnull):
        with pytest.raises(DataError, match="is no folder"):
            job.embed([write_photos(tmp_path / "in", [1])], Path(place), CROPS)
    assert (tmp_path / "out").read_text() == "mine"


def test_nobody_waits_for_a_pipe_in_the_place_of_a_file(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", range(2))
    out = tmp_path / "out"
    job.embed([photos], out, CROPS)
    before = contents(out)
    for part in (out / "part-00000.parquet", out / "_photos" / "part-00000.parquet"):
        part.unlink()
        os.mkfifo(part)
        with pytest.raises(OSError, match="device or pipe"):
            job.embed([photos], out, CROPS)
        part.unlink()
    job.embed([photos], out, CROPS)
    assert contents(out) == before
    (out / "_plan.parquet").unlink()
    os.mkfifo(out / "_plan.parquet")
    with pytest.raises(DataError, match=r"_plan\.parquet is damaged"):
        job.embed([photos], out, CROPS)


def test_another_run_in_the_folder_is_refused(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", [1])
    (tmp_path / "out").mkdir()
    with io.locked(tmp_path / "out" / ".lock"), pytest.raises(DataError, match="another run is writing"):
        job.embed([photos], tmp_path / "out", CROPS)


def test_a_shard_that_nobody_made_is_no_success(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", [1])
    with pytest.raises(DataError, match="missing or damaged"):
        job.embed([photos], tmp_path / "out", CROPS, run=lambda *_: None)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_job_that_was_stopped_goes_on_and_ends_as_one_that_was_not(tmp_path, write_photos, detector, colours, number):
    photos = write_photos(tmp_path / "in", [colours.slow] * 30)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "magface", "embed", str(photos), "-o", str(out), "--detector", str(detector)]
    stopped = subprocess.Popen([*command, "--shard-size", "5"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("part-*")) and stopped.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(stopped.pid, number)
    _, err = stopped.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert stopped.returncode == 130
        assert (
            err
            == f"magface: stopped; the shards that are done are kept in {out}: the same command goes on from there.\n"
        )
        assert not list(out.rglob(".*.part.parquet"))
    done = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 0 < len(done) < 6
    source = Source(detector=detector)
    summary = job.embed([photos], out, source, shard_size=5, run=local(source, 2))
    assert (summary.photos, summary.faces) == (30, 30)
    assert 0 < summary.read_now < 30
    job.embed([photos], tmp_path / "calm", source, shard_size=5, run=local(source, 2))
    assert contents(out) == contents(tmp_path / "calm")
    assert not list(out.rglob(".*.part.parquet"))
    assert not multiprocessing.active_children()


def test_real_crops_have_the_embeddings_of_the_file_form(lfw, tmp_path):
    people = sorted(path for path in lfw.rglob("*.jpg"))[:60]
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in people))
    summary = job.embed([], tmp_path / "out", CROPS, lists=[tmp_path / "list"], shard_size=25, run=local(CROPS, 2))
    assert (summary.photos, summary.faces, summary.shards) == (60, 60, 3)
    names, embeddings = features.read(tmp_path / "out")
    assert names == [str(path) for path in people]
    wanted, _ = Embedder().embed_files(people)
    assert abs(embeddings.vectors - wanted.vectors).max() < 1e-3
    assert parquet.read_table(tmp_path / "out")["magnitude"].to_numpy().min() > 0
