import pytest
import torch
from torch.nn import functional as F

from magface.backbones import sface
from magface.backbones.magnitude import MagnitudeBranch
from magface.backbones.sface import MagSFace, SFace


@pytest.fixture(scope="module")
def crops():
    return 255 * torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_branch_leaves_the_direction_alone(crops):
    torch.manual_seed(0)
    net = MagSFace().eval()
    torch.nn.init.normal_(net.branch.out.weight)
    plain = SFace.forward(net, crops)
    f = net(crops)
    torch.testing.assert_close(F.normalize(f), F.normalize(plain))
    assert ((f.norm(dim=1) / plain.norm(dim=1) - 1).abs() > 1e-3).all()


@torch.no_grad()
def test_trunk_embed_and_branch_make_the_embedding(crops):
    net = MagSFace().eval()
    features = net.trunk(crops)
    torch.testing.assert_close(net.embed(features), SFace.forward(net, crops))
    torch.testing.assert_close(net(crops), net.embed(features) * net.branch(features).exp()[:, None])


def test_statistics_are_mean_and_deviation_of_the_channels(crops):
    net = MagSFace().eval()
    seen = []
    net.blocks[net.levels[0]].register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        features = net.trunk(crops)
    [x] = seen
    width = x.shape[1]
    torch.testing.assert_close(features[:, :width], x.mean((2, 3)))
    deviation = x.std((2, 3), correction=0)
    torch.testing.assert_close(features[:, width : 2 * width], deviation, rtol=1e-2, atol=1e-3)


def test_deviation_is_found_beside_a_large_mean_and_of_a_constant():
    x = torch.randn(2, 3, 20, 20) * torch.tensor([1.0, 0.1, 0.0])[:, None, None] + 3
    mean, deviation = sface._mean_and_deviation(x)
    expected = (x.double().var((2, 3), correction=0) + 1e-6).sqrt().float()
    torch.testing.assert_close(mean, x.mean((2, 3)))
    torch.testing.assert_close(deviation, expected, rtol=1e-4, atol=2e-3)


def test_branch_standardises_what_it_sees():
    torch.manual_seed(0)
    branch = MagnitudeBranch(4, 3, hidden=8).eval()
    features = torch.randn(500, 7) * torch.tensor([5.0, 0.1, 100, 1, 1, 1, 1]) + 3
    branch.standardise(features)
    seen = []
    branch.hidden.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    branch(features)
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(3), rtol=0, atol=0.02)
    torch.testing.assert_close(seen[0].std(0), torch.ones(3), rtol=0, atol=0.02)
