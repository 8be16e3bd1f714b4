"""`magface gallery enroll` and `reembed`: photos into a gallery."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import gallery_uri, options, reading
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.enrollment import Named, Unusable
    from magface.gallery.gallery import Gallery
    from magface.gallery.policy import Enrolment
    from magface.gallery.records import Entry

_BATCH = 256
"""Photos whose faces become durable together."""
_SHOWN = 20


class Which(StrEnum):
    """Which face of a photo is enrolled."""

    largest = "largest"
    only = "only"


def enroll(
    photos: Annotated[list[Path], typer.Argument(help="A folder with one folder for each person, or photos of one.")],
    person: Annotated[
        str | None, typer.Option(help="Who is on the photos; without it each is named by its folder.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Label that these people get; several may be given.")] = None,
    which: Annotated[
        Which, typer.Option(help="Of several faces in a photo: take the largest, or refuse the photo.")
    ] = Which.largest,
    aligned: options.Aligned = False,
    no_crops: Annotated[bool, typer.Option("--no-crops", help="Keep no picture of the faces, only vectors.")] = False,
    uri: gallery_uri.Uri = None,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Enroll the faces of photos under the names of their people.

    The gallery is made where there is none. A face that is too poor is refused, one that is doubtful is marked; the
    scores for it are set with `magface gallery policy`. A face that is nearer to somebody else is enrolled and
    reported, as is a copy. Stop it at any time: what is enrolled stays, and the same command goes on.

    Exit code 1 where a photo could not be used or a face was refused.

    \b
    Examples:
      magface gallery enroll people/
      magface gallery enroll ann1.jpg ann2.jpg --person Ann --label staff
    """
    from magface import enrollment
    from magface.embedder import Embedder

    named = _named(photos, person)
    outcome = _Outcome(len(named))
    if aligned:
        embedder = Embedder(model, engine=engine.value)
        card = embedder.card
    else:
        recognizer = options.recognizer(model, detector, engine)
        card = recognizer.card
    with (
        gallery_uri.resumable("enrolled"),
        gallery_uri.opened(uri, card, create=True) as gallery,
        options.progress() as bar,
    ):
        crops = gallery.settings.crops and not no_crops
        task = bar.add_task("Enrolling", total=len(named), note="")
        read = (
            enrollment.from_crops(embedder, named, crops=crops)
            if aligned
            else enrollment.from_photos(recognizer, named, which=which.value, crops=crops)
        )
        for part in _batches(read):
            outcome.add(gallery, part, label or ())
            bar.update(task, advance=len(part), note=f"{outcome.added:,} faces")
        counts = gallery.info().counts
    if form is options.Format.json:
        typer.echo(json.dumps({**outcome.facts(), "gallery": dataclasses.asdict(counts)}, indent=2))
    else:
        outcome.tell()
        typer.echo(f"The gallery has {gallery_uri.counted(counts)}.")
    outcome.finish()


def _named(photos: Sequence[Path], person: str | None) -> list[Named]:
    from magface import enrollment
    from magface.gallery.records import check_name

    if person is not None:
        check_name(person, "a person")
        return [(person, path) for path in reading.find(photos)]
    files = [path for path in photos if not path.is_dir()]
    if files:
        raise DataError(f"who is on {files[0]}? Name the person with --person, or give a folder of people.")
    return [each for folder in photos for each in enrollment.people(folder)]


Read = tuple[Path, "Entry | Unusable"]


def _batches(read: Iterator[Read]) -> Iterator[list[Read]]:
    from itertools import islice

    while part := list(islice(read, _BATCH)):
        yield part


class _Outcome:
    """What became of the photos.

    Attributes:
        added: faces that are new in the gallery.
    """

    def __init__(self, total: int) -> None:
        self.added = 0
        self._total, self._known, self._marked = total, 0, 0
        self._refused: list[tuple[Path, str]] = []
        self._unusable: list[Unusable] = []
        self._notes: list[dict[str, object]] = []

    def add(self, gallery: Gallery, part: Sequence[Read], labels: Sequence[str]) -> None:
        """Enroll a batch."""
        from magface.gallery.records import Entry

        entries = [(path, each) for path, each in part if isinstance(each, Entry)]
        self._unusable += [each for _, each in part if not isinstance(each, Entry)]
        results = gallery.enroll([entry for _, entry in entries], labels=labels)
        for (path, _), result in zip(entries, results, strict=True):
            self._count(path, result)

    def _count(self, path: Path, result: Enrolment) -> None:
        if result.refused:
            self._refused.append((path, result.refused))
            return
        self.added += result.added
        self._known += result.present
        self._marked += result.marked and result.added
        if result.nearer or result.copy is not None:
            self._notes.append(
                {
                    "photo": str(path),
                    "person": result.person,
                    "face": result.face,
                    "nearer_to": result.nearer or None,
                    "cosine_to_them": round(result.other, 4) if result.nearer else None,
                    "cosine_to_own": None if result.own != result.own else round(result.own, 4),
                    "copy_of_face": result.copy,
                }
            )

    def facts(self) -> dict[str, object]:
        """All of it, for a program."""
        return {
            "photos": self._total,
            "added": self.added,
            "already_there": self._known,
            "marked": self._marked,
            "refused": [[str(path), reason] for path, reason in self._refused],
            "unusable": [[str(each.path), each.reason] for each in self._unusable],
            "to_look_at": self._notes,
        }

    def tell(self) -> None:
        """Most of it, for people."""
        known = f", {self._known:,} were there already" if self._known else ""
        marked = f", {self._marked:,} of them marked as doubtful" if self._marked else ""
        faces = f"{self.added:,} {'face' if self.added == 1 else 'faces'}"
        typer.echo(f"{faces} enrolled{marked}{known}, {len(self._refused):,} refused.")
        for note in self._notes[:_SHOWN]:
            if note["nearer_to"]:
                typer.echo(
                    options.printable(
                        f"look at {note['photo']}: nearer to {note['nearer_to']} ({note['cosine_to_them']}) than to "
                        f"{note['person']} ({note['cosine_to_own'] or 'no other face'}); face {note['face']}"
                    )
                )
            else:
                typer.echo(options.printable(f"copy: {note['photo']} shows what face {note['copy_of_face']} shows"))
        if len(self._notes) > _SHOWN:
            typer.echo(f"... and {len(self._notes) - _SHOWN:,} more; --format json lists them.")

    def finish(self) -> None:
        """Say what is missing, and exit with the code for it."""
        for path, reason in self._refused:
            options.say(f"{path}: {reason}")
        for each in self._unusable:
            options.say(each.reason)
        if self._refused or self._unusable:
            done = self.added + self._known > 0
            options.say(f"{len(self._refused) + len(self._unusable):,} of {self._total:,} photos were not enrolled.")
            raise typer.Exit(1 if done else 2)


def reembed(
    model: options.Model = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Remove faces whose picture is gone, instead of refusing.")
    ] = False,
    uri: gallery_uri.Uri = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Embed every face again with another model, which the gallery is of from then on.

    A face is embedded from the crop that was kept, or from its photo where that still shows it in the same place. The
    gallery changes when all are done, at once; until then it answers as before.

    \b
    Example:
      magface gallery reembed --model new.onnx
    """
    from magface import enrollment

    recognizer = options.recognizer(model, detector, engine)
    with gallery_uri.opened(uri) as gallery, options.progress() as bar:
        total = gallery.info().counts.faces
        task = bar.add_task("Embedding", total=total, note="")
        lost = enrollment.reembed(gallery, recognizer, drop=drop, progress=lambda done: bar.advance(task, done))
    facts = {
        "faces": total - len(lost),
        "model": recognizer.embedder.fingerprint,
        "dropped": [dataclasses.asdict(each) for each in lost],
    }
    if form is options.Format.json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"{facts['faces']:,} faces embedded with {recognizer.card.name}, {len(lost):,} dropped.")
    for each in lost:
        options.say(f"dropped face {each.face} of {each.person}: {each.reason}")
    if lost:
        raise typer.Exit(1)
