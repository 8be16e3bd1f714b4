import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from magface.cli.main import main
from magface.train import checkpoint

RECIPE = """
fixed = ["blocks.*"]
[data]
min_images = 2
validation = 0.0
[distillation]
teacher = 60
[optimization]
epochs = 2
batch = 4
save_every = 1
"""


@pytest.fixture
def setting(tmp_path):
    """(recipe, folder of three people, folder of the run)"""
    for number in range(9):
        path = tmp_path / "people" / f"p{number // 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (112, 112, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "people/p0/broken.jpg").write_bytes(b"no image")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    return recipe, tmp_path / "people", tmp_path / "run"


def arguments(recipe, people, out):
    return "finetune", "--recipe", recipe, "--data", people, "-o", out


def magface(*arguments):
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code or 0


def test_run_and_again(setting, capsys):
    recipe, people, out = setting
    assert magface(*arguments(recipe, people, out), "--format", "json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "checkpoint": str(out / "checkpoint.pt"),
        "steps": 6,
        "images": 9,
        "people": 3,
        "failures": 1,
        "unreadable": 0,
        "validation": {},
    }
    assert "p0/broken.jpg" in captured.err
    assert len((out / "log.jsonl").read_text().splitlines()) == 6
    assert magface(*arguments(recipe, people, out)) == 0
    assert "6 steps on 9 images of 3 people" in capsys.readouterr().out


def test_changed_recipe_is_refused_and_restarted_on_request(setting, capsys):
    recipe, people, out = setting
    assert magface(*arguments(recipe, people, out)) == 0
    recipe.write_text(RECIPE.replace("epochs = 2", "epochs = 1"))
    assert magface(*arguments(recipe, people, out)) == 2
    assert "optimization.epochs changed" in capsys.readouterr().err
    assert magface(*arguments(recipe, people, out), "--restart") == 0
    assert checkpoint.load(out / "checkpoint.pt")["step"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "no.toml"}, "cannot be read"),
        ({"people": "nobody"}, "does not exist"),
        ({"from": "none.pt"}, "none.pt"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_input_is_one_sentence(setting, capsys, change, message):
    recipe, people, out = setting
    recipe, people = change.get("recipe", recipe), change.get("people", people)
    options = [part for name in ("from", "device") if name in change for part in (f"--{name}", change[name])]
    assert magface(*arguments(recipe, people, out), *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_help_has_an_example(capsys):
    assert magface("finetune", "--help") == 0
    assert "magface finetune --from" in capsys.readouterr().out


def test_nothing_needs_to_be_set(setting, capsys):
    _, people, out = setting
    for number in range(9, 200):
        folder = people / f"p{number % 20}"
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (112, 112, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    assert magface("finetune", "--from", "sface", "--data", people, "-o", out, "--format", "json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 8
    for chosen in ("l_a = ", "u_a = ", "l_m = 0.45", "lambda_g = "):
        assert chosen in captured.err
    assert checkpoint.load(out / "checkpoint.pt")["backbone"] == "sface"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(setting, number):
    recipe, people, out = setting
    recipe.write_text(RECIPE.replace("epochs = 2", "epochs = 2000"))
    command = [sys.executable, "-m", "magface", *arguments(recipe, people, out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = out / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "the same command goes on" in error
    assert "Traceback" not in error
    assert checkpoint.load(out / "checkpoint.pt")["step"] >= 1
