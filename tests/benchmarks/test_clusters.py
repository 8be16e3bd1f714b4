"""Ways of grouping, on embeddings whose noise says what must come out."""

from types import SimpleNamespace

import numpy as np
import pytest

from magface.benchmarks import clusters
from magface.benchmarks.result import Result
from magface.cluster import average_linkage
from magface.cluster.estimate import threshold
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError
from magface.geometry import cosine
from magface.metrics.clustering import bcubed, bcubed_faces
from magface.types import Embeddings


@pytest.fixture
def made(monkeypatch):
    """An evaluation of given embeddings of given people."""

    def evaluate(vectors, labels, **options) -> Result:
        faces = FaceSet.of([Record(f"{i}.png", f"p{label:03d}", Held(b"")) for i, label in enumerate(labels)])
        embeddings = Embeddings(np.asarray(vectors, np.float32), "a network")
        monkeypatch.setattr(clusters, "embed", lambda _, used, *__, **___: (used, embeddings))

        class Network:
            fingerprint = "a network"
            card = SimpleNamespace(cluster_threshold=0.4)

        return clusters.evaluate(Network(), faces, **options)

    monkeypatch.setattr("magface.benchmarks.drawn.REPEATS", 40)
    return evaluate


def people(count=40, images=5, noise=0.6, seed=0):
    """Faces that are the noisier the shorter they are."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), images)
    bad = rng.beta(1, 2, len(labels))[:, None]
    vectors = rng.normal(size=(count, 32))[labels] + rng.normal(size=(len(labels), 32)) * (0.3 + noise * bad)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * (30 - 20 * bad), labels


@pytest.mark.parametrize("seed", range(3))
def test_the_f_of_all_faces_is_that_at_thresholds_chosen_on_other_people(made, monkeypatch, seed):
    monkeypatch.setattr(clusters, "THRESHOLDS", tuple(np.arange(0.2, 0.7, 0.02)))
    vectors, labels = people(noise=1.5, seed=seed)
    found = made(vectors, labels, algorithms=["agglomerative"], seed=3)
    half = (np.random.default_rng(3).permutation(40) % 2)[labels]
    embeddings = Embeddings(vectors.astype(np.float32))
    made_at = {t: bcubed_faces(labels, average_linkage(embeddings, t)) for t in clusters.THRESHOLDS}

    def f(sides, rows):
        p, r = (side[rows].mean() for side in sides)
        return 2 * p * r / (p + r)

    sides = np.empty((2, len(labels)))
    for own in (0, 1):
        best = max(made_at, key=lambda t: f(made_at[t], half != own))
        for side, values in zip(sides, made_at[best], strict=True):
            side[half == own] = values[half == own]
    assert found["40 people: agglomerative, unit: BCubed F"] == pytest.approx(f(sides, slice(None)))


def test_people_who_are_easy_to_tell_apart_are_told_apart_in_every_way(made):
    vectors, labels = people(noise=0.1)
    found = made(vectors, labels)
    values = {measure.name: measure for measure in found.measures}
    for algorithm in ("agglomerative", "dbscan", "graph", "hdbscan"):
        for way in ("unit", "magnitude"):
            measure = values[f"40 people: {algorithm}, {way}: BCubed F"]
            assert measure.value > 0.97, (algorithm, way)
            low, high = measure.interval
            assert low <= measure.value <= high
    assert found.counts == {"images": 200, "images blurred": 0, "images missing": 0, "people": 40}


def test_a_difference_is_that_of_its_two_ways(made):
    vectors, labels = people(noise=2)
    found = made(vectors, labels, algorithms=["agglomerative"])
    unit, magnitude, last = (
        found[f"40 people: agglomerative, {way}: BCubed F"] for way in ("unit", "magnitude", "poor faces last")
    )
    assert found["40 people: agglomerative, magnitude: BCubed F minus unit"] == pytest.approx(magnitude - unit)
    assert found["40 people: agglomerative, poor faces last: BCubed F minus unit"] == pytest.approx(last - unit)


def test_people_who_share_a_group_vary_together():
    """Written out: how far F moves with the weight of each person, times that of everybody they share a group with."""
    number = np.array([0, 0, 1, 1, 2, 2, 3])
    labels = np.array([[0, 0, 0, 1, 2, 2, -1], [0, 0, 5, 1, 2, 2, -1]])
    sides = bcubed_faces(number, labels[0])
    found = clusters._Set(Embeddings(np.eye(7, dtype=np.float32)), number, 0)._bcubed(*sides, labels)

    def f(weight):
        p, r = (np.average(side, weights=weight[number]) for side in sides)
        return 2 * p * r / (p + r)

    step = 1e-6 * np.eye(4)
    pull = np.array([f(1 + each) - f(1 - each) for each in step]) / 2e-6
    np.testing.assert_allclose(found.pull, pull, atol=1e-8)
    variance = (pull**2).sum() + 2 * pull[0] * pull[1]
    measure = found.measure("F", "")
    assert measure.value == pytest.approx(f(np.ones(4)))
    assert measure.interval == pytest.approx((measure.value - 1.96 * variance**0.5, 1.0))
    assert found.beside(found, "nothing").interval == (0, 0)


def test_ways_that_are_equally_good_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    number = np.repeat(np.arange(50), 4)
    added, wrong, width = [], 0, 0.0
    for _ in range(150):
        centres, noise = rng.normal(size=(50, 24)), rng.uniform(0.5, 1.3, 50)[number, None]
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        rated = []
        for _way in range(2):
            faces = Embeddings((centres[number] + noise * rng.normal(size=(200, 24)) / 24**0.5).astype(np.float32))
            labels = average_linkage(faces, 0.42)
            rated.append(clusters._Set(faces, number, 0)._bcubed(*bcubed_faces(number, labels), labels[None]))
        measure = rated[1].beside(rated[0], "added")
        low, high = measure.interval
        added.append(measure.value)
        wrong += not low <= 0 <= high
        width += (high - low) / 150
    assert wrong <= 15
    assert width / (2 * 1.96 * np.std(added)) == pytest.approx(1, abs=0.12)


def test_thresholds_without_names_are_those_of_the_card_and_the_estimate(made):
    vectors, labels = people(noise=2)
    found = made(vectors, labels, algorithms=[])
    embeddings = Embeddings(vectors.astype(np.float32))
    for name, at in (("of the card", 0.4), ("estimated", threshold(embeddings, 0.4).cosine)):
        expected = bcubed(labels, average_linkage(embeddings, at)).f
        assert found[f"40 people: threshold {name}: BCubed F"] == pytest.approx(expected)


def test_sets_are_nested_and_people_of_several_images_come_first():
    number = np.repeat(np.arange(30), np.r_[np.ones(10, int), np.full(20, 3)])
    small, middle, large = clusters._sets(number, (5, 20, 25, 31), seed=1)
    assert set(small) < set(middle) < set(large)
    assert len({*number[middle]}) == 20
    assert np.bincount(number)[number[middle]].min() == 3
    assert len({*number[large]}) == 25
    [everybody] = clusters._sets(number, (31,), seed=1)
    assert len(everybody) == len(number)


def test_centres_are_those_of_the_other_images(made):
    vectors, labels = people(count=6, images=4)
    found = made(vectors, labels, algorithms=[])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.array([cosine(unit[i], unit[(labels == p) & (np.arange(24) != i)].sum(0)) for i, p in enumerate(labels)])
    a = np.linalg.norm(vectors, axis=1)
    by_person = [np.flatnonzero(labels == person) for person in range(6)]
    together = [np.corrcoef(a[rows].argsort().argsort(), near[rows].argsort().argsort())[0, 1] for rows in by_person]
    measure = {each.name: each for each in found.measures}
    name = "centre: Spearman of magnitude and cosine to the rest, inside people"
    assert measure[name].value == pytest.approx(np.mean(together), abs=1e-4)  # people of equally many images
    hits = np.mean([a[rows].argmax() == near[rows].argmax() for rows in by_person])
    assert measure["centre: largest magnitude is nearest to the rest"].value == pytest.approx(hits)
    assert found["centre: random face: cosine to the rest"] == pytest.approx(near.mean(), abs=1e-5)
    largest = np.mean([near[rows[a[rows].argmax()]] for rows in by_person])
    assert found["centre: largest magnitude: cosine to the rest"] == pytest.approx(largest, abs=1e-5)
    assert found["centre: representative: cosine to the rest"] > near.mean()


def test_people_of_few_images_have_no_centre(made):
    vectors, labels = people(count=6, images=2)
    *_, measure = made(vectors, labels, algorithms=[]).measures
    assert (measure.value, measure.note) == (None, "nobody has 3 images.")


def test_a_face_left_out_is_a_group_of_one(made, monkeypatch):
    monkeypatch.setattr(clusters, "group", lambda embeddings, **_: np.full(len(embeddings), -1))
    vectors, labels = people(count=4, images=4)
    found = made(vectors, labels, algorithms=["hdbscan"])
    assert found["4 people: hdbscan, unit: BCubed F"] == pytest.approx(bcubed(labels, np.arange(16)).f)


@pytest.mark.parametrize(
    ("options", "count", "word"), [({"share": 1.5}, 3, "share from 0 to 1"), ({}, 1, "several people")]
)
def test_what_cannot_be_compared_is_refused(made, options, count, word):
    vectors, labels = people(count=count)
    with pytest.raises(DataError, match=word):
        made(vectors, labels, **options)


def test_real_crops_are_grouped(embedder, album_of_crops, tmp_path):
    from magface.data import formats

    found = clusters.evaluate(embedder, formats.read(album_of_crops), algorithms=["agglomerative"], cache=tmp_path)
    assert found.counts["people"] == 3
    assert found["3 people: agglomerative, unit: NMI"] > 0
