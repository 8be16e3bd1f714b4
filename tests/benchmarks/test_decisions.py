"""Ways to decide, on embeddings whose quality says what must come out."""

import re
from itertools import combinations

import numpy as np
import pytest

from magface.benchmarks import decisions
from magface.benchmarks.drawn import AllPairs
from magface.benchmarks.result import Result
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError
from magface.geometry import cosine, magnitude
from magface.metrics.verification import tar_at_fmr
from magface.models.card import Comparison
from magface.quality import qmagface


@pytest.fixture
def made(monkeypatch):
    """An evaluation of given embeddings of given people."""

    def evaluate(vectors, labels, **options) -> Result:
        names = [f"p{label:03d}" for label in labels]
        faces = FaceSet.of([Record(f"{i}.png", name, Held(b"")) for i, name in enumerate(names)])
        embeddings = decisions.Embeddings(np.asarray(vectors, np.float32), "a network")
        monkeypatch.setattr(decisions, "embed", lambda _, used, *__, **___: (used, embeddings))

        class Network:
            fingerprint = "a network"

        return decisions.evaluate(Network(), faces, **options)

    monkeypatch.setattr("magface.benchmarks.drawn.REPEATS", 40)
    return evaluate


def people(count=60, images=8, loss=2.0, seed=0):
    """Embeddings that are the noisier the shorter they are, where `loss` is above 0."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), images)
    bad = rng.beta(1, 2, len(labels))[:, None]
    vectors = rng.normal(size=(count, 32))[labels] + rng.normal(size=(len(labels), 32)) * (0.4 + loss * bad)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * (30 - 20 * bad), labels


def test_rates_are_those_of_all_pairs_of_each_fold(made):
    vectors, labels = people()
    found = made(vectors, labels, seed=3)
    fold = np.random.default_rng(3).permutation(60) % decisions.FOLDS
    matched, genuine, impostor = 0.0, 0, 0
    for k in range(decisions.FOLDS):
        rows = np.flatnonzero(fold[labels] == k)
        first, second = np.triu_indices(len(rows), 1)
        scores = cosine(vectors[rows[first]], vectors[rows[second]]).astype(np.float32)
        same = labels[rows[first]] == labels[rows[second]]
        matched += tar_at_fmr(scores[same], scores[~same], 1e-2).tar * same.sum()
        genuine, impostor = genuine + same.sum(), impostor + np.sum(~same)
    assert found["pairs: cosine: FNMR@FMR=0.01"] == pytest.approx(1 - matched / genuine, abs=2e-3)
    assert (found.counts["genuine pairs"], found.counts["impostor pairs"]) == (genuine, impostor)
    assert found.counts["people"] == 60
    assert found.counts["genuine pairs, templates"] > 0


@pytest.fixture
def folds():
    """Three folds of people; genuine cosines fall with quality by `loss`, impostor ones rise by `alike`."""

    def make(loss=0.0, alike=0.0):
        person = np.repeat(np.arange(120), 4)
        for k in range(3):
            rng = np.random.default_rng(k)
            pairs = AllPairs.numbered(person[person % 3 == k], 120)
            bad = rng.uniform(0, 1, len(pairs.same))
            scores = rng.normal(np.where(pairs.same, 0.7 - loss * bad, alike * bad), 0.1).astype(np.float32)
            yield decisions._Fold(pairs, scores, scores, (30 - 20 * bad).astype(np.float32))

    return lambda **options: list(make(**options))


def test_gain_is_measured_on_the_same_draws(folds):
    ways = {"cosine": decisions._cosine, "quality-aware": decisions._aware, "quality-aware, line": decisions._line}
    measures = {m.name: m for m in decisions._measured("faces", folds(loss=0.5), ways)}
    for way in list(ways)[1:]:
        rate, plain = (measures[f"faces: {each}: FNMR@FMR=0.01"] for each in (way, "cosine"))
        difference = measures[f"faces: {way} minus cosine: FNMR@FMR=0.01"]
        assert difference.value == rate.value - plain.value
        assert difference.value < -0.01
        assert difference.interval[0] <= difference.value <= difference.interval[1] < 0
        assert np.diff(difference.interval) < np.diff(plain.interval)
        finer = [measures[f"faces: {each}: FNMR@FMR=0.001"].value for each in ("cosine", way)]
        changed = measures[f"faces: {way}: genuine decisions that change"]
        won, lost = (int(re.search(rf"(\d+) {what}", changed.note)[1]) for what in ("won", "lost"))
        total = int(re.match(r"of (\d+) ", changed.note)[1])
        assert (won - lost) / total == pytest.approx(finer[0] - finer[1])
        assert (won + lost) / total == pytest.approx(changed.value)
        assert won > lost
        told = measures[f"faces: {way}: alpha / beta"]
        assert 0 < told.value < 1
        assert told.note.count("alpha") == decisions.FOLDS


def test_probes_are_compared_with_templates_of_their_other_images(made):
    vectors, labels = people()
    embeddings = decisions.Embeddings(vectors)
    fold = np.arange(60) % decisions.FOLDS
    folds = decisions._gallery(embeddings, labels, fold, 0)
    for k, found in enumerate(folds):
        assert (found.pairs.people, found.same.sum()) == (60, 20 * 4)
        np.testing.assert_array_equal(fold[np.unique(found.pairs.person)], k)
        person = np.unique(found.pairs.person)[3]
        rows = np.flatnonzero(labels == person)
        own = (found.pairs.person[0] == person) & found.same
        # of all ways to halve the images of a person, one gives these cosines with the sum of the other half
        halves = [list(half) for half in combinations(rows, 4)]
        expected = [
            np.sort(cosine(vectors[half], vectors[[row for row in rows if row not in half]].sum(0))) for half in halves
        ]
        assert min(np.abs(each - np.sort(found.cosine[own])).max() for each in expected) < 1e-5


def test_nothing_changes_where_no_constants_help(made, monkeypatch):
    monkeypatch.setattr(qmagface, "search", lambda *_: "no constants.")
    found = made(*people(loss=0.0))
    difference = next(m for m in found.measures if m.name == "pairs: quality-aware minus cosine: FNMR@FMR=0.01")
    assert (difference.value, difference.interval) == (0, (0, 0))
    assert found["pairs: quality-aware: genuine decisions that change"] == 0
    told = next(m for m in found.measures if m.name == "pairs: quality-aware: alpha / beta")
    assert told.value is None
    assert told.note == "fold 1: no constants.; fold 2: no constants.; fold 3: no constants."


def test_constants_come_from_pairs_of_the_other_folds(made, monkeypatch):
    vectors, labels = people()
    seen = []

    def search(scores, quality, same, _fmrs):
        seen.append((len(scores), quality))
        return Comparison(0.05, 0.1)

    monkeypatch.setattr(qmagface, "search", search)
    made(vectors, labels, seed=3)
    fold = np.random.default_rng(3).permutation(60) % decisions.FOLDS
    lengths = magnitude(vectors.astype(np.float32))
    for k, (count, quality) in enumerate(seen[: decisions.FOLDS]):
        sizes = [np.sum(fold[labels] == other) for other in range(decisions.FOLDS) if other != k]
        assert count == sum(size * (size - 1) // 2 for size in sizes)
        allowed = lengths[fold[labels] != k]
        assert np.isin(quality, allowed).all()
    assert len(seen) == 3 * decisions.FOLDS


def test_bands_hold_the_rate_where_one_threshold_does_not(folds):
    folds = folds(alike=0.2)
    others = [decisions._Others([each for each in folds if each is not judged]) for judged in folds]
    one, ours = (
        decisions._by_quality(folds, others, "way", way, 1e-2) for way in (decisions._cosine, decisions._by_band)
    )
    assert one.value > 0.02
    assert ours.value < 0.014
    rates = [float(rate) for rate in ours.note.split("FMR ")[1].split(";")[0].split(", ")]
    assert len(rates) == decisions.PARTS
    assert max(rates) == pytest.approx(ours.value, rel=0.05)
    assert min(rates) > 0.007


def test_what_cannot_be_measured_is_said(made):
    few = made(*people(count=30))
    untold = next(m for m in few.measures if m.name == "pairs: FNMR@FMR=0.0001")
    assert (untold.value, "50,000 pairs" in untold.note) == (None, True)
    alone = made(*people(count=150, images=3))
    untold = next(m for m in alone.measures if m.name == "templates: FNMR")
    assert (untold.value, "4" in untold.note) == (None, True)
    with pytest.raises(DataError, match="Take more people"):
        made(*people(count=3))
    with pytest.raises(DataError, match="share"):
        made(*people(), share=1.5)


def test_images_are_drawn_from_people_within_bounds(made, monkeypatch):
    monkeypatch.setattr(decisions, "IMAGES", 100)
    monkeypatch.setattr(decisions, "OF_A_PERSON", 7)
    _, labels = people(count=40, images=9)
    names = [f"p{label:03d}" for label in labels]
    faces = FaceSet.of([Record(f"{i}.png", name, Held(b"")) for i, name in enumerate(names)])
    used = decisions._drawn(faces, 0)
    assert len(used) == 98
    assert set(np.bincount(used.labels)) <= {0, 7}
    assert decisions._drawn(faces, 0).names == used.names
    assert decisions._drawn(faces, 1).names != used.names
    monkeypatch.setattr(decisions, "IMAGES", 1000)
    monkeypatch.setattr(decisions, "OF_A_PERSON", 100)
    assert decisions._drawn(faces, 0).names == faces.names


def test_intervals_hold_95_percent():
    assert decisions._interval(np.append(np.arange(101.0), np.nan)) == pytest.approx((2.5, 97.5))


def test_images_may_be_as_many_as_the_bound(monkeypatch):
    faces = FaceSet.of([Record(f"{i}.png", f"p{i // 5}", Held(b"")) for i in range(20)])
    monkeypatch.setattr(decisions, "IMAGES", 20)
    assert len(decisions._drawn(faces, 0)) == 20


def test_false_matches_by_quality_are_at_the_thresholds_of_other_people(folds):
    """In one fold everybody resembles everybody else, which its own threshold would hide."""
    first, second, third = folds()
    alike = decisions._Fold(third.pairs, third.plain, third.cosine + np.float32(0.3), third.quality)
    three = [first, second, alike]
    others = [decisions._Others([each for each in three if each is not judged]) for judged in three]
    found = decisions._by_quality(three, others, "cosine", decisions._cosine, 1e-2)
    accepted, impostors = np.zeros(5), np.zeros(5)
    for fold, other in zip(three, others, strict=True):
        scores, quality = fold.cosine[~fold.same], fold.quality[~fold.same]
        limit = np.sort(other.cosine[~other.same])[-1 - int(0.01 * np.sum(~other.same))]
        part = (quality[:, None] >= np.quantile(quality, [0.2, 0.4, 0.6, 0.8])).sum(axis=1)
        accepted += [np.sum(scores[part == k] > limit) for k in range(5)]
        impostors += [np.sum(part == k) for k in range(5)]
    assert found.value == pytest.approx(max(accepted / impostors))
    assert found.value > 0.1


def test_quality_of_a_probe_and_a_template_is_that_of_the_lower():
    vectors, labels = people()
    lengths = magnitude(vectors.astype(np.float32))
    for found in decisions._gallery(decisions.Embeddings(vectors), labels, np.arange(60) % decisions.FOLDS, 0):
        table = found.quality.reshape(-1, 20)  # a row for each probe, a column for each template
        template = table.max(axis=0)
        probe = np.where(table < template, table, 0).max(axis=1)
        known = probe > 0
        assert known.mean() > 0.3
        assert np.isin(probe[known].round(3), lengths.round(3)).all()
        np.testing.assert_array_equal(table[known], np.minimum(probe[:, None], template)[known])


def test_a_fold_without_genuine_pairs_is_refused():
    with pytest.raises(DataError, match="Take more people"):
        decisions._enough(AllPairs.numbered(np.arange(100), 100))
