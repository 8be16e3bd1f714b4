"""Concordance beside scikit-learn and beside pairs that are counted one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from magface.errors import DataError
from magface.metrics.concordance import concordance, resampled


def counted(values, positive, stratum, weight):
    wins = pairs = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive):
            if stratum[i] == stratum[j]:
                pairs += weight[i] * weight[j]
                wins += weight[i] * weight[j] * ((values[i] > values[j]) + (values[i] == values[j]) / 2)
    return wins / pairs if pairs else np.nan


rows = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 2), st.integers(0, 3)), max_size=30)


@given(rows)
def test_pairs_within_a_stratum_are_counted(rows):
    values, positive, stratum, weight = np.array(rows or np.zeros((0, 4)), int).T
    positive = positive.astype(bool)
    expected = counted(values, positive, stratum, weight)
    assert concordance(values, positive, stratum, weight) == pytest.approx(expected, nan_ok=True)


def test_one_stratum_gives_the_area_of_scikit_learn():
    rng = np.random.default_rng(0)
    positive = rng.random(500) < 0.3
    values = np.round(rng.normal(positive, 1), 1)
    weight = rng.integers(1, 4, 500)
    assert concordance(values, positive) == pytest.approx(roc_auc_score(positive, values))
    assert concordance(values, positive, None, weight) == pytest.approx(
        roc_auc_score(positive, values, sample_weight=weight)
    )


def test_what_a_stratum_holds_is_no_merit():
    stratum = np.repeat([0, 1], 100)
    positive = np.random.default_rng(0).random(200) < 0.2 + 0.6 * stratum
    assert concordance(stratum, positive) > 0.7
    assert concordance(stratum, positive, stratum) == 0.5


def test_draws_of_people_are_those_of_their_rows_repeated():
    rng = np.random.default_rng(0)
    person = rng.integers(0, 12, 60)
    positive = rng.random(60) < 0.5
    values = rng.normal(size=(2, 60))
    found = resampled(values, positive, person, repeats=5, seed=3)
    again = np.random.default_rng(3)
    for draw in range(5):
        chosen = np.concatenate([np.flatnonzero(person == who) for who in again.integers(12, size=12)])
        for row in range(2):
            assert found[row, draw] == pytest.approx(roc_auc_score(positive[chosen], values[row, chosen]))


def test_nothing_and_nonsense():
    assert np.isnan(concordance([], []))
    assert np.isnan(concordance([1.0, 2.0], [True, True]))
    with pytest.raises(DataError, match="differ"):
        concordance([1.0], [True, False])
    with pytest.raises(DataError, match="NaN"):
        concordance([np.nan, 1], [True, False])
    with pytest.raises(DataError, match="needs a person"):
        resampled([[1.0, 2.0]], [True, False], [0])
