"""CosFace: a margin that is taken off the cosine.

Source: Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu, "CosFace: Large Margin Cosine Loss for Deep Face Recognition",
CVPR 2018, arXiv:1801.09414; the same margin is AM-Softmax, arXiv:1801.05599.
"""

from __future__ import annotations

from torch import Tensor

from magface.losses.margin import Margin, require


class CosFace(Margin):
    """The additive cosine margin.

    Equation: CosFace (psi(theta_y) = cos(theta_y) - m).

    Args:
        m: margin, a difference of cosines, 0 to 1.
        s: scale of the logits, > 0.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> import torch
        >>> CosFace(0.25).target(torch.tensor([0.5]), torch.tensor([10.0]))
        tensor([0.2500])
    """

    def __init__(self, m: float = 0.35, s: float = 64.0) -> None:
        super().__init__(s)
        require(0 <= m <= 1, "the margin m", "0 to 1, a difference of cosines", m)
        self.m = m

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine to the own centre less the margin: `(B,)`, `(B,)` -> `(B,)`."""
        return cosine - self.m
