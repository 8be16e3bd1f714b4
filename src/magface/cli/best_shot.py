"""`magface best-shot`: the best pictures of each person in videos and photos."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import options, reading
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.report.best_shots import BestShots, Person
    from magface.video import Frame, Video

_RATE = 5.0


def best_shot(
    sources: Annotated[
        list[Path], typer.Argument(help="Videos, photos, and folders that are searched for both.", metavar="SOURCES...")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(min=1, max=100, help="Pictures of each person, at most.")] = 3,
    fps: Annotated[
        float | None, typer.Option(min=0.01, max=1000, help="Frames of a video to look at a second. [default: 5]")
    ] = None,
    every: Annotated[int | None, typer.Option(min=1, help="Look at one of so many frames instead; 1 for all.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=100, help="Least score of a picture.")] = 20.0,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Pick the best pictures of each person out of videos and photos.

    Faces are followed from frame to frame and grouped into people; the best pictures of a person are those with the
    highest score, at least a second apart. Who is seen most is person 1.

    The folder gets person-1/1.jpg, the best picture of the first person, person-1/2.jpg and so on: the face with
    what surrounds it, as sharp as the video has it. best.json says for each picture the video, frame, second, place
    of the face, score, verdict and what could be better. A second run replaces both; other files stay.

    Exit code 1 when a video or photo could not be read, or not to its end; 2 when none could.

    \b
    Examples:
      magface best-shot party.mp4 -o best
      magface best-shot door/*.mp4 holiday/ -o best --count 5 --every 1
    """
    from magface.report.best_shots import best_shots, find

    if fps is not None and every is not None:
        raise DataError("frames are chosen with --fps or --every, not both; leave one out.")

    def sample(video: Video) -> Iterator[Frame]:
        return video.every(every) if every else video.rate(fps or _RATE)

    paths = find(sources)
    recognizer = options.recognizer(model, detector, engine)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started, faces = time.monotonic(), 0
    with options.progress() as bar:
        task = bar.add_task("Looking for faces", total=None, note="")

        def advance(found: int) -> None:
            nonlocal faces
            faces += found
            bar.update(task, advance=1, note=f"{faces} faces")

        found = best_shots(recognizer, paths, output, count=count, min_score=min_score, sample=sample, progress=advance)
    seconds = time.monotonic() - started
    if form is options.Format.json:
        speed = {"seconds": round(seconds, 2), "frames_per_second": round(found.frames / seconds, 2)}
        typer.echo(json.dumps({"folder": str(output), **dataclasses.asdict(found), **speed}, indent=2))
    elif found.frames or not found.failures:
        _tell(found, output, seconds, min_score)
    reading.fail(found.failures, len(paths), some=found.frames > 0, what="videos and photos")


def _tell(found: BestShots, folder: Path, seconds: float, min_score: float) -> None:
    speed = found.frames / seconds
    typer.echo(f"{found.frames:,} frames, {found.faces:,} faces, {speed:.0f} frames/s")
    for number, person in enumerate(found.persons, 1):
        typer.echo(_line(number, person))
    if found.left_out:
        typer.echo(f"{found.left_out:,} more without a picture of score {min_score:g}; --min-score 0 shows them.")
    typer.echo(f"Open {folder}" if found.persons else "No face is good enough for a picture.")


def _line(number: int, person: Person) -> str:
    shots = ", ".join(
        f"{shot.score:.0f}" + ("" if shot.seconds is None else f" at {shot.seconds:.1f} s") for shot in person.shots
    )
    return f"person {number}: seen {person.seen:,} times; scores {shots}"
