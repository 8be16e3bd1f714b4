"""`magface quality`: which pictures of a face are good enough."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from typing import Annotated, TypedDict

import typer

from magface.cli import options, reading


class Format(StrEnum):
    """How to print the result."""

    table = "table"
    json = "json"
    csv = "csv"


class Row(TypedDict):
    """A face: score and percentile are 0 to 100."""

    photo: str
    score: float
    percentile: float
    magnitude: float


def quality(
    photos: options.Photos,
    aligned: options.Aligned = False,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.table,
) -> None:
    r"""Judge every face, best first.

    The score, 0 to 100, says how well a face can be recognised in the picture; the percentile is the share of the
    model's reference faces that are worse; the magnitude is the length of the embedding, from which both come.
    Where a photo has several faces they are path#1, path#2, ... from the left.

    `magface quality calibrate` fits the scale, the thresholds and the expected errors of a model to your own faces.
    A folder of that name is ./calibrate.

    \b
    Examples:
      magface quality holiday/
      magface quality crops/ --aligned --format csv > quality.csv
    """
    read = reading.read(reading.find(photos), aligned, model, detector, engine)
    rows = _rows(read)
    match form:
        case Format.json:
            typer.echo(json.dumps(rows, indent=2))
        case Format.csv:
            writer = csv.DictWriter(sys.stdout, Row.__annotations__, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        case Format.table:
            typer.echo("score  percentile  magnitude  photo")
            for row in rows:
                numbers = f"{row['score']:5.0f}  {row['percentile']:10.0f}  {row['magnitude']:9.2f}"
                typer.echo(f"{numbers}  {options.printable(row['photo'])}")
    read.finish()


def _rows(read: reading.Read) -> list[Row]:
    from magface.quality import calibration

    a = read.embeddings.magnitude
    columns = calibration.score(a, read.card), calibration.percentile(a, read.card), a
    rounded = zip(*(column.round(4).tolist() for column in columns), strict=True)
    rows = [
        Row(photo=name, score=score, percentile=percentile, magnitude=magnitude)
        for name, (score, percentile, magnitude) in zip(read.names, rounded, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["magnitude"])
