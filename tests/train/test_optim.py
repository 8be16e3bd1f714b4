import math

import pytest
import torch
from torch import nn

from magface.train.config import Optimization
from magface.train.optim import SGD, build, clip, parameter_groups

SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}


def sparse(rows, values, size):
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, (size, values.shape[1]), check_invariants=True)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("fused", [True, False])
def test_equals_torch_for_dense_gradients(momentum, fused):
    settings = SETTINGS | {"momentum": momentum}
    one, other = (nn.Parameter(torch.arange(6.0).reshape(3, 2)) for _ in range(2))
    optimizers = SGD([one], **settings), torch.optim.SGD([other], **settings, fused=fused)
    for step in range(4):
        for parameter, optimizer in zip((one, other), optimizers, strict=True):
            parameter.grad = torch.randn(3, 2, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    near = {"rtol": 0, "atol": 0} if fused else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(one, other, **near)


def test_a_parameter_may_get_its_first_gradient_later():
    one, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = SGD([one, other], lr=0.5, momentum=0.5)
    one.grad = torch.ones(2)
    optimizer.step()
    other.grad = torch.ones(2)
    optimizer.step()
    assert (one.tolist(), other.tolist()) == ([-0.25, -0.25], [0.5, 0.5])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_row_moves_as_if_it_were_a_parameter_of_its_own(momentum):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 3, generator=generator)
    whole = nn.Parameter(start.clone())
    rows = [nn.Parameter(row.clone()) for row in start]
    settings = SETTINGS | {"momentum": momentum}
    optimizer, alone = SGD([whole], **settings), [torch.optim.SGD([row], **settings) for row in rows]
    for step, chosen in enumerate([[0, 3], [3, 4], [0], [], [0, 3]]):
        values = torch.randn(len(chosen), 3, generator=generator)
        # as two micro-batches leave it: not in order, with repetitions that add up
        whole.grad = sparse(chosen[::-1] + chosen, torch.cat([values.flip(0), values]), 5)
        optimizer.step()
        for row, value in zip(chosen, values, strict=True):
            rows[row].grad = 2 * value
            alone[row].step()
        torch.testing.assert_close(whole.detach(), torch.stack([row.detach() for row in rows]), msg=f"step {step}")
    assert torch.equal(whole[1:3], start[1:3])


def test_sparse_beside_dense_goes_on_after_a_checkpoint():
    def descend(optimizer, parameters, steps):
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            parameters[0].grad = torch.randn(2, 2, generator=generator)
            parameters[1].grad = sparse([step % 3], torch.randn(1, 2, generator=generator), 3)
            optimizer.step()
            assert parameters[1].grad.is_sparse

    def fresh():
        parameters = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(3, 2))
        return parameters, SGD(parameters, **SETTINGS)

    straight, optimizer = fresh()
    descend(optimizer, straight, range(6))
    first, optimizer = fresh()
    descend(optimizer, first, range(3))
    second, resumed = fresh()
    for parameter, value in zip(second, first, strict=True):
        parameter.data = value.data.clone()
    resumed.load_state_dict(optimizer.state_dict())
    descend(resumed, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(straight, second, strict=True))


def test_closure():
    x = nn.Parameter(torch.ones(2))

    def closure():
        x.grad = None
        loss = (x**2).sum()
        loss.backward()
        return loss

    assert SGD([x], lr=0.25).step(closure).item() == 2
    assert x.tolist() == [0.5, 0.5]


def test_groups_hold_every_parameter_that_trains_once():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(4, 2))
    module[4].weight.requires_grad_(False)
    decayed, spared = parameter_groups(module, 0.1, spare_norms=True)
    assert [p.ndim for p in decayed["params"]] == [4]
    assert [p.ndim for p in spared["params"]] == [1] * 5
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    everything, nothing = parameter_groups(module, 0.1)
    assert len(everything["params"]) == 6
    assert nothing["params"] == []


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_build(name):
    module = nn.Linear(2, 3)
    optimizer = build(module, Optimization(optimizer=name, momentum=0.8, weight_decay=0.2, spare_norms=True))
    kind = {"adamw": torch.optim.AdamW, "sgd": SGD}[name]
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]
    assert optimizer.param_groups[0].get("momentum", 0.8) == 0.8
    build(nn.Identity(), Optimization(optimizer=name)).step()


@pytest.mark.parametrize("max_norm", [0.5, 1e6, math.inf])
def test_clip_equals_torch(max_norm):
    one, other = (nn.Linear(3, 4) for _ in range(2))
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        p.grad = torch.randn(p.shape)
        q.grad = p.grad.clone()
    norm = clip(one.parameters(), max_norm)
    expected = nn.utils.clip_grad_norm_(other.parameters(), max_norm)
    torch.testing.assert_close(norm, expected)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_clip_counts_what_a_sparse_gradient_adds_up_to():
    centres, other, idle = nn.Parameter(torch.zeros(4, 1)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    centres.grad = sparse([2, 2, 0], torch.tensor([[1.0], [2.0], [4.0]]), 4)
    other.grad = torch.tensor([12.0])
    assert clip([other, idle], 1.3, sharded=[centres]).item() == 13
    torch.testing.assert_close(centres.grad.to_dense(), torch.tensor([[0.4], [0.0], [0.3], [0.0]]), rtol=1e-6, atol=0)
    assert other.grad.item() == pytest.approx(1.2)
    assert idle.grad is None


def test_clip_of_nothing():
    assert clip([], 1.0).item() == 0


def test_a_norm_that_is_not_finite_is_said():
    x = nn.Parameter(torch.zeros(2))
    x.grad = torch.tensor([math.nan, 1.0])
    assert clip([x], 1.0).isnan()
