"""Templates against plain loops, and what must hold for any of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface import fusion
from magface.errors import DataError
from magface.fusion import WEIGHTINGS, fuse


def unit(x):
    length = np.sqrt((x * x).sum())
    return x / length if length else x


def by_loops(vectors, template, media, weighting, weight):
    """Each template as its equation says, in double precision."""
    fused, counts = [], []
    for t in sorted(set(template)):
        parts, images, lost, lost_media = [], 0, 0, 0
        for m in sorted({m for m, of in zip(media, template, strict=True) if of == t}):
            rows = [i for i in range(len(vectors)) if template[i] == t and media[i] == m]
            shared = [i for i in rows if vectors[i].any()]
            images, lost, lost_media = images + len(shared), lost + len(rows) - len(shared), lost_media + (not shared)
            if not shared:
                continue
            f = vectors.astype(np.float64)
            if weighting == "mean":
                parts.append(unit(np.mean([weight[i] * unit(f[i]) for i in shared], axis=0)))
            else:
                raw = np.mean([weight[i] * f[i] for i in shared], axis=0)
                a = np.mean([weight[i] * np.sqrt((f[i] ** 2).sum()) for i in shared])
                parts.append({"magface": unit(raw), "magface+": raw, "magface+media": a * unit(raw)}[weighting])
        fused.append(np.mean(parts, axis=0) if parts else np.zeros(vectors.shape[1]))
        counts.append((images, len(parts), lost, lost_media))
    return np.array(fused), np.array(counts)


def drawn(seed, count, templates, media, lost=0.2):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 6)).astype(np.float32) * rng.uniform(0.1, 30, (count, 1)).astype(np.float32)
    vectors[rng.random(count) < lost] = 0
    weight = np.where(rng.random(count) < 0.1, 0, rng.uniform(0.2, 1, count)).astype(np.float32)
    return vectors, rng.integers(-3, templates, count), rng.integers(0, media, count), weight


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 12), st.integers(1, 5), st.booleans())
def test_templates_are_those_of_loops(weighting, seed, count, templates, media, weighted):
    vectors, template, medium, weight = drawn(seed, count, templates, media)
    weight = weight if weighted else np.ones(count, np.float32)
    found = fuse(vectors, template, medium, weighting=weighting, weight=weight if weighted else None)
    expected, counts = by_loops(vectors, template.tolist(), medium.tolist(), weighting, weight)
    assert found.ids.tolist() == sorted(set(template.tolist()))
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.stack([found.images, found.media, found.lost, found.lost_media], axis=1), counts)
    np.testing.assert_array_equal(found.empty, counts[:, 0] == 0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_blocks_change_nothing(weighting, rows, monkeypatch):
    vectors, template, media, weight = drawn(3, 500, 20, 4)
    whole = fuse(vectors, template, media, weighting=weighting, weight=weight)
    monkeypatch.setattr(fusion, "_ROWS", rows)
    parts = fuse(vectors, template, media, weighting=weighting, weight=weight)
    np.testing.assert_array_equal(parts.vectors, whole.vectors)
    np.testing.assert_array_equal(parts.lost, whole.lost)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_images_changes_nothing(weighting, seed):
    vectors, template, media, _ = drawn(seed, 40, 5, 3)
    order = np.random.default_rng(seed).permutation(40)
    found = fuse(vectors, template, media, weighting=weighting)
    moved = fuse(vectors[order], template[order], media[order], weighting=weighting)
    np.testing.assert_allclose(moved.vectors, found.vectors, rtol=1e-4, atol=1e-4)


def test_where_the_magnitude_has_a_say():
    """Two frames of a video and a still: an image twice as long moves what the weighting lets it move."""
    one = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    template, media = [5, 5, 5], [1, 1, 2]

    def direction_of(weighting, factors):
        found = fuse(one * np.array(factors, np.float32)[:, None], template, media, weighting=weighting)
        return unit(found.vectors[0].astype(np.float64))

    for weighting in WEIGHTINGS:
        even = direction_of(weighting, [1, 1, 1])
        frame, still = (np.abs(direction_of(weighting, factors) - even).max() for factors in ([2, 1, 1], [1, 1, 2]))
        assert (frame > 0.01) == (weighting != "mean")
        assert (still > 0.01) == weighting.startswith("magface+")


def test_an_image_of_weight_nothing_still_counts_in_its_medium():
    """As the limit of small weights, and as a script that multiplies and then takes means."""
    vectors, template, media = np.eye(3, dtype=np.float32), [1, 1, 1], [4, 4, 9]
    found, near = (fuse(vectors, template, media, weight=[weight, 1, 1]) for weight in (0, 1e-6))
    np.testing.assert_allclose(found.vectors, [[0, 0.25, 0.5]])
    np.testing.assert_allclose(near.vectors, found.vectors, atol=1e-6)
    assert (found.images[0], found.lost[0]) == (3, 0)
    alone = fuse(vectors, [1, 2, 3], weight=[0, 1, 1])
    assert not alone.vectors[0].any()
    assert not alone.empty.any()


def test_raw_templates_keep_their_magnitude():
    vectors = np.array([[0, 20], [0, 30], [7, 0]], np.float32)
    found = fuse(vectors, [1, 1, 2], weighting="magface+")
    np.testing.assert_allclose(found.vectors, [[0, 25], [7, 0]])
    np.testing.assert_allclose(found.magnitude, [25, 7])


def test_without_media_each_image_is_its_own():
    vectors, template, _, _ = drawn(1, 30, 4, 1)
    alone = fuse(vectors, template, np.arange(30), weighting="magface")
    np.testing.assert_array_equal(fuse(vectors, template, weighting="magface").vectors, alone.vectors)


def test_mapped_files_are_read_without_loading_them(tmp_path):
    vectors, template, media, _ = drawn(2, 50, 4, 3)
    np.save(tmp_path / "v.npy", vectors)
    mapped = fuse(np.load(tmp_path / "v.npy", mmap_mode="r"), template, media)
    np.testing.assert_array_equal(mapped.vectors, fuse(vectors, template, media).vectors)


def test_rows_of_ids():
    found = fuse(np.ones((3, 2), np.float32), [30, 10, 20])
    assert found.rows([[10, 30], [5, 31]]).tolist() == [[0, 2], [-1, -1]]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"template": [1]}, "needs one template"),
        ({"media": [1, 2, 3]}, "needs one medium"),
        ({"weight": [1.0]}, "needs one weight"),
        ({"weight": [1.0, -1.0]}, "not negative"),
        ({"weight": [1.0, np.nan]}, "finite"),
        ({"weighting": "median"}, "choose one of mean, magface"),
        ({"vectors": np.zeros((0, 4), np.float32), "template": []}, "N > 0"),
        ({"vectors": np.zeros(4, np.float32)}, "shape"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        fuse(**{"vectors": np.ones((2, 4), np.float32), "template": [1, 1]} | arguments)
