"""What a detector is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from magface.types import U8, Face


class Detector(Protocol):
    """Finds the faces of photos.

    Attributes:
        name: stored with every result and in the model card, for the detector changes the crops and so the embeddings.
    """

    name: str

    def detect(self, images: Sequence[U8]) -> list[list[Face]]:
        """Find every face.

        Args:
            images: photos, each `(H, W, 3)` uint8 RGB, upright, of any size.

        Returns:
            For each photo its faces, surest first, in pixels of that photo; an empty list where there is none.
        """
        ...
