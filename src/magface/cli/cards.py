"""The card of a model that is written, for `magface export` and `magface import`: given by the user, or measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from magface.errors import DataError

if TYPE_CHECKING:
    from torch import nn

    from magface.data.face_set import FaceSet
    from magface.types import U8

_BATCH = 16
_SOURCES = 10
_CALIBRATED = ("cluster_threshold", "magnitude_percentiles", "quality", "thresholds")
_DECISIONS = ("reliability", "bands", "comparison")
_MEASURED = (*_CALIBRATED, *_DECISIONS, "population", "benchmarks", "preprocessing", "sha256")

Output = Annotated[Path, typer.Option("--output", "-o", help="Model file to write (.onnx).")]
Described = Annotated[
    Path | None,
    typer.Option("--card", help="Card of the model: a JSON file, or a model file (.onnx) whose description is taken."),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(help="112x112 crops by person; the quality scale and the thresholds the card lacks come from it."),
]
Table = Annotated[
    Path | None, typer.Option(help="Tab-separated list of these crops; those it marks as suspect are left out.")
]


def described(path: Path) -> dict[str, Any]:
    """Fields of a JSON file, or those of another model's card that still hold.

    Raises:
        DataError: the file is missing or no JSON object.
        ModelError: it is a model file without a valid card.
    """
    from magface.models.card import read

    if path.suffix.lower() == ".onnx":
        return unmeasured(dataclasses.asdict(read(path)[0]))
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"the card {path} is missing or not JSON.") from error
    if not isinstance(fields, dict):
        raise DataError(f"the card {path} must be a JSON object.")
    return fields


def unmeasured(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that still hold for another form of the model."""
    return {name: value for name, value in fields.items() if name not in _MEASURED}


def people(known: Mapping[str, Any], calibrate: Path | None, table: Path | None) -> FaceSet | None:
    """The faces to measure on, without suspect ones; `None` where `known` has all that would be measured.

    Args:
        known: fields of the card.
        calibrate: folder of crops by person.
        table: list of these crops.

    Raises:
        DataError: fields are missing, and there are no faces to measure them on.
    """
    missing = [name for name in _CALIBRATED if name not in known]
    if calibrate is None:
        if missing:
            raise DataError(f"the card lacks {', '.join(missing)}; measure them on known people with --calibrate.")
        return None
    return faces(calibrate, table)


def faces(folder: Path, table: Path | None) -> FaceSet:
    """Crops of a folder or archive, without those that the table marks as suspect.

    Raises:
        DataError: it holds none.
    """
    from magface.data import formats

    found = formats.read(folder, table).checked()
    return found[~found.suspect]


def write(
    output: Path,
    name: str,
    backbone: nn.Module,
    known: Mapping[str, Any],
    faces: FaceSet | None,
    *,
    half: bool = True,
    change: Callable[[bytes], bytes] | None = None,
) -> None:
    """Write a network and its card as one model file.

    Args:
        output: file to write.
        name: of the network, in `magface.backbones`.
        backbone: the network.
        known: fields of the card, which win over measured ones.
        faces: to measure the others on.
        half: store matrices in half precision.
        change: makes another form of the model, without a card, before anything is measured.

    Raises:
        DataError: the file cannot be written.
        ModelError: the network holds NaN, or the card is not valid.
    """
    from magface import io
    from magface.cli.options import progress
    from magface.export import to_onnx
    from magface.models.card import Card, attach

    content, size = to_onnx(backbone, half=half)
    content = content if change is None else change(content)
    measured: dict[str, Any] = {}
    if faces is not None:
        with progress() as bar:
            task = bar.add_task("Calibrating", total=len(faces), note="")
            measured = _measured(content, faces, lambda done: bar.advance(task, done))
    if "thresholds" in known:  # what was measured belongs to other ones
        measured = {field: value for field, value in measured.items() if field not in _DECISIONS}
    fields = {**measured, **known, "backbone": name, "embedding_size": size}
    fields["preprocessing"] = str(getattr(backbone, "preprocessing", ""))
    try:
        io.write_atomic(output, attach(content, Card.from_json(json.dumps(fields, default=dataclasses.asdict))))
    except OSError as error:
        raise DataError(f"cannot write {output} ({error.strerror}); choose another place.") from error


def _measured(content: bytes, faces: FaceSet, advance: Callable[[int], object]) -> dict[str, Any]:
    """Fields of a card that the faces of known people give."""
    from magface import engines
    from magface.quality import fitting
    from magface.types import Embeddings

    outputs = engines.load(content).stream(_batches(faces, advance))
    embeddings = Embeddings(np.concatenate([vectors for [vectors] in outputs]))
    return {**fitting.of_people(embeddings, faces.labels).fields, "population": population(faces)}


def population(faces: FaceSet, place: str = "") -> str:
    """Whose faces a card was measured on, for people to read.

    Args:
        faces: what was measured on.
        place: name of the folder or archive, "" where it is not known.

    Example:
        >>> from magface.data.face_set import FaceSet, Held, Record
        >>> population(FaceSet.of([Record("a/1.jpg", "a", Held(b"")), Record("b/1.jpg", "b", Held(b""))]), "mine.tar")
        '2 faces of 2 people in mine.tar'
    """
    people = f" of {len(faces.people):,} people" if "" not in faces.people else ""
    sources = [source for source in sorted(set(faces.sources.tolist())) if source]
    named = f" ({', '.join(sources)})" if 0 < len(sources) <= _SOURCES else ""
    return f"{len(faces):,} faces{people}{place and f' in {place}'}{named}"


def _batches(faces: FaceSet, advance: Callable[[int], object]) -> Iterator[U8]:
    for start in range(0, len(faces), _BATCH):
        rows = range(start, min(start + _BATCH, len(faces)))
        yield np.stack([faces.read(row) for row in rows])
        advance(len(rows))
