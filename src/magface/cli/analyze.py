"""`magface analyze`: the main job."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import options, reading

if TYPE_CHECKING:
    from magface.recognizer import Photo
    from magface.report.analysis import Analysis


def analyze(
    photos: options.Photos,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("magface-report"),
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Find every face, judge its quality, group the people, and write a report.

    The folder gets report.html to look at, faces.parquet and photos.parquet to compute with, and crops/ with the
    faces. A second run reads only new and changed photos, and those that could not be read; photos that are gone
    are dropped. Stop it at any time: what is done is kept, and the same command goes on.

    \b
    Examples:
      magface analyze holiday/
      magface analyze *.jpg -o people --format json
    """
    from magface import images
    from magface.report.analysis import analyze as analyze_photos

    inside = Path(os.path.realpath(output))  # Path.resolve fails on links that go in circles
    paths = [path for path in images.find(photos) if inside not in Path(os.path.realpath(path)).parents]
    recognizer = options.recognizer(model, detector, engine)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with options.progress() as bar:
            task = bar.add_task("Reading photos", total=None, note="")
            found = 0

            def count(photo: Photo) -> None:
                nonlocal found
                found += len(photo.faces)
                bar.update(task, advance=1, note=f"{found} faces")

            analysis = analyze_photos(
                recognizer, paths, output, started=lambda total: bar.update(task, total=total), progress=count
            )
    except KeyboardInterrupt:
        options.say(f"stopped; what is done is kept in {output}: the same command goes on from there.")
        raise typer.Exit(options.STOPPED) from None
    if form is options.Format.json:
        typer.echo(json.dumps(dataclasses.asdict(analysis), default=str, indent=2))
    else:
        _tell(analysis)
    reading.fail(analysis.failures, analysis.photos)


def _tell(analysis: Analysis) -> None:
    if analysis.other_model:
        typer.echo("The folder held results of another model or detector; all photos were read again.")
    known = analysis.photos - analysis.read_now
    again = f" ({known:,} known from before)" if known else ""
    typer.echo(f"{analysis.photos:,} photos{again}, {len(analysis.without_face):,} without a face")
    people = f"{analysis.people:,} {'person' if analysis.people == 1 else 'people'} seen again"
    typer.echo(f"{analysis.faces:,} faces: {people}, {analysis.singles:,} seen once")
    typer.echo(f"Open {analysis.report}")
