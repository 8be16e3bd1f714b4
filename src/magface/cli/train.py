"""`magface train`: a recogniser from its first weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from magface.cli import training
from magface.cli.options import Format, Output
from magface.errors import DataError


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file of settings.")],
    data: training.Data,
    out: training.Out,
    table: training.Table = None,
    device: training.Device = "cpu",
    seed: training.Seed = None,
    restart: training.Restart = False,
    form: Output = Format.text,
) -> None:
    r"""Train a face network from its first weights, on one process or many.

    The same command goes on where a run was stopped, to the same weights bit for bit on the same machine, and also with
    another number of processes. log.jsonl and events (TensorBoard) tell how it goes: loss, learning rate, and where the
    magnitudes are. Write the result as a model file with `magface export`.

    \b
    Examples:
      magface train recipes/smoke.toml --data people/ -o runs/smoke
      torchrun --nproc-per-node 8 -m magface train recipes/ms1mv2-iresnet100-magface.toml \
        --data ms1mv2/ -o runs/r100 --device cuda
    """
    from magface.train.config import load
    from magface.train.published import scratch

    settings = load(recipe)
    if not settings.backbone:
        raise DataError(f"the recipe {recipe} does not name a network; give it a backbone, such as 'iresnet50'.")
    if seed is not None:
        settings = dataclasses.replace(settings, seed=seed)
    training.run(
        settings,
        lambda: scratch(settings.backbone, settings.seed),
        data,
        out,
        trained=False,
        table=table,
        cache=None,
        device=device,
        restart=restart,
        form=form,
    )
