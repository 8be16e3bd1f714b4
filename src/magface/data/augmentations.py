"""What training does to a crop so that no network sees the same one twice: mirrored, cut, small, in another light.

Source: Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022, arXiv:2204.00964, for all
but the mirror, each with a probability of 0.2. What makes a face harder on purpose is in `degradations`.

Every function takes a `(H, W, 3)` uint8 RGB crop and a NumPy generator, which decides everything, and returns a crop of
the same shape.
"""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from magface.types import U8

_SMALLEST = 0.2
"""Least share: of the area that a cut leaves, of the side that a reduction leaves."""
_JITTER = 0.5
_METHODS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


class Probabilities(Protocol):
    """How often each happens, 0 to 1."""

    @property
    def flip(self) -> float:
        """Of `mirrored`."""

    @property
    def crop(self) -> float:
        """Of `cut`."""

    @property
    def low_resolution(self) -> float:
        """Of `reduced`."""

    @property
    def photometric(self) -> float:
        """Of `relit`."""


class Augment:
    """Mirrors, cuts, reduces and relights a crop, each with its own probability, in this order.

    Args:
        probabilities: how often.

    Example:
        >>> from types import SimpleNamespace
        >>> always = SimpleNamespace(flip=1.0, crop=0.0, low_resolution=0.0, photometric=0.0)
        >>> face = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
        >>> Augment(always)(face, np.random.default_rng(0))[0, :, 0]
        array([9, 6, 3, 0], dtype=uint8)
    """

    def __init__(self, probabilities: Probabilities) -> None:
        self._probabilities = probabilities

    def flip(self, image: U8, rng: np.random.Generator) -> U8:
        """The crop, perhaps mirrored; the very same array where it is not."""
        return mirrored(image) if rng.random() < self._probabilities.flip else image

    def __call__(self, image: U8, rng: np.random.Generator) -> U8:
        """The crop, augmented; the very same array where nothing is drawn."""
        image = self.flip(image, rng)
        if rng.random() < self._probabilities.crop:
            image = cut(image, rng)
        if rng.random() < self._probabilities.low_resolution:
            image = reduced(image, rng)
        if rng.random() < self._probabilities.photometric:
            image = relit(image, rng)
        return image


def mirrored(image: U8) -> U8:
    """Left is right."""
    return np.ascontiguousarray(cv2.flip(image, 1), np.uint8)


def cut(image: U8, rng: np.random.Generator) -> U8:
    """A rectangle of 20 to 100 % of the area, its sides 3:4 to 4:3, stays where it is; the rest is black."""
    height, width = image.shape[:2]
    area, aspect = rng.uniform(_SMALLEST, 1) * height * width, math.exp(rng.uniform(-1, 1) * math.log(4 / 3))
    h = max(1, min(height, round(math.sqrt(area / aspect))))
    w = max(1, min(width, round(math.sqrt(area * aspect))))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    result = np.zeros_like(image)
    result[top : top + h, left : left + w] = image[top : top + h, left : left + w]
    return result


def reduced(image: U8, rng: np.random.Generator) -> U8:
    """Made smaller, to 20 to 100 % of its side, and large again, each by a random interpolation."""
    height, width = image.shape[:2]
    share, (down, up) = rng.uniform(_SMALLEST, 1), rng.choice(_METHODS, 2)
    size = max(1, round(share * width)), max(1, round(share * height))
    small = cv2.resize(image, size, interpolation=int(down))
    return np.asarray(cv2.resize(small, (width, height), interpolation=int(up)), np.uint8)


def relit(image: U8, rng: np.random.Generator) -> U8:
    """Brightness, contrast and saturation times 0.5 to 1.5 each, in a random order."""
    factors = rng.uniform(1 - _JITTER, 1 + _JITTER, 3).tolist()
    for which in rng.permutation(3):
        factor = factors[which]
        if which == 0:
            image = _blend(image, np.zeros_like(image), factor)
        elif which == 1:
            level = round(float(_grey(image).mean()))
            image = _blend(image, np.full_like(image, level), factor)
        else:
            image = _blend(image, np.repeat(_grey(image)[..., None], 3, axis=2), factor)
    return image


def _grey(image: U8) -> U8:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _blend(image: U8, other: U8, factor: float) -> U8:
    """`other` at a factor of 0, the image at 1, beyond it above 1."""
    return np.asarray(cv2.addWeighted(image, factor, other, 1 - factor, 0), np.uint8)
