"""`magface embed`: embeddings of faces in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from magface.cli import options, reading


def embed(
    photos: options.Photos,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .npz, .parquet, .txt or .list.")],
    aligned: options.Aligned = False,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Write the raw embedding of every face.

    A face is named by the path of its photo; where a photo has several, by path#1, path#2, ... from the left.
    The ending of the file decides its form: .npz and .parquet keep the model's fingerprint; .txt and .list are the
    official text form, one line "path v1 ... vD" a face.

    \b
    Examples:
      magface embed holiday/ -o holiday.parquet
      magface embed crops/ --aligned -o feat.list
    """
    from magface import io
    from magface.data import features

    features.check_format(output)
    paths = reading.find(photos)
    features.check_names(output, [str(path) for path in paths])
    io.check_place(output)
    read = reading.read(paths, aligned, model, detector, engine)
    if read.names:
        features.write(output, read.names, read.embeddings)
    _tell(read, output, form)
    if not read.names:
        options.say("no photo has a face, so nothing was written; use --aligned if the images are crops.")
    read.finish(done=bool(read.names))


def _tell(read: reading.Read, output: Path, form: options.Format) -> None:
    if form is options.Format.json:
        facts = {
            "output": str(output) if read.names else None,
            "photos": read.total,
            "faces": len(read.names),
            "embedding_size": read.card.embedding_size,
            "model": read.embeddings.model,
            "without_face": [str(path) for path in read.empty],
            "failures": [[str(path), reason] for path, reason in read.failures],
        }
        typer.echo(json.dumps(facts, indent=2))
    elif read.names:
        typer.echo(f"{len(read.names):,} faces of {read.total:,} photos in {output}")
