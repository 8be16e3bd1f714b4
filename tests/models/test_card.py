import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import ModelError
from magface.models import card
from magface.models.card import (
    Bands,
    Benchmark,
    Card,
    Comparison,
    Quality,
    Reliability,
    ScoreThreshold,
    Threshold,
)

GRAPH = b"\x3a\x03abc"  # field 7, three bytes
CARD = Card(
    name="tiny",
    version="1",
    licence="Apache-2.0",
    notices="é\n",
    training_data="noise",
    recipe="tiny.toml",
    backbone="tiny",
    template=((38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2)),
    detector="yunet",
    embedding_size=4,
    magnitude_percentiles=tuple(float(level) for level in range(101)),
    quality=Quality(a0=23.0, w=2.6),
    thresholds=(Threshold(1e-2, 0.3, 100), Threshold(1e-3, 0.4, 1000)),
    cluster_threshold=0.35,
    benchmarks=(Benchmark("LFW", 99.5, "%", "magface evaluate lfw"),),
    population="7 faces",
    reliability=(Reliability(1e-3, 0.4, (10.0, 20.0), (0.3, 0.01), (100, 200)),),
    bands=(Bands(1e-3, (0.0, 20.0), (0.5, 0.4), (3000, 4000)),),
    comparison=Comparison(0.07, 0.1, (ScoreThreshold(1e-3, -0.3, 1000),)),
)
TEXT = CARD.to_json()


def test_attach_then_read_gives_the_card_and_the_same_fingerprint():
    model = card.attach(b"\x08\x0a" + GRAPH, CARD)
    found, fingerprint = card.read(model)
    assert dataclasses.replace(found, sha256="") == CARD
    assert found.sha256 == fingerprint
    again = card.attach(model, dataclasses.replace(found, version="2"))
    assert card.read(again) == (dataclasses.replace(found, version="2"), fingerprint)


def test_preprocessing_may_be_missing_but_is_text():
    fields = json.loads(TEXT)
    del fields["preprocessing"]  # as in models that were written before
    assert card.Card.from_json(json.dumps(fields)).preprocessing == ""
    for value, valid in (("BGR, x / 255", True), (3, False), (None, False)):
        text = json.dumps(fields | {"preprocessing": value})
        if valid:
            assert card.Card.from_json(text).preprocessing == value
        else:
            with pytest.raises(ModelError, match="preprocessing must be text"):
                card.Card.from_json(text)


def test_read_takes_a_path(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(card.attach(GRAPH, CARD))
    assert card.read(path)[0].name == "tiny"
    assert card.read(str(path))[0].name == "tiny"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GRAPH, "has no card"),
        (b"", "not an ONNX model"),
        (b"\x08\x0a", "not an ONNX model"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "not an ONNX model"),
        (b"\xff" * 40, "not an ONNX model"),
        (b"\x3b" + GRAPH, "not an ONNX model"),
        (GRAPH + card._encoded(14, card._encoded(1, card.KEY) + card._encoded(2, b"{")), "not JSON"),
        (GRAPH + card._encoded(14, card._encoded(1, card.KEY) + card._encoded(2, b"[" * 100_000)), "not JSON"),
        (GRAPH + card._encoded(14, card._encoded(1, card.KEY) + card._encoded(2, b"\xff\xfe{")), "not JSON"),
        (GRAPH + card._encoded(14, card._encoded(1, card.KEY) + card._encoded(2, b"9" * 5000)), "not JSON"),
        (GRAPH + card._encoded(14, card._encoded(1, card.KEY) + card._encoded(2, b"1" * (1 << 21))), "1 MB"),
        (GRAPH + 2 * card._encoded(14, card._encoded(1, card.KEY) + card._encoded(2, b"{}")), "more than one"),
    ],
)
def test_what_is_not_a_model_with_a_card_is_refused(content, message):
    with pytest.raises(ModelError, match=message):
        card.read(content)


def test_a_changed_model_is_refused():
    model = card.attach(GRAPH, CARD)
    with pytest.raises(ModelError, match="hash"):
        card.read(model.replace(b"abc", b"abd"))
    with pytest.raises(ModelError, match="hash"):
        card.read(model + b"\x08\x0a")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "no.onnx"):
        with pytest.raises(ModelError, match="check the path"):
            card.read(path)


def test_a_card_of_more_than_a_megabyte_is_not_attached():
    with pytest.raises(ModelError, match="1 MB"):
        card.attach(GRAPH, dataclasses.replace(CARD, notices="x" * (1 << 20)))


@given(st.binary(max_size=300))
def test_random_bytes_give_model_errors_only(content):
    for hostile in (content, GRAPH + content, card.attach(GRAPH, CARD)[: len(content) * 20] + content):
        with pytest.raises(ModelError):
            card.read(hostile)


@given(st.data())
def test_a_changed_byte_never_gives_another_model(data):
    model = bytearray(card.attach(GRAPH, CARD))
    position = data.draw(st.integers(0, len(model) - 1))
    model[position] = data.draw(st.integers(0, 255))
    try:
        _, fingerprint = card.read(bytes(model))
    except ModelError:
        return
    assert fingerprint == card.read(card.attach(GRAPH, CARD))[1]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-(10**400), 10**400)
    | st.text(max_size=5)
    | st.just([0.0] * 101),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a0", "w", "fmr", "x"]), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(TEXT))), VALUES)
def test_a_card_with_any_value_in_a_field_is_valid_or_refused(field, value):
    fields = json.loads(TEXT)
    fields[field] = value
    try:
        found = Card.from_json(json.dumps(fields))
    except ModelError:
        return
    assert Card.from_json(found.to_json()) == found


@given(VALUES)
def test_json_that_is_no_card_is_refused(value):
    with pytest.raises(ModelError):
        Card.from_json(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        {"embedding_size": 0},
        {"embedding_size": True},
        {"embedding_size": 10**400},
        {"cluster_threshold": 2.0},
        {"cluster_threshold": float("nan")},
        {"magnitude_percentiles": tuple(range(100, -1, -1))},
        {"magnitude_percentiles": (1.0,) * 100},
        {"template": ((1.0, 2.0),) * 4},
        {"template": ((1.0, 200.0),) * 5},
        {"thresholds": ()},
        {"quality": {"a0": 1.0, "w": 1.0}},
        {"name": ""},
        {"licence": 3},
    ],
)
def test_fields_are_held_to_type_and_range(change):
    with pytest.raises(ModelError, match=next(iter(change))):
        dataclasses.replace(CARD, **change)


def test_cards_without_the_later_fields_are_read():
    fields = json.loads(TEXT)
    for name in ("population", "reliability", "bands", "comparison"):
        del fields[name]
    found = Card.from_json(json.dumps(fields))
    assert (found.population, found.reliability, found.bands, found.comparison) == ("", (), (), None)
    assert found == dataclasses.replace(CARD, population="", reliability=(), bands=(), comparison=None)


LISTS = ([], 1.0, None, "x", {}, ["x"], [None], [True], [[1.0]], [1.0], [1.0, 2.0, 3.0])
NUMBERS = ("x", None, True, [], {}, 10**400, float("nan"), float("inf"))
RATES = (0, -0.1, 1.5)


@pytest.mark.parametrize(
    ("field", "key", "values"),
    [
        *[(field, "fmr", (*NUMBERS, *RATES)) for field in ("reliability", "bands")],
        ("reliability", "cosine", (*NUMBERS, 1.1, -1.1)),
        *[(field, "magnitude", (*LISTS, [2.0, 1.0], [1.0, 1.0], [-1.0, 1.0])) for field in ("reliability", "bands")],
        ("reliability", "fnmr", (*LISTS, [0.1, 0.2], [1.1, 0.1], [0.1, -0.1], [0.1, float("nan")])),
        ("reliability", "genuine", (*LISTS, [0, 1], [1.5, 1], [True, 1], [10**400, 1])),
        ("bands", "cosine", (*LISTS, 0.4, [1.1, 0.4], [0.5, -1.1], [0.5, float("nan")])),
        ("bands", "impostors", (*LISTS, [0, 1], [1.5, 1], [True, 1], [10**400, 1])),
        *[("comparison", key, (*NUMBERS, 0, -0.1)) for key in ("alpha", "beta")],
        ("comparison", "thresholds", (1.0, None, "x", {}, ["x"], [None], [[1.0]], [{}], [{"fmr": 0.1}])),
    ],
)
def test_measures_by_quality_are_held_to_type_length_range_and_order(field, key, values):
    for value in values:
        fields = json.loads(TEXT)
        (fields[field] if field == "comparison" else fields[field][0])[key] = value
        with pytest.raises(ModelError, match=field):
            Card.from_json(json.dumps(fields))


@pytest.mark.parametrize("field", ["reliability", "bands", "comparison"])
def test_measures_by_quality_have_their_fields_and_no_others(field):
    whole = json.loads(TEXT)[field]
    entry = whole if field == "comparison" else whole[0]
    for key in set(entry) - {"thresholds"}:
        for changed in ({name: value for name, value in entry.items() if name != key}, {**entry, "colour": 1}):
            fields = json.loads(TEXT) | {field: changed if field == "comparison" else [changed]}
            with pytest.raises(ModelError, match=rf"{field}.*(lacks {key}|unknown fields: colour)"):
                Card.from_json(json.dumps(fields))


def test_thresholds_of_the_score_are_numbers_of_any_sign():
    assert Card.from_json(TEXT).comparison.thresholds[0].score == -0.3
    fields = json.loads(TEXT)
    del fields["comparison"]["thresholds"]  # as published constants come
    assert Card.from_json(json.dumps(fields)).comparison.thresholds == ()
    for key, value in (("score", float("nan")), ("score", "x"), ("fmr", 0), ("impostors", 0)):
        fields = json.loads(TEXT)
        fields["comparison"]["thresholds"][0][key] = value
        with pytest.raises(ModelError, match=rf"comparison.thresholds.{key}"):
            Card.from_json(json.dumps(fields))


def test_an_entry_is_found_by_its_rate():
    for entries in (CARD.reliability, CARD.bands, CARD.comparison.thresholds, CARD.thresholds):
        assert card.at(entries, 0.001 + 1e-12) is entries[-1]
        assert card.at(entries, 0.02) is None


def test_unknown_and_missing_fields_are_named():
    with pytest.raises(ModelError, match="unknown fields: colour"):
        Card.from_json(TEXT.replace('{"back', '{"colour": 1, "back', 1))
    with pytest.raises(ModelError, match="quality lacks w"):
        Card.from_json(TEXT.replace('"w": 2.6', '"a0": 2.6').replace('"a0": 23.0, ', ""))


def test_threshold_is_found_by_its_rate():
    assert CARD.threshold(0.001).cosine == 0.4
    with pytest.raises(ModelError, match=r"no threshold at FMR 0\.0001; it has 0\.01, 0\.001"):
        CARD.threshold(1e-4)
