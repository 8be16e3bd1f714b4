"""How hard a loss pulls at one training face, depending on its cosine to the own class centre and its magnitude.

The loss of a face is a function of these two numbers and of the cosines to the others. Its slope along the first is
what moves the direction, along the second what moves the magnitude. The first is the gradient scale of Kim, Jain, Liu,
"AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022; what the chain rule adds to it on the way to the
embedding, sin(theta_y) / a, is the same for every loss.

Shape letters: M magnitudes, C cosines.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from magface.heads.cross_entropy import identity, others
from magface.losses.margin import Margin


class Slopes(NamedTuple):
    """Slopes of the loss of a face.

    Attributes:
        pull: `(M, C)` float64, -dL/dcos_y: above 0 where a step takes the face nearer to its centre.
        push: `(M, C)` float64, dL/da: above 0 where a step makes the magnitude smaller.
    """

    pull: Tensor
    push: Tensor


def slopes(
    margin: Margin, cosine: Tensor, magnitude: Tensor, *, num_classes: int, other: float = 0.0, **statistics: float
) -> Slopes:
    """Slopes of a loss over a grid, by automatic differentiation of the margin and the cross-entropy that train.

    Equation: gradient scale (-dL/dcos_y = s (1 - P_y) dpsi/dcos_y, P_y = exp(s psi) / (exp(s psi) + (C - 1)
    exp(s cos_j))), and dL/da.

    Args:
        margin: the loss; stays as it is.
        cosine: `(C,)` float, to the own class centre, within -1 and 1. At -1 and 1 many losses have no slope.
        magnitude: `(M,)` float, > 0.
        num_classes: number of people, >= 2.
        other: cosine to each of the other class centres, -1 to 1. `s / (2 D)` counts as much as directions drawn at
            random in D dimensions.
        statistics: running statistics of the loss, which stand still here, such as `mu` and `sigma` of AdaFace.

    Raises:
        ValueError: there are fewer than two people, or the loss has no such statistic.

    Example:
        >>> from magface.losses.cosface import CosFace
        >>> found = slopes(CosFace(0.25), torch.tensor([0.25, 0.26]), torch.tensor([10.0]), num_classes=2)
        >>> found.pull, found.push
        (tensor([[32.0000, 22.0958]], dtype=torch.float64), tensor([[0., 0.]], dtype=torch.float64))
    """
    if num_classes < 2:
        raise ValueError(f"a softmax needs at least two classes, not {num_classes}.")
    settled = _settled(margin, statistics)
    shape = len(magnitude), len(cosine)
    cos = cosine.double().expand(shape).flatten().requires_grad_()
    a = magnitude.double()[:, None].expand(shape).flatten().requires_grad_()
    with torch.enable_grad():
        target, scale, offset = settled.target(cos, a), settled.scale(a), settled.offset()
        offset = scale.new_zeros(()) if offset is None else offset
        alike = torch.full((len(cos), 1), other, dtype=torch.float64)
        nobody = torch.full((len(cos),), -1)
        rest, _ = others(alike, target, scale, offset, nobody, settled)
        count = num_classes - 1
        rest = rest + math.log(count) if settled.reduction == "softmax" else rest * count
        loss = identity(target, scale, offset, rest, settled) + settled.penalty(a)
    to_cosine, to_magnitude = torch.autograd.grad(loss.sum(), (cos, a), materialize_grads=True)
    return Slopes(-to_cosine.reshape(shape), to_magnitude.reshape(shape))


def optimum(magnitude: Tensor, push: Tensor) -> Tensor:
    """Magnitude at which descent leaves a face, for each cosine: where `push` rises through 0.

    Args:
        magnitude: `(M,)` float, rising; M >= 1.
        push: `(M, C)` float, of `slopes`.

    Returns:
        `(C,)` float64, on the line through the two nearest magnitudes; an end of the range where the slope does not
        change its sign. NaN where it is 0 throughout: then every magnitude is as good.

    Example:
        >>> optimum(torch.tensor([10.0, 20.0]), torch.tensor([[-1.0, 1.0, 0.0], [3.0, 2.0, 0.0]]))
        tensor([12.5000, 10.0000,     nan], dtype=torch.float64)
    """
    a, slope = magnitude.double(), push.double()
    above = slope >= 0
    after = torch.where(above.any(0), above.int().argmax(0), len(a) - 1)
    before = (after - 1).clamp(min=0)
    low, high = (slope.gather(0, place[None])[0] for place in (before, after))
    share = torch.where(high > low, low / (low - high), 1).clamp(0, 1)
    found = torch.where((low < 0) & (high >= 0), a[before] + share * (a[after] - a[before]), a[after])
    return torch.where((slope == 0).all(0), torch.nan, found)


def _settled(margin: Margin, statistics: dict[str, float]) -> Margin:
    """A copy in double precision whose statistics do not move."""
    settled = copy.deepcopy(margin).double().eval()
    buffers = dict(settled.named_buffers())
    for name, value in statistics.items():
        if name not in buffers:
            raise ValueError(f"the loss has no statistic {name!r}; it has {', '.join(buffers) or 'none'}.")
        buffers[name].fill_(value)
    return settled
