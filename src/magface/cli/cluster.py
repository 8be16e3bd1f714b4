"""`magface cluster`: the people of a collection of photos."""

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
    from magface.recognizer import Photo
    from magface.report.album import Album
    from magface.report.album_corrections import Correction
    from magface.report.album_state import State


class Algorithm(StrEnum):
    """How faces are grouped."""

    agglomerative = "agglomerative"
    graph = "graph"
    dbscan = "dbscan"
    hdbscan = "hdbscan"


_PICTURES = ("crops", "people", "unknown")
"""Folders of an album that hold pictures; a run that was stopped leaves some before there is an album."""

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the album, the -o of `magface cluster`.")]


def cluster(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the album.")],
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PHOTOS", help="Photos, and folders that are searched for photos.")
    ] = None,
    folders: Annotated[bool, typer.Option("--folders", help="A folder of photos for each person. [default]")] = False,
    table: Annotated[bool, typer.Option("--json", help="No folders: people.json and the page only.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the photos into the folders of people.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Put links to the photos there. [default]")] = False,
    threshold: Annotated[
        str | None,
        typer.Option(metavar="COSINE|auto", help="Mean cosine from which two groups are one. [default: the model's]"),
    ] = None,
    algorithm: Annotated[
        Algorithm | None, typer.Option(help="How to group faces; by their number if not given.", show_default=False)
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=100, help="Score from which a face decides about groups. [default: 35]")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Group all faces anew; corrections stay.")] = False,
    only: Annotated[bool, typer.Option("--only", help="Photos that are not named leave the album.")] = False,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Find the people in your photos: a folder for each, a page with everybody, and a table.

    The folder gets people.html to look at, people.json to compute with, and people/person-1/, ... with links to the
    photos that each person is on; a photo of several people is in several of them, one of nobody known in unknown/.
    Your photos are only read: never moved, changed or deleted. --copy copies them, for a folder to give away.

    Faces that can be recognised well decide who is who; poor ones are attached last, or kept apart as unknown. Faces
    seen once are unknown too, until they come again.

    Run it again with new photos: only those are read, their faces join known people or make new ones, and no face
    that is known moves. Photos that are gone leave. --rebuild groups everything anew; numbers and names go along.
    Options are kept for the next run. Stop it at any time: the same command goes on.

    Correct it, and later runs keep to that, also with --rebuild:

    \b
      magface cluster name    an album's person 3 is Ann
      magface cluster merge   persons 3 and 7 are one
      magface cluster split   a face in person 3 is somebody else
      magface cluster move    a face is of another person
      magface cluster undo    take the last of these back

    A folder of photos with such a name is ./merge.

    \b
    Examples:
      magface cluster ~/Pictures -o album
      magface cluster new-photos/ -o album
      magface cluster -o album --rebuild --threshold auto
      magface cluster wedding/ -o guests --copy
      magface cluster archive/ -o archive-people --json --format json
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from magface import images
    from magface.report import album

    wishes = album.Wishes(
        threshold=_threshold(threshold),
        algorithm=None if algorithm is None else algorithm.value,
        min_score=min_score,
        photos=_placing(folders, table, copy, link),
    )
    paths = _outside(images.find(photos or []), output)
    recognizer = options.recognizer(model, detector, engine)
    try:
        with options.progress() as bar:
            task = bar.add_task("Reading photos", total=None, note="")
            found = 0

            def count(photo: Photo) -> None:
                nonlocal found
                found += len(photo.faces)
                bar.update(task, advance=1, note=f"{found} faces")

            made = album.make(
                recognizer,
                paths,
                output,
                wishes,
                rebuild=rebuild,
                only=only,
                started=lambda total: bar.update(task, total=total),
                progress=count,
                grouping=lambda faces: bar.update(task, description="Grouping", note=f"{faces} faces"),
            )
    except KeyboardInterrupt:
        options.say(f"stopped; what is done is kept in {output}: the same command goes on from there.")
        raise typer.Exit(options.STOPPED) from None
    if form is options.Format.json:
        typer.echo(json.dumps(dataclasses.asdict(made), default=str, indent=2))
    else:
        _tell(made)
    reading.fail(made.failures, made.photos)


def _outside(photos: list[Path], album: Path) -> list[Path]:
    """Photos without what is in the folder of the album, which may lie among them.

    Raises:
        DataError: it is a folder of photos, and no album yet.
    """
    from magface.report.album_state import PEOPLE

    inside = Path(os.path.realpath(album))  # Path.resolve fails on links that go in circles
    found = []
    for path in photos:
        place = Path(os.path.realpath(path))
        if inside not in place.parents:
            found.append(path)
        elif not (inside / PEOPLE).exists() and place.relative_to(inside).parts[0] not in _PICTURES:
            raise DataError(f"{path} lies in {album}, which is to be the album's own; choose another folder with -o.")
    return found


def correct(folder: Path, correction: Correction, form: options.Format) -> None:
    """Tell an album what is so, and say what was done."""
    from magface.report import album

    tell(folder, album.correct(folder, correction), form)


def tell(folder: Path, done: tuple[str, State], form: options.Format) -> None:
    """Say what was done to an album."""
    from magface.report import album

    message, state = done
    if form is options.Format.json:
        people = [{"id": each.id, "name": each.name, "faces": len(each.faces)} for each in state.people]
        typer.echo(json.dumps({"done": message, "page": str(folder / album.PAGE), "people": people}, indent=2))
    else:
        typer.echo(options.printable(message))
        typer.echo(options.printable(f"Open {folder / album.PAGE}"))


def _threshold(text: str | None) -> float | str | None:
    """The threshold, or the word that stands for estimating it.

    Raises:
        DataError: it is neither.
    """
    if text is None or text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1 <= value <= 1:
        raise DataError(f"--threshold is a cosine, between -1 and 1, or the word auto; {text!r} is neither.")
    return value


def _placing(folders: bool, table: bool, copy: bool, link: bool) -> str | None:
    """How photos come into the folders; None where nothing was said.

    Raises:
        DataError: two things were said that exclude each other.
    """
    if table and (folders or copy or link):
        raise DataError("--json goes without folders; leave out --folders, --copy and --link.")
    if copy and link:
        raise DataError("photos are copied or linked; leave out --copy or --link.")
    return "none" if table else "copy" if copy else "link" if link or folders else None


def _tell(made: Album) -> None:
    for remark in made.remarks:
        typer.echo(remark)
    known = made.photos - made.read_now
    notes = [f"{known:,} known from before"] * bool(known) + [f"{made.gone:,} are gone"] * bool(made.gone)
    typer.echo(f"{_counted(made.photos, 'photo')}{_bracketed(notes)}, {_counted(made.faces, 'face')}")
    news = [f"{made.new_people:,} of them new"] * (0 < made.new_people < made.people)
    news += [f"{made.joined:,} faces joined people known before"] * bool(made.joined)
    people = f"{made.people:,} {'person' if made.people == 1 else 'people'} with {_counted(made.of_people, 'face')}"
    typer.echo(f"{people}{_bracketed(news)}")
    typer.echo(f"{made.seen_once:,} seen once, {made.poor:,} too poor to tell")
    if made.left_alone:
        typer.echo(
            f"{made.left_alone:,} files in the folders were left alone: they were changed, or their photos are gone."
        )
    typer.echo(options.printable(f"Open {made.page}"))


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _bracketed(notes: list[str]) -> str:
    return f" ({', '.join(notes)})" if notes else ""
