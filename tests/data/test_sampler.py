from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.data.sampler import GlobalSampler

counts, batches = st.integers(1, 200), st.integers(1, 40)
seeds, epochs = st.integers(0, 5), st.integers(0, 4)


def epoch_of(sampler, epoch):
    return [sampler.rows(step) for step in range(epoch * sampler.per_epoch, (epoch + 1) * sampler.per_epoch)]


@given(counts, batches, seeds, epochs)
def test_every_image_exactly_once_an_epoch(count, batch, seed, epoch):
    found = epoch_of(GlobalSampler(count, batch, seed), epoch)
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(count))
    sizes = [len(rows) for rows in found]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-count // batch)
    assert all(rows.dtype == np.int64 for rows in found)


@given(counts, batches, seeds, epochs)
def test_full_batches_alone(count, batch, seed, epoch):
    if count < batch:
        with pytest.raises(ValueError, match="do not fill"):
            GlobalSampler(count, batch, seed, drop_last=True)
        return
    found = epoch_of(GlobalSampler(count, batch, seed, drop_last=True), epoch)
    assert [len(rows) for rows in found] == [batch] * (count // batch)
    assert len(np.unique(np.concatenate(found))) == batch * (count // batch)


@given(counts, batches, seeds, st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_a_step_depends_on_nothing_that_was_asked_before(count, batch, seed, steps):
    sampler = GlobalSampler(count, batch, seed)
    for step in steps:
        assert np.array_equal(sampler.rows(step), GlobalSampler(count, batch, seed).rows(step))


def test_epochs_and_seeds_have_other_orders():
    orders = [np.concatenate(epoch_of(GlobalSampler(100, 10, seed), epoch)) for seed in (0, 1) for epoch in (0, 1)]
    for i, one in enumerate(orders):
        assert not np.array_equal(one, np.arange(100))
        assert not any(np.array_equal(one, other) for other in orders[i + 1 :])


def test_an_image_has_every_place_alike():
    places = [np.flatnonzero(np.concatenate(epoch_of(GlobalSampler(10, 5, 3), epoch)) == 7)[0] for epoch in range(3000)]
    assert np.bincount(places, minlength=10) == pytest.approx(300, rel=0.25)


def test_threads_over_the_border_of_epochs_agree():
    sampler, steps = GlobalSampler(1000, 100), [*range(8, 12)] * 50
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(sampler.rows, steps))
    assert all(
        np.array_equal(rows, GlobalSampler(1000, 100).rows(step)) for rows, step in zip(found, steps, strict=True)
    )
    assert len(sampler._orders) == 2


@pytest.mark.parametrize(
    "numbers",
    [
        {"count": 0},
        {"batch": 0},
        {"seed": -1},
    ],
)
def test_numbers_out_of_range(numbers):
    with pytest.raises(ValueError, match="cannot deal"):
        GlobalSampler(**{"count": 10, "batch": 2, **numbers})
