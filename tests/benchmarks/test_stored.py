"""Results come back as they were written, and what is none is refused in one sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.benchmarks.result import Curve, Discard, Measure, Result
from magface.benchmarks.stored import read
from magface.errors import DataError

CURVE = Curve((0.0, 1.0), (0.5, 1.0), 2, 3)
DISCARD = Discard((0.0, 0.5), (0.2, 0.1), ((0.1, 0.3), (0.0, 0.2)), "FNMR", "FMR 0.001, cosine >= 0.3", 10)
RESULT = Result("edc", "f00d" * 16, (Measure("EER", 0.1),), {}, curves={"a": CURVE}, discards={"b": DISCARD})


def test_a_result_comes_back(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**RESULT.as_dict(), "model_card": {"name": "mine"}}))
    found = read(path)
    assert (found.model, found.benchmark) == ("mine", "edc")
    assert (found.curves, found.discards) == ({"a": CURVE}, {"b": DISCARD})
    path.write_text(json.dumps({**RESULT.as_dict(), "model_card": None}))
    assert read(path).model == "f00df00df00d"


def damaged(place, value):
    content = json.loads(json.dumps(RESULT.as_dict()))
    *way, last = place
    target = content
    for key in way:
        target = target[key]
    target[last] = value
    return content


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("curves",), []),
        (("curves", "a"), 3),
        (("curves", "a", "fmr"), "0.1"),
        (("curves", "a", "fmr"), [True]),
        (("curves", "a", "tar"), [10**400]),
        (("curves", "a", "tar"), [[0.1]]),
        (("curves", "a", "genuine"), 1.5),
        (("curves", "a", "impostor"), 10**20),
        (("discards", "b", "band"), [[0.1]]),
        (("discards", "b", "band"), [0.1]),
        (("discards", "b", "kind"), None),
        (("discards", "b", "error"), [0.0] * 100_001),
        (("discards", "b"), {}),
    ],
)
def test_damage_is_named(tmp_path, place, value):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(damaged(place, value)))
    with pytest.raises(DataError, match=r"result\.json is damaged: .*evaluate again"):
        read(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"benchmark": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"[]", "no result"),
        (b'{"error": "no"}', "no result"),
        (b'{"benchmark": "lfw", "model": 3}', "no result"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, content, words):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.json is {words}"):
        read(tmp_path / "a.json")


def test_files_that_are_not_there_or_never_end(tmp_path):
    with pytest.raises(DataError, match="check the path"):
        read(tmp_path / "none.json")
    with pytest.raises(DataError, match="check the path"):
        read(tmp_path)
    with (tmp_path / "large").open("wb") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(DataError, match="too large"):
        read(tmp_path / "large")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from(["curves", "discards"]), JSON)
def test_any_content_is_a_result_or_an_error(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"benchmark": "b", "model": "m", key: {"a": value}}))
    with pytest.raises(DataError):
        read(path)
