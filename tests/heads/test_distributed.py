import pytest
import torch

from magface.heads import distributed
from magface.heads.distributed import Rows, shared, stack, total

COUNTS = {2: (3, 1), 3: (2, 0, 3)}


def batch(world):
    generator = torch.Generator().manual_seed(world)
    x = torch.randn(sum(COUNTS[world]), 4, generator=generator, dtype=torch.float64)
    return x, torch.arange(len(x)) * 2**40


def whole(x, labels, parts):
    """A loss of all rows, and of work that is divided: part r takes the numbers r, r + parts, ... of each row."""
    divided = [(x[:, part::parts] ** 3).sum(1) for part in range(parts)]
    return ((x.sum(1) * labels % 7) * torch.stack(divided).sum(0).cos()).mean()


def together(world):
    rank = distributed.rank()
    x, labels = batch(world)
    rows = Rows.of(COUNTS[world][rank], "cpu")
    local = x[rows.mine].clone().requires_grad_()
    everyone, names = rows.gather(local, labels[rows.mine])
    [into_parts] = shared(everyone)
    part = (into_parts[:, rank::world] ** 3).sum(1)
    loss = ((everyone.sum(1) * names % 7) * stack(part).sum(0).cos()).mean()
    loss.backward()
    return rows.counts, everyone.detach(), names, loss.item(), local.grad, total(torch.tensor(rank + 1.0)).item()


@pytest.mark.parametrize("world", [2, 3])
def test_values_and_gradients_are_those_of_one_process(ranks, world):
    x, labels = batch(world)
    x.requires_grad_()
    loss = whole(x, labels, world)
    loss.backward()
    results = ranks(world)(together, world=world)
    for counts, everyone, names, value, _, ranks_plus_one in results:
        assert counts == COUNTS[world]
        assert torch.equal(everyone, x.detach())
        assert torch.equal(names, labels)
        assert value == pytest.approx(loss.item(), abs=1e-14)
        assert ranks_plus_one == world * (world + 1) / 2
    assert len({value for *_, value, _, _ in results}) == 1
    torch.testing.assert_close(torch.cat([gradient for *_, gradient, _ in results]), x.grad, rtol=0, atol=1e-14)


def dtypes():
    rank = distributed.rank()
    sent = [torch.full((rank, 2), 0.1 + rank, dtype=dtype) for dtype in (torch.bfloat16, torch.float32, torch.float64)]
    sent.append(torch.full((rank,), rank == 1))
    return sent, Rows.of(rank, "cpu").gather(*sent)


def test_rows_of_any_dtype_arrive_to_the_bit(ranks):
    answers = ranks(3)(dtypes)
    expected = [torch.cat(parts) for parts in zip(*(sent for sent, _ in answers), strict=True)]
    for _, received in answers:
        for one, other in zip(received, expected, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def nothing():
    try:
        Rows.of(0, "cpu")
    except ValueError as error:
        return str(error)


def test_a_batch_without_a_face_is_refused_by_all(ranks):
    assert all("at least one" in said for said in ranks(2)(nothing))
    assert "at least one" in nothing()


def test_alone_nothing_is_copied():
    x = torch.ones(2, 3, requires_grad=True)
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert shared(x)[0] is x
    assert Rows.of(2, "cpu").gather(x)[0] is x
    assert total(x) is x
    assert stack(x).shape == (1, 2, 3)
