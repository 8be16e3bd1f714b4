import threading

import pytest

from magface.threads import prefetch


def test_order_is_kept():
    assert list(prefetch(lambda n: n**2, range(3, 300), workers=4, limit=5)) == [n**2 for n in range(3, 300)]
    assert list(prefetch(str, [], workers=2, limit=3)) == []


def test_no_more_is_taken_than_there_is_room_for():
    taken = []

    def items():
        for n in range(100):
            taken.append(n)
            yield n

    results = prefetch(lambda n: n, items(), workers=2, limit=7)
    for n in range(5):
        assert next(results) == n
        assert len(taken) == n + 7
    results.close()
    assert len(taken) == 11


def test_an_error_comes_in_its_turn_and_ends_it():
    def make(n):
        if n == 3:
            raise ValueError("three")
        return n

    before = set(threading.enumerate())
    results = prefetch(make, range(10), workers=2, limit=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert set(threading.enumerate()) <= before
