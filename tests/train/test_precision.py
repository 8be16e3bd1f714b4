import pytest
import torch

from magface.train.precision import LossScaler, autocast, widen_slow


def test_scale_halves_at_an_overflow_and_doubles_after_two_thousand_good_steps():
    scaler = LossScaler("fp16")
    scaler.update(overflowed=True)
    assert scaler.scale == 2.0**15
    for _ in range(1999):
        scaler.update(overflowed=False)
    assert scaler.scale == 2.0**15
    scaler.update(overflowed=False)
    assert scaler.scale == 2.0**16
    again = LossScaler("fp16")
    again.load_state_dict(scaler.state_dict())
    assert again.state_dict() == scaler.state_dict()


def test_gradients_are_those_of_the_unscaled_loss():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    scaler = LossScaler("fp16")
    scaler(x.square().sum()).backward()
    scaler.unscale([x])
    assert x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_nothing_is_scaled_where_nothing_vanishes(precision):
    scaler = LossScaler(precision)
    scaler.update(overflowed=True)
    assert scaler.scale == 1
    assert scaler.spent
    assert scaler(torch.tensor(3.0)).item() == 3


def test_strided_depthwise_convolutions_of_a_cpu_stay_wide():
    def convolution(stride, groups):
        return torch.nn.Conv2d(4, 4, 3, stride, 1, groups=groups)

    network = torch.nn.ModuleList([convolution(2, 4), convolution(1, 4), convolution(2, 1)])
    x, names = torch.randn(2, 4, 8, 8), set(network.state_dict())
    with torch.no_grad():
        expected = network[0](x)
    widen_slow(network, "f32", "cpu")
    widen_slow(network, "bf16", "cuda")
    with autocast("bf16", "cpu"):
        assert [layer(x).dtype for layer in network] == [torch.bfloat16] * 3
    widen_slow(network, "bf16", "cpu")
    with autocast("bf16", "cpu"):
        found = [layer(x) for layer in network]
    assert [each.dtype for each in found] == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert torch.equal(found[0], expected)
    assert set(network.state_dict()) == names


@pytest.mark.parametrize(
    ("precision", "dtype"), [("f32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_arithmetic_of_the_network(precision, dtype):
    with autocast(precision, "cpu"):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype is dtype
