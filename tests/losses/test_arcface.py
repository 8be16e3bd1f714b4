import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from magface.losses.arcface import ArcFace, widen


def reference(theta, m, easy, beyond):
    if easy and theta >= math.pi / 2:
        return math.cos(theta)
    if beyond == "line" and theta + m >= math.pi:
        return math.cos(theta) - m * math.sin(math.pi - m)
    return math.cos(theta + m)


@given(
    theta=st.floats(1e-3, math.pi - 1e-3),
    m=st.floats(0, math.pi / 2),
    easy=st.booleans(),
    beyond=st.sampled_from(["line", "cosine"]),
    gradient=st.sampled_from(["exact", "straight_through"]),
)
def test_formula(theta, m, easy, beyond, gradient):
    assume(min(abs(theta + m - math.pi), abs(theta - math.pi / 2)) > 1e-9)
    loss = ArcFace(m, easy_margin=easy, beyond=beyond, gradient=gradient)
    psi = loss.target(torch.tensor([math.cos(theta)], dtype=torch.float64), torch.ones(1))
    assert psi.item() == pytest.approx(reference(theta, m, easy, beyond), abs=1e-12)


def test_full_loss(faces):
    psi = np.array([reference(theta, 0.5, False, "line") for theta in faces.theta[faces.own]])
    expected = faces.cross_entropy(psi, np.cos(faces.theta), 64)
    assert faces.loss(ArcFace()) == pytest.approx(expected, abs=1e-12)


def test_defaults_are_the_papers():
    loss = ArcFace()
    assert (loss.m, loss.s, loss.easy_margin, loss.beyond, loss.gradient) == (0.5, 64.0, False, "line", "exact")


def test_straight_through_has_the_gradient_of_the_cosine():
    cosine = torch.tensor([-1.0, -0.9, 0.3, 1.0], requires_grad=True)
    ArcFace(gradient="straight_through").target(cosine, torch.ones(4)).sum().backward()
    assert cosine.grad.tolist() == [1.0] * 4


def test_exact_gradient_is_that_of_the_angle():
    theta, m = 0.8, 0.5
    cosine = torch.tensor([math.cos(theta)], dtype=torch.float64, requires_grad=True)
    ArcFace(m).target(cosine, torch.ones(1)).sum().backward()
    assert cosine.grad.item() == pytest.approx(math.sin(theta + m) / math.sin(theta), rel=1e-12)


def test_beyond_pi_only_the_line_goes_on_falling():
    cosine = torch.linspace(-1, -0.95, 50, dtype=torch.float64).flip(0)
    m = torch.tensor(0.5, dtype=torch.float64)
    assert (widen(cosine, m).diff() < 0).all()
    assert (widen(cosine, m, beyond="cosine").diff() > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": -0.1}, r"margin m must be 0 to pi/2 \(radians\)"),
        ({"m": 1.6}, r"margin m must be 0 to pi/2 \(radians\)"),
        ({"s": 0}, "scale s must be positive"),
        ({"beyond": "wall"}, "beyond must be 'line' or 'cosine'"),
        ({"gradient": "none"}, "gradient must be 'exact' or 'straight_through'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        ArcFace(**options)
