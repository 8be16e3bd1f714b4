"""`magface quality`: which pictures of a face are good enough, and what is wrong with the others."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from magface.cli import options, reading

if TYPE_CHECKING:
    from magface.quality.components import Component
    from magface.quality.verdict import Limits


class Format(StrEnum):
    """How to print the result."""

    table = "table"
    json = "json"
    csv = "csv"


class Row(TypedDict):
    """A face.

    Attributes:
        photo: name of the face.
        score: 0 to 100.
        percentile: likewise.
        magnitude: of the embedding.
        verdict: accept, review or retake.
        expected_fnmr: within [0, 1], of a comparison with a picture that is no worse; None where the card lacks it.
        why: what is out of range, of a face that is not accepted.
        components: every measure.
    """

    photo: str
    score: float
    percentile: float
    magnitude: float
    verdict: str
    expected_fnmr: float | None
    why: list[str]
    components: dict[str, dict[str, Any]]


Accept = Annotated[
    float | None, typer.Option(min=0, max=100, help="Score from which a face is accepted. [default: 70]")
]
Retake = Annotated[
    float | None, typer.Option(min=0, max=100, help="Score below which a face is to be taken again. [default: 35]")
]
_NAMED = 5


def quality(
    photos: options.Photos,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Exit with code 1 unless every photo has a face and none scores lower."),
    ] = None,
    accept: Accept = None,
    retake: Retake = None,
    aligned: options.Aligned = False,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.table,
) -> None:
    r"""Judge every face, best first, and say what is wrong with those that are not good enough.

    The score, 0 to 100, says how well a face can be recognised in the picture; the percentile is the share of the
    model's reference faces that are worse; the magnitude is the length of the embedding, from which both come.
    Where a photo has several faces they are path#1, path#2, ... from the left.

    The verdict goes by the score alone: accept, retake, or review between the two. Below 70, one in ten comparisons
    with other pictures of the person is missed; below 35, one in two. Measures that are out of the range of good
    pictures say why and what to do: sharpness, brightness, contrast, pose, size, and whether eyes or mouth seem
    covered. JSON and CSV have them all.

    With --min-score it is a gate: exit code 0 when all faces pass, 1 when one does not or a photo has none, 2 when
    nothing could be read.

    `magface quality calibrate` fits the scale, the thresholds and the expected errors of a model to your own faces.
    A folder of that name is ./calibrate.

    \b
    Examples:
      magface quality holiday/
      magface quality door.jpg --min-score 70 && echo good enough
      magface quality crops/ --aligned --format csv > quality.csv
    """
    limits = _limits(accept, retake)
    read = reading.read(reading.find(photos), aligned, model, detector, engine, limits)
    rows = _rows(read)
    match form:
        case Format.json:
            typer.echo(json.dumps(rows, indent=2))
        case Format.csv:
            _write_csv(rows)
        case Format.table:
            _write_table(rows)
    read.finish()
    if min_score is not None:
        _gate(rows, min_score, len(read.empty))


def _limits(accept: float | None, retake: float | None) -> Limits:
    """Limits of the options; one that is given alone takes the other along where it would pass it."""
    from magface.quality.verdict import ACCEPT, RETAKE, Limits

    if accept is None:
        accept = ACCEPT if retake is None else max(ACCEPT, retake)
    return Limits(accept, min(RETAKE, accept) if retake is None else retake)


def _rows(read: reading.Read) -> list[Row]:
    from magface.quality import calibration, reliability

    a = read.embeddings.magnitude
    columns = calibration.score(a, read.card), calibration.percentile(a, read.card), a
    rounded = zip(*(column.round(4).tolist() for column in columns), strict=True)
    expected = min(read.card.reliability, key=lambda each: abs(math.log10(each.fmr) + 3), default=None)  # nearest 1e-3
    rows = [
        Row(
            photo=name,
            score=score,
            percentile=percentile,
            magnitude=magnitude,
            verdict=found.verdict.value,
            expected_fnmr=None if expected is None else round(reliability.expected_fnmr(magnitude, expected)[0], 4),
            why=[f"{each.cause}; {each.advice}" for each in found.causes],
            components={each.name: _facts(each) for each in found.components},
        )
        for name, (score, percentile, magnitude), found in zip(read.names, rounded, read.assessments, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["magnitude"])


def _facts(component: Component) -> dict[str, Any]:
    fine = component.range
    low, high = (limit if math.isfinite(limit) else None for limit in (fine.low, fine.high))
    value = round(component.value, 4)
    return {"value": value, "unit": fine.unit, "low": low, "high": high, "fine": not component.cause}


def _write_csv(rows: Sequence[Row]) -> None:
    from magface.quality.components import RANGES

    writer = csv.writer(sys.stdout, lineterminator="\n")
    plain = [name for name in Row.__annotations__ if name not in ("why", "components")]
    writer.writerow([*plain, "why", *(name.replace(" ", "_") for name in RANGES)])
    for row in rows:
        values = [row["components"].get(name, {}).get("value") for name in RANGES]
        writer.writerow([*(row[name] for name in plain), " | ".join(row["why"]), *values])  # type: ignore[literal-required]


def _write_table(rows: Sequence[Row]) -> None:
    """A line a face; below it, as wide as the terminal, what is wrong with it."""
    typer.echo("score  percentile  magnitude  verdict  photo")
    width = max(shutil.get_terminal_size().columns, 60)
    for row in rows:
        numbers = f"{row['score']:5.0f}  {row['percentile']:10.0f}  {row['magnitude']:9.2f}  {row['verdict']:7}"
        typer.echo(f"{numbers}  {options.printable(row['photo'])}")
        for why in row["why"]:
            typer.echo(textwrap.fill(why, width, initial_indent=" " * 7, subsequent_indent=" " * 9))


def _gate(rows: Sequence[Row], min_score: float, empty: int) -> None:
    """Say which faces do not pass, and exit with code 1 if any does not or a photo has no face."""
    low = [f"{row['photo']} ({row['score']:.1f})" for row in rows if row["score"] < min_score]
    if low:
        more = ", ..." if len(low) > _NAMED else ""
        options.say(f"{len(low)} of {len(rows)} faces score below {min_score:g}: {', '.join(low[::-1][:_NAMED])}{more}")
    if low or empty:
        raise typer.Exit(1)
