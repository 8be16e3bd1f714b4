import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from magface import backbones, io
from magface.cli import import_
from magface.cli.main import main
from magface.embedder import Embedder
from magface.models import card, foreign


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An iResNet-18 as the official MagFace saves it, and the network in it."""
    torch.manual_seed(0)
    network = backbones.build("iresnet18-magface")
    with torch.no_grad():
        network(255 * torch.rand(4, 3, 112, 112))  # statistics that differ from the initial ones
    state = {f"module.features.{name}": tensor for name, tensor in network.state_dict().items()}
    state["module.fc.weight"] = torch.randn(512, 9)
    path = tmp_path_factory.mktemp("official") / "magface_epoch_00025.pth"
    torch.save({"epoch": 25, "arch": "iresnet18", "state_dict": state, "optimizer": {}}, path)
    return path, network.eval()


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Noise of eight people, two crops each."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(8):
        (folder / str(person)).mkdir()
        for crop in range(2):
            noise = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
            Image.fromarray(noise).save(folder / str(person) / f"{crop}.png")
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["import", *map(str, arguments)])
    return end.value.code


def test_an_official_checkpoint_becomes_a_calibrated_model(checkpoint, people, tmp_path, capsys):
    path, network = checkpoint
    described = tmp_path / "card.json"
    described.write_text(json.dumps({"name": "mine", "licence": "Apache-2.0"}))
    output = tmp_path / "m.onnx"
    assert run(path, "-o", output, "--calibrate", people, "--card", described, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": str(output),
        "kind": "MagFace (DataParallel)",
        "backbone": "iresnet18-magface",
        "classes": 9,
        "preprocessing": "BGR, x / 255",
    }
    found, _ = card.read(output)
    assert (found.name, found.licence, found.version) == ("mine", "Apache-2.0", io.sha256(path)[:12])
    assert (found.backbone, found.embedding_size) == ("iresnet18-magface", 512)
    assert found.preprocessing == "BGR, x / 255"
    assert found.recipe == "magface import magface_epoch_00025.pth"

    images = np.random.default_rng(4).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    for engine in ("onnxruntime", "openvino", "torch"):
        vectors = Embedder(output, engine=engine).embed(images).vectors
        assert np.abs(vectors - expected).max() <= 1e-5 * np.abs(expected).max()


def test_without_people_it_says_what_is_needed(checkpoint, tmp_path, capsys):
    output = tmp_path / "m.onnx"
    assert run(checkpoint[0], "-o", output) == 2
    message = capsys.readouterr().err
    assert "the card lacks cluster_threshold, magnitude_percentiles, quality, thresholds" in message
    assert message.endswith("measure them on known people with --calibrate.\n")
    assert not output.exists()


@pytest.mark.parametrize(
    ("kind", "backbone", "known"),
    [
        (foreign.DATA_PARALLEL, "iresnet50-magface", {"a0": 23.0, "w": 2.6}),
        (foreign.DATA_PARALLEL, "iresnet100-magface", None),
        (foreign.DATA_PARALLEL, "iresnet50-arcface", None),
        ("MagFace (DistributedDataParallel)", "iresnet50-magface", None),
    ],
)
def test_the_published_scale_is_that_of_one_model(tmp_path, kind, backbone, known):
    path = tmp_path / "a.pth"
    path.write_bytes(b"a")
    found = import_._known(path, foreign.Weights(backbone, kind, {}, None))
    assert found.get("quality") == known
    assert found["licence"] == "unknown: see source"


def test_the_published_constants_are_those_of_official_networks_without_measured_ones(checkpoint, people, tmp_path):
    from magface.quality.qmagface import PUBLISHED

    for depth in (18, 50, 100):
        name = f"iresnet{depth}-magface"
        found = import_._published(foreign.Weights(name, foreign.DATA_PARALLEL, {}, None))
        assert found == {"comparison": PUBLISHED[name]}
    for name, kind in (
        ("iresnet34-magface", foreign.DATA_PARALLEL),
        ("iresnet50-magface", "MagFace (DistributedDataParallel)"),
        ("iresnet50-arcface", "arcface_torch"),
    ):
        assert import_._published(foreign.Weights(name, kind, {}, None)) == {}

    output, again, described = tmp_path / "m.onnx", tmp_path / "again.onnx", tmp_path / "card.json"
    assert run(checkpoint[0], "-o", output, "--calibrate", people) == 0
    measured, _ = card.read(output)
    whole = json.loads(measured.to_json())
    for given, expected in (({}, PUBLISHED["iresnet18-magface"]), ({"comparison": {"alpha": 0.1, "beta": 0.2}}, None)):
        fields = {name: value for name, value in whole.items() if name not in ("comparison", "sha256")}
        described.write_text(json.dumps(fields | given))
        assert run(checkpoint[0], "-o", again, "--card", described) == 0
        found = card.read(again)[0].comparison
        assert found == (expected or card.Comparison(0.1, 0.2))


def test_the_published_scale_is_said_and_wins_over_a_measured_one(people, tmp_path, capsys):
    torch.manual_seed(0)
    network = backbones.build("iresnet50-magface")
    state = {f"module.features.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "official.pth")
    output = tmp_path / "m.onnx"
    assert run(tmp_path / "official.pth", "-o", output, "--calibrate", people) == 0
    assert "its scale is that of ISO/IEC 29794-5 for the official network" in capsys.readouterr().err
    assert dataclasses.asdict(card.read(output)[0].quality) == {"a0": 23.0, "w": 2.6}


def test_what_was_measured_belongs_to_measured_thresholds(checkpoint, tmp_path, monkeypatch):
    from magface.cli import cards
    from magface.models.card import Comparison, Quality, Threshold

    measured = {
        "magnitude_percentiles": tuple(map(float, range(101))),
        "quality": Quality(5.0, 1.0),
        "thresholds": (Threshold(1e-3, 0.4, 1000),),
        "cluster_threshold": 0.4,
        "comparison": Comparison(0.1, 0.2),
        "population": "9 faces",
    }
    monkeypatch.setattr(cards, "_measured", lambda *_: measured)
    known = import_._known(checkpoint[0], foreign.Weights("iresnet18-magface", "own", {}, None))
    for more, comparison in (
        ({}, measured["comparison"]),
        ({"thresholds": [{"fmr": 0.1, "cosine": 0.3, "impostors": 9}]}, None),
    ):
        cards.write(tmp_path / "m.onnx", "iresnet18-magface", checkpoint[1], known | more, [])
        found, _ = card.read(tmp_path / "m.onnx")
        assert (found.comparison, found.population) == (comparison, "9 faces")


def test_a_hostile_file_is_one_line(tmp_path, capsys):
    path = tmp_path / "a.pth"
    for content in (b"", b"junk" * 100):
        path.write_bytes(content)
        assert run(path, "-o", tmp_path / "m.onnx") == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert run(tmp_path, "-o", tmp_path / "m.onnx", "--format", "json") == 2
    assert "there is no checkpoint file" in json.loads(capsys.readouterr().out)["error"]


def test_help_shows_an_example(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert "magface import magface_epoch_00025.pth" in out
    assert "magface|arcface|adaface|own" in out
