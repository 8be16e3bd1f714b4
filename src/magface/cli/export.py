"""`magface export`: a training checkpoint, or published weights, as a model file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from magface.errors import DataError

if TYPE_CHECKING:
    from torch import nn

    from magface.data.image_folder import ImageFolder
    from magface.types import U8

_BATCH = 16
_CALIBRATED = ("cluster_threshold", "magnitude_percentiles", "quality", "thresholds")
_MEASURED = (*_CALIBRATED, "benchmarks", "sha256")


def export(
    weights: Annotated[
        str, typer.Argument(help="Checkpoint of `magface finetune`, or the name of published weights: sface.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write (.onnx).")],
    card: Annotated[
        Path | None,
        typer.Option(help="Card of the model: a JSON file, or a model file (.onnx) whose description is taken."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="112x112 crops by person; the quality scale and the thresholds the card lacks come from it."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Tab-separated list of these crops; those it marks as suspect are left out.")
    ] = None,
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
    from magface import io
    from magface.cli.options import progress
    from magface.data.image_folder import ImageFolder
    from magface.export import to_onnx
    from magface.models.card import Card, attach
    from magface.train import published

    described = None if card is None else _described(card)
    people = None if calibrate is None else ImageFolder.open(calibrate, table)
    if described is None and weights not in published.CARDS:
        raise DataError("a checkpoint does not say what it is; give its card with --card.")
    known = published.CARDS[weights] if described is None else described
    missing = [name for name in _CALIBRATED if name not in known]
    if people is None and missing:
        raise DataError(f"the card lacks {', '.join(missing)}; measure them on known people with --calibrate.")
    name, backbone = _network(weights)
    content, size = to_onnx(backbone)
    measured: dict[str, Any] = {}
    if people is not None:
        people = people[~people.suspect]
        with progress() as bar:
            task = bar.add_task("Calibrating", total=len(people), note="")
            measured = _measured(content, people, lambda done: bar.advance(task, done))
    fields = {**measured, **known, "backbone": name, "embedding_size": size}
    try:
        io.write_atomic(output, attach(content, Card.from_json(json.dumps(fields))))
    except OSError as error:
        raise DataError(f"cannot write {output} ({error.strerror}); choose another place.") from error
    typer.echo(output)


def _network(weights: str) -> tuple[str, nn.Module]:
    """Name of a backbone, and the backbone with published weights or those of a checkpoint."""
    from magface import backbones
    from magface.train import checkpoint, published

    if weights in published.CARDS:
        return weights, published.start(weights)
    state = checkpoint.load(Path(weights))
    backbone = backbones.build(state["backbone"])
    try:
        backbone.load_state_dict(state["model"])
    except RuntimeError as error:
        raise DataError(f"the weights in {weights} do not fit the backbone {state['backbone']!r}.") from error
    return state["backbone"], backbone


def _described(path: Path) -> dict[str, Any]:
    """Fields of a JSON file, or those of another model's card that still hold."""
    from magface.models.card import read

    if path.suffix.lower() == ".onnx":
        fields = dataclasses.asdict(read(path)[0])
        return {name: value for name, value in fields.items() if name not in _MEASURED}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"the card {path} is missing or not JSON.") from error
    if not isinstance(fields, dict):
        raise DataError(f"the card {path} must be a JSON object.")
    return fields


def _measured(content: bytes, people: ImageFolder, advance: Callable[[int], object]) -> dict[str, Any]:
    """Fields of a card that the faces of known people give."""
    from magface import engines
    from magface.quality import calibration
    from magface.types import Embeddings

    outputs = engines.load(content).stream(_batches(people, advance))
    embeddings = Embeddings(np.concatenate([vectors for [vectors] in outputs]))
    thresholds = calibration.thresholds(embeddings, people.labels)
    return {
        "magnitude_percentiles": calibration.percentiles(embeddings.magnitude),
        "quality": dataclasses.asdict(calibration.fit_sigmoid(embeddings.magnitude)),
        "thresholds": [dataclasses.asdict(threshold) for threshold in thresholds],
        "cluster_threshold": thresholds[:2][-1].cosine,  # at FMR 1e-3, where it could be measured
    }


def _batches(people: ImageFolder, advance: Callable[[int], object]) -> Iterator[U8]:
    for start in range(0, len(people), _BATCH):
        rows = range(start, min(start + _BATCH, len(people)))
        yield np.stack([people.read(row) for row in rows])
        advance(len(rows))
