"""SphereFace: a margin that multiplies the angle.

Source: Liu, Wen, Yu, Li, Raj, Song, "SphereFace: Deep Hypersphere Embedding for Face Recognition", CVPR 2017,
arXiv:1704.08063.

Shape letters: B faces of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magface.losses.margin import Margin, clamp_cosine, require


def descend(angle: Tensor) -> Tensor:
    """The cosine up to pi, and beyond it what goes on falling, smoothly, instead of rising again.

    Equation: SphereFace ((-1)^k cos(phi) - 2k, k pi <= phi <= (k + 1) pi).

    Args:
        angle: `(B,)` float, phi >= 0, radians.

    Returns:
        `(B,)`, <= 1, continuous with its first derivative.

    Example:
        >>> descend(torch.pi * torch.tensor([0.0, 1.0, 2.0, 3.0]))
        tensor([ 1., -1., -3., -5.])
    """
    k = (angle.detach() / torch.pi).floor()
    return (1 - 2 * (k % 2)) * angle.cos() - 2 * k


class SphereFace(Margin):
    """The multiplicative angular margin, with class centres of length 1 and the magnitude as scale (A-Softmax).

    Equation: SphereFace (psi(theta_y) = (-1)^k cos(m theta_y) - 2k, k pi <= m theta_y <= (k + 1) pi).

    Args:
        m: factor of the angle, >= 1; the paper takes whole numbers, here any will do.

    Differs from the official code: that mixes psi with the plain cosine, (lambda cos + psi) / (1 + lambda), and
    lowers lambda from 1000 to 5 during training, since psi alone hardly starts from random weights; here psi is alone,
    as in the paper's formula. `SphereFaceR` starts from random weights.

    Raises:
        ValueError: m is below 1.

    Example:
        >>> margin = SphereFace(2)
        >>> margin.target(torch.tensor([0.5, -0.5]), torch.tensor([10.0, 20.0]))
        tensor([-0.5000, -1.5000])
        >>> margin.scale(torch.tensor([10.0, 20.0]))
        tensor([10., 20.])
    """

    def __init__(self, m: float = 4.0) -> None:
        super().__init__(s=1.0)
        require(m >= 1, "the factor m", "at least 1", m)
        self.m = m

    def scale(self, magnitude: Tensor) -> Tensor:
        """The magnitude itself: `(B,)` -> `(B,)`."""
        return magnitude

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Psi of the multiplied angle to the own centre: `(B,)`, `(B,)` -> `(B,)`."""
        return descend(self.m * clamp_cosine(cosine).acos())
