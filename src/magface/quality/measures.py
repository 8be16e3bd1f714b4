"""What a picture of a face is like, without a network: measures of aligned crops, higher for better pictures.

Each takes `(112, 112, 3)` uint8 RGB and gives one number. They are what people used before networks judged faces,
and what explains a low score.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from magface.types import F32, U8

Measure = Callable[[U8], float]
MEASURES: dict[str, Measure] = {}
"""Every measure by name."""

DARK, BRIGHT = 25, 247
"""Luma up to the one and from the other on is under- and over-exposed, as ISO/IEC 29794-5 has it."""
_BLOCK = 8


def _measure(name: str) -> Callable[[Measure], Measure]:
    def register(function: Measure) -> Measure:
        MEASURES[name] = function
        return function

    return register


def luminance(crop: U8) -> F32:
    """`(112, 112)` float32, 0 to 255: the luma of ITU-R BT.601."""
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)


@_measure("brightness")
def brightness(crop: U8) -> float:
    """Mean luma, 0 to 255."""
    return float(luminance(crop).mean())


@_measure("contrast")
def contrast(crop: U8) -> float:
    """Standard deviation of the luma, 0 to 127.5."""
    return float(luminance(crop).std())


@_measure("exposure")
def exposure(crop: U8) -> float:
    """Share of pixels that are neither under- nor over-exposed, less 1: -1 to 0.

    Source: ISO/IEC 29794-5:2025, under- and over-exposure prevention
    """
    return -underexposed(crop) - overexposed(crop)


def underexposed(crop: U8) -> float:
    """Share of pixels with a luma of `DARK` or less, 0 to 1; what is black beyond the edge of a photo counts.

    Example:
        >>> underexposed(np.zeros((112, 112, 3), np.uint8))
        1.0
    """
    return float((luminance(crop) <= DARK).mean())


def overexposed(crop: U8) -> float:
    """Share of pixels with a luma of `BRIGHT` or more, 0 to 1.

    Example:
        >>> overexposed(np.full((112, 112, 3), 200, np.uint8))
        0.0
    """
    return float((luminance(crop) >= BRIGHT).mean())


@_measure("sharpness (Laplacian)")
def laplacian(crop: U8) -> float:
    """Variance of the Laplacian of the luma, >= 0.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", 2000
    """
    return float(cv2.Laplacian(luminance(crop), cv2.CV_32F).var())


@_measure("sharpness (Tenengrad)")
def tenengrad(crop: U8) -> float:
    """Mean of the squared Sobel gradient of the luma, >= 0.

    Source: Krotkov, "Focusing", 1988; without a threshold on the gradient
    """
    luma = luminance(crop)
    across, down = (cv2.Sobel(luma, cv2.CV_32F, x, 1 - x) for x in (1, 0))
    return float((across * across + down * down).mean())


@_measure("JPEG blockiness")
def blockiness(crop: U8) -> float:
    """Steps at the edges of the 8x8 blocks of JPEG, as a negative number: 0 for none, about -8 where nothing else is.

    A step between two pixels counts as far as it exceeds those before and after it. Means of these along the rows and
    columns of the picture are compared at the eight places where the grid could lie, for a crop does not begin where
    its photo did, and those of the strongest are taken for the grid. A photo that was scaled after it was compressed
    has no grid of 8 pixels left, and nothing is found.

    Source: Wang, Sheikh and Bovik, "No-reference perceptual quality assessment of JPEG compressed images", 2002, for
        the differences across block edges beside those within; the place of the grid is searched here.

    Example:
        >>> blocks = np.kron(np.arange(14 * 14).reshape(14, 14) % 5, np.ones((8, 8))) * 40
        >>> shifted = np.roll(blocks, (3, 5), (0, 1))
        >>> bool(blockiness(np.repeat(shifted[..., None], 3, 2).astype(np.uint8)) < -7)
        True
    """
    luma = luminance(crop)
    return -(_steps(luma) + _steps(luma.T)) / 2


def _steps(luma: F32) -> float:
    """How far the steps across the strongest of the eight grids exceed the usual one; 0 for a flat picture."""
    steps = np.abs(np.diff(luma, axis=1)).mean(axis=0)
    excess = steps[1:-1] - (steps[:-2] + steps[2:]) / 2
    grids = np.array([excess[phase::_BLOCK].mean() for phase in range(_BLOCK)])
    usual = float(steps.mean())
    return float(grids.max() - np.median(grids)) / usual if usual else 0.0
