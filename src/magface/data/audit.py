"""What is wrong with a set of faces, by its embeddings: copies, wrong labels, one person under two names.

Vectors are raw. A person's centroid is the sum of the raw embeddings: its direction is the mean direction weighted by
magnitude, so poor images say little. Shapes: `N` images, `P` people, `D` numbers an embedding, `K` pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from magface.geometry import cosine, direction
from magface.types import F32

COPY = 0.92
"""Cosine from which two images count as copies of one, or of one moment. 200 crops of LFW all keep it when they are
saved as JPEG of quality 50, shrunk to half, mirrored, moved by a pixel or brightened; of 8,101 pairs of images of one
person there, 19 reach it, taken within seconds."""
CHANCE = 0.1
"""Pairs of different people that may reach the cosine of `chance` in a set, on average."""
FEW = 50
"""Of fewer people, the spread of their cosines says too little."""
LIMIT = 1_000_000
"""Pairs that are listed, at most."""

_CELLS = 1 << 23
_ROWS = 2048

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Pairs of rows whose cosine reaches a threshold, nearest first.

    Attributes:
        first: `(K,)` int64.
        second: `(K,)` int64, > `first`.
        cosine: `(K,)` float32, falling; pairs of one cosine are in the order of their rows.
        total: pairs that there are; > K where only the nearest are listed.
    """

    first: Index
    second: Index
    cosine: F32
    total: int

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What `audit` finds.

    Attributes:
        exact: rows of each group of images of the same content.
        near: pairs of images that are copies of one, or of one moment; of an exact group, only the first is compared.
        own: `(N,)` float32, see `own_cosine`.
        other: `(N,)` float32, see `other_cosine`.
        nearest: `(N,)` int64, likewise.
        wrong: `(N,)` bool, see `wrong`.
        same: pairs of people who are likely one, by their images that are not far from the rest.
        agree: cosine from which two people are.
    """

    exact: list[Index]
    near: Links
    own: F32
    other: F32
    nearest: Index
    wrong: NDArray[np.bool_]
    same: Links
    agree: float


def audit(
    vectors: F32,
    labels: Index,
    digests: Sequence[str],
    *,
    far: float,
    sure: float,
    copy: float = COPY,
    agree: float | None = None,
) -> Audit:
    """Look for copies, wrong labels, and people who are one.

    Args:
        vectors: `(N, D)` float32, raw, N >= 1.
        labels: `(N,)` int, the person of each image; every number from 0 to P - 1 is there.
        digests: N hashes of the images.
        far: see `wrong`; a model's threshold at a high false match rate.
        sure: cosine that `agree` is at least, where it is not given; a model's threshold at a low one.
        copy: cosine from which two images are copies.
        agree: cosine of centroids from which two people are likely one; if not given, that of `chance`.

    Example:
        >>> vectors = np.array([[9, 0], [8, 0], [0, 5], [0, 6], [0, 1]], np.float32)
        >>> audit(vectors, np.array([0, 0, 1, 1, 0]), list("abcde"), far=0.3, sure=0.4, copy=1.1).wrong
        array([False, False, False, False,  True])
    """
    people = int(labels.max()) + 1
    exact = exact_copies(digests)
    again = np.zeros(len(labels), bool)
    again[[row for rows in exact for row in rows[1:]]] = True
    near = links(vectors, copy, np.flatnonzero(~again))
    first = [row for rows in exact for row in rows[:-1]]
    second = [row for rows in exact for row in rows[1:]]
    copies = groups(len(labels), np.append(near.first, first).astype(int), np.append(near.second, second).astype(int))
    own = own_cosine(vectors, labels, people, copies)
    kept = ~(own < far)  # images of another person would bring two centroids together
    sums = centroids(vectors[kept], labels[kept], people)
    if agree is None:
        agree = max(sure, chance(sums))
    same = links(sums, agree)
    other, nearest = other_cosine(vectors, labels, sums, copies, same)
    return Audit(exact, near, own, other, nearest, wrong(own, other, far, agree), same, agree)


def wrong(own: F32, other: F32, far: float, agree: float) -> NDArray[np.bool_]:
    """Images whose label is likely wrong.

    Args:
        own: `(N,)` cosine to the own person; an image whose cosine is NaN is never wrong.
        other: `(N,)` cosine to the nearest other person, or NaN.
        far: an image is wrong when its own cosine is below this,
        agree: or when another person is nearer, and reaches this.

    Returns:
        `(N,)` bool.

    Example:
        >>> wrong(np.float32([0.2, 0.5, 0.5, np.nan]), np.float32([0.1, 0.6, 0.4, 0.9]), far=0.3, agree=0.6)
        array([ True,  True, False, False])
    """
    with np.errstate(invalid="ignore"):
        return (own < far) | ((other > own) & (other >= agree))


def exact_copies(digests: Sequence[str]) -> list[Index]:
    """Groups of images of the same content.

    Args:
        digests: N hashes; `""` for an image that is unknown.

    Returns:
        Rows of each group of at least two, rising; groups in the order of their first row.

    Example:
        >>> exact_copies(["a", "b", "a", "", ""])
        [array([0, 2])]
    """
    groups: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest:
            groups.setdefault(digest, []).append(row)
    return [np.array(rows, np.int64) for rows in groups.values() if len(rows) > 1]


def links(vectors: F32, threshold: float, rows: Index | None = None, limit: int = LIMIT) -> Links:
    """Every pair of embeddings whose cosine reaches the threshold, in blocks of bounded memory.

    Args:
        vectors: `(N, D)` float32, raw.
        threshold: cosine; pairs of exactly this count, up to the rounding of float32.
        rows: `(M,)` int, rising, the only rows to compare; all if not given.
        limit: pairs that are kept, the nearest; of one cosine, those of the smallest rows.

    Example:
        >>> found = links(np.array([[2, 0], [0, 1], [3, 0.1]], np.float32), 0.9)
        >>> found.first, found.second, found.total
        (array([0]), array([2]), 1)
    """
    rows = np.arange(len(vectors)) if rows is None else rows
    unit = direction(vectors[rows])
    found: list[tuple[Index, Index, F32]] = []
    total = held = 0
    for start in range(0, len(unit), _ROWS):
        block = unit[start : start + _ROWS]
        for left in range(start, len(unit), _CELLS // _ROWS):
            product = block @ unit[left : left + _CELLS // _ROWS].T
            a, b = np.nonzero(product >= threshold)
            above = b + left > a + start
            a, b = a[above], b[above]
            found.append((rows[a + start], rows[b + left], np.minimum(product[a, b], np.float32(1))))
            total, held = total + len(a), held + len(a)
            if held > 2 * limit:
                found, held = [_nearest(found, limit)], limit
    return Links(*_nearest(found, limit), total)


def _nearest(parts: Sequence[tuple[Index, Index, F32]], limit: int) -> tuple[Index, Index, F32]:
    """At most `limit` pairs of all parts, nearest first."""
    none = np.empty(0, np.int64)
    first, second, near = (
        np.concatenate(each) for each in zip((none, none, np.empty(0, np.float32)), *parts, strict=True)
    )
    order = np.lexsort((second, first, -near))[:limit]
    return first[order], second[order], near[order]


def groups(count: int, first: Index, second: Index) -> Index:
    """Number of the group that each of `count` rows is in, `(count,)` int64, when pairs join them: its first row.

    Example:
        >>> groups(5, np.array([0, 3]), np.array([3, 4]))
        array([0, 1, 2, 0, 0])
    """
    root = np.arange(count)
    while True:
        low = np.minimum(root[first], root[second])
        before = root.copy()
        for side in (first, second):
            np.minimum.at(root, before[side], low)
            np.minimum.at(root, side, low)
        root = root[root]
        if np.array_equal(root, before):
            return root


def centroids(vectors: F32, labels: Index, people: int) -> F32:
    """Sum of the embeddings of each person, `(P, D)` float32, raw.

    Args:
        vectors: `(N, D)` float32, raw.
        labels: `(N,)` int, the person of each image.
        people: P.
    """
    sums = np.zeros((people, vectors.shape[1]), np.float32)
    order = np.argsort(labels, kind="stable")
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        starts = np.flatnonzero(np.diff(labels[rows], prepend=-1))
        sums[labels[rows[starts]]] += np.add.reduceat(vectors[rows], starts, axis=0)
    return sums


def chance(vectors: F32, pairs: float = CHANCE) -> float:
    """Cosine that so few pairs of different people reach by chance, if cosines of people are normally distributed.

    A threshold for pairs of images is too low for this: of ten million pairs of people, a thousand reach that of FMR
    1e-4. On 4,281 people of LFW, where 10 pairs are to reach 0.525, 43 do, some of them one person under two names.

    Args:
        vectors: `(P, D)` float32, the centroids, raw.
        pairs: that may reach it, on average, > 0.

    Returns:
        The cosine; -1 for fewer than `FEW` people.
    """
    if len(vectors) < FEW:
        return -1.0
    total, gram = np.zeros(vectors.shape[1]), np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _ROWS):
        unit = direction(vectors[start : start + _ROWS].astype(np.float64))
        total += unit.sum(axis=0)
        gram += unit.T @ unit
    ones, count = float(np.trace(gram)), len(vectors) * (len(vectors) - 1) / 2
    mean, square = (float(total @ total) - ones) / 2 / count, (float(np.sum(gram**2)) - ones) / 2 / count
    spread = math.sqrt(max(square - mean**2, 0))
    return mean + spread * NormalDist().inv_cdf(max(1 - pairs / count, 0.5))


def own_cosine(vectors: F32, labels: Index, people: int, copies: Index) -> F32:
    """Cosine of each image to the centroid of its person without the image itself and its copies.

    Args:
        vectors: `(N, D)` float32, raw.
        labels: `(N,)` int, the person of each image.
        people: P.
        copies: `(N,)` int, the group of copies that each image is in, as from `groups`.

    Returns:
        `(N,)` float32; NaN where nothing else is left of the person.

    Example:
        >>> vectors = np.array([[9, 0], [0, 8], [0, 8], [7, 0]], np.float32)
        >>> own_cosine(vectors, np.array([0, 0, 0, 1]), 2, np.array([0, 1, 1, 3]))
        array([ 0.,  0.,  0., nan], dtype=float32)
    """
    sums = centroids(vectors, labels, people)
    family, alone = _families(labels, copies)
    size = np.bincount(family, minlength=1)
    several = np.flatnonzero(size > 1)
    place = np.full(len(size), -1)
    place[several] = np.arange(len(several))
    members = np.flatnonzero(size[family] > 1)
    shared = centroids(vectors[members], place[family[members]], len(several))
    own = np.full(len(labels), np.nan, np.float32)
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        left_out, at = vectors[rows].copy(), place[family[rows]]
        left_out[at >= 0] = shared[at[at >= 0]]
        own[rows] = cosine(vectors[rows], sums[labels[rows]] - left_out)
    own[alone] = np.nan
    return own


def other_cosine(vectors: F32, labels: Index, sums: F32, copies: Index, same: Links | None = None) -> tuple[F32, Index]:
    """Cosine of each image to the nearest centroid of another person, in blocks of bounded memory.

    Args:
        vectors: `(N, D)` float32, raw.
        labels: `(N,)` int, the person of each image.
        sums: `(P, D)` float32, the centroids, raw.
        copies: `(N,)` int, the group of copies that each image is in; people under whose name it has one are left out.
        same: pairs of people who are likely one; they are left out for each other's images.

    Returns:
        `(N,)` float32 cosine, NaN where there is no such person, and `(N,)` int64 who it is, -1 likewise.

    Example:
        >>> vectors = np.array([[9, 0], [0, 8], [0, 8]], np.float32)
        >>> other_cosine(vectors, np.array([0, 1, 2]), vectors, np.array([0, 1, 1]))
        (array([0., 0., 0.], dtype=float32), array([1, 0, 0]))
    """
    unit = direction(sums)
    _, heads = np.unique(np.stack([copies, labels]), axis=1, return_index=True)
    excluded = [(copies, _Lists(copies[heads], labels[heads]))]
    if same is not None:
        both = np.append(same.first, same.second), np.append(same.second, same.first)
        excluded.append((labels, _Lists(*both)))
    other, nearest = np.full(len(labels), np.nan, np.float32), np.full(len(labels), -1)
    step = max(1, min(_ROWS, _CELLS // len(sums)))
    for start in range(0, len(labels), step):
        rows = np.arange(start, min(start + step, len(labels)))
        found = direction(vectors[rows]) @ unit.T
        for keys, lists in excluded:
            found[lists.of(keys[rows])] = -np.inf
        best = found.argmax(axis=1)
        value = found[np.arange(len(rows)), best]
        there = np.isfinite(value)
        other[rows[there]], nearest[rows[there]] = np.clip(value[there], -1, 1), best[there]
    return other, nearest


def _families(labels: Index, copies: Index) -> tuple[Index, NDArray[np.bool_]]:
    """Number of the copies under one label that each image is among, and whether they are all of that label."""
    _, family = np.unique(np.stack([copies, labels]), axis=1, return_inverse=True)
    family = family.reshape(-1)
    return family, np.bincount(family)[family] == np.bincount(labels)[labels]


class _Lists:
    """A list of numbers for each key."""

    def __init__(self, keys: Index, values: Index) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys, self._values = keys[order], values[order]

    def of(self, keys: Index) -> tuple[Index, Index]:
        """Index into `keys`, and each number in the list of that key."""
        start, end = np.searchsorted(self._keys, keys, "left"), np.searchsorted(self._keys, keys, "right")
        count = end - start
        at = np.repeat(np.arange(len(keys)), count)
        within = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
        return at, self._values[np.repeat(start, count) + within]
