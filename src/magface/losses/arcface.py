"""ArcFace: a margin that is added to the angle.

Source: Deng, Guo, Yang, Xue, Kotsia, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition",
CVPR 2019, arXiv:1801.07698.

Shape letters: B faces of the batch.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from magface.losses.margin import Gradient, Margin, clamp_cosine, require, straight_through

Beyond = Literal["line", "cosine"]


def widen(cosine: Tensor, m: Tensor, *, easy_margin: bool = False, beyond: Beyond = "line") -> Tensor:
    """Cosine of an angle that a margin widens.

    Equation: ArcFace (cos(theta + m) = cos(theta) cos(m) - sin(theta) sin(m)).

    Args:
        cosine: `(B,)` float, cosines of theta.
        m: `(B,)` or scalar tensor, margins in radians, 0 to pi.
        easy_margin: leave angles beyond 90 degrees as they are; `beyond` then does not matter up to m = pi/2.
        beyond: what follows where theta + m > pi: "line", cos(theta) - m sin(m), which goes on falling as the angle
            grows; "cosine", the bare formula, which rises again.

    Returns:
        `(B,)` in float32 or wider; gradients are finite everywhere.

    Example:
        >>> widen(torch.tensor([0.0, 0.8]), torch.tensor(torch.pi / 6))
        tensor([-0.5000,  0.3928])
    """
    cosine = clamp_cosine(cosine)
    sine = ((1 - cosine) * (1 + cosine)).sqrt()
    widened = cosine * m.cos() - sine * m.sin()
    if easy_margin:
        return torch.where(cosine > 0, widened, cosine)
    if beyond == "cosine":
        return widened
    return torch.where(cosine > -m.cos(), widened, cosine - m * m.sin())


class ArcFace(Margin):
    """The additive angular margin.

    Equation: ArcFace (psi(theta_y) = cos(theta_y + m)).

    Args:
        m: margin, radians, 0 to pi/2.
        s: scale of the logits, > 0.
        easy_margin: leave faces beyond 90 degrees from their centre without a margin.
        beyond: what faces with theta + m > pi get, see `widen`.
        gradient: "exact", or "straight_through" for that of a margin that is added outside automatic differentiation.

    Differs from the official code: arcface_torch has the straight-through gradient and the bare cosine beyond pi, and
    its first form in MXNet the exact gradient and the line; gradients of a face on its class centre are finite here,
    since the cosine stays 1e-7 away from -1 and 1.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> ArcFace().target(torch.tensor([0.9, -0.9]), torch.tensor([10.0, 10.0]))
        tensor([ 0.5808, -1.1397])
    """

    def __init__(
        self,
        m: float = 0.5,
        s: float = 64.0,
        *,
        easy_margin: bool = False,
        beyond: Beyond = "line",
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__(s)
        require(0 <= m <= torch.pi / 2, "the margin m", "0 to pi/2 (radians)", m)
        require(beyond in get_args(Beyond), "beyond", "'line' or 'cosine'", beyond)
        require(gradient in get_args(Gradient), "gradient", "'exact' or 'straight_through'", gradient)
        self.m, self.easy_margin, self.beyond, self.gradient = m, easy_margin, beyond, gradient

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine of the angle to the own centre, widened by the margin: `(B,)`, `(B,)` -> `(B,)`."""
        m = torch.tensor(self.m, dtype=torch.float64)
        psi = widen(cosine, m, easy_margin=self.easy_margin, beyond=self.beyond)
        return psi if self.gradient == "exact" else straight_through(psi, cosine)
