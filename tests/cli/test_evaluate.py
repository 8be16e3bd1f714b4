"""`magface evaluate` from the outside."""

import json

import cv2
import pytest

from magface.cli.main import main


@pytest.fixture
def people(tmp_path, astronaut):
    for person, (x, y) in {"Ann": (168, 60), "Bob": (10, 300)}.items():
        (tmp_path / "people" / person).mkdir(parents=True)
        for image in (1, 2):
            crop = astronaut[y : y + 112, x + image : x + image + 112]
            cv2.imwrite(str(tmp_path / "people" / person / f"{person}_{image:04d}.png"), crop[..., ::-1])
    (tmp_path / "pairs.txt").write_text("1\nAnn 1 2\nAnn 1 Bob 1\n")
    return tmp_path / "people"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, arguments)])
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


def test_json_on_stdout(capsys, people, tmp_path):
    code, out, _ = run(capsys, "lfw", people, "--cache", tmp_path / "cache", "--format", "json")
    result = json.loads(out)
    assert code == 0
    assert result["benchmark"] == "lfw"
    assert result["counts"]["genuine pairs"] == 1
    assert {measure["name"] for measure in result["measures"]} >= {"EER", "EDC efficiency"}


def test_table_names_the_model_and_what_cannot_be_told(capsys, people, tmp_path):
    code, out, _ = run(capsys, "edc", people, "--cache", tmp_path / "cache")
    assert code == 0
    assert "edc: magface-sface" in out
    assert "impostor comparisons" in out


def test_missing_images_are_said(capsys, people, tmp_path):
    (people / "Bob" / "Bob_0002.png").write_bytes(b"")
    code, out, err = run(capsys, "edc", people, "--cache", tmp_path / "cache", "--format", "json")
    assert code == 0
    assert json.loads(out)["counts"]["images missing"] == 1
    assert "1 images are missing; the first: Bob/Bob_0002.png" in err


def test_degradation(capsys, people):
    code, out, _ = run(capsys, "degradation", people, "--format", "json")
    assert code == 0
    assert json.loads(out)["counts"]["steps"] == 2 * 25


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lfw", "nowhere"), "list of pairs"),
        (("edc", "nowhere"), "does not exist"),
        (("toy", "nowhere"), "feat.list"),
        (("edc", "nowhere", "--pairs", "x"), "belongs to the benchmark lfw"),
        (("edc", "nowhere", "--model", "none.onnx"), "none.onnx"),
    ],
)
def test_mistakes_end_in_one_sentence(capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_help_has_an_example(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "magface evaluate lfw" in out
