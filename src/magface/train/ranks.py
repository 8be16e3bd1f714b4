"""The processes of a run: one, or as many as `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from magface.errors import EngineError

_PATIENCE = timedelta(hours=12)  # one rank may embed a whole data set while the others wait


@dataclass(frozen=True)
class Ranks:
    """Who this process is among those that train together.

    Attributes:
        rank: 0 to `world - 1`.
        world: number of processes.
        device: that this one trains on.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether a rank has it set; one collective."""
        if self.world == 1:
            return list(flags)
        told = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in told.tolist()]

    def sum(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor, dense, by its sum over ranks, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def gather(self, thing: Any) -> list[Any]:
        """A small object of plain types from each rank, in their order; meant for rare use."""
        if self.world == 1:
            return [thing]
        things: list[Any] = [None] * self.world
        dist.all_gather_object(things, thing)
        return things

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """Join the processes that `torchrun` started, for as long as the block lasts; a process of its own otherwise.

    Args:
        device: torch device; `cuda` becomes the card of this rank.

    Raises:
        EngineError: torch cannot use the device, or the other processes cannot be reached.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
    try:
        torch.empty(0, device=place)
        if place.startswith("cuda"):
            torch.cuda.set_device(place)
        if world > 1:
            dist.init_process_group("nccl" if place.startswith("cuda") else "gloo", timeout=_PATIENCE)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise EngineError(
            f"training cannot start on {place!r} as rank {rank} of {world} ({str(error).splitlines()[0]}); take "
            "another --device, install torch for it, or start all ranks with torchrun."
        ) from error
    ranks = Ranks(rank, world, place)
    try:
        yield ranks
        ranks.wait()  # whoever left before the others are done would break their connection
    finally:
        if world > 1:
            dist.destroy_process_group()
