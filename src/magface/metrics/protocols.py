"""The named protocols of one-to-one verification: how two sets of raw embeddings become scores and an accuracy.

`single` is this package's own: one view, exact thresholds. `insightface` and `magface-official` follow two scripts
whose numbers are published side by side although they differ in view, mean and distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.geometry import angle, cosine, direction
from magface.metrics.verification import FoldAccuracy, kfold_accuracy

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.integer]
GRID: F64 = np.arange(0, 4, 0.01)
"""Thresholds that both scripts try, on whatever distance they use."""
_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Pairs compared by a protocol.

    Attributes:
        similarity: `(N,)` float64 within [-1, 1], for TAR, EER and AUC.
        judged: `(N,)` or, where it depends on the fold that is judged, `(F, N)` float64: what the accuracy is taken on,
            the protocol's distance with its sign turned, so that higher is more alike.
        on_grid: whether the script that the protocol follows looks for thresholds on a grid.
    """

    similarity: F64
    judged: F64
    on_grid: bool

    def accuracy(self, same: ArrayLike, folds: ArrayLike) -> FoldAccuracy:
        """Accuracy over folds at exact thresholds; arguments and errors as those of `kfold_accuracy`."""
        return kfold_accuracy(self.judged, same, folds)

    def grid_accuracy(self, same: ArrayLike, folds: ArrayLike) -> FoldAccuracy | None:
        """Accuracy over folds as the script finds it; None for a protocol that follows none.

        A pair is accepted when its distance is below the threshold: the first on the grid 0, 0.01 ... 3.99 that is best
        on all other folds.

        Args:
            same: `(N,)` bool, True for genuine pairs.
            folds: `(N,)` int, the fold of each pair; at least two folds.

        Returns:
            Mean, spread and folds; thresholds are in terms of `judged`.

        Raises:
            DataError: lengths differ, or there are fewer than two folds.
        """
        if not self.on_grid:
            return None
        genuine, fold = np.asarray(same, bool), np.asarray(folds)
        numbers = _folds(fold, self.judged.shape[-1])
        rows = np.broadcast_to(self.judged, (len(numbers), self.judged.shape[-1]))
        found = [_judged_on_grid(-row, genuine, fold == k) for k, row in zip(numbers, rows, strict=True)]
        accuracies, thresholds = zip(*found, strict=True)
        return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), accuracies, thresholds)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to compare.

    Attributes:
        compare: `single`, `insightface` or `magface_official`.
        flip: whether the embedding of an image is the sum of those of the image and of the mirrored image.
        contiguous: whether folds are tenths of the pairs in their order, whatever folds a list names.
        text: says it in one sentence.
    """

    compare: Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike, ArrayLike], Compared]
    flip: bool
    contiguous: bool
    text: str


def contiguous(count: int, folds: int = 10) -> NDArray[np.int64]:
    """Folds that follow each other, not shuffled; the first ones are longer by one where `count` is no multiple.

    Example:
        >>> contiguous(7, folds=3)
        array([0, 0, 0, 1, 1, 2, 2])
    """
    return np.repeat(np.arange(folds), [len(part) for part in np.array_split(np.arange(count), folds)])


def single(vectors: ArrayLike, first: ArrayLike, second: ArrayLike, folds: ArrayLike, rejected: ArrayLike) -> Compared:
    """Cosine of one view of each image.

    Args:
        vectors: `(M, D)` float, raw embeddings.
        first: `(N,)` int, rows of `vectors`.
        second: `(N,)` int, rows of `vectors`.
        folds: `(N,)` int, of no effect on the scores.
        rejected: `(N,)` bool, pairs that are rejected whatever their embeddings: their similarity is -1.

    Returns:
        `judged` is the cosine.

    Raises:
        DataError: shapes differ.

    Example:
        >>> single([[3.0, 4.0], [0.0, 2.0]], [0, 0], [1, 0], [0, 1], [False, True]).similarity
        array([ 0.8, -1. ])
    """
    pairs = _Pairs.of(vectors, first, second, folds, rejected)
    similarity = pairs.compare(cosine, -1.0)
    return Compared(similarity, similarity, on_grid=False)


def insightface(
    vectors: ArrayLike, first: ArrayLike, second: ArrayLike, folds: ArrayLike, rejected: ArrayLike
) -> Compared:
    """Squared Euclidean distance of directions; embeddings are sums over the image and the mirrored image.

    Equation: insightface verification (d = |x / |x| - y / |y||^2, x = f(image) + f(mirrored image))

    Source: `eval/verification.py` of arcface_torch

    Args:
        vectors: `(M, D)` float, summed raw embeddings.
        first: `(N,)` int, rows of `vectors`.
        second: `(N,)` int, rows of `vectors`.
        folds: `(N,)` int, of no effect on the scores.
        rejected: `(N,)` bool, pairs that are rejected whatever their embeddings: similarity -1, distance 4.

    Returns:
        `similarity` is the cosine of the sums, `judged` is -d.

    Raises:
        DataError: shapes differ.

    Example:
        >>> insightface([[3.0, 4.0], [0.0, 2.0]], [0, 0], [1, 0], [0, 1], [False, True]).judged.round(6)
        array([-0.4, -4. ])
    """
    pairs = _Pairs.of(vectors, first, second, folds, rejected)
    judged = pairs.compare(lambda a, b: -np.sum((direction(a) - direction(b)) ** 2, axis=1), -4.0)
    return Compared(pairs.compare(cosine, -1.0), judged, on_grid=True)


def magface_official(
    vectors: ArrayLike, first: ArrayLike, second: ArrayLike, folds: ArrayLike, rejected: ArrayLike
) -> Compared:
    """Angle between raw embeddings from which the mean of all other folds was taken.

    Equation: MagFace verification (d = arccos(cos(x - m, y - m)) / pi, m = mean of the raw embeddings of both sides
    over the folds that are not judged)

    Source: `eval/eval_recognition/eval_1v1.py` of MagFace

    The mean differs between folds, so distances of two folds cannot be compared with each other. TAR, EER and AUC,
    which the script does not give, are therefore those of the cosine without a mean.

    Args:
        vectors: `(M, D)` float, raw embeddings of one view; their magnitudes weight the mean, and so does how often a
            pair names them.
        first: `(N,)` int, rows of `vectors`.
        second: `(N,)` int, rows of `vectors`.
        folds: `(N,)` int, the fold of each pair; at least two folds.
        rejected: `(N,)` bool, pairs that are rejected whatever their embeddings, and that count for no mean: similarity
            -1, distance 1.

    Returns:
        `similarity` is the cosine without a mean, `judged` is -d, one row a fold.

    Raises:
        DataError: shapes differ, or there are fewer than two folds.

    Example:
        >>> vectors = [[2.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 1.0]]
        >>> magface_official(vectors, [0, 2], [1, 3], [0, 1], [False, False]).judged.round(6)
        array([[-0.704833, -1.      ],
               [-1.      , -0.5     ]])
    """
    pairs = _Pairs.of(vectors, first, second, folds, rejected)

    def judged(k: int) -> F64:
        mean = pairs.mean(pairs.fold != k)
        return pairs.compare(lambda a, b: -angle(a - mean, b - mean) / math.pi, -1.0)

    numbers = _folds(pairs.fold, len(pairs.fold))
    return Compared(pairs.compare(cosine, -1.0), np.stack([judged(k) for k in numbers]), on_grid=True)


PROTOCOLS = {
    "single": Protocol(single, flip=False, contiguous=False, text="cosine of one view, exact thresholds"),
    "insightface": Protocol(
        insightface,
        flip=True,
        contiguous=True,
        text="embeddings of the image and of the mirrored image added, squared distance of directions",
    ),
    "magface-official": Protocol(
        magface_official,
        flip=False,
        contiguous=True,
        text="angle after taking off the mean of the other folds; TAR, EER and AUC of the cosine without a mean",
    ),
}
"""By the name that results carry."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Pairs of rows of embeddings; those rejected are not looked at."""

    vectors: NDArray[np.floating]
    first: Index
    second: Index
    fold: Index
    rejected: Mask

    @staticmethod
    def of(vectors: ArrayLike, first: ArrayLike, second: ArrayLike, folds: ArrayLike, rejected: ArrayLike) -> _Pairs:
        found = (
            np.asarray(vectors),
            np.asarray(first),
            np.asarray(second),
            np.asarray(folds),
            np.asarray(rejected, bool),
        )
        if found[0].ndim != 2 or found[1].ndim != 1 or len({column.shape for column in found[1:]}) > 1:
            shapes = ", ".join(str(column.shape) for column in found)
            raise DataError(f"each pair needs two embeddings, a fold and whether it is rejected; got shapes {shapes}.")
        return _Pairs(*found)

    def compare(self, score: Callable[[F64, F64], NDArray[np.floating]], rejected: float) -> F64:
        """Scores `(N,)` in float64, in blocks of bounded memory."""
        scores = np.full(len(self.first), rejected)
        kept = np.flatnonzero(~self.rejected)
        for start in range(0, len(kept), _BLOCK):
            rows = kept[start : start + _BLOCK]
            a, b = (self.vectors[side[rows]].astype(np.float64) for side in (self.first, self.second))
            scores[rows] = score(a, b)
        return scores

    def mean(self, chosen: Mask) -> F64:
        """Mean embedding `(D,)` of both sides of the pairs chosen."""
        kept = chosen & ~self.rejected
        named = np.bincount(np.append(self.first[kept], self.second[kept]), minlength=len(self.vectors)).astype(float)
        blocks = (slice(start, start + _BLOCK) for start in range(0, len(self.vectors), _BLOCK))
        total = sum((named[block] @ self.vectors[block].astype(np.float64) for block in blocks), np.zeros(1))
        return np.asarray(total / max(named.sum(), 1.0))


def _folds(fold: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    numbers = np.unique(fold)
    if fold.shape != (count,) or len(numbers) < 2:
        raise DataError(f"{count} pairs need a fold each, and two folds at least; got {fold.shape}, {len(numbers)}.")
    return numbers


def _judged_on_grid(distance: F64, genuine: Mask, judged: Mask) -> tuple[float, float]:
    """Accuracy of the pairs `judged` at the first threshold that is best on the others, and the score it stands for."""
    matches, others = (np.sort(distance[~judged & kind]) for kind in (genuine, ~genuine))
    accepted = np.searchsorted(matches, GRID) - np.searchsorted(others, GRID)
    threshold = GRID[np.argmax(accepted)]
    right = (distance[judged] < threshold) == genuine[judged]
    return float(np.mean(right)), float(np.nextafter(-threshold, np.inf))
