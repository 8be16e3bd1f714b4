"""Thresholds picked again: against the plain way, level by level, and against the official script's procedure."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.metrics.repicked import Places, Repicked, allowed, edc_repicked
from magface.metrics.verification import threshold_at_fmr


def plain(genuine, impostor, genuine_q, impostor_q, fmr, levels):
    """Every level on its own: what is kept, sorted."""
    ordered = np.sort(np.concatenate([genuine_q, impostor_q]))
    rates = []
    for level in levels:
        lowest = ordered[math.floor(level * len(ordered) + 1e-9)]
        kept, others = genuine[genuine_q >= lowest], impostor[impostor_q >= lowest]
        threshold = threshold_at_fmr(others, fmr) if len(others) else None
        rates.append(math.nan if threshold is None or not len(kept) else np.mean(kept < threshold))
    return rates


ROWS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=40)


@given(ROWS, ROWS, st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9]), st.integers(1, 60))
def test_every_level_is_the_plain_way(genuine, impostor, fmr, count):
    (a, p, _), (b, q, _) = (np.array(rows, float).T for rows in (genuine, impostor))
    levels = np.arange(count) / count
    np.testing.assert_allclose(edc_repicked(a, b, p, q, fmr, levels).error, plain(a, b, p, q, fmr, levels))


@given(ROWS, ROWS, st.sampled_from([0.1, 0.3, 0.5]))
def test_weights_are_copies(genuine, impostor, fmr):
    score, quality, weight = np.array(genuine + impostor).T
    same = np.arange(len(score)) < len(genuine)
    levels = np.arange(30) / 30
    rows = np.repeat(np.arange(len(score)), weight)
    a, b = rows[same[rows]], rows[~same[rows]]
    if len(a) and len(b):
        found = Repicked(Places(score * 1.0, same), quality).error(fmr, levels, weight * 1.0)
        expected = plain(score[a], score[b] * 1.0, quality[a], quality[b], fmr, levels)
        np.testing.assert_allclose(found, expected)


def official(distance, same, quality):
    """What the official script does at each of its levels, as its documentation describes it: of the comparisons left,
    sorted by distance, the impostor at a thousandth of the list is the threshold, and what is nearer is accepted.
    """
    order = np.argsort(quality)
    rates = []
    for level in np.arange(20) / 20:
        left = order[int(level * len(order) + 1e-9) :]
        mates, others = distance[left][same[left]], np.sort(distance[left][~same[left]])
        place = len(others) - 1
        for _ in range(3):
            place = int(place / 10)
        rates.append(1 - np.mean(mates < others[place]))
    return np.array(rates)


def test_levels_of_the_official_script():
    rng = np.random.default_rng(0)
    same = rng.random(61_000) < 0.3
    cosine = np.clip(np.where(same, rng.normal(0.5, 0.2, len(same)), rng.normal(0, 0.15, len(same))), -1, 1)
    quality = cosine * same + rng.normal(0, 0.3, len(same))
    found = edc_repicked(cosine[same], cosine[~same], quality[same], quality[~same], 1e-3)
    others = [np.sum(~same & (quality >= np.sort(quality)[int(level * len(same))])) for level in found.discarded]
    assert all(count % 1000 for count in others)  # else the script accepts one impostor fewer
    told = np.array(others) >= 1000
    assert 10 < sum(told) < 20
    np.testing.assert_allclose(found.error[told], official(np.arccos(cosine) / np.pi, same, quality)[told], atol=1e-12)
    assert np.isnan(found.error[~told]).all()  # the script accepts no impostor there and goes on


def test_without_discarding_it_is_the_plain_rate():
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(2, 1, 500), rng.normal(0, 1, 1000)
    curve = edc_repicked(genuine, impostor, genuine, rng.random(1000), 1e-2)
    assert curve.error[0] == np.mean(genuine <= np.sort(impostor)[-11])
    assert len(curve.error) == 20


def test_it_is_nan_where_too_few_impostors_are_left():
    curve = edc_repicked([0.9, 0.8], [0.1, 0.2], [2, 3], [1, 1], 0.5, discarded=[0.0, 0.5])
    assert curve.error[0] == 0
    assert math.isnan(curve.error[1])


@pytest.mark.parametrize("fmr", [0, 1, -0.1, math.nan])
def test_rates_out_of_range_are_refused(fmr):
    with pytest.raises(DataError, match="between 0 and 1"):
        edc_repicked([0.9], [0.1], [1], [1], fmr)


@given(st.integers(1, 5000), st.integers(1, 999))
def test_so_many_impostors_may_be_accepted(impostors, thousandths):
    fmr = thousandths / 1000
    accepted = allowed(impostors, fmr)
    assert accepted / impostors <= fmr < (accepted + 1) / impostors


@pytest.mark.parametrize(
    ("impostors", "fmr", "accepted"),
    [
        (100, 0.29, 29),
        (3, np.nextafter(1 / 3, 0), 0),
        (6, np.nextafter(1 / 3, 0), 1),
        (13, np.nextafter(3 / 13, 0), 2),
        (10, 0.1, 1),
        (0, 0.5, 0),
    ],
)
def test_as_many_are_allowed_as_keep_the_rate_itself_whatever_its_product_is_rounded_to(impostors, fmr, accepted):
    assert allowed(impostors, float(fmr)) == accepted


def test_levels_that_rounding_left_below_a_pair_discard_it_and_the_best_pairs_stay():
    quality = np.repeat(np.arange(50.0), 2)  # a genuine pair and an impostor pair of each
    genuine, impostor = (np.arange(50) != 14) * 1.0, np.linspace(0.1, 0.2, 50)
    curve = edc_repicked(genuine, impostor, quality[::2], quality[::2], 0.5, [0, 0.28, 0.3, np.nextafter(1, 0)])
    assert curve.error[:3] == pytest.approx([1 / 50, 1 / 36, 0])
    assert np.isnan(curve.error[3])  # of one impostor half cannot be accepted
    assert 0.29 * 100 < 29
    genuine, quality = (np.arange(58) != 28) * 1.0, np.arange(100.0)  # the wrong one is the 29th
    curve = edc_repicked(genuine, np.full(42, 0.5), quality[:58], quality[58:], 0.5, [0, 0.28, 0.29])
    assert curve.error == pytest.approx([1 / 58, 1 / 30, 0])
