"""How the pixels become the numbers that a network was trained on; a part of the network, so that none forgets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Order of the channels, and the scale of their values.

    Attributes:
        order: of the channels as the network wants them; the input is RGB.
        mean: subtracted, 0..255.
        deviation: divided by, > 0.

    Example:
        >>> print(MAGFACE, "|", ARCFACE)
        BGR, x / 255 | RGB, (x - 127.5) / 127.5
    """

    order: Literal["RGB", "BGR"]
    mean: float
    deviation: float

    def __call__(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` float RGB 0..255 to what the network is fed with; same shape and memory format."""
        x = x.flip(1) if self.order == "BGR" else x
        return (x - self.mean) / self.deviation

    def __str__(self) -> str:
        centred = f"(x - {self.mean:g})" if self.mean else "x"
        return f"{self.order}, {centred} / {self.deviation:g}"


MAGFACE = Preprocessing("BGR", 0.0, 255.0)
"""0..1, of the official MagFace."""
ARCFACE = Preprocessing("RGB", 127.5, 127.5)
"""-1..1, of arcface_torch."""
ADAFACE = Preprocessing("BGR", 127.5, 127.5)
"""-1..1 with the channels reversed, of the official AdaFace."""
