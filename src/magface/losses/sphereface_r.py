"""SphereFace-R: the multiplicative margin with a fixed scale and a gradient that trains.

Source: Liu, Wen, Raj, Singh, Weller, "SphereFace Revived: Unifying Hyperspherical Face Recognition", TPAMI 2022,
arXiv:2109.05565; the form with hard feature normalisation.

Shape letters: B faces of the batch, C classes.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from magface.losses.margin import Gradient, Margin, clamp_cosine, require, straight_through
from magface.losses.sphereface import descend

Form = Literal["v0", "v1", "v2"]


class SphereFaceR(Margin):
    """The multiplicative angular margin under characteristic gradient detachment.

    Equation: SphereFace-R (v0: psi(theta_y) = (-1)^k cos(m theta_y) - 2k; v1: psi(theta_y) = cos(min(m theta_y, pi));
    v2: cos_j = cos(theta_j / m), j != y; the gradient is that of cos).

    Args:
        m: factor of the angle, >= 1.
        s: scale of the logits, > 0, whatever the magnitude.
        form: "v0", the psi of SphereFace; "v1", one that stops at pi; "v2", which narrows the angles to the other
            centres instead of widening that to the own.
        gradient: "straight_through", the paper's, or "exact".

    Differs from the official code: its default m is 1.5, it multiplies the loss by 50 / s, and it has forms whose scale
    is the magnitude (see `SphereFace`).

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> SphereFaceR(2.0).target(torch.tensor([0.5, -0.5]), torch.tensor([10.0, 20.0]))
        tensor([-0.5000, -1.5000])
        >>> SphereFaceR(2.0, form="v2").negatives(torch.tensor([[-0.5]]), torch.tensor([0.9]))
        tensor([[0.5000]])
    """

    def __init__(
        self, m: float = 1.7, s: float = 30.0, *, form: Form = "v0", gradient: Gradient = "straight_through"
    ) -> None:
        super().__init__(s)
        require(m >= 1, "the factor m", "at least 1", m)
        require(form in get_args(Form), "form", "'v0', 'v1' or 'v2'", form)
        require(gradient in get_args(Gradient), "gradient", "'exact' or 'straight_through'", gradient)
        self.m, self.form, self.gradient = m, form, gradient

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Psi of the multiplied angle to the own centre: `(B,)`, `(B,)` -> `(B,)`."""
        if self.form == "v2":
            return cosine
        angle = self.m * clamp_cosine(cosine).acos()
        psi = descend(angle) if self.form == "v0" else angle.clamp(max=torch.pi).cos()
        return self._passed(psi, cosine)

    def negatives(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Cosines of the other classes, in form v2 of narrowed angles: `(B, C)`, `(B,)` -> `(B, C)`."""
        if self.form != "v2":
            return cosine
        return self._passed((clamp_cosine(cosine).acos() / self.m).cos(), cosine)

    def _passed(self, value: Tensor, cosine: Tensor) -> Tensor:
        return value if self.gradient == "exact" else straight_through(value, cosine)
