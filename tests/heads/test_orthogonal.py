import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from magface.heads.full import Full
from magface.heads.orthogonal import Orthogonal
from magface.losses.magface import MagFace
from magface.losses.margin import Margin

MAGFACE = MagFace(2, 30, 0, 1.2, regularizer="quadratic", easy_margin=False)


def faces(size=6, classes=9, seed=0):
    """Embeddings within the plane of their own centre and a direction that no centre has."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.rand(size, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(classes, (size,), generator=generator)
    magnitude = 3 + 20 * torch.rand(size, generator=generator, dtype=torch.float64)
    unit = F.one_hot(labels, classes + 1) * theta.cos()[:, None]
    unit[:, -1] = theta.sin()
    return magnitude[:, None] * unit, labels, torch.eye(classes, classes + 1, dtype=torch.float64)


@pytest.mark.parametrize("margin", [MAGFACE, Margin(16.0)])
def test_equals_the_full_head_where_strangers_are_at_right_angles(margin):
    x, labels, centres = faces()
    full = Full(9, 10, margin, centres=centres)(x, labels)
    own = Orthogonal(9, margin)(x, centres[labels])
    for one, other in zip(full, own, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_gradcheck():
    x, labels, centres = faces()
    head = Orthogonal(9, MAGFACE)
    assert torch.autograd.gradcheck(lambda e: head(e, centres[labels]).loss, x.requires_grad_())


def test_best_magnitude_falls_with_the_angle_up_to_a_right_one():
    a = torch.linspace(2, 30, 2000)
    head = Orthogonal(1000, MAGFACE)
    centre = torch.tensor([[1.0, 0.0]])
    best = []
    for degrees in range(15, 91, 5):
        theta = math.radians(degrees)
        x = torch.tensor([[math.cos(theta), math.sin(theta)]])
        losses = torch.stack([head(x * value, centre).loss for value in a[::20]])
        best.append(a[::20][losses.argmin()].item())
    assert all(high > low for high, low in itertools.pairwise(best))
    assert best[0] > 25
    assert best[-1] < 5


def test_needs_others():
    with pytest.raises(ValueError, match="two classes"):
        Orthogonal(1, MAGFACE)
