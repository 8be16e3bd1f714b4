"""`magface finetune`: make a MagFace of a trained face network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magface.cli import training
from magface.cli.import_ import OriginChoice
from magface.cli.options import Format, Output

if TYPE_CHECKING:
    from magface.models.foreign import Origin


def finetune(
    data: training.Data,
    out: training.Out,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Model to start from: a checkpoint (of magface or another project), a model file (.onnx), or the name "
            "of published weights (sface). If not given, the published weights of the recipe's network.",
        ),
    ] = None,
    origin: Annotated[
        OriginChoice | None, typer.Option(help="Whose network a checkpoint holds, where it does not say it itself.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file of settings; sound ones if not given.")] = None,
    table: training.Table = None,
    cache: training.Cache = None,
    device: training.Device = "cpu",
    seed: training.Seed = None,
    restart: training.Restart = False,
    form: Output = Format.text,
) -> None:
    r"""Make a MagFace of a trained face network.

    Without a recipe nothing needs to be set: the range of magnitudes, the margins and the weight of the regularizer are
    proposed from the magnitudes that the network gives now, class centres start where its embeddings are, and
    distillation keeps who is recognised. What was chosen is printed.

    The same command goes on where a run was stopped, to the same weights bit for bit on the same machine. At the end it
    measures verification and error versus discard on the people kept for validation; choose between runs by that.

    \b
    Examples:
      magface finetune --from sface --data people/ -o runs/1
      magface finetune --from magface_iresnet50.pth --data people/ -o runs/2 --device cuda
      magface finetune --recipe recipes/magsface.toml --data train.tar --table train.tsv -o runs/magsface
    """
    from magface.train.config import FINETUNE, load
    from magface.train.published import start as started

    settings = FINETUNE if recipe is None else load(recipe)
    if seed is not None:
        settings = dataclasses.replace(settings, seed=seed)
    whose: Origin | None = None if origin is None else origin.value
    backbone, network = started(start or "sface", settings.backbone, settings.seed, whose)
    settings = dataclasses.replace(settings, backbone=backbone)
    training.run(
        settings,
        lambda: network,
        data,
        out,
        trained=True,
        table=table,
        cache=cache,
        device=device,
        restart=restart,
        form=form,
    )
