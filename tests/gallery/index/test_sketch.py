import numpy as np
import pytest

from magface.gallery.index import sketch

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def made(crowd):
    return sketch.learn(crowd[0][:5000], np.random.default_rng(0))


def test_codes_are_the_nearest_points(crowd, made):
    rows = crowd[0][:50]
    turned = ((rows - made.mean) @ made.axes).reshape(50, sketch.PARTS, -1)
    nearest = ((turned[:, :, None] - made.points[None]) ** 2).sum(axis=-1).argmin(axis=-1)
    codes = made.encode(rows)
    assert codes.shape == (50, sketch.PARTS // 2)
    assert (np.stack([codes & 15, codes >> 4], axis=-1).reshape(50, -1) == nearest).mean() > 0.999


def test_axes_are_of_length_1_and_upright(made):
    assert made.axes.T @ made.axes == pytest.approx(np.eye(made.axes.shape[1]), abs=1e-4)


def test_a_scan_ranks_by_the_cosine_of_codes(crowd, made):
    people, probes, shown = crowd
    scan = made.scan(made.encode(people))
    assert len(scan) == len(people)
    near = scan.likely(probes, 100)
    assert (near == shown[:, None]).any(axis=1).mean() > 0.98


def test_codes_and_directions_can_be_added_to_a_scan(crowd, made):
    people, probes, _ = crowd
    whole, grown = made.scan(made.encode(people[:900])), made.scan(made.encode(people[:100]))
    for start in range(100, 900, 37):
        grown.add(people[start : min(start + 37, 900)])
    assert np.sort(whole.likely(probes, 900)).tolist() == np.sort(grown.likely(probes, 900)).tolist()
    same = [set(a) & set(b) for a, b in zip(whole.likely(probes, 20), grown.likely(probes, 20), strict=True)]
    assert np.mean([len(both) for both in same]) > 19


def test_nobody_is_likely_where_nobody_is(crowd, made):
    assert made.scan(made.encode(crowd[0][:0])).likely(crowd[1][:2], 3).tolist() == [[-1] * 3] * 2
    assert made.scan(made.encode(crowd[0][:1])).likely(crowd[1][:2], 3).tolist() == [[0, -1, -1]] * 2


@pytest.mark.parametrize(("dimension", "width"), [(1, 0), (63, 0), (64, 1), (128, 2), (200, 3), (512, 4), (4096, 4)])
def test_width(dimension, width):
    assert sketch.width(dimension) == width


@pytest.mark.parametrize("dimension", [64, 200])
def test_any_number_of_dimensions(dimension):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    made = sketch.learn(rows, rng)
    near = made.scan(made.encode(rows)).likely(rows[:100], 20)
    assert (near == np.arange(100)[:, None]).any(axis=1).mean() > 0.95
