"""`magface plot`: the curves of several results in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface import io
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.benchmarks.result import Discard
    from magface.benchmarks.stored import Stored

FORMATS = (".png", ".svg", ".pdf")


class Kind(StrEnum):
    """What to draw."""

    roc = "roc"
    det = "det"
    edc = "edc"


def plot(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT.json...", help="Results of `magface evaluate`.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The figure: a .png, .svg or .pdf.")],
    kind: Annotated[
        Kind | None, typer.Option(help="ROC, DET or error versus discard; what all results have if not given.")
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="A name for each result, with commas between; those in their cards if not given.")
    ] = None,
    curves: Annotated[
        str | None, typer.Option(help="Curves of each result to draw, with commas between, such as magnitude,ideal.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="edc: the threshold, such as 'FMR 0.01'; the first of the result if not given.")
    ] = None,
    title: Annotated[str, typer.Option(help="Over the figure.")] = "",
) -> None:
    r"""Draw the curves of several models, or of several qualities, in one figure.

    Results are the result.json that `magface evaluate ... -o FOLDER` writes, or what `--format json` prints. Of one
    result every curve is drawn; of several, the first of each, or those that --curves names.

    \b
    Examples:
      magface plot ours/result.json theirs/result.json -o roc.pdf --names ours,theirs
      magface plot rof/result.json --kind edc --at "FMR 0.01" -o edc.png
    """
    if out.suffix.lower() not in FORMATS:
        raise DataError(f"cannot tell what {out} should be; let the name end in {', '.join(FORMATS)}.")
    if find_spec("matplotlib") is None:
        raise DataError("a figure needs matplotlib; pip install 'magface[plot]'.")
    io.check_place(out)
    from magface.benchmarks import stored
    from magface.viz import curves as rates
    from magface.viz import discard, style

    found = [stored.read(path) for path in results]
    named = dict(zip(_names(results, found, names), zip(results, found, strict=True), strict=True))
    chosen = kind or _common(results, found)
    if at is not None and chosen is not Kind.edc:
        raise DataError("--at belongs to --kind edc; leave it out.")
    wanted = None if curves is None else [name.strip() for name in curves.split(",")]
    drawn: dict[str, Any] = {}
    for name, (path, result) in named.items():
        there = _discards(path, result, at) if chosen is Kind.edc else result.curves
        drawn |= _some(path, name, there, wanted, alone=len(found) == 1)
    draw: Any = {Kind.roc: rates.roc, Kind.det: rates.det, Kind.edc: discard.edc}[chosen]
    style.write(draw(drawn, title), out)


def _names(paths: Sequence[Path], found: Sequence[Stored], given: str | None) -> list[str]:
    """A name for each result, unlike those of the others."""
    if given is not None:
        wanted = [name.strip() for name in given.split(",")]
        if len(wanted) != len(found) or len(set(wanted)) != len(wanted):
            raise DataError(f"{len(found)} results need as many different names; --names has {len(set(wanted))}.")
        return wanted
    models = [result.model or "unknown model" for result in found]
    benchmarks = [result.benchmark for result in found]
    places = [path.stem if path.stem != "result" else path.absolute().parent.name for path in paths]
    for about in ([], [benchmarks], [places], [benchmarks, places], [list(map(str, paths))]):
        names = [", ".join(parts) for parts in zip(models, *about, strict=True)]
        if len(set(names)) == len(names):
            return names
    raise DataError("a result is named twice; name each once.")


def _common(paths: Sequence[Path], found: Sequence[Stored]) -> Kind:
    """What there is in every result."""
    if all(result.curves for result in found):
        return Kind.roc
    if all(result.discards for result in found):
        return Kind.edc
    without = next(path for path, result in zip(paths, found, strict=True) if not result.curves)
    raise DataError(f"the results have no kind of curve in common, and {without} no ROC; plot them one by one.")


def _discards(path: Path, result: Stored, at: str | None) -> Mapping[str, Discard]:
    """Error versus discard of genuine pairs at one threshold."""
    from magface.viz.discard import grouped

    groups = [some for some in grouped(result.discards).values() if next(iter(some.values())).kind == "FNMR"]
    starts = {next(iter(some.values())).start.partition(",")[0]: some for some in groups}
    if not starts or (at is not None and at not in starts):
        have = f"it has {', '.join(starts)}" if starts else "run `magface evaluate edc` for them"
        raise DataError(f"{path} has no error versus discard{f' at {at}' if at else ''}; {have}.")
    return starts[next(iter(starts)) if at is None else at]


def _some(
    path: Path, name: str, there: Mapping[str, Any], wanted: Sequence[str] | None, *, alone: bool
) -> dict[str, Any]:
    """The curves to draw of a result, by the names that they have in the figure."""
    if not there:
        raise DataError(f"{path} has no curves of this kind; choose another --kind, or evaluate again.")
    if wanted is None:
        first = next((each for each in there if each != "ideal"), next(iter(there)))
        wanted = list(there) if alone else [first]
    for each in wanted:
        if each not in there:
            raise DataError(f"{path} has no curve {each}; it has {', '.join(there)}.")
    if alone:
        return {each: there[each] for each in wanted}
    return {name if len(wanted) == 1 else f"{each}, {name}": there[each] for each in wanted}
