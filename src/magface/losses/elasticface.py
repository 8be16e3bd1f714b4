"""ElasticFace: a margin drawn anew for every face.

Source: Boutros, Damer, Kirchbuchner, Kuijper, "ElasticFace: Elastic Margin Loss for Deep Face Recognition",
CVPR Workshops 2022, arXiv:2109.09416.

Shape letters: B faces of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magface.losses.arcface import widen
from magface.losses.margin import Margin, clamp_cosine, precise, require


class ElasticFace(Margin):
    """What the angular and the cosine form share: margins from a normal distribution.

    They come from a generator of their own, so that ranks with the same seed draw the same margins for the same batch,
    whatever else they draw; its state is part of the `state_dict`. In evaluation mode every margin is the mean.

    Args:
        m: mean of the margins, 0 to `greatest`.
        sigma: their standard deviation, >= 0.
        s: scale of the logits, > 0.
        plus: hand the greatest of the drawn margins to the face farthest from its centre, and so on down.
        seed: of the generator, the same on every rank.
        greatest: bound of the mean, in the unit of the margin.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, m: float, sigma: float, s: float, plus: bool, seed: int, greatest: float) -> None:
        super().__init__(s)
        require(0 <= m <= greatest, "the mean margin m", f"0 to {greatest:.3g}", m)
        require(sigma >= 0, "the deviation sigma", "at least 0", sigma)
        self.m, self.sigma, self.plus = m, sigma, plus
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, cosine: Tensor) -> Tensor:
        """Margins for faces with the cosines `(B,)`: `(B,)`, at least 0.

        Equation: ElasticFace (m_i ~ N(m, sigma); +: ordered as theta_y).
        """
        if not self.training:
            return torch.full_like(cosine, self.m)
        normal = torch.randn(len(cosine), generator=self.generator, dtype=torch.float64)
        margins = (self.m + self.sigma * normal).clamp(0, torch.pi).to(cosine)
        if not self.plus:
            return margins
        nearest_first = cosine.detach().argsort(descending=True, stable=True)
        return torch.empty_like(margins).scatter_(0, nearest_first, margins.sort().values)

    def get_extra_state(self) -> Tensor:
        """State of the generator, uint8, on the CPU."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Let the generator go on from a state of `get_extra_state`, on whichever device it was loaded."""
        self.generator.set_state(state.cpu())


class ElasticArc(ElasticFace):
    """The elastic angular margin.

    Equation: ElasticFace-Arc (psi(theta_y) = cos(theta_y + m_i)).

    Args:
        m: mean of the margins, radians, 0 to pi/2.
        sigma: their standard deviation, radians, >= 0; by default the paper's 0.05, and 0.0175 with `plus`.
        s: scale of the logits, > 0.
        plus: see `ElasticFace`.
        seed: of the generator, the same on every rank.

    Differs from the official code: that draws from torch's common generator, allows negative margins and those for
    which theta + m exceeds pi; here they are held within 0 to pi, and such a face gets ArcFace's line.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> loss = ElasticArc().eval()
        >>> loss.target(torch.tensor([0.9]), torch.tensor([10.0]))
        tensor([0.5808])
    """

    def __init__(
        self, m: float = 0.5, sigma: float | None = None, s: float = 64.0, *, plus: bool = False, seed: int = 0
    ) -> None:
        super().__init__(m, (0.0175 if plus else 0.05) if sigma is None else sigma, s, plus, seed, torch.pi / 2)

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine of the angle to the own centre, widened by drawn margins: `(B,)`, `(B,)` -> `(B,)`."""
        cosine = clamp_cosine(cosine)
        return widen(cosine, self.draw(cosine))


class ElasticCos(ElasticFace):
    """The elastic cosine margin.

    Equation: ElasticFace-Cos (psi(theta_y) = cos(theta_y) - m_i).

    Args:
        m: mean of the margins, a difference of cosines, 0 to 1.
        sigma: their standard deviation, >= 0; by default the paper's 0.05, and 0.02 with `plus`.
        s: scale of the logits, > 0.
        plus: see `ElasticFace`.
        seed: of the generator, the same on every rank.

    Differs from the official code: that draws from torch's common generator and allows negative margins; here they are
    at least 0.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> loss = ElasticCos().eval()
        >>> loss.target(torch.tensor([0.9]), torch.tensor([10.0]))
        tensor([0.5500])
    """

    def __init__(
        self, m: float = 0.35, sigma: float | None = None, s: float = 64.0, *, plus: bool = False, seed: int = 0
    ) -> None:
        super().__init__(m, (0.02 if plus else 0.05) if sigma is None else sigma, s, plus, seed, 1.0)

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine to the own centre less drawn margins: `(B,)`, `(B,)` -> `(B,)`."""
        cosine = precise(cosine)
        return cosine - self.draw(cosine)
