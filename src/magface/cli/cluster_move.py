"""`magface cluster move`: faces of an album that are of another person."""

from __future__ import annotations

from typing import Annotated

import typer

from magface.cli import options
from magface.cli.cluster import Folder, correct


def move(
    folder: Folder,
    faces: Annotated[
        list[str],
        typer.Argument(help="Photos of the faces, with #2 for the second face from the left.", metavar="FACE..."),
    ],
    to: Annotated[str, typer.Option(metavar="PERSON", help="Number or name of the person.")],
    form: options.Output = options.Format.text,
) -> None:
    r"""Say of whom faces are, whomever or nobody they were of.

    A face is named as for `magface cluster split`. It stays with that person, also when everything is grouped anew.

    \b
    Examples:
      magface cluster move album IMG_0012.jpg#2 --to 7
      magface cluster move album party.jpg#1 garden.jpg --to Ann
    """
    from magface.report import album_corrections

    correct(folder, album_corrections.move(faces, to), form)
