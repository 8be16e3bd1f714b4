"""The head whose class centres lie split over the ranks, and which may compare with a random share of them.

Source: An, Deng, Guo, Feng, Zhu, Yang, Liu, "Killing Two Birds with One Stone: Efficient and Robust Training of Face
Recognition CNNs by Partial FC", CVPR 2022, arXiv:2203.15565.

Shape letters: B faces of all ranks, b faces of this rank, C classes, K of them here, D embedding size.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magface.heads.cross_entropy import combine, cosines, others
from magface.heads.distributed import Rows, rank, shared, stack, world
from magface.heads.full import HeadOutput, check_labels, direction, first_centres, summary
from magface.losses.margin import Margin

_DRAWN = 4096  # centres that come from one generator


def shard(num_classes: int, rank: int, world: int) -> slice:
    """Which class centres a rank holds: one run of them, no rank more than one longer than another.

    Args:
        num_classes: C.
        rank: 0 to `world` - 1.
        world: number of ranks, up to C.

    Raises:
        ValueError: there are more ranks than classes.

    Example:
        >>> [shard(5, rank, 3) for rank in range(3)]
        [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    if world > num_classes:
        raise ValueError(f"{num_classes} classes cannot be split over {world} ranks; start at most {num_classes}.")
    return slice(rank * num_classes // world, (rank + 1) * num_classes // world)


def random_centres(num_classes: int, dim: int, seed: int, rows: slice) -> Tensor:
    """Random unit vectors, each decided by the seed and its own row, whoever draws it.

    Args:
        num_classes: C.
        dim: D.
        seed: >= 0.
        rows: which of the C are wanted.

    Returns:
        `(rows.stop - rows.start, D)` float32, uniform on the sphere.

    Example:
        >>> whole = random_centres(9, 4, 0, slice(0, 9))
        >>> bool((random_centres(9, 4, 0, slice(5, 9)) == whole[5:]).all())
        True
    """
    out = torch.empty(rows.stop - rows.start, dim)
    for first in range(rows.start // _DRAWN * _DRAWN, rows.stop, _DRAWN):
        drawn = torch.randn(min(_DRAWN, num_classes - first), dim, generator=_generator(seed, first))
        start, stop = max(first, rows.start), min(first + _DRAWN, rows.stop)
        out[start - rows.start : stop - rows.start] = direction(drawn[start - first : stop - first])
    return out


class PartialFC(nn.Module):
    """Class centres split over the ranks, and a margin; works in float32 or wider, outside autocast.

    Every rank compares the faces of all ranks with its own centres. In training with `rate` below 1 it takes part of
    them: those of people in the batch, and others drawn anew each step. Then `centres` gets a sparse gradient, whose
    rows are those that took part; `train.optim.SGD` spares the others any work.

    The loss is the mean over the faces of all ranks, the same on each; after `backward` on every rank, all gradients
    are exact, with no factor of the number of ranks: of the embeddings of this rank, of the centres here, and of the
    margin's parameters, which are the same everywhere. Four collectives run forward (numbers of rows, rows, own
    cosines, what the other classes add) and one backward (one more where the margin's scale or offset has a gradient).

    A checkpoint holds the centres of this rank, `rows` of the C, and the seed and the step, on which draws depend. As
    nothing in it depends on the number of ranks but the rows, and the initial centres do not either, a run can go on
    with another number of them.

    Args:
        num_classes: C, number of people on all ranks.
        dim: D, embedding size.
        margin: the loss, see `Margin`.
        rate: share of the centres here that take part in a training step, above 0 and up to 1; more where the batch
            has more people.
        seed: of the initial centres and of what is drawn, >= 0; the same on all ranks.
        centres: `(C, D)` float, ready-made class centres of all ranks, of any length; random directions by default.
        frozen: do not train the centres.
        detach_direction: let only the magnitude carry a gradient to the embedding.

    Attributes:
        rows: which of the C centres are here.
        centres: `(K, D)` float parameter, of any length.

    Raises:
        ValueError: `centres` has another shape, `rate` is out of its range, or there are more ranks than classes.

    Example:
        >>> head = PartialFC(2, 2, Margin(s=1.0), centres=torch.eye(2), frozen=True)
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
        rate: float = 1.0,
        seed: int = 0,
        centres: Tensor | None = None,
        frozen: bool = False,
        detach_direction: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"the rate must be above 0 and up to 1, not {rate}.")
        self.num_classes, self.margin, self.detach_direction = num_classes, margin, detach_direction
        self.rate, self.seed, self.step = rate, seed, 0
        self.rows = shard(num_classes, rank(), world())
        if centres is None:
            own = random_centres(num_classes, dim, seed, self.rows)
        else:
            own = first_centres(centres, num_classes, dim, margin, self.rows)
        self.centres = nn.Parameter(own, requires_grad=not frozen)

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """Loss of `(b, D)` raw embeddings whose people are `labels`, `(b,)` int64 within 0..C-1; b may differ and be 0.

        The gradient is written over the logits, so that the loss has one backward pass.

        Raises:
            ValueError: a label is outside 0..C-1, or no rank has a face.
        """
        rows, margin = Rows.of(len(labels), embeddings.device), self.margin
        everyone, labels = rows.gather(embeddings, labels)
        check_labels(labels, self.num_classes)
        with torch.autocast(embeddings.device.type, enabled=False):
            x = everyone.to(torch.promote_types(everyone.dtype, torch.float32))
            here = (labels >= self.rows.start) & (labels < self.rows.stop)
            own, centres = self._taking_part(torch.where(here, labels - self.rows.start, -1))
            [unit] = shared(direction(x.detach() if self.detach_direction else x))
            matrix, cosine = cosines(unit, centres.to(unit.dtype), own, margin)

            def rest(target: Tensor, scale: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
                parts = stack(torch.stack(others(matrix, target, scale, offset, own, margin)))
                return combine(parts[:, 0], margin), parts[:, 1].amax(0)

            return summary(margin, stack(cosine).sum(0), torch.linalg.vector_norm(x, dim=1), rows.mine, rest)

    def get_extra_state(self) -> dict[str, int]:
        """What decides the next draw."""
        return {"seed": self.seed, "step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go on drawing where another head was."""
        self.seed, self.step = state["seed"], state["step"]

    def _taking_part(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Own rows `(B,)` within the centres that take part in this step, and those centres."""
        if self.rate == 1 or not self.training:
            return own, self.centres
        generator = _generator(self.seed, self.step, self.rows.start, device=own.device)
        self.step += 1
        chosen = sample(len(self.centres), own[own >= 0], self.rate, generator)
        place = torch.where(own >= 0, torch.searchsorted(chosen, own), -1)
        return place, F.embedding(chosen, self.centres, sparse=True)


def sample(count: int, positive: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Rows that take part in a step: all positive ones, filled up with others at random.

    Equation: Partial FC (positives, and negatives drawn without replacement up to floor(rate K) centres).

    Args:
        count: K, >= 1.
        positive: int64 rows, perhaps repeated.
        rate: above 0 and up to 1.
        generator: on the device of `positive`.

    Returns:
        `(max(floor(rate K), positives, 1),)` int64, rising.

    Example:
        >>> sample(10, torch.tensor([7, 7]), 0.3, torch.Generator().manual_seed(0)).shape
        torch.Size([3])
    """
    positive = positive.unique()
    priority = torch.rand(count, generator=generator, device=positive.device)
    priority[positive] = 2.0
    return priority.topk(max(math.floor(rate * count), len(positive), 1)).indices.sort().values


def _generator(*seeds: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator decided by all seeds together."""
    mixed = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(mixed >> np.uint64(1)))
