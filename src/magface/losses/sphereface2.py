"""SphereFace2: a yes or no for each class instead of one choice among all.

Source: Wen, Liu, Weller, Raj, Singh, "SphereFace2: Binary Classification is All You Need for Deep Face Recognition",
ICLR 2022, arXiv:2108.01513; the form with an additive cosine margin (SphereFace2-C).

Shape letters: B faces of the batch, C classes.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from magface.losses.margin import Gradient, Margin, clamp_cosine, require, straight_through


def initial_offset(num_classes: int, m: float = 0.4, r: float = 40.0, t: float = 3.0, balance: float = 0.7) -> float:
    """Offset b at which faces at right angles to all centres pull it neither up nor down.

    Equation: SphereFace2 (dL/db = 0 at cos = 0: lambda / (1 + exp(p + b)) = (1 - lambda) (C - 1) / (1 + exp(-n - b)),
    p = r (g(0) - m), n = r (g(0) + m)).

    Args:
        num_classes: C, >= 2.
        m: margin.
        r: scale of the logits.
        t: exponent of g.
        balance: lambda.

    Example:
        >>> round(initial_offset(85742), 3)
        3.488
    """
    g = 2 * 0.5**t - 1
    p, n = r * (g - m), r * (g + m)
    z = balance / ((1 - balance) * (num_classes - 1))
    root = math.sqrt((1 - z) ** 2 + 4 * z * math.exp(p - n))
    if z < 1:  # two forms of one root of a quadratic in exp(b): neither subtracts numbers that are nearly equal
        return math.log(2 * z) - n - math.log(1 - z + root)
    return math.log(z - 1 + root) - math.log(2) - p


class SphereFace2(Margin):
    """The binary losses of all classes, added up.

    Equation: SphereFace2 (L = w lambda / r log(1 + exp(-r (g(cos_y) - m) - b))
    + w (1 - lambda) / r sum_j log(1 + exp(r (g(cos_j) + m) + b))).

    Args:
        num_classes: C, >= 2; decides where the offset b starts.
        m: margin, a difference of similarities, 0 to 1.
        r: scale of the logits, > 0.
        t: exponent of g, >= 1.
        balance: lambda, weight of the own class against all others, between 0 and 1.
        lw: w, weight of the whole loss, > 0; 50 as by the authors, 1 in the paper's formula.
        gradient: "exact", or "straight_through" for that of g(z) = z.

    Attributes:
        b: scalar float parameter, the offset.

    Differs from the official code: that has the straight-through gradient.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> loss = SphereFace2(1000)
        >>> loss.target(torch.tensor([1.0]), torch.tensor([10.0]))
        tensor([0.6000])
        >>> loss.negatives(torch.tensor([[0.0]]), torch.tensor([0.6]))
        tensor([[-0.3500]])
    """

    reduction: ClassVar[Literal["softmax", "binary"]] = "binary"

    def __init__(
        self,
        num_classes: int,
        m: float = 0.4,
        r: float = 40.0,
        t: float = 3.0,
        balance: float = 0.7,
        lw: float = 50.0,
        *,
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__(r)
        require(num_classes >= 2, "num_classes", "at least 2", num_classes)
        require(0 <= m <= 1, "the margin m", "0 to 1, a difference of similarities", m)
        require(t >= 1, "the exponent t", "at least 1", t)
        require(0 < balance < 1, "balance", "above 0 and below 1", balance)
        require(lw > 0, "lw", "above 0", lw)
        require(gradient in get_args(Gradient), "gradient", "'exact' or 'straight_through'", gradient)
        self.m, self.t, self.gradient = m, t, gradient
        self.weights = (lw * balance / r, lw * (1 - balance) / r)
        self.b = nn.Parameter(torch.tensor(initial_offset(num_classes, m, r, t, balance)))

    def similarity(self, cosine: Tensor) -> Tensor:
        """Cosine stretched where it is large: float of any shape, -1 to 1 -> the same.

        Equation: SphereFace2 (g(z) = 2 ((z + 1) / 2)^t - 1).
        """
        g = 2 * ((clamp_cosine(cosine) + 1) / 2) ** self.t - 1
        return g if self.gradient == "exact" else straight_through(g, cosine)

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Similarity to the own centre less the margin: `(B,)`, `(B,)` -> `(B,)`."""
        return self.similarity(cosine) - self.m

    def negatives(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Similarities to the other centres plus the margin: `(B, C)`, `(B,)` -> `(B, C)`."""
        return self.similarity(cosine) + self.m

    def offset(self) -> Tensor:
        """The offset b, a scalar."""
        return self.b
