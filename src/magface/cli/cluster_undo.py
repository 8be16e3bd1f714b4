"""`magface cluster undo`: take the last correction of an album back."""

from __future__ import annotations

from magface.cli import options
from magface.cli.cluster import Folder, tell


def undo(folder: Folder, form: options.Output = options.Format.text) -> None:
    r"""Take the last correction of an album back: the last name, merge, split or move.

    One step, and only until the next run of `magface cluster`.

    \b
    Example:
      magface cluster undo album
    """
    from magface.report import album

    tell(folder, album.undo(folder), form)
