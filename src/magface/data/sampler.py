"""Which images a step trains on: all in a new order every epoch, each exactly once, whatever the number of ranks."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray


class GlobalSampler:
    """Rows of each step, decided by seed, epoch and step alone, so that any step can be done again.

    An epoch has as many steps as batches are needed. Its images are dealt evenly to them: sizes differ by one at most,
    so that no batch is left with a single face.

    Keeps the order of two epochs in memory, 4 bytes an image each. May be asked by several threads.

    Args:
        count: N, images, >= 1.
        batch: images of a step on all ranks together, at most, >= 1.
        seed: >= 0; another number gives another order.
        drop_last: make every batch full, and leave out of each epoch the last images of its order.

    Attributes:
        per_epoch: steps of an epoch.

    Raises:
        ValueError: a number is out of range, or `drop_last` leaves no batch.

    Example:
        >>> sampler = GlobalSampler(5, batch=2)
        >>> sampler.per_epoch, [len(sampler.rows(step)) for step in range(3)]
        (3, [1, 2, 2])
        >>> np.sort(np.concatenate([sampler.rows(step) for step in range(3, 6)]))
        array([0, 1, 2, 3, 4])
    """

    def __init__(self, count: int, batch: int, seed: int = 0, *, drop_last: bool = False) -> None:
        if count < 1 or batch < 1 or seed < 0:
            raise ValueError(f"cannot deal {count} images in batches of {batch}, seed {seed}.")
        if drop_last and count < batch:
            raise ValueError(f"{count} images do not fill a batch of {batch}; take a smaller one.")
        self.per_epoch = count // batch if drop_last else -(-count // batch)
        self._used = self.per_epoch * batch if drop_last else count
        self._count, self._seed = count, seed
        self._orders: dict[int, NDArray[np.integer]] = {}
        self._lock = threading.Lock()

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows, `(b,)` within 0..N-1, of step 0, 1, ... counted through all epochs; its epoch is step // per_epoch."""
        epoch, place = divmod(step, self.per_epoch)
        start, end = (self._used * edge // self.per_epoch for edge in (place, place + 1))
        return self._order(epoch)[start:end].astype(np.int64)

    def _order(self, epoch: int) -> NDArray[np.integer]:
        with self._lock:
            if epoch not in self._orders:
                order: NDArray[np.integer] = np.arange(
                    self._count, dtype=np.int32 if self._count < 1 << 31 else np.int64
                )
                np.random.default_rng((self._seed, 0, epoch)).shuffle(order)
                # threads that prepare batches go over the border of two epochs back and forth
                self._orders = {known: self._orders[known] for known in sorted(self._orders)[-1:]} | {epoch: order}
            return self._orders[epoch]
