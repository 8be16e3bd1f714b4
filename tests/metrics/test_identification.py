"""Searches against a full sort, scikit-learn and counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from magface.errors import DataError
from magface.geometry import direction
from magface.metrics import identification as i

# Signs over four are unit vectors whose products are exact, and often equal.
signs = st.lists(st.sampled_from([-0.25, 0.25]), min_size=16, max_size=16)
faces = st.lists(st.tuples(signs, st.integers(0, 4)), min_size=1, max_size=12)


def split(rows):
    return np.array([row for row, _ in rows], np.float32), np.array([label for _, label in rows])


def ordered(scores, same):
    """Whether each entry is a mate, from the best score down, mates last among equals."""
    return [mate for _, mate in sorted(zip(scores, same, strict=True), key=lambda entry: (-entry[0], entry[1]))]


@given(faces, faces, st.integers(1, 30))
def test_a_search_is_a_full_sort(probes, gallery, block):
    (a, a_labels), (b, b_labels) = split(probes), split(gallery)
    found = i.search(a, a_labels, b, b_labels, block=block)
    assert len(found) == len(a)
    for n, scores in enumerate((a.astype(float) @ b.T.astype(float)).tolist()):
        same = (b_labels == a_labels[n]).tolist()
        hits = [place for place, mate in enumerate(ordered(scores, same), 1) if mate]
        assert found.other[n] == max((s for s, m in zip(scores, same, strict=True) if not m), default=-math.inf)
        assert found.mated[n] == bool(hits)
        if not hits:
            assert (found.mate[n], found.rank[n]) == (-math.inf, 0)
            assert math.isnan(found.precision[n])
            continue
        assert found.mate[n] == max(s for s, m in zip(scores, same, strict=True) if m)
        assert found.rank[n] == hits[0]
        assert found.precision[n] == pytest.approx(np.mean([k / place for k, place in enumerate(hits, 1)]))


@given(faces, faces)
def test_average_precision_is_scikit_learns_where_no_two_mates_tie(probes, gallery):
    (a, a_labels), (b, b_labels) = split(probes), split(gallery)
    found = i.search(a, a_labels, b, b_labels)
    scores = a @ b.T
    alone = [n for n in range(len(a)) if len(set(scores[n][b_labels == a_labels[n]])) == sum(b_labels == a_labels[n])]
    for n in set(alone) & set(np.flatnonzero(found.mated)):
        assert found.precision[n] == pytest.approx(average_precision_score(b_labels == a_labels[n], scores[n]))


def area(hits):
    """Area under the precision-recall curve of the list, walked place by place."""
    recall, precision, total = 0.0, 1.0, 0.0
    for place in range(1, hits[-1] + 1):
        found = sum(hit <= place for hit in hits)
        total += (found / len(hits) - recall) * (precision + found / place) / 2
        recall, precision = found / len(hits), found / place
    return total


@given(faces, faces)
def test_trapezoids_are_the_area_under_the_curve_of_the_list(probes, gallery):
    (a, a_labels), (b, b_labels) = split(probes), split(gallery)
    found = i.search(a, a_labels, b, b_labels, trapezoid=True)
    for n in np.flatnonzero(found.mated):
        entries = ordered((a[n] @ b.T).tolist(), (b_labels == a_labels[n]).tolist())
        hits = [place for place, mate in enumerate(entries, 1) if mate]
        assert found.precision[n] == pytest.approx(area(hits))


def test_a_search_of_real_size_is_a_full_sort():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 64))
    a_labels, b_labels = rng.integers(60, size=300), rng.integers(50, size=700)
    a, b = (
        direction((centres[n] + 2 * rng.normal(size=(len(n), 64))).astype(np.float32)) for n in (a_labels, b_labels)
    )
    found = i.search(a, a_labels.astype(str), b, b_labels.astype(str), block=100 * 700)
    order = np.argsort(-(a @ b.T), axis=1)
    same = b_labels[order] == a_labels[:, None]
    np.testing.assert_array_equal(found.rank, np.where(same.any(1), same.argmax(1) + 1, 0))
    np.testing.assert_allclose(
        found.mate[found.mated],
        np.max(a @ b.T, 1, where=a_labels[:, None] == b_labels, initial=-1)[found.mated],
        rtol=1e-5,
    )
    curve = i.cmc(found, 700)
    assert curve[-1] == 1
    for k in (1, 5, 20):
        assert i.rank_rate(found, k).share == i.rank_rate(found.rank, k).share == curve[k - 1]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_rates_at_a_rank_are_counted(ranks, k):
    mated = [rank for rank in ranks if rank]
    found = i.rank_rate(np.array(ranks), k)
    assert (found.hits, found.trials) == (sum(rank <= k for rank in mated), len(mated))
    if mated:
        expected = binomtest(found.hits, found.trials).proportion_ci(0.95, method="wilson")
        assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-9)
        np.testing.assert_allclose(i.cmc(np.array(ranks), k)[-1], found.share)
    else:
        assert found.share is found.interval is None
        assert "mate" in found.reason
        with pytest.raises(DataError, match="mate"):
            i.cmc(np.array(ranks), k)


# Few distinct values, so ties are common.
scores = st.integers(-8, 8).map(lambda k: k / 8)
searches = st.lists(st.tuples(scores, st.integers(0, 3), scores), min_size=1, max_size=60)


@given(searches, st.sampled_from([0.01, 0.1, 0.29, 0.5, 0.9]) | st.floats(0.01, 0.99), st.sampled_from([1, 2, None]))
def test_open_set_rates_are_the_brute_force_ones(rows, fpir, rank):
    mate, ranks, other = (np.array(column) for column in zip(*rows, strict=True))
    found = i.Found(np.where(ranks > 0, mate, -np.inf).astype(np.float32), ranks, other.astype(np.float32), other)
    point = i.tpir_at_fpir(found, fpir, rank=rank)
    best = [o for _, r, o in rows if not r]
    mated = [(m, r) for m, r, _ in rows if r]
    assert (point.mated, point.non_mated) == (len(mated), len(best))
    if len(best) < 1 / fpir:
        assert point.threshold is point.tpir is point.interval is None
        assert "non-mated searches" in point.reason
        return
    candidates = np.nextafter(np.float32(sorted(set(best))), np.float32(2))
    threshold = next(t for t in candidates if sum(o >= t for o in best) / len(best) <= fpir)
    assert (point.threshold, point.accepted) == (threshold, sum(o >= threshold for o in best))
    if mated:
        assert point.tpir == sum(m >= threshold and r <= (rank or 99) for m, r in mated) / len(mated)
        assert point.reason == ""
    else:
        assert point.tpir is None
        assert "mate" in point.reason


def test_a_mate_at_the_threshold_is_found_and_one_that_ties_with_a_stranger_is_not():
    best = np.float32(0.3)
    found = i.Found(
        np.array([best, np.nextafter(best, np.float32(1)), -np.inf, -np.inf], np.float32),
        np.array([1, 1, 0, 0]),
        np.array([0.1, 0.1, 0.5, best], np.float32),
        np.array([1, 1, np.nan, np.nan]),
    )
    assert (i.tpir_at_fpir(found, 0.5).tpir, i.tpir_at_fpir(found, 0.5).accepted) == (0.5, 1)


@given(faces, faces)
def test_a_looser_threshold_finds_no_less(probes, gallery):
    found = i.search(*split(probes), *split(gallery))
    points = [i.tpir_at_fpir(found, fpir, rank=None) for fpir in (0.2, 0.5, 0.9)]
    found_rates = [point.tpir for point in points if point.tpir is not None]
    assume(len(found_rates) > 1)
    assert found_rates == sorted(found_rates)


def unit(count):
    return np.eye(4, dtype=np.float32)[np.arange(count) % 4]


@pytest.mark.parametrize(
    ("probes", "probe_labels", "gallery", "gallery_labels", "word"),
    [
        (unit(0), [], unit(2), [0, 1], "non-empty"),
        (unit(2), [0, 1], unit(0), [], "non-empty"),
        (unit(2)[0], [0], unit(2), [0, 1], "non-empty"),
        (unit(2), [0, 1], unit(2)[:, :3], [0, 1], "one model"),
        (unit(2), [0], unit(2), [0, 1], "one label"),
        (unit(2), [0, 1], unit(2), [[0, 1]], "one label"),
        (unit(2), [0, 1], unit(2) * 20, [0, 1], "gallery row 0 has length 20"),
        (unit(2) * np.float32([[1], [np.nan]]), [0, 1], unit(2), [0, 1], "probe row 1"),
        (unit(2) + np.float32([[0], [np.inf]]), [0, 1], unit(2), [0, 1], "probe row 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(probes, probe_labels, gallery, gallery_labels, word):
    with pytest.raises(DataError, match=word):
        i.search(probes, probe_labels, gallery, gallery_labels)


def test_a_face_without_direction_ties_with_everything():
    found = i.search(np.zeros((1, 4), np.float32), [0], unit(3), [0, 1, 2])
    assert (found.mate[0], found.rank[0], found.other[0]) == (0, 3, 0)


def test_one_person_alone_is_found():
    found = i.search(unit(2), [7, 7], unit(2), [7, 7])
    np.testing.assert_array_equal(found.rank, 1)
    np.testing.assert_array_equal(found.other, -np.inf)
    np.testing.assert_array_equal(found.precision, 1)


@pytest.mark.parametrize("fpir", [0, 1, -0.1, math.nan])
def test_rates_out_of_range_are_refused(fpir):
    with pytest.raises(DataError, match="between 0 and 1"):
        i.tpir_at_fpir(i.search(unit(2), [0, 1], unit(1), [0]), fpir)


def test_ranks_out_of_range_are_refused():
    found = i.search(unit(2), [0, 1], unit(1), [0])
    for judge in (lambda: i.rank_rate(found, 0), lambda: i.tpir_at_fpir(found, 0.5, rank=0), lambda: i.cmc(found, 0)):
        with pytest.raises(DataError, match="rank"):
            judge()
    for ranks in ([-1, 1], [0.5], [[1]]):
        with pytest.raises(DataError, match="whole numbers"):
            i.rank_rate(np.array(ranks), 1)
