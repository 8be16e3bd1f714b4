"""`magface gallery people`, `remove`, `rename`, `merge`, `move`, `label`: who is in a gallery, and under which name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import gallery_uri, options
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.gallery.gallery import Gallery
    from magface.gallery.records import Person, StoredFace

Name = Annotated[str, typer.Argument(help="Name of a person.")]
_LINE = "line"
"""Key of what people read of a row."""

Yes = Annotated[bool, typer.Option("--yes", help="Do it without a question.")]


def people(
    name: Annotated[str | None, typer.Argument(help="List the faces of this person.")] = None,
    with_label: Annotated[str | None, typer.Option("--label", help="Only people with this label.")] = None,
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""List everybody, or the faces of one person with their ids.

    \b
    Examples:
      magface gallery people --label staff
      magface gallery people Ann
    """
    if name is not None and with_label is not None:
        raise DataError("name a person, or a label with --label.")
    with gallery_uri.opened(uri) as gallery:
        rows = _faces(gallery, name) if name is not None else _people(gallery, with_label)
        if form is options.Format.json:
            facts = [{key: value for key, value in row.items() if key != _LINE} for row in rows]
            typer.echo(json.dumps(facts, indent=2))
        else:
            for row in rows:
                typer.echo(options.printable(row[_LINE]))


def _people(gallery: Gallery, label: str | None) -> Iterator[dict[str, Any]]:
    from magface.quality import calibration

    for person in gallery.people():
        if label is None or label in person.labels:
            quality = float(calibration.score(person.magnitude, gallery.card))
            yield {**_person(person, quality), _LINE: _line(person, quality)}


def _person(person: Person, quality: float) -> dict[str, Any]:
    return {
        "person": person.name,
        "faces": person.faces,
        "quality": round(quality, 2),
        "labels": list(person.labels),
    }


def _line(person: Person, quality: float) -> str:
    labels = f"  [{', '.join(person.labels)}]" if person.labels else ""
    noun = "face " if person.faces == 1 else "faces"
    return f"{person.faces:5,} {noun}  quality {quality:3.0f}  {person.name}{labels}"


def _faces(gallery: Gallery, name: str) -> Iterator[dict[str, Any]]:
    for face in gallery.faces(name):
        yield {
            "face": face.id,
            "score": round(face.score, 2),
            "magnitude": round(face.magnitude, 4),
            "marked": face.marked,
            "source": face.source,
            "box": face.box,
            "enrolled": _when(face),
            _LINE: f"face {face.id}  score {face.score:3.0f}  {'marked  ' if face.marked else ''}{face.source}",
        }


def _when(face: StoredFace) -> str | None:
    return datetime.fromtimestamp(face.time, UTC).isoformat(timespec="seconds") if face.time else None


def remove(
    names: Annotated[list[str] | None, typer.Argument(help="People to remove with all their faces.")] = None,
    face: Annotated[list[int] | None, typer.Option(help="A face to remove, by its id; several may be given.")] = None,
    yes: Yes = False,
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Remove people or faces, and every trace of them in the files of the gallery.

    \b
    Examples:
      magface gallery remove Ann --yes
      magface gallery remove --face 17
    """
    if bool(names) == bool(face):
        raise DataError("name people to remove, or faces with --face.")
    with gallery_uri.opened(uri) as gallery:
        for name in names or ():
            gallery.person(name)
        what = ", ".join(names) if names else f"face {', '.join(map(str, face or ()))}"
        gallery_uri.confirmed(f"Remove {options.printable(what)} for good?", yes)
        gone = gallery.remove(*names) if names else gallery.remove_face(*face or ())
    _done(form, f"removed {what}", gone)


def rename(
    old: Name,
    new: Annotated[str, typer.Argument(help="The new name.")],
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Give a person another name.

    \b
    Example:
      magface gallery rename "person 12" Ann
    """
    with gallery_uri.opened(uri) as gallery:
        gone = gallery.rename(old, new)
    _done(form, f"{old} is {new} now", gone)


def merge(
    into: Annotated[str, typer.Argument(help="Name of the person who stays.")],
    other: Annotated[str, typer.Argument(help="Name of the person whose faces go there.")],
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Make one person of two who are one.

    \b
    Example:
      magface gallery merge Ann "Ann Miller"
    """
    with gallery_uri.opened(uri) as gallery:
        person = gallery.merge(into, other)
    _done(form, f"{into} has the faces of {other}, {person.faces} in all", None)


def move(
    face: Annotated[int, typer.Argument(help="Id of a face; `magface gallery people NAME` lists them.")],
    person: Annotated[str, typer.Argument(help="Whose it is; a new name adds a person.")],
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Give a face to the person whose it is.

    \b
    Example:
      magface gallery move 17 Ann
    """
    with gallery_uri.opened(uri) as gallery:
        gallery.move(face, person)
    _done(form, f"the face is {person}'s now", None)


def label(
    name: Name,
    add: Annotated[list[str] | None, typer.Option(help="Label to add; several may be given.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Label to take away; several may be given.")] = None,
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Show or change the labels of a person, which searches can be restricted to.

    \b
    Example:
      magface gallery label Ann --add staff --drop visitors
    """
    with gallery_uri.opened(uri) as gallery:
        labels = gallery.relabel(name, add or (), drop or ()).labels
    _done(form, f"{name}: {', '.join(labels) or 'no label'}", None)


def _done(form: options.Format, what: str, gone: bool | None) -> None:
    """Say what was done, and whether traces of it are left in the files."""
    if form is options.Format.json:
        typer.echo(json.dumps({"done": what, **({} if gone is None else {"traces_gone": gone})}, indent=2))
    else:
        typer.echo(options.printable(what))
    if gone is False:
        options.say(
            "another process still reads the gallery, so traces are left in its files; they go when it has finished "
            "and the gallery is written or closed again."
        )
