"""`magface embed`: embeddings of faces in a file, or in a folder of shards."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import options, reading
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.bulk.job import Run, Summary
    from magface.bulk.reader import Source

_TOLD = 10


def embed(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .npz, .parquet, .txt or .list; or a folder.")
    ],
    photos: Annotated[
        list[Path] | None,
        typer.Argument(help="Photos, and folders that are searched for photos; for a folder .tar archives too."),
    ] = None,
    lists: Annotated[
        list[Path] | None, typer.Option("--list", help="Text file with one path a line, for a folder; again for more.")
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Photos of a shard of a folder. [default: 2048]")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes that fill a folder. [default: all cores]")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--ray", help="Fill a folder on a Ray cluster: its address, auto for the one here, local for a new one."
        ),
    ] = None,
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

    A name without an ending is a folder, for any number of photos: it gets part-00000.parquet, part-00001.parquet, ...
    with the faces, and _photos/ with a row for each photo: its faces, or why there are none. All cores work on it.
    Stop it at any time: finished parts are kept, and the same command goes on. New photos become new parts.
    Exit code 1 when some photos could not be read.

    \b
    Examples:
      magface embed holiday/ -o holiday.parquet
      magface embed crops/ --aligned -o feat.list
      magface embed /photos archive.tar --list more.txt -o embeddings
      magface embed /shared/photos -o /shared/embeddings --ray head:6379
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from magface.data import features

    if not photos and not lists:
        raise DataError("there is no photo to read; name image files or a folder that holds some.")
    if output.suffix.lower() not in features.FORMATS and (output.is_dir() or not output.suffix):
        _fill(photos or [], lists or [], output, shard_size, processes, cluster, aligned, model, detector, engine, form)
        return
    if output.suffix.lower() not in features.FORMATS:
        endings = ", ".join(features.FORMATS)
        raise DataError(f"cannot tell the form of {output}; let the name end in {endings}, or have none for a folder.")
    if lists or shard_size or processes or cluster:
        raise DataError(f"--list, --shard-size, --processes and --ray need a folder, and {output} is a file.")
    _write(photos or [], output, aligned, model, detector, engine, form)


def _write(
    photos: list[Path],
    output: Path,
    aligned: bool,
    model: Path | None,
    detector: Path | None,
    engine: options.EngineChoice,
    form: options.Format,
) -> None:
    """Embed photos into a file."""
    from magface import io
    from magface.data import features

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
        typer.echo(options.printable(f"{len(read.names):,} faces of {read.total:,} photos in {output}"))


def _fill(
    photos: list[Path],
    lists: list[Path],
    folder: Path,
    shard_size: int | None,
    processes: int | None,
    cluster: str | None,
    aligned: bool,
    model: Path | None,
    detector: Path | None,
    engine: options.EngineChoice,
    form: options.Format,
) -> None:
    """Embed photos into a folder of shards."""
    from magface.bulk import job
    from magface.bulk.reader import Source

    source = Source(model, detector, engine.value, aligned)
    run = _run(cluster, source, processes)
    try:
        with options.progress() as bar:
            task = bar.add_task("Embedding", total=None, note="")
            summary = job.embed(
                photos,
                folder,
                source,
                lists=lists,
                shard_size=shard_size or job.SHARD_SIZE,
                run=run,
                started=lambda total: bar.update(task, total=total),
                progress=lambda done: bar.advance(task, done),
            )
    except KeyboardInterrupt:
        options.say(f"stopped; the shards that are done are kept in {folder}: the same command goes on from there.")
        raise typer.Exit(options.STOPPED) from None
    _tell_folder(summary, folder, form)


def _run(cluster: str | None, source: Source, processes: int | None) -> Run:
    from magface.bulk import job

    if cluster is None:
        return job.local(source, processes)
    from magface.bulk.on_ray import on_ray

    return on_ray(cluster, source, processes)


def _tell_folder(summary: Summary, folder: Path, form: options.Format) -> None:
    """Print what the folder holds, and exit as the photos deserve."""
    if form is options.Format.json:
        facts = {
            "output": str(folder),
            "photos": summary.photos,
            "read_now": summary.read_now,
            "shards": summary.shards,
            "faces": summary.faces,
            "embedding_size": summary.embedding_size,
            "model": summary.model,
            "photos_without_face": summary.without_face,
            "photos_unreadable": summary.unreadable,
            "failures": summary.failures,
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        known = summary.photos - summary.read_now
        again = f" ({known:,} known from before)" if known else ""
        parts = "1 shard" if summary.shards == 1 else f"{summary.shards:,} shards"
        typer.echo(
            options.printable(f"{summary.faces:,} faces of {summary.photos:,} photos{again} in {folder}, {parts}")
        )
    if summary.without_face:
        hint = "" if summary.faces else "; use --aligned if the images are crops"
        options.say(f"no face in {summary.without_face:,} of {summary.photos:,} photos{hint}.")
    for _, reason in summary.failures[:_TOLD]:
        options.say(reason)
    if summary.unreadable:
        options.say(
            f"{summary.unreadable:,} of {summary.photos:,} photos could not be read; {folder}/_photos names all."
        )
        raise typer.Exit(1 if summary.unreadable < summary.photos else 2)
