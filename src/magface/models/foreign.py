"""Checkpoints of other code bases: MagFace, arcface_torch, AdaFace; and plain weights of the networks built here.

They are told by the names of their tensors, not by that of the file. The names of MagFace and of arcface_torch
coincide, but what they do to the pixels does not: where the file leaves that open, the user has to say it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from magface import backbones
from magface.errors import DataError
from magface.models import tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

Origin = Literal["magface", "arcface", "adaface", "own"]

DATA_PARALLEL = "MagFace (DataParallel)"
_DEPTHS = {
    "iresnet": {8: 18, 16: 34, 24: 50, 49: 100, 98: 200},
    "ir": {8: 18, 16: 34, 24: 50, 49: 101},
}
"""Depth by the number of residual units."""
_FIRST = {"iresnet": "conv1.weight", "ir": "input_layer.0.weight"}
_UNIT = re.compile(r"((?:layer\d|body)\.\d+)\.")
_SIZE = 512


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a code base names the tensors of a checkpoint: prefix of the network, class centres, what else is there."""

    kind: str
    prefix: str
    family: Literal["iresnet", "ir"]
    origin: Origin | None = None
    centres: str = ""
    transposed: bool = False
    others: tuple[str, ...] = ()


_LAYOUTS = (
    _Layout(DATA_PARALLEL, "module.features.", "iresnet", "magface", "module.fc.weight", transposed=True),
    _Layout("MagFace (DistributedDataParallel)", "features.module.", "iresnet", "magface", "parallel_fc.weight"),
    _Layout(
        "AdaFace (Lightning)",
        "model.",
        "ir",
        "adaface",
        "head.kernel",
        transposed=True,
        others=("head.t", "head.batch_mean", "head.batch_std"),
    ),
    _Layout("iResNet", "module.", "iresnet"),
    _Layout("iResNet", "", "iresnet"),
    _Layout("IR", "module.", "ir"),
    _Layout("IR", "", "ir"),
)
_NAMED = ("sface", "magsface", "mobilefacenet")
"""Networks whose names of tensors are theirs alone."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint that was recognised, whole and finite.

    Attributes:
        backbone: name in `magface.backbones`; settings of normalisation and preprocessing follow from it.
        kind: who wrote the file, for people to read.
        state: float32 tensors under the names of `backbone`.
        centres: `(C, D)` float32 class centres of the training, not normalised, where the file has them. That of one
            process of several may hold a part of the classes only.
    """

    backbone: str
    kind: str
    state: Mapping[str, Tensor]
    centres: Tensor | None

    def network(self) -> nn.Module:
        """The network with these weights, in training mode like any that was just built."""
        network = _empty(self.backbone)
        network.load_state_dict(self.state, assign=True)
        return network


def load(path: str | os.PathLike[str], origin: Origin | None = None) -> tuple[str, nn.Module, Tensor | None]:
    """Name of the backbone, the network, and the class centres of a checkpoint; arguments and errors of `read`."""
    weights = read(path, origin)
    return weights.backbone, weights.network(), weights.centres


def read(path: str | os.PathLike[str], origin: Origin | None = None) -> Weights:
    """Recognise a checkpoint and take the tensors of its network, every one; nothing in the file is executed.

    Of the rest, class centres are kept; optimizers and AdaFace's running statistics of magnitudes are not.

    Args:
        path: of a file of torch or safetensors.
        origin: whose network it is, against what the file says; `None` takes the file's word.

    Raises:
        DataError: the file cannot be read, is not known, lacks tensors, has others or some of another shape, holds NaN,
            or does not say whose network it is.
    """
    path = Path(path)
    found, beside, said = _unpacked(path, tensors.read(path))
    layout = next((each for each in _LAYOUTS if each.prefix + _FIRST[each.family] in found), None)
    if layout is None:
        backbone, state = _named(path, found, origin)
        return Weights(backbone, "plain weights", _checked(path, backbone, state), None)
    centres = found.get(layout.centres, beside)
    others = (layout.centres, *layout.others)
    state = _stripped(path, {name: tensor for name, tensor in found.items() if name not in others}, layout.prefix)
    whose = origin or layout.origin or said or _evident(state)
    backbone = _backbone(path, layout.family, state, whose)
    kind = layout.kind if layout.origin else f"{layout.kind} ({whose})"
    return Weights(backbone, kind, _checked(path, backbone, state), _centres(path, centres, layout.transposed))


def _unpacked(path: Path, content: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor | None, Origin | None]:
    """The tensors of the network in a checkpoint, class centres beside them, and whose network that makes it."""
    import torch

    if str(content.get("format", "")).startswith("magface-checkpoint"):
        raise DataError(f"{path} is a checkpoint of this package; make a model file of it with `magface export`.")
    found, centres = content, None
    said: Origin | None = None
    if isinstance(content.get("state_dict_backbone"), dict):  # of arcface_torch, to go on training
        head = content.get("state_dict_softmax_fc")
        centres = head.get("weight") if isinstance(head, dict) else None
        found, said = content["state_dict_backbone"], "arcface"
    elif isinstance(content.get("state_dict"), dict):
        found = content["state_dict"]
        said = "magface" if str(content.get("arch", "")).startswith("iresnet") else None
    odd = [
        str(name) for name, tensor in found.items() if not (isinstance(name, str) and isinstance(tensor, torch.Tensor))
    ]
    if odd or not found:
        what = f"{_some(odd)} in it is no tensor" if odd else "it is empty"
        raise DataError(f"{path} holds no weights of a network ({what}); save the state_dict of the network.")
    return found, centres, said


def _named(path: Path, found: Mapping[str, Tensor], origin: Origin | None) -> tuple[str, Mapping[str, Tensor]]:
    """A network whose names of tensors are its own."""
    names = [name.removeprefix("module.") for name in found]
    state = dict(zip(names, found.values(), strict=True))
    for backbone in _NAMED:
        if _lasting(state) == _lasting(_empty(backbone).state_dict()) and len(state) == len(found):
            if origin not in (None, "own"):
                raise DataError(f"{path} holds a {backbone}, which is no network of {origin}; leave --origin out.")
            return backbone, state
    raise DataError(
        f"{path} holds no network that is known here: an iResNet as MagFace and arcface_torch have it, an IR as "
        f"AdaFace has it, or {', '.join(_NAMED)}; its tensors are {_some(found)}."
    )


def _stripped(path: Path, found: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    foreign = [name for name in found if not name.startswith(prefix)]
    if foreign:
        raise DataError(f"{path} has tensors that do not belong to its network: {_some(foreign)}.")
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _evident(state: Mapping[str, Tensor]) -> Origin | None:
    """arcface_torch keeps the last scale at 1, where no training with a scale ends."""
    scale = state.get("features.weight")
    return "arcface" if scale is not None and scale.shape == (_SIZE,) and bool((scale == 1).all()) else None


def _backbone(path: Path, family: str, state: Mapping[str, Tensor], origin: Origin | None) -> str:
    """Name of the network that the names of the tensors and its origin make."""
    units = len({unit[1] for unit in map(_UNIT.match, state) if unit})
    if units not in _DEPTHS[family]:
        known = ", ".join(map(str, _DEPTHS[family]))
        raise DataError(f"{path} holds a network of {units} residual units; known are those of {known}.")
    depth = _DEPTHS[family][units]
    known_origins = ("adaface",) if family == "ir" else ("magface", "arcface", "own")
    if origin is None:
        choices = ", ".join(f"{each} ({_pixels(family, depth, each)})" for each in known_origins)
        raise DataError(
            f"{path} holds {family}{depth}, but not what was done to the pixels it was trained on; say whose it is "
            f"with --origin: {choices}."
        )
    if origin not in known_origins:
        raise DataError(f"{path} holds {family}{depth}, which is no network of {origin}; leave --origin out.")
    return _name(family, depth, origin)


def _name(family: str, depth: int, origin: str) -> str:
    return f"{family}{depth}" if origin == "own" else f"{family}{depth}-{origin}"


def _pixels(family: str, depth: int, origin: str) -> str:
    return str(_empty(_name(family, depth, origin)).preprocessing)


def _checked(path: Path, backbone: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors, after their names, shapes, types and numbers were seen to be those of the network."""
    expected = _empty(backbone).state_dict()
    faults = {
        "it lacks": sorted(_lasting(expected) - state.keys()),
        "it also has": sorted(state.keys() - expected.keys()),
        "of another shape or type are": [
            f"{name} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            for name, tensor in state.items()
            if name in expected and not _fits(tensor, expected[name])
        ],
    }
    said = "; ".join(f"{what} {_some(names)}" for what, names in faults.items() if names)
    if said:
        raise DataError(f"{path} does not hold the weights of {backbone}: {said}.")
    copies = {name: state[name].detach().to(kind.dtype, copy=True) for name, kind in expected.items() if name in state}
    broken = [name for name, tensor in copies.items() if not tensor.isfinite().all()]
    if broken:
        raise DataError(f"{path} holds NaN or infinity in {_some(broken)}; get it again.")
    return copies | {name: kind.new_zeros((), device="cpu") for name, kind in expected.items() if name not in copies}


def _fits(tensor: Tensor, expected: Tensor) -> bool:
    kind = tensor.is_floating_point() == expected.is_floating_point() and not tensor.is_complex()
    return kind and tensor.shape == expected.shape and _stored(tensor)


def _stored(tensor: Tensor) -> bool:
    """Whether the file has as many numbers as the shape says, not one number that stands for many."""
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _centres(path: Path, centres: Any, transposed: bool) -> Tensor | None:
    import torch

    if centres is None:
        return None
    shaped = isinstance(centres, torch.Tensor) and centres.ndim == 2 and centres.shape[0 if transposed else 1] == _SIZE
    if not shaped or not centres.is_floating_point() or not _stored(centres) or not centres.isfinite().all():
        raise DataError(f"the class centres in {path} are not finite vectors of {_SIZE} numbers; get it again.")
    return (centres.T if transposed else centres).detach().float().clone(memory_format=torch.contiguous_format)


def _empty(backbone: str) -> Any:
    """A network without numbers."""
    import torch

    with torch.device("meta"):
        return backbones.build(backbone)


def _lasting(names: Iterable[str]) -> set[str]:
    """Without the counters, which change nothing that a network gives and which some files leave out."""
    return {name for name in names if not name.endswith("num_batches_tracked")}


def _some(names: Iterable[str]) -> str:
    first, *others = list(names)
    shown = ", ".join([first, *others[:2]])[:200]
    return f"{shown} and {len(others) - 2} more" if len(others) > 2 else shown
