"""Networks to start from: published weights, or those of an earlier run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magface import align, backbones
from magface.backbones import sface
from magface.engines.torch import weights as stored
from magface.errors import ModelError
from magface.models import card, foreign, packaged, tensors
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


def scratch(backbone: str, seed: int = 0) -> nn.Module:
    """A network with random first weights, which the seed decides.

    Raises:
        ModelError: no network has that name.
    """
    torch.manual_seed(seed)
    return backbones.build(backbone)


def start(model: str, backbone: str = "", seed: int = 0, origin: foreign.Origin | None = None) -> tuple[str, nn.Module]:
    """The network from which fine-tuning starts.

    Args:
        model: name of published weights, a model file (.onnx), a checkpoint of this package or of another project.
        backbone: network that takes the weights; that of the model by default. It may have a magnitude branch beside.
        seed: of the weights that the model does not have, those of a magnitude branch.
        origin: whose network a checkpoint of another project holds, see `models.foreign.read`.

    Returns:
        Name of the network, and the network.

    Raises:
        ModelError: the weights are of another network, or the package that carries published ones is missing or
            damaged, or the file is not one of weights.
        DataError: the checkpoint cannot be read.
    """
    name, weights = _weights(model, origin)
    network = scratch(backbone or name, seed)
    own = network.state_dict()
    optional = {key for key in own if key.startswith("branch.") or key.endswith("num_batches_tracked")}
    shapes = {key: tensor.shape for key, tensor in weights.items()}
    if not own.keys() >= shapes.keys() >= own.keys() - optional or any(own[n].shape != shapes[n] for n in shapes):
        raise ModelError(f"the weights of {model} are those of {name!r}, which {backbone or name!r} cannot take.")
    network.load_state_dict(weights, strict=False)
    return backbone or name, network


def _weights(model: str, origin: foreign.Origin | None) -> tuple[str, dict[str, Tensor]]:
    """Name of the network of a model, and its weights."""
    if model == "sface":
        return model, sface.from_published(_sface_tensors())
    if model.endswith(".onnx"):
        content = card.content(model)
        return card.read(content)[0].backbone, {k: torch.from_numpy(v) for k, v in stored(content).items()}
    if "magface-checkpoint" in str(tensors.read(model).get("format")):
        state = checkpoint.load(model)
        return state["backbone"], state["model"]
    found = foreign.read(model, origin)
    return found.backbone, dict(found.state)


def _sface_tensors() -> dict[str, NDArray[np.float32]]:
    """Tensors of the published SFace under their own names, not those of their quantised form."""
    import onnx

    constants, _ = packaged.fold(onnx.load_model_from_string(packaged.read("sface")).graph)
    return {name.removesuffix("_dequantized").removesuffix("_reshaped"): value for name, value in constants.items()}
