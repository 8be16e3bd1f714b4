"""What the documents say is what the program does, and what the files hold."""

import importlib.util
import re
from pathlib import Path

import pytest
from PIL import Image

from magface.benchmarks.methods import NAMES
from magface.cli.main import COMMANDS
from magface.models import card, default

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_card():
    return script(ROOT / "docs" / "make_card.py")


@pytest.fixture(scope="module")
def tables():
    return script(ROOT / "benchmarks" / "tables.py")


def test_every_figure_has_its_function_and_is_small():
    make_figures = script(ROOT / "docs" / "make_figures.py")
    files = {path.stem: path.stat().st_size for path in make_figures.FIGURES.iterdir()}
    assert files.keys() == make_figures.MAKERS.keys()
    assert max(files.values()) < 150_000


def test_the_card_in_the_documents_is_that_of_the_model(make_card):
    found, _ = card.read(default.path())
    again = "run `python docs/make_card.py`"
    assert make_card.BLOCK.search(README)[0] == make_card.short(found), again
    assert make_card.PAGE.read_text(encoding="utf-8") == make_card.full(found), again


def test_the_tables_are_those_of_the_results(tables):
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.BLOCK.search(page)[0] == tables.block(), "run `python benchmarks/tables.py`"


def test_the_tables_of_quality_and_clusters_are_those_of_the_results(tables):
    pages = [path.read_text(encoding="utf-8") for path in (tables.QUALITY, tables.CLUSTERS)]
    found = {each["block"]: each["text"] for page in pages for each in tables.NAMED.finditer(page)}
    assert found == tables.blocks(), "run `python benchmarks/tables.py`"


def test_the_table_of_open_set_thresholds_is_that_of_the_results():
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- openset:begin -->\n(.*)<!-- openset:end -->", page, re.DOTALL)[1]
    assert found == (ROOT / "docs" / "results" / "openset.md").read_text(encoding="utf-8")


def test_the_table_of_rivals_has_every_quality_and_marks_the_best(tables):
    results = {name: tables.values(tables.results()[name]["magface-sface"]) for name in tables.RIVALS}
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in tables.blocks()["rivals"].splitlines()[2:]}
    for number, measures in enumerate(results.values()):
        areas = {name.partition(": ")[0]: each["value"] for name, each in measures.items() if ": pAUC 30 %" in name}
        at_start = {name for name in measures if name.endswith(f": pAUC 30 % at {tables.START}")}
        assert {name.partition(": ")[0] for name in at_start} == set(NAMES) | {"sface", "crfiqa-sface"}
        assert set(areas) <= set(rows)
        best = min(at_start, key=lambda name: measures[name]["value"])
        cell = rows[best.partition(": ")[0]].split(" | ")[1 + 2 * number]
        assert cell == f"**{100 * measures[best]['value']:.3f}**"


def test_every_measured_number_is_in_the_tables(tables):
    page = tables.PAGE.read_text(encoding="utf-8")
    sets = [tables.results()[name] for name in tables.SETS]
    measures = [each for models in sets for found in models.values() for each in found["measures"]]
    assert measures
    for each in (each for each in measures if each["value"] is not None):
        assert re.search(rf"^\| {re.escape(each['name'])} \|.* {each['value']:.4f}[ |]", page, re.MULTILINE)


def test_results_are_of_one_model_each_and_of_the_one_that_ships(tables):
    _, shipped = card.read(default.path())
    found = [models for models in tables.results().values() if models]
    assert {models["magface-sface"]["model"] for models in found if "magface-sface" in models} <= {shipped}
    assert len({models["sface"]["model"] for models in found if "sface" in models}) == 1


def test_the_readme_names_every_command():
    assert sorted(re.findall(r"^\| `magface ([\w-]+)", README, re.MULTILINE)) == sorted(COMMANDS)


def test_the_python_of_the_readme_runs(astronaut, tmp_path, monkeypatch, capsys):
    for name in ("team", "passport", "door"):
        Image.fromarray(astronaut).save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    _, causes, verified, embedding = capsys.readouterr().out.splitlines()
    assert causes == "[]"
    assert verified.startswith("True cosine 1.000")
    assert embedding.startswith("(128,)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert "://" in link or (page.parent / link).exists(), link
