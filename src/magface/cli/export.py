"""`magface export`: a training checkpoint as a model file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from magface.errors import DataError, EngineError

if TYPE_CHECKING:
    from magface.data.image_folder import ImageFolder
    from magface.types import U8

_BATCH = 16
_MEASURED = ("magnitude_percentiles", "quality", "thresholds", "cluster_threshold", "benchmarks", "sha256")


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of `magface finetune`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write (.onnx).")],
    card: Annotated[
        Path, typer.Option(help="Card of the model: a JSON file, or a model file (.onnx) whose description is taken.")
    ],
    calibrate: Annotated[
        Path | None,
        typer.Option(help="112x112 crops by person; the quality scale and the thresholds the card lacks come from it."),
    ] = None,
) -> None:
    r"""Write a checkpoint as one model file that every command takes with --model.

    The card says what the model is and how its numbers are read. Name, licence, training data and so on come from
    --card. Percentiles, quality scale and thresholds are measured on the people of --calibrate where the JSON file
    does not give them; those of another model file are never taken.

    \b
    Examples:
      magface export runs/mine/checkpoint.pt -o mine.onnx --card mine.json
      magface export runs/mine/checkpoint.pt -o mine.onnx --card base.onnx --calibrate people/
    """
    from magface import backbones, io
    from magface.cli.options import progress
    from magface.data.image_folder import ImageFolder
    from magface.models.card import Card, attach

    described = _described(card)
    people = None if calibrate is None else ImageFolder.open(calibrate)
    try:
        from magface.export import to_onnx
        from magface.train import checkpoint as checkpoints
    except ImportError as error:
        raise EngineError(f"export needs torch ({error}); pip install 'magface[train]'.") from error

    state = checkpoints.load(checkpoint)
    backbone = backbones.build(state["backbone"])
    try:
        backbone.load_state_dict(state["model"])
    except RuntimeError as error:
        raise DataError(f"the weights in {checkpoint} do not fit the backbone {state['backbone']!r}.") from error
    content, size = to_onnx(backbone)
    measured: dict[str, Any] = {}
    if people is not None:
        with progress() as bar:
            task = bar.add_task("Calibrating", total=len(people), note="")
            measured = _measured(content, people, lambda done: bar.advance(task, done))
    fields = {**measured, **described, "backbone": state["backbone"], "embedding_size": size}
    try:
        io.write_atomic(output, attach(content, Card.from_json(json.dumps(fields))))
    except OSError as error:
        raise DataError(f"cannot write {output} ({error.strerror}); choose another place.") from error
    typer.echo(output)


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
