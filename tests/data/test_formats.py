import itertools
import shutil
import tarfile

import numpy as np
import pytest

from magface.data import formats, pairs, recordio, verification_bin, writing
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError

PLACES = {
    "folder": "folder",
    "list": "list.txt",
    "rec": "set.rec",
    "webdataset": "shards",
    "parquet": "table.parquet",
}


@pytest.fixture(scope="session")
def places(faces, tmp_path_factory):
    """The set in every form that has names."""
    root = tmp_path_factory.mktemp("forms")
    for form, name in PLACES.items():
        assert formats.write(root / form / name, faces, form) == ()
    return {form: root / form / name for form, name in PLACES.items()}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(PLACES, PLACES)))
def test_every_form_goes_into_every_other_and_back(faces, known, places, tmp_path, first, second):
    formats.write(tmp_path / "there" / PLACES[second], formats.read(places[first]), second)
    there = formats.read(tmp_path / "there" / PLACES[second])
    assert known(there) == known(faces)
    formats.write(tmp_path / "back" / PLACES[first], there, first)
    assert known(formats.read(tmp_path / "back" / PLACES[first])) == known(faces)


@pytest.mark.parametrize("form", PLACES)
def test_forms_are_told_by_content_and_by_name(places, form):
    assert formats.form_at(places[form]) == form
    if form != "webdataset":
        assert formats.form_of(places[form]) == form


@pytest.mark.parametrize("form", ["rec", "parquet", "webdataset"])
def test_content_goes_before_the_name_and_a_folder_is_what_it_holds(known, places, faces, tmp_path, form):
    place = places[form] if places[form].is_file() else next(places[form].glob("*.tar"))
    shutil.copy(place, tmp_path / "file.txt")
    assert formats.form_at(tmp_path / "file.txt") == form
    assert formats.form_at(place.parent) == form
    assert known(formats.read(place.parent)) == known(faces)


def test_a_tar_of_people_is_a_folder(places, faces, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(places["folder"], ".")
    assert formats.form_at(tmp_path / "a.tar") == "folder"
    assert len(formats.read(tmp_path / "a.tar")) == len(faces)


def test_a_folder_of_people_may_hold_other_files(places, tmp_path):
    shutil.copytree(places["folder"], tmp_path / "a")
    for name in ("old.tar", "faces.parquet", "notes.txt"):
        (tmp_path / "a" / name).touch()
    assert formats.form_at(tmp_path / "a") == "folder"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none", None, "does not exist"),
        ("a.zip", b"PK\3\4", "no form that is known; give a folder of people"),
        ("a", b"no suffix", "no form that is known"),
        ("a.txt", b"\xff\xfe\0\0", r"a\.txt, line 1"),
        ("a.tar", b"\x1f\x8b", "no uncompressed"),
        ("a.tar", b"", "no uncompressed"),
        ("a.rec", b"", r"a\.rec"),
        ("a.rec", b"text", r"a\.rec"),
        ("a.rec", b"\x0a\x23\xd7\xce\xff\xff\xff\xff", r"a\.rec"),
        ("a.parquet", b"PAR1", "damaged"),
        ("a.lst", b"", "lists no image"),
        ("a.bin", b"", "magface evaluate.*magface data convert"),
    ],
)
def test_what_is_not_known_is_said(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        formats.read(tmp_path / name)


def test_folders_without_a_set(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        formats.read(tmp_path / "a")
    for name in ("x.rec", "y.rec"):
        (tmp_path / "a" / name).touch()
    with pytest.raises(DataError, match=r"x\.rec, y\.rec; name one"):
        formats.read(tmp_path / "a")
    (tmp_path / "a" / writing.UNFINISHED).touch()
    with pytest.raises(DataError, match="unfinished"):
        formats.read(tmp_path / "a")


@pytest.mark.parametrize("suffix", [".rec", ".tar", ".parquet"])
def test_what_a_killed_writer_left_is_no_set(places, tmp_path, suffix):
    whole = next(path for path in places[formats.form_of(f"a{suffix}")].parent.rglob(f"*{suffix}"))
    shutil.copy(whole, tmp_path / f".a{suffix}.x.part{suffix}")
    with pytest.raises(DataError, match="holds no image"):
        formats.read(tmp_path)


def test_a_root_belongs_to_a_list(places, known, faces, tmp_path):
    shutil.copy(places["list"], tmp_path / "moved.txt")
    shutil.copy(places["list"].with_suffix(".tsv"), tmp_path / "moved.tsv")
    assert known(formats.read(tmp_path / "moved.txt", root=places["list"].parent)) == known(faces)
    with pytest.raises(DataError, match="leave it out"):
        formats.read(places["parquet"], root=tmp_path)


@pytest.mark.parametrize("form", ["list", "rec", "webdataset", "parquet"])
def test_a_table_chooses_and_names(places, tmp_path, form):
    table = tmp_path / "t.tsv"
    table.write_text("path\tidentity\tsuspect\nZoë/1.jpg\tCyd\t1\n7\t\t0\ngone.jpg\tx\t0\n")
    found = formats.read(places[form], table)
    assert {each.name: (each.person, each.source, each.suspect) for each in found.records()} == {
        "Zoë/1.jpg": ("Cyd", "web", True),
        "7": ("", "", False),
    }
    assert [name for name, _ in found.failures] == ["gone.jpg"]
    table.write_text("path\ngone.jpg\n")
    with pytest.raises(DataError, match="names no image"):
        formats.read(places[form], table)


def test_images_that_cannot_be_read_are_left_out_of_every_form(faces, tmp_path):
    records = [*faces.records(), Record("empty.jpg", "nobody", Held(b""))]
    for form, name in PLACES.items():
        failures = formats.write(tmp_path / form / name, FaceSet.of(records), form)
        assert [name for name, _ in failures] == ["empty.jpg"]
        assert formats.read(tmp_path / form / name).people == faces.people
        with pytest.raises(DataError, match="no image that can be read"):
            formats.write(tmp_path / "none" / form / name, FaceSet.of(records[-1:]), form)


@pytest.mark.parametrize("form", [*PLACES, "bin"])
def test_nothing_is_overwritten(faces, tmp_path, form):
    place = tmp_path / PLACES.get(form, "a.bin")
    (place / "mine").mkdir(parents=True)
    wanted = pairs.Pairs(("7",), ("Zoë/1.jpg",), np.array([False]), np.array([0]))
    with pytest.raises(DataError, match="exists"):
        formats.write(place, faces, form, pairs=wanted)
    assert (place / "mine").exists()


def test_a_rec_has_a_folder_of_its_own(faces, tmp_path):
    formats.write(tmp_path / "a", faces, "rec")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "property",
        "train.idx",
        "train.rec",
        "train.tsv",
    ]
    (tmp_path / "b").mkdir()
    (tmp_path / "b/property").write_text("mine")
    with pytest.raises(DataError, match="property exists"):
        formats.write(tmp_path / "b", faces, "rec")


def test_pairs_go_into_a_bin_and_come_back(faces, tmp_path):
    wanted = pairs.Pairs(
        ("Zoë/1", "album/1.jpg"), ("Zoë/2", "Ann Lee/a.b.c.jpg"), np.array([True, False]), np.array([0, 0])
    )
    assert formats.write(tmp_path / "a.bin", faces, "bin", pairs=wanted) == ()
    found, same = verification_bin.read(tmp_path / "a.bin")
    index = [faces.names.index(name) for name in ("Zoë/1.jpg", "Zoë/2.png", "web/album/1.jpg", "Ann Lee/a.b.c.jpg")]
    assert [found.encoded(row) for row in range(4)] == [faces.encoded(row) for row in index]
    assert same.same.tolist() == [True, False]


@pytest.mark.parametrize("name", ["a.jpg", "a.json", "a.b"])
def test_names_that_do_not_tell_the_form(name):
    with pytest.raises(DataError, match=r"--to folder\|list"):
        formats.form_of(name)


def test_forms_that_cannot_be_written(faces, tmp_path):
    for form in ("bin", "zip"):
        with pytest.raises(DataError, match="pairs"):
            formats.write(tmp_path / "a", faces, form)


@pytest.mark.parametrize("form", PLACES)
def test_a_full_disk_leaves_nothing_that_looks_whole(faces, tmp_path, form, monkeypatch):
    """Whatever step is the one that fails, what is there cannot be opened as a set, and the same call completes it."""
    real, left = writing.encoded, iter(range(100))

    def full(*arguments, **settings):
        for number, item in enumerate(real(*arguments, **settings)):
            if number == 5:
                raise OSError(28, "No space left on device")
            yield item

    monkeypatch.setattr(writing, "encoded", full)
    if form == "rec":
        monkeypatch.setattr(recordio._Writer, "write", lambda *arguments: next(left) < 3 or full_disk())
    place = tmp_path / PLACES[form]
    with pytest.raises(OSError, match="No space"):
        formats.write(place, faces, form)
    with pytest.raises(DataError):
        formats.read(place)
    monkeypatch.undo()
    formats.write(place, faces, form)
    assert len(formats.read(place)) == len(faces)


def full_disk():
    raise OSError(28, "No space left on device")


def test_every_form_is_tried():
    assert {*PLACES, "bin"} == set(formats.FORMS)
