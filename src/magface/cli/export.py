"""`magface export`: a training checkpoint, or published weights, as a model file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options
from magface.cli.cards import Calibrate, Described, Output, Table
from magface.errors import DataError

if TYPE_CHECKING:
    from torch import nn

    from magface.data.face_set import FaceSet
    from magface.quantize import Change


def export(
    weights: Annotated[
        str, typer.Argument(help="Checkpoint of `magface finetune`, or the name of published weights: sface.")
    ],
    output: Output,
    card: Described = None,
    calibrate: Calibrate = None,
    table: Table = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            help="112x112 crops by person: compute with 8-bit integers, whose ranges come from half of these people; "
            "the others are compared before and after."
        ),
    ] = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Write a checkpoint or published weights as one model file that every command takes with --model.

    The card says what the model is and how its numbers are read. Name, licence, training data and so on come from
    --card; for published weights they are known. Percentiles, quality scale and thresholds are measured on the people
    of --calibrate where the JSON file does not give them; those of another model file are never taken. With --int8 they
    are always measured, on the people of --calibrate or else of --int8, and the name says int8.

    \b
    Examples:
      magface export runs/mine/checkpoint.pt -o mine.onnx --card mine.json
      magface export runs/mine/checkpoint.pt -o mine.onnx --card base.onnx --calibrate people/
      magface export sface -o sface.onnx --calibrate people/
      magface export sface -o small.onnx --int8 people.tar
    """
    from magface.cli import cards
    from magface.train import published

    if card is None and weights not in published.CARDS:
        raise DataError("a checkpoint does not say what it is; give its card with --card.")
    known = published.CARDS[weights] if card is None else cards.described(card)
    if int8 is None:
        people = cards.people(known, calibrate, table)
        name, backbone = _network(weights)
        cards.write(output, name, backbone, known, people)
        typer.echo(json.dumps({"output": str(output)}) if form is options.Format.json else output)
        return
    faces = cards.faces(int8, table if calibrate is None else None)
    people = faces if calibrate is None else cards.faces(calibrate, table)
    name, backbone = _network(weights)
    changes = _write_int8(output, name, backbone, known, faces, people)
    if form is options.Format.json:
        typer.echo(json.dumps({"output": str(output), "int8": [dataclasses.asdict(change) for change in changes]}))
    else:
        _show(changes)
        typer.echo(output)


def _write_int8(
    output: Path,
    name: str,
    backbone: nn.Module,
    known: Mapping[str, Any],
    faces: FaceSet,
    people: FaceSet,
) -> Sequence[Change]:
    """Write the model with 8-bit integers, its card measured again on `people`; what that changed."""
    from magface import quantize
    from magface.cli import cards

    crops, others = quantize.divide(faces)
    forms: dict[str, bytes] = {}

    def change(content: bytes) -> bytes:
        with options.progress() as bar:
            bar.add_task("Finding ranges", total=None, note="")
            forms.update(before=content, after=quantize.to_int8(content, crops))
        return forms["after"]

    said = {"name": "-int8", "recipe": f"; then int8, with ranges from {len(crops)} crops"}
    described = cards.unmeasured(known)
    described |= {key: f"{described[key]}{more}" for key, more in said.items() if key in described}
    cards.write(output, name, backbone, described, people, change=change)
    with options.progress() as bar:
        task = bar.add_task("Comparing", total=2 * len(others), note="")
        return quantize.compare(forms["before"], forms["after"], others, lambda done: bar.advance(task, done))


def _show(changes: Sequence[Change]) -> None:
    from rich.console import Console
    from rich.table import Table as Rows

    rows = Rows(title="int8, on people who had no part in it")
    for column in ("measure", "before", "after", "note"):
        rows.add_column(column, justify="left" if column in ("measure", "note") else "right")
    for change in changes:
        numbers = ("-" if value is None else f"{value:.4f}" for value in (change.before, change.after))
        rows.add_row(change.name, *numbers, change.note)
    Console().print(rows)


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
