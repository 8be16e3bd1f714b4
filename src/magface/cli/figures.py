"""Figures of a benchmark's own kind, from the numbers of its result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from magface.benchmarks.result import Measure, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(result: Result, title: str) -> Iterator[tuple[str, Figure]]:
    """Name and figure of what `groups` and `degradation` found; none for other benchmarks. Needs matplotlib."""
    measures = {measure.name: measure for measure in result.measures}
    match result.benchmark:
        case "groups":
            yield from _groups(measures, title)
        case "degradation":
            yield "orders", _orders(measures, title)


def _groups(measures: dict[str, Measure], title: str) -> Iterator[tuple[str, Figure]]:
    from magface.quality.verdict import ACCEPT, RETAKE
    from magface.viz.groups import Difference, Spread, forest, spreads

    names = [name.rpartition(": ")[0] for name in measures if name.endswith(": mean score")]
    fields = ("mean score", "score, percentile 10", "score, percentile 50", "score, percentile 90")
    lie = {name: Spread(*(_value(measures[f"{name}: {field}"]) for field in fields)) for name in names}
    yield "scores", spreads(lie, {"retake": RETAKE, "not accepted": ACCEPT}, title)
    compared = [name for name in names if f"{name}: difference" in measures]
    found = {
        shown: [
            Difference(_value(each), each.interval or (_value(each), _value(each)))
            for each in (measures[f"{name}: {kind}"] for name in compared)
        ]
        for shown, kind in (("as they are", "difference"), ("pictures and other labels equal", "difference, adjusted"))
    }
    yield "differences", forest(compared, found, title)


def _orders(measures: dict[str, Measure], title: str) -> Figure:
    from magface.viz.degradation import orders

    found: dict[str, dict[str, float]] = {}
    for name, measure in measures.items():
        method, _, what = name.rpartition(": ")
        if what.startswith("Spearman, "):
            found.setdefault(method or "magnitude", {})[what.removeprefix("Spearman, ")] = _value(measure)
    return orders([list(each.values()) for each in found.values()], list(found), list(found["magnitude"]), title)


def _value(measure: Measure) -> float:
    return float("nan") if measure.value is None else measure.value
