"""Folders of links or copies: safe names, and nothing of anybody else is ever touched."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.report import album_folders
from magface.report.album_folders import arrange, folder_name, folders, path_of
from magface.report.album_state import AlbumFace, Person


def face(path, number=1):
    return AlbumFace(str(path), number, (0.0, 0.0, 9.0, 9.0), 50.0, 9.0, "c.jpg", False)


def person(number, *paths, name=""):
    return Person(number, name, tuple(map(face, paths)))


@pytest.fixture
def photos(tmp_path):
    made = []
    for name in ("one/a.jpg", "one/b.jpg", "two/a.jpg", "two/A.JPG"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        made.append(path)
    return made


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def tree(folder):
    """Every file and empty folder, with what it holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != album_folders.MANIFEST and (not path.is_dir() or not any(path.iterdir()))
    }


@given(st.text(max_size=400))
def test_every_name_is_a_folder_that_any_system_takes(name):
    safe = folder_name(name)
    assert 0 < len(safe) <= 81
    assert len(os.fsencode(safe)) <= 201
    assert safe not in (".", "..")
    assert not safe.startswith(".")
    assert not safe.endswith((".", " "))
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert safe.split(".")[0].rstrip().lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}


@given(st.lists(st.text("aAbB. /1-", min_size=1, max_size=4) | st.sampled_from(["person-1", "Person-2", "CON"])))
def test_no_two_people_share_a_folder(names):
    people = [person(number, "x.jpg", name=name.strip()) for number, name in enumerate(names, 1)]
    found = folders(people)
    assert len({place.casefold() for place in found.values()}) == len(people)
    for each in people:
        if not each.name:
            assert found[each.id] == f"people/person-{each.id}"


@pytest.mark.parametrize("how", ["link", "copy"])
def test_folders_follow_what_is_known(out, photos, how):
    one, two, other, upper = photos
    arrange(out, [person(1, one, two), person(2, one, other, upper)], [face(upper), face(two)], how)
    assert tree(out) == {
        "people/person-1/a.jpg": "one/a.jpg",
        "people/person-1/b.jpg": "one/b.jpg",
        "people/person-2/a.jpg": "one/a.jpg",
        "people/person-2/A (2).JPG": "two/A.JPG",
        "people/person-2/a (3).jpg": "two/a.jpg",
    }
    assert (out / "people/person-1/a.jpg").is_symlink() == (how == "link")
    arrange(out, [person(2, other, name="Ann")], [face(one)], how)
    assert tree(out) == {"people/Ann/a.jpg": "two/a.jpg", "unknown/a.jpg": "one/a.jpg"}
    arrange(out, [person(2, other, name="Ann")], [face(one)], "none")
    assert tree(out) == {}


def test_what_stands_there_keeps_its_name(out, photos):
    arrange(out, [person(1, photos[2])], [], "link")
    arrange(out, [person(1, *photos[:3])], [], "link")
    assert tree(out)["people/person-1/a.jpg"] == "two/a.jpg"
    assert tree(out)["people/person-1/a (2).jpg"] == "one/a.jpg"


def test_files_of_others_in_our_folders_are_left_alone(out, photos):
    (out / "mine.txt").write_text("mine")
    arrange(out, [person(1, photos[0])], [], "link")
    (out / "people/person-1/notes.txt").write_text("mine")
    (out / "people/person-1/b.jpg").write_text("mine")
    (out / "people/mine").mkdir()
    arrange(out, [person(1, *photos[:2])], [], "copy")
    assert tree(out)["people/person-1/b (2).jpg"] == "one/b.jpg"
    arrange(out, [], [], "copy")
    assert tree(out) == {
        "mine.txt": "mine",
        "people/person-1/notes.txt": "mine",
        "people/person-1/b.jpg": "mine",
        "people/mine": None,
    }


def test_a_copy_that_somebody_changed_is_theirs(out, photos):
    arrange(out, [person(1, *photos[:2])], [], "copy")
    (out / "people/person-1/a.jpg").write_text("with a hat")
    assert arrange(out, [person(1, *photos[:2])], [], "copy") == 1
    assert tree(out)["people/person-1/a.jpg"] == "with a hat"
    assert arrange(out, [], [], "copy") == 1
    assert tree(out) == {"people/person-1/a.jpg": "with a hat"}
    assert photos[0].read_text() == "one/a.jpg"


def test_a_photo_in_place_of_our_link_is_theirs(out, photos):
    arrange(out, [person(1, *photos[:2])], [], "link")
    (out / "people/person-1/a.jpg").unlink()
    (out / "people/person-1/a.jpg").write_text("a photo that was moved here")
    arrange(out, [], [], "link")
    assert tree(out) == {"people/person-1/a.jpg": "a photo that was moved here"}


def test_a_copy_of_a_photo_that_is_gone_may_be_the_last(out, photos):
    arrange(out, [person(1, *photos[:2])], [], "copy")
    photos[0].unlink()
    arrange(out, [person(1, *photos[:2], name="Ann")], [], "copy")
    assert arrange(out, [], [], "copy") == 0  # what is in the folder from before is somebody's now
    assert tree(out) == {"people/person-1/a.jpg": "one/a.jpg"}


def test_a_photo_that_changed_is_copied_again(out, photos):
    arrange(out, [person(1, *photos[:2])], [], "copy")
    photos[0].write_text("one/a.jpg, edited")
    os.utime(photos[0], (1e9, 1e9))
    arrange(out, [person(1, *photos[:2])], [], "copy")
    assert tree(out)["people/person-1/a.jpg"] == "one/a.jpg, edited"


def test_a_folder_that_is_a_link_to_elsewhere_is_not_written_to(out, photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (out / "people").mkdir()
    (out / "people" / "person-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link"):
        arrange(out, [person(1, photos[0])], [], "link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_list_that_is_a_pipe_or_never_ends_is_refused(out, photos):
    out.mkdir(exist_ok=True)
    manifest = out / album_folders.MANIFEST
    for make in (lambda: os.mkfifo(manifest), lambda: manifest.symlink_to("/dev/zero")):
        make()
        with pytest.raises(DataError, match="is damaged"):
            album_folders.arrange(out, [], [], "link")
        manifest.unlink()


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"files": []}', "[" * 100_000),
        '{"files": {"../../photos/one/a.jpg": [["x", -1, -1]]}}',
        '{"files": {"people/../../photos/one/a.jpg": [["x", -1, -1]]}}',
        '{"files": {"people/../x": [["x", -1, -1]]}}',
        '{"files": {"unknown/a": [[1, 2, 3]]}}',
        '{"files": {"unknown/a": [["x"], 3]}}',
    ],
)
def test_a_damaged_or_hostile_list_removes_nothing(out, photos, content):
    arrange(out, [person(1, photos[0])], [], "copy")
    before = tree(out.parent)
    (out / album_folders.MANIFEST).write_text(content)
    with pytest.raises(DataError, match="is damaged"):
        arrange(out, [], [], "copy")
    assert tree(out.parent) == before


def test_a_killed_run_is_made_up_for(out, photos, monkeypatch):
    people = [person(1, *photos[:2]), person(2, photos[2])]
    arrange(out, people[:1], [], "copy")
    done = []

    def kill(path, entry):
        if done:
            raise KeyboardInterrupt
        done.append(path)
        make(path, entry)

    make = album_folders._make
    with monkeypatch.context() as patch:
        patch.setattr(album_folders, "_make", kill)
        with pytest.raises(KeyboardInterrupt):
            arrange(out, [person(3, *photos)], [], "copy")
    (out / "people/person-3/.123.part").write_text("half")
    arrange(out, people, [], "copy")
    assert tree(out) == {
        "people/person-1/a.jpg": "one/a.jpg",
        "people/person-1/b.jpg": "one/b.jpg",
        "people/person-2/a.jpg": "two/a.jpg",
    }


def test_no_links_is_a_sentence(out, photos, monkeypatch):
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError(1, "Operation not permitted")))
    with pytest.raises(DataError, match="--copy copies the photos"):
        arrange(out, [person(1, photos[0])], [], "link")


def test_names_that_are_not_unicode_and_long_ones(out, tmp_path):
    odd, long = tmp_path / "caf\udce9.jpg", tmp_path / f"{'x' * 251}.jpg"
    try:
        odd.write_text("odd")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    long.write_text("long")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / long.name).write_text("longer")
    escaped = os.fsencode(odd).decode(errors="backslashreplace")
    assert path_of(escaped) == str(odd)
    arrange(out, [person(1, escaped, long, tmp_path / "more" / long.name)], [], "link")
    assert sorted(tree(out).values()) == ["long", "longer", "odd"]
    arrange(out, [], [], "link")
    assert tree(out) == {}
