"""The combined margin: SphereFace's, ArcFace's and CosFace's at once.

Source: Deng, Guo, Yang, Xue, Kotsia, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition",
CVPR 2019, arXiv:1801.07698, equation 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magface.losses.margin import Margin, clamp_cosine, require
from magface.losses.sphereface import descend


class Combined(Margin):
    """An angle multiplied by m1 and widened by m2, and a cosine lowered by m3.

    Equation: ArcFace (psi(theta_y) = cos(m1 theta_y + m2) - m3).

    Where m1 theta + m2 exceeds pi, psi goes on falling as SphereFace's does. The paper's CM1 is (1, 0.3, 0.2), its CM2
    is (0.9, 0.4, 0.15).

    Args:
        m1: factor of the angle, > 0; below 1 it helps faces far from their centre.
        m2: margin, radians, 0 to pi/2.
        m3: margin, a difference of cosines, 0 to 1.
        s: scale of the logits, > 0.

    Differs from the official code: that of arcface_torch combines nothing; with m3 > 0 it is CosFace, otherwise ArcFace
    if m1 = 1, and if not it stops.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> Combined().target(torch.tensor([0.9]), torch.tensor([10.0]))
        tensor([0.5310])
    """

    def __init__(self, m1: float = 1.0, m2: float = 0.3, m3: float = 0.2, s: float = 64.0) -> None:
        super().__init__(s)
        require(m1 > 0, "the factor m1", "above 0", m1)
        require(0 <= m2 <= torch.pi / 2, "the margin m2", "0 to pi/2 (radians)", m2)
        require(0 <= m3 <= 1, "the margin m3", "0 to 1, a difference of cosines", m3)
        self.m1, self.m2, self.m3 = m1, m2, m3

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Psi of the angle to the own centre: `(B,)`, `(B,)` -> `(B,)`."""
        return descend(self.m1 * clamp_cosine(cosine).acos() + self.m2) - self.m3
