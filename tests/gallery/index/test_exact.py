import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magface.gallery import index
from magface.gallery.index import exact
from magface.gallery.records import Settings
from magface.geometry import direction


def brute(known, probes, k, among=None):
    """Everybody sorted by falling cosine, then by id."""
    people = np.full((len(probes), k), -1)
    cosine = np.full((len(probes), k), -np.inf, np.float32)
    ids = [id for id in known if among is None or id in among]
    for q, probe in enumerate(probes):
        pairs = [(np.float32(probe.astype(np.float64) @ known[id].astype(np.float64)), id) for id in ids]
        best = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:k]
        for place, (value, id) in enumerate(best):
            people[q, place], cosine[q, place] = id, value
    return people, cosine


def same(hits, truth):
    people, cosine = truth
    assert hits.people.dtype == np.int64
    assert hits.cosine.dtype == np.float32
    assert hits.people.tolist() == people.tolist()
    assert np.allclose(hits.cosine, cosine, atol=1e-6)


# few directions, so that many are equal
points = direction(np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32))
some = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=40)


def arrays(pairs):
    return np.array([id for id, _ in pairs], np.int64), points[[which for _, which in pairs]].reshape(-1, 5)


@settings(max_examples=200, deadline=None)
@given(
    some,
    st.lists(st.one_of(some, st.lists(st.integers(0, 45))), max_size=5),
    st.lists(st.integers(0, 5), max_size=4),
    st.integers(1, 50),
    st.one_of(st.none(), st.sets(st.integers(0, 45))),
    st.sampled_from([1, 3, 7, 1 << 18]),
)
def test_search_is_brute_force(start, changes, shown, k, among, longest):
    known = {id: points[which] for id, which in dict(start).items()}
    ids, directions = arrays(list(dict(start).items()))
    made = index.build(ids, directions, Settings())
    for change in changes:
        if change and isinstance(change[0], int):
            made.remove(np.array(change, np.int64))
            known = {id: vector for id, vector in known.items() if id not in change}
        else:
            made.put(*arrays(change))
            known |= {id: points[which] for id, which in change}
    probes = points[shown].reshape(-1, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "LONGEST", longest)
        hits = made.search(probes, k, None if among is None else np.array(sorted(among), np.int64))
    assert len(made) == len(known)
    same(hits, brute(known, probes, k, among))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 5), st.integers(1, 20))
def test_search_of_any_directions_is_brute_force(seed, count, asked, k):
    rng = np.random.default_rng(seed)
    directions = direction(rng.normal(size=(count, 16)).astype(np.float32))
    probes = direction(rng.normal(size=(asked, 16)).astype(np.float32))
    made = index.build(np.arange(count), directions, Settings())
    same(made.search(probes, k), brute(dict(enumerate(directions)), probes, k))


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_one_by_one_is_all_together(crowd, precision):
    people, probes, _ = crowd
    made = index.build(np.arange(len(people)), people, Settings(precision=precision))
    many = made.search(probes[:40], 5)
    for q in range(40):
        one = made.search(probes[q : q + 1], 5)
        assert one.people.tolist() == many.people[q : q + 1].tolist()
        assert one.cosine.tolist() == many.cosine[q : q + 1].tolist(), "to the last bit"


def test_equal_directions_far_apart_come_by_their_ids(crowd):
    people, _, _ = crowd
    copies = people.copy()
    twins = [17, 4_000, 9_999, 20_001]
    copies[twins] = copies[17]
    made = index.build(np.arange(len(copies)), copies, Settings())
    for probes in (copies[17:18], copies[[17, 5, 6]]):
        assert made.search(probes, 4).people[0].tolist() == twins
        assert made.search(probes, 2).people[0].tolist() == twins[:2]


@pytest.mark.parametrize("few", [True, False])
def test_f16_is_f32_but_for_the_last_digits(crowd, few, monkeypatch):
    if not few:
        monkeypatch.setattr(exact, "FEW", 0)
    people, probes = crowd[0], crowd[1][:60]
    whole = index.build(np.arange(len(people)), people, Settings()).search(probes, 3)
    made = index.build(np.arange(len(people)), people, Settings(precision="f16"))
    halves = [made.search(probes[q : q + 2], 3) for q in range(0, len(probes), 2)]
    assert np.abs(np.concatenate([hits.cosine for hits in halves]) - whole.cosine).max() < 2e-4
    first = np.concatenate([hits.people for hits in halves])[:, 0]
    assert (first == whole.people[:, 0]).mean() > 0.98


@pytest.mark.parametrize("library", [True, False])
def test_halves_are_compared_with_a_library_and_without(crowd, library, monkeypatch):
    if library:
        pytest.importorskip("numkong")
    else:
        monkeypatch.setattr(exact, "_numkong", lambda: None)
    people, probes, _ = crowd
    rows = people.astype(np.float16)
    rows.flags.writeable = False
    truth = probes.astype(np.float64) @ rows.T.astype(np.float64)
    made = index.build(np.arange(len(people)), rows, Settings(precision="f16"))
    for count in (1, exact.FEW, exact.FEW + 1):
        for part in (rows, rows[:9]):
            found = exact.quick(probes[:count], part)
            assert np.abs(found - truth[:count, : len(part)]).max() < exact.slack(made.rows)


def test_nobody_is_found_among_nobody():
    made = index.build(np.empty(0, np.int64), np.empty((0, 4), np.float32), Settings())
    hits = made.search(np.eye(4, dtype=np.float32)[:2], 3)
    assert hits.people.tolist() == [[-1] * 3] * 2
    assert np.isneginf(hits.cosine).all()
    assert made.search(np.empty((0, 4), np.float32), 3).people.shape == (0, 3)


def test_memory_does_not_grow_with_probes_times_people(crowd, monkeypatch):
    people, probes, _ = crowd
    made = index.build(np.arange(len(people)), people, Settings())
    sizes = []

    def quick(probes, rows):
        sizes.append(len(probes) * len(rows))
        return probes @ rows.T

    monkeypatch.setattr(exact, "quick", quick)
    monkeypatch.setattr(exact, "CELLS", 1 << 16)
    made.search(np.concatenate([probes, probes]), 3)
    assert max(sizes) <= 1 << 16


@pytest.mark.parametrize(("said", "count"), [("3", 3), ("1", 1), ("", None), ("2,1", None), ("0", None)])
def test_threads_are_those_of_matrix_products(said, count, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert exact.threads() == (count or 8)
