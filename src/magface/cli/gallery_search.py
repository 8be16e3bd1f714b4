"""`magface gallery search` and `verify`: who is on a photo, and is it who they say?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import gallery_uri, options, reading
from magface.errors import NoFaceError

if TYPE_CHECKING:
    from magface.gallery.searching import Match, Search


class By(StrEnum):
    """What people are ranked and found by."""

    cosine = "cosine"
    quality = "quality"


def search(
    photos: options.Photos,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="People to show for each face.")] = 5,
    by: Annotated[By, typer.Option(help="Rank by the cosine, or by the quality-aware score.")] = By.cosine,
    fpir: Annotated[
        float, typer.Option(help="Share of searches for strangers that may find somebody; decides who is found.")
    ] = 0.01,
    label: Annotated[str | None, typer.Option(help="Search only people with this label.")] = None,
    aligned: options.Aligned = False,
    uri: gallery_uri.Uri = None,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Find the people of every face in photos.

    A face is identified when the best of the gallery reaches a threshold, else nobody was found. The more people are
    searched the likelier a stranger resembles one of them, so the threshold rises with their number; the output says
    how it came about, and `magface gallery calibrate` measures it on the gallery itself.

    \b
    Examples:
      magface gallery search door.jpg --fpir 0.001
      magface gallery search party/ -k 1 --label staff --format json
    """
    paths = reading.find(photos)
    with gallery_uri.opened(uri, gallery_uri.model_card(model)) as gallery:
        gallery.threshold(fpir, by=by.value)  # refuses what cannot be searched before photos are read
        if label is not None and label not in gallery.store.labels():
            options.say(f"nobody in the gallery has the label {label}.")
        read = reading.read(paths, aligned, model, detector, engine)
        found = gallery.search(read.embeddings, top, by=by.value, fpir=fpir, label=label) if read.names else []
    if form is options.Format.json:
        rows = [_facts(name, each) for name, each in zip(read.names, found, strict=True)]
        typer.echo(json.dumps(rows, indent=2))
    else:
        _tell(read.names, found, by)
    read.finish()


def _facts(name: str, found: Search) -> dict[str, Any]:
    limit = found.limit
    return {
        "photo": name,
        "quality": round(found.quality, 2),
        "identified": found.identified.person if found.identified else None,
        "matches": [_match(each) for each in found.matches],
        "exact": found.exact,
        "decision": None
        if limit is None
        else {
            "by": limit.by,
            "fpir": limit.fpir,
            "people": limit.people,
            "threshold": round(limit.threshold, 4),
            "fmr": limit.fmr,
            "extrapolated": round(limit.extrapolated, 2),
            "how": limit.how,
        },
    }


def _match(match: Match) -> dict[str, Any]:
    return {
        "person": match.person,
        "cosine": round(match.cosine, 4),
        "score": None if match.score is None else round(match.score, 4),
        "quality": round(match.quality, 2),
        "labels": list(match.labels),
    }


def _tell(names: Sequence[str], found: Sequence[Search], by: By) -> None:
    for name, each in zip(names, found, strict=True):
        who = each.identified
        typer.echo(options.printable(f"{name} (quality {each.quality:.0f}): {who.person if who else 'nobody'}"))
        for match in each.matches:
            score = match.cosine if by is By.cosine or match.score is None else match.score
            typer.echo(options.printable(f"  {score:6.3f}  {match.person}"))
    limit = found[0].limit if found else None
    if limit is not None:
        typer.echo(f"Identified from {limit.by} {limit.threshold:.3f}. {limit.how}")


def verify(
    person: Annotated[str, typer.Argument(help="Who the face is said to be.")],
    photo: Annotated[Path, typer.Argument(help="A photo; of several faces the largest is compared.")],
    fmr: Annotated[float, typer.Option(help="False match rate to decide at; one of the model's.")] = 1e-3,
    uri: gallery_uri.Uri = None,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Decide whether a photo shows a person of the gallery.

    The exit code is 0 for a match, 1 for no match, 2 where that cannot be decided.

    \b
    Example:
      magface gallery verify Ann door.jpg --fmr 1e-4
    """
    recognizer = options.recognizer(model, detector, engine)
    with gallery_uri.opened(uri, recognizer.card) as gallery:
        gallery.person(person)
        faces = recognizer.faces(photo)
        if not faces:
            raise NoFaceError(f"no face was found in {photo}; take a photo in which the face is larger or clearer.")
        face = max(faces, key=lambda each: each.face.area)
        claim = gallery.verify(face.embedding, person, fmr)
    if form is options.Format.json:
        facts = {
            "person": person,
            "photo": str(photo),
            "match": claim.match,
            "cosine": round(claim.cosine, 4),
            "threshold": claim.threshold.cosine,
            "fmr": fmr,
            "score": None if claim.score is None else round(claim.score, 4),
            "quality": round(claim.quality, 2),
            "weak": claim.weak,
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        word, sign = ("match", ">=") if claim.match else ("no match", "<")
        typer.echo(f"{word}: cosine {claim.cosine:.3f} {sign} {claim.threshold.cosine:.3f}, FMR {fmr:g}")
        weak = "; it may hide who it shows" if claim.weak else ""
        typer.echo(f"quality of the worse of the two: {claim.quality:.0f}{weak}")
    raise typer.Exit(0 if claim.match else 1)
