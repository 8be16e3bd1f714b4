"""`magface plot` from the outside."""

import json
import re

import pytest
from PIL import Image

from magface.benchmarks.result import Curve, Discard, Measure, Result
from magface.cli.main import main

ROC = Curve((0.0, 0.1, 1.0), (0.5, 0.9, 1.0), 20, 30)


def discard(start="FMR 0.001", kind="FNMR"):
    return Discard((0.0, 0.5), (0.2, 0.1), (), kind, f"{start}, cosine >= 0.3", 20)


DISCARDS = {
    f"{name}{', false matches' if kind == 'FMR' else ''} at {start}": discard(start, kind)
    for start in ("FMR 0.001", "FMR 0.01")
    for kind in ("FNMR", "FMR")
    for name in ("ideal", "magnitude", "contrast")
}


@pytest.fixture
def results(tmp_path):
    """Two models: one with both kinds of curves, one with one of each."""
    for model, curves, discards in (
        ("ours", {"lfw": ROC}, DISCARDS),
        ("theirs", {"lfw": ROC}, {"magnitude": discard()}),
    ):
        whole = Result("lfw", "f00d", (Measure("EER", 0.1),), {}, curves=curves, discards=discards).as_dict()
        (tmp_path / model).mkdir()
        (tmp_path / model / "result.json").write_text(json.dumps({**whole, "model_card": {"name": model}}))
    return tmp_path / "ours" / "result.json", tmp_path / "theirs" / "result.json"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["plot", *map(str, arguments)])
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


def drawn(path):
    """Texts of an SVG, whose letters are shapes with the text in a comment."""
    return re.findall(r"<!-- (.+?) -->", path.read_text())


def test_two_models_in_one_roc(capsys, results, tmp_path):
    assert run(capsys, *results, "-o", tmp_path / "roc.svg") == (0, "", "")
    assert {"ours", "theirs", "False match rate"} <= set(drawn(tmp_path / "roc.svg"))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "PNG"])
def test_the_ending_says_the_form(capsys, results, tmp_path, ending):
    assert run(capsys, results[0], "--kind", "det", "-o", tmp_path / f"det.{ending}")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "theirs", f"det.{ending}"}
    if ending == "png":
        with Image.open(tmp_path / "det.png") as image:
            assert image.width == 1200


def test_every_quality_of_one_result(capsys, results, tmp_path):
    assert run(capsys, results[0], "--kind", "edc", "--title", "mine", "-o", tmp_path / "edc.svg")[0] == 0
    shown = drawn(tmp_path / "edc.svg")
    for name in ("magnitude", "contrast", "ideal"):
        assert any(text.startswith(f"{name}, pAUC to 20 %: 0.2") for text in shown)
    assert "mine" in shown
    assert any("threshold at FMR 0.001, cosine" in text for text in shown)


def test_one_quality_of_each_of_several_results_or_those_that_are_named(capsys, results, tmp_path):
    assert run(capsys, *results, "--kind", "edc", "-o", tmp_path / "edc.svg")[0] == 0
    shown = drawn(tmp_path / "edc.svg")
    assert [text.partition(",")[0] for text in shown if "pAUC" in text] == ["ours", "theirs"]
    names = ("--names", "a, b", "--curves", "magnitude")
    assert run(capsys, *results, "--kind", "edc", *names, "-o", tmp_path / "edc.svg")[0] == 0
    assert [text.partition(",")[0] for text in drawn(tmp_path / "edc.svg") if "pAUC" in text] == ["a", "b"]
    arguments = ("--kind", "edc", "--at", "FMR 0.01", "--curves", "contrast,ideal")
    assert run(capsys, results[0], *arguments, "-o", tmp_path / "edc.svg")[0] == 0
    shown = drawn(tmp_path / "edc.svg")
    assert [text.partition(",")[0] for text in shown if "pAUC" in text] == ["contrast", "ideal"]


def test_models_of_one_name_are_told_apart(capsys, results, tmp_path):
    for path in results:
        path.write_text(path.read_text().replace('"name": "theirs"', '"name": "ours"'))
    assert run(capsys, *results, "-o", tmp_path / "roc.svg")[0] == 0
    assert {"ours, ours", "ours, theirs"} <= set(drawn(tmp_path / "roc.svg"))
    assert run(capsys, results[0], results[0], "-o", tmp_path / "roc.svg")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "roc.gif"), "let the name end in .png, .svg, .pdf"),
        (("--names", "a", "-o", "roc.png"), "2 results need as many different names"),
        (("--names", "a,a", "-o", "roc.png"), "2 results need as many different names"),
        (("--curves", "none", "-o", "roc.png"), "has no curve none; it has lfw"),
        (("--at", "FMR 0.01", "-o", "roc.png"), "--at belongs to --kind edc"),
        (("--kind", "edc", "--at", "FMR 0.5", "-o", "roc.png"), "has no error versus discard at FMR 0.5; it has FMR"),
    ],
)
def test_mistakes_end_in_one_sentence_and_no_file(capsys, monkeypatch, results, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *results, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "theirs"}


def test_results_without_curves_and_files_that_are_none(capsys, results, tmp_path):
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(Result("toy", "f00d", (), {}).as_dict()))
    for kind in ((), ("--kind", "roc"), ("--kind", "edc")):
        code, _, err = run(capsys, bare, *kind, "-o", tmp_path / "roc.png")
        assert code == 2
        assert "bare.json" in err
    bare.write_text("[" * 99999)
    assert run(capsys, bare, "-o", tmp_path / "roc.png")[0] == 2
    damaged = results[0].read_text().replace("0.9", "1.9")
    results[0].write_text(damaged)
    code, _, err = run(capsys, results[0], "-o", tmp_path / "roc.png")
    assert code == 2
    assert "rise within 0 and 1" in err
    assert not (tmp_path / "roc.png").exists()


def test_without_matplotlib_it_says_what_to_install(capsys, results, tmp_path, monkeypatch):
    monkeypatch.setattr("magface.cli.plot.find_spec", lambda name: None)
    code, _, err = run(capsys, *results, "-o", tmp_path / "roc.png")
    assert code == 2
    assert "magface[plot]" in err


def test_help_has_an_example(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "magface plot ours/result.json theirs/result.json" in out
