import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest
from pyarrow import parquet

from magface import align
from magface.bulk import plan as plans
from magface.bulk import shards
from magface.bulk.plan import Settings
from magface.bulk.shards import Found
from magface.data import features
from magface.errors import DataError
from magface.models import card, default
from magface.quality import calibration
from magface.types import Face

CARD, MODEL = card.read(default.path())


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"/p/a\xff.jpg\n/p/b.jpg\n/p/c.jpg\n/p/d.jpg\n")
    photos = plans.gather([], [tmp_path / "list.txt"])
    return plans.make(tmp_path / "out", Settings(MODEL, "yunet", "auto"), photos, 4)


def found():
    """Two faces, none, an error, and one face that was not looked for."""
    vectors = np.random.default_rng(0).normal(0, 3, (3, 128)).astype(np.float32)
    face = Face(np.float32([1, 2, 3, 4]), align.TEMPLATE, 0.75)
    return vectors, [Found(vectors[:2], [face, face]), Found(), Found(error="it is \udcff"), Found(vectors[2:])]


def test_faces_and_photos_are_accounted_for(plan):
    vectors, each = found()
    assert not shards.finished(plan, 0)
    shards.write(plan, 0, each, CARD)
    assert shards.finished(plan, 0)
    table = parquet.read_table(plan.folder / "part-00000.parquet")
    a = "/p/a\\xff.jpg"
    assert table["path"].to_pylist() == [f"{a}#1", f"{a}#2", "/p/d.jpg"]
    assert table["photo"].to_pylist() == [a, a, "/p/d.jpg"]
    assert table["face"].to_pylist() == [1, 2, 1]
    assert table["x2"].to_pylist() == [3, 3, None]
    np.testing.assert_array_equal(np.float32(table["landmarks"].to_pylist()[1]), align.TEMPLATE)
    assert table["detector_score"].to_pylist() == [0.75, 0.75, None]
    magnitudes = np.linalg.norm(vectors.astype(float), axis=1)
    np.testing.assert_allclose(table["magnitude"], magnitudes, rtol=1e-6)
    np.testing.assert_allclose(table["score"], calibration.score(magnitudes, CARD), rtol=1e-4)
    np.testing.assert_allclose(table["percentile"], calibration.percentile(magnitudes, CARD), rtol=1e-4)
    assert card.Card.from_json(table.schema.metadata[b"magface.card"]) == CARD
    photos = parquet.read_table(plan.folder / "_photos" / "part-00000.parquet").to_pydict()
    assert photos == {
        "photo": [a, "/p/b.jpg", "/p/c.jpg", "/p/d.jpg"],
        "faces": [2, 0, 0, 1],
        "error": ["", "", "it is \\xff", ""],
    }
    assert shards.count(plan, 0) == shards.Count(4, 3, 1, (("/p/c.jpg", "it is \\xff"),))
    names, embeddings = features.read(plan.folder)
    assert names == table["path"].to_pylist()
    assert embeddings.vectors.tobytes() == vectors.tobytes()
    assert embeddings.model == MODEL


def test_a_folder_is_one_table_of_faces_for_other_programs(plan):
    shards.write(plan, 0, found()[1], CARD)
    assert pa.dataset.dataset(plan.folder, format="parquet").to_table().num_rows == 3


def test_the_same_photos_give_the_same_bytes(plan):
    contents = []
    for _ in range(2):
        shards.write(plan, 0, found()[1], CARD)
        contents.append([path.read_bytes() for path in sorted(plan.folder.rglob("part-*"))])
    assert contents[0] == contents[1]


def test_many_faces_are_written_in_groups(plan, monkeypatch):
    monkeypatch.setattr(shards, "_FACES", 2)
    vectors, each = found()
    shards.write(plan, 0, each, CARD)
    with parquet.ParquetFile(plan.folder / "part-00000.parquet") as file:
        assert file.metadata.num_row_groups == 2
    assert features.read(plan.folder)[1].vectors.tobytes() == vectors.tobytes()


def broken(each):
    yield from each[:3]
    raise RuntimeError


@pytest.mark.parametrize("each", [lambda: found()[1][:3], lambda: found()[1] * 2, lambda: broken(found()[1])])
def test_a_shard_that_breaks_off_is_not_there(plan, each):
    with pytest.raises((ValueError, RuntimeError)):
        shards.write(plan, 0, each(), CARD)
    assert not shards.finished(plan, 0)
    assert [path.name for path in plan.folder.rglob("*") if path.is_file()] == ["_plan.parquet"]


def test_faces_without_photos_are_not_finished(plan):
    shards.write(plan, 0, found()[1], CARD)
    (plan.folder / "_photos" / "part-00000.parquet").unlink()
    assert not shards.finished(plan, 0)
    with pytest.raises(DataError, match="missing or damaged"):
        shards.count(plan, 0)


def test_a_shard_of_another_plan_is_not_finished(plan, tmp_path):
    shards.write(plan, 0, found()[1], CARD)
    (plan.folder / "_plan.parquet").unlink()
    (tmp_path / "list.txt").write_text("/p/a\n/p/b\n/p/c\n/p/e\n")
    photos = plans.gather([], [tmp_path / "list.txt"])
    other = plans.make(plan.folder, plan.settings, photos, 4)
    assert not shards.finished(other, 0)
    with pytest.raises(DataError, match="does not hold every photo once"):
        shards.count(other, 0)


@pytest.mark.parametrize("row", [[0, 1], [0, 0, 1, 2], [0, 2, 1]])
def test_a_face_that_is_lost_or_twice_is_noticed(plan, row):
    shards.write(plan, 0, found()[1], CARD)
    path = plan.folder / "part-00000.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.take(row), path)
    with pytest.raises(DataError, match="does not hold every photo once"):
        shards.count(plan, 0)


@pytest.mark.parametrize("content", [b"", b"PAR1nonsensePAR1"])
@pytest.mark.parametrize("place", ["", "_photos"])
def test_a_damaged_file_is_not_finished(plan, content, place):
    shards.write(plan, 0, found()[1], CARD)
    (plan.folder / place / "part-00000.parquet").write_bytes(content)
    assert not shards.finished(plan, 0)
    with pytest.raises(DataError, match="missing or damaged"):
        shards.count(plan, 0)


def test_sweep_removes_only_what_was_left(plan):
    shards.write(plan, 0, found()[1], CARD)
    for name in (
        ".part-00001.parquet.abc.part.parquet",
        "_photos/.part-00001.parquet.abc.part.parquet",
        ".own.parquet",
    ):
        (plan.folder / name).touch()
    shards.sweep(plan.folder)
    left = sorted(path.name for path in plan.folder.rglob("*") if path.is_file())
    assert left == [".own.parquet", "_plan.parquet", "part-00000.parquet", "part-00000.parquet"]
