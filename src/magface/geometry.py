"""The direction and the magnitude of an embedding; nothing else in the package normalises one.

The paper as a rule of construction: an embedding is stored as the network gave it. Its direction says who,
its magnitude says how far to trust that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def magnitude(x: Array) -> Array:
    """Length of each embedding, the paper's `a`.

    Equation: MagFace (a = ||f||).

    Args:
        x: `(..., D)` float, raw embeddings.

    Returns:
        `(...)`, same dtype, >= 0; NaN where an embedding holds NaN.

    Example:
        >>> magnitude(np.array([[3.0, 4.0], [0.0, 0.0]]))
        array([5., 0.])
    """
    return np.linalg.norm(x, axis=-1)


def direction(x: Array) -> Array:
    """Unit vector of each embedding; an embedding of zeros has none and stays zero.

    Args:
        x: `(..., D)` float, raw embeddings.

    Returns:
        `(..., D)`, same dtype, of length 1 (0 for zeros).

    Example:
        >>> direction(np.array([[3.0, 4.0], [0.0, 0.0]]))
        array([[0.6, 0.8],
               [0. , 0. ]])
    """
    peak = np.maximum(np.max(x, axis=-1, keepdims=True), -np.min(x, axis=-1, keepdims=True))
    scaled = x / np.where(peak == 0, 1, peak)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / np.where(length == 0, 1, length)


def cosine(x: Array, y: Array) -> Array:
    """Cosine of the angle between paired embeddings.

    Args:
        x: `(..., D)` float, raw embeddings.
        y: `(..., D)` float, broadcast against `x`.

    Returns:
        `(...)`, within [-1, 1]; 0 where either embedding is zero.

    Example:
        >>> cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])).round(4)
        np.float64(0.7071)
    """
    return np.clip(np.sum(direction(x) * direction(y), axis=-1), -1.0, 1.0)


def angle(x: Array, y: Array) -> Array:
    """Angle between paired embeddings in radians, within [0, pi].

    Args:
        x: `(..., D)` float, raw embeddings.
        y: `(..., D)` float, broadcast against `x`.

    Returns:
        `(...)`, radians; pi/2 where either embedding is zero.

    Example:
        >>> angle(np.array([1.0, 0.0]), np.array([0.0, 2.0])).round(4)
        np.float64(1.5708)
    """
    return np.arccos(cosine(x, y))
