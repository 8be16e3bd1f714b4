"""What a run says while it goes on: a line of JSON, a TensorBoard event, a progress bar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from magface.io import write_atomic
from magface.types import F32


class Log:
    """`log.jsonl`, one object a line, and TensorBoard events in `events`, of the first rank; nothing of others.

    Lines and events of steps that will be done again are dropped.

    Args:
        out: folder of the run.
        first: step that comes next.
        writes: whether this rank writes.
    """

    def __init__(self, out: Path, first: int, writes: bool) -> None:
        self._open = ExitStack()
        self._writes = writes
        if not writes:
            return
        from tensorboardX import SummaryWriter

        path = out / "log.jsonl"
        lines = path.read_text().splitlines() if first and path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] < first]
        write_atomic(path, "".join(f"{line}\n" for line in kept))
        self._file = self._open.enter_context(path.open("a", buffering=1))
        self._events = self._open.enter_context(SummaryWriter(str(out / "events"), purge_step=first))

    def write(self, step: int, numbers: Mapping[str, Any], magnitude: F32 | None = None) -> None:
        """Record numbers of a step, and the distribution of its magnitudes."""
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        for name, value in numbers.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)
        if magnitude is not None:
            self._events.add_histogram("magnitudes", magnitude, step)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def progress(shown: bool = True) -> Progress:
    """A progress bar on stderr, where that is a terminal, whose tasks carry a `note`."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
    )
