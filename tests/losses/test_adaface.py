import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.adaface import AdaFace


def reference(theta, a, mu, sigma, m=0.4, h=0.333):
    z = np.clip(h * (np.clip(a, 0.001, 100) - mu) / (sigma + 0.001), -1, 1)
    return np.cos(np.clip(theta - m * z, 0, math.pi)) - (m + m * z)


def frozen(mu, sigma, **options):
    loss = AdaFace(**options).double().eval()
    loss.mu.fill_(mu)
    loss.sigma.fill_(sigma)
    return loss


@given(
    theta=st.floats(1e-3, math.pi - 1e-3),
    a=st.floats(0, 200),
    m=st.floats(0, 1),
    h=st.floats(0.1, 2),
    mu=st.floats(5, 60),
    sigma=st.floats(0, 50),
)
def test_formula(theta, a, m, h, mu, sigma):
    cosine, magnitude = torch.tensor([[math.cos(theta)], [a]], dtype=torch.float64)
    psi = frozen(mu, sigma, m=m, h=h).target(cosine, magnitude)
    assert psi.item() == pytest.approx(reference(theta, a, mu, sigma, m, h), abs=1e-12)


def test_full_loss(faces):
    psi = reference(faces.theta[faces.own], faces.a, 20, 100)
    expected = faces.cross_entropy(psi, np.cos(faces.theta), 64)
    assert faces.loss(AdaFace().double().eval()) == pytest.approx(expected, abs=1e-12)


def test_defaults_are_the_papers():
    loss = AdaFace()
    assert (loss.m, loss.h, loss.s, loss.t_alpha) == (0.4, 0.333, 64.0, 0.01)
    assert (loss.mu.item(), loss.sigma.item()) == (20.0, 100.0)


def test_statistics_follow_the_batches_and_are_used_at_once():
    loss = AdaFace(t_alpha=0.2).double()
    rng, mu, sigma = np.random.default_rng(0), 20.0, 100.0
    for _ in range(5):
        theta, a = rng.uniform(0.1, 3, 16), rng.uniform(1, 60, 16)
        mu, sigma = 0.8 * mu + 0.2 * a.mean(), 0.8 * sigma + 0.2 * a.std(ddof=1)
        psi = loss.target(torch.from_numpy(np.cos(theta)), torch.from_numpy(a))
        np.testing.assert_allclose(psi.numpy(), reference(theta, a, mu, sigma), atol=1e-12, rtol=0)
    assert (loss.mu.item(), loss.sigma.item()) == pytest.approx((mu, sigma), abs=1e-12)


def test_gradient_does_not_flow_into_the_magnitude():
    a = torch.tensor([10.0, 30.0], requires_grad=True)
    cosine = torch.tensor([0.2, 0.4], requires_grad=True)
    AdaFace().target(cosine, a).sum().backward()
    assert a.grad is None
    assert (cosine.grad > 0).all()


def test_stresses_hard_faces_where_the_magnitude_is_large():
    """The gradient of psi grows with the angle for high quality and falls with it for low quality."""
    theta = torch.tensor([0.9, 1.3], dtype=torch.float64)
    slopes = {}
    for name, a in {"high": 90.0, "low": 5.0}.items():
        cosine = theta.cos().requires_grad_()
        frozen(40, 10).target(cosine, torch.full((2,), a)).sum().backward()
        slopes[name] = cosine.grad
    assert slopes["high"][0] < slopes["high"][1]
    assert slopes["low"][0] > slopes["low"][1]


@pytest.mark.parametrize("a", [[20.0], [20.0, 20.0, 20.0], []])
def test_batches_without_deviation(a):
    loss = AdaFace(t_alpha=1.0)
    assert loss.target(torch.full((len(a),), 0.5), torch.tensor(a)).isfinite().all()
    assert loss.sigma.item() == (100.0 if len(a) < 2 else 0.0)
    assert loss.target(torch.tensor([0.5]), torch.tensor([20.0])).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": -0.1}, "margin m must be 0 to pi/2"),
        ({"h": 0}, "concentration h must be above 0"),
        ({"t_alpha": 0}, "t_alpha must be above 0 and up to 1"),
        ({"t_alpha": 1.5}, "t_alpha must be above 0 and up to 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        AdaFace(**options)
