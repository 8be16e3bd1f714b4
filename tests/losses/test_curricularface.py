import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.curricularface import CurricularFace


def target(theta, m):
    return np.where(theta + m < math.pi, np.cos(theta + m), np.cos(theta) - m * np.sin(math.pi - m))


def negatives(cosine, psi, t):
    return np.where(cosine > psi, cosine * (t + cosine), cosine)


def test_full_loss(faces):
    own, others = faces.theta[faces.own], np.cos(faces.theta)
    psi, loss, t = target(own, 0.5), CurricularFace().double(), 0.0
    for _ in range(2):
        t = 0.99 * t + 0.01 * np.cos(own).mean()
        expected = faces.cross_entropy(psi, negatives(others, psi[:, None], t), 64)
        assert faces.loss(loss) == pytest.approx(expected, abs=1e-12)


@given(
    theta=st.floats(1e-3, math.pi - 1e-3),
    other=st.floats(1e-3, math.pi - 1e-3),
    m=st.floats(0, 1.5),
    t=st.floats(-1, 1),
)
def test_formula(theta, other, m, t):
    loss = CurricularFace(m).double().eval()
    loss.t.fill_(t)
    cosine, negative = torch.tensor([[math.cos(theta)], [math.cos(other)]], dtype=torch.float64)
    psi = loss.target(cosine, torch.ones(1))
    if abs(theta + m - math.pi) > 1e-9:
        assert psi.item() == pytest.approx(target(theta, m).item(), abs=1e-12)
    weighted = loss.negatives(negative[:, None], psi)
    assert weighted.item() == pytest.approx(negatives(negative.item(), psi.item(), t).item(), abs=1e-12)


def test_t_follows_the_mean_cosine():
    loss, t = CurricularFace(alpha=0.3).double(), 0.0
    for cosine in np.random.default_rng(0).uniform(-1, 1, (5, 8)):
        loss.target(torch.from_numpy(cosine), torch.ones(8))
        t = 0.7 * t + 0.3 * cosine.mean()
    assert loss.t.item() == pytest.approx(t, abs=1e-12)


def test_hard_negatives_count_more_as_training_goes_on():
    loss, psi, hard = CurricularFace().eval(), torch.tensor([0.2]), torch.tensor([[0.5]])
    weights = []
    for t in (0.0, 0.4, 0.8):
        loss.t.fill_(t)
        weights.append(loss.negatives(hard, psi).item())
    assert weights == sorted(weights)
    assert weights[0] < 0.5 < weights[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 1.6}, r"margin m must be 0 to pi/2 \(radians\)"),
        ({"alpha": 0}, "alpha must be above 0 and up to 1"),
        ({"alpha": 1.1}, "alpha must be above 0 and up to 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        CurricularFace(**options)
