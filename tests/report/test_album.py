"""An album grows without moving anybody, keeps to what it was told, and survives whatever happens to it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magface.errors import DataError
from magface.report import album
from magface.report import album_corrections as say
from magface.report.album_state import load_corrections, load_state

FAMILY = {
    "a1": "ann 90",
    "a2": "ann 85",
    "b1": "bob 80",
    "b2": ["ann 70", "bob 75"],
    "c1": "carl 60",
    "blur": "dora 10",
}


def who(folder):
    """Names of the photos of each person, by id, and of the unknown."""
    state = load_state(folder)
    name = lambda face: f"{Path(face.photo).stem}#{face.face}"  # noqa: E731
    return {each.id: sorted(map(name, each.faces)) for each in state.people}, sorted(map(name, state.unknown))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_people_get_folders_and_the_rest_is_unknown(make, shoot, out):
    made = make(shoot(**FAMILY))
    assert who(out) == ({1: ["a1#1", "a2#1", "b2#1"], 2: ["b1#1", "b2#2"]}, ["blur#1", "c1#1"])
    assert [made.people, made.of_people, made.seen_once, made.poor, made.new_people] == [2, 5, 1, 1, 2]
    placed = [f for f in files(out) if f.startswith(("people/", "unknown/"))]
    assert placed == [
        *(f"people/person-1/{name}.jpg" for name in ("a1", "a2", "b2")),
        *(f"people/person-2/{name}.jpg" for name in ("b1", "b2")),
        *(f"unknown/{name}.jpg" for name in ("blur", "c1")),
    ]
    assert (out / "people/person-1/a1.jpg").readlink() == out.parent / "photos" / "a1.jpg"
    table = json.loads((out / "people.json").read_text())
    assert table["people"][0]["representative"]["photo"].endswith("a1.jpg")
    assert (out / "crops" / table["people"][0]["representative"]["crop"]).exists()


def test_again_reads_nothing_and_changes_nothing(make, shoot, out, reader):
    make(shoot(**FAMILY))
    before = {f: (out / f).read_bytes() for f in ("people.json", "people.html")}
    reader.read.clear()
    made = make(shoot())
    assert reader.read == []
    assert made.read_now == made.new_people == made.joined == 0
    assert {f: (out / f).read_bytes() for f in before} == before


def test_new_photos_join_and_photos_that_are_not_named_stay(make, shoot, out, reader):
    make(shoot(**FAMILY))
    reader.read.clear()
    shoot(d="ann 50", e=["carl 65", "dora 90"])
    made = make([out.parent / "photos" / "d.jpg", out.parent / "photos" / "e.jpg"])
    assert reader.read == ["d.jpg", "e.jpg"]
    people, unknown = who(out)
    assert people == {1: ["a1#1", "a2#1", "b2#1", "d#1"], 2: ["b1#1", "b2#2"], 3: ["c1#1", "e#1"]}
    assert unknown == ["blur#1", "e#2"]  # a poor face and a good one make nobody
    assert [made.joined, made.new_people, made.gone] == [1, 1, 0]


def test_photos_that_are_gone_leave_and_others_keep_their_numbers(make, shoot, out):
    for path in shoot(**FAMILY)[:2]:
        make(shoot())
        path.unlink()
    made = make()
    assert made.gone == 1
    assert who(out)[0] == {1: ["b2#1"], 2: ["b1#1", "b2#2"]}
    shoot(x1="xeno 80", x2="xeno 85")
    make(shoot())
    assert set(who(out)[0]) == {1, 2, 3}


def test_only_drops_what_is_not_named(make, shoot, out):
    paths = shoot(**FAMILY)
    make(paths)
    made = make(paths[:2], only=True)
    assert made.gone == 4
    assert who(out) == ({1: ["a1#1", "a2#1"]}, [])
    assert files(out / "people") == ["person-1/a1.jpg", "person-1/a2.jpg"]


def test_photos_that_were_moved_or_written_again_are_the_same(make, shoot, out, tmp_path):
    make(shoot(**FAMILY))
    album.correct(out, say.name("2", "Bob"))
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").iterdir():
        os.utime(path, (1, 1))
    make(sorted((tmp_path / "elsewhere").iterdir()))
    assert who(out)[0] == {1: ["a1#1", "a2#1", "b2#1"], 2: ["b1#1", "b2#2"]}
    assert [person.name for person in load_state(out).people] == ["", "Bob"]


def test_a_photo_that_became_another_is_nobody_known(make, shoot, out):
    make(shoot(**FAMILY))
    make(shoot(a1="zoe 80"))
    assert who(out) == ({1: ["a2#1", "b2#1"], 2: ["b1#1", "b2#2"]}, ["a1#1", "blur#1", "c1#1"])


def test_corrections_hold_in_later_runs_and_when_all_is_grouped_anew(make, shoot, out):
    make(shoot(**FAMILY, a3="ann 77", d1="dave 80", d2="dave 82"))
    assert who(out)[0] == {1: ["a1#1", "a2#1", "a3#1", "b2#1"], 2: ["b1#1", "b2#2"], 3: ["d1#1", "d2#1"]}
    album.correct(out, say.merge("2", ["3"]))
    album.correct(out, say.split("1", ["a2.jpg"]))
    album.correct(out, say.name("1", "Ann"))
    album.correct(out, say.move(["c1.jpg"], "Ann"))
    expected = {1: ["a1#1", "a3#1", "b2#1", "c1#1"], 2: ["b1#1", "b2#2", "d1#1", "d2#1"], 4: ["a2#1"]}
    assert who(out)[0] == expected
    for options in ({}, {"rebuild": True}, {"rebuild": True, "threshold": 0.9}, {"rebuild": True, "threshold": -1.0}):
        make(**options)
        people, _ = who(out)
        assert all(set(faces) <= set(people[number]) for number, faces in expected.items())
        assert load_state(out).people[[p.id for p in load_state(out).people].index(1)].name == "Ann"
    (out / "people.json").unlink()
    make(shoot(), threshold=0.5)
    people, _ = who(out)
    assert {number: people[number] for number in expected} == expected


def test_new_photos_of_people_who_were_merged_join_them(make, shoot, out):
    make(shoot(**FAMILY))
    album.correct(out, say.merge("1", ["2"]))
    make(shoot(b3="bob 80", a3="ann 80"))
    assert who(out)[0] == {1: ["a1#1", "a2#1", "a3#1", "b1#1", "b2#1", "b2#2", "b3#1"]}
    make(rebuild=True)
    assert who(out)[0] == {1: ["a1#1", "a2#1", "a3#1", "b1#1", "b2#1", "b2#2", "b3#1"]}


def test_two_who_have_names_never_become_one(make, shoot, out):
    make(shoot(**FAMILY))
    album.correct(out, say.name("1", "Ann"))
    album.correct(out, say.name("2", "Ann"))  # two may have one name
    assert {f.split("/")[0] for f in files(out / "people")} == {"Ann", "Ann (2)"}
    make(rebuild=True, threshold=-1.0, min_score=0)
    assert {person.name for person in load_state(out).people} == {"Ann"}
    assert len(load_state(out).people) == 2


def test_names_and_numbers_go_along_when_all_is_grouped_anew(make, shoot, out):
    make(shoot(**FAMILY), threshold=0.95)
    make(rebuild=True, threshold=0.5)
    first = who(out)[0]
    make(rebuild=True)
    assert who(out)[0] == first


def test_undo_takes_one_step_back(make, shoot, out):
    make(shoot(**FAMILY))
    first = who(out)
    album.correct(out, say.merge("1", ["2"]))
    assert who(out) != first
    album.undo(out)
    assert who(out) == first
    assert not load_corrections(out).people
    with pytest.raises(DataError, match="nothing to undo"):
        album.undo(out)
    album.correct(out, say.merge("1", ["2"]))
    make()
    with pytest.raises(DataError, match="nothing to undo"):
        album.undo(out)


PHOTOS = [f"{person}{number}" for person in "abcd" for number in range(4)]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(drawn=st.data())
def test_whatever_is_said_last_holds(drawn, tmp_path_factory, another_reader):
    """A model of the album in a dictionary: person of each face that was corrected."""
    root = tmp_path_factory.mktemp("said")
    for name in PHOTOS:
        (root / f"{name}.jpg").write_text(f"{name[0]} {60 + int(name[1]) * 10 - 50 * (name == 'd3')}")
    paths, out, reader = sorted(root.glob("*.jpg")), root / "out", another_reader()
    album.make(reader, paths[:10], out)
    said = {}
    for _ in range(drawn.draw(st.integers(1, 6))):
        people = who(out)[0]
        numbers = sorted(people)
        step = drawn.draw(st.sampled_from(["merge", "split", "move", "name", "run", "rebuild"]))
        one, two = (drawn.draw(st.sampled_from(numbers)) for _ in range(2))
        if step == "merge" and one != two:
            album.correct(out, say.merge(str(one), [str(two)]))
            said |= dict.fromkeys([*people[one], *people[two]], one)
        elif step == "split" and len(people[one]) > 1:
            face = drawn.draw(st.sampled_from(people[one]))
            _, state = album.correct(out, say.split(str(one), [face.replace("#", ".jpg#")]))
            said |= dict.fromkeys(people[one], one) | {face: state.highest}
        elif step == "move":
            face = drawn.draw(st.sampled_from(people[one]))
            album.correct(out, say.move([face.replace("#", ".jpg#")], str(two)))
            said |= dict.fromkeys(people[one], one) | dict.fromkeys(people[two], two) | {face: two}
        elif step == "name":
            album.correct(out, say.name(str(one), "Somebody / \U0001f600"))
        elif step in ("run", "rebuild"):
            album.make(reader, paths, out, rebuild=step == "rebuild")
        now = {face: person for person, faces in who(out)[0].items() for face in faces}
        assert {face: now[face] for face in said} == said
    album.make(reader, paths, out)
    before = who(out)
    album.make(reader, paths, out)
    assert who(out) == before


def test_copies_of_one_photo_are_corrected_one_by_one(make, shoot, out):
    make(shoot(a1="ann 80", a2="ann 80", b1="bob 70", b2="bob 80"))
    album.correct(out, say.split("1", ["a1.jpg"]))
    album.correct(out, say.move(["a2.jpg"], "2"))
    for options in ({}, {"rebuild": True}):
        make(**options)
        assert who(out)[0] == {2: ["a2#1", "b1#1", "b2#1"], 3: ["a1#1"]}


def test_photos_that_cannot_be_read_are_told_and_read_again(make, shoot, out, reader):
    made = make(shoot(**FAMILY, torn="torn", empty=""))
    assert [name for name, _ in made.failures] == [str(out.parent / "photos" / "torn.jpg")]
    assert [Path(name).name for name in made.without_face] == ["empty.jpg"]
    reader.read.clear()
    make(shoot())
    assert reader.read == ["torn.jpg"]


def test_photos_without_any_face(make, shoot, out):
    made = make(shoot(a="", b=""))
    assert [made.people, made.faces] == [0, 0]
    assert "people" in (out / "people.html").read_text()
    make(shoot(c="ann 80", d="ann 90"))
    assert who(out)[0] == {1: ["c#1", "d#1"]}


def test_options_are_kept_for_the_next_run(make, shoot, out):
    make(shoot(**FAMILY), threshold=0.7, min_score=5, photos="none", algorithm="dbscan")
    make()
    kept = load_state(out).settings
    assert (kept.threshold, kept.min_score, kept.photos, kept.algorithm) == (0.7, 5, "none", "dbscan")
    assert not (out / "people").exists()
    make(photos="copy", threshold="auto")
    assert load_state(out).settings.auto
    assert not (out / "people/person-1/a1.jpg").is_symlink()


def test_another_model_reads_all_again_and_moves_nobody(make, shoot, out, another_reader):
    make(shoot(**FAMILY))
    before = who(out)
    made = album.make(another_reader("other", threshold=0.6), (), out)
    assert made.read_now == 6
    assert "another model" in made.remarks[0]
    assert who(out) == before
    assert load_state(out).settings.threshold == 0.6


def test_folder_with_people_of_somebody_else_is_refused(make, shoot, out):
    (out / "people").mkdir(parents=True)
    (out / "people" / "mine.jpg").write_text("a photo")
    with pytest.raises(DataError, match="was not made by this command"):
        make(shoot(**FAMILY))
    assert files(out) == ["people/mine.jpg"]


def test_photos_are_never_touched(make, shoot, out):
    paths = shoot(**FAMILY)
    before = [(path.read_bytes(), path.stat()) for path in paths]
    for options in ({}, {"photos": "copy"}, {"photos": "none"}, {"photos": "link", "rebuild": True}):
        make(paths, **options)
        album.correct(out, say.name("1", "Ann"))
        album.correct(out, say.split("1", ["a1.jpg"]))
        album.undo(out)
    for path, (content, status) in zip(paths, before, strict=True):
        assert path.read_bytes() == content
        now = path.stat()
        same = ("st_ino", "st_nlink", "st_mtime_ns", "st_ctime_ns", "st_mode")
        assert [getattr(now, name) for name in same] == [getattr(status, name) for name in same]


@pytest.mark.parametrize("name", ["people.json", "corrections.json"])
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000),
        *(b'{"version": 1}', b'{"version": 2}', b'{"version": true}'),
        b'{"version": 1, "people": [{"id": -1, "name": "x", "faces": []}], "highest": 0}',
        b'{"version": 1, "people": [{"id": 1, "name": "\\ud800", "faces": []}], "highest": 0}',
        b'{"version": 1, "people": [{"id": 1e999, "name": "x", "faces": [{"photo": 1}]}], "highest": NaN}',
    ],
)
def test_damaged_file_is_a_sentence_and_stays(make, shoot, out, name, content):
    make(shoot(**FAMILY))
    (out / name).write_bytes(content)
    held = {f: (out / f).read_bytes() for f in files(out) if not (out / f).is_symlink()}
    for act in (make, lambda: album.correct(out, say.name("1", "Ann"))):
        with pytest.raises(DataError, match=rf"{name} (is damaged|was written by a later version)"):
            act()
    assert {f: (out / f).read_bytes() for f in files(out) if not (out / f).is_symlink()} == held


def test_full_disk_is_a_sentence_and_the_state_is_whole(make, shoot, out, monkeypatch):
    make(shoot(**FAMILY))
    before = who(out)
    full = OSError(28, os.strerror(28))
    for place in ("album.save_state", "album_folders.arrange", "album.io.write_atomic"):
        with monkeypatch.context() as patch:
            patch.setattr(f"magface.report.{place}", lambda *_: (_ for _ in ()).throw(full))
            with pytest.raises(DataError, match="No space left"):
                make(shoot(new="ann 70"))
    assert {1, 2} == set(before[0]) == set(who(out)[0])
    make(shoot())
    assert who(out)[0][1] == ["a1#1", "a2#1", "b2#1", "new#1"]


def test_second_run_is_refused_while_the_first_goes_on(make, shoot, out, reader):
    paths = shoot(**FAMILY)
    make(paths)

    def second(_):
        for act in (make, lambda: album.correct(out, say.name("1", "Ann"))):
            with pytest.raises(DataError, match="another run"):
                act()

    album.make(reader, paths, out, started=second)


RUN = """if 1:
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from conftest import Reader
    from magface.report import album, album_corrections as say
    from magface.report.album_state import load_state
    out = Path(sys.argv[2])
    print("in", flush=True)
    for turn in range(10_000):
        album.make(Reader(), sorted((out.parent / "photos").iterdir()), out, rebuild=turn % 3 == 0)
        first, *others = [str(person.id) for person in load_state(out).people]
        if others:
            album.correct(out, say.merge(first, others))
        else:
            album.correct(out, say.split(first, ["b1.jpg", "b2.jpg#2"]))
        album.correct(out, say.name(first, f"Ann {turn}"))
        album.undo(out)
        print(turn, flush=True)
"""


@pytest.mark.parametrize("delay", [0.02, 0.13, 0.29])
def test_killed_at_any_moment_it_goes_on(make, shoot, out, delay):
    make(shoot(**FAMILY))
    album.correct(out, say.name("1", "Ann"))
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(Path(__file__).parent), str(out)], stdout=subprocess.PIPE
    ) as run:
        run.stdout.readline()
        try:
            run.wait(delay)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
    people = {face for faces in who(out)[0].values() for face in faces}
    assert people == {"a1#1", "a2#1", "b2#1", "b1#1", "b2#2"}
    load_corrections(out)
    make(shoot())
    left = [f for f in files(out) if ".part" in f or f.startswith("journal")]
    assert left == []
    shown = {Path(f).name for f in files(out / "people")}
    assert shown == {"a1.jpg", "a2.jpg", "b1.jpg", "b2.jpg"}
