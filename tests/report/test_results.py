"""The folder survives anything: rows are kept at once, and a part is whole or not there."""

import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from magface.errors import DataError
from magface.recognizer import Photo, RecognizedFace
from magface.report.results import Results, name_of, photo_names
from magface.types import Face


def face(seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    found = Face(np.array([1, 2, 30, 40], np.float32), np.arange(10, dtype=np.float32).reshape(5, 2), 0.9)
    return RecognizedFace(found, noise, noise, np.full(4, seed, np.float32), 2.0 * seed, 50.0, 60.0)


@pytest.fixture
def paths(tmp_path):
    made = [tmp_path / f"{name}.jpg" for name in "abc"]
    for path in made:
        path.write_bytes(b"photo")
    return made


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def opened(folder, model="m"):
    return Results(folder, model, "yunet", 4)


def test_rows_survive_without_an_end(folder, paths):
    results = opened(folder)
    results.add(Photo(paths[0], (face(1), face(2))))
    results.flush()
    again = opened(folder)
    assert again.missing(paths) == paths[1:]


def test_leaving_keeps_what_is_done(folder, paths):
    with suppress(KeyboardInterrupt), opened(folder) as results:
        results.add(Photo(paths[0]))
        raise KeyboardInterrupt
    assert opened(folder).missing(paths) == paths[1:]


def test_merged_rows_are_in_the_order_asked_for_and_the_journal_is_gone(folder, paths):
    with opened(folder) as results:
        for path in paths:
            results.add(Photo(path, (face(),)))
        table = results.merge([paths[2], paths[0]])
    assert table["photo"].to_pylist() == [name_of(paths[2]), name_of(paths[0])]
    assert not (folder / "journal").exists()
    assert opened(folder).missing(paths) == [paths[1]]


def test_changed_photo_failed_photo_and_lost_crop_are_read_again(folder, paths):
    with opened(folder) as results:
        results.add(Photo(paths[0], error="it is damaged."))
        results.add(Photo(paths[1], (face(1),)))
        results.add(Photo(paths[2], (face(2),)))
        results.merge(paths)
    assert opened(folder).missing(paths) == paths[:1]
    paths[1].write_bytes(b"another photo")
    assert opened(folder).missing(paths) == paths[:2]
    for crop in (folder / "crops").iterdir():
        crop.unlink()
    assert opened(folder).missing(paths) == paths


def test_newest_row_counts(folder, paths):
    for faces in ((face(1),), (face(1), face(2))):
        with opened(folder) as results:
            results.add(Photo(paths[0], faces))
            table = results.merge(paths[:1])
    assert len(table["faces"][0]) == 2


def test_rows_of_another_model_are_not_used(folder, paths):
    with opened(folder) as results:
        results.add(Photo(paths[0]))
        results.merge(paths[:1])
    other = opened(folder, model="another")
    assert other.missing(paths) == paths
    assert other.refused


def test_half_a_part_of_a_killed_run_is_ignored_and_swept(folder, paths):
    results = opened(folder)
    for place in (folder, folder / "journal"):
        (place / ".photos.parquet.x1.part.parquet").write_bytes(b"half")
    (folder / "mine.txt").write_text("a file of the user")
    (folder / "crops" / "holiday.jpg").write_bytes(b"a photo of the user")
    assert results.missing(paths) == paths
    results.add(Photo(paths[0], (face(1),)))
    results.sweep(results.merge(paths[:1]))
    assert sorted(p.name for p in folder.iterdir()) == ["crops", "mine.txt", "photos.parquet"]
    assert len(list((folder / "crops").iterdir())) == 2


def test_crops_of_dropped_photos_are_removed(folder, paths):
    with opened(folder) as results:
        for seed, path in enumerate(paths):
            results.add(Photo(path, (face(seed),)))
        table = results.merge(paths)
        results.sweep(table)
        assert len(list(results.crops.iterdir())) == 3
        (folder / "journal").mkdir()
        results.sweep(results.merge(paths[:1]))
    assert len(list(results.crops.iterdir())) == 1


def test_damaged_part_is_named(folder, paths):
    opened(folder)
    (folder / "photos.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"photos\.parquet is damaged; remove it"):
        opened(folder).missing(paths)


def test_no_damage_goes_unseen(folder, paths):
    with opened(folder) as results:
        for path in paths:
            results.add(Photo(path, (face(), face(1))))
        known = results.merge(paths)
    merged = folder / "photos.parquet"
    whole = merged.read_bytes()
    ways = [photo_names, lambda folder: Results.of(folder).table(), lambda folder: opened(folder).missing(paths)]
    refused = []
    for place in range(0, len(whole), 17):
        merged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        for way in ways:
            try:
                found = way(folder)
            except DataError as error:
                refused.append(str(error))
            else:  # some bytes mean nothing, and some another model
                assert not isinstance(found, pa.Table) or found.equals(known)
    assert len(refused) > len(whole) / 17
    assert set(refused) == {f"{merged} is damaged; remove it and run again."}


def test_another_table_is_no_table_of_photos(folder, paths):
    opened(folder)
    parquet.write_table(pa.table({"x": [1]}), folder / "photos.parquet")
    with pytest.raises(DataError, match="is damaged"):
        photo_names(folder)
    with pytest.raises(DataError, match="is damaged"):
        Results.of(folder)


def test_a_pipe_is_no_table_and_nobody_waits_for_it(folder, paths):
    opened(folder)
    os.mkfifo(folder / "photos.parquet")
    for way in (photo_names, lambda folder: opened(folder).missing(paths)):
        with pytest.raises(DataError, match=r"photos\.parquet is damaged"):
            way(folder)


def test_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write to"):
        opened(tmp_path / "file" / "out")


def test_a_full_disk_is_said_and_what_is_done_stays(folder, paths):
    class Full(Results):
        def _save(self, face):
            raise OSError(28, "No space left on device")

    with opened(folder) as results:
        results.add(Photo(paths[0]))
    with pytest.raises(DataError, match="No space left on device"), Full(folder, "m", "yunet", 4) as results:
        results.add(Photo(paths[1], (face(),)))
    assert opened(folder).missing(paths) == paths[1:]


def test_second_run_into_the_folder_is_refused_until_the_first_has_ended(folder, paths):
    with opened(folder) as results:
        results.add(Photo(paths[0]))
        with pytest.raises(DataError, match=r"another run is writing to .*; wait"), opened(folder):
            pass
    with opened(folder) as results:
        assert results.missing(paths) == paths[1:]


def test_lock_ends_with_a_killed_process(folder):
    code = """if 1:
        import sys, time
        from pathlib import Path
        from magface.report.results import Results
        with Results(Path(sys.argv[1]), "m", "yunet", 4):
            print("in", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline().strip() == b"in"
        with pytest.raises(DataError, match="another run"), opened(folder):
            pass
        other.kill()
    with opened(folder):
        pass


def test_name_that_is_not_unicode_can_be_kept(folder, tmp_path):
    path = tmp_path / "caf\udce9.jpg"
    try:
        path.write_bytes(b"photo")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    with opened(folder) as results:
        results.add(Photo(path))
        results.merge([path])
    assert name_of(path).endswith(r"caf\xe9.jpg")
    assert opened(folder).missing([path]) == []
