"""Work that threads do a little ahead of its use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READERS = min(os.cpu_count() or 1, 8)
"""Threads that read and decode images."""

A = TypeVar("A")
T = TypeVar("T")


def prefetch(make: Callable[[A], T], items: Iterable[A], *, workers: int, limit: int) -> Iterator[T]:
    """Results of `make`, in order, made by threads while the caller works on earlier ones.

    Args:
        make: what to do with an item, in any thread; its exception goes to the caller in its turn.
        items: taken one by one as there is room.
        workers: threads.
        limit: items that are in work or done, and not yet taken, at most.

    Example:
        >>> list(prefetch(str.upper, "abc", workers=2, limit=2))
        ['A', 'B', 'C']
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) >= limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
