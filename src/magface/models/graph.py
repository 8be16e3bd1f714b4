"""What every graph that this package writes has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def strip(model: ModelProto) -> list[TensorProto]:
    """Take from a model, in place, traces of how it was made, and all initializers.

    Returns:
        The initializers that are used, by name.
    """
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    used = {name for node in graph.node for name in node.input}
    tensors = sorted((tensor for tensor in graph.initializer if tensor.name in used), key=lambda tensor: tensor.name)
    graph.ClearField("initializer")
    model.producer_name, model.producer_version = "magface", ""
    return tensors
