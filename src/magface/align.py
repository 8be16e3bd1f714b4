"""From five landmarks to the 112x112 crop that the network knows: one definition for training, benchmarks and use."""

from __future__ import annotations

import math

import cv2
import numpy as np

from magface.errors import DataError
from magface.types import F32, U8

SIZE = 112
_TINY = 1e-6

TEMPLATE: F32 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where ArcFace wants the landmarks in the crop: `(5, 2)` float32, `(x, y)` in pixels."""


def similarity(landmarks: F32, target: F32 = TEMPLATE) -> F32:
    """Turn, scale and shift that bring landmarks closest to the target, in the sense of least squares.

    With points as complex numbers `z` and `w`, both less their mean, it is `w = c z` with `c = sum(z* w) / sum(|z|^2)`:
    closed, and never a reflection.

    Args:
        landmarks: `(..., 5, 2)` float, `(x, y)` in pixels, in the order of `Face.landmarks`.
        target: `(5, 2)` float, where they shall come to lie.

    Returns:
        `(..., 2, 3)` float32: the matrix `[A | t]`, which takes a landmark `p` to `A p + t`.

    Raises:
        DataError: landmarks are not finite, fall together, or fit the target in no way.

    Example:
        >>> similarity(2 * TEMPLATE + 10).round(3)
        array([[ 0.5, -0. , -5. ],
               [ 0. ,  0.5, -5. ]], dtype=float32)
    """
    points = np.asarray(landmarks, np.float64)
    if not np.isfinite(points).all():
        raise DataError("the five landmarks of a face must be finite numbers; detect the face again.")
    z, w = points @ (1, 1j), np.asarray(target, np.float64) @ (1, 1j)
    middle, goal = z.mean(axis=-1), w.mean()
    z, w = z - middle[..., None], w - goal
    spread = np.sum(np.abs(z) ** 2, axis=-1)
    turn = np.sum(z.conj() * w, axis=-1) / np.maximum(spread, _TINY)
    if np.any((spread < _TINY) | (np.abs(turn) < _TINY)):
        raise DataError("the five landmarks of a face fall together or fit no face; detect the face again.")
    shift = goal - turn * middle
    rows = [turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag]
    return np.stack(rows, axis=-1).reshape(*turn.shape, 2, 3).astype(np.float32)


def crop(image: U8, landmarks: F32) -> U8:
    """Cut a face out, upright and of the size that the network knows.

    A face at least twice as large as the crop is first averaged over blocks of pixels, so that fine patterns of a large
    photo do not turn into coarse ones; otherwise pixels are bilinear. What lies outside the photo is black.

    Args:
        image: `(H, W, 3)` uint8.
        landmarks: `(5, 2)` float, `(x, y)` in pixels of the image.

    Returns:
        `(112, 112, 3)` uint8, channels as in the image.

    Raises:
        DataError: see `similarity`.

    Example:
        >>> image = np.full((300, 300, 3), 200, np.uint8)
        >>> crop(image, 2 * TEMPLATE + 10).mean()
        np.float64(200.0)
    """
    matrix = similarity(landmarks).astype(np.float64)
    turn, shift = complex(matrix[0, 0], matrix[1, 0]), complex(*matrix[:, 2])
    left, top, right, bottom = _region(turn, shift, *image.shape[:2])
    block = max(1, int(1 / abs(turn) + 1e-3))
    width, height = (right - left) // block, (bottom - top) // block
    if width <= 0 or height <= 0:
        return np.zeros((SIZE, SIZE, 3), np.uint8)
    region = image[top : top + height * block, left : left + width * block]
    if block > 1:
        region = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA)
    # from a pixel of the region to the middle of its block in the photo, and on to the crop
    matrix[:, 2] += matrix[:, :2] @ (left + (block - 1) / 2, top + (block - 1) / 2)
    matrix[:, :2] *= block
    return cv2.warpAffine(region, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)


def _region(turn: complex, shift: complex, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels of the photo that the crop needs; it is `turn` times those, `shift`."""
    corners = [(complex(x, y) - shift) / turn for x in (-1, SIZE) for y in (-1, SIZE)]
    columns, rows = [point.real for point in corners], [point.imag for point in corners]
    left, top = (max(0, math.floor(min(each)) - 1) for each in (columns, rows))
    right, bottom = min(width, math.ceil(max(columns)) + 2), min(height, math.ceil(max(rows)) + 2)
    return left, top, right, bottom
