"""Uncertainty by perturbation: a good face keeps its embedding when the picture hardly changes.

Source: Ayhan and Berens, "Test-time data augmentation for estimation of heteroscedastic aleatoric uncertainty in deep
neural networks", MIDL 2018; here the spread of the augmented outputs is taken between directions.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.geometry import direction
from magface.types import U8

VARIANTS = 7
_SHIFT = 2
_BLUR = 0.8  # pixels of standard deviation
_NOISE = 6.0  # grey levels
_GAMMAS = (0.8, 1.25)


def variants(crop: U8, seed: int = 0) -> U8:
    """A crop and slight changes of it that leave the person as clear as before.

    Args:
        crop: `(112, 112, 3)` uint8 RGB.
        seed: of the noise, which is the same for every crop.

    Returns:
        `(VARIANTS, 112, 112, 3)` uint8: as it is, mirrored, shifted by two pixels to the right and down, blurred,
        noisy, brighter and darker.
    """
    shift = np.array([[1, 0, _SHIFT], [0, 1, _SHIFT]], np.float32)
    noise = _NOISE * np.random.default_rng(seed).standard_normal(crop.shape)
    levels = np.arange(256) / 255
    return np.stack(
        [
            crop,
            cv2.flip(crop, 1),
            cv2.warpAffine(crop, shift, crop.shape[1::-1], borderMode=cv2.BORDER_REPLICATE),
            cv2.GaussianBlur(crop, (0, 0), _BLUR),
            np.clip(np.rint(crop + noise), 0, 255).astype(np.uint8),
            *(np.rint(255 * levels**gamma).astype(np.uint8)[crop] for gamma in _GAMMAS),
        ]
    )


def agreement(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Mean cosine between two of the embeddings of each face.

    Args:
        embeddings: `(..., V, D)` float, raw, of V >= 2 variants.

    Returns:
        `(...)` float64, -1 to 1: 1 where all have one direction.

    Example:
        >>> agreement([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]).round(3)
        np.float64(0.333)
    """
    unit = direction(np.asarray(embeddings, np.float64))
    count = unit.shape[-2]
    together = np.square(unit.sum(axis=-2)).sum(axis=-1)  # the diagonal, and every pair twice
    alone = np.square(unit).sum(axis=(-2, -1))
    return (together - alone) / (count * (count - 1))
