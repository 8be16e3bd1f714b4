"""A margin loss over a matrix of cosines that is in memory once: its gradient takes its place.

The own class of a face is taken out of the matrix. What remains of the other classes is one number a face, the log of
their summed exponentials (softmax) or the sum of their penalties (binary). The margin, the scale and the loss then work
on numbers a face, and ranks that hold different classes exchange nothing else.

Shape letters: B faces, C class centres, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from magface.losses.margin import Margin

SHORTEST = 1e-6
"""Length below which a vector has no direction: its unit vector shrinks towards zero."""

CHUNK = {"cpu": 1 << 20, "cuda": 1 << 23}
"""Numbers of the matrix that are worked on at a time, but at least one row, by device: little enough for a cache, or
enough to keep a card busy. What is needed beside the matrix is a few times as much."""


def cosines(unit: Tensor, centres: Tensor, own: Tensor, margin: Margin) -> tuple[Tensor, Tensor]:
    """Cosine of every face with every centre here.

    Args:
        unit: `(B, D)` float32 or float64, unit vectors.
        centres: `(C, D)`, same dtype, of any length; C >= 1.
        own: `(B,)` int64, row of the face's own centre, or -1 where it is not here.
        margin: says whether the length of a centre counts.

    Returns:
        `(B, C)`, for `others` alone, which overwrites it; and `(B,)` cosines with the own centres, 0 where not here.

    Example:
        >>> cosines(torch.eye(2), torch.tensor([[3.0, 4.0]]), torch.tensor([-1, 0]), Margin())
        (tensor([[0.6000],
            [0.8000]]), tensor([0.0000, 0.8000]))
    """
    return _Cosines.apply(unit, centres, own, margin.unit_centres)


def others(
    cosine: Tensor, target: Tensor, scale: Tensor, offset: Tensor, own: Tensor, margin: Margin
) -> tuple[Tensor, Tensor]:
    """What the other classes add to the loss of each face, and the greatest cosine among them.

    The backward pass writes the gradient over `cosine`, so there can be one alone.

    Args:
        cosine: `(B, C)` of `cosines`.
        target: `(B,)`, of the margin, a constant here.
        scale: `(B,)`, of the margin.
        offset: scalar, of the margin; only a binary loss adds it.
        own: `(B,)` int64, as for `cosines`.
        margin: says what becomes of a cosine, and how logits become a loss.

    Returns:
        `(B,)` log-sum-exp of the other logits, or the sum of their softplus for a binary loss; `(B,)` cosine, without
        a gradient. With no other class here, the first adds nothing and the second is below -1.

    Raises:
        RuntimeError: in the backward pass, when it is the second one, is to be differentiated itself, or comes after
            the margin has seen another batch.

    Example:
        >>> cosine, none = torch.tensor([[0.5, 0.25]]), torch.tensor([-1])
        >>> others(cosine, torch.zeros(1), torch.ones(1), torch.zeros(()), none, Margin())
        (tensor([1.0759]), tensor([0.5000]))
    """
    return _Others.apply(cosine, target.detach(), scale, offset, own, margin)


def combine(parts: Tensor, margin: Margin) -> Tensor:
    """The first result of `others` for all classes, `(W, B)` from that for each of W parts -> `(B,)`."""
    return parts.logsumexp(0) if margin.reduction == "softmax" else parts.sum(0)


def identity(target: Tensor, scale: Tensor, offset: Tensor, rest: Tensor, margin: Margin) -> Tensor:
    """Loss of each face from its own class and the others.

    Equation: margin softmax (L = log(1 + exp(log sum_{j != y} exp(s cos_j) - s psi))), or binary
    (L = w_y log(1 + exp(-(s psi + b))) + w_j sum_{j != y} log(1 + exp(s cos_j + b))).

    Args:
        target: `(B,)` psi, of the margin.
        scale: `(B,)`, of the margin.
        offset: scalar b, of the margin; only a binary loss adds it.
        rest: `(B,)`, the first result of `others`.
        margin: says which.

    Returns:
        `(B,)`, >= 0.

    Example:
        >>> identity(torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor(0.0), torch.tensor([0.0]), Margin())
        tensor([0.3133])
    """
    logit = scale * target
    if margin.reduction == "softmax":
        return -F.logsigmoid(logit - rest)
    return -margin.weights[0] * F.logsigmoid(logit + offset) + margin.weights[1] * rest


class _Cosines(Function):
    @staticmethod
    def forward(ctx: Any, unit: Tensor, centres: Tensor, own: Tensor, by_direction: bool) -> tuple[Tensor, Tensor]:
        cosine = unit @ centres.T
        length = torch.linalg.vector_norm(centres, dim=1) if by_direction else None
        if length is not None:
            cosine /= length.clamp(min=SHORTEST)
        ctx.save_for_backward(unit, centres, own, length)
        place, here = _place(own)
        return cosine, torch.where(here, cosine.gather(1, place), 0)[:, 0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_own: Tensor) -> tuple[Tensor | None, ...]:
        unit, centres, own, length = ctx.saved_tensors
        place, here = _place(own)
        to_unit = to_centres = None
        with torch.autocast(unit.device.type, enabled=False):
            gradient.scatter_add_(1, place, torch.where(here, of_own[:, None], 0))
            if length is not None:
                gradient /= length.clamp(min=SHORTEST)
            if ctx.needs_input_grad[0]:
                to_unit = gradient @ centres
            if ctx.needs_input_grad[1]:
                to_centres = gradient.T @ unit
                if length is not None:
                    _remove_radial(to_centres, centres, length)
        return to_unit, to_centres, None, None


class _Others(Function):
    @staticmethod
    def forward(
        ctx: Any, cosine: Tensor, target: Tensor, scale: Tensor, offset: Tensor, own: Tensor, margin: Margin
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cosine, target, scale, offset, own)
        ctx.margin, ctx.state, ctx.spent = margin, _state(margin), False
        rest, best = torch.empty_like(target), torch.empty_like(target)
        for rows in _chunks(cosine):
            rest[rows] = _rest(cosine[rows], target[rows], scale[rows], offset, own[rows], margin)
            best[rows] = _without(cosine[rows], own[rows]).amax(1)
        ctx.mark_non_differentiable(best)
        return rest, best

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.spent or torch.is_grad_enabled():
            raise RuntimeError(
                "the logits of this step were overwritten by their gradient, so it has one backward pass and no "
                "second derivative; call the head again for another."
            )
        if _state(ctx.margin) != ctx.state:
            raise RuntimeError(
                "the margin changed its state between the forward pass and the backward pass of a batch; call backward "
                "before the head sees the next batch."
            )
        cosine, target, scale, offset, own = ctx.saved_tensors
        needs_cosine, _, needs_scale, needs_offset, *_ = ctx.needs_input_grad
        ctx.spent = needs_cosine
        to_scale = torch.zeros_like(scale) if needs_scale else None
        to_offset = torch.zeros_like(offset) if needs_offset else None
        for rows in _chunks(cosine):
            with torch.enable_grad(), torch.autocast(cosine.device.type, enabled=False):
                c, s, b = (x.detach().requires_grad_() for x in (cosine[rows], scale[rows], offset))
                rest = _rest(c, target[rows], s, b, own[rows], ctx.margin)
            found = torch.autograd.grad(rest, (c, s, b), gradient[rows], materialize_grads=True)
            if needs_cosine:
                cosine[rows] = found[0]
            if to_scale is not None:
                to_scale[rows] = found[1]
            if to_offset is not None:
                to_offset += found[2]
        return cosine if needs_cosine else None, None, to_scale, to_offset, None, None


def _rest(cosine: Tensor, target: Tensor, scale: Tensor, offset: Tensor, own: Tensor, margin: Margin) -> Tensor:
    logits = scale[:, None] * margin.negatives(cosine, target)
    if margin.reduction == "softmax":
        return _without(logits, own).logsumexp(1)
    return -F.logsigmoid(-_without(logits + offset, own)).sum(1)


def _without(x: Tensor, own: Tensor) -> Tensor:
    """`(B, C)` in which the own class is so low that it counts nowhere, but not so low as to make a NaN."""
    place, here = _place(own)
    return x.scatter(1, place, torch.where(here, torch.finfo(x.dtype).min / 4, x.gather(1, place)))


def _place(own: Tensor) -> tuple[Tensor, Tensor]:
    """Column of each own class, 0 where it is not here, and whether it is: `(B, 1)` each."""
    return own.clamp(min=0)[:, None], (own >= 0)[:, None]


def _chunks(x: Tensor) -> Iterator[slice]:
    """Rows that together have about `CHUNK` numbers."""
    step = max(1, CHUNK.get(x.device.type, 1 << 20) // x.shape[1])
    return (slice(start, start + step) for start in range(0, len(x), step))


def _state(margin: Margin) -> list[tuple[int, int]]:
    """What the negatives of a margin may depend on, by identity and version of each buffer."""
    if type(margin).negatives is Margin.negatives:
        return []
    return [(id(buffer), buffer._version) for buffer in margin.buffers()]


def _remove_radial(gradient: Tensor, centres: Tensor, length: Tensor) -> None:
    """Take, in place, from the gradient of each centre what would only change its length."""
    for rows in _chunks(centres):
        g, w, norm = gradient[rows], centres[rows], length[rows]
        radial = torch.where(norm < SHORTEST, 0, torch.linalg.vecdot(g, w) / norm.clamp(min=SHORTEST) ** 2)
        g.addcmul_(w, radial[:, None], value=-1)
