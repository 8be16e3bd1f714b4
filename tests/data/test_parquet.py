import contextlib
import json
import pickle
import random

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as oracle

from magface.data import parquet
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError, ImageError
from magface.threads import prefetch


def table(path, columns, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    oracle.write_table(pa.table(columns), path, **settings)
    return path


def structs(contents, paths):
    return pa.array([{"bytes": content, "path": path} for content, path in zip(contents, paths, strict=True)])


def people(faces):
    return [faces.people[label] for label in faces.labels]


def contents(faces):
    return [faces.encoded(row) for row in range(len(faces))]


@pytest.fixture
def many():
    return FaceSet.of([Record(f"{row}.jpg", f"p{row % 7}", Held(b"%d" % row * 9)) for row in range(700)])


def test_a_written_table_comes_back_with_all_that_is_known(faces, known, tmp_path):
    seen = []
    assert parquet.write(tmp_path / "a.parquet", faces, seen.append) == ()
    found = parquet.read(tmp_path / "a.parquet")
    assert sum(seen) == len(faces)
    assert found.names == faces.names
    assert known(found) == known(faces)


def test_a_written_table_is_what_others_read(many, tmp_path):
    parquet.write(tmp_path / "a.parquet", many)
    found = oracle.read_table(tmp_path / "a.parquet").to_pydict()
    assert [image["bytes"] for image in found["image"]] == contents(many)
    assert found["label"] == many.labels.tolist()
    facts = oracle.ParquetFile(tmp_path / "a.parquet")
    assert [facts.metadata.row_group(group).num_rows for group in range(3)] == [256, 256, 188]
    features = json.loads(facts.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == facts.schema_arrow.names
    assert features["image"] == {"_type": "Image"}


def test_groups_are_small_where_images_are_large(tmp_path):
    large = Held(bytes(12 << 20))
    parquet.write(tmp_path / "a.parquet", FaceSet.of([Record(f"{row}", "", large) for row in range(5)]))
    facts = oracle.ParquetFile(tmp_path / "a.parquet").metadata
    assert [facts.row_group(group).num_rows for group in range(facts.num_row_groups)] == [2, 2, 1]


@pytest.mark.parametrize("order", ["forward", "backward", "random", "threads"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_images_come_in_any_order(many, tmp_path, order, dictionary):
    values = structs(contents(many), many.names)
    path = table(tmp_path / "a.parquet", {"image": values}, row_group_size=300, use_dictionary=dictionary)
    faces = pickle.loads(pickle.dumps(parquet.read(path)))
    rows = list(range(700))
    if order == "backward":
        rows.reverse()
    elif order == "random":
        rows = np.random.default_rng(0).permutation(700).tolist()
    threads = 8 if order == "threads" else 1
    assert list(prefetch(faces.encoded, rows, workers=threads, limit=64)) == [many.encoded(row) for row in rows]


def test_a_forward_reader_decodes_a_group_once(many, tmp_path, monkeypatch):
    path = table(tmp_path / "a.parquet", {"image": pa.array(contents(many), pa.binary())}, row_group_size=350)
    faces = parquet.read(path)
    started = []
    real = oracle.ParquetFile.iter_batches
    monkeypatch.setattr(
        oracle.ParquetFile, "iter_batches", lambda *a, **k: started.append(k["row_groups"]) or real(*a, **k)
    )
    list(prefetch(faces.encoded, range(700), workers=8, limit=64))
    assert len(started) < 10


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([3, 1]), ["3", "1"]),
        (pa.array([3, 1], pa.uint8()), ["3", "1"]),
        (pa.array(["b", None]), ["b", ""]),
        (pa.array(["b", "a"], pa.large_string()), ["b", "a"]),
        (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
        (pa.array([3.0, float("nan")]), ["3", ""]),
        (pa.array([None, None], pa.null()), ["", ""]),
    ],
)
def test_labels(tmp_path, column, wanted):
    for title in ("label", "identity"):
        path = table(tmp_path / f"{title}.parquet", {"image": pa.array([b"x", b"y"]), title: column})
        assert people(parquet.read(path)) == wanted
    both = {"image": pa.array([b"x", b"y"]), "label": pa.array([8, 9]), "identity": column}
    assert people(parquet.read(table(tmp_path / "both.parquet", both))) == wanted


@pytest.mark.parametrize(
    ("title", "column"),
    [
        ("label", pa.array([1.5, 2])),
        ("label", pa.array([float("inf"), 2])),
        ("label", pa.array([1e300, 2])),
        ("label", pa.array([True, False])),
        ("label", pa.array([[1], [2]])),
        ("label", pa.array([b"\xff", b"b"])),
        ("name", pa.array([1, 2])),
        ("source", pa.array([1, 2])),
        ("source", pa.array(["a" * 5000, "b"])),
        ("suspect", pa.array(["no", "yes"])),
        ("suspect", pa.array([2, 3])),
    ],
)
def test_columns_of_wrong_types(tmp_path, title, column):
    path = table(tmp_path / "a.parquet", {"image": pa.array([b"x", b"y"]), title: column})
    with pytest.raises(DataError, match=r"a\.parquet"):
        parquet.read(path)


@pytest.mark.parametrize(
    "columns",
    [
        {"picture": pa.array([b"x"])},
        {"image": pa.array(["x"])},
        {"image": pa.array([[b"x"]])},
        {"image": pa.array([{"path": "x"}])},
        {"image": pa.array([{"bytes": "x"}])},
        {"image": pa.array([1])},
    ],
)
def test_tables_without_images(tmp_path, columns):
    with pytest.raises(DataError, match="has no column `image`"):
        parquet.read(table(tmp_path / "a.parquet", columns))


def test_other_columns(tmp_path):
    columns = {"image": pa.array([b"x", b"y"], pa.large_binary()), "path": pa.array(["1.jpg", "2.jpg"])}
    columns |= {"source": pa.array(["web", None]), "suspect": pa.array([1, None])}
    faces = parquet.read(table(tmp_path / "a.parquet", columns))
    assert faces.names == ("1.jpg", "2.jpg")
    assert faces.sources.tolist() == ["web", ""]
    assert faces.suspect.tolist() == [True, False]
    assert contents(faces) == [b"x", b"y"]


def test_a_folder_of_hugging_face(tmp_path):
    names = {"info": {"features": {"label": {"names": ["Ann", "Bob"], "_type": "ClassLabel"}}}}
    for number in range(2):
        columns = {"image": structs([b"%d" % number, b"x"], ["1.jpg", "2.jpg"]), "label": pa.array([number, 7])}
        described = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(names)})
        table(tmp_path / f"data/train-{number}.parquet", described)
    faces = parquet.read(tmp_path)
    assert faces.names[::2] == ("data/train-0/0000000", "data/train-1/0000000"), "the paths do not tell them apart"
    assert people(faces) == ["Ann", "7", "Bob", "7"]
    assert contents(faces) == [b"0", b"x", b"1", b"x"]


@pytest.mark.parametrize(
    "description", [b"", b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": {"names": 7}}}}']
)
def test_descriptions_that_make_no_sense(tmp_path, description):
    columns = pa.table({"image": pa.array([b"x"]), "label": pa.array([0])})
    path = table(tmp_path / "a.parquet", columns.replace_schema_metadata({b"huggingface": description}))
    assert people(parquet.read(path)) == ["0"]


def test_a_row_without_an_image_is_one_failure(tmp_path):
    faces = parquet.read(table(tmp_path / "a.parquet", {"image": structs([b"x", None], ["1", "2"])}))
    assert faces.encoded(0) == b"x"
    with pytest.raises(DataError, match="row 1 of group 0 has no image"):
        faces.encoded(1)


def test_damage(many, tmp_path):
    parquet.write(tmp_path / "a.parquet", many)
    whole = (tmp_path / "a.parquet").read_bytes()
    draw = random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 10, 100])):
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        (tmp_path / "b.parquet").write_bytes(damaged[: draw.choice([None, draw.randrange(len(whole))])])
        with contextlib.suppress(DataError, ImageError):
            contents(parquet.read(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"text" * 99]
)
def test_no_table(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet is damaged or no Parquet"):
        parquet.read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no image"):
        parquet.read(table(tmp_path / "b.parquet", {"image": pa.array([], pa.binary())}))


def test_nothing_there_and_a_file_that_goes(faces, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        parquet.read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"holds no \.parquet"):
        parquet.read(tmp_path)
    parquet.write(tmp_path / "a.parquet", faces)
    found = parquet.read(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(ImageError, match="No such file"):
        found.encoded(0)


def repeated(value, kind):
    return pa.DictionaryArray.from_arrays(np.zeros(300, np.int32), pa.array([value], kind)).cast(kind)


def test_an_image_repeated_many_times_takes_no_memory_for_each(tmp_path):
    whole = pa.table({"image": repeated(b"x" * (1 << 20), pa.binary())})
    path = tmp_path / "a.parquet"
    oracle.write_table(whole, path, use_dictionary=True)
    del whole
    assert path.stat().st_size < 1 << 20
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    faces = parquet.read(path)
    peak = 0
    for row in range(300):
        assert len(faces.encoded(row)) == 1 << 20
        peak = max(peak, pool.bytes_allocated() - before)
    assert peak < 64 << 20


def test_a_text_without_end_is_refused(tmp_path):
    columns = {"image": pa.array([b"x" * 99] * 300), "name": repeated("n" * (1 << 16), pa.string())}
    path = table(tmp_path / "b.parquet", columns, use_dictionary=["name"])
    with pytest.raises(DataError, match="a text is longer"):
        parquet.read(path)


def test_rows_that_a_file_cannot_hold(tmp_path):
    rows = {"image": pa.array([b"x"] * 500_000), "label": pa.array([0] * 500_000)}
    path = table(tmp_path / "a.parquet", rows, compression="zstd", row_group_size=500_000)
    with pytest.raises(DataError, match="announces 500,000 rows"):
        parquet.read(path)


def test_what_cannot_be_written(faces, tmp_path):
    empty = Record("empty.jpg", "x", Held(b""))
    failures = parquet.write(tmp_path / "a.parquet", FaceSet.of([empty, *faces.records()]))
    assert [name for name, _ in failures] == ["empty.jpg"]
    assert parquet.read(tmp_path / "a.parquet").names == faces.names
    with pytest.raises(DataError, match="exists"):
        parquet.write(tmp_path / "a.parquet", faces)
    with pytest.raises(DataError, match="no image that can be read"):
        parquet.write(tmp_path / "b.parquet", FaceSet.of([empty]))
    with pytest.raises(DataError, match="not Unicode"):
        parquet.write(tmp_path / "b.parquet", FaceSet.of([Record("\udc80", "", Held(b"x"))]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_stopped_writer_leaves_nothing(stopped, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        parquet.write(tmp_path / "a.parquet", stopped)
    assert not list(tmp_path.iterdir())
