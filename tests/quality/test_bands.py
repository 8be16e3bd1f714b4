from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.metrics.verification import threshold_at_fmr
from magface.models.card import Bands
from magface.quality import bands


def alike_when_bad(count, seed):
    """Cosines of impostors that resemble each other the more, the worse the pictures are; and their quality."""
    rng = np.random.default_rng(seed)
    quality = rng.uniform(10, 30, count)
    return rng.normal(0.25 - 0.01 * quality, 0.1), quality


def test_rate_is_held_in_each_band_of_others_where_one_threshold_does_not():
    fmr = 1e-2
    impostor, quality = alike_when_bad(200_000, 0)
    found = bands.fit(impostor, quality, fmr)
    assert len(found.cosine) == bands.BANDS
    assert sum(found.impostors) == len(impostor)
    others, their_quality = alike_when_bad(200_000, 1)
    part = np.searchsorted(found.magnitude, their_quality, side="right") - 1
    one = others >= threshold_at_fmr(impostor, fmr)
    ours = others >= bands.threshold(their_quality, found)
    rates = np.array([[accepted[part == band].mean() for band in range(bands.BANDS)] for accepted in (one, ours)]) / fmr
    assert rates[0].max() > 3
    assert rates[0].min() < 0.4
    assert (rates[1] < 1.35).all()
    assert (rates[1] > 0.65).all()


def test_threshold_of_a_band_is_shrunk_as_far_as_bands_differ_by_chance():
    impostor, quality = alike_when_bad(4000, 2)
    fmr = 0.05
    found = bands.fit(impostor, quality, fmr, limit=3)
    every = threshold_at_fmr(impostor, fmr)
    edges = [*found.magnitude, np.inf]
    inside = [impostor[(quality >= low) & (quality < high)] for low, high in pairwise(edges)]
    assert [len(each) for each in inside] == list(found.impostors)
    expected = [fmr * len(each) for each in inside]
    squares = [(np.sum(each >= every) - m) ** 2 - m for each, m in zip(inside, expected, strict=True)]
    variance = sum(squares) / sum(m**2 for m in expected)
    for each, m, threshold in zip(inside, expected, found.cosine, strict=True):
        weight = variance / (variance + 1 / m)
        assert 0.8 < weight < 1
        assert threshold == pytest.approx(weight * threshold_at_fmr(each, fmr) + (1 - weight) * every)


def test_bands_that_differ_by_chance_have_the_one_threshold():
    rng = np.random.default_rng(4)
    impostor, quality = rng.normal(0, 0.1, 50_000), rng.uniform(10, 30, 50_000)
    found = bands.fit(impostor, quality, 1e-2)
    assert len(found.cosine) == bands.BANDS
    assert np.ptp(found.cosine) < 0.15 * np.ptp([threshold_at_fmr(part, 1e-2) for part in np.split(impostor, 10)])


@given(st.lists(st.tuples(st.floats(-1, 0.99), st.integers(0, 4)), min_size=40, max_size=300), st.integers(1, 12))
def test_any_comparisons_give_bands(pairs, limit):
    impostor, quality = np.array(pairs).T
    found = bands.fit(impostor, quality, 0.1, limit=limit)
    assert found.magnitude[0] == 0
    assert sum(found.impostors) == len(pairs)
    assert len(found.cosine) <= min(limit, max(1, len(pairs) // 300))
    assert impostor.min() < min(found.cosine)
    assert max(found.cosine) <= np.nextafter(impostor.max(), np.inf)


def test_few_comparisons_or_one_quality_give_the_one_threshold():
    impostor, quality = alike_when_bad(5000, 3)
    few = bands.fit(impostor, quality, 1e-2)
    same = bands.fit(impostor, np.full(5000, 20.0), 1e-1)
    assert (len(few.cosine), len(same.cosine)) == (1, 1)
    assert few.cosine == (threshold_at_fmr(impostor, 1e-2),)
    assert same.cosine == (threshold_at_fmr(impostor, 1e-1),)


def test_threshold_by_magnitude():
    found = Bands(1e-3, (5.0, 10.0), (0.5, 0.4), (9000, 9000))
    np.testing.assert_array_equal(bands.threshold([[0.0, 9.9], [10.0, np.nan]], found), [[0.5, 0.5], [0.4, np.nan]])
    assert bands.threshold(7.0, found) == 0.5


@pytest.mark.parametrize(
    ("impostor", "quality", "fmr", "said"),
    [
        ([0.1] * 9, [1.0] * 9, 0.1, "10 comparisons"),
        ([0.1, 0.2], [1.0], 0.5, "one cosine and one quality"),
        ([0.1, np.nan], [1.0, 1.0], 0.5, "NaN"),
        ([0.1, 0.2], [1.0, -1.0], 0.5, "negative"),
        ([0.1, 0.2], [1.0, 1.0], 1.0, "between 0 and 1"),
        ([], [], 0.5, "not 0"),
    ],
)
def test_what_cannot_be_fitted_is_named(impostor, quality, fmr, said):
    with pytest.raises(DataError, match=said):
        bands.fit(impostor, quality, fmr)


def test_bands_have_equally_many_comparisons():
    rng = np.random.default_rng(0)
    found = bands.fit(rng.uniform(-1, 1, 9000), rng.permutation(9000) + 10.0, 1e-2, limit=3)
    assert found.magnitude == (0.0, 3010.0, 6010.0)
    assert found.impostors == (3000, 3000, 3000)


def test_a_threshold_is_a_cosine_even_where_all_resemble_each_other():
    assert bands.fit(np.ones(6000), np.arange(6000.0), 1e-2).cosine == (1.0,) * 2


def test_a_false_match_at_the_threshold_itself_counts():
    quality, above = np.arange(6000.0), np.nextafter(0.5, 1)
    impostor = np.where(quality < 3000, 0.1, 0.5)
    impostor[np.r_[:30, 3000:3030]] = above  # as many in either band as one threshold leads to expect
    assert bands.fit(impostor, quality, 1e-2).cosine == (above, above)
