import io
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from magface import losses
from magface.heads import distributed
from magface.heads.full import Full
from magface.heads.partial_fc import PartialFC, random_centres, sample, shard
from magface.losses.margin import Margin
from magface.train.optim import SGD

CLASSES, DIM = 7, 4
# faces of each rank, people of the batch: uneven shards always; a shard without a positive; short and empty batches
LAYOUTS = {
    "even": ((3, 3), range(7)),
    "no positive": ((4, 4), (0, 1)),
    "short": ((4, 1), range(7)),
    "empty": ((0, 4), (1, 2, 6)),
    "three": ((3, 2, 3), range(7)),
    "three, one with all": ((2, 0, 3), (5, 6)),
}
NEAR = {"rtol": 1e-12, "atol": 1e-12}


OPTIONS = {"magface-self-tuning": {"l_a": 10, "u_a": 110, "l_m": 0.45, "u_m": 0.8}}


def build(name, num_classes=CLASSES):
    return losses.build(name, num_classes=num_classes, **OPTIONS.get(name, {}))


def batch(counts, people, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 20 * torch.randn(sum(counts), DIM, generator=generator, dtype=torch.float64)
    people = torch.tensor(list(people))
    return x, people[torch.randint(len(people), (len(x),), generator=generator)]


def centres():
    return torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def step(head, counts, people, dtype=torch.float64, steps=2):
    """What the last step gives on this rank."""
    start = sum(counts[: distributed.rank()])
    mine = slice(start, start + counts[distributed.rank()])
    for number in range(steps):
        x, labels = batch(counts, people, number)
        local = x[mine].to(dtype).requires_grad_()
        head.zero_grad()
        out = head(local, labels[mine])
        out.loss.backward()
    margin = [p.grad for p in head.margin.parameters()]
    return [t.detach() for t in out], local.grad, head.centres.grad, margin, head.margin.state_dict()


def split(name, counts, people, dtype=torch.float64):
    head = PartialFC(CLASSES, DIM, build(name).double(), centres=centres())
    return step(head, counts, people, dtype)


def whole(name, counts, people, dtype=torch.float64):
    head = Full(CLASSES, DIM, build(name).double(), centres=centres())
    return step(head, (sum(counts),), people, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", losses.NAMES)
def test_split_over_ranks_equals_the_full_head(name, layout, ranks):
    counts, people = LAYOUTS[layout]
    results = ranks(len(counts))(split, name=name, counts=counts, people=tuple(people))
    out, x_grad, centre_grad, margin, state = whole(name, counts, people)
    outs, x_grads, centre_grads, margins, states = zip(*results, strict=True)
    for one, parts in zip(out, zip(*outs, strict=True), strict=True):
        for part in parts if one.ndim == 0 else [torch.cat(parts)]:
            torch.testing.assert_close(part, one, **NEAR)
    assert len({parts[0].item() for parts in outs}) == 1
    torch.testing.assert_close(torch.cat(x_grads), x_grad, **NEAR)
    torch.testing.assert_close(torch.cat(centre_grads), centre_grad, **NEAR)
    for each, their_state in zip(margins, states, strict=True):
        torch.testing.assert_close(each, margin, **NEAR)
        torch.testing.assert_close(their_state, state, **NEAR)


@pytest.mark.parametrize("layout", ["short", "three, one with all"])
@pytest.mark.parametrize("name", losses.NAMES)
def test_embeddings_in_bfloat16(name, layout, ranks):
    counts, people = LAYOUTS[layout]
    results = ranks(len(counts))(split, name=name, counts=counts, people=tuple(people), dtype=torch.bfloat16)
    out, x_grad, centre_grad, *_ = whole(name, counts, people, torch.bfloat16)
    exact = whole(name, counts, people)
    assert {out[0].dtype for out, *_ in results} == {torch.float32}
    for (loss, *_), *_ in results:
        torch.testing.assert_close(loss, out[0], rtol=1e-5, atol=1e-6)
        assert loss.item() == pytest.approx(exact[0][0].item(), rel=0.05)
    gradients = torch.cat([gradient for _, gradient, *_ in results])
    assert gradients.dtype == torch.bfloat16
    scale = x_grad.abs().max().item()
    torch.testing.assert_close(gradients, x_grad, rtol=2**-7, atol=2**-7 * scale)
    found = torch.cat([gradient for _, _, gradient, *_ in results])
    torch.testing.assert_close(found, centre_grad, rtol=1e-4, atol=1e-5 * centre_grad.abs().max().item())


@pytest.mark.parametrize("name", losses.NAMES)
def test_alone_equals_the_full_head(name):
    one, other = (make(name, (6,), range(7)) for make in (split, whole))
    for a, b in zip(one[:3], other[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def sampled(name, counts, people, rate):
    """Which rows took part beside what a step gives."""
    head = PartialFC(CLASSES, DIM, build(name).double(), centres=centres(), rate=rate)
    out, x_grad, centre_grad, margin, _ = step(head, counts, people, steps=1)
    centre_grad = centre_grad.coalesce()
    return out, x_grad, centre_grad.indices()[0] + head.rows.start, centre_grad.values(), margin


def restricted(name, counts, people, chosen):
    """The full head over the chosen classes alone."""
    margin = build(name).double()
    head = Full(len(chosen), DIM, margin, centres=centres()[chosen])
    if margin.unit_centres:  # as the sampled head has them, to the last bit
        head.centres.data = Full(CLASSES, DIM, margin, centres=centres()).centres.data[chosen]
    x, labels = batch(counts, people)
    x.requires_grad_()
    out = head(x, torch.searchsorted(chosen, labels))
    out.loss.backward()
    return [t.detach() for t in out], x.grad, head.centres.grad, [p.grad for p in margin.parameters()]


@pytest.mark.parametrize("layout", ["short", "no positive", "three, one with all"])
@pytest.mark.parametrize("name", losses.NAMES)
def test_sampled_equals_the_full_head_over_the_sampled_classes(name, layout, ranks):
    counts, people = LAYOUTS[layout]
    results = ranks(len(counts))(sampled, name=name, counts=counts, people=tuple(people), rate=0.5)
    outs, x_grads, rows, values, margins = zip(*results, strict=True)
    chosen = torch.cat(rows)
    _, labels = batch(counts, people)
    assert set(labels.tolist()) <= set(chosen.tolist())
    for rank, mine in enumerate(rows):
        held = shard(CLASSES, rank, len(counts))
        positive = ((labels >= held.start) & (labels < held.stop)).nonzero()[:, 0]
        wanted = max((held.stop - held.start) // 2, len(labels[positive].unique()), 1)
        assert len(mine) == wanted
    out, x_grad, centre_grad, margin = restricted(name, counts, people, chosen)
    for one, parts in zip(out, zip(*outs, strict=True), strict=True):
        for part in parts if one.ndim == 0 else [torch.cat(parts)]:
            torch.testing.assert_close(part, one, **NEAR)
    torch.testing.assert_close(torch.cat(x_grads), x_grad, **NEAR)
    torch.testing.assert_close(torch.cat(values), centre_grad, **NEAR)
    for each in margins:
        torch.testing.assert_close(each, margin, **NEAR)


def drawing(head, steps):
    """Rows that took part in each step."""
    found = []
    for _ in range(steps):
        head.zero_grad()
        head(torch.ones(1, DIM), torch.zeros(1, dtype=torch.int64)).loss.backward()
        found.append(head.centres.grad.coalesce().indices()[0].tolist())
    return found


def test_draws_go_on_after_a_checkpoint_and_differ_between_steps():
    make = lambda: PartialFC(1000, DIM, Margin(), rate=0.02, seed=3)  # noqa: E731
    straight = drawing(make(), 6)
    first = make()
    assert drawing(first, 3) == straight[:3]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = PartialFC(1000, DIM, Margin(), rate=0.02, seed=4)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert drawing(second, 3) == straight[3:]
    assert all(one != other for one, other in pairwise(straight))
    assert all(len(rows) == 20 and rows[0] == 0 for rows in straight)


def test_gradient_of_sampled_centres_is_sparse_and_adds_up():
    head = PartialFC(100, DIM, Margin(), rate=0.1)
    drawing(head, 1)
    assert head.centres.grad.is_sparse
    assert head.centres.grad._nnz() == 10
    drawn = set(drawing(head, 1)[0])
    head(torch.ones(1, DIM), torch.ones(1, dtype=torch.int64)).loss.backward()  # a second part of the same step
    both = set(head.centres.grad.coalesce().indices()[0].tolist())
    assert drawn < both


def test_every_negative_is_drawn_as_often():
    head = PartialFC(50, DIM, Margin(), rate=0.2)
    counts = torch.bincount(torch.tensor(drawing(head, 400)).flatten(), minlength=50)
    assert counts[0] == 400
    # 9 of 49 a step: 73 expected, standard deviation 7.7
    assert ((counts[1:] - 73.5).abs() < 4.5 * 7.7).all()


def test_evaluation_compares_with_all():
    x, labels = batch((6,), range(7))
    one, other = (PartialFC(CLASSES, DIM, Margin(), centres=centres(), rate=rate).eval() for rate in (0.3, 1.0))
    assert one(x, labels).loss.item() == other(x, labels).loss.item()


def test_rows_that_took_no_part_do_not_move():
    head = PartialFC(100, DIM, Margin(), rate=0.1)
    optimizer = SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        before = head.centres.detach().clone()
        [rows] = drawing(head, 1)
        optimizer.step()
        moved = (head.centres != before).any(1).nonzero()[:, 0].tolist()
        assert moved == rows


@given(
    count=st.integers(1, 200),
    positive=st.lists(st.integers(0, 199), max_size=50),
    rate=st.floats(0.001, 1),
    seed=st.integers(0, 2**32),
)
def test_sample(count, positive, rate, seed):
    positive = [row % count for row in positive]
    rows = sample(count, torch.tensor(positive, dtype=torch.int64), rate, torch.Generator().manual_seed(seed)).tolist()
    assert rows == sorted(set(rows))
    assert set(positive) <= set(rows) <= set(range(count))
    assert len(rows) == max(int(rate * count), len(set(positive)), 1)


@given(num_classes=st.integers(1, 10_000), world=st.integers(1, 64))
def test_shards_cover_all_classes_once(num_classes, world):
    if world > num_classes:
        with pytest.raises(ValueError, match="cannot be split"):
            shard(num_classes, 0, world)
        return
    parts = [shard(num_classes, rank, world) for rank in range(world)]
    assert parts[0].start == 0
    assert parts[-1].stop == num_classes
    assert all(one.stop == other.start for one, other in pairwise(parts))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("rows", [(0, 10_000), (4095, 4097), (4096, 8192), (9999, 10_000)])
def test_first_centres_do_not_depend_on_who_draws_them(rows):
    whole = random_centres(10_000, 3, 1, slice(0, 10_000))
    assert torch.equal(random_centres(10_000, 3, 1, slice(*rows)), whole[slice(*rows)])
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(10_000))
    assert len(whole.unique(dim=0)) == 10_000
    assert whole.mean(0).abs().max() < 0.02
    assert not torch.equal(random_centres(10, 3, 2, slice(0, 10)), whole[:10])


def centres_of_this_rank(seed):
    head = PartialFC(CLASSES, DIM, Margin(), seed=seed)
    return head.centres.detach(), (head.rows.start, head.rows.stop)


@pytest.mark.parametrize("world", [2, 3])
def test_first_centres_are_those_of_one_process(world, ranks):
    parts = ranks(world)(centres_of_this_rank, seed=5)
    assert torch.equal(torch.cat([part for part, _ in parts]), PartialFC(CLASSES, DIM, Margin(), seed=5).centres)
    assert [rows for _, rows in parts] == [(s.start, s.stop) for s in (shard(CLASSES, r, world) for r in range(world))]


def wrong_label(label):
    head = PartialFC(CLASSES, DIM, Margin())
    labels = torch.tensor([label if distributed.rank() == 0 else 0])
    try:
        head(torch.ones(1, DIM), labels)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("label", [-1, 7])
def test_every_rank_refuses_a_label_that_is_no_class(label, ranks):
    assert all(f"label {label} is no class" in said for said in ranks(2)(wrong_label, label=label))


def test_frozen_centres_and_detached_direction():
    x, labels = batch((6,), range(7))
    margin = build("magface").double()
    head = PartialFC(CLASSES, DIM, margin, centres=centres(), frozen=True, detach_direction=True)
    head(x.requires_grad_(), labels).loss.backward()
    assert head.centres.grad is None
    torch.testing.assert_close(F.cosine_similarity(x.grad, x).abs(), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("rate", [0.0, 1.1, float("nan")])
def test_rate_out_of_range(rate):
    with pytest.raises(ValueError, match="rate"):
        PartialFC(CLASSES, DIM, Margin(), rate=rate)
