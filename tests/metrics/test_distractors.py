"""The challenge against the whole matrix of scores."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.geometry import direction
from magface.metrics import distractors as d
from magface.metrics.verification import tar_at_fmr

# Signs of sixteen numbers: exact scores, which are often equal.
signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=16, max_size=16)
people = st.lists(st.tuples(signs, st.integers(0, 2)), min_size=4, max_size=12)
crowds = st.lists(signs, min_size=1, max_size=40)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d, "_ROWS", 7)
        patch.setattr(d, "_COLUMNS", 3)
        patch.setattr(d, "_PIECE", 2)
        yield


def pairs(labels):
    return [(i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j and labels[i] == labels[j]]


@given(people, crowds, st.sets(st.integers(1, 50), min_size=1, max_size=4), st.integers(0, 3))
def test_everything_is_what_the_whole_matrix_gives(probes, crowd, sizes, seed):
    vectors, labels = np.float32([v for v, _ in probes]), np.array([label for _, label in probes])
    matrix = np.float32(crowd)
    sizes, fmrs = sorted(sizes, reverse=True), (0.01, 0.1, 0.5, 0.9)
    found = d.challenge(vectors, labels, matrix, sizes=sizes, fmrs=fmrs, seed=seed)
    place = np.random.default_rng(seed).permutation(len(matrix))
    own, other = vectors @ vectors.T / 16, vectors @ matrix.T / 16
    for size, result in zip(sizes, found.rank_one, strict=True):
        if size > len(matrix):
            assert result.share is result.interval is None
            assert "distractors" in result.reason
            continue
        hits = [own[i, j] > other[i, place < size].max() for i, j in pairs(labels)]
        assert (result.hits, result.trials) == (sum(hits), len(hits))
        assert result.share == sum(hits) / len(hits)
    used = other[:, place < sizes[0]]
    genuine = [own[i, j] for i, j in pairs(labels) if i < j]
    for fmr, point in zip(fmrs, found.points, strict=True):
        assert point == tar_at_fmr(np.float32(genuine), used.ravel(), fmr)


@given(people, crowds)
def test_more_distractors_never_help(probes, crowd):
    vectors, labels = np.float32([v for v, _ in probes]), [label for _, label in probes]
    found = d.challenge(vectors, labels, np.float32(crowd), sizes=range(1, len(crowd) + 1), seed=5)
    shares = [result.share for result in found.rank_one]
    assert shares == sorted(shares, reverse=True)


def crowd_of(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 32)).astype(np.float32)


def probes_of(people, images):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(people), images)
    return (rng.normal(size=(people, 32))[labels] + rng.normal(size=(len(labels), 32))).astype(np.float32), labels


def test_tied_scores_are_accepted_or_rejected_together():
    probes, labels = np.float32([[1, 0], [1, 0], [0, 1]]), [0, 0, 1]
    point = d.challenge(probes, labels, np.float32([[1, 0]] * 9), sizes=[9], fmrs=[0.5]).points[0]
    assert (point.accepted, point.threshold) == (0, np.nextafter(np.float32(1), np.float32(2)))
    assert point.tar == 0


def test_arrays_in_parts_on_the_disk_and_of_half_precision_are_the_same_crowd(tmp_path):
    probes, labels = probes_of(6, 4)
    crowd = crowd_of(100).astype(np.float16)
    whole = d.challenge(probes, labels, crowd, sizes=(10, 100), fmrs=[0.01])
    np.save(tmp_path / "crowd.npy", crowd)
    mapped = np.load(tmp_path / "crowd.npy", mmap_mode="r")
    parts = [mapped[:1], mapped[1:50].astype(np.float32), mapped[50:50], mapped[50:].astype(np.float64)]
    assert d.challenge(probes, labels, mapped, sizes=(10, 100), fmrs=[0.01]) == whole
    assert d.challenge(probes, labels, parts, sizes=(10, 100), fmrs=[0.01]) == whole


def test_lengths_of_embeddings_do_not_matter():
    probes, labels = probes_of(6, 4)
    crowd = crowd_of(100)
    long = d.challenge(8 * probes, labels, np.exp2(np.arange(100) % 9)[:, None].astype(np.float32) * crowd, sizes=[100])
    assert long == d.challenge(probes, labels, crowd, sizes=[100])


def test_the_draw_is_the_seeds():
    probes, labels = probes_of(8, 5)
    shares = [d.challenge(probes, labels, crowd_of(400), sizes=[10], seed=seed).rank_one[0] for seed in (0, 0, 1, 2)]
    assert shares[0] == shares[1]
    assert len({share.hits for share in shares}) > 1


def test_scores_are_never_held(monkeypatch):
    monkeypatch.setattr(d, "_ROWS", 1024)
    monkeypatch.setattr(d, "_COLUMNS", 4096)
    monkeypatch.setattr(d, "_PIECE", 256)
    probes, labels = probes_of(200, 2)
    crowd = crowd_of(40_000)
    tracemalloc.start()
    found = d.challenge(probes, labels, crowd, sizes=[40_000], fmrs=[1e-3, 1e-4])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 40_000 * 4 / 5
    whole = direction(probes) @ direction(crowd).T
    for point in found.points:
        assert point.threshold == pytest.approx(np.sort(whole.ravel())[-point.accepted - 1], abs=1e-6)
        assert point.accepted == point.fmr * whole.size


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"labels": [0, 0]}, "one label"),
        ({"labels": [0, 1, 2, 3]}, "nobody has two probes"),
        ({"probes": np.zeros((0, 32), np.float32)}, "non-empty"),
        ({"probes": np.full((4, 32), np.nan, np.float32)}, "probe 0 holds NaN"),
        ({"distractors": crowd_of(0)}, "no distractor"),
        ({"distractors": []}, "no distractor"),
        ({"distractors": crowd_of(9)[:, :31]}, r"\(N, 32\)"),
        ({"distractors": crowd_of(9).astype(int)}, r"\(N, 32\) floats"),
        ({"distractors": [crowd_of(9), crowd_of(9)[0]]}, r"\(N, 32\)"),
        ({"distractors": [crowd_of(9), crowd_of(3) * np.float32([[1], [1], [np.inf]])]}, "distractor 11 holds NaN"),
        ({"sizes": []}, "at least 1"),
        ({"sizes": [0]}, "at least 1"),
        ({"fmrs": [0]}, "between 0 and 1"),
        ({"fmrs": [math.nan]}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_judged_is_refused(change, word):
    given_ = {"probes": probes_of(2, 2)[0], "labels": [0, 0, 1, 1], "distractors": crowd_of(12), "sizes": [12]}
    with pytest.raises(DataError, match=word):
        d.challenge(**(given_ | change))


def test_a_rate_finer_than_the_scores_is_not_made_up():
    probes, labels = probes_of(2, 2)
    point = d.challenge(probes, labels, crowd_of(12), sizes=[12], fmrs=[1e-6]).points[0]
    assert point.threshold is point.tar is point.interval is None
    assert point.reason == "FMR 1e-06 needs at least 1,000,000 impostor comparisons; there are 48."
