import inspect
import re

import pytest
import torch

from magface import backbones
from magface.errors import ModelError

SMALL = ("sface", "magsface", "mobilefacenet", "iresnet18", "iresnet18-arcface", "iresnet18-magface", "ir18-adaface")


@pytest.fixture(scope="module")
def crops():
    return 255 * torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))


def moved(name):
    """Network whose running statistics are no longer the initial ones."""
    torch.manual_seed(0)
    network = backbones.build(name)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("name", SMALL)
def test_memory_format_and_batch_do_not_change_an_embedding(name, crops):
    network = moved(name)
    with torch.inference_mode():
        expected = network(crops)
        assert expected.shape == (3, network.size)
        single = network(crops[:1])
        last = network.to(memory_format=torch.channels_last)(crops.to(memory_format=torch.channels_last))
    tolerance = {"rtol": 0, "atol": 1e-5 * expected.abs().max().item()}
    torch.testing.assert_close(single, expected[:1], **tolerance)
    torch.testing.assert_close(last, expected, **tolerance)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_that_learns_has_a_gradient(name, crops):
    torch.manual_seed(0)
    network = backbones.build(name)
    weight = torch.randn(3, network.size)
    (network(crops) * weight).sum().backward()
    frozen = {key for key, each in network.named_parameters() if not each.requires_grad}
    assert frozen == ({"features.weight"} if name.endswith("arcface") else set())
    for key, each in network.named_parameters():
        if key not in frozen:
            assert each.grad is not None, key
            assert each.grad.isfinite().all(), key


@pytest.mark.parametrize(
    ("typo", "hint"),
    [
        ("magsfac", "did you mean magsface"),
        ("iresnet50_magface", "did you mean iresnet50-magface"),
        ("iresnet101", "did you mean iresnet10"),
        ("vit", "known: sface, .*ir101-adaface"),
    ],
)
def test_unknown_network_is_refused_with_the_nearest_name(typo, hint):
    with pytest.raises(ModelError, match=hint):
        backbones.build(typo)


def test_names_in_the_table_of_the_package_are_built():
    names = [name for name in re.findall(r"`([a-z0-9-]+)`", inspect.getdoc(backbones)) if name[-1] not in "-0124"]
    assert {"sface", "mobilefacenet", "iresnet50-magface", "ir101-adaface"} <= set(names)
    for name in set(names) - {"size"}:
        with torch.device("meta"):
            assert backbones.build(name).size in (128, 512)
