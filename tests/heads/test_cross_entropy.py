import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from magface import losses
from magface.heads import cross_entropy
from magface.heads.cross_entropy import cosines, identity, others
from magface.losses.margin import Margin

OPTIONS = {"magface-self-tuning": {"l_a": 10, "u_a": 110, "l_m": 0.45, "u_m": 0.8}}


def build(name, num_classes=6):
    return losses.build(name, num_classes=num_classes, **OPTIONS.get(name, {}))


def batch(size=8, classes=6, dim=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(size)
    x = F.normalize(torch.randn(size, dim, generator=generator, dtype=torch.float64))
    centres = 2 * torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    own = torch.randint(-1, classes, (size,), generator=generator)
    magnitude = 5 + 50 * torch.rand(size, generator=generator, dtype=torch.float64)
    return *(t.to(dtype).requires_grad_() for t in (x, centres, magnitude)), own


def ours(margin, unit, centres, magnitude, own):
    """Identity loss of each face; those without a centre here have a target of 0.1."""
    matrix, cosine = cosines(unit, centres, own, margin)
    target = margin.target(torch.where(own >= 0, cosine, 0.1), magnitude)
    scale, offset = margin.scale(magnitude), margin.offset()
    offset = scale.new_zeros(()) if offset is None else offset
    rest, best = others(matrix, target, scale, offset, own, margin)
    return identity(target, scale, offset, rest, margin), best


def dense(margin, unit, centres, magnitude, own):
    """The same by plain autograd over whole matrices, a one-hot and a column for targets without a centre."""
    cosine = unit @ (F.normalize(centres) if margin.unit_centres else centres).T
    hot = F.one_hot(own.clamp(min=0), len(centres)).bool() & (own >= 0)[:, None]
    target = margin.target(torch.where(own >= 0, torch.where(hot, cosine, 0).sum(1), 0.1), magnitude)
    logits = torch.where(hot, -torch.inf, margin.scale(magnitude)[:, None] * margin.negatives(cosine, target.detach()))
    own_logit = (margin.scale(magnitude) * target)[:, None]
    if margin.reduction == "softmax":
        everything = torch.cat([own_logit, logits], 1)
        return F.cross_entropy(everything, torch.zeros_like(own), reduction="none"), None
    offset = 0.0 if margin.offset() is None else margin.offset()
    yes, no = margin.weights
    positive = F.binary_cross_entropy_with_logits(own_logit + offset, torch.ones_like(own_logit), reduction="none")
    negative = F.binary_cross_entropy_with_logits(
        torch.where(hot, 0, logits + offset), torch.zeros_like(logits), reduction="none"
    )
    return yes * positive[:, 0] + no * torch.where(hot, 0, negative).sum(1), None


@pytest.mark.parametrize("chunk", [1, 13, 1 << 22])
@pytest.mark.parametrize("name", losses.NAMES)
def test_equals_plain_autograd_over_dense_matrices(name, chunk, monkeypatch):
    monkeypatch.setitem(cross_entropy.CHUNK, "cpu", chunk)
    results = []
    margin = build(name).double()
    for function in (ours, dense):
        *inputs, own = batch()
        used = copy.deepcopy(margin)
        loss, _ = function(used, *inputs, own)
        # gradients through a weighted sum, so that rows are told apart
        (loss * torch.arange(1.0, 9.0)).sum().backward()
        parameters = [p.grad for p in used.parameters()]
        results.append([loss.detach(), *(x.grad for x in inputs if x.grad is not None), *parameters])
    assert len(results[0]) >= 3
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_best_is_the_greatest_other_cosine():
    unit, centres, magnitude, own = batch()
    _, best = ours(Margin(), unit, centres, magnitude, own)
    cosine = (unit @ F.normalize(centres).T).detach()
    cosine[own >= 0, own[own >= 0]] = -9
    torch.testing.assert_close(best, cosine.amax(1))
    assert not best.requires_grad


@pytest.mark.parametrize("name", ["normface", "curricularface"])
def test_second_backward_pass_is_refused(name):
    unit, centres, magnitude, own = batch()
    loss = ours(build(name).double(), unit, centres, magnitude, own)[0].sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_second_derivative_is_refused():
    unit, centres, magnitude, own = batch()
    loss = ours(Margin(), unit, centres, magnitude, own)[0].sum()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, unit, create_graph=True)


def test_margin_that_moved_on_before_backward_is_refused():
    unit, centres, magnitude, own = batch()
    margin = build("curricularface").double()
    loss = ours(margin, unit, centres, magnitude, own)[0].sum()
    ours(margin, unit, centres, magnitude, own)
    with pytest.raises(RuntimeError, match="before the head sees the next batch"):
        loss.backward()


def test_statistics_that_no_negative_depends_on_may_move_on():
    margin = build("adaface").double()
    *inputs, own = batch()
    total = sum(ours(margin, *inputs, own)[0].sum() for _ in range(2))
    total.backward()
    assert all(x.grad.isfinite().all() for x in inputs[:2])


@pytest.mark.parametrize("name", losses.NAMES)
@pytest.mark.parametrize("magnitude", [0.0, 1e-8, 1e4])
def test_one_class_alone_and_centres_of_no_length_stay_finite(name, magnitude):
    margin = build(name)
    for centres in (torch.zeros(1, 3), torch.tensor([[1.0, 0, 0], [-1, 0, 0]])):
        inputs = torch.eye(3)[[0, 0, 1]], centres, torch.full((3,), magnitude)
        inputs = [x.requires_grad_() for x in inputs]
        loss, best = ours(margin, *inputs, torch.tensor([0, len(centres) - 1, -1]))
        loss.sum().backward()
        assert loss.isfinite().all()
        assert best.isfinite().all()
        assert all(x.grad.isfinite().all() for x in inputs if x.grad is not None)


def test_nearly_certain_faces_keep_their_gradient():
    unit, own = torch.eye(2, dtype=torch.float64, requires_grad=True), torch.arange(2)
    loss, _ = ours(Margin(64.0), unit, torch.eye(2, dtype=torch.float64), torch.ones(2), own)
    loss.sum().backward()
    expected = torch.tensor(-64.0, dtype=torch.float64).exp()
    torch.testing.assert_close(loss.detach(), expected.expand(2), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        unit.grad, 64 * expected * (1 - 2 * torch.eye(2, dtype=torch.float64)), rtol=1e-12, atol=0
    )


def test_autocast_around_the_backward_pass_changes_nothing():
    gradients = []
    for enabled in (False, True):
        unit, centres, magnitude, own = batch(dtype=torch.float32)
        loss, _ = ours(build("curricularface"), unit, centres, magnitude, own)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss.sum().backward()
        gradients.append([unit.grad, centres.grad])
    for plain, inside in zip(*gradients, strict=True):
        assert torch.equal(plain, inside)


class LargeAllocations(TorchDispatchMode):
    """Counts storages of at least `least` bytes that operations bring into being."""

    def __init__(self, least):
        super().__init__()
        self.least, self.found, self.kept = least, [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor) and storage(t) not in before and t.untyped_storage().nbytes() >= self.least:
                self.kept.append(t)  # so that no later storage takes its place
                self.found.append(func)
        return out


def storage(tensor):
    return tensor.untyped_storage()._cdata


@pytest.mark.parametrize("name", losses.NAMES)
def test_the_matrix_is_in_memory_once(name, monkeypatch):
    faces, classes, dim = 64, 500, 4
    monkeypatch.setitem(cross_entropy.CHUNK, "cpu", 4 * classes)
    unit, centres, magnitude, own = batch(faces, classes, dim, torch.float32)
    margin = build(name, classes)
    with LargeAllocations(faces * classes * 4 / 2) as mode:
        ours(margin, unit, centres, magnitude, own)[0].sum().backward()
    assert [str(func) for func in mode.found] == ["aten.mm.default"]
    with LargeAllocations(faces * classes * 4 / 2) as mode:
        dense(margin, unit, centres, magnitude, own)[0].sum().backward()
    assert len(mode.found) > 4
