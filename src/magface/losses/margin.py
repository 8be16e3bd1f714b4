"""The functions of the target cosine and the magnitude that make up every margin loss.

Shape letters: B faces of the batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

EPSILON = 1e-7


class Margin(nn.Module):
    """The identity margin, a softmax over scaled cosines; a paper overrides what it changes.

    Equation: NormFace (L = -log(exp(s cos_y) / sum_j exp(s cos_j))).

    The head calls `target` once a step, with the batch of all ranks in the same order on each, so that statistics and
    draws agree; only there, and only while training, may a margin change its state. `negatives` works on each number by
    itself: it is called on any rows and columns, perhaps several times.

    Args:
        s: scale of the logits, > 0; typically 64.

    Attributes:
        unit_centres: whether class centres are compared by their direction alone; else `cosine` is everywhere the
            projection of a centre onto the direction of the face.
        reduction: "softmax", one choice among all classes; "binary", a yes or no for each class, the sum of
            `weights[0] softplus(-(scale target + offset))` and `weights[1] softplus(scale negative + offset)`.
        weights: of the own class and of each other one, for "binary".

    Example:
        >>> margin = Margin(s=32.0)
        >>> margin.scale(torch.tensor([10.0, 20.0]))
        tensor([32., 32.])
        >>> margin.target(torch.tensor([0.5]), torch.tensor([10.0]))
        tensor([0.5000])
    """

    unit_centres: ClassVar[bool] = True
    reduction: ClassVar[Literal["softmax", "binary"]] = "softmax"
    weights: tuple[float, float] = (1.0, 1.0)

    def __init__(self, s: float = 64.0) -> None:
        super().__init__()
        if not s > 0:
            raise ValueError(f"the scale s must be positive, not {s}.")
        self.s = s

    def scale(self, magnitude: Tensor) -> Tensor:
        """Factor of each row of logits: `(B,)` magnitudes -> `(B,)`."""
        return torch.full_like(magnitude, self.s)

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Psi, the target cosine with its margin: `(B,)` cosines and `(B,)` magnitudes -> `(B,)`."""
        return cosine

    def negatives(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Cosines of the other classes: `(B, C)` cosines and `(B,)` from `target`, as a constant -> `(B, C)`."""
        return cosine

    def offset(self) -> Tensor | None:
        """Scalar that is added to every scaled logit, or None; a softmax would not notice it."""
        return None

    def penalty(self, magnitude: Tensor) -> Tensor:
        """What is added to the loss of each face: `(B,)` magnitudes -> `(B,)`."""
        return torch.zeros_like(magnitude)


def clamp_cosine(cosine: Tensor) -> Tensor:
    """Keep a cosine `EPSILON` away from -1 and 1, where the sine has no finite gradient.

    Example:
        >>> bool(clamp_cosine(torch.tensor(1.0)) < 1)
        True
    """
    return cosine.clamp(-1 + EPSILON, 1 - EPSILON)
