import multiprocessing
import os
import signal

import numpy as np
import pyarrow.parquet as parquet
import pytest

from magface.bulk import job
from magface.bulk.crew import Task
from magface.bulk.job import local
from magface.bulk.plan import Entry
from magface.bulk.reader import Source
from magface.data.face_set import Stretch
from magface.errors import EngineError, ModelError
from magface.models import default

ENTRIES = [Entry(f"/p/{index}", Stretch(None)) for index in range(4)]


def test_of_a_death_over_several_photos_each_is_a_suspect():
    task = Task(0)
    task.learn([2, 1, 1, 0], ENTRIES, "SIGSEGV")
    assert (task.suspects, task.left_out, task.alone) == ([1, 2], {}, False)
    task.learn([0, 2, 1, 0], ENTRIES, "SIGSEGV")  # read alone: 2 is to blame for the first time
    assert (task.suspects, task.left_out) == ([2], {})
    task.learn([0, 0, 1, 0], ENTRIES, "SIGSEGV")
    assert task.suspects == []
    assert list(task.left_out) == [2]
    assert task.left_out[2].startswith("/p/2 ends the process that reads it (SIGSEGV); ")


def test_suspects_that_were_not_read_yet_stay_suspects():
    task = Task(0, suspects=[0, 1, 3])
    task.learn([2, 1, 0, 0], ENTRIES, "SIGSEGV")
    assert task.suspects == [1, 3]


def test_deaths_that_no_photo_explains_end_the_job():
    task = Task(0)
    for crash in range(1, 6):
        task.learn([1, 1, 0, 0], ENTRIES, "SIGKILL")
        assert task.alone is (crash >= 3)
    with pytest.raises(EngineError, match=r"SIGKILL.*fewer --processes"):
        task.learn([0, 0, 0, 0], ENTRIES, "SIGKILL")


def rows(folder):
    """Faces by name of the photo."""
    table = parquet.read_table(folder, columns=["path", "embedding"])
    return {path.rpartition("/")[2]: vector for path, vector in zip(*table.to_pydict().values(), strict=True)}


def test_photos_that_kill_their_process_are_left_out_and_nothing_else_is(tmp_path, write_photos, detector, colours):
    do = colours
    photos = write_photos(tmp_path / "in", [1, do.kill, 2, do.two, do.kill, do.nobody, 3, 4, 5, do.fail])
    (photos / "010.png").write_bytes(b"no image")
    source = Source(detector=detector)
    summary = job.embed([photos], tmp_path / "out", source, shard_size=6, run=local(source, 2))
    reasons = {name.rpartition("/")[2]: reason for name, reason in summary.failures}
    assert sorted(reasons) == ["001.png", "004.png", "009.png", "010.png"]
    assert "ends the process that reads it (SIGKILL)" in reasons["001.png"]
    assert "(RuntimeError: no such landmark)" in reasons["009.png"]
    assert "is not an image" in reasons["010.png"]
    assert (summary.photos, summary.faces, summary.without_face, summary.unreadable) == (11, 7, 1, 4)
    for name in ("001", "004", "009", "010"):
        (photos / f"{name}.png").unlink()
    job.embed([photos], tmp_path / "clean", source, run=local(source, 1))
    found, wanted = rows(tmp_path / "out"), rows(tmp_path / "clean")
    assert found.keys() == wanted.keys() >= {"003.png#1", "003.png#2", "000.png"}
    for name, vector in wanted.items():
        np.testing.assert_array_equal(found[name], vector)


def test_processes_that_are_killed_are_replaced(tmp_path, write_photos, detector, colours):
    photos = write_photos(tmp_path / "in", [colours.slow] * 40)
    source = Source(detector=detector)
    done, killed = 0, []

    def progress(count):
        nonlocal done
        done += count
        if len(killed) < 2 and done >= 5 * (1 + len(killed)):
            [*_, child] = multiprocessing.active_children()
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    run = local(source, 2)
    summary = job.embed([photos], tmp_path / "out", source, shard_size=10, run=run, progress=progress)
    assert len(set(killed)) == 2
    assert (summary.photos, summary.faces, summary.unreadable, done) == (40, 40, 0, 40)
    job.embed([photos], tmp_path / "calm", source, shard_size=10, run=local(source, 1))
    for path in (tmp_path / "calm").rglob("*.parquet"):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "calm")).read_bytes() == path.read_bytes()
    assert not multiprocessing.active_children()


def test_a_folder_that_cannot_be_written_is_raised_here(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", [1, 2])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_photos").touch()
    with pytest.raises(OSError, match="_photos"):
        job.embed([photos], tmp_path / "out", Source(aligned=True))


def test_what_a_process_cannot_do_is_raised_here(tmp_path, write_photos):
    photos = write_photos(tmp_path / "in", [1, 2])
    model = tmp_path / "model.onnx"
    source = Source(model=model, aligned=True)
    model.write_bytes(default.path().read_bytes())

    def spoil(_):
        model.write_bytes(b"nonsense")

    with pytest.raises(ModelError):
        job.embed([photos], tmp_path / "out", source, started=spoil)
    assert not multiprocessing.active_children()
