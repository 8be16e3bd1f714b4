import json
import os
import signal
from typing import NamedTuple

import pytest
import torch
from torch import nn

from magface.errors import TrainingError
from magface.train import checkpoint, loop
from magface.train.config import Optimization, Recipe

SETTINGS = Recipe(optimization=Optimization(batch=4, learning_rate=0.1, save_every=3, workers=2))


class Batch(NamedTuple):
    names: list[str]
    x: torch.Tensor


def task(steps=6, *, at=None, bad=None):
    """Regression with dropout; `at` = (step, call) runs something during a step."""
    torch.manual_seed(0)
    model, head = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), nn.Linear(3, 1)
    done = []

    def batch(step):
        generator = torch.Generator().manual_seed(step)
        return Batch([f"{step}/{i}.jpg" for i in range(4)], torch.randn(4, 3, generator=generator))

    def loss(batch):
        step = int(batch.names[0].split("/")[0])
        done.append(step)
        if at and step == at[0]:
            at[1]()
        value = head(model(batch.x)).square().mean()
        return value * (float("nan") if step == bad else 1), {"magnitude": 1.0}

    return loop.Task(model, head, steps, batch, loss, "data"), done


def weights(path):
    state = checkpoint.load(path)
    return [*state["model"].values(), *state["head"].values()]


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_is_the_same_bit_for_bit(tmp_path, number):
    whole, _ = task()
    expected = weights(loop.run(whole, SETTINGS, tmp_path / "whole"))
    before = signal.getsignal(number)
    first, done = task(at=(1, lambda: os.kill(os.getpid(), number)))
    with pytest.raises(loop.StoppedError, match="after step 2") as stop:
        loop.run(first, SETTINGS, tmp_path / "parts")
    assert stop.value.exit_code == 128 + number
    assert done == [0, 1]
    assert signal.getsignal(number) is before
    second, done = task()
    resumed = weights(loop.run(second, SETTINGS, tmp_path / "parts"))
    assert done == [2, 3, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))
    logs = [read_log(tmp_path / n) for n in ("whole", "parts")]
    assert [line["step"] for line in logs[1]] == list(range(6))
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_killed_between_checkpoints_goes_on_from_the_last(tmp_path):
    whole, _ = task()
    expected = weights(loop.run(whole, SETTINGS, tmp_path / "whole"))

    def crash():
        raise KeyError("as if killed")

    first, _ = task(at=(4, crash))
    with pytest.raises(KeyError):
        loop.run(first, SETTINGS, tmp_path / "parts")
    second, done = task()
    resumed = weights(loop.run(second, SETTINGS, tmp_path / "parts"))
    assert done == [3, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))
    assert [line["step"] for line in read_log(tmp_path / "parts")] == list(range(6))


def test_a_finished_run_has_nothing_to_do_and_restarts_on_request(tmp_path):
    loop.run(task()[0], SETTINGS, tmp_path)
    again, done = task()
    loop.run(again, SETTINGS, tmp_path)
    assert done == []
    loop.run(again, SETTINGS, tmp_path, restart=True)
    assert done == list(range(6))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    broken, _ = task(bad=2)
    settings = Recipe(optimization=Optimization(batch=4, learning_rate=0.1, save_every=1))
    with pytest.raises(TrainingError, match=r"step 2 .* 2/0\.jpg, 2/1\.jpg"):
        loop.run(broken, settings, tmp_path)
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    assert saved["step"] == 2
    assert all(torch.equal(value, broken.model.state_dict()[name]) for name, value in saved["model"].items())


def test_an_error_in_a_worker_is_raised(tmp_path):
    def batch(step):
        raise OSError("disk gone")

    good, _ = task()
    with pytest.raises(OSError, match="disk gone"):
        loop.run(loop.Task(good.model, good.head, 3, batch, good.loss, "data"), SETTINGS, tmp_path)


def test_prefetch_keeps_order():
    assert list(loop.prefetch(lambda step: step**2, range(3, 30), 4)) == [(n, n**2) for n in range(3, 30)]


def test_learning_rate_rises_then_falls():
    rates = [loop.learning_rate(step, 100, 2.0, 0.1) for step in range(100)]
    assert rates[9] == rates[10] == max(rates) == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
