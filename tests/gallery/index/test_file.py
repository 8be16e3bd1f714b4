import hashlib
import json
import mmap
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magface.errors import DataError
from magface.gallery import index
from magface.gallery.index import file
from magface.gallery.records import Settings
from magface.geometry import direction

KINDS = [(kind, precision) for kind in ("exact", "approximate") for precision in ("f32", "f16")]


def directions(count, dimension=8, seed=0):
    return direction(np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32))


def page(**fields):
    text = json.dumps(fields).encode().ljust(file.PAGE - len(file.MAGIC) - file.DIGEST)
    return file.MAGIC + hashlib.sha256(text).digest() + text


HONEST = {"store": "a", "sequence": 1, "count": 0, "dimension": 8, "precision": "f32", "learned": 0, "candidates": 0}


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_mapped_is_as_in_memory(tmp_path, precision):
    kept = Settings(precision=precision)
    made = index.build(np.arange(0, 3000, 3), directions(1000), kept)
    made.remove(np.arange(0, 300, 3))
    made.put(np.array([5, 3, 299]), directions(3, seed=1))
    index.save(made, tmp_path / "index", "a", 12)
    again, sequence = index.load(tmp_path / "index", "a", 8, kept)
    probes = directions(20, seed=2)
    assert sequence == 12
    assert len(again) == len(made) == 903
    assert isinstance(again.rows.base.rows.base.base, mmap.mmap | memoryview)
    for _ in range(2):
        hits, same = made.search(probes, 7), again.search(probes, 7)
        assert hits.people.tolist() == same.people.tolist()
        assert hits.cosine.tolist() == same.cosine.tolist()
        for each in (made, again):
            each.put(np.array([1, 600]), directions(2, seed=3))
            each.remove(hits.people[0])


@pytest.mark.parametrize("count", [0, 1, 513])
def test_any_count_comes_back(tmp_path, count):
    made = index.build(np.arange(count), directions(count), Settings())
    index.save(made, tmp_path / "index", "ä\n'\"" * 50, 0)
    again, _ = index.load(tmp_path / "index", "ä\n'\"" * 50, 8, Settings())
    assert len(again) == count
    assert again.rows.base.rows.tolist() == made.rows.base.rows.tolist()


def test_who_was_removed_is_not_in_the_file(tmp_path):
    vectors = directions(100)
    made = index.build(np.arange(100), vectors, Settings())
    made.remove(np.array([40]))
    index.save(made, tmp_path / "index", "a", 1)
    content = (tmp_path / "index").read_bytes()
    assert vectors[40].tobytes() not in content
    assert vectors[41].tobytes() in content


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_scrub_leaves_no_bytes(tmp_path, precision):
    kept, path = Settings(precision=precision), tmp_path / "index"
    vectors = directions(500)
    index.save(index.build(np.arange(500) * 2, vectors, kept), path, "a", 1)
    rows = vectors.astype(file.PRECISIONS[precision])
    index.scrub(path, np.array([80, 81, 998, 5000]))
    content = path.read_bytes()
    for gone in (40, 499):
        assert rows[gone].tobytes() not in content
        assert rows[gone, 2:6].tobytes() not in content
    assert rows[41].tobytes() in content
    again, sequence = index.load(path, "a", 8, kept)
    assert (len(again), sequence) == (498, 1)
    assert not np.isin(again.search(vectors[[40, 499]], 498).people, [80, 998]).any()


def test_scrub_takes_codes_too(crowd, learned, tmp_path):
    people, kept, path = crowd[0], Settings(index="approximate"), tmp_path / "index"
    shutil.copy(learned, path)
    codes = index.load(path, "a", 128, kept)[0].learned.codes[77].tobytes()
    assert codes in path.read_bytes()
    index.scrub(path, np.array([77]))
    assert codes not in path.read_bytes()
    again, _ = index.load(path, "a", 128, kept)
    assert again.search(people[[76, 77]], 1).people[0] == 76
    assert 77 not in again.search(people[[76, 77]], 50).people


def test_a_process_that_mapped_the_file_before_it_was_scrubbed_goes_on(tmp_path):
    path, vectors = tmp_path / "index", directions(50)
    index.save(index.build(np.arange(50), vectors, Settings()), path, "a", 1)
    mapped, _ = index.load(path, "a", 8, Settings())
    index.scrub(path, np.array([7]))
    assert 7 not in mapped.search(vectors[7:8], 50).people


def test_another_gallery_or_other_settings_are_refused(tmp_path):
    path = tmp_path / "index"
    index.save(index.build(np.arange(5), directions(5), Settings()), path, "a", 1)
    for store, dimension, precision in (("b", 8, "f32"), ("a", 9, "f32"), ("a", 8, "f16")):
        with pytest.raises(DataError, match="another gallery"):
            index.load(path, store, dimension, Settings(precision=precision))


def test_a_file_that_is_missing_or_none_is_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="delete it"):
            index.load(path, "a", 8, Settings())
        with pytest.raises(DataError):
            index.scrub(path, np.array([1]))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_give_a_result_or_an_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "index"
    index.save(index.build(np.arange(40), directions(40), Settings()), path, "a", 1)
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "longer", "changed", "noise"]))
    if kind == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    elif kind == "longer":
        content += bytes(data.draw(st.integers(1, 5000)))
    elif kind == "noise":
        content = bytearray(data.draw(st.binary(max_size=200)))
    else:
        start = data.draw(st.integers(0, len(content) - 1))
        new = data.draw(st.binary(min_size=1, max_size=300))
        content[start : start + len(new)] = new
    path.write_bytes(content)
    try:
        made, _ = index.load(path, "a", 8, Settings())
        with np.errstate(all="ignore"):
            hits = made.search(directions(3, seed=1), 50)
    except DataError:
        return
    assert kind == "changed"
    assert (np.abs(hits.cosine[hits.people >= 0]) <= 1).all()


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**15},
        {"count": 1 << 61},
        {"count": 1 << 62},
        {"count": -1},
        {"count": 1.0},
        {"count": True},
        {"dimension": 0},
        {"dimension": 1 << 40},
        {"precision": "f64"},
        {"precision": ["f32"]},
        {"store": 3},
        {"learned": 5},
        {"candidates": 10**9},
        {"more": 1},
    ],
)
def test_claims_are_not_believed(tmp_path, change):
    path = tmp_path / "index"
    path.write_bytes(page(**{**HONEST, **change}))
    with pytest.raises(DataError, match="no usable index"):
        index.load(path, "a", 8, Settings())


@pytest.mark.parametrize("text", ["[1]", "null", "{", "[" * 4000, "9" * 4000])
def test_a_first_page_of_other_words_is_refused(tmp_path, text):
    path = tmp_path / "index"
    padded = text.encode().ljust(file.PAGE - len(file.MAGIC) - file.DIGEST)
    path.write_bytes(file.MAGIC + hashlib.sha256(padded).digest() + padded)
    with pytest.raises(DataError, match="no usable index"):
        index.load(path, "a", 8, Settings())


def test_an_honest_page_is_read(tmp_path):
    path = tmp_path / "index"
    path.write_bytes(page(**HONEST))
    assert len(index.load(path, "a", 8, Settings())[0]) == 0


@pytest.mark.parametrize("ids", [[3, 2, 1], [1, 1, 2], [-5, 1, 2]])
def test_ids_that_do_not_rise_are_damage(tmp_path, ids):
    path = tmp_path / "index"
    index.save(index.build(np.arange(3), directions(3), Settings()), path, "a", 1)
    with path.open("rb+") as content:
        content.seek(file.PAGE)
        content.write(np.array(ids, "<i8").tobytes())
    with pytest.raises(DataError, match="ids are damaged"):
        index.load(path, "a", 8, Settings())


def test_a_sketch_that_holds_no_numbers_is_damage(learned, tmp_path):
    path = tmp_path / "index"
    shutil.copy(learned, path)
    header = file.read(path)[0]
    with path.open("rb+") as content:
        content.seek(header.places["points"])
        content.write(np.full(10, np.nan, "<f4").tobytes())
    with pytest.raises(DataError, match="sketch is damaged"):
        index.load(path, "a", 128, Settings(index="approximate"))


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "index"
    made = index.build(np.arange(3), directions(3), Settings())
    index.save(made, path, "a", 1)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        index.save(made, path, "a", 2)
    monkeypatch.undo()
    assert index.load(path, "a", 8, Settings())[1] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["index"]
