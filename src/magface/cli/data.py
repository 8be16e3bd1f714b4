"""Bring a set of faces into shape, to train or to measure with.

Example: magface data convert train.rec crops
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import options
from magface.cli.data_align import align
from magface.cli.data_audit import audit
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.data.face_set import FaceSet
    from magface.data.pairs import Pairs


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
    pairs: Annotated[
        Path | None,
        typer.Option(help="List of the pairs of a .bin: read where one is written, written where one is read."),
    ] = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Write a set of faces in another form, every image bit for bit.

    \b
    Forms to read and to write:
      folder      a sub-folder for each person; read from an uncompressed .tar too
      list        NAME.txt or NAME.list of lines "path 0 id 0", .lst of insightface
      rec         NAME.rec of insightface with .idx and property
      webdataset  NAME.tar, 'NAME-{000000..000010}.tar', or a folder of such shards
      parquet     NAME.parquet with a column of images
      bin         NAME.bin, a verification set of insightface

    DST must not exist, or be what a conversion of the same set left when it was stopped: then it goes on.
    Names, people, sources and marks of suspicion go along where the form can hold them.

    Example: magface data convert train.rec crops
    """
    from magface.cli import reading
    from magface.data import formats

    faces, found = _read(src, table, root)
    chosen = formats.form_of(dst) if to is None else to.value
    taken = _pairs(found, chosen, pairs)
    with options.progress() as bar:
        task = bar.add_task("Converting", total=len(faces), note="")
        written = formats.write(dst, faces, chosen, lambda done: bar.advance(task, done), pairs=taken)
    if found is not None and pairs is not None and taken is None:
        _write_pairs(pairs, found)
    lost = {name for name, _ in written}
    people = {label for name, label in zip(faces.names, faces.labels.tolist(), strict=True) if name not in lost}
    failures = [*faces.failures, *written]
    if form is options.Format.json:
        facts = {"path": str(dst), "form": chosen, "images": len(faces) - len(written), "people": len(people)}
        typer.echo(json.dumps({**facts, "failures": failures}, indent=2))
    else:
        typer.echo(options.printable(f"{dst}: {len(faces) - len(written):,} images of {len(people):,} people."))
    reading.fail_set(failures, len(faces) - len(written))


def _read(src: Path, table: Path | None, root: Path | None) -> tuple[FaceSet, Pairs | None]:
    """A set of any form, and the pairs of a `.bin`."""
    from magface.data import formats, verification_bin

    if formats.form_at(src) != "bin":
        return formats.read(src, table, root), None
    if table is not None or root is not None:
        raise DataError(f"{src} has no names for a table and no paths; leave out --table and --root.")
    return verification_bin.read(src)


def _pairs(found: Pairs | None, chosen: str, path: Path | None) -> Pairs | None:
    """The pairs to write into a `.bin`; None where they are not to be, and `path` takes those of one.

    Raises:
        DataError: the option is missing or does not belong here, or the list cannot be read or written.
    """
    from magface.data import pairs as lists

    if chosen == "bin":
        if path is None and found is None:
            raise DataError("a .bin holds pairs; name a list of them with --pairs.")
        return found if path is None else lists.read(path)
    if (found is None) != (path is None):
        raise DataError(
            "--pairs belongs to a .bin; leave it out."
            if found is None
            else "the .bin says which images to compare; name a file for that list with --pairs."
        )
    if path is not None and os.path.lexists(path):
        raise DataError(f"{path} exists; delete it, or choose another place for the pairs.")
    return None


def _write_pairs(path: Path, pairs: Pairs) -> None:
    """A list `first second same fold`; names of a `.bin` are numbers, so they get an ending that makes them names."""
    from magface import io

    columns = zip(pairs.first, pairs.second, pairs.same.tolist(), pairs.fold.tolist(), strict=True)
    lines = (f"{first}.jpg\t{second}.jpg\t{int(same)}\t{fold}\n" for first, second, same, fold in columns)
    io.write_atomic(path, "".join(lines))


data = (convert, align, audit)
