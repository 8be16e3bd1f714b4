import pytest
import torch
from torch import nn

from magface import backbones
from magface.backbones import preprocessing
from magface.backbones.iresnet import BLOCKS


def on_meta(name):
    with torch.device("meta"):
        return backbones.build(name)


@pytest.mark.parametrize("origin", ["", "-magface", "-arcface"])
@pytest.mark.parametrize(
    ("depth", "parameters", "tensors"),
    [(18, 24_025_600, 187), (34, 34_139_328, 331), (50, 43_590_848, 475), (100, 65_156_160, 925)],
)
def test_counts_are_those_of_the_official_networks(depth, parameters, tensors, origin):
    network = on_meta(f"iresnet{depth}{origin}")
    assert sum(each.numel() for each in network.parameters()) == parameters
    assert len(network.state_dict()) == tensors


@pytest.mark.parametrize("depth", BLOCKS)
def test_count_of_any_depth(depth):
    """Stem, units, shortcuts and tail counted by hand."""
    widths = (64, 64, 128, 256, 512)
    total = 3 * 64 * 9 + 2 * 64 + 64
    for inputs, outputs, count in zip(widths, widths[1:], BLOCKS[depth], strict=False):
        total += inputs * outputs + 2 * outputs  # the shortcut of the first unit
        for x in (inputs, *[outputs] * (count - 1)):
            total += 2 * x + 9 * x * outputs + 2 * outputs + outputs + 9 * outputs * outputs + 2 * outputs
    total += 2 * 512 + 512 * 7 * 7 * 512 + 512 + 2 * 512
    assert sum(each.numel() for each in on_meta(f"iresnet{depth}").parameters()) == total
    assert 2 * sum(BLOCKS[depth]) + 2 == {18: 18, 34: 34, 50: 50, 100: 100, 200: 198}[depth]


def test_names_are_those_of_the_official_networks():
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    unit = [f"bn1.{part}" for part in norm] + ["conv1.weight"] + [f"bn2.{part}" for part in norm] + ["prelu.weight"]
    unit += ["conv2.weight"] + [f"bn3.{part}" for part in norm]
    shortcut = ["downsample.0.weight", *(f"downsample.1.{part}" for part in norm)]
    expected = ["conv1.weight", *(f"bn1.{part}" for part in norm), "prelu.weight"]
    for stage in (1, 2, 3, 4):
        expected += [f"layer{stage}.0.{name}" for name in unit + shortcut] + [f"layer{stage}.1.{name}" for name in unit]
    expected += [f"bn2.{part}" for part in norm] + ["fc.weight", "fc.bias"] + [f"features.{part}" for part in norm]
    for origin in ("", "-magface", "-arcface"):
        assert list(on_meta(f"iresnet18{origin}").state_dict()) == expected


@pytest.mark.parametrize(
    ("name", "eps", "momentum", "scaled", "dropout", "pixels"),
    [
        ("iresnet18", 1e-5, 0.1, True, 0.0, "ARCFACE"),
        ("iresnet18-arcface", 1e-5, 0.1, False, 0.0, "ARCFACE"),
        ("iresnet18-magface", 2e-5, 0.9, True, 0.4, "MAGFACE"),
    ],
)
def test_settings_of_each_origin(name, eps, momentum, scaled, dropout, pixels):
    network = on_meta(name)
    norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 1 + 8 * 3 + 4 + 2
    assert {(each.eps, each.momentum) for each in norms} == {(eps, momentum)}
    assert network.features.weight.requires_grad == scaled
    assert isinstance(network.dropout, nn.Dropout2d)
    assert network.dropout.p == dropout
    assert network.preprocessing == getattr(preprocessing, pixels)


def test_kernels_start_as_in_the_official_networks():
    torch.manual_seed(0)
    for name, expected in (("iresnet18-arcface", 0.1), ("iresnet18-magface", (2 / (9 * 256)) ** 0.5)):
        network = backbones.build(name)
        assert network.layer3[1].conv1.weight.std().item() == pytest.approx(expected, rel=0.01)
        assert torch.equal(network.features.weight, torch.ones(512))


def test_preprocessing_is_what_the_first_kernel_sees():
    network = backbones.build("iresnet18-magface").eval()
    seen = []
    network.conv1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = 255 * torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        network(x)
    torch.testing.assert_close(seen[0], x[:, [2, 1, 0]] / 255)
