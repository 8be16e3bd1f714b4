"""The head that holds every class centre.

Shape letters: B faces of all ranks, b faces of this rank, C classes, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magface.heads.cross_entropy import SHORTEST, cosines, identity, others
from magface.heads.distributed import Rows, shared
from magface.losses.margin import Margin


class HeadOutput(NamedTuple):
    """Loss of a batch and what a log needs to explain it.

    Attributes:
        loss: scalar, `identity + penalty`; of all ranks.
        identity: scalar, mean cross-entropy; of all ranks.
        penalty: scalar, mean penalty of the magnitudes; of all ranks.
        cosine: `(b,)` float32, to the own class centre, before the margin; detached.
        magnitude: `(b,)` float32, of the embeddings; detached.
        correct: `(b,)` bool, whether no other class centre that took part has a greater cosine.
    """

    loss: Tensor
    identity: Tensor
    penalty: Tensor
    cosine: Tensor
    magnitude: Tensor
    correct: Tensor


def direction(x: Tensor) -> Tensor:
    """Unit vectors of raw embeddings, `(..., D)` -> `(..., D)`; below a length of 1e-6 they shrink towards zero.

    Example:
        >>> direction(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    return F.normalize(x, dim=-1, eps=SHORTEST)


def summary(
    margin: Margin,
    cosine: Tensor,
    magnitude: Tensor,
    mine: slice,
    rest: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]],
) -> HeadOutput:
    """Loss of the faces of all ranks, the same on every rank.

    Args:
        margin: the loss.
        cosine: `(B,)` to the own class centres.
        magnitude: `(B,)`.
        mine: which faces are of this rank.
        rest: what `cross_entropy.others` gives, over all classes, for the target and the scale, `(B,)`, and the offset.
    """
    target, scale, offset = margin.target(cosine, magnitude), margin.scale(magnitude), margin.offset()
    offset = scale.new_zeros(()) if offset is None else offset.to(scale.dtype)
    others, best = rest(target, *shared(scale, offset))
    loss = identity(target, scale, offset, others, margin).mean()
    penalty = margin.penalty(magnitude).mean()
    own = cosine[mine].detach()
    return HeadOutput(loss + penalty, loss, penalty, own, magnitude[mine].detach(), own >= best[mine])


def first_centres(given: Tensor, num_classes: int, dim: int, margin: Margin, rows: slice = slice(None)) -> Tensor:
    """A copy of `rows` of ready-made centres `(C, D)`, as unit vectors where their length does not count.

    Raises:
        ValueError: they have another shape.
    """
    if given.shape != (num_classes, dim):
        raise ValueError(f"centres have shape {tuple(given.shape)}; {(num_classes, dim)} is needed.")
    wanted = given[rows].detach()
    return direction(wanted) if margin.unit_centres else wanted.clone()


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse labels that are no class.

    Raises:
        ValueError: one is outside 0..C-1.
    """
    if len(labels) and (wrong := labels[(labels < 0) | (labels >= num_classes)]).numel():
        raise ValueError(
            f"label {wrong[0].item()} is no class; the head has {num_classes} classes, 0 to {num_classes - 1}."
        )


class Full(nn.Module):
    """Class centres and a margin; works in float32 or wider, outside autocast.

    On several ranks each holds all the centres and compares its own faces with them, after three collectives forward
    and none backward (one, where the margin's scale or offset has a gradient). The loss is the mean over the faces of
    all ranks. After `backward` on every rank, the gradient of the embeddings and of the margin's parameters is exact;
    that of the centres is what the faces of this rank add to it, to be summed over the ranks like that of a backbone.

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
        self.margin = margin
        self.detach_direction = detach_direction
        first = first_centres(torch.randn(num_classes, dim) if centres is None else centres, num_classes, dim, margin)
        self.centres = nn.Parameter(first, requires_grad=not frozen)

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """Loss of `(b, D)` raw embeddings whose people are `labels`, `(b,)` int64 within 0..C-1.

        The gradient is written over the logits, so that the loss has one backward pass.

        Raises:
            ValueError: a label is outside 0..C-1, or no rank has a face.
        """
        check_labels(labels, len(self.centres))
        rows, margin = Rows.of(len(labels), embeddings.device), self.margin
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            unit = direction(x.detach() if self.detach_direction else x)
            matrix, own = cosines(unit, self.centres.to(unit.dtype), labels, margin)
            cosine, magnitude = rows.gather(own, torch.linalg.vector_norm(x, dim=1))

            def rest(target: Tensor, scale: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
                own = others(matrix, target[rows.mine], scale[rows.mine], offset, labels, margin)
                return rows.gather(*own)

            return summary(margin, cosine, magnitude, rows.mine, rest)
