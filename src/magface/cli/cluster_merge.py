"""`magface cluster merge`: people of an album who are one."""

from __future__ import annotations

from typing import Annotated

import typer

from magface.cli import options
from magface.cli.cluster import Folder, correct


def merge(
    folder: Folder,
    person: Annotated[str, typer.Argument(help="Number or name; it stays.")],
    others: Annotated[list[str], typer.Argument(help="Numbers or names of those who are the same person.")],
    form: options.Output = options.Format.text,
) -> None:
    r"""Say that people of an album are one.

    All their faces are one person from now on, also when everything is grouped anew.

    \b
    Examples:
      magface cluster merge album 3 7
      magface cluster merge album Ann 12 15
    """
    from magface.report import album_corrections

    correct(folder, album_corrections.merge(person, others), form)
