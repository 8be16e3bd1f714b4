import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.arcface import ArcFace
from magface.losses.combined import Combined
from magface.losses.cosface import CosFace
from magface.losses.sphereface import SphereFace


def reference(theta, m1, m2, m3):
    phi = m1 * theta + m2
    if phi <= math.pi:
        return math.cos(phi) - m3
    k = math.floor(phi / math.pi)
    return (-1) ** k * math.cos(phi) - 2 * k - m3


@given(theta=st.floats(1e-3, math.pi - 1e-3), m1=st.floats(0.5, 4), m2=st.floats(0, 1.5), m3=st.floats(0, 1))
def test_formula(theta, m1, m2, m3):
    psi = Combined(m1, m2, m3).target(torch.tensor([math.cos(theta)], dtype=torch.float64), torch.ones(1))
    assert psi.item() == pytest.approx(reference(theta, m1, m2, m3), abs=1e-12)


@pytest.mark.parametrize("margins", [(1.0, 0.3, 0.2), (0.9, 0.4, 0.15)])
def test_full_loss(faces, margins):
    psi = np.array([reference(theta, *margins) for theta in faces.theta[faces.own]])
    expected = faces.cross_entropy(psi, np.cos(faces.theta), 64)
    assert faces.loss(Combined(*margins)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("margins", "other"),
    [((3, 0, 0), SphereFace(3)), ((1, 0.5, 0), ArcFace(0.5)), ((1, 0, 0.35), CosFace(0.35))],
    ids=["sphereface", "arcface", "cosface"],
)
def test_each_margin_alone_is_its_paper(margins, other):
    cosine = torch.linspace(-0.85, 0.99, 100, dtype=torch.float64)  # up to where theta + 0.5 is pi
    torch.testing.assert_close(Combined(*margins).target(cosine, cosine), other.target(cosine, cosine))


@pytest.mark.parametrize(
    ("margins", "message"),
    [
        ((0, 0.3, 0.2), "factor m1 must be above 0"),
        ((1, -0.1, 0.2), r"margin m2 must be 0 to pi/2 \(radians\)"),
        ((1, 0.3, 1.2), "margin m3 must be 0 to 1, a difference of cosines"),
    ],
)
def test_options_out_of_range(margins, message):
    with pytest.raises(ValueError, match=message):
        Combined(*margins)
