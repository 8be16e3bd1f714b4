"""`magface evaluate` from the outside."""

import json
import re

import cv2
import pytest

from magface.benchmarks.methods import NAMES
from magface.cli.evaluate import _methods
from magface.cli.main import main
from magface.models import default


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
    assert "impostor comparisons" in re.sub(r"[\s│]+", " ", out)  # without the lines of the table


def test_missing_images_are_said(capsys, people, tmp_path):
    (people / "Bob" / "Bob_0002.png").write_bytes(b"")
    code, out, err = run(capsys, "edc", people, "--cache", tmp_path / "cache", "--format", "json")
    assert code == 1
    assert json.loads(out)["counts"]["images missing"] == 1
    assert err == "magface: 1 images are missing; the first: Bob/Bob_0002.png is empty; copy the photo again.\n"


def test_degradation(capsys, people):
    code, out, _ = run(capsys, "degradation", people, "--format", "json")
    assert code == 0
    assert json.loads(out)["counts"]["steps"] == 2 * 17 * 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lfw", "nowhere"), "list of pairs"),
        (("edc", "nowhere"), "does not exist"),
        (("toy", "nowhere"), "feat.list"),
        (("toy", "nowhere", "--pairs", "x"), "--pairs belongs to lfw, "),
        (("lfw", "nowhere", "--fmr", "0.1"), "--fmr belongs to edc;"),
        (("edc", "nowhere", "--methods", "magnitud"), "does not exist"),
        (("lfv", "nowhere"), "did you mean lfw?"),
        (("lfw",), "lfw needs its data"),
        (("nowhere",), "there is no folder and no benchmark nowhere"),
        (("tinyface", "x", "--detector-score"), "--detector-score belongs to ijbb, ijbc"),
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


def test_a_folder_of_crops_is_evaluated_without_a_name(capsys, people, tmp_path):
    code, out, err = run(capsys, people, "--cache", tmp_path / "cache", "--format", "json")
    result = json.loads(out)
    assert (code, err, result["benchmark"]) == (0, "", "own")
    assert result["counts"]["images"] == 4
    assert result["model_card"]["name"] == "magface-sface"
    assert result["command"].startswith("magface evaluate ")
    assert "seed 0" in result["protocol"]


def test_a_folder_of_photos_is_aligned(capsys, tmp_path, astronaut):
    for person, place in {"Ann": astronaut, "Bob": astronaut[:, ::-1]}.items():
        (tmp_path / "photos" / person).mkdir(parents=True)
        for image in (1, 2):
            shown = cv2.convertScaleAbs(place, alpha=1 - 0.1 * image)
            cv2.imwrite(str(tmp_path / "photos" / person / f"{image}.png"), shown[..., ::-1])
    (tmp_path / "photos" / "Bob" / "empty.png").write_bytes((tmp_path / "photos" / "Bob" / "1.png").read_bytes()[:99])
    code, out, err = run(capsys, tmp_path / "photos", "--cache", tmp_path / "cache", "--format", "json")
    result = json.loads(out)
    assert code == 1
    assert (result["counts"]["images"], result["counts"]["images missing"]) == (4, 1)
    assert "Bob/empty.png" in err
    code, _, err = run(capsys, tmp_path / "photos", "--images", "crops", "--cache", tmp_path / "cache")
    assert code == 2
    assert "512x512" in err


def test_a_result_leaves_as_files_for_papers_and_pages(capsys, people, tmp_path):
    code, out, _ = run(
        capsys, "lfw", people, "--cache", tmp_path / "cache", "-o", tmp_path / "out", "--format", "latex"
    )
    assert code == 0
    assert out == (tmp_path / "out" / "table.tex").read_text()
    assert out.startswith(r"\begin{tabular}")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["benchmark"] == "lfw"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"result.json", "table.md", "table.tex", "roc.png", "roc.svg", "det.png", "det.svg"}
    _, out, _ = run(capsys, "lfw", people, "--cache", tmp_path / "cache", "--format", "markdown")
    assert out == (tmp_path / "out" / "table.md").read_text()


def test_without_matplotlib_the_plots_alone_are_missing(capsys, people, tmp_path, monkeypatch):
    monkeypatch.setattr("magface.cli.evaluate.find_spec", lambda name: None)
    code, _, err = run(capsys, "lfw", people, "--cache", tmp_path / "cache", "-o", tmp_path / "out")
    assert code == 0
    assert "magface[plot]" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"result.json", "table.md", "table.tex"}


def test_error_versus_discard_of_two_models_and_two_methods(capsys, people, tmp_path):
    for image in (1, 2):  # a third person
        (people / "Cid").mkdir(exist_ok=True)
        content = (people / "Ann" / f"Ann_000{image}.png").read_bytes()
        (people / "Cid" / f"Cid_000{image}.png").write_bytes(content)
    arguments = ("edc", people, "--cache", tmp_path / "cache", "--format", "json", "--fmr", "0.1")
    methods = ("--methods", "magnitude, contrast", "--beside", default.path())
    code, out, _ = run(capsys, *arguments, *methods, "--interval", "people", "-o", tmp_path / "out")
    assert code == 0
    result = json.loads(out)
    names = {measure["name"] for measure in result["measures"]}
    for method in ("magnitude", "contrast", "magface-sface"):
        assert {f"{method}: pAUC {limit} % at FMR 0.1" for limit in (10, 20, 30)} <= names
    assert "threshold fixed on all pairs at FMR 0.1 (cosine >= " in result["protocol"]
    figures = {f"{name}.{end}" for name in ("edc", "edc-false-matches") for end in ("png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"result.json", "table.md", "table.tex"} | figures
    more = ("--methods", "brightness", "--fmr", "0.3", "--threshold", "repicked", "--rule", "max")
    code, out, _ = run(capsys, *arguments, *more)
    assert code == 0
    assert json.loads(out)["discards"].keys() == {"brightness at FMR 0.1", "brightness at FMR 0.3"}


def test_methods_are_named_with_commas_or_all_at_once():
    assert _methods("all") == NAMES
    assert _methods("contrast, magnitude,contrast") == ("contrast", "magnitude")


def test_protocol_and_missing_images_are_said_in_the_result(capsys, people, tmp_path):
    (people / "Bob" / "Bob_0001.png").unlink()
    arguments = ("lfw", people, "--cache", tmp_path / "cache", "--format", "json", "--protocol", "insightface")
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "impostor" in err
    code, out, _ = run(capsys, *arguments, "--missing", "reject")
    result = json.loads(out)
    assert code == 1
    assert result["protocol"].startswith("insightface")
    assert result["counts"]["pairs missing"] == 1


@pytest.mark.parametrize("option", [("--flip",), ("--cache", "c")])
def test_ready_embeddings_take_no_options_about_images(capsys, tmp_path, option):
    code, _, err = run(capsys, "ijbc", tmp_path, "--features", "f.npy", *option)
    assert code == 2
    assert f"{option[0]} is about images" in err


def test_identifiability_of_the_images_of_a_table_with_montages(capsys, rof, tmp_path):
    several = [sorted(person.iterdir()) for person in sorted(rof.iterdir()) if len(list(person.iterdir())) >= 6]
    names = [f"{image.parent.name}/{image.name}" for images in several[:20] for image in images[:6]]
    table = tmp_path / "some.tsv"
    table.write_text("path\n" + "".join(f"{name}\n" for name in names))
    out = tmp_path / "found"
    options = ("--table", table, "--lowest", "0.5", "--cache", tmp_path / "cache", "-o", out, "--format", "json")
    code, printed, _ = run(capsys, "identifiability", rof, *options)
    result = json.loads((out / "result.json").read_text())
    assert code == 0
    assert json.loads(printed) == result
    assert result["counts"]["images"] == len(names)
    assert result["counts"]["images of lowest magnitude"] == len(names) // 2
    shown = [sample["image"] for samples in result["samples"].values() for sample in samples]
    assert set(shown) <= set(names)
    pictures = {path.stem for path in out.glob("*.png")}
    assert pictures == {group.replace(" ", "-") for group in result["samples"]} >= {"informative"}


def test_identifiability_needs_people(capsys, people):
    code, _, err = run(capsys, "identifiability", people)
    assert code == 2
    assert "at least 20 people with 4 images each" in err
