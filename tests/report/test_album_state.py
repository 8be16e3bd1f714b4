"""What an album knows survives writing and reading; anything else in its files is one sentence."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.report.album_state import (
    AlbumFace,
    Corrections,
    Person,
    Settings,
    Settled,
    Spot,
    State,
    checked_name,
    find_spots,
    labels_of,
    load_corrections,
    load_state,
    load_undo,
    save_corrections,
    save_state,
    save_undo,
)

numbers = st.floats(-1e6, 1e6, width=32)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
boxes = st.tuples(numbers, numbers, numbers, numbers)
faces = st.builds(AlbumFace, text, st.integers(1, 99), boxes, numbers, numbers, text, st.booleans())
names = st.one_of(st.just(""), st.text("abü /\\.<>\U0001f600\u200d", min_size=1, max_size=300).map(str.strip))
people = st.lists(
    st.builds(Person, st.integers(1, 50), names, st.lists(faces, min_size=1, max_size=3).map(tuple)),
    max_size=4,
    unique_by=lambda person: person.id,
).map(tuple)
manners = st.builds(
    Settings, text, text, st.floats(-1, 1), st.booleans(), text, numbers, st.sampled_from(["link", "copy", "none"])
)
states = st.builds(State, manners, people, st.lists(faces, max_size=3).map(tuple), st.integers(50, 60))
spots = st.builds(Spot, text, boxes, text)
said = st.dictionaries(
    st.integers(1, 50), st.builds(Settled, names, st.lists(spots, max_size=3).map(tuple)), max_size=4
).map(Corrections)


@given(states, said)
def test_what_is_written_is_read(tmp_path_factory, state, corrections):
    folder = tmp_path_factory.mktemp("album")
    assert load_state(folder) is None
    assert load_corrections(folder) == Corrections()
    save_state(folder, state)
    save_corrections(folder, corrections)
    save_undo(folder, state, corrections)
    assert load_state(folder) == state
    assert load_corrections(folder) == corrections
    assert load_undo(folder) == (state, corrections)


def whole():
    face = AlbumFace("/a.jpg", 1, (0.0, 0.0, 9.0, 9.0), 50.0, 9.0, "c.jpg", False)
    manner = Settings("m", "model 1", 0.4, False, "", 35.0, "link")
    return State(manner, (Person(1, "Ann", (face,)),), (replace(face, face=2),), 1)


def places(value, path=()):
    """Every place in a JSON document."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


@given(st.data())
def test_any_other_value_in_any_place_is_a_state_or_a_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("album")
    spot = Spot("/a.jpg", (0.0, 0.0, 9.0, 9.0), "c.jpg")
    save_state(folder, whole())
    save_corrections(folder, Corrections({1: Settled("Ann", (spot,))}))
    name = data.draw(st.sampled_from(["people.json", "corrections.json"]))
    document = json.loads((folder / name).read_text())
    *path, last = data.draw(st.sampled_from(list(places(document))[1:]))
    inner = document
    for key in path:
        inner = inner[key]
    inner[last] = data.draw(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([]), st.just({}))
    )
    (folder / name).write_text(json.dumps(document))
    try:
        state, corrections = load_state(folder), load_corrections(folder)
    except DataError as error:
        assert f"{name} " in str(error)  # noqa: PT017 either is right
    else:
        save_state(folder, state)
        save_corrections(folder, corrections)
        assert (load_state(folder), load_corrections(folder)) == (state, corrections)


@pytest.mark.parametrize("name", ["", "  ", "x" * 501, "a\nb", "a\x1b[31mb", "a\u2028b", "\ud800"])
def test_names_that_move_a_cursor_or_have_no_end_are_refused(name):
    with pytest.raises(DataError, match="name"):
        checked_name(name)


@pytest.mark.parametrize(
    "name", ["x" * 500, "../..", "a/b\\c", "CON", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "."]
)
def test_any_other_name_is_a_name(name):
    assert checked_name(f" {name} ") == name


def spot(photo, left, crop):
    return Spot(photo, (left, 0.0, left + 10.0, 10.0), crop)


def test_a_face_is_found_by_its_pixels_first_and_by_its_place_at_last():
    sought = spot("a", 0, "pixels")
    same, copy, elsewhere = spot("a", 0, "pixels"), spot("b", 0, "pixels"), spot("a", 3, "others")
    far = spot("a", 6, "others")
    for there, exact, row in (
        ([copy, same], True, 1),
        ([elsewhere, copy], False, 1),
        ([elsewhere], False, 0),
        ([elsewhere], True, -1),
        ([far], False, -1),
        ([], False, -1),
        ([far, elsewhere], False, 1),
        ([spot("a", 30, "pixels"), copy], True, 1),  # two faces of one picture
    ):
        assert find_spots([sought], there, exact=exact).tolist() == [row]


def test_who_is_named_last_has_the_face():
    here = [spot("a", 0, "x"), spot("b", 0, "y")]
    labels = labels_of([(4, here), (7, here[:1])], here, exact=True)
    np.testing.assert_array_equal(labels, [7, 4])
