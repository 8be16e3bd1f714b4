import pytest
import torch
from torch import nn

from magface import backbones
from magface.backbones import preprocessing
from magface.backbones.adaface_ir import DEPTHS, Unit


@pytest.mark.parametrize("depth", DEPTHS)
def test_it_is_an_iresnet_without_the_first_shortcut_and_the_last_scale(depth):
    with torch.device("meta"):
        network = backbones.build(f"ir{depth}-adaface")
        other = backbones.build(f"iresnet{min(depth, 100)}")
    parameters, others = (sum(each.numel() for each in net.parameters()) for net in (network, other))
    assert others - parameters == (64 * 64 + 2 * 64) + 2 * 512
    assert len(other.state_dict()) - len(network.state_dict()) == 6 + 2
    assert (network.size, network.preprocessing) == (512, preprocessing.ADAFACE)


def test_names_are_those_of_the_official_network():
    with torch.device("meta"):
        names = list(backbones.build("ir18-adaface").state_dict())
    tops = dict.fromkeys(name.rsplit(".", 1)[0] for name in names)
    unit = [f"res_layer.{part}" for part in range(6)]
    expected = ["input_layer.0", "input_layer.1", "input_layer.2"]
    for index in range(8):
        shortcut = ["shortcut_layer.0", "shortcut_layer.1"] if index in (2, 4, 6) else []
        expected += [f"body.{index}.{part}" for part in shortcut + unit]
    assert list(tops) == [*expected, "output_layer.0", "output_layer.3", "output_layer.4"]
    assert [name for name in names if name.startswith("output_layer.4.")] == [
        f"output_layer.4.{part}" for part in ("running_mean", "running_var", "num_batches_tracked")
    ]


def test_first_shortcut_takes_every_second_pixel():
    unit = Unit(64, 64, 2).eval()
    nn.init.zeros_(unit.res_layer[5].weight)
    x = torch.randn(1, 64, 6, 6)
    with torch.no_grad():
        assert torch.equal(unit(x), x[:, :, ::2, ::2])


def test_settings():
    with torch.device("meta"):
        network = backbones.build("ir18-adaface")
    norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    assert {(each.eps, each.momentum) for each in norms} == {(1e-5, 0.1)}
    assert network.output_layer[1].p == 0.4
