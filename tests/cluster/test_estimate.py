"""The threshold of a set of faces against the best one that its labels give."""

import numpy as np
import pytest

from magface.cluster import average_linkage, estimate
from magface.cluster.estimate import threshold
from magface.errors import DataError
from magface.metrics.clustering import pairwise
from magface.types import Embeddings


def people(persons, each, spread, seed=0, size=64):
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(persons), each)
    vectors = rng.normal(size=(persons, size))[person] + rng.normal(size=(len(person), size)) * spread
    return Embeddings(vectors * rng.uniform(1, 30, (len(person), 1))), person


def f_at(faces, person, cosine):
    return pairwise(person, average_linkage(faces, cosine)).f


@pytest.mark.parametrize(
    ("persons", "each", "spread"), [(500, 3, 0.6), (100, 10, 0.9), (20, 30, 1.0), (8, 30, 0.7), (60, 4, 0.5)]
)
def test_groups_at_the_estimate_are_nearly_as_good_as_the_best(persons, each, spread):
    faces, person = people(persons, each, spread)
    found = threshold(faces, 0.9)
    best = max(f_at(faces, person, cosine) for cosine in np.arange(0.1, 0.9, 0.05))
    assert not found.reason
    assert f_at(faces, person, found.cosine) > best - 0.03


def test_one_in_ten_pairs_above_the_estimate_is_false():
    faces, person = people(600, 4, 0.85)
    found = threshold(faces, 0.9)
    first, second = np.triu_indices(len(faces), 1)
    reached = np.einsum("ij,ij->i", faces.direction[first], faces.direction[second]) >= found.cosine
    false = (person[first] != person[second])[reached].mean()
    assert 0.03 < false < 0.15


def test_more_people_need_a_higher_threshold():
    few, many = (threshold(people(persons, 4, 0.8)[0], 0.9).cosine for persons in (40, 800))
    assert many > few + 0.03


def test_too_few_faces_take_the_fallback():
    faces, _ = people(5, 4, 0.5)
    assert threshold(faces, 0.4) == estimate.Estimate(0.4, "190 pairs of faces are too few to estimate a threshold.")


@pytest.mark.parametrize("count", [0, 1])
def test_no_pairs_take_the_fallback(count):
    assert threshold(Embeddings(np.ones((count, 4), np.float32)), 0.4).cosine == 0.4


def test_one_person_takes_the_fallback():
    faces, _ = people(1, 100, 0.4)
    found = threshold(faces, 0.4)
    assert found.cosine == 0.4
    assert "most pairs of faces seem to be of one person" in found.reason


def test_copies_take_the_fallback():
    found = threshold(Embeddings(np.ones((100, 4), np.float32)), 0.4)
    assert found.cosine == 0.4
    assert "one person" in found.reason


def test_strangers_alone_stay_apart():
    faces, _ = people(800, 1, 0.0)
    found = threshold(faces, 0.2)
    assert "no pairs of faces stand out" in found.reason
    assert found.cosine > 0.4
    assert len(set(average_linkage(faces, found.cosine))) > 790


def test_faces_without_direction_do_not_count():
    faces, _ = people(60, 5, 0.7)
    more = Embeddings(np.concatenate([faces.vectors, np.zeros((500, 64), np.float32)]))
    assert threshold(more, 0.9) == threshold(faces, 0.9)


def test_magnitudes_and_order_change_nothing():
    faces, _ = people(60, 5, 0.7)
    order = np.random.default_rng(0).permutation(len(faces))
    assert threshold(Embeddings(faces.direction[order]), 0.9).cosine == pytest.approx(
        threshold(faces, 0.9).cosine, abs=0.01
    )


def test_some_faces_of_many_give_nearly_the_same(monkeypatch):
    faces, _ = people(300, 6, 0.8)
    full = threshold(faces, 0.9).cosine
    monkeypatch.setattr(estimate, "_COSINES", 300 * len(faces))
    assert threshold(faces, 0.9, seed=1).cosine == pytest.approx(full, abs=0.03)
    assert threshold(faces, 0.9, seed=1) == threshold(faces, 0.9, seed=1)


def test_a_fallback_that_is_no_cosine_is_refused():
    with pytest.raises(DataError, match="cosine"):
        threshold(Embeddings(np.ones((2, 2), np.float32)), 2)


@pytest.mark.slow
def test_real_faces_are_grouped_better_than_at_the_threshold_of_the_card(rof):
    from magface.benchmarks import faces
    from magface.data import image_folder
    from magface.embedder import Embedder

    embedder = Embedder()
    images, embeddings = faces.embed(embedder, image_folder.read(rof))
    card = embedder.card.cluster_threshold
    found = threshold(embeddings, card)
    assert f_at(embeddings, images.labels, found.cosine) > f_at(embeddings, images.labels, card) + 0.1
