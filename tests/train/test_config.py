from pathlib import Path

import pytest

from magface.errors import DataError
from magface.train.config import Recipe, load


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
            direction = "free"
            fixed = ["blocks.0.*", "*.relu.weight"]
            [loss]
            l_a = 4
            lambda_g = 80.5
            easy_margin = false
            regularizer = "quadratic"
            [degradation]
            counts = [1, 0.5]
            weights = {mask = 2, jpeg = 0.5}
            [distillation]
            teacher = 60
            """,
        )
    )
    assert recipe.fixed == ("blocks.0.*", "*.relu.weight")
    assert (recipe.loss.l_a, recipe.loss.lambda_g, recipe.loss.easy_margin) == (4.0, 80.5, False)
    assert recipe.degradation.counts == (1.0, 0.5)
    assert recipe.degradation.weights == {"mask": 2.0, "jpeg": 0.5}
    assert recipe.distillation.teacher == 60.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drection = 'free'", "no setting drection, perhaps direction"),
        ("[loss]\nlambda = 3", r"no setting loss\.lambda, perhaps lambda_g"),
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
        ("fixed = ['fc.*']", "fixed must be empty when the direction is frozen"),
        ("direction = 'free'\n[degradation]\nviews = 2", "views must be 0"),
        ("[distillation]\nclean = 1", "distillation must be 0 throughout"),
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
        ('[data]\nmin_images = 1\n[loss]\nnegatives = "orthogonal"', "data.min_images must be at least 2"),
        ("[order]\nweight = 1", "order.weight must be 0 without degradation.steps"),
        ("[degradation]\nsteps = 2", "steps must be at least 0, and 0 without views"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        load(written(tmp_path, text))


def test_the_recipe_of_the_shipped_model_loads():
    recipe = load(Path(__file__).parents[2] / "recipes" / "magsface.toml")
    assert (recipe.backbone, recipe.direction, recipe.loss.negatives) == ("magsface", "frozen", "orthogonal")
