"""`magface export`: a training checkpoint, or published weights, as a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli.cards import Calibrate, Described, Output, Table
from magface.errors import DataError

if TYPE_CHECKING:
    from torch import nn


def export(
    weights: Annotated[
        str, typer.Argument(help="Checkpoint of `magface finetune`, or the name of published weights: sface.")
    ],
    output: Output,
    card: Described = None,
    calibrate: Calibrate = None,
    table: Table = None,
) -> None:
    r"""Write a checkpoint or published weights as one model file that every command takes with --model.

    The card says what the model is and how its numbers are read. Name, licence, training data and so on come from
    --card; for published weights they are known. Percentiles, quality scale and thresholds are measured on the people
    of --calibrate where the JSON file does not give them; those of another model file are never taken.

    \b
    Examples:
      magface export runs/mine/checkpoint.pt -o mine.onnx --card mine.json
      magface export runs/mine/checkpoint.pt -o mine.onnx --card base.onnx --calibrate people/
      magface export sface -o sface.onnx --calibrate people/
    """
    from magface.cli import cards
    from magface.train import published

    if card is None and weights not in published.CARDS:
        raise DataError("a checkpoint does not say what it is; give its card with --card.")
    known = published.CARDS[weights] if card is None else cards.described(card)
    people = cards.people(known, calibrate, table)
    name, backbone = _network(weights)
    cards.write(output, name, backbone, known, people)
    typer.echo(output)


def _network(weights: str) -> tuple[str, nn.Module]:
    """Name of a backbone, and the backbone with published weights or those of a checkpoint."""
    from magface import backbones
    from magface.train import checkpoint, published

    if weights in published.CARDS:
        return published.start(weights)
    state = checkpoint.load(Path(weights))
    backbone = backbones.build(state["backbone"])
    try:
        backbone.load_state_dict(state["model"])
    except RuntimeError as error:
        raise DataError(f"the weights in {weights} do not fit the backbone {state['backbone']!r}.") from error
    return state["backbone"], backbone
