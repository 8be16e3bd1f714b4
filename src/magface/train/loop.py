"""The loop: one step after another, resumable bit for bit."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from magface.errors import TrainingError
from magface.io import write_atomic
from magface.train import checkpoint
from magface.train.config import Recipe


class Batch(Protocol):
    """What a step works on; the loop asks for the names of its images alone."""

    @property
    def names(self) -> list[str]:
        """One for each image."""


T = TypeVar("T")
B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class Task(Generic[B]):
    """What a run trains.

    Attributes:
        model: the network, in the mode it trains in.
        head: class centres and margin.
        steps: number of steps.
        batch: makes the batch of a step; decided by the number of the step alone, called in threads.
        loss: the loss to descend, a scalar, and numbers for the log, among them `magnitude`.
        data: fingerprint of the images and the first weights.
    """

    model: nn.Module
    head: nn.Module
    steps: int
    batch: Callable[[int], B]
    loss: Callable[[B], tuple[Tensor, dict[str, float]]]
    data: str


class StoppedError(Exception):
    """A signal ended the run after its state was saved.

    Attributes:
        exit_code: 128 + the number of the signal, what a shell expects.
    """

    def __init__(self, signum: int, step: int, path: Path) -> None:
        super().__init__(f"stopped after step {step}; the same command goes on from {path}.")
        self.exit_code = 128 + signum


def run(task: Task[B], recipe: Recipe, out: Path, *, restart: bool = False) -> Path:
    """Train, or go on training, until the last step.

    Writes `checkpoint.pt` and `log.jsonl`, a line for each step, into `out`.

    Args:
        task: what trains.
        recipe: settings; `backbone` and `optimization` are used here, all of it is recorded.
        out: folder of the run.
        restart: ignore a checkpoint in `out`.

    Returns:
        Path of the checkpoint.

    Raises:
        TrainingError: the loss or its gradient is not finite; the weights are as before that step.
        DataError: the checkpoint in `out` is of another run.
        StoppedError: SIGINT or SIGTERM came; the checkpoint is saved.
    """
    settings, record = recipe.optimization, asdict(recipe)
    parameters = [p for module in (task.model, task.head) for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=settings.weight_decay)
    path = out / "checkpoint.pt"

    def save(step: int) -> None:
        checkpoint.save(
            path,
            backbone=recipe.backbone,
            model=task.model,
            head=task.head,
            optimizer=optimizer,
            step=step,
            recipe=record,
            data=task.data,
        )

    first = 0
    if path.exists() and not restart:
        first = checkpoint.restore(
            path, model=task.model, head=task.head, optimizer=optimizer, recipe=record, data=task.data
        )
    log = _Log(out / "log.jsonl", first)
    with log, progress() as bar, _caught_signals() as caught:
        shown = bar.add_task("training", total=task.steps, completed=first, note="")
        began = time.perf_counter()
        for step, batch in prefetch(task.batch, range(first, task.steps), settings.workers):
            rate = learning_rate(step, task.steps, settings.learning_rate, settings.warmup)
            loss, numbers = task.loss(batch)
            _descend(optimizer, loss, rate, parameters, settings.clip, step, batch)
            speed = len(batch.names) * (step + 1 - first) / (time.perf_counter() - began)
            log.write({"step": step, "loss": loss.item(), **numbers, "learning_rate": rate, "images_per_second": speed})
            note = f"loss {loss.item():.3f} · magnitude {numbers['magnitude']:.2f} · {speed:.0f} images/s"
            bar.update(shown, completed=step + 1, note=note)
            done = step + 1
            if done == task.steps or done % settings.save_every == 0 or caught:
                save(done)
            if caught and done < task.steps:
                raise StoppedError(caught[0], done, path)
    return path


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero.

    Example:
        >>> [round(learning_rate(step, 10, 1.0, 0.2), 2) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    rising = round(steps * warmup)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def progress() -> Progress:
    """A progress bar on stderr, where that is a terminal, whose tasks carry a `note`."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def prefetch(make: Callable[[int], T], steps: range, workers: int) -> Iterator[tuple[int, T]]:
    """Results of `make`, in order, made by threads a little ahead of use."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        ahead = iter(steps)
        try:
            for step in steps:
                while len(waiting) <= workers and (following := next(ahead, None)) is not None:
                    waiting.append(pool.submit(make, following))
                yield step, waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _descend(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    rate: float,
    parameters: list[nn.Parameter],
    clip: float,
    step: int,
    batch: Batch,
) -> None:
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if not (loss.isfinite() and norm.isfinite()):
        raise TrainingError(
            f"step {step} gave a loss of {loss.item()} and a gradient of norm {norm.item()}; lower the learning rate "
            f"or look at its images: {', '.join(batch.names[:8])}{' ...' if len(batch.names) > 8 else ''}."
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


class _Log:
    """One JSON object a line; lines of steps that will be done again are dropped."""

    def __init__(self, path: Path, first: int) -> None:
        lines = path.read_text().splitlines() if first and path.exists() else []
        write_atomic(path, "".join(f"{line}\n" for line in lines[:first]))
        self._file = path.open("a", buffering=1)

    def write(self, numbers: dict[str, Any]) -> None:
        self._file.write(json.dumps(numbers) + "\n")

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM write to; the second signal acts as if this were not here."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(number: int, _: FrameType | None) -> None:
        caught.append(number)
        restore()

    for number in before:
        signal.signal(number, remember)
    try:
        yield caught
    finally:
        restore()
