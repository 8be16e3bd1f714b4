from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch

from magface import backbones
from magface.errors import DataError
from magface.train.config import Data, Loss, Recipe, load
from magface.train.training import margin


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_defaults_and_every_kind_of_value(tmp_path):
    assert load(written(tmp_path, "")) == Recipe()
    recipe = load(
        written(
            tmp_path,
            """
            fixed = ["blocks.0.*", "*.relu.weight"]
            [loss]
            self_tuning = true
            [loss.margin]
            l_a = 4
            lambda_g = 80.5
            easy_margin = false
            regularizer = "quadratic"
            [optimization]
            schedule = "steps"
            drops = [10, 18]
            clip = inf
            [degradation]
            counts = [1, 0.5]
            weights = {mask = 2, jpeg = 0.5}
            [distillation]
            teacher = 60
            """,
        )
    )
    assert recipe.fixed == ("blocks.0.*", "*.relu.weight")
    assert recipe.loss.margin == {"l_a": 4, "lambda_g": 80.5, "easy_margin": False, "regularizer": "quadratic"}
    assert (recipe.loss.self_tuning, recipe.optimization.clip, recipe.optimization.drops) == (True, inf, (10.0, 18.0))
    assert recipe.degradation.counts == (1.0, 0.5)
    assert recipe.degradation.weights == {"mask": 2.0, "jpeg": 0.5}
    assert recipe.distillation.teacher == 60.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drection = 'free'", "no setting drection, perhaps direction"),
        ("[loss]\nmargins = 3", r"no setting loss\.margins, perhaps margin"),
        ("[loss]\nmargin = 3", r"loss\.margin must be dict, not 3"),
        ("[loss]\nname = 'arcface'\nself_tuning = true", "loss.self_tuning must be false unless"),
        ("[head]\nrate = 0", "head.rate must be above 0"),
        ("[head]\nkind = 'sampled'", "optimization.optimizer must be 'sgd' when head.kind is 'sampled'"),
        ("[optimization]\nschedule = 'steps'", "drops must be given with schedule = 'steps'"),
        ("[optimization]\nprecision = 'int8'", "precision must be 'f32' or 'bf16' or 'fp16'"),
        ("[augmentation]\nflip = 2", "augmentation.flip must be 0 to 1"),
        ("[validation]\nbenchmark = 'lfw'", "validation.data must be given"),
        ("zzz = 1", "no setting zzz"),
        ("direction = 'loose'", "direction must be 'frozen' or 'free', not 'loose'"),
        ("seed = 1.5", r"seed must be int, not 1\.5"),
        ("seed = -1", "seed must be at least 0"),
        ("seed = true", "seed must be int, not True"),
        ("loss = 3", "loss must be Loss, not 3"),
        ("[optimization]\nbatch = 0", "batch must be at least 1"),
        ("[optimization]\nlearning_rate = 0", "learning_rate must be above 0"),
        ("[optimization]\nwarmup = 1.0", "warmup must be"),
        ("[degradation]\nshare = 2", "share must be 0 to 1"),
        ("[degradation]\nweights = {mask = 'often'}", r"degradation\.weights\.mask must be float, not 'often'"),
        ("[data]\nvalidation = 1", "validation must be"),
        ("direction = 'frozen'\nfixed = ['fc.*']", "fixed must be empty when the direction is frozen"),
        ("[degradation]\nviews = 2", "views must be 0"),
        ("direction = 'frozen'\n[distillation]\nclean = 1", "distillation must be 0 throughout"),
        ("[distillation]\nabove = 2", "above must be"),
        ("this is not toml", "cannot be read"),
    ],
)
def test_what_does_not_work_is_said(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load(written(tmp_path, text))


def test_missing_file():
    with pytest.raises(DataError, match="cannot be read"):
        load(Path("no/such/recipe.toml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('direction = "free"\n[loss]\nnegatives = "orthogonal"', "loss.negatives must be 'centres'"),
        ('direction = "frozen"\n[loss]\nnegatives = "orthogonal"', "data.min_images must be at least 2"),
        ("[loss]\nname = 'crfiqa'", "direction must be 'frozen' when loss.name is 'crfiqa'"),
        ("direction = 'frozen'\n[loss]\nname = 'crfiqa'", "loss.centres must be 'fixed'"),
        ("direction = 'frozen'\n[loss]\nname = 'crfiqa'\ncentres = 'fixed'", "data.min_images must be at least 2"),
        (
            "direction = 'frozen'\n[loss]\nname = 'crfiqa'\ncentres = 'fixed'\nnegatives = 'orthogonal'\n"
            "[data]\nmin_images = 4",
            "loss.negatives must be 'centres'",
        ),
        ("direction = 'frozen'\n[order]\nweight = 1", "order.weight must be 0 without degradation.steps"),
        ("direction = 'frozen'\n[degradation]\nsteps = 2", "steps must be at least 0, and 0 without views"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        load(written(tmp_path, text))


RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_names_a_loss_and_a_network_that_can_be_built(path):
    recipe = load(path)
    assert type(margin(recipe, recipe.loss.margin, 1000)).__module__.startswith("magface.losses")
    with torch.device("meta"):
        assert backbones.build(recipe.backbone).size


def test_the_rival_differs_from_the_shipped_model_in_its_objective_alone():
    shipped, rival = (
        load(Path(__file__).parents[2] / "recipes" / f"{name}.toml") for name in ("magsface", "crfiqa-sface")
    )
    assert rival.loss.name == "crfiqa"
    assert replace(shipped, loss=rival.loss, order=rival.order) == rival


def test_an_option_that_crfiqa_does_not_have_is_said():
    with pytest.raises(DataError, match="the loss crfiqa has no option 'm'; known: beta, unit"):
        margin(
            Recipe(loss=Loss(name="crfiqa", centres="fixed"), direction="frozen", data=Data(min_images=2)), {"m": 1}, 9
        )


def test_the_recipe_of_the_shipped_model():
    recipe = load(Path(__file__).parents[2] / "recipes" / "magsface.toml")
    assert (recipe.backbone, recipe.direction, recipe.loss.negatives) == ("magsface", "frozen", "orthogonal")
