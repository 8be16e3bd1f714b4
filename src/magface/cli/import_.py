"""`magface import`: a checkpoint of another code base as a model file."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options
from magface.cli.cards import Calibrate, Described, Output, Table
from magface.cli.options import Format

if TYPE_CHECKING:
    from magface.models.foreign import Weights

OFIQ = {"a0": 23.0, "w": 2.6}
"""Sigmoid of the ISO/IEC 29794-5 reference for the official iResNet-50 MagFace that was trained with DataParallel."""


class OriginChoice(StrEnum):
    """Whose network it is."""

    magface = "magface"
    arcface = "arcface"
    adaface = "adaface"
    own = "own"


def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="Checkpoint of MagFace, arcface_torch or AdaFace, or plain weights; .safetensors too."),
    ],
    output: Output,
    origin: Annotated[
        OriginChoice | None, typer.Option(help="Whose network it is, where the names of its tensors do not say it.")
    ] = None,
    card: Described = None,
    calibrate: Calibrate = None,
    table: Table = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store matrices in half precision: half the file, embeddings as near.")
    ] = False,
    form: options.Output = Format.text,
) -> None:
    r"""Write a checkpoint of MagFace, arcface_torch or AdaFace as one model file that every command takes with --model.

    It is recognised by the names of its tensors, and nothing in it is executed. Depth, normalisation and what is done
    to the pixels follow from whose network it is, and go into the file. Magnitudes and cosines of a network mean
    nothing without a scale: percentiles, quality scale and thresholds are measured on the people of --calibrate, where
    the JSON file of --card does not give them. Without --calibrate the official networks of MagFace get the constants
    that QMagFace published for its quality-aware score.

    \b
    Examples:
      magface import magface_epoch_00025.pth -o magface.onnx --calibrate people/
      magface import backbone.pth -o arcface.onnx --origin arcface --calibrate people/ --card mine.json
    """
    from magface.cli import cards
    from magface.models import foreign

    weights = foreign.read(checkpoint, None if origin is None else origin.value)
    known = _known(checkpoint, weights) | ({} if card is None else cards.described(card))
    people = cards.people(known, calibrate, table)
    if people is None:  # constants that were measured have proved themselves on people; the published ones have not
        known = _published(weights) | known
    network = weights.network()
    cards.write(output, weights.backbone, network, known, people, half=half)
    classes = 0 if weights.centres is None else len(weights.centres)
    found = {"model": str(output), "kind": weights.kind, "backbone": weights.backbone, "classes": classes}
    found["preprocessing"] = str(getattr(network, "preprocessing", ""))
    if form is Format.json:
        typer.echo(json.dumps(found, indent=2))
    else:
        options.say(f"{checkpoint} is of {weights.kind}: {weights.backbone}, pixels as {found['preprocessing']}.")
        if known.get("quality") == OFIQ:
            options.say(
                "its scale is that of ISO/IEC 29794-5 for the official network; --card with quality sets another."
            )
        typer.echo(output)


def _published(weights: Weights) -> dict[str, Any]:
    """The constants of the quality-aware score that its authors found for the official networks."""
    from magface.models.foreign import DATA_PARALLEL
    from magface.quality.qmagface import PUBLISHED

    official = weights.kind == DATA_PARALLEL and weights.backbone in PUBLISHED
    return {"comparison": PUBLISHED[weights.backbone]} if official else {}


def _known(checkpoint: Path, weights: Weights) -> dict[str, Any]:
    """Fields of the card that are known without measuring."""
    from magface import align, io
    from magface.models.foreign import DATA_PARALLEL

    known: dict[str, Any] = {
        "name": checkpoint.stem,
        "version": io.sha256(checkpoint)[:12],
        "licence": "unknown: see source",
        "notices": f"Weights of {weights.kind}, converted; whoever published them keeps the rights.",
        "training_data": "not in the checkpoint: see source",
        "recipe": f"magface import {checkpoint.name}",
        "template": align.TEMPLATE.tolist(),
        "detector": "yunet",
    }
    if weights.kind == DATA_PARALLEL and weights.backbone == "iresnet50-magface":
        known["quality"] = OFIQ
    return known
