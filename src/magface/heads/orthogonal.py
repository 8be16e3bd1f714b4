"""The head that compares a face with its own class centre, among others that stand at right angles to it.

Directions of different people are nearly orthogonal in many dimensions. With the others at exactly right angles the
loss depends on nothing but the angle to the own centre and the magnitude, as in the paper's proof that each angle has
one best magnitude. When only the magnitude trains, that spares it the chance of which strangers happen to be near.

Shape letters: B faces of the batch, C classes, D embedding size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magface.heads.full import HeadOutput, direction
from magface.losses.margin import Margin


class Orthogonal(nn.Module):
    """Own centres, given with each batch, and a margin; works in float32 or wider, outside autocast.

    Equation: MagFace (L = log(1 + (C - 1) exp(-s psi(theta_y))) + lambda_g g(a), for cos_j = 0).

    Args:
        num_classes: C, >= 2.
        margin: the loss, see `Margin`.

    Raises:
        ValueError: there are fewer than two classes.

    Example:
        >>> head = Orthogonal(2, Margin(s=1.0))
        >>> out = head(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        >>> out.loss
        tensor(0.3133)
    """

    def __init__(self, num_classes: int, margin: Margin) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a softmax needs at least two classes, not {num_classes}.")
        self.margin = margin
        self.log_others = math.log(num_classes - 1)

    def forward(self, embeddings: Tensor, centres: Tensor) -> HeadOutput:
        """Loss of `(B, D)` raw embeddings beside `(B, D)` unit vectors, each the centre of the face's person."""
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            magnitude = torch.linalg.vector_norm(x, dim=1)
            cosine = (direction(x) * centres.to(x.dtype)).sum(1)
            target = self.margin.target(cosine, magnitude)
            identity = -F.logsigmoid(self.margin.scale(magnitude) * target - self.log_others).mean()
            penalty = self.margin.penalty(magnitude).mean()
        return HeadOutput(
            identity + penalty, identity, penalty, cosine.detach(), magnitude.detach(), cosine.detach() > 0
        )
