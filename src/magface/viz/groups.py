"""Groups of people beside each other: how their scores lie, and how far they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from magface.errors import DataError
from magface.viz import style
from magface.viz.style import PAGE, Size

_ROW = 1.5
"""Height of a group, in lines of text."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How the scores of a group lie.

    Attributes:
        mean: of the scores.
        low: what one in ten is below.
        median: what half are below.
        high: what nine in ten are below.
    """

    mean: float
    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a group lies from the mean of all.

    Attributes:
        value: of the difference.
        interval: 95 %.
    """

    value: float
    interval: tuple[float, float]


def spreads(
    groups: Mapping[str, Spread], limits: Mapping[str, float] | None = None, title: str = "", size: Size = PAGE
) -> Figure:
    """The middle 80 % of the scores of each group, their median and mean, a row for each.

    Args:
        groups: by name, from top to bottom.
        limits: scores that decide, by what they are called; drawn as lines.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: there is no group, or its numbers are in no order.

    Example:
        >>> figure = spreads({"male": Spread(70, 40, 75, 90)}, {"retake": 35})
        >>> figure.axes[0].get_xlabel()
        'Score'
    """
    for name, each in groups.items():
        if not each.low <= each.median <= each.high:
            raise DataError(f"group {name!r} needs percentiles that rise; got {each.low}, {each.median}, {each.high}.")
    with style.look():
        figure, on = _rows(groups, title, size)
        wide, colour = 0.45 * size.font, style.COLORS[0]
        places = np.arange(len(groups))
        low, median, high, mean = (
            [getattr(each, field) for each in groups.values()] for field in ("low", "median", "high", "mean")
        )
        bars = on.hlines(places, low, high, color=colour, linewidth=wide, alpha=0.35)
        [middles] = on.plot(
            median, places, "|", color=colour, markersize=0.9 * size.font, markeredgewidth=0.2 * size.font
        )
        [means] = on.plot(mean, places, "o", color=style.INK, markersize=0.4 * size.font)
        entries = [(bars, "middle 80 % of faces"), (middles, "median"), (means, "mean")]
        for number, (name, limit) in enumerate((limits or {}).items()):
            look = style.line(number + 1, size)
            entries.append((on.axvline(limit, **look), f"{style.shown(name)}: below {limit:g}"))
        on.set_xlim(0, 100)
        style.name_axes(on, "Score", "", size)
        style.legend(figure, entries, "", size)
    return figure


def forest(
    groups: Sequence[str],
    differences: Mapping[str, Sequence[Difference]],
    title: str = "",
    size: Size = PAGE,
) -> Figure:
    """Differences of groups to the mean of all with their intervals, as they are and adjusted, a row for each group.

    Args:
        groups: names, from top to bottom.
        differences: by what was compared, one for each group; up to 5.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: there is no group, or not one difference for each.

    Example:
        >>> figure = forest(["male"], {"as they are": [Difference(1.5, (1.0, 2.0))]})
        >>> figure.axes[0].lines[-1].get_xdata().tolist()
        [1.5]
    """
    if not 0 < len(differences) <= 5 or any(len(each) != len(groups) for each in differences.values()):
        raise DataError("a figure of differences needs one for each group, of 1 to 5 comparisons.")
    with style.look():
        figure, on = _rows(groups, title, size)
        on.axvline(0, color=style.SOFT, linewidth=0.1 * size.font)
        entries = []
        for number, (name, each) in enumerate(differences.items()):
            places = np.arange(len(groups)) + 0.5 * ((number + 0.5) / len(differences) - 0.5)
            look = style.line(number, size)
            ends = np.array([difference.interval for difference in each])
            on.hlines(places, ends[:, 0], ends[:, 1], color=look["color"], linewidth=look["linewidth"])
            [points] = on.plot(
                [difference.value for difference in each],
                places,
                "os^Dv"[number],
                color=look["color"],
                markersize=0.55 * size.font,
            )
            entries.append((points, style.shown(name)))
        style.name_axes(on, "Score less the mean of all, with 95 % intervals", "", size)
        style.legend(figure, entries, "", size)
    return figure


def _rows(groups: Sequence[str] | Mapping[str, object], title: str, size: Size) -> tuple[Figure, Axes]:
    """A figure with a row for each group, the first at the top."""
    if not groups:
        raise DataError("there is no group to draw.")
    figure, on = style.axes(size, title)
    on.set_yticks(range(len(groups)), [style.shown(name) for name in groups])
    for text in on.get_yticklabels():
        text.set_parse_math(False)
    on.set_ylim(len(groups) - 0.4, -0.6)
    on.grid(visible=False, axis="y")
    figure.set_figheight(size.line * (_ROW * len(groups) + 3 + 2 * bool(title)))
    return figure, on
