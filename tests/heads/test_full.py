import pytest
import torch
from torch.nn import functional as F

from magface import losses
from magface.heads import distributed
from magface.heads.full import Full, direction
from magface.losses.magface import MagFace

MAGFACE = MagFace(10, 110, 0.45, 0.8, lambda_g=35)


OPTIONS = {"magface-self-tuning": {"l_a": 10, "u_a": 110, "l_m": 0.45, "u_m": 0.8}}


def build(name, num_classes=5):
    return losses.build(name, num_classes=num_classes, **OPTIONS.get(name, {}))


def batch(size=6, classes=5, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 20 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
    return x, torch.arange(size) % classes, torch.randn(classes, dim, generator=generator, dtype=torch.float64)


def dense(margin, x, labels, centres):
    """Mean loss, its two parts, and whether each face is nearest to its own centre, by a one-hot and plain autograd."""
    magnitude = x.norm(dim=1)
    cosine = F.normalize(x) @ (F.normalize(centres) if margin.unit_centres else centres).T
    own = F.one_hot(labels, len(centres)).bool()
    target = margin.target(cosine[own], magnitude)
    logits = torch.where(own, target[:, None], margin.negatives(cosine, target.detach()))
    logits = margin.scale(magnitude)[:, None] * logits + (0.0 if margin.offset() is None else margin.offset())
    if margin.reduction == "softmax":
        identity = F.cross_entropy(logits, labels)
    else:
        weights = torch.where(own, *(torch.tensor(weight, dtype=x.dtype) for weight in margin.weights))
        identity = F.binary_cross_entropy_with_logits(logits, own.to(x), weights, reduction="sum") / len(x)
    penalty = margin.penalty(magnitude).mean()
    return identity + penalty, identity, penalty, cosine.argmax(1) == labels


@pytest.mark.parametrize("name", losses.NAMES)
def test_equals_a_dense_one_hot_for_every_loss_over_two_steps(name):
    """The second step has seen the first: statistics and draws go on alike."""
    x, labels, centres = batch(9)
    head = Full(5, 4, build(name).double(), centres=centres)
    margin, w = build(name).double(), head.centres.detach().clone().requires_grad_()
    for step in range(2):
        one, other = ((x + step).requires_grad_() for _ in range(2))
        head.zero_grad()
        margin.zero_grad()
        w.grad = None
        out = head(one, labels)
        out.loss.backward()
        loss, identity, penalty, correct = dense(margin, other, labels, w)
        loss.backward()
        expected = (loss, identity, penalty, other.grad, w.grad, *(p.grad for p in margin.parameters()))
        found = (out.loss, out.identity, out.penalty, one.grad, head.centres.grad)
        for a, b in zip((*found, *(p.grad for p in head.margin.parameters())), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert out.correct.tolist() == correct.tolist()


def test_says_the_cosine_and_magnitude_of_each_face():
    x, labels, centres = batch()
    out = Full(5, 4, MAGFACE, centres=centres)(x.requires_grad_(), labels)
    torch.testing.assert_close(out.cosine, F.cosine_similarity(x, centres[labels]).detach())
    torch.testing.assert_close(out.magnitude, x.norm(dim=1).detach())
    assert not any(x.requires_grad for x in (out.cosine, out.magnitude))


def slopes(function, x, step=1e-6):
    """Gradient by central differences."""
    found = torch.zeros_like(x)
    for place in range(x.numel()):
        away = torch.zeros_like(x).flatten()
        away[place] = step
        away = away.view_as(x)
        found.view(-1)[place] = (function(x + away) - function(x - away)) / (2 * step)
    return found


@pytest.mark.parametrize("margin", [MAGFACE, build("softmax"), build("sphereface2")])
def test_gradient_is_the_slope(margin):
    x, labels, centres = batch()
    head = Full(5, 4, margin.double(), centres=centres)
    head(x.requires_grad_(), labels).loss.backward()
    with torch.no_grad():
        expected = slopes(lambda moved: head(moved, labels).loss, x)
    torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=1e-7)


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


COUNTS = {2: (4, 1), 3: (3, 0, 4)}


def several(name, counts, dtype):
    """Loss of two steps and the gradients of the second on this rank; of one process with `counts = (total,)`."""
    x, labels, centres = batch(sum(counts), seed=1)
    head = Full(5, 4, build(name).double(), centres=centres)
    start = sum(counts[: distributed.rank()])
    mine = slice(start, start + counts[distributed.rank()])
    for step in range(2):
        local = (x[mine] + step).to(dtype).requires_grad_()
        head.zero_grad()
        out = head(local, labels[mine])
        out.loss.backward()
    shared = [p.grad for p in head.margin.parameters()]
    state = head.margin.state_dict()
    return [t.detach() for t in out], local.grad, head.centres.grad, shared, state


@pytest.mark.parametrize("world", COUNTS)
@pytest.mark.parametrize("name", losses.NAMES)
def test_several_ranks_equal_one(name, world, ranks):
    counts = COUNTS[world]
    results = ranks(world)(several, name=name, counts=counts, dtype=torch.float64)
    out, x_grad, centre_grad, shared, state = several(name, (sum(counts),), torch.float64)
    outs, x_grads, centre_grads, shareds, states = zip(*results, strict=True)
    near = {"rtol": 1e-12, "atol": 1e-12}
    for one, parts in zip(out, zip(*outs, strict=True), strict=True):
        for part in parts if one.ndim == 0 else [torch.cat(parts)]:
            torch.testing.assert_close(part, one, **near)
    torch.testing.assert_close(torch.cat(x_grads), x_grad, **near)
    torch.testing.assert_close(sum(centre_grads), centre_grad, **near)
    for each, their_state in zip(shareds, states, strict=True):
        torch.testing.assert_close(each, shared, **near)
        torch.testing.assert_close(their_state, state, **near)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_label_that_is_no_class_is_refused(wrong):
    x, labels, centres = batch()
    labels[2] = wrong
    with pytest.raises(ValueError, match=f"label {wrong} is no class.* 0 to 4"):
        Full(5, 4, MAGFACE, centres=centres)(x, labels)


def test_centres_keep_their_length_where_it_counts():
    centres = batch()[2]
    assert torch.equal(Full(5, 4, build("softmax"), centres=centres).centres, centres)
    assert torch.equal(Full(5, 4, MAGFACE, centres=centres).centres, direction(centres))


def test_wrong_centres_are_refused():
    with pytest.raises(ValueError, match="centres"):
        Full(5, 4, MAGFACE, centres=torch.zeros(4, 5))


def test_random_centres_are_unit_vectors():
    torch.testing.assert_close(Full(7, 4, MAGFACE).centres.norm(dim=1), torch.ones(7))
    assert direction(torch.zeros(3)).tolist() == [0, 0, 0]
