import numpy as np
import pytest
import torch

from magface.heads.classifiability import Classifiability
from magface.losses.crfiqa import CrFiqa


def batch(size=12, classes=5, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
    own = torch.nn.functional.normalize(torch.randn(size, dim, generator=generator, dtype=torch.float64))
    centres = torch.nn.functional.normalize(torch.randn(classes, dim, generator=generator, dtype=torch.float64))
    return x, own, centres, torch.randint(classes, (size,), generator=generator)


def test_equals_plain_loops():
    x, own, centres, labels = batch()
    out = Classifiability(centres, CrFiqa(unit=10))(x, own, labels)
    losses, correct = [], []
    for f, mine, label in zip(x.numpy(), own.numpy(), labels.tolist(), strict=True):
        a = np.linalg.norm(f)
        ccs = f @ mine / a
        nnccs = max(f @ w / a for j, w in enumerate(centres.numpy()) if j != label)
        d = abs(a / 10 - ccs / (1 + max(nnccs, 0)))
        losses.append(d**2 if d < 0.5 else d - 0.25)
        correct.append(ccs >= nnccs)
    assert out.loss.item() == pytest.approx(np.mean(losses), abs=1e-12)
    assert (out.identity.item(), out.penalty.item()) == (out.loss.item(), 0)
    assert out.correct.tolist() == correct


def test_only_the_magnitude_learns():
    x, own, centres, labels = batch()
    head = Classifiability(centres, CrFiqa(unit=10))
    assert not list(head.parameters())
    head(x.requires_grad_(), own, labels).loss.backward()
    unit = torch.nn.functional.normalize(x.detach())
    torch.testing.assert_close(x.grad, (x.grad * unit).sum(1, keepdim=True) * unit)
    assert x.grad.abs().sum() > 0


def test_an_embedding_of_no_length_is_finite():
    x, own, centres, labels = batch()
    x = torch.zeros_like(x).requires_grad_()
    out = Classifiability(centres, CrFiqa())(x, own, labels)
    out.loss.backward()
    assert out.loss.isfinite()
    assert x.grad.isfinite().all()


def test_what_cannot_be_is_refused():
    x, own, centres, labels = batch()
    with pytest.raises(ValueError, match="two classes"):
        Classifiability(centres[:1], CrFiqa())
    with pytest.raises(ValueError, match="label 5 is no class"):
        Classifiability(centres, CrFiqa())(x, own, torch.full_like(labels, 5))
