import copy
import math

import numpy as np
import pytest
import torch

from magface import losses
from magface.heads.full import Full
from magface.heads.gradient_scale import optimum, slopes

C, OTHER = 1000, 0.06
THETA = np.radians(np.arange(5, 176, 10))
A = np.array([2.0, 10, 30, 60, 109, 150])
COSINE, MAGNITUDE = torch.from_numpy(np.cos(THETA)), torch.from_numpy(A)


def missed(psi, s=64.0):
    """1 - P_y, from the definition of the softmax."""
    mine, theirs = np.exp(s * psi), (C - 1) * np.exp(s * OTHER)
    return theirs / (mine + theirs)


def widened(theta, m):
    """cos(theta + m) with ArcFace's line beyond pi, and its derivative by the cosine."""
    inside = theta + m < math.pi
    psi = np.where(inside, np.cos(theta + m), np.cos(theta) - m * np.sin(m))
    return psi, np.where(inside, np.sin(theta + m) / np.sin(theta), 1.0)


def pull(name, theta, a):
    match name:
        case "arcface":
            psi, slope = widened(theta, 0.5)
        case "cosface":
            psi, slope = np.cos(theta) - 0.35, 1.0
        case "magface":
            m = 0.45 + (0.8 - 0.45) / 100 * (np.clip(a, 10, 110) - 10)
            psi, slope = widened(theta, m)
            easy = theta < math.pi / 2
            psi, slope = np.where(easy, psi, np.cos(theta)), np.where(easy, slope, 1.0)
        case _:
            z = np.clip(0.333 * (np.minimum(a, 100) - 40) / (12 + 1e-3), -1, 1)
            turned = np.clip(theta - 0.4 * z, 0, math.pi)
            psi = np.cos(turned) - 0.4 * (1 + z)
            slope = np.where((turned > 0) & (turned < math.pi), np.sin(turned) / np.sin(theta), 0.0)
    return 64 * missed(psi) * slope


@pytest.mark.parametrize("name", ["arcface", "cosface", "magface", "adaface"])
def test_pull_is_the_closed_form(name):
    statistics = {"mu": 40.0, "sigma": 12.0} if name == "adaface" else {}
    found = slopes(losses.build(name), COSINE, MAGNITUDE, num_classes=C, other=OTHER, **statistics).pull
    theta, a = np.meshgrid(THETA, A)
    np.testing.assert_allclose(found, pull(name, theta, a), rtol=1e-6, atol=1e-9)


def test_push_of_magface_is_the_closed_form():
    loss = losses.build("magface", lambda_g=35.0)
    found = slopes(loss, COSINE, MAGNITUDE, num_classes=C, other=OTHER).push
    theta, a = np.meshgrid(THETA, A)
    rate = np.where((a >= 10) & (a <= 110) & (theta < math.pi / 2), (0.8 - 0.45) / 100, 0.0)
    m = 0.45 + (0.8 - 0.45) / 100 * (np.clip(a, 10, 110) - 10)
    margin = 64 * missed(np.cos(theta + m)) * np.sin(theta + m) * rate
    np.testing.assert_allclose(found, margin + 35 * (1 / 110**2 - 1 / a**2), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["normface", "cosface", "arcface", "adaface", "elasticface-arc", "curricularface"])
def test_other_losses_leave_the_magnitude_alone(name):
    assert not slopes(losses.build(name), COSINE, MAGNITUDE, num_classes=C).push.any()


@pytest.mark.parametrize("name", losses.NAMES)
def test_slopes_are_those_of_the_gradient_of_an_embedding(name):
    """Along the embedding, and towards its centre by sin(theta) / a, in the head that trains; strangers are beside."""
    margin, theta, a = losses.build(name, num_classes=20).eval(), 1.1, 17.0
    centre, aside = torch.eye(21, dtype=torch.float64)[[3, 20]]
    unit = math.cos(theta) * centre + math.sin(theta) * aside
    x = (a * unit)[None].requires_grad_()
    head = Full(20, 21, copy.deepcopy(margin).double(), centres=torch.eye(20, 21, dtype=torch.float64), frozen=True)
    head(x, torch.tensor([3])).loss.backward()
    toward = (centre - math.cos(theta) * unit) / math.sin(theta)
    found = slopes(margin, unit[3:4], torch.tensor([a]), num_classes=20)
    assert (x.grad[0] @ unit).item() == pytest.approx(found.push.item(), abs=1e-9)
    assert (x.grad[0] @ toward).item() == pytest.approx(-found.pull.item() * math.sin(theta) / a, abs=1e-9)


def test_magface_polishes_easy_faces_of_good_pictures_where_adaface_works_on_hard_ones():
    """The numbers of docs/quality.md."""
    near_and_far, ends = torch.tensor([40.0, 80.0]).deg2rad().cos(), torch.tensor([10.0, 110.0])
    of = {"num_classes": 85_742, "other": 1 / 16}
    magface = slopes(losses.build("magface", lambda_g=35.0), near_and_far, ends, **of).pull
    adaface = slopes(losses.build("adaface"), near_and_far, ends, mu=60.0, sigma=16.65, **of).pull
    assert magface.flatten().tolist() == pytest.approx([0.0, 62.5, 99.3, 52.7], abs=0.05)
    assert adaface.flatten().tolist() == pytest.approx([0.0, 63.3, 32.2, 57.2], abs=0.05)


def test_a_grid_leaves_the_loss_as_it_is():
    loss = losses.build("adaface")
    loss.train()
    slopes(loss, COSINE, MAGNITUDE, num_classes=C, mu=5.0, sigma=1.0)
    assert (loss.mu.item(), loss.sigma.item(), loss.training, loss.mu.dtype) == (20.0, 100.0, True, torch.float32)


def test_optimum_is_the_least_loss():
    loss = losses.build("magface", lambda_g=35.0, easy_margin=False).double()
    a = torch.linspace(10, 110, 5001, dtype=torch.float64)
    found = optimum(a, slopes(loss, COSINE, a, num_classes=C, other=OTHER).push)
    for cosine, best in zip(COSINE, found, strict=True):
        psi = loss.target(cosine.expand(len(a)), a)
        value = torch.log1p((C - 1) * (64 * (OTHER - psi)).exp()) + loss.penalty(a)
        assert best.item() == pytest.approx(a[value.argmin()].item(), abs=0.03)


def test_optimum_at_the_ends_and_where_there_is_none():
    push = torch.tensor([[1.0, -2.0, 0.0, -1.0], [2.0, -1.0, 0.0, 0.0]])
    found = optimum(torch.tensor([10.0, 20.0]), push)
    torch.testing.assert_close(found, torch.tensor([10.0, 20.0, math.nan, 20.0]).double(), equal_nan=True)


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="two classes"):
        slopes(losses.build("cosface"), COSINE, MAGNITUDE, num_classes=1)
    with pytest.raises(ValueError, match="no statistic 'mean'; it has mu, sigma"):
        slopes(losses.build("adaface"), COSINE, MAGNITUDE, num_classes=C, mean=1.0)
    with pytest.raises(ValueError, match="no statistic 'mu'; it has none"):
        slopes(losses.build("cosface"), COSINE, MAGNITUDE, num_classes=C, mu=1.0)
