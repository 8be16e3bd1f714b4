"""The loop: one step after another, on one process or many, resumable bit for bit."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from magface.errors import TrainingError
from magface.threads import prefetch
from magface.train import checkpoint, optim
from magface.train.config import Optimization
from magface.train.diagnostics import diagnose
from magface.train.log import Log, progress
from magface.train.precision import LossScaler
from magface.train.ranks import Ranks
from magface.train.schedule import learning_rate
from magface.types import F32


class Batch(Protocol):
    """A part of a step's images, on one rank."""

    @property
    def names(self) -> list[str]:
        """One for each image."""

    @property
    def degraded(self) -> NDArray[np.bool_]:
        """`(b,)`, which images were made harder."""

    @property
    def share(self) -> float:
        """Of the step's images on all ranks, how many belong to this part on all ranks."""


@dataclass(frozen=True)
class Outcome:
    """What a part of a batch gave.

    Attributes:
        loss: scalar to descend; the sum over ranks of its gradients is that of the mean over all faces.
        common: numbers that every rank has alike, by name; `identity` and `penalty` among them.
        terms: further parts of the loss, by name, whose sum over ranks is meant.
        cosine: `(b,)` float32, to the own class centre.
        magnitude: `(b,)` float32.
        correct: `(b,)` bool, whether no other class centre is nearer.
    """

    loss: Tensor
    common: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]
    cosine: Tensor
    magnitude: Tensor
    correct: Tensor


T = TypeVar("T")
B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class Task(Generic[B]):
    """What a run trains.

    Attributes:
        network: what is called to embed; wrapped where several ranks train it.
        model: the network itself, in the mode it trains in.
        head: class centres; where it holds only some `rows` of the `centres`, their gradients are exact, else they are
            summed over the ranks; those of other parameters are exact.
        margin: the loss of the head.
        per_epoch: steps of an epoch.
        parts: makes this rank's parts of the batch of a step; decided by the number of the step alone, called in
            threads.
        loss: of a part.
        validate: numbers that are worth to know after an epoch, or None; called on the first rank.
    """

    network: nn.Module
    model: nn.Module
    head: nn.Module
    margin: nn.Module
    per_epoch: int
    parts: Callable[[int], Sequence[B]]
    loss: Callable[[B], Outcome]
    validate: Callable[[int], dict[str, float]] | None = None


class StoppedError(Exception):
    """A signal ended the run after its state was saved.

    Attributes:
        exit_code: 128 + the number of the signal, what a shell expects.
    """

    def __init__(self, signum: int, step: int, path: Path) -> None:
        super().__init__(f"stopped after step {step}; the same command goes on from {path}.")
        self.exit_code = 128 + signum


def run(
    task: Task[B],
    settings: Optimization,
    origin: checkpoint.Origin,
    out: Path,
    ranks: Ranks,
    *,
    validate_every: int = 1,
    restart: bool = False,
) -> Path:
    """Train, or go on training, until the last step.

    Writes `checkpoint.pt`, `log.jsonl` and TensorBoard's `events` into `out`.

    Args:
        task: what trains.
        settings: how.
        origin: recorded, so that no other run goes on from the checkpoint.
        out: folder of the run.
        ranks: all processes, each of which calls this.
        validate_every: epochs between calls of `task.validate`.
        restart: ignore a checkpoint in `out`.

    Returns:
        Path of the checkpoint.

    Raises:
        TrainingError: a loss or gradient is not finite, and the settings say to stop; the weights are as before that
            step, and `bad_batches.jsonl` names the images.
        DataError: the checkpoint in `out` is of another run, or cannot be written.
        StoppedError: SIGINT or SIGTERM came to any rank; the checkpoint is saved.
    """
    trainer = Trainer(task, settings, ranks, out)
    path, steps = out / "checkpoint.pt", task.per_epoch * settings.epochs
    first = 0
    if path.exists() and not restart:
        first = checkpoint.restore(path, trainer.state, origin, ranks)
    ranks.wait()
    with Log(out, first, ranks.first) as log, progress(ranks.first) as bar, _caught_signals() as caught:
        shown = bar.add_task("training", total=steps, completed=first, note="")
        began = time.perf_counter()
        ready = prefetch(task.parts, range(first, steps), workers=settings.workers, limit=settings.workers + 1)
        for step, parts in zip(range(first, steps), ready, strict=True):
            done, last = step + 1, step + 1 == steps
            rate = learning_rate(step, task.per_epoch, settings)
            outcomes = trainer.step(step, parts, rate)
            [stopping] = ranks.any(bool(caught))
            if done % settings.log_every == 0 or last or stopping:
                found, magnitude = _numbers(outcomes, parts, task.margin, ranks)
                speed = len(magnitude) * (done - first) / (time.perf_counter() - began)
                numbers = {**found, "learning_rate": rate, "images_per_second": speed}
                log.write(step, numbers, magnitude)
                note = f"loss {numbers['loss']:.3f} · magnitude {numbers['magnitude']:.2f} · {speed:.0f} images/s"
                bar.update(shown, completed=done, note=note)
            if task.validate and (last or done % (task.per_epoch * validate_every) == 0):
                if ranks.first:
                    with _evaluating(task.model):
                        log.write(step, task.validate(done))
                ranks.wait()
            if last or done % settings.save_every == 0 or stopping:
                checkpoint.save(path, trainer.state, done, origin, ranks)
            if stopping and not last:
                number = next(number for number in ranks.gather(caught[0] if caught else 0) if number)
                ranks.wait()
                raise StoppedError(number, done, path)
    return path


class Trainer(Generic[B]):
    """Steps, and what they change."""

    def __init__(self, task: Task[B], settings: Optimization, ranks: Ranks, out: Path) -> None:
        self.task, self.settings, self.ranks, self.out = task, settings, ranks, out
        optimizers = optim.build(task.model, settings), optim.build(task.head, settings)
        self.state = checkpoint.State(task.model, task.head, optimizers, LossScaler(settings.precision))
        self.model = [p for p in task.model.parameters() if p.requires_grad]
        head = {name: p for name, p in task.head.named_parameters() if p.requires_grad}
        centres = [head.pop("centres")] if "centres" in head else []
        split = hasattr(task.head, "rows")
        self.sharded, self.shared, self.exact = centres * split, centres * (not split), list(head.values())
        self.bad = 0

    def step(self, step: int, parts: Sequence[B], rate: float) -> list[Outcome]:
        """Descend once, unless a loss or gradient is not finite."""
        task, scaler = self.task, self.state.scaler
        for optimizer in self.state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        before = self._buffers() if self.settings.on_bad_loss == "skip" else []
        outcomes = []
        for number, part in enumerate(parts):
            with _unsynced(task.network, last=number == len(parts) - 1):
                outcomes.append(task.loss(part))
                scaler(outcomes[-1].loss * part.share).backward()
        self.ranks.sum([p.grad for p in self.shared if p.grad is not None])
        alike = [*self.model, *self.shared, *self.exact]
        scaler.unscale([*alike, *self.sharded])
        norm = optim.clip(alike, self.settings.clip, sharded=self.sharded)
        bad_loss = not all(bool(outcome.loss.isfinite()) for outcome in outcomes)
        bad_loss, overflowed = self.ranks.any(bad_loss, not bool(norm.isfinite()))
        if bad_loss or (overflowed and scaler.spent):
            self._refuse(step, parts, outcomes, float(norm), before)
        elif not overflowed:
            self.bad = 0
            for optimizer in self.state.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
        scaler.update(overflowed=overflowed)
        return outcomes

    def _refuse(
        self, step: int, parts: Sequence[B], outcomes: list[Outcome], norm: float, before: list[tuple[Tensor, Tensor]]
    ) -> None:
        """Name the images of a step that cannot be taken; undo what it did to running statistics, or stop."""
        self.bad += 1
        losses = [outcome.loss.item() for outcome in outcomes]
        images = list(chain.from_iterable(self.ranks.gather(_suspects(parts, outcomes))))
        if self.ranks.first:
            with (self.out / "bad_batches.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "loss": str(losses), "norm": str(norm), "images": images}) + "\n")
        for buffer, value in before:
            buffer.copy_(value)
        if self.settings.on_bad_loss == "stop" or self.bad > self.settings.skip_limit:
            raise TrainingError(
                f"step {step} gave a loss of {losses[-1]} and a gradient of norm {norm}"
                f"{f', the last of {self.bad} such steps' if self.bad > 1 else ''}; lower the learning rate or look at "
                f"its images: {', '.join(images[:8])}{' ...' if len(images) > 8 else ''}."
            )

    def _buffers(self) -> list[tuple[Tensor, Tensor]]:
        return [(b, b.clone()) for module in (self.task.model, self.task.head) for b in module.buffers()]


def _suspects(parts: Sequence[Batch], outcomes: list[Outcome]) -> list[str]:
    """Names of images whose embedding is not finite; of all where every one is."""
    named = [
        name
        for part, outcome in zip(parts, outcomes, strict=True)
        for name, magnitude in zip(part.names, outcome.magnitude.tolist(), strict=True)
        if not np.isfinite(magnitude)
    ]
    return named or [name for part in parts for name in part.names]


def _numbers(
    outcomes: Sequence[Outcome], parts: Sequence[Batch], margin: nn.Module, ranks: Ranks
) -> tuple[dict[str, float], F32]:
    """What a step gave over its parts and all ranks, and the magnitudes of its faces."""
    common = _mean([outcome.common for outcome in outcomes], parts)
    terms = _mean([outcome.terms for outcome in outcomes], parts)
    faces = [torch.stack([o.cosine, o.magnitude, o.correct]).float().cpu().numpy() for o in outcomes]
    degraded = np.concatenate([part.degraded for part in parts])
    every = ranks.gather((terms, np.concatenate(faces, axis=1), degraded))
    summed = {name: sum(own[name] for own, _, _ in every) for name in terms}
    cosine, magnitude, correct = np.concatenate([found for _, found, _ in every], axis=1)
    degraded = np.concatenate([mask for _, _, mask in every])
    loss = common["identity"] + common["penalty"] + sum(summed.values())
    about = diagnose(cosine, magnitude, degraded, margin)
    return {"loss": loss, **common, **summed, "accuracy": float(correct.mean()), **about}, magnitude


def _mean(numbers: Sequence[Mapping[str, Tensor]], parts: Sequence[Batch]) -> dict[str, float]:
    """Of the parts of a step, each with its share."""
    shares = [part.share for part in parts]
    return {
        name: sum(share * each[name].item() for share, each in zip(shares, numbers, strict=True)) for name in numbers[0]
    }


def _unsynced(network: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Let ranks wait for each other only in the last part of a step."""
    return nullcontext() if last or not isinstance(network, DistributedDataParallel) else network.no_sync()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; each of its modules has its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


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
