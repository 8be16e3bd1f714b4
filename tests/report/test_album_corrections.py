"""What a user says is understood, or refused in a sentence that says what to do."""

import pytest

from magface.errors import DataError
from magface.report import album_corrections as say
from magface.report.album_state import AlbumFace, Corrections, Person, Settings, Settled, Spot, State


def face(photo, number=1, crop=""):
    left = 50.0 * number
    return AlbumFace(photo, number, (left, 0.0, left + 40, 50.0), 80.0, 9.0, crop or f"{photo}{number}", False)


A1, A2, A3 = face("/p/a.jpg"), face("/p/a.jpg", 2), face("/p/sub/a.jpg")
B1, C1, C2, D1, E1 = (face(f"/p/{name}.jpg") for name in ("b", "c", "c2", "#2", "e"))
STATE = State(
    Settings("m", "model", 0.4, False, "", 35.0, "link"),
    (
        Person(1, "", (A1, B1, D1)),
        Person(2, "Ann", (A2, C1)),
        Person(3, "Ann", (A3,)),
        Person(4, "12", (C2,)),
    ),
    (E1,),
    9,
)


def spot(face):
    return Spot(face.photo, face.box, face.crop)


def said(change):
    return {number: (each.name, set(each.faces)) for number, each in change.corrections.people.items()}


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("person-2", 2), ("Person 3", 3), (" 12 ", 4), ("4", 4)])
def test_people_are_named_by_number_or_name(text, number):
    assert say.person_of(STATE, text).id == number


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Ann", "2 people are called 'Ann'; take a number: 2, 3"),
        ("Bob", "names are Ann, Ann, 12"),
        ("", "no person"),
        ("9" * 5000, "no person"),
    ],
)
def test_nobody_and_several_are_sentences(text, sentence):
    with pytest.raises(DataError, match=sentence):
        say.person_of(STATE, text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("/p/a.jpg#2", A2), ("b.jpg", B1), ("p/b.jpg", B1), ("./p/b.jpg#1", B1), ("sub/a.jpg", A3), ("#2.jpg", D1)],
)
def test_faces_are_named_by_photo_and_number(text, found):
    everybody = [A1, A2, A3, B1, D1]
    assert say.face_of(everybody, text, "the album") == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/p/a.jpg", "has 2 faces of the album, from left to right: /p/a.jpg#1, /p/a.jpg#2; say which"),
        ("a.jpg", r"may be /p/a.jpg, /p/sub/a.jpg; say which"),
        ("none.jpg", "there is no face none.jpg in the album"),
        ("b.jpg#2", "there is no face b.jpg#2"),
        ("", "there is no face"),
        ("jpg", "there is no face jpg"),
    ],
)
def test_faces_that_are_not_clear_are_sentences(text, sentence):
    with pytest.raises(DataError, match=sentence):
        say.face_of([A1, A2, A3, B1], text, "the album")


def test_faces_to_choose_from_are_told_from_left_to_right():
    with pytest.raises(DataError, match=r"left to right: /p/a.jpg#1, /p/a.jpg#2; say which"):
        say.face_of([A2, A1], "/p/a.jpg", "the album")


def test_a_link_to_the_photo_names_it(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.touch()
    (tmp_path / "link.jpg").symlink_to(photo)
    assert say.face_of([face(str(photo))], str(tmp_path / "link.jpg"), "x") == face(str(photo))


def test_merging_settles_all_faces_of_both():
    change = say.merge("1", ["2"])(STATE, Corrections())
    assert said(change) == {1: ("Ann", {spot(each) for each in (A1, B1, D1, A2, C1)})}
    assert change.people == {A2: 1, C1: 1}
    assert change.message == "Person 1, Ann are one: Ann."


def test_merging_takes_what_was_said_of_photos_that_are_gone():
    gone = Spot("/gone.jpg", (0.0, 0.0, 9.0, 9.0), "gone")
    change = say.merge("1", ["2"])(STATE, Corrections({2: Settled("Ann", (gone,)), 8: Settled("Zoe", (gone,))}))
    assert gone in change.corrections.people[1].faces
    assert change.corrections.people[8].name == "Zoe"
    assert 2 not in change.corrections.people


def test_splitting_settles_both_sides():
    change = say.split("1", ["b.jpg", "b.jpg#1"])(STATE, Corrections({1: Settled("", (spot(B1),))}))
    assert said(change) == {1: ("", {spot(A1), spot(D1)}), 10: ("", {spot(B1)})}
    assert (change.people, change.person) == ({B1: 10}, 10)


def test_splitting_from_the_unknown_makes_somebody():
    change = say.split("unknown", ["e.jpg"])(STATE, Corrections())
    assert said(change) == {10: ("", {spot(E1)})}


def test_moving_settles_whom_it_is_taken_from_too():
    change = say.move(["c.jpg", "e.jpg"], "1")(STATE, Corrections({2: Settled("Ann", (spot(C1),))}))
    assert said(change) == {1: ("", {spot(each) for each in (A1, B1, D1, C1, E1)}), 2: ("Ann", {spot(A2)})}
    assert change.people == {C1: 1, E1: 1}


def test_who_gives_the_last_face_away_is_gone():
    change = say.move(["c2.jpg"], "1")(STATE, Corrections({4: Settled("12", (spot(C2),))}))
    assert set(change.corrections.people) == {1}


def test_a_name_settles_the_face_that_is_shown():
    change = say.name("1", " Bob ")(STATE, Corrections())
    assert said(change) == {1: ("Bob", {spot(A1)})}
    assert change.people == {}


@pytest.mark.parametrize(
    "correction",
    [
        say.merge("1", ["1"]),
        say.merge("1", ["2", "person-2"]),
        say.merge("1", ["7"]),
        say.split("4", ["c2.jpg"]),
        say.split("1", ["c.jpg"]),
        say.split("7", ["c.jpg"]),
        say.move(["nowhere.jpg"], "1"),
        say.move(["c.jpg"], "7"),
        say.name("1", "\n"),
        say.name("1", "a\x00b"),
        say.name("7", "Ann"),
    ],
)
def test_what_makes_no_sense_is_refused(correction):
    with pytest.raises(DataError):
        correction(STATE, Corrections())
