"""CR-FIQA: quality learned as how much nearer a face is to its own class centre than to the nearest other one.

No margin: it teaches the magnitude a number that the directions have already decided.

Source: Boutros, Fang, Klemt, Fu, Damer, "CR-FIQA: Face Image Quality Assessment by Learning Sample Relative
Classifiability", CVPR 2023, arXiv:2112.06592.

Shape letters: B faces of the batch.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from magface.losses.margin import precise, require


def certainty_ratio(own: Tensor, nearest: Tensor) -> Tensor:
    """How classifiable a face is beside the person it is most easily mistaken for.

    Equation: CR-FIQA (CR = CCS / (NNCCS + 1), CCS = cos_y, NNCCS = max_{j != y} cos_j, no less than 0).

    Args:
        own: `(B,)` float, cosines to the own class centres.
        nearest: `(B,)` float, cosines to the nearest other ones.

    Returns:
        `(B,)` in float32 or wider, -1 to 1.

    Differs from the paper: an epsilon of 1e-9 there keeps the divisor off 0 alone, so that a ratio can be a billion;
    here a nearest centre beyond 90 degrees counts as at 90. Among hundreds of people none is. Differs from the official
    code: that divides by NNCCS itself, which makes the ratio as great as one likes where strangers stand at right
    angles.

    Example:
        >>> import torch
        >>> certainty_ratio(torch.tensor([0.9, 0.9, 0.1]), torch.tensor([-1.0, 0.2, 0.6]))
        tensor([0.9000, 0.7500, 0.0625])
    """
    return precise(own) / (precise(nearest).clamp(min=0) + 1)


class CrFiqa(nn.Module):
    """The regression of the magnitude on the certainty ratio.

    Equation: CR-FIQA (L = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, d = a / unit - CR).

    Args:
        unit: magnitude of a face whose ratio is 1, > 0; near that of the network, learning begins near its end.
        beta: error from which on the loss grows no faster, > 0.

    Differs from the paper: there a linear layer of its own predicts the ratio, while the network learns who is who;
    here the magnitude is the prediction, so it is above 0, and a ratio below 0 is never reached.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> import torch
        >>> CrFiqa(unit=20)(torch.tensor([10.0, 18.0]), torch.tensor([0.5, 0.1]))
        tensor([0.0000, 0.5500])
    """

    def __init__(self, unit: float = 1.0, beta: float = 0.5) -> None:
        super().__init__()
        require(unit > 0, "the unit", "above 0", unit)
        require(beta > 0, "beta", "above 0", beta)
        self.unit, self.beta = unit, beta

    def forward(self, magnitude: Tensor, ratio: Tensor) -> Tensor:
        """Loss of each face: `(B,)` magnitudes, `(B,)` of `certainty_ratio` -> `(B,)`, >= 0."""
        return F.smooth_l1_loss(precise(magnitude) / self.unit, ratio.detach(), reduction="none", beta=self.beta)
