"""`magface data align`: raw photos to aligned crops."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import options, reading
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.aligner import Alignment


class Which(StrEnum):
    """Which face of a photo counts."""

    largest = "largest"
    central = "central"
    all = "all"


def align(
    photos: Annotated[Path, typer.Argument(help="Folder of photos, of people or any other, or an uncompressed tar.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the crops and their tables.")],
    face: Annotated[
        Which,
        typer.Option(help="Of several faces: the largest, the one nearest to the middle of the photo, or all."),
    ] = Which.largest,
    detector: options.Detector = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Cut the faces of photos out, upright and 112x112 pixels, as training and benchmarks take them.

    Sub-folders stay: each is a person. The crops are PNG, so nothing of what the network would see is lost.
    faces.tsv says for each crop where it was found: photo, box, five landmarks, score of the detector, and how many
    faces the photo has. failures.tsv says for each photo without a crop why there is none.

    A second run reads only new and changed photos, and those that could not be read; crops of photos that are gone
    are removed. Stop it at any time: what is done is kept, and the same command goes on.

    Where each photo is about the person in its middle, as in LFW, --face central is right more often.

    \b
    Examples:
      magface data align people/ -o crops/
      magface data align lfw.tar -o crops/ --face central
    """
    from magface import aligner

    if os.path.realpath(photos) == os.path.realpath(output):
        raise DataError(f"{output} holds the photos; choose another folder for the crops.")
    found = aligner.find(photos, without=output)
    finder = aligner.Finder(detector)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with options.progress() as bar:
            task = bar.add_task("Aligning", total=None, note="")
            made = 0

            def count(crops: int) -> None:
                nonlocal made
                made += crops
                bar.update(task, advance=1, note=f"{made} crops")

            alignment = aligner.write(
                finder, found, output, face.value, started=lambda total: bar.update(task, total=total), progress=count
            )
    except KeyboardInterrupt:
        options.say(f"stopped; what is done is kept in {output}: the same command goes on from there.")
        raise typer.Exit(options.STOPPED) from None
    _tell(alignment, output, form)
    reading.fail(alignment.failures, alignment.photos, done=bool(alignment.crops))


def _tell(alignment: Alignment, output: Path, form: options.Format) -> None:
    if form is options.Format.json:
        typer.echo(json.dumps({"output": str(output), **dataclasses.asdict(alignment)}, indent=2))
        return
    known = alignment.photos - alignment.read_now
    again = f" ({known:,} known from before)" if known else ""
    typer.echo(f"{alignment.photos:,} photos{again}, {len(alignment.without_face):,} without a face")
    typer.echo(f"{alignment.crops:,} crops in {output}")
