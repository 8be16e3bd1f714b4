"""BRISQUE: how far the statistics of a picture are from those of natural ones.

Source: Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE Transactions on
Image Processing 21(12), 2012. The regression is the one that the authors released with the paper, learnt from the
distorted photos of the LIVE database: `brisque.npz` holds its support vectors in float32, their weights, and the range
of each feature.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from magface.quality.measures import luminance
from magface.types import F32, U8

F64 = NDArray[np.float64]

_WEIGHTS = Path(__file__).with_name("brisque.npz")
_GAMMA, _OFFSET = 0.05, 155.845
_WINDOW, _DEVIATION = 7, 7 / 6
_SHAPES = np.arange(200, 10_001) / 1000
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))
_TINY = 1e-9  # below it the sign of a coefficient is that of a rounding error


class _Regression(NamedTuple):
    vectors: F32
    weights: F64
    low: F64
    high: F64


def score(crop: U8) -> float:
    """Negative BRISQUE of a crop, so that higher is better: about 0 for natural pictures, -100 for bad ones.

    The regression learnt from whole photos; on a crop of 112 pixels the frame of zeros around the picture weighs more
    than it did there.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
        >>> score(noise) < score(cv2.GaussianBlur(noise, (0, 0), 1.2))
        True
    """
    return -predict(features(luminance(crop)))


def features(luma: F32) -> F64:
    """The 36 statistics of a picture: 18 of it, and 18 of it at half its size.

    Equation: BRISQUE (I_hat = (I - mu) / (sigma + 1); shape and variance of I_hat; shape, mean and both variances of
        the products of its neighbours to the right, below and on both diagonals)

    Differs from the official code: coefficients below 1e-9, which are the rounding errors of an even area, are zero.

    Args:
        luma: `(H, W)` float, 0 to 255; H and W at least 7.

    Returns:
        `(36,)` float64, never NaN.
    """
    picture = np.asarray(luma, np.float64)
    return np.concatenate([_statistics(picture), _statistics(_halved(picture))])


def predict(values: F64) -> float:
    """BRISQUE of the 36 statistics: support vector regression with a Gaussian kernel; lower is better."""
    regression = _regression()
    scaled = 2 * (values - regression.low) / (regression.high - regression.low) - 1
    distance = np.square(regression.vectors - scaled).sum(axis=1)
    return float(np.dot(regression.weights, np.exp(-_GAMMA * distance)) + _OFFSET)


def normalised(picture: F64) -> F64:
    """Each pixel less the mean around it, over the deviation around it: `(H, W)` float64 both.

    What surrounds the picture counts as zeros.
    """
    mean = _smoothed(picture)
    deviation = np.sqrt(np.abs(_smoothed(picture * picture) - mean * mean))
    found = (picture - mean) / (deviation + 1)
    return np.where(np.abs(found) < _TINY, 0.0, found)


def _statistics(picture: F64) -> F64:
    coefficients = normalised(picture)
    found = [*_symmetric(coefficients)]
    for down, right in _SHIFTS:
        found += _asymmetric(coefficients * np.roll(coefficients, (down, right), (0, 1)))
    return np.array(found)


def _symmetric(x: F64) -> tuple[float, float]:
    """Shape and variance of the generalised Gaussian with the moments of `x`."""
    square = float(np.mean(x * x))
    if not square:
        return float(_SHAPES[0]), 0.0
    ratio = square / float(np.mean(np.abs(x))) ** 2
    return float(_SHAPES[np.argmin(np.abs(1 / _ratios() - ratio))]), square


def _asymmetric(x: F64) -> tuple[float, float, float, float]:
    """Shape, mean, left and right variance of the asymmetric generalised Gaussian with the moments of `x`."""
    square = float(np.mean(x * x))
    left, right = (float(np.mean(side * side)) if side.size else 0.0 for side in (x[x < 0], x[x > 0]))
    if not square:
        return float(_SHAPES[0]), 0.0, 0.0, 0.0
    balance = math.sqrt(min(left, right) / max(left, right))  # the factor below is the same for its inverse
    ratio = float(np.mean(np.abs(x))) ** 2 / square
    ratio *= (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    shape = float(_SHAPES[np.argmin(np.abs(_ratios() - ratio))])
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    mean = (math.sqrt(right) - math.sqrt(left)) * math.gamma(2 / shape) / math.gamma(1 / shape) * scale
    return shape, mean, left, right


def _smoothed(picture: F64) -> F64:
    window = cv2.getGaussianKernel(_WINDOW, _DEVIATION, cv2.CV_64F)
    return cv2.sepFilter2D(picture, cv2.CV_64F, window, window, borderType=cv2.BORDER_CONSTANT)


def _halved(picture: F64) -> F64:
    rows, columns = (_halving(size) for size in picture.shape)
    return rows @ picture @ columns.T


@lru_cache(maxsize=8)
def _halving(size: int) -> F64:
    """`(ceil(size / 2), size)`: the bicubic kernel, twice as wide as for enlarging; the edge is mirrored."""
    taps = np.arange(-3, 5)
    at = np.abs(taps - 0.5) / 2
    near, far = 1.5 * at**3 - 2.5 * at**2 + 1, -0.5 * at**3 + 2.5 * at**2 - 4 * at + 2
    kernel = np.where(at <= 1, near, np.where(at < 2, far, 0.0))
    matrix = np.zeros((-(-size // 2), size))
    for row in range(len(matrix)):
        columns = (2 * row + taps) % (2 * size)
        np.add.at(matrix[row], np.minimum(columns, 2 * size - 1 - columns), kernel / kernel.sum())
    return matrix


@lru_cache(maxsize=1)
def _ratios() -> F64:
    """Squared mean deviation over the variance of the generalised Gaussian of each of `_SHAPES`, rising."""
    log = [2 * math.lgamma(2 / shape) - math.lgamma(1 / shape) - math.lgamma(3 / shape) for shape in _SHAPES.tolist()]
    return np.exp(log)


@lru_cache(maxsize=1)
def _regression() -> _Regression:
    with np.load(_WEIGHTS, allow_pickle=False) as file:
        return _Regression(*(file[name] for name in _Regression._fields))
