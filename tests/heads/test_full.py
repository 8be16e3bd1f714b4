import pytest
import torch
from torch.nn import functional as F

from magface.heads.full import Full, direction
from magface.losses.magface import MagFace
from magface.losses.margin import Margin

MAGFACE = MagFace(10, 110, 0.45, 0.8, lambda_g=35)


def batch(size=6, classes=5, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 20 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
    return x, torch.arange(size) % classes, torch.randn(classes, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("margin", [MAGFACE, Margin(16.0)])
def test_equals_cross_entropy_over_a_dense_one_hot(margin):
    x, labels, centres = batch()
    out = Full(5, 4, margin, centres=centres)(x, labels)
    cosine = F.normalize(x) @ F.normalize(centres).T
    magnitude = x.norm(dim=1)
    own = F.one_hot(labels, 5).bool()
    logits = margin.s * torch.where(own, margin.target(cosine[own], magnitude)[:, None], cosine)
    assert out.identity.item() == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-12)
    assert out.penalty.item() == pytest.approx(margin.penalty(magnitude).mean().item(), abs=1e-12)
    assert out.loss.item() == pytest.approx((out.identity + out.penalty).item())
    torch.testing.assert_close(out.cosine, cosine[own])
    torch.testing.assert_close(out.magnitude, magnitude)


def test_gradcheck():
    x, labels, centres = batch()
    head = Full(5, 4, MAGFACE, centres=centres)
    assert torch.autograd.gradcheck(lambda e: head(e, labels).loss, x.requires_grad_())


def test_scale_of_the_magnitude_carries_gradient():
    class Unscaled(Margin):
        def scale(self, magnitude):
            return magnitude

    x, labels, centres = batch()
    head = Full(5, 4, Unscaled(), centres=centres)
    assert torch.autograd.gradcheck(lambda e: head(e, labels).loss, x.requires_grad_())


def test_detached_direction_leaves_a_radial_gradient():
    x, labels, centres = batch()
    x.requires_grad_()
    Full(5, 4, MAGFACE, centres=centres, detach_direction=True)(x, labels).loss.backward()
    torch.testing.assert_close(F.cosine_similarity(x.grad, x).abs(), torch.ones(6, dtype=torch.float64))


def test_frozen_centres_have_no_gradient_but_are_saved():
    head = Full(5, 4, MAGFACE, centres=batch()[2], frozen=True)
    assert not list(filter(lambda p: p.requires_grad, head.parameters()))
    assert set(head.state_dict()) == {"centres"}


@pytest.mark.parametrize("magnitude", [0.0, 1e-8, 1e4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_faces_on_their_centre_or_opposite_stay_finite(magnitude, sign):
    head = Full(2, 3, MAGFACE, centres=torch.eye(3)[:2])
    x = (sign * magnitude * torch.eye(3)[:1]).requires_grad_()
    loss = head(x, torch.tensor([0])).loss
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    assert head.centres.grad.isfinite().all()


def test_autocast_does_not_reach_the_softmax():
    x, labels, centres = batch()
    head = Full(5, 4, MAGFACE, centres=centres.float())
    plain = head(x.float(), labels).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(x.float(), labels).loss.item() == plain.item()
        assert head(x.bfloat16(), labels).loss.dtype == torch.float32


def test_wrong_centres_are_refused():
    with pytest.raises(ValueError, match="centres"):
        Full(5, 4, MAGFACE, centres=torch.zeros(4, 5))


def test_random_centres_are_unit_vectors():
    torch.testing.assert_close(Full(7, 4, MAGFACE).centres.norm(dim=1), torch.ones(7))
    assert direction(torch.zeros(3)).tolist() == [0, 0, 0]
