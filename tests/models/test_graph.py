import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from magface.models.graph import strip


def test_traces_and_what_is_not_used_are_gone():
    node = helper.make_node("Add", ["x", "b"], ["y"], doc_string="made in /home/me")
    tensors = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("z", "b")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], tensors), producer_name="me")
    helper.set_model_props(model, {"path": "/home/me"})
    kept = strip(model)
    assert [tensor.name for tensor in kept] == ["b"]
    assert not model.graph.initializer
    assert b"/home/me" not in model.SerializeToString()
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)
