"""The functions of the target cosine and the magnitude that make up every margin loss.

Shape letters: B faces of the batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

EPSILON = 1e-7
Gradient = Literal["exact", "straight_through"]


class Margin(nn.Module):
    """The identity margin, a softmax over scaled cosines; a paper overrides what it changes.

    Equation: NormFace (L = -log(exp(s cos_y) / sum_j exp(s cos_j))).

    Source: Wang, Xiang, Cheng, Yuille, "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017,
    arXiv:1704.06369. Differs from the official code: s is fixed, not learned.

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
        require(s > 0, "the scale s", "positive", s)
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


def require(holds: bool, name: str, allowed: str, value: object) -> None:
    """Refuse an option of a loss, naming what it may be.

    Raises:
        ValueError: `holds` is false.

    Example:
        >>> require(-1 >= 0, "m", "0 to 1", -1)
        Traceback (most recent call last):
        ValueError: m must be 0 to 1, not -1.
    """
    if not holds:
        raise ValueError(f"{name} must be {allowed}, not {value!r}.")


def precise(x: Tensor) -> Tensor:
    """A tensor in float32, or in float64 if it has that: half precision is too coarse near a cosine of 1.

    Example:
        >>> precise(torch.ones(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def clamp_cosine(cosine: Tensor) -> Tensor:
    """Keep a cosine `EPSILON` away from -1 and 1, where the sine has no finite gradient; float32 or wider comes back.

    Example:
        >>> bool(clamp_cosine(torch.tensor(1.0)) < 1)
        True
    """
    return precise(cosine).clamp(-1 + EPSILON, 1 - EPSILON)


def straight_through(value: Tensor, cosine: Tensor) -> Tensor:
    """`value` whose gradient is passed on to `cosine` as it is: characteristic gradient detachment.

    Example:
        >>> cosine = torch.tensor([0.5], requires_grad=True)
        >>> psi = straight_through(cosine**3, cosine)
        >>> psi.sum().backward()
        >>> psi.detach(), cosine.grad
        (tensor([0.1250]), tensor([1.]))
    """
    return cosine + (value - cosine).detach()
