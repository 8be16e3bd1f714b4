"""Bring a set of faces into shape, to train or to measure with.

Example: magface data convert train.rec crops
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from magface.cli import options


class Form(StrEnum):
    """How a set of faces can lie on the disk."""

    folder = "folder"
    list = "list"
    rec = "rec"
    webdataset = "webdataset"
    parquet = "parquet"
    bin = "bin"


def convert(
    src: Annotated[Path, typer.Argument(help="Set of faces of any form; its content tells which.")],
    dst: Annotated[Path, typer.Argument(help="File or folder to write.")],
    to: Annotated[Form | None, typer.Option(help="Form of DST; told by its name if not given.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Tab-separated list of the images of SRC: path, identity, source, suspect.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that the paths of a list start from; that of the list if not given.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="bin: list of the pairs to compare.")] = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Write a set of faces in another form, every image bit for bit.

    \b
    Forms to read and to write:
      folder      a sub-folder for each person; read from an uncompressed .tar too
      list        NAME.txt or NAME.list of lines "path 0 id 0", .lst of insightface
      rec         NAME.rec of insightface with .idx and property
      webdataset  NAME.tar, NAME-{000000..000010}.tar, or a folder of such shards
      parquet     NAME.parquet with a column of images
      bin         NAME.bin, a verification set of insightface

    DST must not exist, or be what a conversion of the same set left when it was stopped: then it goes on.
    Names, people, sources and marks of suspicion go along where the form can hold them.

    Example: magface data convert train.rec crops
    """
    from magface.cli import reading
    from magface.data import formats

    faces = formats.read(src, table, root)
    chosen = formats.form_of(dst) if to is None else to.value
    with options.progress() as bar:
        task = bar.add_task("Converting", total=len(faces), note="")
        written = formats.write(dst, faces, chosen, pairs=pairs, progress=lambda done: bar.advance(task, done))
    failures = [*faces.failures, *written]
    images, total = len(faces) - len(written), len(faces) + len(faces.failures)
    if form is options.Format.json:
        facts = {"path": str(dst), "form": chosen, "images": images, "people": len(faces.people), "failures": failures}
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"{dst}: {images:,} images of {len(faces.people):,} people.")
    reading.fail(failures, total)


data = (convert,)
