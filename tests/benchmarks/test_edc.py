"""Error versus discard of a model against loops over the pairs, and what the result says."""

import itertools
import json
import math

import numpy as np
import pytest

from magface.benchmarks import edc
from magface.benchmarks.methods import Image
from magface.data import formats
from magface.data.degraded import degraded
from magface.errors import DataError
from magface.geometry import cosine
from magface.metrics.discard import Found, Numbers
from magface.models import default
from magface.types import Embeddings

RATES = (0.1, 0.5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def worse(tmp_path_factory, album_of_crops):
    """The album, each person's third crop so dark and noisy that it hardly matches."""
    import cv2

    root = tmp_path_factory.mktemp("worse")
    rng = np.random.default_rng(0)
    for path in sorted(album_of_crops.glob("*/*.png")):
        image = cv2.imread(str(path))
        if "0003" in path.name:
            image = np.uint8(np.clip(image * 0.2 + rng.normal(0, 40, image.shape), 0, 255))
        (root / path.parent.name).mkdir(exist_ok=True)
        cv2.imwrite(str(root / path.parent.name / path.name), image)
    return root


@pytest.fixture(scope="module")
def listed(tmp_path_factory, worse):
    """Every pair of the album, as a list."""
    names = sorted(f"{path.parent.name}/{path.name}" for path in worse.glob("*/*.png"))
    rows = [f"{a}\t{b}\t{int(a[:3] == b[:3])}" for a, b in itertools.combinations(names, 2)]
    path = tmp_path_factory.mktemp("list") / "pairs.txt"
    path.write_text("\n".join(rows) + "\n")
    return path


def pairs(embedder, folder):
    """Similarity, whether genuine, and both magnitudes and brightnesses, of all pairs."""
    faces = formats.read(folder)
    crops = [faces.read(row) for row in range(len(faces))]
    vectors = np.array(list(embedder.stream(crops)))
    a, b = np.array(list(itertools.combinations(range(len(faces)), 2))).T
    magnitude, brightness = np.linalg.norm(vectors, axis=1), Image("brightness")(crops)
    return (
        cosine(vectors[a], vectors[b]),
        faces.labels[a] == faces.labels[b],
        {"magnitude": (magnitude[a], magnitude[b]), "brightness": (brightness[a], brightness[b])},
    )


def area(wrong, quality, limit):
    """Mean error up to a limit, pair by pair; ties in the mean of both directions of the list would hide here."""
    assert len(set(quality.tolist())) == len(quality)
    order = np.argsort(quality)
    rates = [np.mean(wrong[order[k:]]) for k in range(len(wrong))]
    ends = [min(limit * len(wrong), k + 1) for k in range(len(wrong))]
    widths = [max(0, end - k) for k, end in enumerate(ends)]
    return sum(width * rate for width, rate in zip(widths, rates, strict=True)) / (limit * len(wrong))


def test_drawn_pairs_are_judged_as_loops_do(embedder, worse, cache):
    found = edc.evaluate(embedder, worse, fmr=RATES, methods=["magnitude", "brightness"], rule="mean", cache=cache)
    score, same, qualities = pairs(embedder, worse)
    assert (found.counts["genuine pairs"], found.counts["impostor pairs"]) == (9, 27)
    for rate, (name, sides) in itertools.product(RATES, qualities.items()):
        others = np.sort(score[~same])[::-1]
        wrong = score[same] <= others[math.floor(rate * len(others))]
        for limit in (0.1, 0.2, 0.3):
            expected = area(wrong, np.mean(sides, axis=0)[same], limit)
            at = f"{100 * limit:.0f} % at FMR {rate:g}"
            assert found[f"{name}: pAUC {at}"] == pytest.approx(expected)
            if wrong.any():
                assert found[f"{name}: r {at}"] == pytest.approx(expected / wrong.mean())
        accepted = score[~same] > others[math.floor(rate * len(others))]
        expected = area(accepted, np.mean(sides, axis=0)[~same], 0.3) / accepted.mean()
        assert found[f"{name}: false match r 30 % at FMR {rate:g}"] == pytest.approx(expected)


def test_the_list_of_all_pairs_gives_the_same_as_drawing_them_all(embedder, worse, listed, cache):
    drawn = edc.evaluate(embedder, worse, fmr=RATES, cache=cache)
    found = edc.evaluate(embedder, worse, pairs=listed, fmr=RATES, interval="people", cache=cache)
    values = {each.name: each.value for each in drawn.measures}
    for each in found.measures:
        if each.value is not None and not each.name.startswith("mean magnitude"):
            assert each.value == pytest.approx(values[each.name]), each.name
    assert found.counts["pairs missing"] == 0
    assert "pairs of a list" in found.protocol
    assert "intervals over people" in found.protocol


def test_thresholds_are_said_and_curves_are_those_of_the_measures(embedder, worse, cache):
    found = edc.evaluate(embedder, worse, fmr=RATES, interval="people", cache=cache)
    t = found["threshold at FMR 0.1"]
    assert f"fixed on all pairs at FMR 0.1 (cosine >= {t:.4f}), FMR 0.5 (cosine >= " in found.protocol
    assert "quality of a pair: min" in found.protocol
    names = [
        f"{name}{kind} at FMR {rate}"
        for name in ("ideal", "magnitude")
        for kind in ("", ", false matches")
        for rate in RATES
    ]
    assert found.discards.keys() == set(names)
    curve, best = found.discards["magnitude at FMR 0.1"], found.discards["ideal at FMR 0.1"]
    assert (curve.kind, curve.comparisons, curve.start) == ("FNMR", 9, f"FMR 0.1, cosine >= {t:.4f}")
    assert found.discards["magnitude, false matches at FMR 0.1"].comparisons == 27
    assert len(curve.band) == len(curve.error) == len(curve.discarded) <= 1000
    assert all(0 <= low <= high <= 1 for low, high in curve.band)
    assert best.band == ()
    interval = {each.name: each.interval for each in found.measures}
    assert interval["magnitude: pAUC 30 % at FMR 0.1"] is not None
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_error_to_start_with_is_reached(embedder, worse, cache):
    found = edc.evaluate(embedder, worse, fnmr=0.34, cache=cache)
    score, same, _ = pairs(embedder, worse)
    t = found["threshold at FNMR 0.34"]
    assert t == pytest.approx(np.sort(score[same])[3], abs=1e-6)
    assert found.discards["magnitude"].error[0] == pytest.approx(3 / 9)
    with pytest.raises(DataError, match="leave one out"):
        edc.evaluate(embedder, worse, fmr=[0.1], fnmr=0.1, cache=cache)


def test_repicked_curves_end_where_the_rate_cannot_be_measured(embedder, worse, cache):
    found = edc.evaluate(embedder, worse, fmr=[0.1], threshold="repicked", cache=cache)
    assert found.discards.keys() == {"magnitude"}
    assert "picked again at each level" in found.protocol
    curve = found.discards["magnitude"]
    assert curve.start == "FMR 0.1, picked again at each level"
    assert 0.5 < curve.discarded[-1] < 1
    assert "magnitude: efficiency 30 % at FMR 0.1" not in {each.name for each in found.measures}


def test_rates_that_cannot_be_measured_have_a_reason_and_no_curve(embedder, worse, cache):
    found = edc.evaluate(embedder, worse, cache=cache)
    assert found["threshold at FMR 0.001"] is None
    assert found.discards == {}
    assert "no threshold can be measured" in found.protocol
    found = edc.evaluate(embedder, worse, fmr=[0.1, 1e-4], cache=cache)
    assert found["threshold at FMR 0.0001"] is None
    assert found["magnitude: pAUC 10 % at FMR 0.1"] is not None


def test_the_magnitude_of_another_model_is_a_rival_on_the_same_pairs(embedder, worse, cache):
    found = edc.evaluate(embedder, worse, fmr=[0.1], beside=[default.path()], interval="people", cache=cache)
    name = embedder.card.name
    [difference] = [each for each in found.measures if " minus " in each.name]
    assert difference.name == f"{name}: r 30 % minus that of magnitude at FMR 0.1"
    assert (difference.value, difference.interval) == (0, (0, 0))
    for limit in (10, 20, 30):
        assert found[f"{name}: r {limit} % at FMR 0.1"] == found[f"magnitude: r {limit} % at FMR 0.1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "median"}, "no rule median"),
        ({"methods": ["magnitud"]}, "magnitud"),
        ({"fmr": [2.0]}, "between 0 and 1"),
        ({"fnmr": 0.0}, "between 0 and 1"),
        ({"rule": "product", "methods": ["pose"], "fmr": [0.1]}, "no qualities below 0"),
    ],
)
def test_mistakes_are_said(embedder, worse, cache, options, words):
    with pytest.raises(DataError, match=words):
        edc.evaluate(embedder, worse, cache=cache, **options)


def test_on_real_faces_the_magnitude_discards_what_goes_wrong(embedder, rof, tmp_path):
    for person in sorted(path for path in rof.iterdir() if path.is_dir())[:6]:
        (tmp_path / "faces" / person.name).mkdir(parents=True)
        for image in sorted(person.iterdir())[::2][:25]:
            (tmp_path / "faces" / person.name / image.name).symlink_to(image)
    found = edc.evaluate(
        embedder, tmp_path / "faces", fnmr=0.1, methods=["magnitude", "brightness"], cache=tmp_path / "cache"
    )
    own, rival = (found[f"{name}: r 30 % at FNMR 0.1"] for name in ("magnitude", "brightness"))
    assert own < rival - 0.1


def test_degrading_half_of_the_images_is_as_measuring_a_degraded_folder(embedder, album_of_crops, tmp_path, cache):
    import cv2

    faces = degraded(formats.read(album_of_crops), seed=5)
    assert 0 < faces.suspect.sum() < len(faces)
    for row, name in enumerate(faces.names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), faces.read(row)[..., ::-1])
    options = {"methods": ("magnitude", "contrast"), "fmr": (0.5,), "cache": cache}
    found = edc.evaluate(embedder, album_of_crops, degrade=5, **options)
    assert found.measures == edc.evaluate(embedder, tmp_path, **options).measures
    assert found.protocol.startswith("half of the images degraded with seed 5; ")
    assert found.measures != edc.evaluate(embedder, album_of_crops, **options).measures


def test_places_of_pairs_are_exact_where_roots_are_rounded():
    i = np.array([1, 2, 3, 10**6, 94906267, 2**30], np.int64)
    for rank, wanted in ((i * (i - 1) // 2, (i, 0 * i)), (i * (i + 1) // 2 - 1, (i, i - 1))):
        np.testing.assert_array_equal(edc._unranked(rank), wanted)


def test_differences_are_of_the_last_limit_and_the_first_method_is_taken_off(embedder, worse, cache):
    methods = ("magnitude", "contrast")
    found = edc.evaluate(embedder, worse, fmr=[0.5], methods=methods, interval="people", cache=cache)
    ours, other = (found[f"{name}: r 30 % at FMR 0.5"] for name in methods)
    assert ours != other != found["contrast: r 10 % at FMR 0.5"]
    assert found["contrast: r 30 % minus that of magnitude at FMR 0.5"] == pytest.approx(other - ours)


def test_a_curve_steps_where_its_band_alone_does():
    def numbers(error):
        return Numbers(np.array(error), *np.zeros((3, 1)))

    found = Found(numbers([0.2, 0.2, 0.2, 0.1]), numbers([0.1, 0.1, 0.1, 0.0]), numbers([0.3, 0.3, 0.4, 0.4]))
    told = edc._steps(np.arange(4) / 4, found, "FNMR", "a start", 9)
    assert (told.discarded, told.error) == ((0, 0.5, 0.75), (0.2, 0.2, 0.1))
    assert told.band == ((0.1, 0.3), (0.1, 0.4), (0, 0.4))


@pytest.mark.parametrize(("conditions", "told"), [(1, 1), (10, 11), (11, 1)])
def test_magnitudes_are_told_by_condition_where_there_are_few(conditions, told):
    embeddings = Embeddings(np.arange(1, 23, dtype=np.float32)[:, None])
    found = edc._magnitudes(embeddings, tuple(f"c{row % conditions}_{row}.jpg" for row in range(22)))
    assert len(found) == told
    if told > 1:
        assert found[1].value == pytest.approx(np.mean(np.arange(1, 23)[::10]))
