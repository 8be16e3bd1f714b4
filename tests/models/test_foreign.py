"""Files with the layouts of other code bases, and what those code bases would compute from them."""

import collections
import json
import struct
import sys
import types

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from magface import backbones, engines
from magface.errors import DataError
from magface.export import to_onnx
from magface.models import foreign, tensors

WIDTHS = (64, 128, 256, 512)
BLOCKS = (2, 2, 2, 2)
CLASSES = 7


class Maker:
    """Random tensors of a network, those of trained ones in scale."""

    def __init__(self, seed):
        self.rng = torch.Generator().manual_seed(seed)
        self.state = collections.OrderedDict()

    def rand(self, *shape):
        return torch.rand(shape, generator=self.rng)

    def kernel(self, name, outputs, inputs, *size):
        scale = (inputs * torch.Size(size).numel()) ** -0.5
        self.state[f"{name}.weight"] = torch.randn(outputs, inputs, *size, generator=self.rng) * scale

    def norm(self, name, size, affine=True):
        if affine:
            self.state |= {f"{name}.weight": self.rand(size) + 0.5, f"{name}.bias": self.rand(size) - 0.5}
        self.state |= {f"{name}.running_mean": self.rand(size) - 0.5, f"{name}.running_var": self.rand(size) + 0.5}
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(11)

    def slope(self, name, size):
        self.state[f"{name}.weight"] = self.rand(size) / 2

    def linear(self, name):
        self.kernel(name, 512, 512 * 49)
        self.state[f"{name}.bias"] = self.rand(512) - 0.5


def iresnet(seed=0):
    make = Maker(seed)
    make.kernel("conv1", 64, 3, 3, 3)
    make.norm("bn1", 64)
    make.slope("prelu", 64)
    inputs = 64
    for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True), 1):
        for index in range(blocks):
            unit = f"layer{stage}.{index}"
            make.norm(f"{unit}.bn1", inputs)
            make.kernel(f"{unit}.conv1", width, inputs, 3, 3)
            make.norm(f"{unit}.bn2", width)
            make.slope(f"{unit}.prelu", width)
            make.kernel(f"{unit}.conv2", width, width, 3, 3)
            make.norm(f"{unit}.bn3", width)
            if not index:
                make.kernel(f"{unit}.downsample.0", width, inputs, 1, 1)
                make.norm(f"{unit}.downsample.1", width)
            inputs = width
    make.norm("bn2", 512)
    make.linear("fc")
    make.norm("features", 512)
    return make.state


def ir(seed=0):
    make = Maker(seed)
    make.kernel("input_layer.0", 64, 3, 3, 3)
    make.norm("input_layer.1", 64)
    make.slope("input_layer.2", 64)
    inputs, number = 64, 0
    for width, blocks in zip(WIDTHS, BLOCKS, strict=True):
        for _ in range(blocks):
            unit = f"body.{number}"
            if inputs != width:
                make.kernel(f"{unit}.shortcut_layer.0", width, inputs, 1, 1)
                make.norm(f"{unit}.shortcut_layer.1", width)
            make.norm(f"{unit}.res_layer.0", inputs)
            make.kernel(f"{unit}.res_layer.1", width, inputs, 3, 3)
            make.norm(f"{unit}.res_layer.2", width)
            make.slope(f"{unit}.res_layer.3", width)
            make.kernel(f"{unit}.res_layer.4", width, width, 3, 3)
            make.norm(f"{unit}.res_layer.5", width)
            inputs, number = width, number + 1
    make.norm("output_layer.0", 512)
    make.linear("output_layer.3")
    make.norm("output_layer.4", 512, affine=False)
    return make.state


def norm(state, name, x, eps):
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, state.get(f"{name}.weight"), state.get(f"{name}.bias"), eps=eps)


def conv(state, name, x, stride=1):
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def unit(state, names, x, stride, eps):
    """The two convolutions of a residual unit; its five parts by name."""
    y = conv(state, names[1], norm(state, names[0], x, eps))
    y = F.prelu(norm(state, names[2], y, eps), state[f"{names[3]}.weight"])
    return norm(state, names[5], conv(state, names[4], y, stride), eps)


def iresnet_embeddings(state, x, eps):
    x = F.prelu(norm(state, "bn1", conv(state, "conv1", x), eps), state["prelu.weight"])
    for stage, blocks in enumerate(BLOCKS, 1):
        for index in range(blocks):
            at, stride = f"layer{stage}.{index}", 1 if index else 2
            names = [f"{at}.{part}" for part in ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")]
            short = x if index else norm(state, f"{at}.downsample.1", conv(state, f"{at}.downsample.0", x, 2), eps)
            x = short + unit(state, names, x, stride, eps)
    x = F.linear(norm(state, "bn2", x, eps).flatten(1), state["fc.weight"], state["fc.bias"])
    return norm(state, "features", x, eps)


def ir_embeddings(state, x):
    eps = 1e-5
    x = F.prelu(norm(state, "input_layer.1", conv(state, "input_layer.0", x), eps), state["input_layer.2.weight"])
    for number in range(sum(BLOCKS)):
        at, stride = f"body.{number}", 2 if number % 2 == 0 else 1
        short = x[:, :, ::stride, ::stride]
        if f"{at}.shortcut_layer.0.weight" in state:
            short = norm(state, f"{at}.shortcut_layer.1", conv(state, f"{at}.shortcut_layer.0", x, stride), eps)
        x = short + unit(state, [f"{at}.res_layer.{part}" for part in range(6)], x, stride, eps)
    x = norm(state, "output_layer.0", x, eps).flatten(1)
    x = F.linear(x, state["output_layer.3.weight"], state["output_layer.3.bias"])
    return norm(state, "output_layer.4", x, eps)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)


def pixels(images, *, bgr, centred):
    """What the official evaluation feeds to a network, from RGB images."""
    x = images[..., ::-1] if bgr else images
    x = x.astype(np.float32) / 255
    return torch.from_numpy(((x - 0.5) / 0.5 if centred else x).transpose(0, 3, 1, 2).copy())


def save(path, content, **options):
    torch.save(content, path, **options)
    return path


def centres(seed=1):
    return torch.randn(CLASSES, 512, generator=torch.Generator().manual_seed(seed))


def magface_parallel(state):
    network = {f"module.features.{name}": tensor for name, tensor in state.items()}
    full = collections.OrderedDict(network | {"module.fc.weight": centres().T.contiguous()})
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {"epoch": 25, "arch": "iresnet18", "state_dict": full, "optimizer": optimizer}


def magface_distributed(state):
    network = {f"features.module.{name}": tensor for name, tensor in state.items()}
    return {"epoch": 25, "arch": "iresnet18", "state_dict": network | {"parallel_fc.weight": centres()}}


def frozen(state):
    """As arcface_torch leaves it."""
    return state | {"features.weight": torch.ones(512)}


def arcface_training(state):
    network = {f"module.{name}": tensor for name, tensor in frozen(state).items()}
    return {
        "epoch": 3,
        "global_step": 9,
        "state_dict_backbone": network,
        "state_dict_softmax_fc": {"weight": centres()},
    }


def adaface(state):
    network = {f"model.{name}": tensor for name, tensor in state.items()}
    head = {"head.kernel": centres().T.contiguous(), "head.t": torch.zeros(1)}
    head |= {"head.batch_mean": torch.full((1,), 20.0), "head.batch_std": torch.full((1,), 100.0)}
    milestones = {"milestones": collections.Counter([12, 20, 24])}
    return {
        "epoch": 26,
        "pytorch-lightning_version": "1.8.6",
        "state_dict": network | head,
        "lr_schedulers": [milestones],
    }


LAYOUTS = {
    "magface, parallel": (iresnet, magface_parallel, "iresnet18-magface", True),
    "magface, distributed": (iresnet, magface_distributed, "iresnet18-magface", True),
    "arcface_torch": (iresnet, frozen, "iresnet18-arcface", False),
    "arcface_torch, training": (iresnet, arcface_training, "iresnet18-arcface", True),
    "adaface": (ir, adaface, "ir18-adaface", True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_embeddings_are_those_of_the_code_base(tmp_path, images, layout):
    make, lay, name, has_centres = LAYOUTS[layout]
    state = make()
    path = save(tmp_path / "anything.bin", lay(state))
    backbone, network, found = foreign.load(path)
    path.unlink()  # nothing hangs on the file any more
    assert backbone == name
    if make is ir:
        expected = ir_embeddings(state, pixels(images, bgr=True, centred=True))
    elif "magface" in layout:
        expected = iresnet_embeddings(state, pixels(images, bgr=True, centred=False), 2e-5)
    else:
        expected = iresnet_embeddings(frozen(state), pixels(images, bgr=False, centred=True), 1e-5)
    assert network.training
    with torch.inference_mode():
        embeddings = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    assert (embeddings - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert expected.norm(dim=1).min() > 1
    if layout in ("arcface_torch", "adaface"):  # MagFace goes the whole way in tests/cli/test_import.py
        content, size = to_onnx(network, half=False)
        [run] = engines.load(content, "onnxruntime")(images)
        assert size == 512
        assert np.abs(run - expected.numpy()).max() <= 1e-5 * expected.abs().max()
    if has_centres:
        assert torch.equal(found, centres())
        assert found.is_contiguous()
    else:
        assert found is None


@pytest.fixture(scope="module")
def state():
    return iresnet()


@pytest.fixture
def holding(monkeypatch):
    """Lets every file hold some tensors."""
    return lambda content: monkeypatch.setattr(tensors, "read", lambda path: content)


def test_a_network_can_be_trained_on(holding, state):
    holding(frozen(state))
    _, network, _ = foreign.load("a.pt")
    assert [name for name, each in network.named_parameters() if not each.requires_grad] == ["features.weight"]
    network(torch.rand(2, 3, 112, 112)).sum().backward()
    assert network.conv1.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("origin", "name"),
    [("magface", "iresnet18-magface"), ("arcface", "iresnet18-arcface"), ("own", "iresnet18")],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_weights_need_an_origin(holding, state, prefix, origin, name):
    holding({f"{prefix}{key}": tensor for key, tensor in state.items()})
    with pytest.raises(DataError, match=r"--origin: magface \(BGR, x / 255\), arcface \(RGB, \(x - 127.5\) / 127.5\)"):
        foreign.read("a.pt")
    assert foreign.read("a.pt", origin).backbone == name


def test_the_user_knows_better_than_the_file(holding, state):
    holding(magface_distributed(state))
    assert foreign.read("a.pt", "arcface").backbone == "iresnet18-arcface"
    with pytest.raises(DataError, match="no network of adaface"):
        foreign.read("a.pt", "adaface")


def test_arch_beside_plain_names_is_of_magface(holding, state):
    holding({"arch": "iresnet18", "state_dict": state})
    assert foreign.read("a.pt").backbone == "iresnet18-magface"


def test_plain_ir_needs_an_origin(holding):
    holding(ir())
    with pytest.raises(DataError, match=r"holds ir18.*--origin: adaface \(BGR"):
        foreign.read("a.pt")
    assert foreign.read("a.pt", "adaface").backbone == "ir18-adaface"


@pytest.mark.parametrize("name", ["sface", "mobilefacenet"])
def test_own_networks_are_told_by_their_names(tmp_path, name):
    network = backbones.build(name)
    path = save(tmp_path / "a.pt", network.state_dict())
    weights = foreign.read(path)
    assert (weights.backbone, weights.centres) == (name, None)
    assert all(torch.equal(tensor, weights.state[key]) for key, tensor in network.state_dict().items())
    with pytest.raises(DataError, match="leave --origin out"):
        foreign.read(path, "magface")


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("iresnet34-arcface", None),
        ("iresnet50-magface", "magface"),
        ("iresnet100", "own"),
        ("ir101-adaface", "adaface"),
    ],
)
def test_depth_follows_from_the_names(holding, name, origin):
    with torch.device("meta"):
        deep = backbones.build(name).state_dict()
    scale = {"features.weight": torch.ones(512)} if origin is None else {}
    holding({key: torch.zeros(1) for key in deep} | scale)
    with pytest.raises(DataError, match=f"does not hold the weights of {name}: of another shape"):
        foreign.read("a.pt", origin)


def test_half_precision_and_missing_counters_are_taken(holding, state):
    half = {name: tensor.half() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    holding(half)
    found = foreign.read("a.pt", "own").state
    assert {str(tensor.dtype) for tensor in found.values()} == {"torch.float32", "torch.int64"}
    assert torch.equal(found["fc.weight"], state["fc.weight"].half().float())
    assert found["bn1.num_batches_tracked"] == 0


# -- files that are wrong -----------------------------------------------------------------------------------------


@pytest.fixture
def refused(holding):
    """Message with which tensors that a file holds are refused."""

    def message(content, origin=None):
        holding(content)
        with pytest.raises(DataError) as error:
            foreign.read("a.pt", origin)
        return str(error.value)

    return message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fc.bias"), "it lacks fc.bias"),
        (lambda s: [s.pop(name) for name in list(s) if "layer1.0." in name], "holds a network of 7 residual units"),
        (lambda s: s.update({"fc2.weight": torch.zeros(2)}), "it also has fc2.weight"),
        (lambda s: s.update({"fc.bias": torch.zeros(511)}), "of another shape or type are fc.bias (511,) float32"),
        (lambda s: s.update({"fc.bias": torch.zeros(512, dtype=torch.int32)}), "fc.bias (512,) int32"),
        (lambda s: s.update({"fc.bias": torch.zeros(512, dtype=torch.complex64)}), "fc.bias (512,) complex64"),
        (lambda s: s.update({"fc.bias": torch.zeros(1).expand(512)}), "fc.bias"),
        (lambda s: s.update({"fc.bias": torch.full((512,), torch.nan)}), "NaN or infinity in fc.bias"),
        (lambda s: s.update({"bn1.running_var": torch.full((64,), torch.inf)}), "NaN or infinity in bn1.running_var"),
        (lambda s: s.update({"fc.bias": "text"}), "fc.bias in it is no tensor"),
        (lambda s: s.update({3: torch.zeros(1)}), "3 in it is no tensor"),
    ],
)
def test_what_does_not_fit_is_named(state, refused, change, message):
    changed = dict(state)
    change(changed)
    assert message in refused(changed, "arcface")


def test_tensors_beside_a_wrapped_network_are_named(state, refused):
    content = magface_parallel(state)
    content["state_dict"]["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    assert "do not belong to its network: conv1.weight" in refused(content)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, 5), torch.full((512, 3), torch.nan), torch.zeros(1, 1).expand(512, 9)]
)
def test_class_centres_that_are_none_are_refused(state, refused, wrong):
    content = magface_parallel(state)
    content["state_dict"]["module.fc.weight"] = wrong
    assert "class centres" in refused(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "it is empty"), ({"state_dict": {}}, "it is empty"), ({"format": "magface-checkpoint-9"}, "magface export")],
)
def test_what_holds_no_network_is_refused(refused, content, message):
    assert message in refused(content)


def test_a_list_is_refused(tmp_path):
    with pytest.raises(DataError, match="no dictionary of tensors"):
        foreign.read(save(tmp_path / "a.pt", [torch.zeros(1)]))


def test_another_network_is_refused_with_its_names(refused):
    message = refused(torch.nn.Linear(2, 3).state_dict())
    assert "no network that is known here: " in message
    assert message.endswith("its tensors are weight, bias.")


# -- files of another kind ----------------------------------------------------------------------------------------


def small():
    """State of a MobileFaceNet, which makes small files."""
    torch.manual_seed(0)
    return backbones.build("mobilefacenet").state_dict()


def safetensors(state):
    """Bytes of a safetensors file, written from its description."""
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in state.items():
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_give_the_same(tmp_path):
    state = small()
    (tmp_path / "a.safetensors").write_bytes(safetensors(state))
    found = foreign.read(tmp_path / "a.safetensors")
    assert found.backbone == "mobilefacenet"
    assert all(torch.equal(tensor, found.state[name]) for name, tensor in state.items())


def test_safetensors_of_every_type(tmp_path):
    given = {
        "a": torch.randn(2, 3),
        "b": torch.randn(4).half(),
        "c": torch.randn(1, 2, 2).bfloat16(),
        "d": torch.tensor(7),
        "e": torch.zeros(0, 5),
    }
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors(given))
    found = tensors.read(path)
    assert list(found) == list(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_files_of_old_torch_are_read(tmp_path):
    state = small()
    path = save(tmp_path / "old.pth", state, _use_new_zipfile_serialization=False)
    assert not path.read_bytes().startswith(b"PK")
    found = foreign.read(path).state
    assert all(torch.equal(tensor, found[name]) for name, tensor in state.items())


def test_classes_of_lightning_are_only_named(tmp_path, monkeypatch):
    """Lightning keys the state of its callbacks by their classes, which need not be installed."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = save(tmp_path / "a.ckpt", {"state_dict": small(), "callbacks": {callback: {"best": 1.0}}})
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.delitem(sys.modules, part)
    assert foreign.read(path).backbone == "mobilefacenet"
    assert not any(name.startswith("pytorch_lightning") for name in sys.modules)
