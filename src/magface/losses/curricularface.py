"""CurricularFace: hard negatives that count little at first and more as training goes on.

Source: Huang, Wang, Tai, Liu, Shen, Li, Li, Huang, "CurricularFace: Adaptive Curriculum Learning Loss for Deep Face
Recognition", CVPR 2020, arXiv:2004.00288.

Shape letters: B faces of the batch, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magface.losses.arcface import widen
from magface.losses.margin import Margin, precise, require


class CurricularFace(Margin):
    """ArcFace's margin, and negatives re-weighted by how far training has come.

    Equation: CurricularFace (psi(theta_y) = cos(theta_y + m)).

    While training, `target` first moves t towards the mean target cosine of the batch it is given, which is that of all
    ranks; in evaluation mode t stands still.

    Args:
        m: margin, radians, 0 to pi/2.
        s: scale of the logits, > 0.
        alpha: share of a new batch in t, above 0 and up to 1; the paper writes it as a momentum of 0.99.

    Attributes:
        t: scalar float buffer, running mean of the target cosine; 0 at first.

    Differs from the official code: a negative is hard when it exceeds psi, also beyond theta + m = pi, where psi is the
    line cos(theta) - m sin(m) and the code compares with cos(theta + m) nevertheless; gradients of a face on its class
    centre are finite here.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> loss = CurricularFace()
        >>> target = loss.target(torch.tensor([0.8]), torch.tensor([10.0]))
        >>> loss.t
        tensor(0.0080)
        >>> loss.negatives(torch.tensor([[0.1, 0.5]]), target)
        tensor([[0.1000, 0.2540]])
    """

    t: Tensor

    def __init__(self, m: float = 0.5, s: float = 64.0, alpha: float = 0.01) -> None:
        super().__init__(s)
        require(0 <= m <= torch.pi / 2, "the margin m", "0 to pi/2 (radians)", m)
        require(0 < alpha <= 1, "alpha", "above 0 and up to 1", alpha)
        self.m, self.alpha = m, alpha
        self.register_buffer("t", torch.tensor(0.0))

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine of the angle to the own centre, widened by the margin: `(B,)`, `(B,)` -> `(B,)`."""
        if self.training:
            self.t.lerp_(precise(cosine.detach()).mean().to(self.t.dtype), self.alpha)
        return widen(cosine, torch.tensor(self.m, dtype=torch.float64))

    def negatives(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Cosines of the other classes, those above the target re-weighted: `(B, C)`, `(B,)` -> `(B, C)`.

        Equation: CurricularFace (N(t, cos_j) = cos_j if cos_j <= psi(theta_y), else cos_j (t + cos_j)).
        """
        return torch.where(cosine > target[:, None], cosine * (self.t + cosine), cosine)
