"""Whole runs from first weights, in one process and in several."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from magface import losses
from magface.errors import DataError
from magface.train import checkpoint
from magface.train.config import Augmentation, Data, Degradation, Head, Loss, Optimization, Recipe
from magface.train.training import train

STEPS = Optimization(
    epochs=2, batch=32, optimizer="sgd", learning_rate=0.05, weight_decay=1e-4, warmup=0.0, save_every=2
)
SCRATCH = Recipe(
    backbone="toy",
    data=Data(validation=0.0),
    augmentation=Augmentation(crop=0.2, low_resolution=0.2, photometric=0.2),
    degradation=Degradation(share=0.25),
    loss=Loss(name="arcface", margin={"s": 16.0, "m": 0.1}),
    optimization=STEPS,
)


def weights(out):
    state = checkpoint.load(out / "checkpoint.pt")
    return [*state["model"].values(), *(part["head"]["centres"] for part in state["parts"])]


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def scratch(recipe, network, faces, out, **options):
    return train(recipe, network, faces, out, trained=False, **options)


@pytest.mark.parametrize("name", losses.NAMES)
def test_every_loss_trains_and_resumes_bit_for_bit(name, toy_faces, toy_network, tmp_path, monkeypatch):
    """What a loss remembers (averages, generators) is in the checkpoint."""
    options = {"self_tuning": True} if name == "magface-self-tuning" else {"name": name}
    margin = {"l_a": 5.0, "u_a": 40.0, "l_m": 0.1, "u_m": 0.4} if "mag" in name else {}
    recipe = replace(SCRATCH, loss=Loss(margin=margin, **options))
    scratch(recipe, toy_network(branched=False), toy_faces, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("magface.train.loop.Trainer.step", fail_at(5, scratch_step()))
        with pytest.raises(KeyError):
            scratch(recipe, toy_network(branched=False), toy_faces, tmp_path / "parts")
    scratch(recipe, toy_network(branched=False), toy_faces, tmp_path / "parts")
    both = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))
    assert all(np.isfinite(line["loss"]) for line in log(tmp_path / "whole"))


def scratch_step():
    from magface.train.loop import Trainer

    return Trainer.step


def fail_at(last, take):
    def failing(trainer, step, *arguments):
        if step == last:
            raise KeyError("as if killed")
        return take(trainer, step, *arguments)

    return failing


@pytest.mark.parametrize("kind", ["full", "sharded", "sampled"])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_every_head_learns_who_is_who(kind, precision, toy_faces, toy_network, tmp_path):
    optimization = replace(STEPS, epochs=12, precision=precision, accumulate=2, spare_norms=True, momentum=0.8)
    recipe = replace(SCRATCH, head=Head(kind=kind, rate=0.5), optimization=optimization)
    network = toy_network(branched=False)
    scratch(recipe, network, toy_faces, tmp_path)
    lines = log(tmp_path)
    first, last = (np.mean([line["loss"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert last < 0.8 * first
    assert lines[-1]["accuracy"] > lines[0]["accuracy"]
    assert network.training, "batch statistics are those of the batch"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:torch")
def test_a_compiled_network_trains_like_one_that_is_not(toy_faces, toy_network, tmp_path):
    for name in ("plain", "compiled"):
        recipe = replace(SCRATCH, optimization=replace(STEPS, compile=name == "compiled"))
        scratch(recipe, toy_network(branched=False), toy_faces, tmp_path / name)
    losses = ([line["loss"] for line in log(tmp_path / name)] for name in ("plain", "compiled"))
    np.testing.assert_allclose(*losses, rtol=1e-3)
    names = [checkpoint.load(tmp_path / name / "checkpoint.pt")["model"].keys() for name in ("plain", "compiled")]
    assert names[0] == names[1]


def test_every_image_is_seen_once_an_epoch_and_what_breaks_is_listed(toy_faces, toy_network, tmp_path, monkeypatch):
    from magface.data.face_set import FaceSet
    from magface.errors import ImageError

    broken, seen = toy_faces.names[7], []
    read = FaceSet.read

    def reading(folder, index):
        seen.append(folder.names[index])
        if folder.names[index] == broken:
            raise ImageError(f"{broken} cannot be read any more (gone).")
        return read(folder, index)

    monkeypatch.setattr(FaceSet, "read", reading)
    scratch(replace(SCRATCH, optimization=replace(STEPS, epochs=1)), toy_network(branched=False), toy_faces, tmp_path)
    assert sorted(seen) == sorted(toy_faces.names)
    assert (tmp_path / "unreadable.tsv").read_text() == f"{broken}\t{broken} cannot be read any more (gone).\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": Loss(name="arc-face")}, "did you mean arcface"),
        ({"loss": Loss(name="arcface", margin={"mm": 1})}, "no option 'mm'"),
        ({"optimization": replace(STEPS, batch=2, accumulate=2)}, "less than two images"),
        ({"data": Data(validation=0.95)}, "less than one batch|one person"),
    ],
)
def test_a_recipe_that_cannot_work_is_one_sentence(change, message, toy_faces, toy_network, tmp_path):
    with pytest.raises(DataError, match=message):
        scratch(replace(SCRATCH, **change), toy_network(branched=False), toy_faces, tmp_path)


RECIPE = """
backbone = "toy"
[data]
validation = 0.0
[loss]
name = "{loss}"
[head]
kind = "{head}"
rate = 0.6
[optimization]
epochs = 3
batch = 30
optimizer = "sgd"
learning_rate = 0.05
warmup = 0.0
norms = "{norms}"
save_every = 1
"""

RANK = """if 1:
    import sys
    import torch
    from magface import backbones
    sys.path.insert(0, {here!r})
    from conftest import ToyFace
    known = backbones._known
    backbones._known = lambda: {{**known(), "toy": lambda: ToyFace(branched=False)}}
    torch.set_num_threads(1)
    from magface.cli.main import main
    main(sys.argv[1:])
"""


def launch(world, *arguments):
    """Processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = RANK.format(here=str(Path(__file__).parent))
    for rank in range(world):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **(place | address if world > 1 else {"OMP_NUM_THREADS": "1"})}
        command = [sys.executable, "-c", code, "train", *map(str, arguments)]
        yield subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(processes):
    ended = [process.communicate(timeout=240) for process in processes]
    return [process.returncode for process in processes], [error for _, error in ended]


@pytest.fixture
def job(toy_root, tmp_path):
    """Function (world, folder) -> processes of a run with given settings."""

    def start(world, out, loss="arcface", head="sharded", norms="batch"):
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(RECIPE.format(loss=loss, head=head, norms=norms))
        return list(launch(world, recipe, "--data", toy_root, "-o", out))

    return start


def complete(processes):
    codes, errors = finish(processes)
    assert set(codes) == {0}, errors


def until_step(out, step, processes):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        try:
            if checkpoint.load(out / "checkpoint.pt")["step"] >= step:
                return
        except DataError:
            pass
        time.sleep(0.02)
    raise AssertionError(finish(processes))


@pytest.mark.parametrize("head", ["full", "sharded"])
def test_two_ranks_compute_what_one_does(head, job, tmp_path):
    """Up to the order in which numbers are added; batch statistics would differ."""
    for world in (1, 2):
        complete(job(world, tmp_path / str(world), head=head, norms="fixed"))
    one, two = log(tmp_path / "1"), log(tmp_path / "2")
    for name in ("loss", "cosine", "magnitude", "accuracy"):
        np.testing.assert_allclose([a[name] for a in one], [b[name] for b in two], rtol=1e-3)


@pytest.mark.parametrize(("loss", "head"), [("curricularface", "sampled"), ("elasticface-arc", "full")])
def test_killed_on_two_ranks_and_resumed_is_the_same_bit_for_bit(loss, head, job, tmp_path):
    complete(job(2, tmp_path / "whole", loss=loss, head=head))
    processes = job(2, tmp_path / "parts", loss=loss, head=head)
    until_step(tmp_path / "parts", 4, processes)
    for process in processes:
        process.kill()
    finish(processes)
    complete(job(2, tmp_path / "parts", loss=loss, head=head))
    for file in sorted((tmp_path / "whole").glob("checkpoint*.pt")):
        a, b = (torch.load(folder / file.name, weights_only=True) for folder in (file.parent, tmp_path / "parts"))
        assert flat(a) == flat(b)
    assert [line["loss"] for line in log(tmp_path / "whole")] == [line["loss"] for line in log(tmp_path / "parts")]


def flat(thing):
    """Plain, comparable content of nested dictionaries and tensors."""
    if isinstance(thing, dict):
        return {key: flat(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [flat(value) for value in thing]
    return thing.tolist() if isinstance(thing, torch.Tensor) else thing


def test_goes_on_with_another_number_of_ranks(job, tmp_path):
    processes = job(3, tmp_path / "run", norms="fixed")
    until_step(tmp_path / "run", 4, processes)
    for process in processes:
        process.kill()
    finish(processes)
    complete(job(2, tmp_path / "run", norms="fixed"))
    complete(job(1, tmp_path / "alone", norms="fixed"))
    changed, alone = log(tmp_path / "run"), log(tmp_path / "alone")
    assert [line["step"] for line in changed] == list(range(15))
    np.testing.assert_allclose([a["loss"] for a in changed], [b["loss"] for b in alone], rtol=1e-3)
    assert {p.name for p in (tmp_path / "run").glob("*.pt")} == {
        "checkpoint.pt",
        "checkpoint.15-0of2.pt",
        "checkpoint.15-1of2.pt",
    }


def test_a_loss_that_is_not_finite_ends_all_ranks_in_one_sentence_that_names_images(tmp_path, toy_root):
    recipe = tmp_path / "wild.toml"
    text = RECIPE.format(loss="arcface", head="sharded", norms="batch")
    recipe.write_text(text.replace("learning_rate = 0.05", "learning_rate = 1e30\nclip = inf"))
    codes, errors = finish(list(launch(2, recipe, "--data", toy_root, "-o", tmp_path / "run")))
    assert codes == [2, 2]
    assert all("step 1 gave a loss of nan" in error and "Traceback" not in error for error in errors)
    assert checkpoint.load(tmp_path / "run" / "checkpoint.pt")["step"] == 1
    [line] = (tmp_path / "run" / "bad_batches.jsonl").read_text().splitlines()
    assert len(json.loads(line)["images"]) >= 28, "of both ranks"


def test_a_signal_to_one_rank_saves_on_all(job, tmp_path):
    processes = job(2, tmp_path / "run")
    until_step(tmp_path / "run", 1, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, errors = finish(processes)
    assert codes == [143, 143]
    assert "the same command goes on" in errors[0]
    assert not any("Traceback" in error for error in errors)
    complete(job(2, tmp_path / "run"))


def test_recipe_is_recorded_as_it_is(toy_faces, toy_network, tmp_path):
    scratch(replace(SCRATCH, optimization=replace(STEPS, epochs=1)), toy_network(branched=False), toy_faces, tmp_path)
    recorded = checkpoint.load(tmp_path / "checkpoint.pt")["recipe"]
    assert recorded == asdict(replace(SCRATCH, optimization=replace(STEPS, epochs=1)))
