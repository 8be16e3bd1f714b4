"""A training run on disk: whole or not there, and never mixed with another run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from magface.errors import DataError
from magface.io import atomic_path

FORMAT = "magface-checkpoint-1"
_KEYS = {"format", "backbone", "model", "head", "optimizer", "step", "rng", "recipe", "data"}


def save(
    path: str | os.PathLike[str],
    *,
    backbone: str,
    model: nn.Module,
    head: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    recipe: Mapping[str, Any],
    data: str,
) -> None:
    """Write everything that a run needs to go on as if it had never stopped.

    Args:
        path: file to write, whole or not at all.
        backbone: name of the network, so that `model` can be loaded by whoever reads the file.
        model: the network.
        head: class centres and margin.
        optimizer: its moments.
        step: steps done; the place in the data and the learning rate follow from it.
        recipe: settings, of plain types.
        data: fingerprint of the images and the first weights.
    """
    state = {
        "format": FORMAT,
        "backbone": backbone,
        "model": model.state_dict(),
        "head": head.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "rng": torch.get_rng_state(),
        "recipe": dict(recipe),
        "data": data,
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint; nothing in the file is executed.

    Returns:
        The keys that `save` writes, tensors on the CPU.

    Raises:
        DataError: the file is missing, damaged, or not a checkpoint of this package.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on files that it then refuses
            state = torch.load(Path(path), map_location="cpu", weights_only=True)
    except Exception as error:  # on hostile bytes the restricted unpickler fails in many ways
        raise DataError(f"the checkpoint {path} cannot be read; it is missing or damaged.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= _KEYS:
        raise DataError(f"{path} is not a checkpoint of magface ({FORMAT}).")
    return state


def restore(
    path: str | os.PathLike[str],
    *,
    model: nn.Module,
    head: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Mapping[str, Any],
    data: str,
) -> int:
    """Put a checkpoint back into the parts of a run.

    Returns:
        Steps done.

    Raises:
        DataError: the checkpoint is unreadable, or of another recipe or data set.
    """
    state = load(path)
    changed = sorted(_differences(state["recipe"], recipe))
    if changed:
        raise DataError(
            f"{path} belongs to a run with another recipe ({', '.join(changed)} changed); take the same recipe, "
            "another output folder, or start again with --restart."
        )
    if state["data"] != data:
        raise DataError(
            f"{path} belongs to a run on other images or from other first weights; take the same ones, another output "
            "folder, or start again with --restart."
        )
    try:
        model.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} holds another network than the recipe names; start again with --restart.") from error
    torch.set_rng_state(state["rng"])
    return int(state["step"])


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], where: str = "") -> list[str]:
    found: list[str] = []
    for key in a.keys() | b.keys():
        one, other = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{where}{key}.")
        elif one != other:
            found.append(f"{where}{key}")
    return found
