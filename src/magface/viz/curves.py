"""Curves of recognition: ROC and DET of verification, CMC of identification, several results in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from magface.benchmarks.result import Curve
from magface.errors import DataError
from magface.viz import style
from magface.viz.style import PAGE, Size

F64 = NDArray[np.float64]

_NORMAL = NormalDist()

_BOTTOMS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Where an axis of rates of success may begin."""

_MARKS = (*(10.0**-power for power in range(1, 13)), 0.5, 0.9, 0.99, 0.2, 0.05, 0.02, 0.8, 0.3, 0.95, 0.98)
"""Rates that an axis of a DET may be marked at, the more wanted first."""

_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.99, 0.999)
"""Where an axis of a DET may end."""

_FEW_RANKS = 20


@dataclass(frozen=True, slots=True)
class Cmc:
    """Closed-set identification.

    Attributes:
        rate: share of probes whose person is among the first 1, 2, ..., K of the list, rising within [0, 1].
        probes: searches behind `rate`, at least 1.
        gallery: people or templates searched.
    """

    rate: tuple[float, ...]
    probes: int
    gallery: int


def roc(curves: Mapping[str, Curve], title: str = "", size: Size = PAGE) -> Figure:
    """Receiver operating characteristic: TAR at each false match rate, which is on a logarithmic axis.

    A curve is drawn in steps, as it is between few scores, and begins at the FMR of one false match, `1 / impostor`:
    what lies below cannot be measured and is shaded. The axis of TAR begins where the lowest curve needs it.
    The mark is the equal error rate, on the line through the two nearest points.

    Args:
        curves: name to curve; up to 35 can be told apart.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: there is no curve, or one is not of the form above.

    Example:
        >>> curve = Curve(fmr=(0.0, 0.5, 1.0), tar=(0.5, 1.0, 1.0), genuine=2, impostor=2)
        >>> figure = roc({"magface": curve}, "two pairs")
        >>> figure.axes[0].get_xlabel()
        'False match rate'
    """
    _check(curves)
    with style.look():
        figure, on = style.axes(size, title)
        lines, lowest, finest = [], 1.0, min(1 / curve.impostor for curve in curves.values())
        for number, curve in enumerate(curves.values()):
            fmr, tar = _measurable(curve)
            lines += _steps(on, fmr, tar, number, size)
            lowest = min(lowest, tar[0])
            equal = _equal_error(curve)
            if equal >= fmr[0]:
                _mark(on, equal, 1 - equal, number, size)
        on.set(xscale="log", xlim=(_decade_below(finest), 1))
        _true_rates(on, lowest)
        on.xaxis.set_major_locator(LogLocator(numticks=12))
        on.xaxis.set_minor_locator(NullLocator())
        levels = np.geomspace(on.get_xlim()[0], 1, 400)
        style.name_axes(on, "False match rate", "True accept rate (%)", size)
        others = [_equal_errors(on, levels, 1 - levels, size), _shade(on, finest)]
        _legend(figure, [*map(style.shown, curves)], _pairs(curves), " pairs", lines, others, size)
    return figure


def det(curves: Mapping[str, Curve], title: str = "", size: Size = PAGE) -> Figure:
    """Detection error trade-off: FNMR against FMR, both on normal-deviate axes, so that normal scores give lines.

    Martin et al., "The DET curve in assessment of detection task performance" (1997); ISO/IEC 19795-1. Rates of
    less than one error are shaded, and curves end there; one without errors is named and not drawn. The mark is the
    equal error rate.

    Args:
        curves: name to curve; up to 35 can be told apart.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: there is no curve, or one is not of the form above.

    Example:
        >>> curve = Curve(fmr=(0.0, 0.5, 1.0), tar=(0.5, 1.0, 1.0), genuine=2, impostor=2)
        >>> figure = det({"magface": curve}, "two pairs")
        >>> figure.axes[0].get_xlabel()
        'False match rate (%)'
    """
    _check(curves)
    with style.look():
        figure, on = style.axes(size, title)
        lines, names, highest, worst = [], [], 0.0, 0.3
        finest = (
            min(1 / curve.impostor for curve in curves.values()),
            min(1 / curve.genuine for curve in curves.values()),
        )
        for number, (name, curve) in enumerate(curves.items()):
            fmr, fnmr = _errors(curve)
            names.append(style.shown(name) + " (no error to draw)" * (len(fmr) == 0))
            lines += _steps(on, fmr, fnmr, number, size)
            highest = max([highest, *fnmr])
            equal = _equal_error(curve)
            if equal >= max(1 / curve.impostor, 1 / curve.genuine):
                _mark(on, equal, equal, number, size)
                worst = max(worst, equal)
        _normal_deviate(on, "x", _decade_below(finest[0]), worst, size)
        _normal_deviate(on, "y", _decade_below(finest[1]), highest, size)
        (left, right), (bottom, top) = on.get_xlim(), on.get_ylim()
        levels = np.geomspace(max(left, bottom), min(right, top), 400)
        style.name_axes(on, "False match rate (%)", "False non-match rate (%)", size)
        others = [_equal_errors(on, levels, levels, size), _shade(on, *finest)]
        _legend(figure, names, _pairs(curves), " pairs", lines, others, size)
    return figure


def cmc(curves: Mapping[str, Cmc], title: str = "", size: Size = PAGE) -> Figure:
    """Cumulative match characteristic: the share of probes found within the first ranks.

    Args:
        curves: name to curve; up to 35 can be told apart.
        title: over the figure; empty for none.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: there is no curve, or one is not of the form above.

    Example:
        >>> figure = cmc({"magface": Cmc((0.9, 0.95, 1.0), probes=20, gallery=3)})
        >>> figure.axes[0].get_xlabel()
        'Rank'
    """
    _some(curves)
    for name, curve in curves.items():
        _rates(name, curve.rate)
        _counts(name, curve.probes, curve.gallery)
    with style.look():
        figure, on = style.axes(size, title)
        lines, deepest = [], max(len(curve.rate) for curve in curves.values())
        for number, curve in enumerate(curves.values()):
            ranks = np.arange(1, len(curve.rate) + 1)
            points = "o" if deepest <= _FEW_RANKS else ""
            lines += on.plot(ranks, curve.rate, marker=points, **style.line(number, size))
        if deepest > _FEW_RANKS:
            on.set_xscale("log")
            on.xaxis.set_major_formatter(FuncFormatter(lambda rank, _: f"{rank:,.0f}"))
            on.xaxis.set_minor_locator(NullLocator())
        else:
            on.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        _true_rates(on, min(curve.rate[0] for curve in curves.values()))
        style.name_axes(on, "Rank", "Identification rate (%)", size)
        searches = [f"{curve.probes:,} probes, gallery of {curve.gallery:,}" for curve in curves.values()]
        _legend(figure, [*map(style.shown, curves)], searches, "", lines, [], size)
    return figure


def _check(curves: Mapping[str, Curve]) -> None:
    """Refuse what is no ROC."""
    _some(curves)
    for name, curve in curves.items():
        _counts(name, curve.genuine, curve.impostor)
        _rates(name, curve.fmr)
        _rates(name, curve.tar)
        if len(curve.fmr) != len(curve.tar):
            raise DataError(f"curve {name!r} has {len(curve.fmr)} false match and {len(curve.tar)} true accept rates.")


def _some(curves: Mapping[str, Any]) -> None:
    if not 0 < len(curves) <= style.LINES:
        raise DataError(f"a figure can show 1 to {style.LINES} curves; it was given {len(curves)}.")


def _counts(name: str, *counts: int) -> None:
    if min(counts) < 1:
        raise DataError(f"curve {name!r} has no comparisons behind it; a count is {min(counts)}.")


def _rates(name: str, rates: Sequence[float]) -> None:
    values = np.asarray(rates)
    if values.ndim != 1 or len(values) == 0 or not ((values >= 0) & (values <= 1)).all() or (np.diff(values) < 0).any():
        raise DataError(f"curve {name!r} must hold a list of rates that rise within 0 and 1.")


def _measurable(curve: Curve) -> tuple[F64, F64]:
    """FMR and TAR from the FMR of one false match on; below it a curve would be made up."""
    fmr, tar = np.array(curve.fmr, np.float64), np.asarray(curve.tar, np.float64)
    finest = 1 / curve.impostor
    start = max(int(np.searchsorted(fmr, 1.5 * finest, side="right")) - 1, 0)
    fmr[start] = max(fmr[start], finest)
    return fmr[start:], tar[start:]


def _errors(curve: Curve) -> tuple[F64, F64]:
    """FMR and FNMR where both are of at least one error; the last step ends where the last genuine is accepted."""
    fmr, tar = _measurable(curve)
    wrong = int(np.count_nonzero(1 - tar > 0.5 / curve.genuine))
    fnmr = 1 - tar[:wrong]
    return fmr[: wrong + 1 if wrong else 0], np.append(fnmr, fnmr[-1:])[: len(fmr)]


def _equal_error(curve: Curve) -> float:
    """Where FMR and FNMR meet on the line through the points; NaN where the points do not reach it."""
    fmr, excess = np.asarray(curve.fmr), np.add(curve.fmr, curve.tar) - 1
    after = int(np.argmax(excess >= 0))
    if excess[after] < 0 or (after == 0 and excess[0] > 0):
        return math.nan
    return float(np.interp(0.0, excess[max(after - 1, 0) : after + 1], fmr[max(after - 1, 0) : after + 1]))


def _steps(on: Axes, x: F64, y: F64, number: int, size: Size) -> list[Line2D]:
    return on.plot(x, y, drawstyle="steps-post", **style.line(number, size))


def _mark(on: Axes, x: float, y: float, number: int, size: Size) -> None:
    on.plot(x, y, marker="o", markerfacecolor="white", zorder=3, **style.line(number, size))


def _equal_errors(on: Axes, x: F64, y: F64, size: Size) -> tuple[Artist, str]:
    dots: dict[str, Any] = {"color": style.SOFT, "linewidth": 0.1 * size.font, "linestyle": ":"}
    on.plot(x, y, zorder=1, **dots)
    sample = Line2D([], [], marker="o", markersize=0.5 * size.font, markerfacecolor="white", **dots)
    return sample, "equal error rate, FMR = FNMR"


def _shade(on: Axes, finest_fmr: float, finest_fnmr: float = 0.0) -> tuple[Artist, str]:
    """Cover what is left of and below the finest rates."""
    on.axvspan(on.get_xlim()[0], finest_fmr, color=style.SHADE, linewidth=0, zorder=0)
    if finest_fnmr:
        on.axhspan(on.get_ylim()[0], finest_fnmr, color=style.SHADE, linewidth=0, zorder=0)
    return Patch(color=style.SHADE), "less than one error: cannot be measured"


def _decade_below(rate: float) -> float:
    return 10.0 ** min(math.floor(math.log10(rate)), -1)


def _true_rates(on: Axes, lowest: float) -> None:
    """Percent from a round number below `lowest` to 100."""
    bottom = max(bottom for bottom in _BOTTOMS if bottom <= max(lowest - 0.1 * (1 - bottom), 0))
    on.set_ylim(bottom, 1 + 0.02 * (1 - bottom))
    on.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    on.yaxis.set_major_formatter(PercentFormatter(1, decimals=int(bottom > 0.95), symbol=""))


def _probit(rates: Any) -> F64:
    inside = np.clip(np.asarray(rates, np.float64), 1e-15, 1 - 1e-15)
    return np.vectorize(_NORMAL.inv_cdf, otypes=[np.float64])(inside)


def _rate(deviates: Any) -> F64:
    return np.vectorize(_NORMAL.cdf, otypes=[np.float64])(np.asarray(deviates, np.float64))


def _normal_deviate(on: Axes, name: str, low: float, needed: float, size: Size) -> None:
    """Scale an axis by the quantiles of the normal distribution, from `low` to a round number above `needed`."""
    high = next((top for top in _TOPS if top >= max(needed, 2 * low)), _TOPS[-1])
    if name == "x":
        on.set_xscale("function", functions=(_probit, _rate))
        on.set_xlim(low, high)
    else:
        on.set_yscale("function", functions=(_probit, _rate))
        on.set_ylim(low, high)
    axis = on.xaxis if name == "x" else on.yaxis
    room = (4.0 if name == "x" else 2.0) * size.font / (0.8 * 72 * size.width)
    axis.set_major_locator(FixedLocator(_apart([mark for mark in _MARKS if low <= mark <= high], room, low, high)))
    axis.set_major_formatter(FuncFormatter(lambda rate, _: _percent(rate)))
    axis.set_minor_locator(NullLocator())


def _apart(marks: Sequence[float], room: float, low: float, high: float) -> list[float]:
    """Marks, the more wanted first, that keep a distance of `room`, a share of the axis."""
    kept: list[float] = []
    start, end = _probit([low, high])
    places = dict(zip(marks, (_probit(marks) - start) / (end - start), strict=True))
    for mark in marks:
        if all(abs(places[mark] - places[other]) >= room for other in kept):
            kept.append(mark)
    return sorted(kept)


def _percent(rate: float) -> str:
    """A rate in percent, as short as it can be said."""
    return f"{100 * rate:.3g}" if rate >= 1e-5 else f"$10^{{{round(math.log10(100 * rate))}}}$"


def _pairs(curves: Mapping[str, Curve]) -> list[str]:
    return [f"{curve.genuine:,} genuine, {curve.impostor:,} impostor" for curve in curves.values()]


def _legend(
    figure: Figure,
    names: Sequence[str],
    counts: Sequence[str],
    unit: str,
    lines: Sequence[Artist],
    others: list[tuple[Artist, str]],
    size: Size,
) -> None:
    """Name the curves, with what is behind each of them, or once and with its unit what is behind all."""
    alike = len(set(counts)) == 1
    texts = names if alike else [f"{name}: {count}" for name, count in zip(names, counts, strict=True)]
    style.legend(figure, [*zip(lines, texts, strict=True), *others], f"{counts[0]}{unit}" if alike else "", size)
