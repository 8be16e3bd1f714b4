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
GRID: F64 = np.arange(0, 4, 0.01)
"""Thresholds that both scripts try, on whatever distance they use."""


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
        compare: takes raw embeddings of first and second images `(N, D)`, the fold of each pair `(N,)` int, and which
            pairs are rejected untested `(N,)` bool; gives `Compared`.
        flip: whether the embedding of an image is the sum of those of the image and of the mirrored image.
        contiguous: whether folds are tenths of the pairs in their order, whatever folds a list names.
        text: says it in one sentence.
    """

    compare: Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike], Compared]
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


def single(first: ArrayLike, second: ArrayLike, folds: ArrayLike, rejected: ArrayLike) -> Compared:
    """Cosine of one view of each image.

    Args:
        first: `(N, D)` float, raw embeddings.
        second: `(N, D)` float, raw embeddings.
        folds: `(N,)` int, of no effect on the scores.
        rejected: `(N,)` bool, pairs that are rejected whatever their embeddings: their similarity is -1.

    Returns:
        `judged` is the cosine.

    Raises:
        DataError: shapes differ.

    Example:
        >>> single([[3.0, 4.0]], [[0.0, 2.0]], [0], [False]).similarity
        array([0.8])
    """
    a, b, out = _checked(first, second, rejected)
    similarity = np.where(out, -1.0, cosine(a, b))
    return Compared(similarity, similarity, on_grid=False)


def insightface(first: ArrayLike, second: ArrayLike, folds: ArrayLike, rejected: ArrayLike) -> Compared:
    """Squared Euclidean distance of directions; embeddings are sums over the image and the mirrored image.

    Equation: insightface verification (d = |x / |x| - y / |y||^2, x = f(image) + f(mirrored image))

    Source: `eval/verification.py` of arcface_torch

    Args:
        first: `(N, D)` float, summed raw embeddings.
        second: `(N, D)` float, summed raw embeddings.
        folds: `(N,)` int, of no effect on the scores.
        rejected: `(N,)` bool, pairs that are rejected whatever their embeddings: similarity -1, distance 4.

    Returns:
        `similarity` is the cosine of the sums, `judged` is -d.

    Raises:
        DataError: shapes differ.

    Example:
        >>> insightface([[3.0, 4.0]], [[0.0, 2.0]], [0], [False]).judged.round(6)
        array([-0.4])
    """
    a, b, out = _checked(first, second, rejected)
    distance = np.sum((direction(a) - direction(b)) ** 2, axis=1)
    return Compared(np.where(out, -1.0, cosine(a, b)), -np.where(out, 4.0, distance), on_grid=True)


def magface_official(first: ArrayLike, second: ArrayLike, folds: ArrayLike, rejected: ArrayLike) -> Compared:
    """Angle between raw embeddings from which the mean of all other folds was taken.

    Equation: MagFace verification (d = arccos(cos(x - m, y - m)) / pi, m = mean of the raw embeddings of both sides
    over the folds that are not judged)

    Source: `eval/eval_recognition/eval_1v1.py` of MagFace

    The mean differs between folds, so distances of two folds cannot be compared with each other. TAR, EER and AUC,
    which the script does not give, are therefore those of the cosine without a mean.

    Args:
        first: `(N, D)` float, raw embeddings of one view; their magnitudes weight the mean.
        second: `(N, D)` float, likewise.
        folds: `(N,)` int, the fold of each pair; at least two folds.
        rejected: `(N,)` bool, pairs that are rejected whatever their embeddings, and that count for no mean: similarity
            -1, distance 1.

    Returns:
        `similarity` is the cosine without a mean, `judged` is -d, one row a fold.

    Raises:
        DataError: shapes differ, or there are fewer than two folds.

    Example:
        >>> magface_official([[2.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 1.0]], [0, 1], [False] * 2).judged.round(6)
        array([[-0.704833, -1.      ],
               [-1.      , -0.5     ]])
    """
    a, b, out = _checked(first, second, rejected)
    fold = np.asarray(folds)

    def score(k: int) -> F64:
        others = (fold != k) & ~out
        mean = (a[others].sum(axis=0) + b[others].sum(axis=0)) / max(2 * int(others.sum()), 1)
        return -np.where(out, 1.0, angle(a - mean, b - mean) / math.pi)

    judged = np.stack([score(k) for k in _folds(fold, len(a))])
    return Compared(np.where(out, -1.0, cosine(a, b)), judged, on_grid=True)


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


def _checked(first: ArrayLike, second: ArrayLike, rejected: ArrayLike) -> tuple[F64, F64, Mask]:
    a, b, out = np.asarray(first, np.float64), np.asarray(second, np.float64), np.asarray(rejected, bool)
    if a.ndim != 2 or a.shape != b.shape or out.shape != a.shape[:1]:
        raise DataError(f"each pair needs two embeddings of one size; got shapes {a.shape}, {b.shape}, {out.shape}.")
    return a, b, out


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
