"""One look for all figures, for every eye and also in grey, and how a figure becomes files."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.ticker import NullLocator

from magface.io import atomic_path
from magface.text import printable

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito, "Color universal design" (2008), without the yellow that is too pale for a line."""

DASHES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1)), (0, (9, 2)))
LINES = len(COLORS) * len(DASHES)

INK, SOFT, GRID, SHADE = "#23211d", "#67625a", "#dcd8d0", "#efece6"

_WITHOUT: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""What would make two files of the same figure differ."""

_LONGEST = 120
"""Letters of a name that are shown."""


@dataclass(frozen=True, slots=True)
class Size:
    """Where a figure goes.

    Attributes:
        width: inches.
        dpi: pixels an inch, of the PNG.
        font: points.
    """

    width: float
    dpi: int
    font: float

    @property
    def line(self) -> float:
        """Height of a line of text, inches."""
        return 1.35 * self.font / 72


PAPER = Size(3.5, 300, 8)
"""A column of a paper with two."""

PAGE = Size(8.0, 150, 11)
"""A page on a screen, 1,200 pixels wide."""


@contextmanager
def look() -> Iterator[None]:
    """Drawing as matplotlib ships it, whatever the user's own settings are, and the same bytes each time."""
    settings = {"svg.hashsalt": "magface", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SOFT}
    with matplotlib.style.context(["default", settings]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box stands for the letter
        yield


def line(number: int, size: Size) -> dict[str, Any]:
    """Look of line `number`, from 0; the first `LINES` differ from each other in colour or dashes."""
    turn = number // len(COLORS)
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": DASHES[(number + turn) % len(DASHES)],
        "linewidth": 0.15 * size.font,
        "markersize": 0.5 * size.font,
    }


def shown(name: str) -> str:
    r"""A name as text: line breaks in it can be seen, and so can that it is too long.

    Example:
        >>> shown("a\nb"), len(shown("a" * 1000))
        ('a\\nb', 120)
    """
    text = printable(name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"


def fold(text: str, room: float, font: FontProperties) -> str:
    """A text in lines that fit.

    Args:
        text: any.
        room: points.
        font: of the text.

    Example:
        >>> fold("one two and three", 60, FontProperties(size=8)).splitlines()
        ['one two and', 'three']
    """
    lines = []
    while text:
        fits = bisect_right(range(1, len(text) + 1), room, key=lambda letters: _width(text[:letters], font))
        end = len(text) if fits == len(text) else text.rfind(" ", 1, fits + 1) + 1 or max(fits, 1)
        lines.append(text[:end].rstrip())
        text = text[end:]
    return "\n".join(lines)


def _width(text: str, font: FontProperties) -> float:
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def axes(size: Size, title: str) -> tuple[Figure, Axes]:
    """A new figure and its empty axes.

    Args:
        size: where the figure goes.
        title: over the axes; empty for none.
    """
    font = FontProperties(size=size.font, weight="bold")
    text = fold(shown(title), 0.8 * 72 * size.width, font)
    height = 0.68 * size.width + size.line * len(text.splitlines())
    figure = Figure(figsize=(size.width, height), dpi=size.dpi, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    on = figure.add_subplot()
    on.set_title(text, loc="left", fontproperties=font, parse_math=False)
    on.tick_params("both", which="both", labelsize=0.9 * size.font, color=SOFT, labelcolor=INK)
    on.grid(which="major", color=GRID, linewidth=0.6)
    on.set_axisbelow(True)
    on.spines[["top", "right"]].set_visible(False)
    return figure, on


def panels(count: int, title: str, size: Size, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels that share their axes.

    Args:
        count: of panels, at least 1.
        title: over them; empty for none.
        size: where the figure goes.
        columns: panels beside each other, at most.
    """
    columns = min(count, columns)
    rows = -(-count // columns)
    font = FontProperties(size=size.font, weight="bold")
    text = fold(shown(title), 0.9 * 72 * size.width, font)
    height = rows * (0.7 * size.width / columns + size.line) + size.line * (1 + len(text.splitlines()))
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04)
    figure = Figure(figsize=(size.width, height), dpi=size.dpi, layout=layout)
    if text:
        figure.suptitle(text, x=0.01, ha="left", fontproperties=font, parse_math=False)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for on in grid[count:]:
        on.set_visible(False)
    for on in grid[:count]:
        on.tick_params("both", which="both", labelsize=0.8 * size.font, color=SOFT, labelcolor=INK)
        on.grid(which="major", color=GRID, linewidth=0.6)
        on.set_axisbelow(True)
        on.spines[["top", "right"]].set_visible(False)
        on.xaxis.set_minor_locator(NullLocator())
    for on in grid[:count][-columns:]:  # the lowest of each column
        on.tick_params("x", labelbottom=True)
    return figure, list(grid[:count])


def name_axes(on: Axes, x: str, y: str, size: Size) -> None:
    """Write what the axes are, with the unit."""
    on.set_xlabel(x, fontsize=size.font)
    on.set_ylabel(y, fontsize=size.font)


def legend(figure: Figure, entries: Sequence[tuple[Artist, str]], heading: str, size: Size) -> None:
    """Explain the lines below the axes, for which the figure grows; texts are shown as they are.

    Args:
        figure: of `axes`.
        entries: what is explained, and the text.
        heading: over the entries; empty for none.
        size: of the figure.
    """
    font = FontProperties(size=0.9 * size.font)
    texts = [fold(text, 0.95 * 72 * size.width - 5 * size.font, font) for _, text in entries]
    rows = sum(len(text.splitlines()) for text in [heading, *texts]) + 1
    figure.set_size_inches(size.width, figure.get_figheight() + size.line * rows)
    made = figure.legend(
        [artist for artist, _ in entries],
        [str(number) for number in range(len(entries))],
        loc="outside lower left",
        title=heading or None,
        prop=font,
        title_fontproperties=font,
        alignment="left",
        frameon=False,
        handlelength=2.6,
        labelspacing=0.3,
    )
    # as labels, texts that begin with _ would be left out, and those with $ taken for mathematics
    for place, text in zip(made.get_texts(), texts, strict=True):
        place.set_parse_math(False)
        place.set_text(text)


def save(figure: Figure, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a figure as PNG and SVG; the same figure gives the same bytes.

    Args:
        figure: from this package.
        path: without an ending; `.png` and `.svg` are added.

    Returns:
        The two files; each is whole, or what it was before.

    Raises:
        OSError: the place cannot be written.
    """
    png, svg = (Path(f"{os.fspath(path)}.{ending}") for ending in ("png", "svg"))
    for target in (png, svg):
        write(figure, target)
    return png, svg


def write(figure: Figure, path: Path) -> None:
    """Write a figure as its ending says, `.png`, `.svg` or `.pdf`; the same figure gives the same bytes.

    Raises:
        OSError: the place cannot be written; what was there stays.
    """
    kind = path.suffix.lower()[1:]
    with look(), atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=_WITHOUT[kind])
