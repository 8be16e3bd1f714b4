import dataclasses
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from magface.errors import DataError, ModelError
from magface.gallery import openset
from magface.gallery.openset import NONE, Shift
from magface.models import card as cards
from magface.models import default
from magface.models.card import Comparison, ScoreThreshold, Threshold
from magface.quality import qmagface

CARD, _ = cards.read(default.path())
rates = st.floats(1e-12, 0.4)


def with_thresholds(**points):
    """The card with other thresholds, `fmr=cosine` by their exponent: `e2=0.3` for 0.3 at 1e-2."""
    return dataclasses.replace(
        CARD, thresholds=tuple(Threshold(10.0 ** -int(name[1:]), cosine, 1000) for name, cosine in points.items())
    )


def test_measured_rates_give_measured_thresholds():
    for each in CARD.thresholds:
        assert openset.cosine_at(CARD, each.fmr) == pytest.approx(each.cosine, abs=1e-12)
    for each in CARD.comparison.thresholds:
        assert openset.score_at(CARD, each.fmr) == pytest.approx(each.score, abs=1e-12)


@given(rates, st.floats(0.02, 0.15), st.floats(-0.05, 0.05))
def test_thresholds_of_normal_cosines_are_exact_beyond_what_was_measured(fmr, spread, mean):
    normal = NormalDist(mean, spread)
    card = with_thresholds(**{f"e{k}": -NormalDist(-mean, spread).inv_cdf(10.0**-k) for k in (2, 3, 4)})
    expected = 2 * mean - normal.inv_cdf(fmr)  # symmetric, and exact in the tail
    assert openset.cosine_at(card, fmr) == pytest.approx(expected, abs=1e-9)


def test_a_single_rate_gives_the_line_of_cosines_around_zero():
    card = with_thresholds(e3=0.4)
    assert openset.cosine_at(card, 1e-3) == pytest.approx(0.4)
    assert openset.cosine_at(card, 0.5) == pytest.approx(0.0, abs=1e-12)
    assert openset.cosine_at(card, 1e-6) == pytest.approx(0.4 * 4.7534243 / 3.0902323, rel=1e-6)


def test_the_order_of_the_card_does_not_matter():
    turned = dataclasses.replace(CARD, thresholds=CARD.thresholds[::-1])
    for fmr in (1e-1, 3e-3, 3e-4, 1e-7):
        assert openset.cosine_at(turned, fmr) == openset.cosine_at(CARD, fmr)


@given(rates, rates)
def test_lower_rates_take_higher_thresholds(a, b):
    low, high = sorted((a, b))
    for at in (openset.cosine_at, openset.score_at):
        assert at(CARD, low) >= at(CARD, high)


@given(rates)
def test_the_score_takes_no_more_than_the_cosine_and_the_same_where_it_is_the_cosine(fmr):
    cosine, score = openset.cosine_at(CARD, fmr), openset.score_at(CARD, fmr)
    assert score <= cosine
    if cosine >= CARD.comparison.alpha / CARD.comparison.beta:
        assert score == cosine


def test_a_score_above_the_end_is_reached_by_the_same_pairs_as_that_cosine():
    rng = np.random.default_rng(0)
    cosine, quality = rng.uniform(-1, 1, 10_000), rng.uniform(0, 30, 10_000)
    score = qmagface.score(cosine, quality, CARD.comparison)
    for threshold in (CARD.comparison.alpha / CARD.comparison.beta + 1e-9, 0.6, 0.8):
        np.testing.assert_array_equal(score >= threshold, cosine >= threshold)


def test_a_score_without_thresholds_takes_those_of_the_cosine():
    constants = dataclasses.replace(CARD, comparison=Comparison(0.25, 0.5))
    assert openset.score_at(constants, 1e-3) == openset.cosine_at(CARD, 1e-3)
    one = dataclasses.replace(CARD, comparison=Comparison(0.25, 0.5, (ScoreThreshold(1e-3, -1.0, 10),)))
    assert openset.score_at(one, 1e-2) == openset.cosine_at(CARD, 1e-2)
    with pytest.raises(ModelError, match="search by cosine"):
        openset.threshold(dataclasses.replace(CARD, comparison=None), 0.01, 10, "quality")


def test_two_rates_of_the_score_are_a_line():
    rates = (ScoreThreshold(1e-2, -1.0, 10), ScoreThreshold(1e-3, -0.5, 10))
    two = dataclasses.replace(CARD, comparison=Comparison(0.25, 0.5, rates))
    assert openset.score_at(two, 1e-3) == pytest.approx(-0.5)
    assert openset.score_at(two, 1e-1) == pytest.approx(-1.0 - 0.5 * (2.3263479 - 1.2815516) / (3.0902323 - 2.3263479))


@given(st.floats(1e-6, 0.999), st.integers(1, 10**9))
def test_independent_comparisons_at_the_rate_give_the_fpir(fpir, people):
    fmr = openset.threshold(CARD, fpir, people).fmr
    assert -np.expm1(people * np.log1p(-fmr)) == pytest.approx(fpir, rel=1e-9)


def test_one_person_takes_the_false_match_rate_itself_and_so_does_nobody():
    for people in (0, 1):
        assert openset.threshold(CARD, 1e-3, people).threshold == pytest.approx(CARD.threshold(1e-3).cosine)


def test_a_rate_that_no_number_can_hold_takes_the_lowest_that_one_can():
    assert openset.threshold(CARD, 5e-324, 1000).threshold == openset.threshold(CARD, 5e-324, 10).threshold > 1


def test_more_people_and_lower_rates_take_a_higher_threshold():
    by_people = [openset.threshold(CARD, 0.01, people).threshold for people in (1, 10, 100, 10**4, 10**6)]
    by_rate = [openset.threshold(CARD, fpir, 100).threshold for fpir in (0.5, 0.1, 0.01, 1e-4)]
    assert by_people == sorted(set(by_people))
    assert by_rate == sorted(set(by_rate))


@pytest.mark.parametrize(("people", "fpir"), [(50, 0.1), (400, 0.1), (400, 0.01)])
def test_strangers_of_random_directions_are_identified_at_the_stated_rate(people, fpir):
    exact = {f"e{k}": float(np.sqrt(beta.isf(2 * 10.0**-k, 0.5, 31.5))) for k in (2, 3, 4)}
    rng = np.random.default_rng(0)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(n, 64)) for n in (20_000, people))]
    limit = openset.threshold(with_thresholds(**exact), fpir, people)
    found = np.mean((unit[0] @ unit[1].T).max(axis=1) >= limit.threshold)
    assert found == pytest.approx(fpir, rel=0.15)


def test_a_threshold_says_how_far_it_is_extrapolated():
    within, beyond = openset.threshold(CARD, 0.05, 10), openset.threshold(CARD, 0.01, 1000)
    assert (within.extrapolated, within.beyond) == (1.0, False)
    assert "extrapolated" not in within.how
    assert beyond.extrapolated == pytest.approx(1e-4 / beyond.fmr)
    assert "10 times below what was measured: extrapolated" in beyond.how
    assert "of 1 person takes" in openset.threshold(CARD, 0.01, 1).how
    moved = openset.threshold(CARD, 0.01, 1000, shift=Shift(0.01, 0.1, 0.1, 500, 400))
    assert "moved by 400 searches of the gallery itself" in moved.how
    assert moved.threshold == pytest.approx(beyond.threshold + 0.01)


def test_every_rate_below_the_measured_ones_is_extrapolated():
    lowest = min(each.fmr for each in CARD.thresholds)
    assert not openset.threshold(CARD, lowest, 1).beyond
    assert not openset.threshold(CARD, 1.5 * lowest, 1).beyond
    slightly = openset.threshold(CARD, lowest / 1.5, 1)
    assert slightly.beyond
    assert slightly.extrapolated == pytest.approx(1.5)


def test_a_shift_of_the_score_counts_only_below_its_end():
    shift = Shift(0.01, -0.2, 0.1, 500, 400)
    end = CARD.comparison.alpha / CARD.comparison.beta
    low, high = (openset.threshold(CARD, 0.01, people, "quality").threshold for people in (100, 100_000))
    assert low < end < high
    moved = [openset.threshold(CARD, 0.01, people, "quality", shift).threshold for people in (100, 100_000)]
    assert moved == pytest.approx([low - 0.2, high + 0.01])


@pytest.mark.parametrize("fpir", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_out_of_range_is_refused(fpir):
    with pytest.raises(DataError, match="between 0 and 1"):
        openset.threshold(CARD, fpir, 10)


def test_a_shift_is_the_same_after_it_was_kept():
    shift = Shift(0.0123456789, -0.5, 0.1, 1000, 900, 3)
    assert Shift.from_json(shift.to_json()) == shift
    assert Shift.from_json("") is NONE


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "{}",
        '{"cosine": "x"}',
        Shift(np.nan, 0, 0.1, 1, 1).to_json(),
        "7",
        '{"cosine": 0, "score": 0, "fpir": "x", "people": 1, "searches": 1}',
    ],
)
def test_a_text_that_is_no_shift_is_refused(text):
    with pytest.raises(DataError, match="calibrate it again"):
        Shift.from_json(text)
