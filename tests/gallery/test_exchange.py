import contextlib
import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as oracle

from magface.errors import DataError
from magface.gallery import enrolling, exchange
from magface.gallery.milvus import MilvusStore
from magface.gallery.records import Entry, NewPerson, Settings
from magface.gallery.sqlite import SqliteStore
from magface.models import card as cards
from magface.models import default

SIZE = 8
MODEL = dataclasses.replace(cards.read(default.path())[0], embedding_size=SIZE)
POOL = pa.proxy_memory_pool(pa.default_memory_pool())
"""Counts what is taken of the other; never freed, as arrays refer to it."""
STORES = {"sqlite": (SqliteStore, "faces.db"), "milvus": (MilvusStore, "faces.milvus")}


@pytest.fixture
def make(tmp_path, in_memory):
    """Makes empty galleries of a kind, and closes them."""
    made = []

    def store(kind="memory", card=MODEL, chosen=None):
        if kind == "memory":
            return type(in_memory.store)(card, chosen)
        store_class, name = STORES[kind]
        folder = tmp_path / f"store-{len(made)}"
        folder.mkdir()
        made.append(store_class.create(str(folder / name), card, chosen or Settings()))
        return made[-1]

    yield store
    for each in made:
        each.close()


def person(name, faces, labels=(), seed=0):
    """Somebody whose faces differ in everything that is kept of one."""
    rng = np.random.default_rng([seed, *name.encode()])
    entries = tuple(
        Entry(
            *(name, rng.normal(0, 9, SIZE).astype(np.float32), round(rng.uniform(0, 100), 3), f"{name}/{i}.jpg"),
            *((i + 0.5, 2.0, 30.0, 4e4) if i % 2 else None, rng.bytes(i * 7), 1.7e9 + i / 3),
        )
        for i in range(faces)
    )
    marked = tuple(i % 3 == 0 for i in range(faces))
    return NewPerson(name, enrolling.template([entry.vector for entry in entries]), entries, marked, labels)


def fill(store, *people):
    with store.writing() as transaction:
        transaction.add_people(people)
    return store


def facts(store):
    """All that is in a gallery, but ids."""
    return {
        each.name: (
            each.labels,
            each.template.tobytes(),
            each.faces,
            [(f.vector.tobytes(), f.score, f.source, f.box, f.crop, f.time, f.marked) for f in store.faces(each.id)],
        )
        for each in store.people()
    }


@pytest.fixture
def exported(make, tmp_path):
    """A file of two people and five faces."""
    exchange.export(fill(make(), person("Ann", 3, ("staff", 'the "b" team')), person("Bob", 2)), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("target", ["memory", *STORES])
@pytest.mark.parametrize("origin", ["memory", *STORES])
def test_a_gallery_comes_back_in_any_store(make, tmp_path, origin, target):
    first = fill(make(origin), person("Ann", 3, ("a", "b")), person("Bo \"b' \\", 40), person("Çem ☃", 1, ("a",)))
    seen = []
    assert exchange.export(first, tmp_path / "a.parquet", seen.append) == sum(seen) == 44
    second = make(target)
    assert exchange.import_(tmp_path / "a.parquet", second, seen.append) == exchange.Imported(3, 44, 0)
    assert sum(seen) == 88
    assert facts(second) == facts(first)


def test_an_import_is_run_again_without_harm(make, exported):
    store = fill(make(), person("Cy", 1))
    assert exchange.import_(exported, store) == exchange.Imported(2, 5, 0)
    before = facts(store), store.counts()
    assert exchange.import_(exported, store) == exchange.Imported(0, 0, 5)
    assert (facts(store), store.counts()) == before


def test_an_import_goes_on_where_it_was_stopped(make, tmp_path, monkeypatch):
    first = fill(make(), person("Ann", 25, ("a",)), person("Bob", 30))
    exchange.export(first, tmp_path / "a.parquet")
    monkeypatch.setattr(exchange, "_ROWS", 10)
    monkeypatch.setattr(exchange, "_BATCH", 10)
    second, seen = make(), []

    def stop(done):
        seen.append(done)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exchange.import_(tmp_path / "a.parquet", second, stop)
    assert second.counts().faces == 40
    assert exchange.import_(tmp_path / "a.parquet", second) == exchange.Imported(0, 15, 40)
    assert facts(second) == facts(first)


def test_people_of_one_name_are_one_person(make, exported):
    store = fill(make(), person("Ann", 2, ("guest",), seed=5))
    assert exchange.import_(exported, store) == exchange.Imported(1, 5, 0)
    ann = store.person("Ann")
    assert (ann.faces, ann.labels) == (5, ("guest", "staff", 'the "b" team'))
    assert np.array_equal(ann.template, enrolling.template([face.vector for face in store.faces(ann.id)]))


def test_labels_come_without_faces(make, exported):
    store = fill(make(), dataclasses.replace(person("Ann", 3), labels=("guest",)))
    assert exchange.import_(exported, store) == exchange.Imported(1, 2, 3)
    assert store.person("Ann").labels == ("guest", "staff", 'the "b" team')


def test_the_same_face_twice_in_a_file_is_one(make, exported, tmp_path):
    table = oracle.read_table(exported)
    oracle.write_table(pa.concat_tables([table, table]), tmp_path / "b.parquet")
    assert exchange.import_(tmp_path / "b.parquet", make()) == exchange.Imported(2, 5, 5)


def test_crops_are_left_out_where_they_are_not_kept(make, exported):
    store = make(chosen=Settings(crops=False))
    exchange.import_(exported, store)
    assert not any(face.crop for face in store.faces())


def test_the_file_is_what_others_read(make, exported):
    found = oracle.read_table(exported)
    assert found["person"].to_pylist() == ["Ann"] * 3 + ["Bob"] * 2
    assert found["labels"].to_pylist()[0] == ["staff", 'the "b" team']
    vectors = np.stack(found["embedding"].to_numpy(zero_copy_only=False))
    assert np.allclose(np.linalg.norm(vectors, axis=1), found["magnitude"].to_numpy(), rtol=1e-6)
    assert found["box"].to_pylist()[:2] == [None, [1.5, 2.0, 30.0, 4e4]]
    assert cards.Card.from_json(found.schema.metadata[b"magface.card"]) == MODEL
    assert exchange.card(exported) == MODEL


def test_paths_that_are_no_unicode_come_back(make, tmp_path):
    odd = dataclasses.replace(person("Ann", 1).faces[0], source="caf\udce9/\ud800.jpg")
    vector = odd.vector
    first = fill(make(), NewPerson("Ann", vector, (odd,), (False,)))
    exchange.export(first, tmp_path / "a.parquet")
    second = make()
    exchange.import_(tmp_path / "a.parquet", second)
    assert [face.source for face in second.faces()] == ["caf\udce9/\ud800.jpg"]


def test_groups_of_rows_are_bounded(make, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_ROWS", 16)
    exchange.export(fill(make(), person("Ann", 50)), tmp_path / "a.parquet")
    found = oracle.ParquetFile(tmp_path / "a.parquet").metadata
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [16, 16, 16, 2]
    monkeypatch.setattr(exchange, "_BYTES", 400)
    exchange.export(fill(make(), person("Ann", 50)), tmp_path / "b.parquet")
    assert oracle.ParquetFile(tmp_path / "b.parquet").metadata.num_row_groups > 10


def test_an_empty_gallery_is_a_file_too(make, tmp_path):
    assert exchange.export(make(), tmp_path / "a.parquet") == 0
    assert exchange.import_(tmp_path / "a.parquet", make()) == exchange.Imported(0, 0, 0)


def test_a_failure_leaves_the_old_file(make, exported, monkeypatch):
    before = exported.read_bytes()
    monkeypatch.setattr(exchange, "_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exchange.export(fill(make(), person("Cy", 1)), exported)
    assert exported.read_bytes() == before
    assert [path.name for path in exported.parent.iterdir() if path.is_file()] == [exported.name]


def test_another_suffix_is_refused(make, tmp_path):
    with pytest.raises(DataError, match=r"let the name of .*faces.csv end in .parquet"):
        exchange.export(make(), tmp_path / "faces.csv")


def test_embeddings_of_another_model_are_refused(make, exported):
    other = dataclasses.replace(MODEL, sha256="0" * 64, name="other")
    store = make(card=other)
    with pytest.raises(DataError, match=r"a.parquet holds embeddings of magface-sface .* gallery those of other"):
        exchange.import_(exported, store)
    assert store.counts().faces == 0


def test_a_missing_file_is_named(make, tmp_path):
    for ask in (exchange.card, lambda path: exchange.import_(path, make())):
        with pytest.raises(DataError, match=r"no exported gallery .*none.parquet; check"):
            ask(tmp_path / "none.parquet")


def changed(exported, name, values=None, kind=None, metadata=None):
    """The exported table with one column, or its metadata, replaced."""
    table = oracle.read_table(exported)
    if name:
        index = table.schema.get_field_index(name)
        column = pa.array(values, kind or table.schema.field(name).type)
        table = table.set_column(index, pa.field(name, column.type), column)
    if metadata is not None:
        table = table.replace_schema_metadata({**table.schema.metadata, **metadata})
    path = exported.with_name("hostile.parquet")
    oracle.write_table(table, path)
    return path


VECTORS = [[float(row + 1)] * SIZE for row in range(5)]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("person", [1, 2, 3, 4, 5], pa.int64()),
        ("person", ["Ann", None, "Bob", "Bob", "Bob"], None),
        ("person", ["", "Ann", "Bob", "Bob", "Bob"], None),
        ("person", ["An\nn", "Ann", "Bob", "Bob", "Bob"], None),
        ("person", ["A" * 501, "Ann", "Bob", "Bob", "Bob"], None),
        ("embedding", VECTORS, pa.list_(pa.float32())),
        ("embedding", VECTORS, pa.list_(pa.float64(), SIZE)),
        ("embedding", [row[:7] for row in VECTORS], pa.list_(pa.float32(), 7)),
        ("embedding", [[float("nan")] * SIZE, *VECTORS[1:]], None),
        ("embedding", [[float("inf")] * SIZE, *VECTORS[1:]], None),
        ("embedding", [[0.0] * SIZE, *VECTORS[1:]], None),
        ("embedding", [None, *VECTORS[1:]], pa.list_(pa.float32(), SIZE)),
        ("embedding", [[None] * SIZE, *VECTORS[1:]], pa.list_(pa.float32(), SIZE)),
        ("score", [101.0, 1, 1, 1, 1], None),
        ("score", [float("nan"), 1, 1, 1, 1], None),
        ("score", [None, 1, 1, 1, 1], None),
        ("time", [float("inf"), 1, 1, 1, 1], None),
        ("box", [[1.0, 2.0, 3.0], None, None, None, None], None),
        ("box", [[], None, None, None, None], None),
        ("box", [[1.0, 2.0, 3.0, float("nan")], None, None, None, None], None),
        ("box", [[1.0, 2.0, 3.0, None], None, None, None, None], pa.list_(pa.float64())),
        ("labels", [["a", None], [], [], [], []], pa.list_(pa.string())),
        ("labels", [None, [], [], [], []], pa.list_(pa.string())),
        ("labels", [[" a"], [], [], [], []], None),
        ("labels", [["a"] * 5000, [], [], [], []], None),
        ("crop", [b"x" * (1 << 20) + b"x", b"", b"", b"", b""], None),
        ("crop", [None, b"", b"", b"", b""], None),
        ("source", ["x" * (1 << 20) + "x", "", "", "", ""], None),
        ("source_bytes", [b"\xff", None, None, None, None], None),
        ("marked", [None, True, True, True, True], None),
        ("marked", [1, 0, 1, 1, 1], pa.int64()),
    ],
)
def test_hostile_columns_are_refused_whole(make, exported, name, values, kind):
    path = changed(exported, name, values, kind)
    store = make()
    with pytest.raises(DataError, match=r"hostile.parquet is damaged or no exported gallery \(.*\); export it again"):
        exchange.import_(path, store)
    assert store.counts().faces == 0


@pytest.mark.parametrize(
    "metadata",
    [{b"magface.gallery": b"2"}, {b"magface.card": b"{}"}, {b"magface.card": b"["}, {b"magface.card": b"\xff"}],
)
def test_hostile_metadata_is_refused(make, exported, metadata):
    path = changed(exported, "", metadata=metadata)
    for ask in (exchange.card, lambda path: exchange.import_(path, make())):
        with pytest.raises(DataError, match=r"hostile\.parquet"):
            ask(path)


def test_a_file_of_something_else_is_refused(make, exported):
    table = oracle.read_table(exported)
    path = exported.with_name("other.parquet")
    oracle.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(DataError, match="does not say that it is one"):
        exchange.card(path)
    oracle.write_table(table.drop_columns(["crop"]), path)
    with pytest.raises(DataError, match="it has no column crop of binary"):
        exchange.import_(path, make())


def test_huge_metadata_is_refused(exported):
    path = changed(exported, "", metadata={b"x": b"x" * (1 << 24)})
    with pytest.raises(DataError, match=r"hostile\.parquet"):
        exchange.card(path)


def test_a_short_file_of_long_texts_takes_no_memory(make, exported, monkeypatch):
    long = "x" * (1 << 19)
    rows = 2000
    table = oracle.read_table(exported).slice(0, 1)
    columns = {name: pa.chunked_array([table[name].chunk(0)] * rows) for name in table.schema.names}
    columns["source"] = pa.chunked_array([pa.DictionaryArray.from_arrays([0] * rows, [long])]).cast(
        pa.dictionary(pa.int32(), pa.string())
    )
    path = exported.with_name("short.parquet")
    oracle.write_table(pa.table(columns).replace_schema_metadata(table.schema.metadata), path, compression="zstd")
    del columns, table
    assert path.stat().st_size < 1 << 17
    monkeypatch.setattr(exchange, "_ROWS", 64)
    pa.set_memory_pool(POOL)
    try:
        assert exchange.import_(path, make()) == exchange.Imported(1, 1, rows - 1)
    finally:
        pa.set_memory_pool(pa.default_memory_pool())
    assert 0 < POOL.max_memory() < 1 << 24


@given(content=st.binary(max_size=300))
@settings(max_examples=50)
def test_any_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet"):
        exchange.card(path)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_gives_a_gallery_or_an_error(make, exported, data):
    content = bytearray(exported.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = exported.with_name("damaged.parquet")
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with contextlib.suppress(DataError):
        exchange.import_(path, _Anything(MODEL))


class _Anything:
    """A store that takes everything."""

    def __init__(self, card):
        self.card, self.settings = card, Settings()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def writing(self):
        return self

    def person(self, name):
        return None

    def add_people(self, people):
        return []
