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
direction = "free"
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


def magface(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["finetune", *map(str, arguments)])
    return end.value.code or 0


def test_run_and_again(setting, capsys):
    recipe, people, out = setting
    assert magface(recipe, people, out, "--format", "json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "checkpoint": str(out / "checkpoint.pt"),
        "steps": 4,
        "images": 9,
        "people": 3,
        "failures": 1,
        "validation": {},
    }
    assert "p0/broken.jpg" in captured.err
    assert len((out / "log.jsonl").read_text().splitlines()) == 4
    assert magface(recipe, people, out) == 0
    assert "4 steps on 9 images of 3 people" in capsys.readouterr().out


def test_changed_recipe_is_refused_and_restarted_on_request(setting, capsys):
    recipe, people, out = setting
    assert magface(recipe, people, out) == 0
    recipe.write_text(RECIPE.replace("epochs = 2", "epochs = 1"))
    assert magface(recipe, people, out) == 2
    assert "optimization.epochs changed" in capsys.readouterr().err
    assert magface(recipe, people, out, "--restart") == 0
    assert checkpoint.load(out / "checkpoint.pt")["step"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "no.toml"}, "cannot be read"),
        ({"people": "nobody"}, "does not exist"),
        ({"start": "none.pt"}, "missing or damaged"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_input_is_one_sentence(setting, capsys, change, message):
    recipe, people, out = setting
    recipe, people = change.get("recipe", recipe), change.get("people", people)
    options = [part for name in ("start", "device") if name in change for part in (f"--{name}", change[name])]
    assert magface(recipe, people, out, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_help_has_an_example(capsys):
    assert magface("--help") == 0
    assert "magface finetune recipes/" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(setting, number):
    recipe, people, out = setting
    recipe.write_text(RECIPE.replace("epochs = 2", "epochs = 2000"))
    command = [sys.executable, "-m", "magface.cli.main", "finetune", recipe, people, out]
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
