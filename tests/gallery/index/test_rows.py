import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magface.gallery.index.rows import SPARE, Rows, join


def row(number):
    return np.float32([number, -number])


def found(rows, among=None, size=5):
    blocks = list(rows.blocks(size, among))
    assert all(0 < len(block) <= size for block in blocks)
    pairs = [(int(block.ids[i]), block.rows[i].tolist()) for block in blocks for i in np.flatnonzero(block.alive)]
    assert len(dict(pairs)) == len(pairs), "an id comes once"
    return dict(pairs)


ids = st.lists(st.integers(0, 30), max_size=12)
changes = st.lists(st.tuples(st.booleans(), ids), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, 30)), changes, st.sets(st.integers(0, 35)))
def test_rows_are_a_dictionary(start, steps, among):
    start = sorted(start)
    rows = Rows(np.array(start, np.int64), np.array([row(id) for id in start], np.float32).reshape(-1, 2))
    truth = {id: row(id).tolist() for id in start}
    number = 100
    for put, those in steps:
        if put:
            values = [row(number := number + 1) for _ in those]
            rows.put(np.array(those, np.int64), np.array(values, np.float32).reshape(-1, 2))
            truth |= {id: value.tolist() for id, value in zip(those, values, strict=True)}
        else:
            rows.remove(np.array(those, np.int64))
            truth = {id: value for id, value in truth.items() if id not in those}
        assert len(rows) == len(truth)
    assert found(rows) == truth
    wanted = {id: value for id, value in truth.items() if id in among}
    assert found(rows, np.array(sorted(among), np.int64)) == wanted
    order, places = rows.order()
    assert order.tolist() == sorted(truth)
    assert join(rows.base.rows, rows.fresh.rows, places).tolist() == [truth[id] for id in sorted(truth)]


def test_the_base_is_never_written():
    vectors = np.ones((3, 2), np.float32)
    vectors.flags.writeable = False
    numbers = np.arange(3)
    numbers.flags.writeable = False
    rows = Rows(numbers, vectors)
    rows.put(np.array([1]), np.zeros((1, 2), np.float32))
    rows.remove(np.array([0]))
    assert found(rows) == {1: [0, 0], 2: [1, 1]}


def test_what_is_replaced_again_and_again_takes_no_more_memory():
    rows = Rows(np.empty(0, np.int64), np.empty((0, 2), np.float32))
    for number in range(5 * SPARE):
        rows.put(np.array([7]), row(number)[None])
    assert len(rows) == 1
    assert len(rows.fresh) <= SPARE + 3
    assert rows.sweeps >= 4
    assert found(rows, size=10**6) == {7: row(5 * SPARE - 1).tolist()}


@pytest.mark.parametrize("gone", ["removed", "replaced", "replaced at once"])
def test_numbers_of_who_is_gone_leave_memory(gone):
    rows = Rows(np.empty(0, np.int64), np.empty((0, 2), np.float32))
    if gone == "replaced at once":
        rows.put(np.array([1, 1]), np.array([row(5), row(6)]))
    else:
        rows.put(np.array([1]), row(5)[None])
    if gone == "removed":
        rows.remove(np.array([1]))
    elif gone == "replaced":
        rows.put(np.array([1]), row(6)[None])
    assert 5 not in rows.fresh.rows


def test_few_of_many_are_gathered():
    numbers = np.arange(1000)
    rows = Rows(numbers, np.arange(2000, dtype=np.float32).reshape(-1, 2))
    (block,) = rows.blocks(10_000, np.array([3, 500, 997]))
    assert block.ids.tolist() == [3, 500, 997]
    (block,) = rows.blocks(10_000, np.arange(10, 20))
    assert block.rows.base is not None, "neighbours are not copied"
