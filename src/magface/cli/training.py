"""What `magface train` and `magface finetune` share: a run, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options
from magface.cli.options import Format

if TYPE_CHECKING:
    from torch import nn

    from magface.data.face_set import FaceSet
    from magface.train.config import Recipe
    from magface.train.ranks import Ranks

Data = Annotated[
    Path,
    typer.Option(
        help="112x112 crops by person: a folder with a sub-folder for each, or its .tar; list, .rec, .parquet, shards."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run: checkpoint.pt, log.jsonl, events.")]
Table = Annotated[Path | None, typer.Option(help="Tab-separated list of images: path, identity, source, suspect.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for features, shared by runs; OUT if not given.")]
Device = Annotated[str, typer.Option(help="Torch device: cpu, cuda, mps.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's, to compare runs.")]
Restart = Annotated[bool, typer.Option("--restart", help="Start again although OUT holds a checkpoint.")]


def run(
    settings: Recipe,
    network: Callable[[], nn.Module],
    data: Path,
    out: Path,
    *,
    trained: bool,
    table: Path | None,
    cache: Path | None,
    device: str,
    restart: bool,
    form: Format,
) -> None:
    """Train, measure on the people kept out, and print what came of it on the first rank."""
    from magface.data import formats
    from magface.train.loop import StoppedError
    from magface.train.ranks import joined

    with joined(device) as ranks:
        faces = formats.read(data, table)
        if trained:  # all images are looked at before the first step; else the loop leaves out what cannot be read
            faces = faces.checked()
        if ranks.first:
            for _, reason in faces.failures:
                options.say(reason)
        try:
            summary = _trained(settings, network(), faces, out, trained, cache, ranks, restart)
        except StoppedError as stop:
            if ranks.first:
                options.say(str(stop))
            raise typer.Exit(stop.exit_code) from None
        if ranks.first:
            _print(summary, form)


def _trained(
    settings: Recipe,
    network: nn.Module,
    faces: FaceSet,
    out: Path,
    trained: bool,
    cache: Path | None,
    ranks: Ranks,
    restart: bool,
) -> dict[str, Any]:
    from magface.train import checkpoint
    from magface.train.training import train, training_images
    from magface.train.validation import validate

    say = options.say
    path = train(settings, network, faces, out, trained=trained, cache=cache, ranks=ranks, restart=restart, say=say)
    used = training_images(settings, faces)
    return {
        "checkpoint": str(path),
        "steps": checkpoint.load(path)["step"] if ranks.first else 0,
        "images": len(used),
        "people": len(used.people),
        "failures": len(faces.failures),
        "unreadable": _lines(out / "unreadable.tsv"),
        "validation": validate(settings, network, faces, ranks.device) if ranks.first else {},
    }


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def _print(summary: dict[str, Any], form: Format) -> None:
    if form is Format.json:
        typer.echo(json.dumps(summary, indent=2))
        return
    typer.echo(f"{summary['checkpoint']}: {summary['steps']} steps on {summary['images']:,} images", nl=False)
    typer.echo(f" of {summary['people']:,} people, {summary['failures']} images left out", nl=False)
    typer.echo(f", {summary['unreadable']} lost on the way." if summary["unreadable"] else ".")
    for source, found in summary["validation"].items():
        typer.echo(f"{source}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
