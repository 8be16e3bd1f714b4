"""The collectives that heads need, with exact gradients; they also work for a process that is alone.

All ranks compute one loss from the same numbers. What is the same everywhere, "common", has the same gradient
everywhere, so its way back to the rank it came from needs no communication. Only where common numbers enter work that
the ranks divide among themselves does each rank find a part of the gradient: `shared` adds the parts up.

Shape letters: W ranks, B rows of all ranks, b rows of this rank.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd import Function


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if _together() else 0


def world() -> int:
    """W, number of processes that train together."""
    return dist.get_world_size() if _together() else 1


def stack(x: Tensor) -> Tensor:
    """The tensors of all ranks, each a part of one common result; one collective, none when alone.

    Args:
        x: any shape, the same on every rank.

    Returns:
        `(W, ...)`, the same on every rank to the last bit. Its gradient must be, too.

    Example:
        >>> stack(torch.tensor([1.0, 2.0]))
        tensor([[1., 2.]])
    """
    return _Stack.apply(x) if world() > 1 else x[None]


def shared(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Common tensors on their way into work that is divided among the ranks.

    Args:
        tensors: any shapes, the same on every rank, of one dtype.

    Returns:
        The same values. Gradients are summed over the ranks, in one collective of the backward pass if there are any.
    """
    needed = [t for t in tensors if t.requires_grad]
    if world() == 1 or not needed:
        return tensors
    through = iter(_Shared.apply(*needed))
    return tuple(next(through) if t.requires_grad else t for t in tensors)


def total(x: Tensor) -> Tensor:
    """Sum over the ranks, without a gradient; one collective, none when alone."""
    if world() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


class Rows(NamedTuple):
    """How the rows of a batch lie over the ranks, in rank order; a rank may have none.

    Attributes:
        counts: rows of each rank.
        rank: number of this one.

    Example:
        >>> rows = Rows.of(2, "cpu")
        >>> rows.total, rows.mine
        (2, slice(0, 2, None))
    """

    counts: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, count: int, device: torch.device | str) -> Rows:
        """Tell the other ranks of `count` rows here; one collective, none when alone.

        Raises:
            ValueError: no rank has a row.
        """
        counts = (count,)
        if world() > 1:
            counts = tuple(stack(torch.tensor(count, device=device)).tolist())
        if not any(counts):
            raise ValueError("a batch without a single face has no loss; give at least one rank a face.")
        return cls(counts, rank())

    @property
    def total(self) -> int:
        """B, of all ranks."""
        return sum(self.counts)

    @property
    def mine(self) -> slice:
        """Where the rows of this rank are among those of all."""
        ends = list(accumulate(self.counts))
        return slice(ends[self.rank] - self.counts[self.rank], ends[self.rank])

    def gather(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The rows of all ranks, which travel as bytes in one collective; none when alone.

        Args:
            tensors: `(b, ...)` each, of any dtypes, equal but for b on all ranks.

        Returns:
            `(B, ...)` each, the same on every rank. Their gradients must be, too.
        """
        return _Gather.apply(self, *tensors) if len(self.counts) > 1 else tensors


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Stack(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.new_empty(world(), *x.shape)
        dist.all_gather(list(out.unbind()), x.contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[rank()]


class _Shared(Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        parts = flat.split([g.numel() for g in gradients])
        return tuple(part.view_as(g) for part, g in zip(parts, gradients, strict=True))


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, rows: Rows, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.mine = rows.mine
        sent = torch.cat([_bytes(t) for t in tensors], dim=1)
        padded = sent.new_zeros(max(rows.counts), sent.shape[1])
        padded[: len(sent)] = sent
        received = stack(padded)
        everyone = torch.cat([part[:count] for part, count in zip(received, rows.counts, strict=True)])
        columns = everyone.split([_width(t) for t in tensors], dim=1)
        found = zip(columns, tensors, strict=True)
        return tuple(c.contiguous().view(t.dtype).view(rows.total, *t.shape[1:]) for c, t in found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(
            g[ctx.mine] if needs else None for g, needs in zip(gradients, ctx.needs_input_grad[1:], strict=True)
        )


def _width(x: Tensor) -> int:
    """Bytes of a row."""
    return math.prod(x.shape[1:]) * x.element_size()


def _bytes(x: Tensor) -> Tensor:
    """`(b, ...)` -> `(b, width)` uint8."""
    return x.detach().reshape(len(x), math.prod(x.shape[1:])).contiguous().view(torch.uint8)
