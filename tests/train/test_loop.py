import json
import os
import signal
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from magface.errors import TrainingError
from magface.losses.margin import Margin
from magface.train import checkpoint, loop
from magface.train.config import Optimization
from magface.train.ranks import Ranks

SETTINGS = Optimization(epochs=1, batch=4, learning_rate=0.1, save_every=3, workers=2)
ORIGIN = checkpoint.Origin("toy", {"seed": 0}, "data")


@dataclass(frozen=True, eq=False)
class Batch:
    names: list[str]
    x: torch.Tensor
    share: float = 1.0

    @property
    def degraded(self):
        return np.arange(len(self.names)) > 1


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)


def task(steps=6, *, at=None, bad=(), split=1, validate=None):
    """Regression with dropout and batch statistics; `at` = (step, call) runs something during a step."""
    torch.manual_seed(0)
    model, head = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)), Head()
    done = []

    def parts(step):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        if step in bad:
            x[2] = float("nan")
        names = [f"{step}/{i}.jpg" for i in range(4)]
        return [Batch(names[i::split], x[i::split], 1 / split) for i in range(split)]

    def loss(batch):
        step = int(batch.names[0].split("/")[0])
        done.append(step)
        if at and step == at[0]:
            at[1]()
        found = head.linear(model(batch.x))[:, 0]
        value = found.square().mean()
        common = {"identity": value.detach(), "penalty": torch.zeros(())}
        return loop.Outcome(value, common, {}, found.detach(), batch.x.norm(dim=1), found > 0)

    return loop.Task(model, model, head, Margin(), steps, parts, loss, validate), done


def run(job, out, settings=SETTINGS, **options):
    out.mkdir(exist_ok=True)
    return loop.run(job, settings, ORIGIN, out, Ranks(), **options)


def weights(path):
    state = checkpoint.load(path)
    return [*state["model"].values(), *state["parts"][0]["head"].values()]


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("precision", ["f32", "fp16"])
def test_stopped_and_resumed_is_the_same_bit_for_bit(tmp_path, number, precision):
    settings = replace(SETTINGS, precision=precision)
    expected = weights(run(task()[0], tmp_path / "whole", settings))
    before = signal.getsignal(number)
    first, done = task(at=(1, lambda: os.kill(os.getpid(), number)))
    with pytest.raises(loop.StoppedError, match="after step 2") as stop:
        run(first, tmp_path / "parts", settings)
    assert stop.value.exit_code == 128 + number
    assert done == [0, 1]
    assert signal.getsignal(number) is before
    second, done = task()
    resumed = weights(run(second, tmp_path / "parts", settings))
    assert done == [2, 3, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))
    logs = [read_log(tmp_path / n) for n in ("whole", "parts")]
    assert [line["step"] for line in logs[1]] == list(range(6))
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_killed_between_checkpoints_goes_on_from_the_last(tmp_path, optimizer):
    settings = replace(SETTINGS, optimizer=optimizer)
    expected = weights(run(task()[0], tmp_path / "whole", settings))

    def crash():
        raise KeyError("as if killed")

    first, _ = task(at=(4, crash))
    with pytest.raises(KeyError):
        run(first, tmp_path / "parts", settings)
    second, done = task()
    resumed = weights(run(second, tmp_path / "parts", settings))
    assert done == [3, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))
    assert [line["step"] for line in read_log(tmp_path / "parts")] == list(range(6))


def test_a_finished_run_has_nothing_to_do_and_restarts_on_request(tmp_path):
    run(task()[0], tmp_path)
    again, done = task()
    run(again, tmp_path)
    assert done == []
    run(again, tmp_path, restart=True)
    assert done == list(range(6))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change_and_names_the_image(tmp_path):
    broken, _ = task(bad=[2])
    with pytest.raises(TrainingError, match=r"step 2 .* 2/2\.jpg"):
        run(broken, tmp_path, replace(SETTINGS, save_every=1))
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    assert saved["step"] == 2
    parameters = dict(broken.model.named_parameters())
    assert all(torch.equal(value, saved["model"][name]) for name, value in parameters.items())
    [line] = [json.loads(line) for line in (tmp_path / "bad_batches.jsonl").read_text().splitlines()]
    assert (line["step"], line["images"]) == (2, ["2/2.jpg"])


def test_a_bad_step_is_left_out_as_if_it_had_never_been(tmp_path):
    settings = replace(SETTINGS, on_bad_loss="skip", skip_limit=1)
    broken, done = task(bad=[2])
    run(broken, tmp_path, settings)
    assert done == list(range(6))
    assert all(value.isfinite().all() for value in broken.model.state_dict().values())
    assert [line["loss"] for line in read_log(tmp_path)][3] > 0


def test_too_many_bad_steps_one_after_another_stop(tmp_path):
    settings = replace(SETTINGS, on_bad_loss="skip", skip_limit=1)
    run(task(bad=[1, 3])[0], tmp_path / "apart", settings)
    with pytest.raises(TrainingError, match=r"step 3 .* the last of 2 such steps"):
        run(task(bad=[2, 3])[0], tmp_path / "together", settings)


def test_an_overflow_in_half_precision_halves_the_scale_and_is_no_bad_loss(tmp_path, monkeypatch):
    large, done = task()
    monkeypatch.setattr("magface.train.precision._START", 2.0**127)
    run(large, tmp_path, replace(SETTINGS, precision="fp16"))
    assert checkpoint.load(tmp_path / "checkpoint.pt")["scaler"]["scale"] < 2.0**127
    assert not (tmp_path / "bad_batches.jsonl").exists()
    assert done == list(range(6))


def test_parts_of_a_batch_add_up_to_the_whole(tmp_path):
    """Without what depends on the batch, accumulated gradients are those of one batch."""
    found = []
    for split in (1, 2):
        job, _ = task(split=split)
        job.model.eval()
        run(job, tmp_path / str(split))
        found.append([p.detach() for p in job.model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_log_has_what_is_asked_for(tmp_path):
    run(task()[0], tmp_path, replace(SETTINGS, log_every=4))
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [3, 5]
    assert {"loss", "identity", "penalty", "accuracy", "learning_rate", "images_per_second"} <= lines[0].keys()
    assert {"magnitude_p5", "magnitude_clean", "magnitude_degraded", "correlation", "cosine"} <= lines[0].keys()
    assert list((tmp_path / "events").iterdir())


def test_validation_runs_in_evaluation_mode_after_epochs(tmp_path):
    seen = []

    def validate(step):
        seen.append((step, job.model.training))
        return {"lfw/accuracy": 0.5}

    job, _ = task(steps=2, validate=validate)
    run(job, tmp_path, replace(SETTINGS, epochs=5), validate_every=2)
    assert seen == [(4, False), (8, False), (10, False)]
    assert job.model.training
    assert [line["step"] for line in read_log(tmp_path) if "lfw/accuracy" in line] == [3, 7, 9]


def test_an_error_in_a_worker_is_raised(tmp_path):
    def parts(step):
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        run(replace(task()[0], parts=parts), tmp_path)
