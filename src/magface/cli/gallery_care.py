"""`magface gallery info`, `create`, `policy`, `audit`, `calibrate`: what a gallery is like, and how it decides."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import gallery_uri, options
from magface.cli.gallery_search import By
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.gallery.audit import Audit, Copies, Suspect
    from magface.gallery.gallery import Info

_SHOWN = 20


class Index(StrEnum):
    """How people are searched."""

    exact = "exact"
    approximate = "approximate"


class Stored(StrEnum):
    """Numbers of the index."""

    f32 = "f32"
    f16 = "f16"


def create(
    index: Annotated[
        Index, typer.Option(help="Compare with everybody, or with likely people only: faster from some 100,000 on.")
    ] = Index.exact,
    precision: Annotated[Stored, typer.Option(help="Of the index; f16 takes half the memory.")] = Stored.f32,
    recall: Annotated[
        float, typer.Option(help="Approximate: share of searches that must find the nearest person.")
    ] = 0.99,
    no_crops: Annotated[bool, typer.Option("--no-crops", help="Keep no picture of the faces, only vectors.")] = False,
    uri: gallery_uri.Uri = None,
    model: options.Model = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Make an empty gallery with settings of your own; `enroll` makes one with the usual ones.

    Where MAGFACE_GALLERY_KEY holds a key the file is encrypted.

    \b
    Example:
      magface gallery create --uri city.db --index approximate --precision f16
    """
    from magface.gallery.records import Settings

    settings = Settings(index.value, precision.value, recall, not no_crops)
    with gallery_uri.opened(uri, gallery_uri.model_card(model), create=True, settings=settings) as gallery:
        if gallery.settings != settings or gallery.info().counts.faces:
            raise DataError("there is a gallery already; choose another place, or delete it.")
        _tell_info(gallery.info(), form)


def info(uri: gallery_uri.Uri = None, form: options.Output = options.Format.text) -> None:
    r"""Say how many people and faces there are, of which model, and how the gallery decides.

    \b
    Example:
      magface gallery info --uri door.db
    """
    with gallery_uri.opened(uri) as gallery:
        _tell_info(gallery.info(), form)


def _tell_info(found: Info, form: options.Format) -> None:
    if form is options.Format.json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    counts, settings, policy = found.counts, found.settings, found.policy
    lines = [
        f"{gallery_uri.counted(counts)}, {counts.marked:,} marked",
        f"model {found.model} ({found.fingerprint[:12]})",
        f"index {settings.index}, {settings.precision}; crops are {'' if settings.crops else 'not '}kept",
        f"faces are refused below a score of {policy.refuse:g} and marked below {policy.mark:g}",
    ]
    if found.labels:
        lines.append(f"labels: {', '.join(found.labels)}")
    if shift := found.calibrated:
        lines.append(f"thresholds moved by {shift.cosine:+.3f}, measured with {shift.people:,} people")
    typer.echo("\n".join(map(options.printable, lines)))


def policy(
    refuse: Annotated[
        float | None, typer.Option(min=0, max=100, help="Score below which a face is not enrolled.")
    ] = None,
    mark: Annotated[float | None, typer.Option(min=0, max=100, help="Score below which a face is marked.")] = None,
    copy: Annotated[float | None, typer.Option(help="Cosine from which two faces are copies.")] = None,
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Show or set who may be enrolled from now on.

    \b
    Example:
      magface gallery policy --refuse 50 --mark 80
    """
    given = {"refuse": refuse, "mark": mark, "copy": copy}
    with gallery_uri.opened(uri) as gallery:
        changes = {name: value for name, value in given.items() if value is not None}
        if changes:
            gallery.policy = dataclasses.replace(gallery.policy, **changes)
        found = gallery.policy
    if form is options.Format.json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        typer.echo(
            f"faces are refused below a score of {found.refuse:g} and marked below {found.mark:g}; "
            f"copies are reported from cosine {found.copy:g}"
        )


def calibrate(
    fpir: Annotated[float, typer.Option(help="Share of searches for strangers that may find somebody.")] = 0.01,
    by: Annotated[By, typer.Option(help="What the threshold is compared with.")] = By.cosine,
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Measure the threshold of searches on the people of the gallery itself, and keep it.

    Faces of each person are searched among all others, as strangers would be. At least 20 people are needed.

    \b
    Example:
      magface gallery calibrate --fpir 0.01
    """
    with gallery_uri.opened(uri) as gallery, options.progress() as bar:
        task = bar.add_task("Searching", total=None, note="")
        before = gallery.threshold(fpir, by=by.value)
        shift = gallery.calibrate(fpir, progress=lambda done: bar.advance(task, done))
        after = gallery.threshold(fpir, by=by.value)
    if form is options.Format.json:
        facts = {"fpir": fpir, "by": by.value, "before": before.threshold, "threshold": after.threshold}
        typer.echo(json.dumps({**facts, "measured": dataclasses.asdict(shift), "how": after.how}, indent=2))
    else:
        typer.echo(f"threshold {after.threshold:.3f}, was {before.threshold:.3f}. {after.how}")


def audit(uri: gallery_uri.Uri = None, form: options.Output = options.Format.text) -> None:
    r"""Look for what is wrong: copies, faces under the wrong name, one person under two names, people of poor pictures.

    Nothing is changed; `magface gallery move`, `merge` and `remove` put right what you agree with.

    \b
    Example:
      magface gallery audit
    """
    with gallery_uri.opened(uri) as gallery, options.progress() as bar:
        counts = gallery.info().counts
        task = bar.add_task("Searching", total=counts.people + counts.faces, note="")
        found = gallery.audit(lambda done: bar.advance(task, done))
    if form is options.Format.json:
        typer.echo(json.dumps(_plain(dataclasses.asdict(found)), indent=2))
    else:
        _tell(found)


def _plain(value: Any) -> Any:
    """Without NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _tell(found: Audit) -> None:
    _list("copies of a picture or moment", [_copies(each) for each in found.copies])
    _list("faces that are likely somebody else's", [_suspect(each) for each in found.suspects])
    likely = [f"{' and '.join(each.people)}: cosine {each.cosine:.3f}" for each in found.same]
    _list("people who are likely one", likely)
    _list("people of doubtful pictures alone", found.poor)


def _list(title: str, lines: Sequence[str]) -> None:
    typer.echo(f"{title}: {len(lines):,}")
    for line in lines[:_SHOWN]:
        typer.echo(options.printable(f"  {line}"))
    if len(lines) > _SHOWN:
        typer.echo(f"  ... and {len(lines) - _SHOWN:,} more; --format json lists them.")


def _copies(found: Copies) -> str:
    who = " and ".join(dict.fromkeys(found.people))
    return f"faces {found.first} and {found.second} of {who}: cosine {found.cosine:.3f}"


def _suspect(found: Suspect) -> str:
    nearest = f", {found.other:.3f} to {found.nearest}" if found.nearest else ""
    return f"face {found.face} of {found.person}: cosine {found.own:.3f} to their other faces{nearest}"
