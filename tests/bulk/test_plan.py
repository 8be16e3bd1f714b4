import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magface.bulk import plan as plans
from magface.bulk.plan import PLAN, Plan, Settings
from magface.errors import DataError, ImageError

MODEL = Settings("f00d", "yunet", "auto")


def names(table):
    return [os.fsdecode(name) for name in table["name"].to_pylist()]


def listed(folder, found):
    path = Path(folder, "list.txt")
    path.write_text("".join(f"{name}\n" for name in found))
    return plans.gather([], [path])


def test_photos_of_folders_files_lists_and_archives_each_once(tmp_path):
    (tmp_path / "in" / ".hidden").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden/c.jpg"):
        (tmp_path / "in" / name).write_bytes(b"abc")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("in/b.jpg", "../../etc/d.jpg", "in/notes.txt", "in/.hidden/c.jpg"):
            archive.add(tmp_path / "in" / "b.jpg", name)
    (tmp_path / "list.txt").write_bytes(os.fsencode(f"{tmp_path}/in/../in/b.jpg\r\n\n{tmp_path}/gone\udcff.jpg"))
    table = plans.gather([tmp_path / "in", tmp_path / "in" / "notes.txt", tmp_path / "x.tar"], [tmp_path / "list.txt"])
    wanted = ["gone\udcff.jpg", "in/a.PNG", "in/b.jpg", "in/notes.txt", "x.tar/etc/d.jpg", "x.tar/in/b.jpg"]
    assert names(table) == [f"{tmp_path}/{name}" for name in wanted]
    entries = plans.make(tmp_path / "out", MODEL, table, 100).entries(0)
    assert [entry.name for entry in entries] == names(table)
    assert entries[5].place.read() == b"abc"
    assert entries[2].place.read() == b"abc"


def test_a_list_is_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names(listed(tmp_path, ["a.jpg", "./a.jpg"])) == [f"{tmp_path}/a.jpg"]


def test_what_is_missing_or_no_list_is_refused(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        plans.gather([tmp_path / "none"])
    with pytest.raises(DataError, match="cannot read the list"):
        plans.gather([], [tmp_path / "none"])
    (tmp_path / "long").write_bytes(b"a\n" + b"x" * 70_000)
    with pytest.raises(DataError, match="line 2 is no path"):
        plans.gather([], [tmp_path / "long"])
    with pytest.raises(DataError, match="there is no photo"):
        plans.make(tmp_path / "out", MODEL, plans.gather([]), 2)
    assert not (tmp_path / "out").exists()


@settings(max_examples=20)
@given(
    rounds=st.lists(st.sets(st.integers(0, 30), min_size=1), min_size=1, max_size=3),
    size=st.integers(1, 7),
)
def test_every_photo_is_in_one_shard_and_stays_there(rounds, size):
    with tempfile.TemporaryDirectory() as place:
        before = []
        for photos in rounds:
            plan = plans.make(Path(place, "out"), MODEL, listed(place, map(str, photos)), size)
            shards = [[entry.name for entry in plan.entries(shard)] for shard in range(len(plan.sizes))]
            assert shards[: len(before)] == before
            assert all(0 < len(shard) <= size and shard == sorted(shard) for shard in shards)
            assert plan.sizes == tuple(map(len, shards))
            before = shards
        every = [Path(name).name for shard in before for name in shard]
        assert sorted(every) == sorted(map(str, set().union(*rounds)))


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (Settings("beef", "yunet", "auto"), "another model"),
        (Settings("f00d", "", "auto"), r"another detector \(yunet\)"),
        (Settings("f00d", "yunet", "torch"), r"another engine \(auto\)"),
    ],
)
def test_a_plan_of_other_settings_is_refused(tmp_path, other, word):
    plans.make(tmp_path, MODEL, listed(tmp_path, "ab"), 2)
    before = (tmp_path / PLAN).read_bytes()
    with pytest.raises(DataError, match=word):
        plans.make(tmp_path, other, listed(tmp_path, "abc"), 2)
    assert (tmp_path / PLAN).read_bytes() == before


def test_the_digest_knows_names_and_settings(tmp_path):
    one = plans.make(tmp_path / "1", MODEL, listed(tmp_path, "abcd"), 2)
    other = plans.make(tmp_path / "2", Settings("beef", "yunet", "auto"), listed(tmp_path, "abcd"), 2)
    digests = {plan.digest(shard) for plan in (one, other) for shard in (0, 1)}
    assert len(digests) == 4


def test_a_damaged_plan_is_a_sentence(tmp_path):
    plans.make(tmp_path, MODEL, listed(tmp_path, "abcd"), 2)
    whole = (tmp_path / PLAN).read_bytes()
    for content in (b"", b"nonsense", whole[:-9], whole[: len(whole) // 2] + whole[len(whole) // 2 + 1 :]):
        (tmp_path / PLAN).write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            Plan(tmp_path).entries(0)
