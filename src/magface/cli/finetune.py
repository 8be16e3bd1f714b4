"""`magface finetune`: make a MagFace of a face network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options
from magface.cli.options import Format, Output

if TYPE_CHECKING:
    from magface.data.image_folder import ImageFolder
    from magface.train.config import Recipe


def finetune(
    recipe: Annotated[Path, typer.Argument(help="TOML file of settings.")],
    data: Annotated[Path, typer.Argument(help="Folder of 112x112 crops by person, or an uncompressed tar of it.")],
    out: Annotated[Path, typer.Argument(help="Folder for checkpoint.pt and log.jsonl.")],
    table: Annotated[
        Path | None, typer.Option(help="Tab-separated list of images: path, identity, source, suspect.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Checkpoint whose network to start from.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for features, shared by runs; OUT if not given.")] = None,
    device: Annotated[str, typer.Option(help="Torch device: cpu, cuda, mps.")] = "cpu",
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's, to compare runs.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start again although OUT holds a checkpoint.")] = False,
    form: Output = Format.text,
) -> None:
    r"""Make a MagFace of a face network.

    The same command goes on where a run was stopped, to the same weights bit for bit on the same machine. At the end
    it measures verification and error versus discard on the people kept for validation; choose between runs by that.

    \b
    Examples:
      magface finetune recipes/magsface.toml train.tar runs/1 --table train.tsv
      magface finetune mine.toml people/ runs/2 --start runs/1/checkpoint.pt
    """
    from magface.data.image_folder import ImageFolder
    from magface.train.config import load
    from magface.train.loop import StoppedError

    settings = load(recipe)
    if seed is not None:
        settings = dataclasses.replace(settings, seed=seed)
    faces = ImageFolder.open(data, table)
    for _, reason in faces.failures:
        options.say(reason)
    try:
        summary = _run(settings, faces, out, start, cache, device, restart)
    except StoppedError as stop:
        options.say(str(stop))
        raise typer.Exit(stop.exit_code) from None
    if form is Format.json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        typer.echo(f"{summary['checkpoint']}: {summary['steps']} steps on {summary['images']:,} images", nl=False)
        typer.echo(f" of {summary['people']:,} people, {summary['failures']} images left out.")
        for source, found in summary["validation"].items():
            typer.echo(f"{source}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))


def _run(
    settings: Recipe,
    faces: ImageFolder,
    out: Path,
    start: Path | None,
    cache: Path | None,
    device: str,
    restart: bool,
) -> dict[str, Any]:
    """Train, and say what came of it."""
    from magface.train import checkpoint, published
    from magface.train.finetune import finetune, training_images
    from magface.train.validation import validate

    network = published.start(settings.backbone, settings.seed, start)
    path = finetune(settings, network, faces, out, cache=cache, device=device, restart=restart)
    used = training_images(settings, faces)
    return {
        "checkpoint": str(path),
        "steps": checkpoint.load(path)["step"],
        "images": len(used),
        "people": len(used.people),
        "failures": len(faces.failures),
        "validation": validate(settings, network, faces, device),
    }
