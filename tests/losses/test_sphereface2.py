import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.sphereface2 import SphereFace2, initial_offset


def g(cosine, t):
    return 2 * ((cosine + 1) / 2) ** t - 1


@pytest.mark.parametrize("gradient", ["exact", "straight_through"])
@pytest.mark.parametrize("lw", [1.0, 50.0])
def test_full_loss(faces, gradient, lw):
    loss = SphereFace2(5, lw=lw, gradient=gradient).double()
    b, own = loss.b.item(), np.zeros((9, 5), dtype=bool)
    own[faces.own] = True
    similarity = g(np.cos(faces.theta), 3)
    positive = np.log1p(np.exp(-40 * (similarity - 0.4) - b))[own].sum()
    negative = np.log1p(np.exp(40 * (similarity + 0.4) + b))[~own].sum()
    expected = lw * (0.7 / 40 * positive + 0.3 / 40 * negative) / 9
    assert faces.loss(loss) == pytest.approx(expected, abs=1e-12)


@given(theta=st.floats(1e-3, math.pi - 1e-3), m=st.floats(0, 1), t=st.floats(1, 6))
def test_formula(theta, m, t):
    loss, cosine = SphereFace2(10, m=m, t=t), torch.tensor([math.cos(theta)], dtype=torch.float64)
    expected = g(math.cos(theta), t)
    assert loss.target(cosine, torch.ones(1)).item() == pytest.approx(expected - m, abs=1e-12)
    assert loss.negatives(cosine[:, None], cosine).item() == pytest.approx(expected + m, abs=1e-12)


@pytest.mark.parametrize("num_classes", [2, 3, 4, 10, 1000, 85742, 10_000_000])
@pytest.mark.parametrize(("m", "r", "t", "balance"), [(0.4, 40, 3, 0.7), (0, 30, 1, 0.5), (0.2, 64, 2, 0.99)])
def test_offset_starts_where_faces_at_right_angles_do_not_move_it(num_classes, m, r, t, balance):
    b = initial_offset(num_classes, m, r, t, balance)
    yes = balance / (1 + math.exp(r * (g(0, t) - m) + b))
    no = (1 - balance) * (num_classes - 1) / (1 + math.exp(-r * (g(0, t) + m) - b))
    assert yes == pytest.approx(no, rel=1e-11)


def test_gradient_of_the_offset_is_zero_at_first(dense):
    loss = SphereFace2(3).double()
    loss.b.data.fill_(initial_offset(3))
    x, centres = torch.eye(6, dtype=torch.float64)[3:], torch.eye(6, dtype=torch.float64)[:3]
    dense(loss, x, centres, torch.arange(3)).backward()
    assert loss.b.grad.item() == pytest.approx(0, abs=1e-12)


def test_offset_trains_and_is_saved(faces, dense):
    loss = SphereFace2(5).double()
    assert [name for name, _ in loss.named_parameters()] == list(loss.state_dict()) == ["b"]
    assert loss.offset() is loss.b
    assert torch.autograd.gradcheck(
        lambda b: dense(_with_offset(loss, b), *faces.tensors()), torch.tensor(0.3, requires_grad=True).double()
    )


def _with_offset(loss, b):
    class Moved(SphereFace2):
        def offset(self):
            return b

    moved = Moved(5).double()
    moved.load_state_dict(loss.state_dict())
    return moved


def test_straight_through_has_the_gradient_of_the_cosine():
    cosine = torch.tensor([[-1.0], [0.3], [1.0]], requires_grad=True)
    loss = SphereFace2(5, gradient="straight_through")
    target = loss.target(cosine[:, 0], torch.ones(3))
    (target.sum() + loss.negatives(cosine, target.detach()).sum()).backward()
    assert cosine.grad.flatten().tolist() == [2.0] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"m": 1.5}, "margin m must be 0 to 1, a difference of similarities"),
        ({"r": 0}, "scale s must be positive"),
        ({"t": 0.5}, "exponent t must be at least 1"),
        ({"balance": 1}, "balance must be above 0 and below 1"),
        ({"lw": 0}, "lw must be above 0"),
        ({"gradient": "none"}, "gradient must be"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SphereFace2(**{"num_classes": 10, **options})
