"""The named protocols against loops written from their description, with the folds of scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from magface.errors import DataError
from magface.metrics import protocols
from magface.metrics.protocols import PROTOCOLS, contiguous
from magface.metrics.verification import kfold_accuracy

seeds = st.integers(0, 10_000)


def embedded(seed, pairs=47, size=6):
    """Raw embeddings of both sides, of magnitudes far apart and a mean far from zero, and labels."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.5
    first, second = rng.normal(0.4, 1, (2, pairs, size))
    second[same] = first[same] + rng.normal(0, 0.9, (int(same.sum()), size))
    return first * rng.uniform(1, 40, (pairs, 1)), second * rng.uniform(1, 40, (pairs, 1)), same


def unit(vector):
    return vector / math.sqrt(float(np.dot(vector, vector)))


def squared(a, b):
    return float(sum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True)))


def angular(a, b):
    return math.acos(min(1.0, max(-1.0, float(np.dot(unit(a), unit(b)))))) / math.pi


def script(first, second, same, distance, remove_mean):
    """One fold after the other, one threshold after the other."""
    accuracies = []
    for train, test in KFold(10, shuffle=False).split(first):
        mean = np.mean([*first[train], *second[train]], axis=0) if remove_mean else 0
        found = [distance(a, b) for a, b in zip(first - mean, second - mean, strict=True)]
        best, chosen = -1, None
        for step in range(400):
            hits = sum((found[row] < step * 0.01) == same[row] for row in train)
            if hits > best:
                best, chosen = hits, step * 0.01
        accuracies.append(sum((found[row] < chosen) == same[row] for row in test) / len(test))
    return accuracies


def compared(name, first, second, folds, rejected=None):
    rows, out = np.arange(len(first)), np.zeros(len(first), bool) if rejected is None else rejected
    return PROTOCOLS[name].compare(np.concatenate([first, second]), rows, rows + len(first), folds, out)


@settings(max_examples=10)
@given(seeds)
def test_the_grid_gives_the_number_of_the_script(seed):
    first, second, same = embedded(seed)
    folds = contiguous(len(same))
    for name, distance, mean in [("insightface", squared, False), ("magface-official", angular, True)]:
        found = compared(name, first, second, folds).grid_accuracy(same, folds)
        assert found.per_fold == pytest.approx(script(first, second, same, distance, mean))
        assert found.accuracy == pytest.approx(np.mean(found.per_fold))
        assert found.std == pytest.approx(np.std(found.per_fold))


@given(st.integers(10, 99), st.integers(2, 10))
def test_folds_are_scikit_learns(count, folds):
    ours = contiguous(count, folds)
    for number, (_, test) in enumerate(KFold(folds).split(np.arange(count))):
        assert np.flatnonzero(ours == number).tolist() == test.tolist()


@settings(max_examples=20)
@given(seeds)
def test_exact_thresholds_judge_every_fold_on_its_own_distance(seed):
    first, second, same = embedded(seed)
    folds = contiguous(len(same))
    found = compared("magface-official", first, second, folds).accuracy(same, folds)
    for k in range(10):
        train = folds != k
        mean = np.concatenate([first[train], second[train]]).mean(axis=0)
        scores = [-angular(a, b) for a, b in zip(first - mean, second - mean, strict=True)]
        assert found.per_fold[k] == pytest.approx(kfold_accuracy(scores, same, folds == k).per_fold[1])


@given(seeds)
def test_squared_distance_and_cosine_have_the_same_exact_accuracy(seed):
    first, second, same = embedded(seed)
    folds = contiguous(len(same))
    found = [compared(name, first, second, folds).accuracy(same, folds) for name in ("single", "insightface")]
    assert found[0].per_fold == pytest.approx(found[1].per_fold)


@given(seeds)
def test_thresholds_of_the_grid_are_scores_to_reach(seed):
    first, second, same = embedded(seed)
    folds = contiguous(len(same))
    scores = compared("insightface", first, second, folds)
    found = scores.grid_accuracy(same, folds)
    for k in range(10):
        accepted = scores.judged[folds == k] >= found.thresholds[k]
        assert np.mean(accepted == same[folds == k]) == pytest.approx(found.per_fold[k])


def test_a_distance_on_the_grid_is_not_below_it():
    distance = np.tile([0.5, 0.25], 10)
    same = distance < 0.5
    found = protocols.Compared(-distance, -distance, on_grid=True).grid_accuracy(same, contiguous(20))
    assert found.accuracy == 1
    assert -found.thresholds[0] == pytest.approx(0.26)  # the first that accepts 0.25
    distance[18] = protocols.GRID[26]  # an impostor exactly at the threshold
    found = protocols.Compared(-distance, -distance, on_grid=True).grid_accuracy(same, contiguous(20))
    assert found.per_fold[9] == 1
    assert -distance[18] < found.thresholds[9]
    distance[18] = np.nextafter(protocols.GRID[26], 0)
    found = protocols.Compared(-distance, -distance, on_grid=True).grid_accuracy(same, contiguous(20))
    assert found.per_fold[9] == 0.5
    assert -distance[18] >= found.thresholds[9]


def test_similarity_is_the_cosine_of_what_was_given():
    first, second, same = embedded(1)
    folds = contiguous(len(same))
    expected = [float(np.dot(unit(a), unit(b))) for a, b in zip(first, second, strict=True)]
    for name in PROTOCOLS:
        np.testing.assert_allclose(compared(name, first, second, folds).similarity, expected, atol=1e-12)
    assert compared("single", first, second, folds).grid_accuracy(same, folds) is None


@pytest.mark.parametrize(("name", "farthest"), [("single", 1), ("insightface", 4), ("magface-official", 1)])
def test_rejected_pairs_lie_farthest_apart_and_change_no_other(name, farthest):
    first, second, same = embedded(2)
    out = np.arange(len(same)) % 5 == 0
    folds = contiguous(len(same))
    found = compared(name, np.where(out[:, None], 7, first), second, folds, out)
    alone = compared(name, first[~out], second[~out], folds[~out])
    assert (found.similarity[out] == -1).all()
    assert (found.judged[..., out] == -farthest).all()
    np.testing.assert_allclose(found.judged[..., ~out], alone.judged)


def test_an_embedding_without_direction_is_no_nan():
    first, second = np.zeros((4, 3)), np.ones((4, 3))
    for name in PROTOCOLS:
        assert np.isfinite(compared(name, first, second, [0, 0, 1, 1]).judged).all()


def test_embeddings_of_several_pairs_weight_the_mean_as_often():
    first, second, _ = embedded(3, pairs=8)
    vectors, a, b = np.concatenate([first, second]), np.array([0, 0, 0, 3, 4, 5]), np.array([8, 9, 3, 11, 12, 8])
    folds = np.arange(6) % 2
    found = PROTOCOLS["magface-official"].compare(vectors, a, b, folds, np.zeros(6, bool))
    np.testing.assert_allclose(found.judged, compared("magface-official", vectors[a], vectors[b], folds).judged)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_blocks_make_no_difference(name, monkeypatch):
    first, second, same = embedded(4)
    folds = contiguous(len(same))
    whole = compared(name, first, second, folds)
    monkeypatch.setattr(protocols, "_BLOCK", 7)
    np.testing.assert_allclose(compared(name, first, second, folds).judged, whole.judged)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("wrong", range(5))
def test_shapes_that_do_not_fit_are_refused(name, wrong):
    arguments = [np.ones((3, 2)), [0, 1, 2], [1, 2, 0], [0, 1, 1], [False] * 3]
    arguments[wrong] = arguments[wrong][0]
    with pytest.raises(DataError, match="two embeddings"):
        PROTOCOLS[name].compare(*arguments)


def test_one_fold_is_not_enough():
    with pytest.raises(DataError, match="two folds"):
        compared("magface-official", np.ones((3, 2)), np.ones((3, 2)), [0, 0, 0])
    with pytest.raises(DataError, match="two folds"):
        compared("insightface", np.ones((3, 2)), np.ones((3, 2)), [0] * 3).grid_accuracy([True] * 3, [0, 0, 0])
