import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.gallery.records import Entry, Settings, check_name

VECTOR = np.ones(4, np.float32)


@given(st.text(max_size=600))
def test_a_name_is_printable_and_has_no_space_around_it(text):
    fine = 1 <= len(text) <= 500 and text == text.strip() and all(letter.isprintable() for letter in text)
    try:
        check_name(text, "a person")
    except DataError:
        assert not fine
    else:
        assert fine
        text.encode()


@pytest.mark.parametrize("name", ["", " ", "a ", "\u00a0a", "a\nb", "a\x00b", "\ud800", "a\u202eb", "x" * 501])
def test_an_entry_without_a_name_is_refused(name):
    with pytest.raises(DataError, match="name of a person"):
        Entry(name, VECTOR, 50)


@pytest.mark.parametrize(
    "vector", [np.zeros(4), np.full(4, np.nan), np.array([1, np.inf]), np.ones((2, 2)), np.ones(0)]
)
def test_an_entry_without_a_direction_is_refused(vector):
    with pytest.raises(DataError, match="the embedding of Ann"):
        Entry("Ann", vector, 50)


@pytest.mark.parametrize("factor", [3e38, 1e13, 1e-13, 1e-44])
def test_an_entry_of_no_possible_length_is_refused(factor):
    with pytest.raises(DataError, match="too long or too short"):
        Entry("Ann", VECTOR * np.float32(factor), 50)


@pytest.mark.parametrize("score", [-1, 101, np.nan, np.inf])
def test_a_score_out_of_range_is_refused(score):
    with pytest.raises(DataError, match="quality of a face of Ann"):
        Entry("Ann", VECTOR, score)


@pytest.mark.parametrize("box", [(0, 0, 1, np.nan), (0, 0, np.inf, 1), (0, 0, 1), (0, 0, 1, 1, 1), "abcd"])
def test_a_box_that_is_none_is_refused(box):
    with pytest.raises(DataError, match="box of a face of Ann"):
        Entry("Ann", VECTOR, 50, box=box)


def test_a_box_of_any_numbers_is_four_floats():
    assert Entry("Ann", VECTOR, 50, box=np.array([1, 2, 3, 4], np.float32)).box == (1.0, 2.0, 3.0, 4.0)
    assert Entry("Ann", VECTOR, 50, box=[1, 2, 3, 4]).box == (1.0, 2.0, 3.0, 4.0)


def test_a_time_that_is_none_is_refused():
    with pytest.raises(DataError, match="time"):
        Entry("Ann", VECTOR, 50, time=np.nan)
    assert Entry("Ann", VECTOR, 50).time > 1.7e9


def test_vectors_become_float32():
    assert Entry("Ann", [1, 2, 3], 50).vector.dtype == np.float32


@pytest.mark.parametrize(
    "wrong", [{"index": "fast"}, {"precision": "f8"}, {"recall": 0}, {"recall": 1.1}, {"recall": np.nan}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        Settings(**wrong)
