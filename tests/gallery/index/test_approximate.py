import numpy as np
import pytest

from magface.errors import DataError
from magface.gallery import index
from magface.gallery.index import approximate, sketch
from magface.gallery.index.approximate import TAIL
from magface.gallery.records import Settings

pytest.importorskip("faiss")
SETTINGS = Settings(index="approximate")


@pytest.fixture
def made(learned):
    return index.load(learned, "a", 128, SETTINGS)[0]


def first(made, probes, k=1):
    return made.search(probes, k).people[:, 0]


def test_the_nearest_person_is_found_as_often_as_asked_for(crowd, made):
    people, probes, shown = crowd
    exact = index.build(np.arange(len(people)), people, Settings())
    assert (first(exact, probes) == shown).mean() > 0.95
    assert (first(made, probes) == first(exact, probes)).mean() >= 0.99
    assert made.learned.candidates < len(people) / 20, "a sketch spares comparisons"
    hits, truth = made.search(probes, 3), exact.search(probes, 3)
    same = hits.people == truth.people
    assert hits.cosine[same].tolist() == truth.cosine[same].tolist(), "cosines are exact"
    assert (np.diff(hits.cosine) <= 0).all()


def test_f16_too(crowd):
    people, probes, _ = crowd
    exact = index.build(np.arange(len(people)), people, Settings())
    made = index.build(np.arange(len(people)), people, Settings(index="approximate", precision="f16"))
    assert (first(made, probes) == first(exact, probes)).mean() >= 0.99


def test_who_comes_later_is_found_and_who_is_gone_is_not(crowd, made, monkeypatch):
    people, probes, shown = crowd
    rng = np.random.default_rng(1)
    number = 100_000 + np.arange(2 * TAIL)
    others = people[rng.permutation(len(people))[: len(number)]][:, rng.permutation(128)]
    for start in range(0, len(number), 1000):
        made.put(number[start : start + 1000], others[start : start + 1000])
        assert first(made, others[start : start + 5]).tolist() == number[start : start + 5].tolist()
    assert len(made) == len(people) + len(number)
    assert (first(made, others[:500]) == number[:500]).all()
    made.remove(number[:100])
    made.remove(shown[:100])
    assert not np.isin(made.search(others[:100], 5).people, number[:100]).any()
    assert not np.isin(made.search(probes, 5).people, shown[:100]).any()
    moved = shown[100:200]
    made.put(moved, others[:100])
    assert first(made, others[:100]).tolist() == moved.tolist()
    assert not (first(made, probes[100:200]) == moved).any()


def test_rows_that_are_swept_are_found_where_they_are(crowd, made):
    people, _, _ = crowd
    rng = np.random.default_rng(2)
    number = 100_000 + np.arange(3 * TAIL)
    others = people[: len(number)][:, rng.permutation(128)]
    made.put(number, others)
    assert first(made, others[-50:]).tolist() == number[-50:].tolist()
    made.remove(number[: 2 * TAIL])
    assert made.rows.sweeps
    assert first(made, others[-50:]).tolist() == number[-50:].tolist()


def test_a_gallery_that_grows_from_nothing_learns_by_itself(crowd):
    people, probes, _ = crowd
    made = index.build(np.empty(0, np.int64), np.empty((0, 128), np.float32), SETTINGS)
    made.put(np.arange(19_000), people[:19_000])
    assert made.search(probes[:1], 1).people.shape == (1, 1)
    assert made.learned is None
    made.put(np.arange(19_000, len(people)), people[19_000:])
    exact = index.build(np.arange(len(people)), people, Settings())
    assert (first(made, probes) == first(exact, probes)).mean() >= 0.99
    assert made.learned is not None


def test_a_sketch_is_made_anew_for_far_more_people(crowd, made, monkeypatch):
    people, probes, _ = crowd
    before = made.learned
    first(made, probes[:1])
    assert made.learned is before
    monkeypatch.setattr(approximate, "GROWTH", 1.1)
    made.put(np.arange(len(people), len(people) + 5000), people[:5000][:, ::-1])
    first(made, probes[:1])
    assert made.learned.people == len(people) + 5000


def test_the_file_keeps_what_was_learned(crowd, made, tmp_path):
    _, probes, shown = crowd
    made.put(np.array([50_000]), probes[:1])
    made.remove(shown[1:2])
    index.save(made, tmp_path / "index", "a", 2)
    again, sequence = index.load(tmp_path / "index", "a", 128, SETTINGS)
    assert sequence == 2
    assert again.learned.candidates == made.learned.candidates
    hits, same = made.search(probes, 3), again.search(probes, 3)
    assert hits.people.tolist() == same.people.tolist()
    assert hits.cosine.tolist() == same.cosine.tolist()
    assert again.learned.sketch.encode(again.rows.base.rows).tolist() == again.learned.codes.tolist()


def test_small_galleries_searches_among_some_and_full_recall_are_exact(crowd, made, monkeypatch):
    people, probes, _ = crowd
    exact = index.build(np.arange(len(people)), people, Settings())
    among = np.arange(0, len(people), 3)
    assert made.search(probes, 2, among).people.tolist() == exact.search(probes, 2, among).people.tolist()
    assert made.search(probes[:3], 5000).people.tolist() == exact.search(probes[:3], 5000).people.tolist()
    monkeypatch.setattr(sketch, "library", lambda: pytest.fail("needs no faiss"))
    few = index.build(np.arange(2000), people[:2000], SETTINGS)
    assert few.search(probes, 1).people.shape == (400, 1)
    every = index.build(np.arange(len(people)), people, Settings(index="approximate", recall=1))
    assert every.search(probes, 2).people.tolist() == exact.search(probes, 2).people.tolist()


def test_where_no_sketch_is_good_enough_everybody_is_compared(crowd, monkeypatch):
    people, probes, _ = crowd
    monkeypatch.setattr(approximate, "MOST", 5)
    made = index.build(np.arange(len(people)), people, Settings(index="approximate", recall=0.9999))
    exact = index.build(np.arange(len(people)), people, Settings())
    assert made.search(probes, 2).people.tolist() == exact.search(probes, 2).people.tolist()
    assert made.learned.candidates == 0


def test_without_faiss_it_says_what_to_install(crowd, monkeypatch):
    people, probes, _ = crowd
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    made = index.build(np.arange(len(people)), people, SETTINGS)
    with pytest.raises(DataError, match=r"pip install 'magface\[gallery\]'"):
        made.search(probes[:1], 1)


def test_hard_probes_are_as_near_as_hard_faces(crowd):
    people, _, _ = crowd
    rng = np.random.default_rng(0)
    made = approximate.probes(people[:4000], 200, rng)
    assert np.linalg.norm(made, axis=1) == pytest.approx(1)
    best = (made @ people[:4000].T).max(axis=1)
    assert np.median(best) == pytest.approx(approximate.GENUINE, abs=0.03)
