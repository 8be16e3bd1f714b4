"""The head that compares every face with every class centre, on one device.

Shape letters: B faces of the batch, C classes, D embedding size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magface.losses.margin import Margin


class HeadOutput(NamedTuple):
    """Loss of a batch and what a log needs to explain it.

    Attributes:
        loss: scalar, `identity + penalty`.
        identity: scalar, mean cross-entropy.
        penalty: scalar, mean penalty of the magnitudes.
        cosine: `(B,)` float32, to the own class centre, before the margin; detached.
        magnitude: `(B,)` float32, of the embeddings; detached.
    """

    loss: Tensor
    identity: Tensor
    penalty: Tensor
    cosine: Tensor
    magnitude: Tensor


def direction(x: Tensor) -> Tensor:
    """Unit vectors of raw embeddings, `(..., D)` -> `(..., D)`; below a length of 1e-6 they shrink towards zero.

    Example:
        >>> direction(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    return F.normalize(x, dim=-1, eps=1e-6)


class Full(nn.Module):
    """Class centres and a margin; works in float32 or wider, outside autocast.

    Args:
        num_classes: C, number of people.
        dim: D, embedding size.
        margin: the loss, see `Margin`.
        centres: `(C, D)` float, ready-made class centres of any length; random directions by default.
        frozen: do not train the centres.
        detach_direction: let only the magnitude carry a gradient to the embedding.

    Raises:
        ValueError: `centres` has another shape.

    Example:
        >>> head = Full(2, 2, Margin(s=1.0), centres=torch.eye(2), frozen=True)
        >>> out = head(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
        >>> out.cosine, out.magnitude
        (tensor([1.]), tensor([3.]))
        >>> out.loss
        tensor(0.3133)
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        margin: Margin,
        *,
        centres: Tensor | None = None,
        frozen: bool = False,
        detach_direction: bool = False,
    ) -> None:
        super().__init__()
        if centres is None:
            centres = torch.randn(num_classes, dim)
        if centres.shape != (num_classes, dim):
            raise ValueError(f"centres have shape {tuple(centres.shape)}; {(num_classes, dim)} is needed.")
        self.margin = margin
        self.detach_direction = detach_direction
        self.centres = nn.Parameter(direction(centres.detach().clone()), requires_grad=not frozen)

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """Loss of `(B, D)` raw embeddings whose people are `labels`, `(B,)` int64 within 0..C-1."""
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            magnitude = torch.linalg.vector_norm(x, dim=1)
            unit = direction(x.detach() if self.detach_direction else x)
            logits = F.linear(unit, direction(self.centres).to(unit.dtype))
            rows = torch.arange(len(labels), device=labels.device)
            cosine = logits[rows, labels]
            target = self.margin.target(cosine, magnitude)
            logits = self.margin.negatives(logits, target)
            logits[rows, labels] = target
            scale = self.margin.scale(magnitude)
            identity = ((scale[:, None] * logits).logsumexp(1) - scale * target).mean()
            penalty = self.margin.penalty(magnitude).mean()
        return HeadOutput(identity + penalty, identity, penalty, cosine.detach(), magnitude.detach())
