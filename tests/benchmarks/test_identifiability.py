"""Groups of images beside a direct count, and which quantity tells them apart, on faces whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from magface.benchmarks import identifiability
from magface.benchmarks.identifiability import BANDS, GROUPS, Places, bands, grouped, place
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError
from magface.geometry import direction
from magface.metrics.concordance import resampled
from magface.types import Embeddings


@pytest.fixture(scope="module")
def cloud():
    """30 people of 8 images around a direction; magnitude and nearness fall together, and a few say nothing at all."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 8)
    spread = rng.uniform(0.02, 0.12, 240)
    spread[rng.choice(240, 40, replace=False)] = 30.0
    people = direction(rng.normal(size=(30, 64)))
    units = direction(people[labels] + spread[:, None] * rng.normal(size=(240, 64)))
    return (units * (20 / (1 + spread))[:, None]).astype(np.float32), labels, spread


def cosines(vectors, labels, suspect):
    """`(N, P)` cosines of images and centres, counted one by one; those of the own centre without the image."""
    units = direction(vectors.astype(np.float64))
    found = np.empty((len(labels), labels.max() + 1))
    for i, j in np.ndindex(found.shape):
        rows = np.flatnonzero((labels == j) & ~suspect & (np.arange(len(labels)) != i))
        found[i, j] = units[i] @ direction(units[rows].mean(axis=0))
    return found


def test_places_are_those_of_a_direct_count(cloud, monkeypatch):
    vectors, labels, _ = cloud
    suspect = np.random.default_rng(1).random(len(labels)) < 0.1
    monkeypatch.setattr(identifiability, "_CELLS", 30 * 7)  # several blocks, the last of them smaller
    places, near = place(vectors, labels, suspect), cosines(vectors, labels, suspect)
    mask = np.arange(30) == labels[:, None]
    own, others = near[mask], near[~mask].reshape(len(labels), 29)
    ordered = np.sort(near, axis=1)
    logits = np.exp(64 * near)
    shares = logits / logits.sum(axis=1, keepdims=True)
    assert places.own == pytest.approx(own, abs=1e-5)
    assert places.other == pytest.approx(others.max(axis=1), abs=1e-5)
    assert places.as_near == pytest.approx((others >= own[:, None]).mean(axis=1), abs=1e-5)
    assert places.lead == pytest.approx(ordered[:, -1] - ordered[:, -2], abs=1e-5)
    assert places.certainty == pytest.approx((shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1), abs=1e-3)
    assert places.threshold == pytest.approx(np.quantile(others, 0.999), abs=1e-5)
    nearest = places.without_label()["nearest centre"]
    assert nearest == pytest.approx(near.max(axis=1), abs=1e-5)


def test_few_comparisons_give_nearly_the_threshold_of_all(cloud):
    vectors, labels, _ = cloud
    none = np.zeros(len(labels), bool)
    few, every = place(vectors, labels, none, compared=3000), place(vectors, labels, none)
    assert few.threshold == pytest.approx(every.threshold, abs=0.1)
    assert few.own == pytest.approx(every.own)


def test_an_image_does_not_know_the_centre_that_it_is_in():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 4)
    places = place(rng.normal(size=(160, 128)).astype(np.float32), labels, np.zeros(160, bool))
    assert abs(float(places.own.mean())) < 0.05
    assert not places.informative.any()


def test_an_image_of_another_person_is_told_from_one_that_says_nothing(cloud):
    vectors, labels, spread = cloud
    clear = np.flatnonzero(spread < 1)
    moved, wrong = labels.copy(), np.flatnonzero(spread < 0.06)[::10]
    moved[wrong] = (labels[wrong] + 1) % 30
    places = place(vectors, moved, np.zeros(len(labels), bool))
    group = grouped(places)
    assert {GROUPS[number] for number in group[wrong]} == {"of somebody else"}
    rest = np.setdiff1d(clear, wrong)
    assert np.mean(group[rest] == 0) > 0.9
    assert np.mean(group[spread > 1] == 2) > 0.7  # by chance one in 20 is nearest to its own, and one to another
    assert not np.any(group[spread > 1] == 3)


def test_an_image_as_near_as_one_in_twenty_others_is_unidentifiable():
    own, other = np.float32([0.4, 0.4, 0.4]), np.float32([0.45, 0.45, 0.3])
    places = Places(own, other, np.float32([0.05, 0.049, 0]), other, other, threshold=0.5)
    assert grouped(places).tolist() == [2, 1, 1]


def test_bands_are_equal_in_number_and_in_order():
    magnitude = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    found = bands(magnitude)
    assert np.bincount(found).tolist() == [1000 // BANDS] * BANDS
    tops = [magnitude[found == band].max() for band in range(BANDS)]
    assert all(magnitude[found == band + 1].min() >= tops[band] for band in range(BANDS - 1))


def test_areas_are_of_the_informative_against_the_unidentifiable(cloud):
    vectors, labels, _ = cloud
    places = place(vectors, labels, np.zeros(len(labels), bool))
    group, magnitude = grouped(places), np.linalg.norm(vectors, axis=1)
    values = {"magnitude": magnitude, "noise": np.random.default_rng(0).random(len(labels)).astype(np.float32)}
    one, every = np.zeros(len(labels), int), np.ones(len(labels), bool)
    first, second = identifiability._areas("AUC", values, group, labels, one, every, 0)
    told = (group == 0) | (group == 2)
    assert first.value == pytest.approx(roc_auc_score(group[told] == 0, magnitude[told]))
    assert first.interval[0] <= first.value <= first.interval[1]
    assert second.value == pytest.approx(0.5, abs=0.15)
    low, high = (float(end) for end in second.note.removesuffix(" beside magnitude").split(" to "))
    assert low < high < 0
    assert not first.note
    nothing = identifiability._areas("AUC", values, np.zeros_like(group), labels, one, every, 0)
    assert [(measure.value, measure.note.endswith("of one kind there are 0.")) for measure in nothing] == [
        (None, True),
        (None, True),
    ]


def test_on_faces_of_which_half_are_degraded(embedder, rof, tmp_path):
    from magface.data import formats
    from magface.data.degraded import degraded

    faces = formats.read(rof)
    rows = np.concatenate([np.flatnonzero(faces.labels == person)[: 14 if person % 6 else 6] for person in range(24)])
    methods = ("magnitude", "contrast")
    result = identifiability.evaluate(embedder, faces[rows], lowest=0.2, degrade=1, methods=methods, cache=tmp_path)
    shares = {where: [result[f"{where}: {group}"] for group in GROUPS] for where in ("lowest 20 %", "all images")}
    assert sum(shares["all images"]) == pytest.approx(1)
    assert sum(shares["lowest 20 %"]) == pytest.approx(1)
    assert shares["lowest 20 %"][2] > 2 * shares["all images"][2] > 0
    assert result["AUC, all images: magnitude"] > 0.9 > result["AUC, all images: contrast"]
    whole = degraded(faces[rows].at_least(identifiability.FEWEST), 1)
    as_they_were = np.bincount(whole.labels[~whole.suspect], minlength=len(whole.people))
    enough = as_they_were >= identifiability.FEWEST
    assert 16 < result.counts["people"] == enough.sum() < len(whole.people)
    assert result.counts["images"] == enough[whole.labels].sum()
    told = {sample.image for group in result.samples.values() for sample in group}
    assert told <= set(faces.names)
    assert [float(sample.caption.split()[0]) for sample in result.samples["informative"]] == sorted(
        float(sample.caption.split()[0]) for sample in result.samples["informative"]
    )


def test_what_it_needs_is_said(embedder, rof):
    from magface.data import formats

    faces = formats.read(rof)
    with pytest.raises(DataError, match="at least 20 people with 4 images each"):
        identifiability.evaluate(embedder, faces[faces.labels < 3])
    with pytest.raises(DataError, match="between 0 and 1"):
        identifiability.evaluate(embedder, faces, lowest=0)
    with pytest.raises(DataError, match="no quality method"):
        identifiability.evaluate(embedder, faces, methods=("magic",))


def test_as_near_is_near_and_nearer_than_anybody_is_first():
    vectors = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    places = place(vectors, np.array([0, 0, 1, 1, 2, 2]), np.zeros(6, bool))
    assert places.as_near.tolist() == [0.5] * 4 + [0] * 2  # the other centre in the same place counts
    own, other = np.float32([0.8, 0.8, 0.8]), np.float32([0.7, 0.8, 0.9])
    assert Places(own, other, other, other, other, threshold=0.5).informative.tolist() == [True, False, False]


def test_somebody_else_is_as_near_as_hardly_any_informative_image_is_to_a_stranger():
    own, other = np.full(101, 0.9, np.float32), np.linspace(0.4, 0.8, 101, dtype=np.float32)
    own[-1], other[-1] = 0.1, 0.6  # above the threshold, and as near as many
    places = Places(own, other, np.zeros(101, np.float32), other, other, threshold=0.5)
    assert places.somebody > 0.6
    assert grouped(places)[-1] == 1


def test_areas_leave_out_somebody_else_draw_people_and_compare_within_strata():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 10)
    group = np.where(people % 4 == 3, 3, np.where(people % 2 == 0, 0, 2))  # a person's images are alike
    value = (rng.normal(size=40)[people] + (group == 0)).astype(np.float32)
    stratum = np.arange(400) % 5
    value += 3 * stratum.astype(np.float32) * np.where(group == 2, 1, -1)
    every = np.ones(400, bool)
    [found] = identifiability._areas("AUC", {"v": value}, group, people, stratum, every, 4)
    told = (group == 0) | (group == 2)
    wins = [
        roc_auc_score(group[rows] == 0, value[rows])
        for k in range(5)
        for rows in [np.flatnonzero(told & (stratum == k))]
    ]
    assert found.value == pytest.approx(np.mean(wins))
    drawn = resampled([value[told]], group[told] == 0, people[told], stratum[told], seed=4)
    assert found.interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_who_has_too_few_images_left_as_they_were_is_left_out(embedder, monkeypatch):
    """Three of one person cannot be read, so that three and one that is suspect are left."""
    faces = FaceSet.of([Record(f"{i}.png", f"p{i // 7:02d}", Held(b"")) for i in range(21 * 7)])
    faces = replace(faces, suspect=np.arange(21 * 7) % 7 == 0)
    vectors = np.random.default_rng(0).normal(size=(21 * 7, 32)).astype(np.float32)
    rows = np.delete(np.arange(21 * 7), [1, 2, 3])
    monkeypatch.setattr(identifiability, "embed", lambda *_: (faces[rows], Embeddings(vectors[rows])))
    monkeypatch.setattr(identifiability, "judge", lambda _, __, usable, *___: {"size": np.arange(len(usable)) * 1.0})
    result = identifiability.evaluate(embedder, faces)
    assert (result.counts["people"], result.counts["images"]) == (20, 140)
