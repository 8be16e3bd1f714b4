import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.sphereface import SphereFace, descend


def reference(theta, m):
    k = math.floor(m * theta / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k


@given(theta=st.floats(1e-3, math.pi - 1e-3), m=st.floats(1, 6))
def test_formula(theta, m):
    psi = SphereFace(m).target(torch.tensor([math.cos(theta)], dtype=torch.float64), torch.ones(1))
    assert psi.item() == pytest.approx(reference(theta, m), abs=1e-12)


def test_full_loss_with_the_magnitude_as_scale(faces):
    psi = np.array([reference(theta, 4) for theta in faces.theta[faces.own]])
    expected = faces.cross_entropy(psi, np.cos(faces.theta), faces.a[:, None])
    assert faces.loss(SphereFace()) == pytest.approx(expected, abs=1e-12)


def test_double_angle_of_the_paper():
    theta = torch.linspace(0.1, 1.5, 20, dtype=torch.float64)
    torch.testing.assert_close(SphereFace(2).target(theta.cos(), theta), 2 * theta.cos() ** 2 - 1)


def test_descend_is_smooth_where_the_pieces_meet():
    angle = torch.tensor([k * math.pi + step for k in (1, 2, 3) for step in (-1e-7, 1e-7)], dtype=torch.float64)
    angle.requires_grad_()
    value = descend(angle)
    (slope,) = torch.autograd.grad(value.sum(), angle)
    torch.testing.assert_close(value[::2], value[1::2], atol=1e-12, rtol=0)
    torch.testing.assert_close(slope[::2], slope[1::2], atol=1e-6, rtol=0)


@pytest.mark.parametrize("m", [0.9, 0.0, float("nan")])
def test_factor_out_of_range(m):
    with pytest.raises(ValueError, match="factor m must be at least 1, not"):
        SphereFace(m)
