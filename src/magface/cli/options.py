"""Options and the progress bar that commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.text import printable as printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from magface.recognizer import Recognizer

STOPPED = 130
"""Exit code after Ctrl-C."""


class EngineChoice(StrEnum):
    """What runs the network."""

    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    torch = "torch"


class Format(StrEnum):
    """How to print the result."""

    text = "text"
    json = "json"


Photos = Annotated[list[Path], typer.Argument(help="Photos, and folders that are searched for photos.")]
Model = Annotated[Path | None, typer.Option(help="Model file; the one that ships with the package if not given.")]
Detector = Annotated[
    Path | None, typer.Option(help="Detector: an .onnx file of the YuNet family, or a .py file (which is run).")
]
Engine = Annotated[EngineChoice, typer.Option(help="What runs the network.")]
Output = Annotated[Format, typer.Option("--format", help="How to print the result.")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The images are aligned 112x112 crops: look for no faces.")]


def recognizer(model: Path | None, detector: Path | None, engine: EngineChoice) -> Recognizer:
    """The recognizer of a command's options."""
    from magface.recognizer import Recognizer

    return Recognizer(model, detector, engine.value)


def say(message: str) -> None:
    """Print one line for people on stderr."""
    typer.echo(f"magface: {printable(message)}", err=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress bar on stderr, where that is a terminal; a task has a field `note` for what was found."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar
