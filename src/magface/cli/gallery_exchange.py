"""`magface gallery export` and `import`: a gallery as one table, to keep or to bring elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from magface.cli import gallery_uri, options


def export(
    output: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Write every face with its person, labels, vector, quality, place and crop as one parquet file.

    The file is not encrypted, whatever the gallery is.

    \b
    Example:
      magface gallery export people.parquet
    """
    from magface.gallery import exchange

    with gallery_uri.opened(uri) as gallery, options.progress() as bar:
        task = bar.add_task("Exporting", total=gallery.info().counts.faces, note="")
        faces = exchange.export(gallery.store, output, progress=lambda done: bar.advance(task, done))
    if form is options.Format.json:
        typer.echo(json.dumps({"output": str(output), "faces": faces}, indent=2))
    else:
        typer.echo(options.printable(f"{faces:,} faces in {output}"))


def import_(
    source: Annotated[Path, typer.Argument(help="Parquet file of an export.")],
    uri: gallery_uri.Uri = None,
    form: options.Output = options.Format.text,
) -> None:
    r"""Add the faces of an export to a gallery, which is made where there is none.

    Faces that are there already are left out, so the same command goes on where it was stopped.

    \b
    Example:
      magface gallery import people.parquet --uri http://localhost:19530
    """
    from magface.gallery import exchange

    card = exchange.card(source)
    with (
        gallery_uri.resumable("imported"),
        gallery_uri.opened(uri, card, create=True) as gallery,
        options.progress() as bar,
    ):
        task = bar.add_task("Importing", total=None, note="")
        found = exchange.import_(source, gallery.store, progress=lambda done: bar.advance(task, done))
    if form is options.Format.json:
        facts = {"source": str(source), "added": found.faces, "new_people": found.people, "already_there": found.known}
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"{found.faces:,} faces added, {found.known:,} were there already; {found.people:,} new people")
