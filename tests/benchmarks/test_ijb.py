"""IJB in small: against the described procedure in plain loops, from images and from ready features."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface import align
from magface.benchmarks import ijb
from magface.benchmarks.faces import embed
from magface.data import features
from magface.data.ijb import Enrolled, Identification, read
from magface.errors import DataError
from magface.fusion import WEIGHTINGS, fuse
from magface.types import Embeddings

PEOPLE, TEMPLATES, SIZE = 24, 90, 8
RNG = np.random.default_rng(5)


def drawn():
    """Templates of a few images in a few media; a template has a person, and a person some templates."""
    person = np.append(np.arange(PEOPLE), RNG.integers(0, PEOPLE, TEMPLATES - PEOPLE))
    ids = RNG.permutation(1000)[:TEMPLATES] + 1
    images, vectors = [], []
    centres = RNG.standard_normal((PEOPLE, SIZE))
    for template, who in zip(ids, person, strict=True):
        for medium in RNG.integers(0, 3, RNG.integers(1, 5)):
            images.append((f"{len(images) + 1}.jpg", int(template), int(medium) + 50))
            vectors.append((centres[who] + RNG.standard_normal(SIZE)) * RNG.uniform(0.5, 3))
    return person, ids, images, np.array(vectors, np.float32)


PERSON, IDS, IMAGES, VECTORS = drawn()
ENROLLED = {int(t): int(p) for t, p in zip(IDS[:PEOPLE], PERSON[:PEOPLE], strict=True)}
PROBES = {int(t): int(p) for t, p in zip(IDS[PEOPLE:], PERSON[PEOPLE:], strict=True)}
GALLERIES = tuple([(t, p) for t, p in ENROLLED.items() if p % 2 == side] for side in (0, 1))
PAIRS = [(t, u, int(ENROLLED[t] == PROBES[u])) for t in ENROLLED for u in PROBES if (t + u) % 2]
LOST = max(ENROLLED, key=lambda t: sum(p == ENROLLED[t] for p in PROBES.values()))
SCORES = RNG.uniform(0.3, 1, len(IMAGES)).astype(np.float32)


@pytest.fixture
def root(tmp_path, write_ijb):
    return write_ijb(tmp_path, IMAGES, PAIRS, GALLERIES, PROBES.items())


def by_loops(weighting, vectors, weight):
    """Unit template of each id that has an image."""

    def unit(x):
        return x / (np.linalg.norm(x) or 1)

    fused = {}
    for t in IDS.tolist():
        media = {}
        for (_, template, medium), vector, w in zip(IMAGES, vectors.astype(np.float64), weight, strict=True):
            if template == t and vector.any():
                media.setdefault(medium, []).append(
                    (w * (unit(vector) if weighting == "mean" else vector), w * np.linalg.norm(vector))
                )
        parts = []
        for frames in media.values():
            mean, a = np.mean([f for f, _ in frames], axis=0), np.mean([a for _, a in frames])
            parts.append({"magface+": mean, "magface+media": a * unit(mean)}.get(weighting, unit(mean)))
        if parts:
            fused[t] = unit(np.mean(parts, axis=0))
    return fused


def tar(genuine, impostor, fmr):
    return np.mean(genuine > min(t for t in impostor if np.mean(impostor > t) <= fmr))


def expected(weighting, vectors=VECTORS, weight=None):
    templates = by_loops(weighting, vectors, np.ones(len(vectors)) if weight is None else weight)

    def score(t, u):
        return float(templates[t] @ templates[u]) if t in templates and u in templates else -1.0

    scores, same = np.array([score(t, u) for t, u, _ in PAIRS]), np.array([bool(s) for _, _, s in PAIRS])
    found = {f"TAR@FMR={fmr:g}": tar(scores[same], scores[~same], fmr) for fmr in (1e-2, 1e-1)}
    for name, gallery in (("G1", GALLERIES[0]), ("G2", GALLERIES[1]), ("joined", GALLERIES[0] + GALLERIES[1])):
        mates, ranks, strangers, wrong = [], [], [], []
        for u, who in PROBES.items():
            others = np.array([score(t, u) for t, p in gallery if p != who])
            mate = next((score(t, u) for t, p in gallery if p == who), None)
            wrong.extend(others)
            if mate is None:
                strangers.append(others.max())
            else:
                mates.append(mate)
                ranks.append(1 + np.sum(others >= mate))
        mates, ranks, strangers = np.array(mates), np.array(ranks), np.array(strangers)
        for k in (1, 5, 10):
            found[f"{name}: rank-{k}"] = np.mean(ranks <= k)
        if name == "joined":
            for fpir in (0.01, 0.1):
                threshold = sorted(wrong)[-int(np.ceil(fpir * len(PROBES)))]
                found[f"joined: TPIR at {fpir:g} wrong entries a search"] = np.mean(mates > threshold)
        else:
            found[f"{name}: TPIR@FPIR=0.1"] = tar(np.where(ranks == 1, mates, -2), strangers, 0.1)
    for measure in ("rank-1", "rank-5", "rank-10", "TPIR@FPIR=0.1"):
        found[f"G1 and G2: {measure}"] = (found[f"G1: {measure}"] + found[f"G2: {measure}"]) / 2
    return found


def check(result, weighting, numbers):
    for name, number in numbers.items():
        assert result[f"{weighting}: {name}"] == pytest.approx(number, abs=1e-9), name


def saved(tmp_path, vectors):
    np.save(tmp_path / "features.npy", vectors)
    return tmp_path / "features.npy"


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_number_is_that_of_the_described_procedure(root, tmp_path, weighting):
    result = ijb.evaluate_features(saved(tmp_path, VECTORS), root)
    check(result, weighting, expected(weighting))
    assert result[f"{weighting}: TAR@FMR=1e-06"] is None
    assert result[f"{weighting}: G1: TPIR@FPIR=0.01"] is None
    assert result.curves[weighting].impostor == result.counts["impostor pairs"] == sum(not s for _, _, s in PAIRS)
    assert (result.benchmark, result.failures, result.counts["templates missing"]) == ("ijbc", {}, 0)
    assert result.counts["gallery templates"] + result.counts["probes"] == result.counts["templates"] == TEMPLATES


def test_a_template_that_lost_its_images_is_rejected_and_a_lost_image_has_no_share(root, tmp_path):
    vectors = VECTORS.copy()
    vectors[[template == LOST for _, template, _ in IMAGES]] = 0
    vectors[next(i for i, (_, t, _) in enumerate(IMAGES) if t in PROBES)] = 0
    result = ijb.evaluate_features(saved(tmp_path, vectors), root, weightings=["magface+"])
    check(result, "magface+", expected("magface+", vectors))
    assert result.counts["templates missing"] == 1
    assert result.counts["images missing"] == len(result.failures) == int((~vectors.any(axis=1)).sum())
    assert "a template without an image scores -1" in result.protocol


def test_what_failed_is_not_found_in_the_smallest_gallery(tmp_path, write_ijb):
    """Two people in each gallery; of the first two probes one lost its image, and one its mate."""
    galleries = ([(1, 1), (2, 2)], [(3, 3), (4, 4)])
    probes = [(11, 1), (12, 2), (13, 3), (14, 4)]
    ids = [*range(1, 5), *range(11, 15)]
    root = write_ijb(tmp_path, [(f"{t}.jpg", t, t) for t in ids], [(1, 11, 1), (1, 12, 0)], galleries, probes)
    vectors = np.tile(np.eye(4, dtype=np.float32), (2, 1))
    vectors[[1, 4]] = 0
    result = ijb.evaluate_features(saved(tmp_path, vectors), root, weightings=["mean"], tasks=["1:N"])
    for k in (1, 5, 10):
        assert result[f"mean: G1: rank-{k}"] == 0
        assert result[f"mean: G2: rank-{k}"] == 1
        assert result[f"mean: joined: rank-{k}"] == 0.5
    assert (result["mean: G1: TPIR@FPIR=0.1"], result.counts["templates missing"]) == (None, 2)


def test_what_failed_is_not_found_where_nobody_else_could_be(tmp_path, write_ijb):
    galleries, probes = ([(1, 1)], [(2, 2)]), [(11, 1), (12, 2)]
    images = [(f"{t}.jpg", t, t) for t in (1, 2, 11, 12)]
    root = write_ijb(tmp_path, images, [(1, 11, 1), (1, 12, 0)], galleries, probes)
    vectors = np.float32([[1, 0], [0, 1], [0, 0], [0, 1]])
    result = ijb.evaluate_features(saved(tmp_path, vectors), root, weightings=["mean"], tasks=["1:N"])
    assert result["mean: joined: TPIR at 0.01 wrong entries a search"] == 0.5


@given(seed=st.integers(0, 10**6), probes=st.sampled_from([10, 20, 37, 100]))
def test_the_joined_rates_are_those_of_the_script_for_one_to_many(seed, probes):
    """Signs of sixteen numbers, whose cosines are exact and often equal; a mate must be above the threshold."""
    rng = np.random.default_rng(seed)
    people = 6
    vectors = rng.choice(np.float32([-1, 1]), (people + probes, 16))
    person = np.append(np.arange(people), rng.integers(0, people, probes)).astype(np.int32)
    ids = rng.permutation(1000)[: len(person)].astype(np.int32)
    entries = [Enrolled(ids[part], person[part]) for part in (slice(0, 3), slice(3, people), slice(people, None))]
    templates = fuse(vectors, ids)
    measures = ijb._joined(templates, Identification(("G1", "G2"), (entries[0], entries[1]), entries[2]))
    found = {measure.name: measure.value for measure in measures}
    scores = vectors[people:] @ vectors[:people].T / 16
    mate = person[people:, None] == np.arange(people)
    wrong = np.sort(scores[~mate])[::-1]
    for rate in (0.01, 0.1):
        threshold = wrong[int(np.ceil(rate * probes)) - 1]
        assert found[f"TPIR at {rate:g} wrong entries a search"] == np.mean(scores[mate] > threshold)
    rank = 1 + np.sum((scores >= scores[mate][:, None]) & ~mate, axis=1)
    assert [found[f"rank-{k}"] for k in (1, 5, 10)] == [np.mean(rank <= k) for k in (1, 5, 10)]


def test_what_failed_finds_nobody_and_is_no_false_alarm():
    vectors = np.float32([[1, 0], [0, 1], [0, 0], [0, 0], [-1, 0], [1, 1]])
    templates = fuse(vectors, np.arange(6))
    gallery = Enrolled(np.int32([0, 1, 2]), np.int32([7, 8, 9]))
    found = ijb._search(templates, Enrolled(np.int32([3, 3, 4, 5]), np.int32([7, 1, 2, 9])), gallery)
    assert found.other[:2].tolist() == [-1, -1]
    assert found.other[2:].tolist() == pytest.approx([0, np.sqrt(0.5)])
    assert found.mated.tolist() == [True, False, False, True]
    assert (found.mate[0], found.mate[3]) == (-1, -1)
    assert min(found.rank[0], found.rank[3]) > len(gallery)


def test_images_can_count_by_the_score_of_the_detector(root, tmp_path):
    path = root / "meta" / "ijbc_name_5pts_score.txt"
    rows = [line.rsplit(" ", 1)[0] for line in path.read_text().splitlines()]
    path.write_text("".join(f"{row} {score}\n" for row, score in zip(rows, SCORES.tolist(), strict=True)))
    result = ijb.evaluate_features(saved(tmp_path, VECTORS), root, weightings=["magface+"], detector_score=True)
    check(result, "magface+", expected("magface+", weight=SCORES))
    assert "score of the detector" in result.protocol


def test_the_published_setting_multiplies_the_sum_of_both_views_by_the_score_and_takes_means(photos, tmp_path):
    """Some scores are 0; such images still count in the mean of their medium."""
    scores = np.where(np.arange(len(IMAGES)) % 7 == 0, 0, SCORES).astype(np.float32)
    path = photos / "meta" / "ijbc_name_5pts_score.txt"
    rows = [line.rsplit(" ", 1)[0] for line in path.read_text().splitlines()]
    path.write_text("".join(f"{row} {score}\n" for row, score in zip(rows, scores.tolist(), strict=True)))
    options = {"weightings": ["magface+"], "flip": True, "detector_score": True, "cache": tmp_path / "cache"}
    result = ijb.evaluate(Network(), photos, **options)
    listing = read(photos)
    views = [
        embed(Network(), listing.faces(), tmp_path / "cache", flip=flip, align=ijb.Landmarks(listing))[1].vectors
        for flip in (False, True)
    ]
    check(result, "magface+", expected("magface+", np.vstack([np.zeros(12), sum(views)]), scores))


def test_features_are_found_by_their_names(root, tmp_path):
    order = RNG.permutation(len(IMAGES))[:-3]
    names = [f"somewhere/loose_crop/{IMAGES[i][0]}" for i in order]
    features.write(tmp_path / "f.npz", names, Embeddings(VECTORS[order], "a model"))
    result = ijb.evaluate_features(tmp_path / "f.npz", root, weightings=["mean"], tasks=["1:1"])
    vectors = VECTORS.copy()
    vectors[np.setdiff1d(np.arange(len(IMAGES)), order)] = 0
    numbers = {name: number for name, number in expected("mean", vectors).items() if name.startswith("TAR")}
    check(result, "mean", numbers)
    assert (result.model, result.counts["images missing"]) == ("a model", 3)
    assert not any("rank" in measure.name for measure in result.measures)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.ones((3, SIZE), np.float32), "a row for each image"),
        (VECTORS.astype(np.float64), "float32"),
        (np.zeros_like(VECTORS), "holds no embedding"),
        (np.full_like(VECTORS, np.nan), "NaN"),
    ],
)
def test_features_that_do_not_fit_are_refused(root, tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        ijb.evaluate_features(saved(tmp_path, content), root)


def test_other_files_are_refused(root, tmp_path):
    (tmp_path / "junk.npy").write_bytes(b"no array")
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    for name in ("junk.npy", "pickle.npy", "none.npy"):
        with pytest.raises(DataError, match="cannot read"):
            ijb.evaluate_features(tmp_path / name, root)
    features.write(tmp_path / "f.npz", ["a/1.jpg", "b/1.jpg"], Embeddings(VECTORS[:2]))
    with pytest.raises(DataError, match="names two images alike"):
        ijb.evaluate_features(tmp_path / "f.npz", root)


class Network:
    """Mean colours of the quarters of a crop."""

    fingerprint, engine, precision = "a network", "numpy", "f32"

    def stream(self, crops):
        for crop in crops:
            small = cv2.resize(crop, (2, 2), interpolation=cv2.INTER_AREA).astype(np.float32)
            yield small.ravel() + 1


@pytest.fixture
def photos(tmp_path, write_ijb):
    """Loose crops of noise; the face lies turned in them, and one of them is no image."""
    landmarks = align.TEMPLATE @ np.array([[0.9, 0.3], [-0.3, 0.9]], np.float32) + (60, 20)
    root = write_ijb(tmp_path, IMAGES, PAIRS, GALLERIES, PROBES.items(), landmarks=landmarks)
    (root / "loose_crop").mkdir()
    rng = np.random.default_rng(0)
    for name, _, _ in IMAGES:
        blobs = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (200, 180), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "loose_crop" / name), blobs)
    (root / "loose_crop" / IMAGES[0][0]).write_bytes(b"no image")
    return root


def test_loose_crops_are_aligned_by_the_listed_landmarks(photos, tmp_path):
    listing = read(photos)
    landmarks = ijb.Landmarks(listing)
    image = listing.faces().image(1)
    np.testing.assert_array_equal(landmarks(IMAGES[1][0], image), align.crop(image, listing.landmarks[1]))
    result = ijb.evaluate(Network(), photos, weightings=["magface+"], cache=tmp_path / "cache")
    kept, embeddings = embed(Network(), listing.faces(), tmp_path / "cache", align=landmarks)
    assert (len(kept), result.model, list(result.failures)) == (len(IMAGES) - 1, "a network", [IMAGES[0][0]])
    check(result, "magface+", expected("magface+", np.vstack([np.zeros(12), embeddings.vectors])))


def test_mirrored_crops_are_added_raw(photos, tmp_path):
    seen = []
    result = ijb.evaluate(
        Network(), photos, weightings=["magface"], flip=True, cache=tmp_path / "cache", progress=seen.append
    )
    assert sum(seen) == 2 * len(IMAGES)
    assert result.protocol.startswith("raw embeddings of crop and mirrored crop added")
    listing = read(photos)
    both = [
        embed(Network(), listing.faces(), tmp_path / "cache", flip=flip, align=ijb.Landmarks(listing))[1].vectors
        for flip in (False, True)
    ]
    check(result, "magface", expected("magface", np.vstack([np.zeros(12), sum(both)])))
