"""Faces that get worse: a strip of pictures with the score under each, scores over strength, orders by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter
from numpy.typing import ArrayLike

from magface.errors import DataError
from magface.types import U8
from magface.viz import style
from magface.viz.style import PAGE, Size

_BAND = (10, 90)
_GAP = 0.06
_UNDER = 0.32
"""Room for a score under a face, in heights of a face."""
_WELL, _BADLY = "#0072b2", "#d55e00"


def strip(
    images: U8, scores: ArrayLike, kinds: Sequence[str], strengths: Sequence[float], title: str = "", size: Size = PAGE
) -> Figure:
    """Faces at rising strengths of damage, a row for each kind, and the score under each.

    Args:
        images: `(K, S, H, W, 3)` uint8 RGB.
        scores: `(K, S)`, 0 to 100.
        kinds: K names.
        strengths: S, 0 to 1.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: the shapes do not belong together, or there is no image.

    Example:
        >>> faces = np.zeros((1, 2, 112, 112, 3), np.uint8)
        >>> figure = strip(faces, [[87.4, 12.0]], ["blur"], [0, 1])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['87', '12']
    """
    values = np.asarray(scores, np.float64)
    shape = (len(kinds), len(strengths))
    if images.ndim != 5 or images.shape[:2] != shape or images.shape[4] != 3 or values.shape != shape or 0 in shape:
        raise DataError(
            f"a strip needs one image and one score for each of {shape[0]} kinds and {shape[1]} strengths; "
            f"got shapes {images.shape} and {values.shape}."
        )
    rows, columns = shape
    with style.look():
        figure, on = style.axes(size, title)
        _bare(on)
        for (row, column), score in np.ndenumerate(values):
            top = row * (1 + _UNDER)
            on.imshow(images[row, column], extent=(column + _GAP / 2, column + 1 - _GAP / 2, top + 1 - _GAP, top))
            on.text(column + 0.5, top + 1, f"{score:.0f}", ha="center", va="top", fontsize=0.9 * size.font)
        on.set(xlim=(0, columns), ylim=(rows * (1 + _UNDER), 0), aspect="equal")
        on.xaxis.tick_top()
        on.set_xticks(np.arange(columns) + 0.5, [f"{strength:.0%}" for strength in strengths])
        on.set_yticks(np.arange(rows) * (1 + _UNDER) + 0.5, [style.shown(kind) for kind in kinds])
        on.set_xlabel("Strength of the damage; under each face, its score of 0 to 100", fontsize=size.font)
        across = 0.8 * size.width / columns  # beside the names
        figure.set_figheight(across * rows * (1 + _UNDER) + size.line * (3 + bool(title)))
    return figure


def curves(
    scores: Mapping[str, ArrayLike],
    kinds: Sequence[str],
    strengths: Sequence[float],
    title: str = "",
    size: Size = PAGE,
    label: str = "Score",
) -> Figure:
    """Scores over the strength of each kind of damage, a panel for each kind: the mean and the middle 80 % of faces.

    Args:
        scores: by name of the model or method, `(N, K, S)` of N faces; up to 35.
        kinds: K names.
        strengths: S, rising within 0 and 1.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.
        label: of the axis of scores.

    Raises:
        DataError: the shapes do not belong together, or there is nothing to draw.

    Example:
        >>> figure = curves({"magface": [[[90, 50, 10]]]}, ["blur"], [0, 0.5, 1])
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [90.0, 50.0, 10.0]
    """
    found = {name: np.asarray(each, np.float64) for name, each in scores.items()}
    shape = (len(kinds), len(strengths))
    if not 0 < len(found) <= style.LINES or 0 in shape:
        raise DataError(f"a figure can show 1 to {style.LINES} scores of at least one kind and strength of damage.")
    for name, each in found.items():
        if each.ndim != 3 or each.shape[1:] != shape or not len(each):
            raise DataError(f"the scores of {name!r} must be of faces, {shape[0]} kinds and {shape[1]} strengths.")
    with style.look():
        figure, panels = style.panels(len(kinds), title, size)
        lines: list[Any] = []
        for k, (on, kind) in enumerate(zip(panels, kinds, strict=True)):
            on.set_title(style.shown(kind), loc="left", fontsize=0.9 * size.font, parse_math=False)
            for number, each in enumerate(found.values()):
                look = style.line(number, size)
                low, high = np.percentile(each[:, k], _BAND, axis=0)
                on.fill_between(strengths, low, high, color=look["color"], alpha=0.15, linewidth=0)
                lines += on.plot(strengths, each[:, k].mean(axis=0), **look)
            on.set(xlim=(min(strengths), max(strengths)))
            on.xaxis.set_major_formatter(PercentFormatter(1))
            on.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        lowest = min(float(np.percentile(each, _BAND[0], axis=0).min()) for each in found.values())
        highest = max(float(np.percentile(each, _BAND[1], axis=0).max()) for each in found.values())
        room = 0.04 * (highest - lowest or 1)
        panels[0].set_ylim(lowest - room, highest + room)
        figure.supylabel(label, fontsize=size.font)
        names = [f"{style.shown(name)}, {len(each):,} faces" for name, each in found.items()]
        entries = list(zip(lines[: len(found)], names, strict=True))
        style.legend(figure, entries, "Over the strength of the damage: mean, and the middle 80 % of faces", size)
    return figure


def orders(
    values: ArrayLike, methods: Sequence[str], kinds: Sequence[str], title: str = "", size: Size = PAGE
) -> Figure:
    """How well each method follows each kind of damage: Spearman's correlation as numbers on colours.

    Args:
        values: `(M, K)`, Spearman of strength and score, -1 (falls at every step) to 1; NaN where there is none.
        methods: M names.
        kinds: K names.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: the shapes do not belong together, or there is nothing to draw.

    Example:
        >>> figure = orders([[-1.0, 0.25]], ["magface"], ["blur", "noise"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['−1.00', '0.25']
    """
    table = np.asarray(values, np.float64)
    if table.shape != (len(methods), len(kinds)) or not table.size:
        raise DataError(f"{len(methods)} methods and {len(kinds)} kinds need as many numbers; got shape {table.shape}.")
    colours = LinearSegmentedColormap.from_list("orders", [_WELL, "#ffffff", _BADLY]).with_extremes(bad=style.SHADE)
    with style.look():
        figure, on = style.axes(size, title)
        _bare(on)
        # kinds go down, as there are more of them, and a name in a row can be read
        on.imshow(np.ma.masked_invalid(table.T), cmap=colours, vmin=-1, vmax=1, aspect="auto")
        for (column, row), value in np.ndenumerate(table):
            dark = abs(value) > 0.6
            text = "–" if np.isnan(value) else f"{value:.2f}".replace("-", "−")
            on.text(
                column, row, text, ha="center", va="center", fontsize=0.8 * size.font, color="w" if dark else style.INK
            )
        on.xaxis.tick_top()
        names = [style.shown(name) for name in methods]
        on.set_xticks(
            range(len(methods)), names, rotation=35, ha="left", rotation_mode="anchor", fontsize=0.9 * size.font
        )
        on.set_yticks(range(len(kinds)), [style.shown(kind) for kind in kinds])
        slant = 0.3 * max(map(len, names))  # lines that the longest name takes
        figure.set_figheight(size.line * (1.3 * len(kinds) + slant + 2.5 + 2 * bool(title)))
        style.name_axes(on, "Spearman of strength and score: −1 falls at every step, 1 rises", "", size)
    return figure


def _bare(on: Axes) -> None:
    """Axes of pictures: names beside them, and nothing else."""
    on.grid(False)
    on.spines[:].set_visible(False)
    on.tick_params("both", length=0)
