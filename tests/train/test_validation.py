import numpy as np
import pytest
import torch
from PIL import Image

from magface.train.config import Recipe, Validation
from magface.train.validation import Live, of


@pytest.fixture
def people(toy_root):
    return str(toy_root)


def test_a_network_in_training_embeds_as_it_would_alone(toy_network, toy_face):
    network = toy_network()
    crops = [toy_face(person, 0) for person in range(20)]
    found = np.stack(list(Live(network, "cpu").stream(crops)))
    with torch.no_grad():
        expected = network(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("benchmark", "number"), [("edc", "edc/TAR@FMR=0.001"), ("degradation", "degradation/falling steps, all")]
)
def test_any_benchmark_measures_it(benchmark, number, people, toy_network):
    recipe = Recipe(validation=Validation(benchmark=benchmark, data=people))
    found = of(recipe, toy_network(), "cpu")(3)
    assert 0 <= found[number] <= 1


def test_toy_and_lfw(toy_network, toy_face, tmp_path):
    for person in range(6):
        (tmp_path / f"P{person}").mkdir()
        for image in (1, 2):
            Image.fromarray(toy_face(person, image)).save(tmp_path / f"P{person}/P{person}_{image:04d}.png")
    (tmp_path / "pairs.txt").write_text(
        "1\t3\n" + "".join(f"P{i}\t1\t2\n" for i in range(3)) + "".join(f"P{i}\t1\tP{i + 1}\t1\n" for i in range(3))
    )
    lfw = Recipe(validation=Validation(benchmark="lfw", data=str(tmp_path)))
    assert "lfw/AUC" in of(lfw, toy_network(), "cpu")(0)
    names = [f"P{i}_0001.png" for i in range(6)]
    flat = tmp_path / "flat"
    flat.mkdir()
    for person, name in enumerate(names):
        Image.fromarray(toy_face(person, 1)).save(flat / name)
    lines = [" ".join([name, *map(str, np.random.default_rng(i).normal(size=4))]) for i, name in enumerate(names)]
    (flat / "feat.list").write_text("\n".join(lines))
    toy = Recipe(validation=Validation(benchmark="toy", data=str(flat)))
    assert -1 <= of(toy, toy_network(), "cpu")(0)["toy/Spearman"] <= 1


def test_none_where_none_is_asked_for(toy_network):
    assert of(Recipe(), toy_network(), "cpu") is None
