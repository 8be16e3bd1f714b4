"""Where a gallery is: the option that its commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import options
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.gallery.gallery import Gallery
    from magface.gallery.records import Counts, Settings
    from magface.models.card import Card

ENVIRONMENT = "MAGFACE_GALLERY"
DEFAULT = "faces.db"

Uri = Annotated[
    str | None,
    typer.Option(help=f"Gallery: a file, milvus:FOLDER or http://HOST:PORT. [default: ${ENVIRONMENT}, or {DEFAULT}]"),
]


@contextmanager
def opened(
    uri: str | None, card: Card | None = None, *, create: bool = False, settings: Settings | None = None
) -> Iterator[Gallery]:
    """The gallery of the option, or of the environment, or that of the current folder."""
    from magface.gallery import open_gallery

    place = uri or os.environ.get(ENVIRONMENT) or DEFAULT
    with open_gallery(place, card, create=create, settings=settings) as found:
        yield found


@contextmanager
def resumable(what: str) -> Iterator[None]:
    """Say that a command that was stopped goes on where it was.

    Args:
        what: becomes durable part by part.
    """
    try:
        yield
    except KeyboardInterrupt:
        options.say(f"stopped; what is {what} stays: the same command goes on from there.")
        raise typer.Exit(options.STOPPED) from None


def model_card(model: Path | None) -> Card:
    """Card of a command's model."""
    from magface.models import card as cards
    from magface.models import default

    return cards.read(model or default.path())[0]


def confirmed(question: str, yes: bool) -> None:
    """Ask before something is lost for good.

    Raises:
        DataError: nobody said yes, or there is nobody to ask.
    """
    asked = sys.stdin is not None and sys.stdin.isatty()
    if not (yes or (asked and typer.confirm(question, err=True))):
        raise DataError("nothing was done; say --yes to do it without a question.")


def counted(counts: Counts) -> str:
    """Faces and people in words."""
    faces = f"{counts.faces:,} {'face' if counts.faces == 1 else 'faces'}"
    return f"{faces} of {counts.people:,} {'person' if counts.people == 1 else 'people'}"
