import pytest
import torch

from magface.train.precision import LossScaler, autocast


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


@pytest.mark.parametrize(
    ("precision", "dtype"), [("f32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_arithmetic_of_the_network(precision, dtype):
    with autocast(precision, "cpu"):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype is dtype
