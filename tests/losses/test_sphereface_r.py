import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.sphereface_r import SphereFaceR


def reference(theta, m, form):
    if form == "v2":
        return math.cos(theta)
    if form == "v1":
        return math.cos(min(m * theta, math.pi))
    k = math.floor(m * theta / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k


forms = st.sampled_from(["v0", "v1", "v2"])
gradients = st.sampled_from(["exact", "straight_through"])


@given(theta=st.floats(1e-3, math.pi - 1e-3), m=st.floats(1, 4), form=forms, gradient=gradients)
def test_formula(theta, m, form, gradient):
    loss = SphereFaceR(m, form=form, gradient=gradient)
    cosine = torch.tensor([math.cos(theta)], dtype=torch.float64)
    psi = loss.target(cosine, torch.ones(1))
    assert psi.item() == pytest.approx(reference(theta, m, form), abs=1e-12)
    expected = math.cos(theta / m) if form == "v2" else math.cos(theta)
    assert loss.negatives(cosine[:, None], psi).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_full_loss_with_a_fixed_scale(faces, form):
    psi = np.array([reference(theta, 1.7, form) for theta in faces.theta[faces.own]])
    others = np.cos(faces.theta / 1.7 if form == "v2" else faces.theta)
    expected = faces.cross_entropy(psi, others, 30)
    assert faces.loss(SphereFaceR(form=form)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_detached_gradient_is_that_of_the_cosine(form):
    cosine = torch.tensor([[-1.0], [-0.2], [0.9], [1.0]], requires_grad=True)
    loss = SphereFaceR(form=form)
    psi = loss.target(cosine[:, 0], torch.ones(4))
    (of_target,) = torch.autograd.grad(psi.sum(), cosine, retain_graph=True)
    (of_negatives,) = torch.autograd.grad(loss.negatives(cosine, psi).sum(), cosine)
    assert of_target.flatten().tolist() == of_negatives.flatten().tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 0.5}, "factor m must be at least 1"),
        ({"s": -1}, "scale s must be positive"),
        ({"form": "v3"}, "form must be 'v0', 'v1' or 'v2'"),
        ({"gradient": "none"}, "gradient must be"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SphereFaceR(**options)
