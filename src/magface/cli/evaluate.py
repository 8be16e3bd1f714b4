"""`magface evaluate`: measure a model on a benchmark."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import options
from magface.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

    from magface.benchmarks import faces
    from magface.benchmarks.result import Measure, Result
    from magface.embedder import Embedder


class Benchmark(StrEnum):
    """What to measure."""

    lfw = "lfw"
    edc = "edc"
    toy = "toy"
    degradation = "degradation"


class Arithmetic(StrEnum):
    """How the network calculates."""

    f32 = "f32"
    bf16 = "bf16"


def evaluate(
    bench: Annotated[Benchmark, typer.Argument(help="What to measure.")],
    data: Annotated[Path, typer.Argument(help="Folder of 112x112 crops by person, or an uncompressed tar of it.")],
    model: options.Model = None,
    pairs: Annotated[
        Path | None, typer.Option(help="lfw: list of pairs; looked for in and beside DATA if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="edc, degradation: seed of what is drawn.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="lfw, edc: folder in which embeddings are kept.")] = None,
    engine: options.Engine = options.EngineChoice.auto,
    precision: Annotated[Arithmetic, typer.Option(help="bf16 is faster; publish f32.")] = Arithmetic.f32,
    form: options.Output = options.Format.text,
) -> None:
    """Measure a model on a benchmark.

    lfw: verification on the official pairs, and error versus discard.

    edc: error versus discard on any folder of people, pairs drawn with a seed.

    toy: order of quality against an official feature list (feat.list) of the same crops.

    degradation: does the magnitude fall while good faces are degraded?

    Embeddings are made once and kept; to score them again takes seconds.

    Example: magface evaluate lfw lfw_aligned.tar --pairs pairs.txt --format json
    """
    from rich.console import Console

    from magface.embedder import Embedder

    if pairs is not None and bench is not Benchmark.lfw:
        raise DataError("--pairs belongs to the benchmark lfw; leave it out.")
    embedder = Embedder(model, engine=engine.value, precision=precision.value)
    with options.progress() as bar:
        task = bar.add_task("Embedding", total=None, note="")
        result = _measure(bench, embedder, data, pairs, seed, cache, lambda done: bar.advance(task, done))
    if result.failures:
        name, reason = next(iter(result.failures.items()))
        options.say(f"{len(result.failures):,} images are missing; the first: {name} {reason}")
    if form is options.Format.json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        Console().print(_table(result, embedder.card.name))


def _measure(
    bench: Benchmark,
    embedder: Embedder,
    data: Path,
    pairs: Path | None,
    seed: int,
    cache: Path | None,
    progress: faces.Progress,
) -> Result:
    from magface.benchmarks import degradation, edc, lfw, toy

    match bench:
        case Benchmark.lfw:
            return lfw.evaluate(embedder, data, pairs=pairs, cache=cache, progress=progress)
        case Benchmark.edc:
            return edc.evaluate(embedder, data, seed=seed, cache=cache, progress=progress)
        case Benchmark.toy:
            return toy.evaluate(embedder, data, progress=progress)
        case Benchmark.degradation:
            return degradation.evaluate(embedder, data, seed=seed, progress=progress)


def _table(result: Result, model: str) -> Table:
    from rich.table import Table

    counts = ", ".join(f"{count:,} {name}" for name, count in result.counts.items())
    table = Table(title=f"{result.benchmark}: {model} ({result.model[:12]})", caption=counts)
    for name in ("measure", "value", "95 % interval", "note"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for measure in result.measures:
        table.add_row(measure.name, *_numbers(measure), measure.note)
    return table


def _numbers(measure: Measure) -> tuple[str, str]:
    value = "-" if measure.value is None else f"{measure.value:.4f}"
    return value, "" if measure.interval is None else "{:.4f} to {:.4f}".format(*measure.interval)
