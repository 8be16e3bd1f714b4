"""`magface cluster split`: faces of a person of an album that are somebody else."""

from __future__ import annotations

from typing import Annotated

import typer

from magface.cli import options
from magface.cli.cluster import Folder, correct


def split(
    folder: Folder,
    person: Annotated[str, typer.Argument(help="Number or name; unknown for faces of nobody.")],
    faces: Annotated[
        list[str],
        typer.Argument(help="Photos of the faces, with #2 for the second face from the left.", metavar="FACE..."),
    ],
    form: options.Output = options.Format.text,
) -> None:
    r"""Say that faces of a person are somebody else, together a new person.

    A face is named by its photo, or a link to it in the folder of the person; where several faces in the photo may be
    meant, with its number from the left, as in photo.jpg#2. The page people.html says so where you point at a face.
    The two never become one again unless you merge them, also when everything is grouped anew.

    \b
    Examples:
      magface cluster split album 3 album/people/person-3/party.jpg
      magface cluster split album Ann IMG_0012.jpg IMG_0017.jpg#2
      magface cluster split album unknown IMG_0100.jpg#3
    """
    from magface.report import album_corrections

    correct(folder, album_corrections.split(person, faces), form)
