"""The ledger in docs/equations.md and the `Equation:` lines of the docstrings agree both ways."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "magface"
ROW = re.compile(r"^\| \[`([\w.]+)`\]\(\.\./src/magface/([\w/]+\.py)\) \| `(.+)` \|$")


def docstrings(node, name):
    """(dotted name, docstring) of a module and all it defines."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from docstrings(child, f"{name}.{child.name}")
    if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
        yield name, ast.get_docstring(node) or ""


def in_source():
    for path in sorted(SOURCE.rglob("*.py")):
        file = path.relative_to(SOURCE)
        module = ".".join(file.with_suffix("").parts)
        for name, text in docstrings(ast.parse(path.read_text()), module):
            for found in re.findall(r"^Equation: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL):
                yield name, file.as_posix(), " ".join(found.split()).removesuffix(".")


def in_ledger():
    for line in (ROOT / "docs" / "equations.md").read_text().splitlines():
        if line.startswith("| [`"):
            row = ROW.match(line)
            assert row, f"not a row of the ledger: {line}"
            yield row[1], row[2], row[3].replace(r"\|", "|")


def test_the_ledger_is_not_empty():
    assert len(list(in_ledger())) > 5


@pytest.mark.parametrize("row", list(in_ledger()), ids=lambda row: row[0])
def test_an_equation_of_the_ledger_is_in_the_source(row):
    assert row in set(in_source())


@pytest.mark.parametrize("row", list(in_source()), ids=lambda row: row[0])
def test_an_equation_of_the_source_is_in_the_ledger(row):
    assert row in set(in_ledger())
