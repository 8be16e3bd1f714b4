"""A training run on disk: whole or not there, and never mixed with another run.

One process writes one file. Several write a file each, named by step, rank and number of ranks, which holds what that
rank alone knows, among it its class centres; then the first rank puts the main file in place, which names them, and
removes those that the earlier one named. A kill at any moment leaves a main file all of whose parts are there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from magface.errors import DataError
from magface.io import atomic_path
from magface.train.precision import LossScaler
from magface.train.ranks import Ranks

FORMAT = "magface-checkpoint-2"
_KEYS = {"format", "backbone", "model", "optimizer", "scaler", "step", "recipe", "data", "parts"}
_CENTRES = "centres"


@dataclass(frozen=True)
class State:
    """What changes while a run goes on.

    Attributes:
        model: the network.
        head: class centres and margin; a head that holds rows `start` to `stop` of the centres says so in `rows`.
        optimizers: of the model and of the head, each over its parameters that train, in their order.
        scaler: of the loss.
    """

    model: nn.Module
    head: nn.Module
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
    scaler: LossScaler


@dataclass(frozen=True)
class Origin:
    """What a run is, so that it is never mixed with another.

    Attributes:
        backbone: name of the network, so that the model can be loaded by whoever reads the file.
        recipe: settings, of plain types.
        data: fingerprint of the images and the first weights.
    """

    backbone: str
    recipe: Mapping[str, Any]
    data: str


def save(path: Path, state: State, step: int, origin: Origin, ranks: Ranks) -> None:
    """Write everything that a run needs to go on as if it had never stopped; every rank calls it.

    Args:
        path: main file.
        state: of this rank.
        step: steps done; the place in the data and the learning rate follow from it.
        origin: of the run.
        ranks: all of them.

    Raises:
        DataError: a rank cannot write; what was there before is still there.
    """
    part = {
        "head": state.head.state_dict(),
        "rows": _rows(state.head),
        "optimizer": _slots(state.head, state.optimizers[1]),
        "rng": torch.get_rng_state(),
        "device_rng": torch.cuda.get_rng_state(ranks.device) if ranks.device.startswith("cuda") else None,
    }
    names = [f"{path.stem}.{step}-{rank}of{ranks.world}{path.suffix}" for rank in range(ranks.world)]
    several = ranks.world > 1
    if several:
        _agreed(ranks, path.with_name(names[ranks.rank]), part)
    main = {
        "format": FORMAT,
        "backbone": origin.backbone,
        "model": state.model.state_dict(),
        "optimizer": _slots(state.model, state.optimizers[0]),
        "scaler": state.scaler.state_dict(),
        "step": step,
        "recipe": dict(origin.recipe),
        "data": origin.data,
        "parts": names if several else [part],
    }
    _agreed(ranks, path if ranks.first else None, main)
    if ranks.first:
        for old in _part_files(path):
            if old.name not in names or not several:
                old.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the main file of a checkpoint; nothing in it is executed.

    Returns:
        Its keys, tensors on the CPU; `parts` holds what each rank knows, or the names of the files that do.

    Raises:
        DataError: the file is missing, damaged, or not a checkpoint of this package.
    """
    state = _read(Path(path))
    if state.get("format") != FORMAT or not state.keys() >= _KEYS:
        raise DataError(f"{path} is not a checkpoint of magface ({FORMAT}).")
    return state


def restore(path: Path, state: State, origin: Origin, ranks: Ranks) -> int:
    """Put a checkpoint back into the parts of a run, which may have another number of ranks now.

    Returns:
        Steps done.

    Raises:
        DataError: the checkpoint is unreadable, lacks a part, or is of another recipe or data set.
    """
    main = load(path)
    changed = sorted(_differences(main["recipe"], origin.recipe))
    if changed:
        raise DataError(
            f"{path} belongs to a run with another recipe ({', '.join(changed)} changed); take the same recipe, "
            "another output folder, or start again with --restart."
        )
    if main["data"] != origin.data:
        raise DataError(
            f"{path} belongs to a run on other images or from other first weights; take the same ones, another output "
            "folder, or start again with --restart."
        )
    same = len(main["parts"]) == ranks.world
    named = main["parts"][ranks.rank : ranks.rank + 1] if same else main["parts"]
    parts = [part if isinstance(part, dict) else _read(path.with_name(str(part))) for part in named]
    try:
        state.model.load_state_dict(main["model"])
        _fill(state.optimizers[0], state.model, main["optimizer"])
        head, slots = _resharded(parts, _rows(state.head))
        state.head.load_state_dict(head)
        _fill(state.optimizers[1], state.head, slots)
        state.scaler.load_state_dict(main["scaler"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds another network than the recipe names; start again with --restart.") from error
    if same:
        torch.set_rng_state(parts[0]["rng"])
        if parts[0]["device_rng"] is not None and ranks.device.startswith("cuda"):
            torch.cuda.set_rng_state(parts[0]["device_rng"], ranks.device)
    return int(main["step"])


def _agreed(ranks: Ranks, path: Path | None, content: dict[str, Any]) -> None:
    """Write a file where there is a path; on failure of one rank every rank raises, and none waits for it."""
    reason = ""
    if path is not None:
        try:
            with atomic_path(path) as temporary:
                torch.save(content, temporary)
        except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
            reason = str(error).splitlines()[0]
    if ranks.any(bool(reason))[0]:
        raise DataError(
            f"the checkpoint cannot be written ({reason or 'on another rank'}); make room, and run the same command "
            "again: it goes on from the checkpoint before."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on files that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on hostile bytes the restricted unpickler fails in many ways
        raise DataError(f"the checkpoint {path} cannot be read; it is missing or damaged.") from error
    if not isinstance(state, dict):
        raise DataError(f"{path} is not a checkpoint of magface ({FORMAT}).")
    return state


def _part_files(path: Path) -> Iterator[Path]:
    return path.parent.glob(f"{path.stem}.*-*of*{path.suffix}")


def _rows(head: nn.Module) -> tuple[int, int] | None:
    """First and last class of a head that holds some of them, or None."""
    rows: slice | None = getattr(head, "rows", None)
    return None if rows is None else (rows.start, rows.stop)


def _trained(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def _slots(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """What an optimizer remembers of each parameter, by the name of the parameter."""
    state = optimizer.state_dict()["state"]
    parameters = dict(module.named_parameters())
    order = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    return {name: state[order.index(id(parameters[name]))] for name in _trained(module) if state}


def _fill(optimizer: torch.optim.Optimizer, module: nn.Module, slots: dict[str, dict[str, Any]]) -> None:
    parameters = dict(module.named_parameters())
    order = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    state = {order.index(id(parameters[name])): values for name, values in slots.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _resharded(
    parts: list[dict[str, Any]], wanted: tuple[int, int] | None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """State of a head and its optimizer for the rows `wanted`, from parts that hold other rows."""
    head, slots = dict(parts[0]["head"]), dict(parts[0]["optimizer"])
    if wanted is None:
        return head, slots
    rows = [part["rows"] for part in parts]
    head[_CENTRES] = _cut(rows, [part["head"][_CENTRES] for part in parts], wanted)
    if _CENTRES in slots:
        every = [part["optimizer"][_CENTRES] for part in parts]
        slots[_CENTRES] = {
            name: _cut(rows, [slot[name] for slot in every], wanted) if value.ndim else value
            for name, value in slots[_CENTRES].items()
        }
    return head, slots


def _cut(rows: list[tuple[int, int]], pieces: list[Tensor], wanted: tuple[int, int]) -> Tensor:
    """Rows `wanted` of a matrix that lies in pieces, each with its first row and the one after its last."""
    start, stop = wanted
    spans = ((max(start - a, 0), max(min(stop, b) - a, 0)) for a, b in rows)
    return torch.cat([piece[first:last] for (first, last), piece in zip(spans, pieces, strict=True)])


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], where: str = "") -> list[str]:
    found: list[str] = []
    for key in a.keys() | b.keys():
        one, other = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{where}{key}.")
        elif one != other:
            found.append(f"{where}{key}")
    return found
