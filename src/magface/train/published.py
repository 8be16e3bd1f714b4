"""Networks to start from: published weights, or those of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from magface import align, backbones
from magface.backbones import sface
from magface.errors import ModelError
from magface.models import packaged
from magface.train import checkpoint

CARDS: dict[str, dict[str, Any]] = {
    "sface": {
        "name": "sface",
        "version": "2021dec",
        "licence": "Apache-2.0",
        "notices": (
            "SFace (face_recognition_sface_2021dec), Copyright 2021 Y. Zhong, W. Deng, J. Hu, D. Zhao, X. Li, D. Wen; "
            "published in the OpenCV Zoo under the Apache License 2.0; dequantised, otherwise unchanged."
        ),
        "training_data": "Faces from the web, gathered for research; not stated for these weights by their authors.",
        "recipe": "magface export sface",
        "template": align.TEMPLATE.tolist(),
        "detector": "yunet",
    }
}
"""What is known of published weights, by the name of their network: the fields of a card that are not measured."""


def start(backbone: str, seed: int = 0, earlier: Path | None = None) -> nn.Module:
    """The network from which a run starts.

    Args:
        backbone: its name.
        seed: of the weights that nobody published, those of a magnitude branch.
        earlier: checkpoint to take the weights from; published ones by default.

    Raises:
        ModelError: no weights of this network are published, the package that carries them is missing or damaged, or
            the checkpoint is of another network.
        DataError: the checkpoint cannot be read.
    """
    torch.manual_seed(seed)
    network = backbones.build(backbone)
    if earlier is not None:
        state = checkpoint.load(earlier)
        if state["backbone"] != backbone:
            raise ModelError(f"{earlier} holds the network {state['backbone']!r}; the recipe asks for {backbone!r}.")
        weights = state["model"]
    elif backbone in ("sface", "magsface"):
        weights = sface.from_published(_sface_tensors())
    else:
        raise ModelError(f"no weights of {backbone!r} are published; give a checkpoint with --start.")
    own = network.state_dict()
    optional = {name for name in own if name.startswith("branch.") or name.endswith("num_batches_tracked")}
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    if not own.keys() >= shapes.keys() >= own.keys() - optional or any(own[n].shape != shapes[n] for n in shapes):
        raise ModelError(f"the weights are not those of a network {backbone!r} as it is built now.")
    network.load_state_dict(weights, strict=False)
    return network


def _sface_tensors() -> dict[str, NDArray[np.float32]]:
    """Tensors of the published SFace under their own names, not those of their quantised form."""
    import onnx

    constants, _ = packaged.fold(onnx.load_model_from_string(packaged.read("sface")).graph)
    return {name.removesuffix("_dequantized").removesuffix("_reshaped"): value for name, value in constants.items()}
