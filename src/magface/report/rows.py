r"""Results of benchmarks as a table for a document: Markdown as GitHub reads it, and LaTeX with `booktabs`.

Rates are in percent with two decimals, as papers print them; other numbers have four. Where the data cannot tell a
number there is a dash, and below the table the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from magface.benchmarks.result import Measure, Result
from magface.errors import DataError
from magface.text import printable

_RATE = re.compile(r"(accuracy|TAR|FAR|FMR|FNMR|EER|AUC|TPIR|FPIR|FNIR|rank-\d+|mAP)\b")
"""How the names of measures begin that are shares and are printed in percent."""

_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~$&]")

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # at the start of a row they would be options of the \\ before
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u2212": "$-$",
}


@dataclass(frozen=True, slots=True)
class _Cell:
    """Plain text, None where the data cannot tell a number, and the notes on it."""

    text: str | None
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Table:
    """Plain text, to be escaped by a form.

    Attributes:
        about: names of the columns that say what a row is.
        measures: names of the columns of numbers.
        rows: a list of cells each; the first is the name.
        common: what holds for all rows.
        notes: below the table, numbered from 1.
    """

    about: list[str]
    measures: list[str]
    rows: list[list[_Cell]] = field(default_factory=list)
    common: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> int:
        """Number of a note; the same text is the same note."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1


def markdown(results: Mapping[str, Result], *, intervals: bool = False) -> str:
    r"""A table with a row for each result, or each part of it, and a column for each measure.

    Args:
        results: name of the row to result; any names, they are shown as they are.
        intervals: whether the 95 % interval stands behind a number that has one.

    Returns:
        Lines, each with its end. A measure that a result lacks is an empty cell; one called `magface+: EER` is the EER
        in the row of the part `magface+`. Where results differ in protocol or lack images, a note at the name says so.

    Raises:
        DataError: there is no result.

    Example:
        >>> measures = Measure("accuracy", 0.99451), Measure("TAR@FMR=1e-06", None, note="too few pairs")
        >>> print(markdown({"a_b": Result("lfw", "f00d", measures, {}, protocol="no flip")}), end="")
        | model | accuracy (%) | TAR@FMR=1e-06 (%) |
        | --- | ---: | ---: |
        | a\_b | 99.45 | -<sup>1</sup> |
        <BLANKLINE>
        Benchmark: lfw
        <BLANKLINE>
        Protocol: no flip
        <BLANKLINE>
        <sup>1</sup> too few pairs
    """
    table = _table(results, intervals)
    lines = [
        _markdown_line([_markdown_text(name) for name in table.about + table.measures]),
        _markdown_line(["---"] * len(table.about) + ["---:"] * len(table.measures)),
        *(_markdown_line([_markdown_cell(cell) for cell in row]) for row in table.rows),
        *(f"\n{_markdown_text(text)}" for text in table.common),
        *(f"\n<sup>{number}</sup> {_markdown_text(text)}" for number, text in enumerate(table.notes, start=1)),
    ]
    return "".join(f"{line}\n" for line in lines)


def latex(results: Mapping[str, Result], *, intervals: bool = False) -> str:
    r"""The table as `tabular`; the document needs `\usepackage{booktabs}`, and UTF-8 for names beyond ASCII.

    Args:
        results: name of the row to result; any names, they are shown as they are.
        intervals: whether the 95 % interval stands behind a number that has one.

    Returns:
        Lines, each with its end, as `markdown` has them.

    Raises:
        DataError: there is no result.

    Example:
        >>> measures = Measure("accuracy", 0.99451), Measure("TAR@FMR=1e-06", None, note="too few pairs")
        >>> print(latex({"a_b": Result("lfw", "f00d", measures, {}, protocol="no flip")}), end="")
        \begin{tabular}{lrr}
        \toprule
        model & accuracy (\%) & TAR@FMR=1e-06 (\%) \\
        \midrule
        a\_b & 99.45 & --\textsuperscript{1} \\
        \bottomrule
        \end{tabular}
        <BLANKLINE>
        {\footnotesize Benchmark: lfw\par}
        {\footnotesize Protocol: no flip\par}
        {\footnotesize \textsuperscript{1} too few pairs\par}
    """
    table = _table(results, intervals)
    below = [
        *(_latex_text(text) for text in table.common),
        *(rf"\textsuperscript{{{number}}} {_latex_text(text)}" for number, text in enumerate(table.notes, start=1)),
    ]
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(table.about)}{'r' * len(table.measures)}}}",
        r"\toprule",
        _latex_line([_latex_text(name) for name in table.about + table.measures]),
        r"\midrule",
        *(_latex_line([_latex_cell(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        *(rf"{{\footnotesize {text}\par}}" for text in below),
    ]
    return "".join(f"{line}\n" for line in lines)


def markdown_row(name: str, result: Result, *, intervals: bool = False) -> str:
    r"""One result for a table that is there already: its measures are the columns, without notes.

    Returns:
        The line without its end; as many lines as the result has parts.

    Example:
        >>> print(markdown_row("a|b", Result("lfw", "f00d", (Measure("EER", 0.0053), Measure("EDC r", None)), {})))
        | a\|b | 0.53 | - |
    """
    rows = _table({name: result}, intervals).rows
    return "\n".join(_markdown_line([_markdown_cell(_Cell(cell.text)) for cell in row]) for row in rows)


def latex_row(name: str, result: Result, *, intervals: bool = False) -> str:
    r"""One result for a `tabular` that is there already: its measures are the columns, without notes.

    Returns:
        The line without its end; as many lines as the result has parts.

    Example:
        >>> print(latex_row("a&b", Result("lfw", "f00d", (Measure("EER", 0.0053), Measure("EDC r", None)), {})))
        a\&b & 0.53 & -- \\
    """
    rows = _table({name: result}, intervals).rows
    return "\n".join(_latex_line([_latex_cell(_Cell(cell.text)) for cell in row]) for row in rows)


def _table(results: Mapping[str, Result], intervals: bool) -> _Table:
    if not results:
        raise DataError("a table needs at least one result.")
    names = list(dict.fromkeys(_split(measure)[1] for result in results.values() for measure in result.measures))
    parted = any(_split(measure)[0] for result in results.values() for measure in result.measures)
    benchmarks = {result.benchmark for result in results.values()}
    protocols = {result.protocol for result in results.values()}
    several = len(benchmarks) > 1
    table = _Table(["model", *["benchmark"] * several, *["part"] * parted], [_heading(name) for name in names])
    for name, result in results.items():
        missing = [f"{count:,} {what}" for what, count in result.counts.items() if what.endswith("missing") and count]
        remarks = [", ".join(missing), result.protocol if len(protocols) > 1 else ""]
        first = [_Cell(name, tuple(table.note(text) for text in remarks if text)), *[_Cell(result.benchmark)] * several]
        for part, found in _parts(result).items():
            cells = [_cell(found[each], intervals, table) if each in found else _Cell("") for each in names]
            table.rows.append([*first, *[_Cell(part)] * parted, *cells])
    for what, values in (("Benchmark", benchmarks), ("Protocol", protocols)):
        table.common.extend(f"{what}: {value}" for value in values if value and len(values) == 1)
    return table


def _split(measure: Measure) -> tuple[str, str]:
    """Part of the benchmark, empty where it has none, and name of the measure: `magface+: EER` is the EER of a part."""
    part, _, name = measure.name.rpartition(": ")
    return part, name


def _parts(result: Result) -> dict[str, dict[str, Measure]]:
    parts: dict[str, dict[str, Measure]] = {}
    for measure in result.measures:
        part, name = _split(measure)
        parts.setdefault(part, {})[name] = measure
    return parts


def _heading(measure: str) -> str:
    return f"{measure} (%)" if _RATE.match(measure) else measure


def _cell(measure: Measure, intervals: bool, table: _Table) -> _Cell:
    text = _number(measure, intervals)
    return _Cell(text, () if text else (table.note(measure.note or "the data cannot tell"),))


def _number(measure: Measure, intervals: bool) -> str | None:
    """Value, and the interval where it is wanted; None where the data cannot tell."""
    if measure.value is None or not math.isfinite(measure.value):
        return None

    def shown(value: float) -> str:
        return (f"{100 * value:.2f}" if _RATE.match(_split(measure)[1]) else f"{value:.4f}").replace("-", "\u2212")

    if not intervals or measure.interval is None:
        return shown(measure.value)
    low, high = measure.interval
    return f"{shown(measure.value)} ({shown(low)} to {shown(high)})"


def _markdown_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: _Cell) -> str:
    text = "-" if cell.text is None else _markdown_text(cell.text)
    numbers = ",".join(map(str, cell.notes))
    return f"{text}<sup>{numbers}</sup>" if numbers else text


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def _latex_line(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _latex_cell(cell: _Cell) -> str:
    text = "--" if cell.text is None else _latex_text(cell.text)
    numbers = ",".join(map(str, cell.notes))
    return rf"{text}\textsuperscript{{{numbers}}}" if numbers else text


def _latex_text(text: str) -> str:
    escaped = "".join(_LATEX.get(sign, sign) for sign in printable(text))
    return escaped.replace("--", "-{}-").replace("--", "-{}-")
