import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.data import writing
from magface.data.face_set import FaceSet, Held, Record, Stretch
from magface.errors import DataError

HOSTILE = ["../x", "/etc/passwd", "", ".", "..", ".hidden", "a/../../b", "nul", "COM1.jpg", "a\\b", "c:d", "x" * 999]
HOSTILE += ["é" * 200, "a\0b", "\udc80", "a.", "a ", " a", "-rf", "a\nb", "faces.tsv", "CON", "aux.", "…", "\u202e"]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12), st.text("aA./~2", max_size=5))


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=30), st.booleans())
def test_paths_stay_in_the_folder_and_differ_on_every_system(names, spaces):
    layout = writing.Layout(spaces, taken="faces.tsv")
    paths = [layout.path(person, name, b"\x89PNG") for person, name in names]
    assert len({path.casefold() for path in paths}) == len(paths)
    for path in paths:
        folder, file = path.split("/")
        assert all(part not in ("", ".", "..") and not part.startswith(".") for part in (folder, file))
        assert all(part == part.strip(" .") and len(os.fsencode(part)) < 200 for part in (folder, file))
        assert folder != "faces.tsv"
        assert Path("root", path).resolve().is_relative_to(Path("root").resolve())
        assert spaces or len(path.split()) == 1
    assert [path.split("/")[0] for path in paths] == [
        paths[[person for person, _ in names].index(person)].split("/")[0] for person, _ in names
    ], "a person has one folder"


def test_plain_names_stay_as_they_are():
    layout = writing.Layout()
    names = ["Ann/1.jpg", "Ann/1.JPG", "Ann/b c.png", "Zoë/é.webp"]
    assert [layout.path(name.split("/")[0], name, b"") for name in names] == [
        "Ann/1.jpg",
        "Ann/1~2.JPG",
        "Ann/b c.png",
        "Zoë/é.webp",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_clean_name_can_be_written(tmp_path, text):
    (tmp_path / writing.clean(text)).write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [writing.clean(text)]
    assert writing.clean(writing.clean(text)) == writing.clean(text)


def test_endings_are_those_of_the_content(faces):
    found = [writing.ending(faces.encoded(row)) for row in range(len(faces))]
    assert found == [".jpg", ".png", ".webp", ".jpg", ".png", ".webp", ".jpg"]
    assert writing.ending(b"") == writing.ending(b"anything") == ".jpg"


def test_images_that_cannot_be_read_are_counted(tmp_path, faces):
    records = [
        *faces.records(),
        Record("gone.jpg", "x", Stretch(tmp_path / "gone.jpg")),
        Record("empty", "x", Held(b"")),
    ]
    failures, seen = [], []
    found = list(writing.encoded(FaceSet.of(records), failures, seen.append))
    assert [row for row, _ in found] == list(range(9))
    assert [content for _, content in found] == [*(faces.encoded(row) for row in range(7)), None, None]
    assert [name for name, _ in failures] == ["gone.jpg", "empty"]
    assert sum(seen) == 9
    writing.some(faces, failures)
    with pytest.raises(DataError, match="is empty"):
        writing.some(FaceSet.of(records[-1:]), failures[-1:])


def test_only_unfinished_work_on_the_same_set_goes_on(tmp_path, faces):
    place = tmp_path / "a" / "b"
    with contextlib.suppress(KeyboardInterrupt), writing.unfinished(place, "folder", faces) as folder:
        (folder / "1.jpg").write_bytes(b"")
        raise KeyboardInterrupt
    for form, other in (("rec", faces), ("folder", faces[[0, 1]])):
        with pytest.raises(DataError, match="another set"), writing.unfinished(place, form, other):
            pass
    with writing.unfinished(place, "folder", faces):
        assert (place / "1.jpg").exists()
    assert [path.name for path in place.iterdir()] == ["1.jpg"]
    for taken in (place, place / "1.jpg"):
        with pytest.raises(DataError, match="exists"), writing.unfinished(taken, "folder", faces):
            pass


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    writing.put(tmp_path / "a.jpg", b"old")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        writing.put(tmp_path / "a.jpg", b"new")
    assert (tmp_path / "a.jpg").read_bytes() == b"old"


def test_two_runs_do_not_share_a_folder(tmp_path):
    faces = FaceSet.of([Record("1.jpg", "Ann", Held(b"1"))])
    with writing.unfinished(tmp_path / "out", "folder", faces) as folder:
        with pytest.raises(DataError, match="another run is writing"), writing.unfinished(folder, "folder", faces):
            pass
        assert (folder / writing.UNFINISHED).is_file()
    with writing.unfinished(tmp_path / "out", "folder", faces):
        pass
    assert not list(folder.iterdir())
