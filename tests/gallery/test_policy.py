import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.gallery.policy import Enrolment, Policy

scores = st.floats(0, 100)


@given(scores, scores, scores)
def test_a_score_is_refused_or_enrolled(low, high, score):
    policy = Policy(refuse=min(low, high), mark=max(low, high))
    assert (policy.verdict(score) == "") == (score >= min(low, high))


@given(scores, scores, st.floats(0.01, 1), st.floats(0.001, 0.999))
def test_a_policy_is_the_same_after_it_was_kept(low, high, copy, fpir):
    policy = Policy(min(low, high), max(low, high), copy, fpir)
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    "wrong",
    [
        {"refuse": -1},
        {"mark": 101},
        {"refuse": 80, "mark": 70},
        {"refuse": math.nan},
        {"mark": math.nan},
        {"copy": 0},
        {"copy": 1.1},
        {"copy": math.nan},
        {"fpir": 0},
        {"fpir": 1},
        {"fpir": math.nan},
    ],
)
def test_a_policy_out_of_range_is_refused(wrong):
    with pytest.raises(DataError):
        Policy(**wrong)


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"refuse": "x"}', '{"refuse": null}', '{"unknown": 1}', "[" * 100_000]
)
def test_a_text_that_is_no_policy_is_refused(text):
    with pytest.raises(DataError, match="policy in the gallery cannot be read"):
        Policy.from_json(text)


def test_a_policy_that_was_kept_out_of_range_is_refused():
    with pytest.raises(DataError, match="0 to 100"):
        Policy.from_json('{"refuse": 200}')


def test_what_was_refused_or_was_there_is_not_added():
    assert Enrolment("Ann", 3).added
    assert not Enrolment("Ann", None, "too dark").added
    assert not dataclasses.replace(Enrolment("Ann", 3), present=True).added
