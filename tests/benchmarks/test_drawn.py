"""Rates of drawn people are those of repeated pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.benchmarks.drawn import REPEATS, AllPairs, Drawn, draws
from magface.metrics.verification import tar_at_fmr


@pytest.mark.parametrize("fmr", [0.01, 0.05, 0.3])
@given(seed=st.integers(0, 10**6))
def test_rates_of_drawn_people_are_those_of_repeated_pairs(fmr, seed):
    rng = np.random.default_rng(seed)
    person = np.append(np.arange(8), rng.integers(0, 8, 12))
    pairs = AllPairs.of(person)
    scores = rng.normal(pairs.same, 1).round(1).astype(np.float32)
    weight = rng.multinomial(8, np.full(8, 1 / 8))
    copies = np.where(pairs.same, weight[pairs.person[0]], weight[pairs.person[0]] * weight[pairs.person[1]])
    genuine, impostor = (np.repeat(scores[kind], copies[kind]) for kind in (pairs.same, ~pairs.same))
    found = Drawn(scores, pairs, fmr).tar(weight)
    if len(genuine) == 0:
        assert np.isnan(found)
    elif fmr * len(impostor) >= 1:
        assert found == pytest.approx(tar_at_fmr(genuine, impostor, fmr).tar)


def test_people_without_a_row_keep_their_number():
    pairs = AllPairs.numbered(np.array([2, 0, 2]), 4)
    assert pairs.people == 4
    np.testing.assert_array_equal(pairs.templates, [1, 0, 2, 0])
    np.testing.assert_array_equal(pairs.same, [False, True, False])
    np.testing.assert_array_equal(pairs.person, [[2, 2, 0], [0, 2, 2]])
    scores = np.array([0.3, 0.9, 0.1])
    assert Drawn(scores, pairs, 0.5).matched(np.array([1, 5, 2, 5])) == (2, 2)
    assert Drawn(scores, pairs, 0.5).matched(np.array([1, 5, 0, 5])) == (0, 0)


def test_draws_are_the_same_each_time():
    first, second = (np.array(list(draws(7))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (REPEATS, 7)
    assert (first.sum(axis=1) == 7).all()


def test_scores_that_were_not_kept_at_first_are_found(monkeypatch):
    monkeypatch.setattr("magface.benchmarks.drawn._MARGIN", -1000 / (0.05 * 59 * 60) + 0.02)
    rng = np.random.default_rng(0)
    pairs = AllPairs.numbered(np.repeat(np.arange(60), 2), 60)
    scores = rng.normal(pairs.same, 1)
    drawn = Drawn(scores, pairs, 0.05)
    for weight in list(draws(60))[:20]:
        copies = np.where(pairs.same, weight[pairs.person[0]], weight[pairs.person[0]] * weight[pairs.person[1]])
        genuine, impostor = (np.repeat(scores[kind], copies[kind]) for kind in (pairs.same, ~pairs.same))
        assert drawn.tar(weight) == pytest.approx(tar_at_fmr(genuine, impostor, 0.05).tar)


def test_probes_meet_every_entry_of_a_gallery():
    rng = np.random.default_rng(0)
    probes, gallery = rng.integers(0, 8, 30), np.array([0, 1, 2, 3, 4, 5, 5])
    pairs = AllPairs.across(probes, gallery, 9)
    assert len(pairs.same) == 30 * 7
    np.testing.assert_array_equal(pairs.person, [probes[pairs.first], gallery[pairs.second]])
    scores = rng.normal(pairs.same, 1)
    drawn = Drawn(scores, pairs, 0.1)
    for weight in list(draws(9))[:20]:
        copies = np.where(pairs.same, weight[pairs.person[0]], weight[pairs.person[0]] * weight[pairs.person[1]])
        genuine, impostor = (np.repeat(scores[kind], copies[kind]) for kind in (pairs.same, ~pairs.same))
        assert pairs.impostors(weight) == len(impostor)
        if len(genuine):
            assert drawn.tar(weight) == pytest.approx(tar_at_fmr(genuine, impostor, 0.1).tar)
