from dataclasses import replace

import numpy as np
import pytest
import torch

from magface.train import views
from magface.train.config import Degradation, Recipe

RECIPE = Recipe(direction="frozen", degradation=Degradation(views=2))


@pytest.fixture
def few(toy_faces):
    return toy_faces[np.arange(40)]


def test_views_hold_what_the_network_makes_of_clean_and_degraded_images(few, toy_network, tmp_path):
    network = toy_network()
    found = views.compute(network, few, RECIPE, tmp_path)
    assert found.embeddings.shape == (40, 3, 24)
    assert found.features.shape == (40, 3, 16, 7, 7)
    with torch.no_grad():
        x = views.to_network(torch.from_numpy(np.stack([few.read(i) for i in range(40)])))
        features = network.trunk(x)
        expected = network.embed(features)
    np.testing.assert_allclose(found.embeddings[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(found.features[:, 0], features, rtol=1e-3, atol=1e-4)
    assert not np.allclose(found.features[:, 0], found.features[:, 1], atol=0.1)
    assert not np.allclose(found.features[:, 1], found.features[:, 2], atol=0.1)


def test_steps_are_one_degradation_that_grows(few, toy_network, tmp_path):
    network = toy_network()
    recipe = Recipe(direction="frozen", degradation=Degradation(views=1, steps=3))
    found = views.compute(network, few, recipe, tmp_path)
    assert found.features.shape == (40, 5, 16, 7, 7)
    away = np.abs(found.features - found.features[:, :1]).mean((2, 3, 4)).mean(0)[-3:]
    assert away[0] < away[1] < away[2]


def test_views_are_kept_and_belong_to_images_weights_and_settings(few, toy_network, tmp_path):
    network = toy_network()
    first = views.compute(network, few, RECIPE, tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    torch.nn.init.normal_(network.branch[1].weight)
    again = views.compute(network, few, RECIPE, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    assert np.array_equal(first.features, again.features)
    others = [
        views.compute(toy_network(1), few, RECIPE, tmp_path),
        views.compute(network, few[np.arange(20)], RECIPE, tmp_path),
        views.compute(network, few, replace(RECIPE, degradation=replace(RECIPE.degradation, seed=1)), tmp_path),
        views.compute(network, few, Recipe(direction="frozen", degradation=Degradation(views=2, none=0.5)), tmp_path),
    ]
    assert len({first.key, *(other.key for other in others)}) == 5
    assert views.compute(network, few, replace(RECIPE, seed=1), tmp_path).key == first.key


def test_without_views_only_clean_embeddings_of_any_network(few, toy_network, tmp_path):
    found = views.compute(
        toy_network(branched=False),
        few,
        Recipe(
            direction="frozen",
        ),
        tmp_path,
    )
    assert found.embeddings.shape == (40, 1, 24)
    assert found.features is None
    assert len(list(tmp_path.iterdir())) == 1


def test_flip_mirrors_half_of_the_images(few):
    image = few.read(0)
    flipped = [views.flip(image, np.random.default_rng(seed)) for seed in range(40)]
    mirrored = sum(np.array_equal(out, image[:, ::-1]) for out in flipped)
    assert 10 < mirrored < 30
    assert mirrored + sum(np.array_equal(out, image) for out in flipped) == 40
