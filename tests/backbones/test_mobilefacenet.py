import pytest
import torch
from torch import nn

from magface.backbones.mobilefacenet import MobileFaceNet


def multiplications(network):
    """Of one face, by what each layer was seen to make."""
    total = 0

    def count(layer, _, made):
        nonlocal total
        total += made[0].numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 112, 112))
    return total


def test_size_and_cost_are_those_of_the_paper():
    network = MobileFaceNet(128)
    assert sum(each.numel() for each in network.parameters()) == pytest.approx(0.99e6, rel=0.02)
    assert multiplications(network) == pytest.approx(221e6, rel=0.02)


def test_shapes_are_those_of_the_table():
    network = MobileFaceNet().eval()
    seen = []
    for layer in (*network.stem, *network.blocks, network.widen, network.pool):
        layer.register_forward_hook(lambda _, __, made: seen.append((made.shape[1], made.shape[2])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 112, 112))
    expected = [(64, 56)] * 2 + [(64, 28)] * 5 + [(128, 14)] * 7 + [(128, 7)] * 3 + [(512, 7), (512, 1)]
    assert seen == expected


def test_units_are_residual_where_shapes_allow_it():
    assert [block.residual for block in MobileFaceNet().blocks] == [
        False,
        *[True] * 4,
        False,
        *[True] * 6,
        False,
        True,
        True,
    ]


def test_the_last_convolutions_are_linear():
    network = MobileFaceNet()
    assert not any(isinstance(each, nn.PReLU) for each in network.pool.modules())
    assert all(isinstance(block.units[2][-1], nn.BatchNorm2d) for block in network.blocks)
