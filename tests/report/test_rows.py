"""Tables say what the results hold, in the field's numbers, whatever names they are given."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from magface.benchmarks.result import Measure, Result
from magface.errors import DataError
from magface.report import rows
from magface.text import printable

LFW = Result(
    "lfw",
    "f00d",
    (
        Measure("accuracy", 0.9945, note="mean of 10 folds"),
        Measure("accuracy std", 0.0032),
        Measure("TAR@FMR=0.001", 0.99167, (0.9877, 0.9943)),
        Measure(
            "TAR@FMR=1e-06", None, note="FMR 1e-06 needs at least 1,000,000 impostor comparisons; there are 3,000."
        ),
        Measure("EER", 0.00531),
        Measure("EDC efficiency", 0.5552),
        Measure("Spearman", -0.25),
    ),
    {"genuine pairs": 3000},
    protocol="single view",
)
PARTIAL = Result("lfw", "beef", LFW.measures[:3], {"images": 10, "images missing": 2, "pairs missing": 1}, {}, "flip")
HOSTILE = r"\|`*_[x](y)<script>&amp;$x^2$~~a~~#{}%^" + '"\n\t\x1b[31m\ud800--- !'
names = st.text(st.sampled_from("\\|`*_[]()<>&~$#{}%^\"'!-=+.: \n\x00\u202eaé字"), max_size=12) | st.text(max_size=12)


def tables(text):
    """Cells of the tables in a Markdown page by another implementation, and the rest as text."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    cells, paragraphs, row, where = [], [], [], ""
    for token in parser.parse(text):
        where = token.type if token.type.endswith("_open") else where
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            cells.append(row)
        elif token.type == "inline":
            assert {each.type for each in token.children} <= {"text", "html_inline"}, token.children
            tags = [each.content for each in token.children if each.type == "html_inline"]
            assert set(tags) <= {"<sup>", "</sup>"}
            shown = "".join(each.content for each in token.children if each.type == "text")
            (paragraphs if where == "paragraph_open" else row).append(shown)
    return cells, paragraphs


COMMANDS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
}


def typeset(text):
    """What TeX would show of text that only holds the commands above; any other active sign is a failure."""
    pattern = re.compile(r"\\([a-z]+)\{\}|\\([&%$#_{}])|\{([\[\]*]?)\}|(\$-\$)|([^\\&%$#_{}~^])", re.DOTALL)
    shown, place = [], 0
    while place < len(text):
        found = pattern.match(text, place)
        assert found, f"TeX would act on {text[place:]!r}"
        command, sign, group, minus, plain = found.groups()
        shown.append(COMMANDS[command] if command else "\u2212" if minus else sign or group or plain or "")
        place = found.end()
    assert "--" not in text
    return "".join(shown)


def cells_of(line):
    assert line.endswith(r" \\")
    return re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))


def test_rates_are_in_percent_and_other_numbers_are_not():
    [head, row], below = tables(rows.markdown({"shipped": LFW}))
    assert head == [
        "model",
        "accuracy (%)",
        "accuracy std (%)",
        "TAR@FMR=0.001 (%)",
        "TAR@FMR=1e-06 (%)",
        "EER (%)",
        "EDC efficiency",
        "Spearman",
    ]
    assert row == ["shipped", "99.45", "0.32", "99.17", "-1", "0.53", "0.5552", "\u22120.2500"]
    assert below == ["Benchmark: lfw", "Protocol: single view", f"1 {LFW.measures[3].note}"]


def test_rows_differ_in_what_they_hold_and_nothing_is_dropped_silently():
    cells, below = tables(rows.markdown({"a": LFW, "b": PARTIAL, "c": LFW}))
    assert [len(row) for row in cells] == [8] * 4
    assert cells[2] == ["b3,4", "99.45", "0.32", "99.17", "", "", "", ""]
    assert cells[1][1:] == cells[3][1:]
    assert below[0] == "Benchmark: lfw"
    assert below[1:] == [
        "1 single view",
        f"2 {LFW.measures[3].note}",
        "3 2 images missing, 1 pairs missing",
        "4 flip",
    ]


def test_benchmarks_that_differ_have_a_column():
    other = Result("cfp-fp", "f00d", (Measure("accuracy", 0.9),), {})
    cells, below = tables(rows.markdown({"a": other, "b": Result("lfw", "f00d", other.measures, {})}))
    assert cells == [
        ["model", "benchmark", "accuracy (%)"],
        ["a", "cfp-fp", "90.00"],
        ["b", "lfw", "90.00"],
    ]
    assert below == []


def test_parts_of_a_benchmark_have_rows_of_their_own():
    measures = (
        Measure("mean: TAR@FMR=0.001", 0.5),
        Measure("mean: EER", 0.25),
        Measure("magface+: TAR@FMR=0.001", 0.75),
        Measure("templates: magface+: rank-10", 1.0),
        Measure("images", 2.0),
    )
    result = Result("ijb-c", "f00d", measures, {})
    cells, _ = tables(rows.markdown({"a": result}))
    assert cells == [
        ["model", "part", "TAR@FMR=0.001 (%)", "EER (%)", "rank-10 (%)", "images"],
        ["a", "mean", "50.00", "25.00", "", ""],
        ["a", "magface+", "75.00", "", "", ""],
        ["a", "templates: magface+", "", "", "100.00", ""],
        ["a", "", "", "", "", "2.0000"],
    ]
    assert rows.markdown({"a": result}).splitlines()[1] == "| --- | --- | ---: | ---: | ---: | ---: |"
    assert rows.latex({"a": result}).startswith("\\begin{tabular}{llrrrr}\n")
    assert rows.markdown_row("a", result).splitlines() == rows.markdown({"a": result}).splitlines()[2:6]
    assert rows.latex_row("a", result).splitlines() == rows.latex({"a": result}).splitlines()[4:8]


@pytest.mark.parametrize(
    "name", ["EDC efficiency", "Spearman", "mean magnitude", "ranking", "EERIE", "std of accuracy"]
)
def test_what_is_no_rate_has_four_decimals(name):
    assert "0.5000" in rows.markdown_row("a", Result("lfw", "f00d", (Measure(name, 0.5),), {}))


def test_intervals_stand_behind_numbers_that_have_one():
    assert "| 99.45 | 0.32 | 99.17 (98.77 to 99.43) |" in rows.markdown({"a": LFW}, intervals=True)
    assert "99.17 (98.77 to 99.43) & --" in rows.latex_row("a", LFW, intervals=True)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_no_number_is_made_up(value):
    cells, below = tables(rows.markdown({"a": Result("lfw", "f00d", (Measure("EER", value),), {})}))
    assert cells[1] == ["a", "-1"]
    assert below[-1] == "1 the data cannot tell"


def test_latex_is_the_same_table():
    lines = rows.latex({"a": LFW, "b": PARTIAL}).splitlines()
    assert lines[:2] == [r"\begin{tabular}{lrrrrrrr}", r"\toprule"]
    assert cells_of(lines[2])[1] == r"accuracy (\%)"
    assert cells_of(lines[4]) == [
        r"a\textsuperscript{1}",
        *("99.45", "0.32", "99.17", r"--\textsuperscript{2}", "0.53", "0.5552", "$-$0.2500"),
    ]
    assert cells_of(lines[5]) == [r"b\textsuperscript{3,4}", "99.45", "0.32", "99.17", "", "", "", ""]
    assert lines[6:8] == [r"\bottomrule", r"\end{tabular}"]
    assert lines[-1] == r"{\footnotesize \textsuperscript{4} flip\par}"


def hostile(name):
    measure = name.replace(":", ";")
    return Result(name, "f00d", (Measure(measure, 0.5), Measure("EER", None, note=name)), {}, protocol=name)


@given(names)
def test_markdown_shows_any_name_as_it_is(name):
    shown = printable(name).strip()
    [head, row], _ = tables(rows.markdown({name: hostile(name)}))
    assert (len(head), len(row), row[0]) == (3, 3, shown)
    line = rows.markdown_row(name, Result("lfw", "f00d", LFW.measures[:2], {}))
    [_, again], _ = tables(f"| a | b | c |\n| --- | --- | --- |\n{line}\n")
    assert again == [shown, "99.45", "0.32"]


@given(names)
def test_latex_shows_any_name_as_it_is(name):
    lines = rows.latex({name: hostile(name)}).splitlines()
    row = cells_of(lines[4])
    assert len(row) == 3
    assert typeset(row[0]) == printable(name)
    assert not row[0].startswith(("[", "*"))
    assert typeset(cells_of(rows.latex_row(name, LFW))[0]) == printable(name)


def test_hostile_names_stay_text_everywhere():
    cells, below = tables(rows.markdown({HOSTILE: hostile(HOSTILE), "a": LFW}))
    assert cells[1][:2] == [f"{printable(HOSTILE)}1", printable(HOSTILE)]
    assert below[0] == f"1 {printable(HOSTILE)}"
    lines = rows.latex({HOSTILE: hostile(HOSTILE)}).splitlines()
    assert len(lines) == 11
    assert (
        typeset(lines[-3].removeprefix(r"{\footnotesize ").removesuffix(r"\par}")) == f"Benchmark: {printable(HOSTILE)}"
    )


def test_nothing_is_no_table():
    with pytest.raises(DataError, match="at least one result"):
        rows.markdown({})
