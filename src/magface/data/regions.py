"""Parts of the face hidden from sight, growing with strength; chance plays no part in them.

These measure a model. Training draws from `degradations.NAMES` alone, so a region that is added here changes no recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from magface.types import U8

Box = tuple[float, float, float, float]

REGIONS: Mapping[str, tuple[Box, Box]] = MappingProxyType(
    {
        "left eye": ((38.3, 51.6, 38.3, 51.6), (20, 38, 55, 66)),
        "right eye": ((73.5, 51.6, 73.5, 51.6), (57, 38, 92, 66)),
        "both eyes": ((56, 51.6, 56, 51.6), (14, 36, 98, 66)),
        "nose": ((56, 66, 56, 66), (42, 48, 70, 84)),
        "mouth": ((56, 92.3, 56, 92.3), (34, 80, 78, 106)),
        "left half": ((0, 0, 0, 112), (0, 0, 56, 112)),
        "right half": ((112, 0, 112, 112), (56, 0, 112, 112)),
        "upper half": ((0, 0, 112, 0), (0, 0, 112, 62)),
        "lower half": ((0, 112, 112, 112), (0, 62, 112, 112)),
    }
)
"""What strength 0 and 1 hide, `(x1, y1, x2, y2)` in pixels of a crop of the ArcFace template.

Left and right are those of the picture. Eyes, nose and mouth are hidden from their middle outwards, halves from the
edge of the crop inwards; upper and lower meet at the bridge of the nose.
"""

_SIDE = 112
_GREY = 128


def cover(image: U8, region: str, strength: float) -> U8:
    """Hide a part of the face behind even grey.

    Args:
        image: `(H, W, 3)` uint8 RGB, aligned to the ArcFace template.
        region: one of `REGIONS`.
        strength: 0, which hides nothing, to 1.

    Returns:
        A new crop.

    Raises:
        ValueError: `strength` is out of range.

    Example:
        >>> face = np.zeros((112, 112, 3), np.uint8)
        >>> [int((cover(face, "left half", strength) != 0).all(2).sum()) for strength in (0, 0.5, 1)]
        [0, 3136, 6272]
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is within 0 and 1, not {strength}.")
    start, end = map(np.array, REGIONS[region])
    unit = np.array([image.shape[1], image.shape[0]] * 2) / _SIDE
    x1, y1, x2, y2 = np.rint((start + strength * (end - start)) * unit).astype(int)
    covered = image.copy()
    covered[y1:y2, x1:x2] = _GREY
    return covered
