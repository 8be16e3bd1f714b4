"""How much each face counts in a group: alike, or by its magnitude."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.geometry import magnitude
from magface.types import Embeddings

Weighting = Literal["unit", "magnitude"]
"""`unit`, as with ArcFace: only directions count; `magnitude`: a face counts in proportion to its magnitude."""
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)

_LEAST = 1e-6
"""Weight of a face of no magnitude, so that means over such faces alone are defined."""
_ROWS = 4096


def weights(embeddings: Embeddings, weighting: Weighting) -> NDArray[np.float64]:
    """Weight of each face, 1 on average: magnitudes of one model and of another, or of twice the scale, weigh alike.

    Args:
        embeddings: N faces of one model, raw.
        weighting: `"unit"` or `"magnitude"`.

    Returns:
        `(N,)` float64, at least 1e-6: a face without direction weighs next to nothing.

    Raises:
        DataError: there is no such weighting.

    Example:
        >>> weights(Embeddings(np.array([[9.0, 0.0], [0.0, 3.0]], np.float32)), "magnitude")
        array([1.5, 0.5])
    """
    if weighting not in WEIGHTINGS:
        raise DataError(f"there is no weighting {weighting!r}; choose one of {', '.join(WEIGHTINGS)}.")
    count = len(embeddings)
    if weighting == "unit" or not embeddings.vectors.any():
        return np.ones(count)
    found = np.empty(count)
    for start in range(0, count, _ROWS):  # in float64, where no length of a float32 vector overflows
        found[start : start + _ROWS] = magnitude(embeddings.vectors[start : start + _ROWS].astype(np.float64))
    return np.maximum(found / found.mean(), _LEAST)


def checked(threshold: float) -> float:
    """The threshold, if it is a cosine.

    Raises:
        DataError: it is not.
    """
    if not -1 <= threshold <= 1:
        raise DataError(f"the threshold is a cosine, between -1 and 1; {threshold} is not.")
    return threshold
