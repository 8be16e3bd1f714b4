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


@_measure("sharpness (Laplacian)")
def laplacian(crop: U8) -> float:
    """Variance of the Laplacian of the luma, >= 0."""
    return float(cv2.Laplacian(luminance(crop), cv2.CV_32F).var())
