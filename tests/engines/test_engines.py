import gc
import importlib
import subprocess
import sys
import weakref

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from magface import engines
from magface.errors import EngineError, ModelError
from magface.models import default

NAMES = ("openvino", "onnxruntime", "torch")
RUNTIMES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    return default.path().read_bytes()


@pytest.fixture(scope="module")
def detector():
    """A graph of a detector's kind: any number of images of any size, outputs in an order unlike the alphabet's."""
    kernel = np.random.default_rng(1).normal(size=(2, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["z_map"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["z_map"], ["a_score"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2, "H", "W"]) for n in ("z_map", "a_score")]
    graph = helper.make_graph(nodes, "detector", [image], outputs, [numpy_helper.from_array(kernel, "kernel")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


@pytest.fixture(scope="module", params=NAMES)
def engine(request, network):
    return engines.load(network, request.param)


def test_all_engines_agree(network, crops):
    outputs = [engines.load(network, name)(crops)[0] for name in NAMES]
    for output in outputs[1:]:
        assert np.abs(output - outputs[0]).max() <= 1e-4 * np.abs(outputs[0]).max()


def test_the_name_is_that_of_the_engine(network):
    assert [engines.load(network, name).name for name in NAMES] == list(NAMES)


def test_the_input_is_described(engine):
    assert engine.shape == (None, 112, 112, 3)
    assert engine.dtype == np.uint8


def test_stream_gives_each_batch_in_order(engine, crops):
    sizes = [1, 3, 2, 5, 1, 1, 4, 2, 1, 1]
    streamed = list(engine.stream(crops[-size:] for size in sizes))
    whole = engine(crops)[0]
    assert [len(output) for [output] in streamed] == sizes
    for size, [output] in zip(sizes, streamed, strict=True):
        np.testing.assert_allclose(output, whole[-size:], rtol=0, atol=1e-4 * np.abs(whole).max())


def test_a_batch_of_a_stream_is_filled_up_and_cut_again(network, crops):
    engine = engines.load(network, "openvino")
    [[whole]] = engine.stream([crops])
    compiled = engine._parallel
    streamed = [output for [output] in engine.stream(crops[start : start + 2] for start in (0, 2, 4))]
    assert [len(output) for output in streamed] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate(streamed), whole, rtol=0, atol=1e-6 * np.abs(whole).max())
    assert engine._parallel is compiled


def test_streaming_nothing_gives_nothing(engine):
    assert list(engine.stream([])) == []


def test_outputs_stay_what_they_were(engine, crops):
    first = engine(crops[:1])[0]
    kept = first.copy()
    engine(crops[1:2])
    outputs = [output for [output] in engine.stream(crops[row : row + 1] for row in (0, 1, 2, 3, 4, 0))]
    assert (first == kept).all()
    assert (outputs[0] == outputs[5]).all()
    assert (outputs[0] != outputs[4]).any()


def test_a_stream_holds_a_few_batches_only(engine, crops):
    made = []
    most = 0

    def batches():
        nonlocal most
        for _ in range(40):
            batch = crops[:1].copy()
            made.append(weakref.ref(batch))
            gc.collect(0)
            most = max(most, sum(reference() is not None for reference in made))
            yield batch

    stream = engine.stream(batches())
    next(stream)
    assert len(made) <= 10
    assert len(list(stream)) == 39
    assert most <= 12


def test_an_error_of_the_source_comes_through_and_the_engine_goes_on(engine, crops):
    def batches():
        yield crops
        yield crops
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        list(engine.stream(batches()))
    assert len(list(engine.stream([crops]))) == 1


def test_a_stream_may_be_left(engine, crops):
    stream = engine.stream(crops[:1] for _ in range(50))
    next(stream)
    stream.close()
    assert engine(crops)[0].shape == (5, 128)


@pytest.mark.parametrize("spoil", [lambda x: x[:, :50], lambda x: x.astype(np.float32), lambda x: x[0]])
def test_what_does_not_fit_is_refused(engine, crops, spoil):
    with pytest.raises(EngineError, match="cannot take an input of shape"):
        engine(spoil(crops))
    with pytest.raises(EngineError, match="cannot take an input of shape"):
        list(engine.stream([crops, spoil(crops)]))


def test_any_graph_runs_with_its_outputs_in_order(detector):
    first, second = (engines.load(detector, name) for name in RUNTIMES)
    assert first.shape == second.shape == (None, 3, None, None)
    for size in ((1, 3, 32, 64), (2, 3, 96, 32), (3, 3, 32, 32)):
        images = np.random.default_rng(2).normal(size=size).astype(np.float32)
        outputs = [*first(images), *next(first.stream([images])), *second(images)]
        for here, there in zip(outputs[:4], outputs[4:] * 2, strict=True):
            np.testing.assert_allclose(here, there, atol=1e-5)
        np.testing.assert_allclose(outputs[1], 1 / (1 + np.exp(-outputs[0])), atol=1e-5)


def test_torch_refuses_a_graph_without_a_card(detector):
    with pytest.raises(ModelError, match="torch runs only models of this package"):
        engines.load(detector, "torch")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [0, 1000, 0.5, 0.999])
def test_a_damaged_file_is_refused(network, tmp_path, name, cut):
    path = tmp_path / "m.onnx"
    path.write_bytes(network[: int(cut * len(network)) if isinstance(cut, float) else cut])
    with pytest.raises(ModelError, match="get it again"):
        engines.load(path, name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="check the path"):
        engines.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_graph_with_two_inputs_is_refused(name):
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "ab"]
    outputs = [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "add", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(ModelError, match="2 inputs"):
        engines.load(model.SerializeToString(), name)


def test_options_are_held_to_what_there_is(network):
    with pytest.raises(EngineError, match="did you mean 'onnxruntime'"):
        engines.load(network, "onnxruntim")
    with pytest.raises(EngineError, match="unknown engine 'gpu'"):
        engines.load(network, "gpu")
    with pytest.raises(EngineError, match="Choose f32 or bf16"):
        engines.load(network, precision="f16")
    with pytest.raises(EngineError, match="at least 1"):
        engines.load(network, threads=0)
    with pytest.raises(EngineError, match="has no bf16"):
        engines.load(network, "onnxruntime", precision="bf16")


def test_one_thread_gives_the_same(network, crops):
    for name in RUNTIMES:
        one, all_ = (engines.load(network, name, threads=threads)(crops)[0] for threads in (1, None))
        np.testing.assert_allclose(one, all_, rtol=0, atol=1e-4 * np.abs(one).max())


AFFINITIES = """
import contextlib, os, sys
import numpy as np
from magface import engines
from magface.models import default

free = os.sched_getaffinity(0)
engine = engines.load(default.path().read_bytes(), "openvino", threads=1)
bound = set()
for _ in engine.stream(np.zeros((40, 4, 112, 112, 3), np.uint8)):
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            bound |= {task} if os.sched_getaffinity(int(task)) != free else set()
sys.exit(len(bound))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at the threads as Linux shows them")
def test_few_threads_are_bound_to_no_core_which_another_process_would_take_too():
    assert subprocess.run([sys.executable, "-c", AFFINITIES], check=False).returncode == 0


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_bf16_is_close(network, crops, name):
    try:
        half = engines.load(network, name, precision="bf16")(crops)[0]
    except EngineError as error:
        pytest.skip(str(error))
    full = engines.load(network, name)(crops)[0]
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 0.05 * np.abs(full).max()


def test_auto_takes_the_fastest_that_imports(network, monkeypatch):
    assert engines.load(network).name == "openvino"
    import_module = importlib.import_module

    def without(name):
        if name == "openvino":
            raise ImportError("broken installation")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", without)
    assert engines.load(network).name == "onnxruntime"
    with pytest.raises(EngineError, match=r"openvino cannot be used \(broken installation\); pip install openvino"):
        engines.load(network, "openvino")


@pytest.mark.parametrize("name", RUNTIMES)
def test_inference_loads_no_torch_and_prints_nothing(name):
    program = (
        "import sys, numpy; from magface import engines; from magface.models import default;"
        f"engines.load(default.path(), {name!r})(numpy.zeros((1, 112, 112, 3), numpy.uint8));"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_changed_weight_is_not_loaded_into_another_network(network):
    model = onnx.load_model_from_string(network)
    for tensor in list(model.graph.initializer):
        if tensor.name == "fc.bias":
            model.graph.initializer.remove(tensor)
    with pytest.raises(ModelError, match="hash"):
        engines.load(model.SerializeToString(), "torch")
