"""How hard losses pull at a training face over its cosine and its magnitude, panels beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.viz import style
from magface.viz.style import PAGE, Size

F64 = NDArray[np.float64]

_MOST = 9
_ANGLES = (0, 45, 60, 75, 90, 105, 120, 150, 180)
_DOWN, _UP = "#d55e00", "#0072b2"
_LEVELS = 6
"""Contours, about; the same in all panels."""


def gradient_scale(
    cosine: ArrayLike,
    magnitude: ArrayLike,
    scales: Mapping[str, ArrayLike],
    optimum: Mapping[str, ArrayLike] | None = None,
    title: str = "",
    size: Size = PAGE,
) -> Figure:
    """How hard each loss pulls a face to its class centre, -dL/dcos: one colour scale from 0 for all panels.

    Args:
        cosine: `(C,)` to the own class centre, rising or falling, within -1 and 1.
        magnitude: `(M,)`, rising.
        scales: by name of the loss, `(M, C)`; up to 9 losses.
        optimum: by name, for those that have one, `(C,)`: magnitude at which the loss is least, NaN where none is.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: the shapes do not belong together, a number is not finite, or there is nothing to draw.

    Example:
        >>> figure = gradient_scale([0.0, 0.5], [10, 20], {"cosface": [[64, 32], [64, 32]]})
        >>> figure.axes[0].get_title("left"), figure.axes[0].get_xlabel()
        ('cosface', 'Cosine to the own centre')
    """
    found = _checked(cosine, magnitude, scales)
    greatest = max(float(each.max()) for each in found.values()) or 1.0
    return _panels(
        (cosine, magnitude),
        found,
        optimum or {},
        Normalize(min(0.0, *(float(each.min()) for each in found.values())), greatest),
        "viridis",
        "−dL/dcos: pull to the own centre",
        title,
        size,
    )


def magnitude_slope(
    cosine: ArrayLike,
    magnitude: ArrayLike,
    slopes: Mapping[str, ArrayLike],
    optimum: Mapping[str, ArrayLike] | None = None,
    title: str = "",
    size: Size = PAGE,
) -> Figure:
    """How each loss moves the magnitude of a face, dL/da: below 0 it grows, above 0 it shrinks, white where it stays.

    Args:
        cosine: as for `gradient_scale`.
        magnitude: likewise.
        slopes: by name of the loss, `(M, C)`; up to 9 losses.
        optimum: as for `gradient_scale`.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: as for `gradient_scale`.

    Example:
        >>> figure = magnitude_slope([0.0, 0.5], [10, 20], {"magface": [[-0.3, -0.3], [0.2, -0.1]]})
        >>> figure.axes[0].collections[0].get_clim()
        (-0.3, 0.3)
    """
    found = _checked(cosine, magnitude, slopes)
    greatest = max(float(np.abs(each).max()) for each in found.values()) or 1.0
    colours = LinearSegmentedColormap.from_list("slopes", [_UP, "#ffffff", _DOWN])
    unit = "dL/da: below 0 the magnitude grows"
    return _panels(
        (cosine, magnitude), found, optimum or {}, Normalize(-greatest, greatest), colours, unit, title, size
    )


def _checked(cosine: ArrayLike, magnitude: ArrayLike, values: Mapping[str, ArrayLike]) -> dict[str, F64]:
    shape = np.shape(magnitude) + np.shape(cosine)
    if not 0 < len(values) <= _MOST:
        raise DataError(f"a figure can show 1 to {_MOST} losses; it was given {len(values)}.")
    if len(shape) != 2 or min(shape) < 2:
        raise DataError("the grid needs at least two cosines and two magnitudes, each a list.")
    found = {name: np.asarray(each, np.float64) for name, each in values.items()}
    for name, each in found.items():
        if each.shape != shape or not np.isfinite(each).all():
            raise DataError(
                f"the slopes of {name!r} must be finite, {shape[0]} magnitudes by {shape[1]} cosines; they have shape "
                f"{each.shape}."
            )
    return found


def _panels(
    grid: tuple[ArrayLike, ArrayLike],
    values: Mapping[str, F64],
    optimum: Mapping[str, ArrayLike],
    colours: Normalize,
    palette: str | LinearSegmentedColormap,
    unit: str,
    title: str,
    size: Size,
) -> Figure:
    cosine, magnitude = (np.asarray(each, np.float64) for each in grid)
    lines: list[Any] = []
    with style.look():
        columns = 2 if len(values) in (2, 4) else 3
        figure, panels = style.panels(len(values), title, size, columns)
        figure.set_figheight(1.1 * figure.get_figheight() + 2 * size.line)  # for the angles
        levels = MaxNLocator(_LEVELS).tick_values(colours.vmin or 0.0, colours.vmax or 0.0)
        look: dict[str, Any] = {"colors": style.INK, "linewidths": 0.06 * size.font}
        for on, (name, each) in zip(panels, values.items(), strict=True):
            on.set_title(style.shown(name), loc="left", fontsize=size.font, parse_math=False)
            mesh = on.pcolormesh(cosine, magnitude, each, norm=colours, cmap=palette, rasterized=True)
            inside = levels[(levels > each.min()) & (levels < each.max())]
            if len(inside):
                on.contour(cosine, magnitude, each, inside, **look)
            if name in optimum:
                best = np.asarray(optimum[name], np.float64)
                if best.shape != cosine.shape:
                    raise DataError(f"the optimum of {name!r} needs a magnitude for each of {len(cosine)} cosines.")
                lines = on.plot(cosine, best, color="#e69f00", linewidth=0.25 * size.font)
            on.set(xlim=(cosine.max(), cosine.min()), ylim=(magnitude.min(), magnitude.max()))
            _angles(on, size)
        for on in panels[-columns:]:
            on.set_xlabel("Cosine to the own centre", fontsize=size.font)
        for on in panels[::columns]:
            on.set_ylabel("Magnitude a", fontsize=size.font)
        bar = figure.colorbar(mesh, ax=panels, shrink=0.9, pad=0.02)
        bar.set_label(unit, fontsize=0.9 * size.font)
        bar.ax.tick_params(labelsize=0.8 * size.font)
        bar.ax.hlines(levels, 0, 1, **look)
        bar.set_ticks(FixedLocator(levels))
        if lines:
            style.legend(figure, [(lines[0], "magnitude at which the loss of such a face is least")], "", size)
    return figure


def _angles(on: Axes, size: Size) -> None:
    """The same axis in degrees, over the panel."""
    high, low = on.get_xlim()
    above = on.secondary_xaxis("top")
    shown = [angle for angle in _ANGLES if low <= np.cos(np.radians(angle)) <= high]
    above.set_xticks(np.cos(np.radians(shown)), [f"{angle}°" for angle in shown])
    above.tick_params(labelsize=0.7 * size.font, color=style.SOFT, labelcolor=style.SOFT)
