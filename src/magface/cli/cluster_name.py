"""`magface cluster name`: what a person of an album is called."""

from __future__ import annotations

from typing import Annotated

import typer

from magface.cli import options
from magface.cli.cluster import Folder, correct


def name(
    folder: Folder,
    person: Annotated[str, typer.Argument(help="Number, or the name until now.")],
    called: Annotated[str, typer.Argument(help="The name.", metavar="NAME")],
    form: options.Output = options.Format.text,
) -> None:
    r"""Give a person of an album a name; the folder of photos takes it too.

    The name goes with the face that stands for the person, also when everything is grouped anew, and two people of
    whom each has a name never become one.

    \b
    Examples:
      magface cluster name album 3 Ann
      magface cluster name album Ann "Ann & Co."
    """
    from magface.report import album_corrections

    correct(folder, album_corrections.name(person, called), form)
