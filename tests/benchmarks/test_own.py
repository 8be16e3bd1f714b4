"""The protocols for one's own folder, on embeddings that say what must come out, and on the real album."""

import numpy as np
import pytest

from magface.benchmarks import own
from magface.benchmarks.result import Result
from magface.data import image_folder
from magface.data.face_set import FaceSet, Held, Record
from magface.embedder import Embedder
from magface.errors import DataError
from magface.geometry import cosine


@pytest.fixture
def made(monkeypatch):
    """An evaluation of given embeddings of given people."""

    def evaluate(vectors, labels, seed=0, interval="pairs") -> Result:
        names = [f"p{label:03d}" for label in labels]
        faces = FaceSet.of([Record(f"{i}.png", name, Held(b"")) for i, name in enumerate(names)])
        embeddings = own.Embeddings(np.asarray(vectors, np.float32), "a network")
        monkeypatch.setattr(own, "embed", lambda *_, **__: (faces, embeddings))

        class Network:
            fingerprint = "a network"

        return own.evaluate(Network(), faces, seed=seed, interval=interval)

    return evaluate


def people(count, images, spread, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), images)
    return rng.normal(size=(count, 64))[labels] + spread * rng.normal(size=(len(labels), 64)), labels


def test_perfect_embeddings_are_perfect_in_every_protocol(made):
    found = made(*people(30, 6, 0.05))
    for name in ("verification: accuracy", "verification: TAR@FMR=0.001", "identification: rank-1"):
        assert found[name] == 1
    assert found["identification: TPIR@FPIR=0.1"] == found["templates: mean: TAR@FMR=0.01"] == 1
    assert found["templates: magface+: EER"] == 0
    assert found["templates: mean: TAR@FMR=1e-06"] is None
    assert found.counts["genuine pairs"] == 30 * 15
    assert found.counts["impostor pairs"] == 180 * 179 // 2 - 450
    assert found.counts["enrolled people"] == 30
    assert found.counts["searches"] == 2 * 150
    assert found.counts["templates"] == 60


def test_embeddings_without_a_person_in_them_are_chance(made):
    rng = np.random.default_rng(1)
    found = made(rng.normal(size=(600, 64)), np.repeat(np.arange(100), 6))
    assert abs(found["verification: accuracy"] - 0.5) < 0.06
    assert abs(found["verification: AUC"] - 0.5) < 0.05
    assert found["identification: rank-1"] < 0.08
    assert found["templates: mean: TAR@FMR=0.01"] < 0.1


def test_the_seed_decides_what_is_drawn(made):
    vectors, labels = people(40, 5, 1.1)
    one, same, other = (made(vectors, labels, seed) for seed in (3, 3, 4))
    assert one.as_dict() == same.as_dict()
    assert one["identification: rank-1"] != other["identification: rank-1"]


def test_ranks_and_open_set_rates_by_brute_force(made):
    vectors, labels = people(20, 4, 1.5)
    found = made(vectors, labels)
    rng = np.random.default_rng(0)
    half, shuffled = rng.permutation(20) % 2, rng.permutation(80)
    enrolled = {label: next(i for i in shuffled if labels[i] == label) for label in range(20)}
    probes = [i for i in range(80) if i not in enrolled.values()]
    first, best = 0, []
    for i in probes:
        of = lambda h, i=i: {p: cosine(vectors[i], vectors[e]) for p, e in enrolled.items() if half[p] == h}  # noqa: E731
        own_half, other_half = of(half[labels[i]]), of(1 - half[labels[i]])
        first += max(own_half, key=own_half.get) == labels[i]
        best.append(max(other_half.values()))
    assert found["identification: rank-1"] == pytest.approx(first / len(probes))
    note = next(m.note for m in found.measures if m.name == "identification: TPIR@FPIR=0.1")
    threshold = float(note.split()[2].rstrip(":"))
    assert sum(score >= threshold - 5e-5 for score in best) <= 0.1 * len(best) + 1


def test_folds_share_no_person_and_hold_as_many_pairs_of_both_kinds(made, monkeypatch):
    vectors, labels = people(45, 9, 1.0)
    judged, real = [], own.kfold_accuracy
    monkeypatch.setattr(own, "kfold_accuracy", lambda *pairs: judged.append(pairs) or real(*pairs))
    scored, real_score = [], own.score
    monkeypatch.setattr(own, "score", lambda *pairs: scored.append(pairs[1:]) or real_score(*pairs))
    found = made(vectors, labels)
    ((_, same, fold),) = judged
    first, second, _ = scored[-1]
    assert np.unique(fold).tolist() == list(range(10))
    assert "mean of 10 folds of people" in next(m.note for m in found.measures if m.name == "verification: accuracy")
    who = [set(labels[first[fold == k]]) | set(labels[second[fold == k]]) for k in range(10)]
    assert sum(map(len, who)) == len(set().union(*who))
    np.testing.assert_array_equal(same, labels[first] == labels[second])
    for k in range(10):
        assert np.sum(same[fold == k]) == np.sum(~same[fold == k]) <= own.PER_FOLD


def test_two_templates_of_a_person_are_as_large_and_share_no_image(made, monkeypatch):
    labels = np.repeat(np.arange(5), [3, 4, 5, 11, 40])
    vectors = np.arange(1, 127, dtype=np.float32).reshape(63, 2)
    calls, real = [], own.fuse
    monkeypatch.setattr(own, "fuse", lambda *args, **given: calls.append((*args, given)) or real(*args, **given))
    found = made(vectors, labels)
    assert [given["weighting"] for _, _, given in calls] == ["mean", "magface+"]
    used, template, _ = calls[0]
    rows = (used[:, 0].astype(int) - 1) // 2
    assert len(set(rows)) == len(rows)
    ids, sizes = np.unique(template, return_counts=True)
    assert sizes.tolist() == [2, 2, 2, 2, 5, 5, 5, 5]
    for one, other in zip(ids[::2], ids[1::2], strict=True):
        assert set(labels[rows[np.isin(template, [one, other])]]) == {labels[rows[template == one]][0]}
    assert found.counts["templates"] == 8


def test_intervals_over_people_are_wider(made):
    vectors, labels = people(25, 8, 1.6)
    vectors[labels % 5 == 0] += 1.5 * np.random.default_rng(5).normal(size=(40, 64))  # some people are hard
    over = {each: made(vectors, labels, interval=each) for each in ("pairs", "people")}
    found = {kind: {m.name: m for m in result.measures} for kind, result in over.items()}
    name = "verification: TAR@FMR=0.01"
    assert found["pairs"][name].value == found["people"][name].value
    pairs, wider = (found[kind][name].interval for kind in ("pairs", "people"))
    assert wider[1] - wider[0] > 1.5 * (pairs[1] - pairs[0])
    low, high = found["people"]["verification: accuracy"].interval
    assert low < found["people"]["verification: accuracy"].value < high
    assert "over people" in over["people"].protocol


def test_what_small_sets_cannot_tell_is_said(made):
    found = made(*people(3, 2, 0.1))
    reasons = {m.name: m.note for m in found.measures if m.value is None}
    assert "four images" in reasons["templates: TAR"]
    assert "at least 1,000 impostor" in reasons["verification: TAR@FMR=0.001"]
    assert "at least 100 non-mated searches" in reasons["identification: TPIR@FPIR=0.01"]
    assert found["verification: accuracy"] is None
    with pytest.raises(DataError, match="two people"):
        made(np.ones((3, 4)), [0, 0, 0])
    with pytest.raises(DataError, match="two images"):
        made(np.eye(3), [0, 1, 2])


@pytest.mark.slow
def test_occluded_faces_are_found_by_most_searches(rof, tmp_path):
    found = own.evaluate(Embedder(threads=1), image_folder.read(rof), cache=tmp_path)
    assert found["identification: rank-1"] > 0.84
    assert found["templates: magface+: TAR@FMR=0.01"] > 0.97
