"""AdaFace: a margin whose kind follows the magnitude among those of the batch.

Source: Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022, arXiv:2204.00964.

Shape letters: B faces of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magface.losses.margin import Margin, clamp_cosine, precise, require


class AdaFace(Margin):
    """The quality-adaptive margin: it stresses hard faces where the magnitude is large, easy ones where it is small.

    Equation: AdaFace (psi(theta_y) = cos(theta_y - m z) - (m + m z)).

    While training, `target` first moves the statistics towards those of the batch it is given, which are those of all
    ranks; in evaluation mode they stand still. The magnitude is a constant here, so no gradient flows into it.

    Args:
        m: margin, 0 to pi/2, in radians where it turns and in cosines where it lowers.
        h: how much of the distribution of magnitudes lies between the extremes of the margin, > 0.
        s: scale of the logits, > 0.
        t_alpha: share of a new batch in the statistics, above 0 and up to 1.

    Attributes:
        mu: scalar float buffer, running mean of the magnitudes; 20 at first.
        sigma: scalar float buffer, running standard deviation of the magnitudes; 100 at first.

    Differs from the official code: that takes the statistics from the batch of one rank, keeps the cosine 1e-3 away
    from -1 and 1 and the angle with its margin 1e-3 away from 0 and pi; here it is 1e-7 for the cosine, and the angle
    lies within 0 to pi. A batch of one face has no deviation: it leaves the statistics as they are, there it makes them
    NaN. There t_alpha is 1 unless set; 0.01 is the paper's.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> loss = AdaFace().eval()
        >>> loss.target(torch.tensor([0.9, 0.9]), torch.tensor([20.0, 60.0]))
        tensor([0.5000, 0.4687])
    """

    mu: Tensor
    sigma: Tensor

    def __init__(self, m: float = 0.4, h: float = 0.333, s: float = 64.0, t_alpha: float = 0.01) -> None:
        super().__init__(s)
        require(0 <= m <= torch.pi / 2, "the margin m", "0 to pi/2", m)
        require(h > 0, "the concentration h", "above 0", h)
        require(0 < t_alpha <= 1, "t_alpha", "above 0 and up to 1", t_alpha)
        self.m, self.h, self.t_alpha = m, h, t_alpha
        self.register_buffer("mu", torch.tensor(20.0))
        self.register_buffer("sigma", torch.tensor(100.0))

    def quality(self, magnitude: Tensor) -> Tensor:
        """Place of each magnitude in the distribution of magnitudes.

        Equation: AdaFace (z = clip((||f|| - mu) / (sigma / h), -1, 1)).

        Args:
            magnitude: `(B,)` float, >= 0; clamped to [0.001, 100], as by the authors.

        Returns:
            `(B,)`, -1 to 1, detached.
        """
        n = precise(magnitude.detach()).clamp(1e-3, 100)
        return (self.h * (n - self.mu) / (self.sigma + 1e-3)).clamp(-1, 1)

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine to the own centre with turned angle and additive margin: `(B,)`, `(B,)` -> `(B,)`."""
        if self.training and len(magnitude) > 1:
            self._observe(magnitude.detach())
        z = self.quality(magnitude)
        angle = (clamp_cosine(cosine).acos() - self.m * z).clamp(0, torch.pi)
        return angle.cos() - self.m * (1 + z)

    def _observe(self, magnitude: Tensor) -> None:
        n = precise(magnitude).clamp(1e-3, 100)
        self.mu.lerp_(n.mean().to(self.mu.dtype), self.t_alpha)
        self.sigma.lerp_(n.std().to(self.sigma.dtype), self.t_alpha)
