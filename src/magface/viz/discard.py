"""Error versus discard: several qualities, or several models, in one figure, beside the best and the random order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from magface.benchmarks.result import Discard
from magface.errors import DataError
from magface.metrics.quality import Curve, pauc
from magface.viz import style
from magface.viz.style import PAGE, Size

F64 = NDArray[np.float64]

IDEAL = "ideal"
"""How the name of the curve begins that is the best any order could do."""

LIMIT = 0.2
"""Share discarded up to which the legend gives the mean error."""

_BANDS = 3
"""Curves whose bands can be told apart."""

_SHOWN = 0.5
_RATES = {"FNMR": "False non-match rate (%)", "FMR": "False match rate (%)"}
_PAIRS = {"FNMR": "genuine pairs", "FMR": "impostor pairs"}


def edc(curves: Mapping[str, Discard], title: str = "", size: Size = PAGE) -> Figure:
    """Error versus discard up to half of the comparisons; the sooner a curve falls, the better its quality.

    Curves are drawn in steps, with their bands where no more than three have one. The legend gives the mean error up to
    20 % discarded, absolute and in percent of the error at the start, where a random order stays: the dotted line.
    Curves whose name begins with `ideal` are dashed in grey. What fixed the threshold, and how many comparisons are
    behind a curve, stands over the legend, or at each curve where that differs.

    Args:
        curves: name to curve, all of one kind of error; up to 35 can be told apart.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: there is no curve, or one is not of the form that `Discard` has.

    Example:
        >>> half = Discard((0.0, 0.5), (0.2, 0.1), kind="FNMR", start="FMR 0.001", comparisons=10)
        >>> figure = edc({"magnitude": half}, "ten pairs")
        >>> figure.axes[0].get_ylabel(), figure.legends[0].get_texts()[0].get_text()
        ('False non-match rate (%)', 'magnitude, pAUC to 20 %: 0.2 (100 % of random)')
    """
    for name, curve in curves.items():
        _check(name, curve)
    kinds = {curve.kind for curve in curves.values()}
    if len(kinds) != 1 or len(curves) > style.LINES:
        raise DataError(f"a figure can show 1 to {style.LINES} curves of one kind; it was given {len(curves)}.")
    (kind,) = kinds
    about = [_about(curve) for curve in curves.values()]
    alike = len(set(about)) == 1
    qualities = [name for name in curves if not _is_ideal(name)]
    if sum(bool(curve.band) for curve in curves.values()) > _BANDS:
        curves = {name: replace(curve, band=()) for name, curve in curves.items()}
    with style.look():
        figure, on = style.axes(size, title)
        entries: list[tuple[Artist, str]] = []
        for name in [*qualities, *(name for name in curves if _is_ideal(name))]:
            look = _grey(size, "--") if _is_ideal(name) else style.line(qualities.index(name), size)
            line = _draw(on, curves[name], look)
            text = f"{style.shown(name)}, {_area(curves[name])}" + ("" if alike else f"; {_about(curves[name])}")
            entries.append((line, text))
        for start in sorted({curve.error[0] for curve in curves.values()}):
            on.axhline(start, zorder=1, **_grey(size, ":"))
        highest = max(_highest(curve) for curve in curves.values())
        on.set(xlim=(0, _SHOWN), ylim=(0, 1.08 * highest or 1))
        on.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        on.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        on.yaxis.set_major_formatter(PercentFormatter(1, decimals=_decimals(highest), symbol=""))
        style.name_axes(on, "Comparisons discarded (%)", _RATES[kind], size)
        entries.append((Line2D([], [], **_grey(size, ":")), "random order"))
        style.legend(figure, entries, about[0] if alike else "", size)
    return figure


def grouped(curves: Mapping[str, Discard]) -> dict[str, dict[str, Discard]]:
    """Curves that belong in one figure, those of one kind of error and one threshold.

    Args:
        curves: of a result, in which names tell kinds and thresholds apart.

    Returns:
        By name of a file, without an ending; `edc` is the first. In a figure the names are those of the qualities.

    Example:
        >>> some = {f"size at FMR {rate}": Discard((0.0,), (0.1,), start=f"FMR {rate}") for rate in ("0.1", "0.2")}
        >>> {file: list(names) for file, names in grouped(some).items()}
        {'edc': ['size'], 'edc-fmr-0.2': ['size']}
    """
    groups: dict[tuple[str, str], dict[str, Discard]] = {}
    for name, curve in curves.items():
        start = curve.start.partition(",")[0]
        quality = name.removesuffix(f" at {start}").removesuffix(", false matches")
        groups.setdefault((curve.kind, start), {})[quality] = curve
    first = next(iter(groups), ("", ""))[1]
    return {
        "-".join(["edc", *["false-matches"] * (kind == "FMR"), *[_plain(start)] * (start != first)]): some
        for (kind, start), some in groups.items()
    }


def _plain(text: str) -> str:
    """Letters, digits and points of a text, for the name of a file."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _is_ideal(name: str) -> bool:
    return name.startswith(IDEAL)


def _grey(size: Size, dashes: str) -> dict[str, Any]:
    return {"color": style.SOFT, "linewidth": 0.12 * size.font, "linestyle": dashes}


def _draw(on: Axes, curve: Discard, look: dict[str, Any]) -> Artist:
    x = np.append(curve.discarded, 1.0)
    if curve.band:
        low, high = (np.append(ends, ends[-1]) for ends in np.array(curve.band).T)
        on.fill_between(x, low, high, step="post", color=look["color"], alpha=0.15, linewidth=0)
    (line,) = on.plot(x, np.append(curve.error, curve.error[-1]), drawstyle="steps-post", **look)
    return line


def _area(curve: Discard) -> str:
    area = pauc(Curve(np.array(curve.discarded), np.array(curve.error)), LIMIT)
    relative = f" ({100 * area / curve.error[0]:.3g} % of random)" if curve.error[0] else ""
    return f"pAUC to {100 * LIMIT:g} %: {area:.3g}{relative}"


def _about(curve: Discard) -> str:
    threshold = f", threshold at {style.shown(curve.start)}" if curve.start else ""
    return f"{curve.comparisons:,} {_PAIRS[curve.kind]}{threshold}"


def _highest(curve: Discard) -> float:
    """What the axis must hold."""
    seen = np.array(curve.discarded) < _SHOWN
    ends = [high for _, high in curve.band] or curve.error
    return float(np.array(ends)[seen].max())


def _decimals(highest: float) -> int:
    return 0 if highest >= 0.05 else 1 if highest >= 0.005 else 2 if highest >= 0.0005 else 4


def _check(name: str, curve: Discard) -> None:
    """Refuse what is no curve."""
    at, error, band = (np.asarray(values, np.float64) for values in (curve.discarded, curve.error, curve.band))
    if curve.kind not in _RATES:
        raise DataError(f"curve {name!r} must be of {' or '.join(_RATES)}; it is of {curve.kind!r}.")
    rising = at.ndim == 1 and len(at) and at[0] == 0 and (np.diff(at) > 0).all() and at[-1] < 1
    if not rising or error.shape != at.shape or not ((error >= 0) & (error <= 1)).all():
        raise DataError(
            f"curve {name!r} must hold shares that rise from 0 and stay below 1, and an error rate of each."
        )
    if len(band) and (band.shape != (len(at), 2) or not ((band >= 0) & (band <= 1)).all()):
        raise DataError(f"curve {name!r} must have a lower and an upper end of the band at each share, or no band.")
