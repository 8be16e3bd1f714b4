import json

import numpy as np
import pytest
from PIL import Image

from magface.cli.main import main
from magface.train import checkpoint

RECIPE = """
backbone = "mobilefacenet"
[data]
validation = 0.0
[loss]
name = "{loss}"
[optimization]
epochs = 1
batch = 6
optimizer = "sgd"
"""


@pytest.fixture
def setting(tmp_path):
    """(recipe, folder of three people, folder of the run)"""
    for number in range(12):
        path = tmp_path / "people" / f"p{number // 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (112, 112, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(loss="magface"))
    return recipe, tmp_path / "people", tmp_path / "run"


def magface(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, arguments)])
    return end.value.code or 0


def test_from_first_weights_to_a_checkpoint(setting, capsys):
    recipe, people, out = setting
    assert magface(recipe, "--data", people, "-o", out, "--seed", 3, "--format", "json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["steps"], summary["images"], summary["people"]) == (2, 12, 3)
    state = checkpoint.load(out / "checkpoint.pt")
    assert (state["backbone"], state["recipe"]["seed"]) == ("mobilefacenet", 3)
    assert magface(recipe, "--data", people, "-o", out, "--seed", 3) == 0
    assert "2 steps on 12 images of 3 people" in capsys.readouterr().out


def test_images_are_looked_at_when_their_turn_comes(setting, capsys):
    recipe, people, out = setting
    (people / "p1" / "5.png").write_bytes(b"no image")
    assert magface(recipe, "--data", people, "-o", out, "--format", "json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["images"], summary["failures"], summary["unreadable"]) == (12, 0, 1)
    assert (out / "unreadable.tsv").read_text().startswith("p1/5.png\t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1", "does not name a network"),
        ('backbone = "mobilfacenet"', "did you mean mobilefacenet"),
        (RECIPE.format(loss="magfase"), "did you mean magface"),
    ],
)
def test_a_recipe_that_cannot_work_is_one_sentence(setting, capsys, text, message):
    recipe, people, out = setting
    recipe.write_text(text)
    assert magface(recipe, "--data", people, "-o", out) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_help_teaches_torchrun(capsys):
    assert magface("--help") == 0
    assert "torchrun" in capsys.readouterr().out
