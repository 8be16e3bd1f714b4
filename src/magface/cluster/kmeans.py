"""Groups of faces by spherical K-means, when the number of people is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from magface.cluster.numbering import UNKNOWN, numbered
from magface.cluster.weighting import Weighting, weights
from magface.data.audit import centroids
from magface.errors import DataError
from magface.geometry import direction
from magface.types import F32, Embeddings

_CELLS = 1 << 23
"""Cosines that are computed at a time."""
_COPIES = 1e-6
"""Mean distance to the nearest centre at which all faces are copies of centres."""


def kmeans(
    embeddings: Embeddings, people: int, *, weighting: Weighting = "unit", seed: int = 0, rounds: int = 50
) -> NDArray[np.int64]:
    """Give each face to the nearest of K centres, and move each centre to the direction of its faces' sum.

    First centres are drawn by greedy k-means++. A centre that loses all of its faces moves to the face that is farthest
    from its own. Time of a round grows with N K D, and that of the first centres with N K D log K; memory beside the
    embeddings is that of the centres and of one block.

    Equation: spherical K-means (max sum_i w_i cos(x_i, c_k(i)), c_k = dir(sum of w_i x_i in k), w = 1 or the magnitude)

    Args:
        embeddings: N faces of one model, raw; faces without direction (all zeros) belong to no group.
        people: K, groups to make, 1 to N; fewer come out where faces of fewer than K directions exist.
        weighting: `"unit"`, every face counts alike, or `"magnitude"`: a centre is the sum of raw embeddings.
        seed: of the first centres.
        rounds: at most; it ends when no face moves.

    Returns:
        `(N,)` int64, 0 for the largest group; groups of one size are numbered in the order of their first face.

    Raises:
        DataError: `people` is not 1 to N, or there is no such weighting.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> kmeans(faces, people=2)
        array([1, 0, 0])
    """
    weight = weights(embeddings, weighting)
    if len(embeddings) and not 1 <= people <= len(embeddings):
        raise DataError(f"{len(embeddings)} faces make between 1 and {len(embeddings)} groups, not {people}.")
    unit = embeddings.direction
    known = np.flatnonzero(unit.any(axis=1))
    group = np.full(len(unit), UNKNOWN, np.int64)
    if len(known):
        group[known] = _lloyd(unit[known], weight[known], people, np.random.default_rng(seed), rounds)
    return numbered(group)


def _lloyd(
    unit: F32, weight: NDArray[np.float64], people: int, rng: np.random.Generator, rounds: int
) -> NDArray[np.int64]:
    centres = _first(unit, weight, people, rng)
    group, near = _nearest(unit, centres)
    weighted = unit * weight[:, None].astype(np.float32)
    for _ in range(rounds):
        centres = centroids(weighted, group, len(centres))
        empty = np.flatnonzero(~centres.any(axis=1))
        centres[empty] = unit[np.argsort(near, kind="stable")[: len(empty)]]
        before = group
        group, near = _nearest(unit, direction(centres))
        if np.array_equal(group, before):
            break
    return group


def _first(unit: F32, weight: NDArray[np.float64], people: int, rng: np.random.Generator) -> F32:
    """Greedy k-means++: some faces are drawn by weight and distance to the nearest centre, the best one stays."""
    chosen = [int(rng.choice(len(unit), p=weight / weight.sum()))]
    trials = 2 + int(math.log(people))
    away = _distance(unit, chosen)[:, 0]
    while len(chosen) < people:
        odds = np.cumsum(weight * away)
        if odds[-1] <= _COPIES * weight.sum():
            break
        drawn = np.searchsorted(odds, rng.random(trials) * odds[-1], side="right")
        left = np.minimum(away[:, None], _distance(unit, drawn))
        best = int((weight @ left).argmin())
        away = left[:, best]
        chosen.append(int(drawn[best]))
    return unit[chosen]


def _distance(unit: F32, rows: Sequence[int] | NDArray[np.int64]) -> F32:
    """Half the squared distance of all faces to some of them: 1 - cosine."""
    return np.maximum(1 - unit @ unit[rows].T, 0)


def _nearest(unit: F32, centres: F32) -> tuple[NDArray[np.int64], F32]:
    """The nearest centre of each face, and its cosine."""
    group, near = np.empty(len(unit), np.int64), np.empty(len(unit), np.float32)
    step = max(1, _CELLS // len(centres))
    for start in range(0, len(unit), step):
        cosine = unit[start : start + step] @ centres.T
        best = cosine.argmax(axis=1)
        group[start : start + step] = best
        near[start : start + step] = cosine[np.arange(len(best)), best]
    return group, near
