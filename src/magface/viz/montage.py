"""Many faces in one picture, each with a few words under it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from magface.errors import DataError
from magface.types import U8
from magface.viz import style
from magface.viz.style import PAGE, Size

COLUMNS = 8
MOST = 400
"""Faces in a picture, at most."""
_GAP = 0.06


def montage(
    images: Sequence[U8], labels: Sequence[str], title: str = "", columns: int = COLUMNS, size: Size = PAGE
) -> Figure:
    """Faces in rows, from left to right, such as those of one group in the order of their magnitude.

    Args:
        images: N pictures, each `(H, W, 3)` uint8 RGB, drawn as squares.
        labels: N texts; a long one is cut.
        title: over the figure; empty for none.
        columns: faces in a row, at least 1.
        size: `PAGE` or `PAPER`.

    Raises:
        DataError: there is no image or more than `MOST`, there is not one label for each, or `columns` is below 1.

    Example:
        >>> import numpy as np
        >>> figure = montage([np.zeros((112, 112, 3), np.uint8)] * 3, ["8.1", "9.4", "12.0"], columns=2)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['8.1', '9.4', '12.0']
    """
    if not 0 < len(images) <= MOST or len(images) != len(labels) or columns < 1:
        raise DataError(
            f"a montage needs 1 to {MOST} images, a label for each and a column; it was given {len(images)} images, "
            f"{len(labels)} labels and {columns} columns."
        )
    with style.look():
        figure, on = style.axes(size, title)
        across = 0.96 * size.width / columns
        under = size.line / across
        letters = max(1, int(across * 72 / (0.5 * size.font)))
        for place, (image, label) in enumerate(zip(images, labels, strict=True)):
            row, column = divmod(place, columns)
            top = row * (1 + under)
            on.imshow(image, extent=(column + _GAP / 2, column + 1 - _GAP / 2, top + 1 - _GAP, top))
            text = style.shown(label)[:letters]
            on.text(column + 0.5, top + 1, text, ha="center", va="top", fontsize=0.8 * size.font, parse_math=False)
        rows = -(-len(images) // columns)
        on.set(xlim=(0, columns), ylim=(rows * (1 + under), 0), aspect="equal", facecolor="none")
        on.xaxis.set_major_locator(NullLocator())
        on.yaxis.set_major_locator(NullLocator())
        on.spines[:].set_visible(False)
        figure.set_figheight(across * rows * (1 + under) + size.line * (1 + 2 * bool(title)))
    return figure
