import io
import json
import random
import tarfile

import pytest

from magface.data import webdataset
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError


def shard(path, files):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(path):
    """Files by key, as WebDataset groups them: the key ends at the first dot behind the last slash."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            folder, _, file = member.name.rpartition("/")
            key, ending = file.split(".", 1)
            found.setdefault(f"{folder}/{key}", {})[ending] = archive.extractfile(member).read()
    return found


@pytest.mark.parametrize("place", ["shards", "one.tar", "f-{000000..000002}.tar", "g-{8..10}-x.tar"])
def test_written_shards_come_back_with_all_that_is_known(faces, known, tmp_path, place):
    seen = []
    assert webdataset.write(tmp_path / place, faces, seen.append, per_shard=3) == ()
    assert sum(seen) == len(faces)
    found = webdataset.read(tmp_path / place)
    assert found.names == faces.names
    assert known(found) == known(faces)


def test_shards_are_what_webdataset_reads(faces, tmp_path):
    webdataset.write(tmp_path / "shards", faces, per_shard=3)
    paths = sorted((tmp_path / "shards").iterdir())
    assert [path.name for path in paths] == [f"shards-00000{number}.tar" for number in range(3)]
    found = [sample for path in paths for sample in samples(path).values()]
    assert [int(sample["cls"]) for sample in found] == faces.labels.tolist()
    images = [sample.get("jpg") or sample.get("png") or sample.get("webp") for sample in found]
    assert images == [faces.encoded(row) for row in range(len(faces))]
    assert [json.loads(sample["json"])["name"] for sample in found] == list(faces.names)


def test_the_same_set_gives_the_same_bytes(faces, tmp_path):
    for name in ("a.tar", "b.tar"):
        webdataset.write(tmp_path / name, faces)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_shards_of_others(tmp_path):
    shard(tmp_path / "s/b-0.tar", [("x/1.jpg", b"1"), ("x/1.cls", b"12\n"), ("x/2.seg.png", b"0"), ("x/2.JPEG", b"2")])
    shard(
        tmp_path / "s/b-1.tar",
        [("./1.png", b"3"), ("./1.json", b'{"identity": 5}'), ("./1.cls", b"9"), (".h.jpg", b"")],
    )
    shard(tmp_path / "s/.hidden.tar", [("1.jpg", b"1")])
    faces = webdataset.read(tmp_path / "s")
    assert faces.names == ("b-0/x/1.jpg", "b-0/x/2.jpeg", "b-1/1.png")
    assert [faces.people[label] for label in faces.labels] == ["12", "", "5"]
    assert [faces.encoded(row) for row in range(3)] == [b"1", b"2", b"3"]
    assert webdataset.read(tmp_path / "s/b-1.tar").names == ("b-1/1.png",)


def test_a_plain_tar_of_people_is_no_shard(tmp_path):
    assert not webdataset.is_shard(shard(tmp_path / "a.tar", [("ann/1.jpg", b"1"), ("ann/2.jpg", b"2")]))
    assert not webdataset.is_shard(shard(tmp_path / "b.tar", []))
    assert webdataset.is_shard(shard(tmp_path / "c.tar", [("note.txt", b""), ("1.jpg", b"1"), ("1.cls", b"2")]))
    assert webdataset.is_shard(shard(tmp_path / "d.tar", [("1.json", b"{}"), ("1.jpg", b"1")]))


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("json", b"{"),
        ("json", b"[" * 30_000),
        ("json", b"[1]"),
        ("json", b'{"identity": NaN}'),
        ("json", b'{"identity": ["x"]}'),
        ("json", b'{"identity": true}'),
        ("json", b'{"name": 1.5}'),
        ("json", b'{"suspect": "no"}'),
        ("json", b'{"suspect": []}'),
        ("json", b"\xff\xfe"),
        ("json", b" " * 100_000),
        ("json", b'{"identity": ' + b"9" * 5000 + b"}"),
        ("cls", b"\xff"),
        ("cls", b"7" * 100_000),
    ],
)
def test_facts_that_make_no_sense_cost_one_image(tmp_path, ending, content):
    files = [("1.jpg", b"1"), (f"1.{ending}", content), ("2.jpg", b"2"), ("2.cls", b"2")]
    faces = webdataset.read(shard(tmp_path / "a.tar", files))
    assert faces.names == ("a/2.jpg",)
    [(name, reason)] = faces.failures
    assert name == "a/1.jpg"
    assert "a.tar, 1 has a" in reason
    with pytest.raises(DataError, match="has a"):
        webdataset.read(shard(tmp_path / "b.tar", files[:2]))


def test_names_that_do_not_tell_images_apart_are_those_of_something_else(tmp_path):
    files = [("1.jpg", b"1"), ("1.json", b'{"name": "x"}'), ("2.jpg", b"2"), ("2.json", b'{"name": "x"}')]
    assert webdataset.read(shard(tmp_path / "a.tar", files)).names == ("a/1.jpg", "a/2.jpg")
    with pytest.raises(DataError, match=r"two images are called b/1\.jpg"):
        webdataset.read(shard(tmp_path / "b.tar", [*files[:2], ("2.txt", b""), *files[:2]]))


def test_facts_that_others_leave_open(tmp_path):
    open_ = b'{"identity": null, "name": null, "source": null, "suspect": null, "caption": null}'
    faces = webdataset.read(shard(tmp_path / "a.tar", [("1.jpg", b"1"), ("1.cls", b"7"), ("1.json", open_)]))
    assert (faces.names, faces.people, faces.failures) == (("a/1.jpg",), ("7",), ())


def test_patterns(faces, tmp_path):
    webdataset.write(tmp_path / "a-{0..1}.tar", faces)
    with pytest.raises(DataError, match=r"a-2\.tar does not exist"):
        webdataset.read(tmp_path / "a-{0..2}.tar")
    for pattern in ("a-{2..1}.tar", "a-{0..99999999999}.tar"):
        with pytest.raises(DataError, match="no range"):
            webdataset.read(tmp_path / pattern)
    with pytest.raises(DataError, match="name fewer"):
        webdataset.write(tmp_path / "b-{0..9}.tar", faces)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        webdataset.read(tmp_path / "none.tar")
    with pytest.raises(DataError, match="no shard"):
        webdataset.read(tmp_path)
    with pytest.raises(DataError, match="holds no image"):
        webdataset.read(shard(tmp_path / "a.tar", [("1.cls", b"1")]))


def test_a_writer_that_was_stopped_goes_on(faces, known, stopped, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        webdataset.write(tmp_path / "s", stopped, per_shard=3)
    first = tmp_path / "s" / "s-000000.tar"
    assert [path.name for path in sorted((tmp_path / "s").iterdir())] == [".unfinished", first.name]
    before = first.stat().st_mtime_ns
    webdataset.write(tmp_path / "s", faces, per_shard=3)
    assert first.stat().st_mtime_ns == before
    assert known(webdataset.read(tmp_path / "s")) == known(faces)


def test_a_shard_that_lacks_an_image_is_made_again(faces, known, stopped, tmp_path):
    lacking = list(stopped.records())
    lacking[1] = Record(*(lambda old: (old.name, old.person, Held(b""), old.source, old.suspect))(lacking[1]))
    with pytest.raises(KeyboardInterrupt):
        webdataset.write(tmp_path / "s", FaceSet.of(lacking), per_shard=3)
    assert webdataset.write(tmp_path / "s", faces, per_shard=3) == ()
    assert known(webdataset.read(tmp_path / "s")) == known(faces)


def test_what_cannot_be_read_is_left_out_and_nothing_overwritten(faces, tmp_path):
    empty = Record("empty.jpg", "x", Held(b""))
    failures = webdataset.write(tmp_path / "a.tar", FaceSet.of([*faces.records(), empty]))
    assert [name for name, _ in failures] == ["empty.jpg"]
    assert len(webdataset.read(tmp_path / "a.tar")) == 7
    for place in ("a.tar", "{a..b}.tar"):
        (tmp_path / place).touch()
        with pytest.raises(DataError, match="exists"):
            webdataset.write(tmp_path / place, faces)
    with pytest.raises(DataError, match="no image that can be read"):
        webdataset.write(tmp_path / "b.tar", FaceSet.of([empty]))
    assert not (tmp_path / "b.tar").exists()


def test_damaged_shards_give_images_or_a_sentence(faces, tmp_path):
    webdataset.write(tmp_path / "a.tar", faces)
    whole = (tmp_path / "a.tar").read_bytes()
    draw = random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 10, 100])):
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        (tmp_path / "b.tar").write_bytes(damaged[: draw.choice([None, draw.randrange(len(whole))])])
        try:
            found = webdataset.read(tmp_path / "b.tar")
        except DataError:
            continue
        assert all(len(found.encoded(row)) <= len(whole) for row in range(len(found)))
