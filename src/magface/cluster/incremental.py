"""Groups that grow: new faces join known people or make new ones, and nobody who is known moves."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.cluster.attachment import as_labels, centres
from magface.cluster.numbering import UNKNOWN, numbered
from magface.cluster.weighting import checked, weights
from magface.errors import DataError
from magface.types import F32, Embeddings

_CELLS = 1 << 23
"""Cosines that are computed at a time."""

Labels = NDArray[np.int64]


def join(
    embeddings: Embeddings,
    known: ArrayLike,
    threshold: float,
    *,
    reliable: ArrayLike,
    group: Callable[[Embeddings], Labels],
    first: int = 0,
    several: Collection[int] = (),
    regroup: bool = False,
) -> Labels:
    """Give a person to faces that have none; faces that have one keep it.

    Reliable faces decide: they are grouped among themselves, and a group joins the person that it is nearest to, if it
    is near enough. Groups of several that are near nobody are new people, and a face that is alone then stays unknown.
    Poor faces come last, one by one, and nobody is known by them unless there are no others.

    Near is the mean cosine between the faces of the group and those of the person, weighted by magnitude: what average
    linkage joins by. Once more with the result as `known` changes nothing, unless somebody has `several` looks.

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) joins nobody.
        known: `(N,)` integers, the person of each face; negative for a face of none.
        threshold: mean cosine, -1 to 1, from which a group belongs to a person.
        reliable: `(N,)` bool, whether a face is good enough to decide.
        group: any algorithm; it sees reliable faces, and leaves out whom it likes.
        first: number of the first new person, above all that are known.
        several: people who may look in several ways, as those whom somebody said to be one: their own faces are grouped
            too, and others join by the look that is nearest.
        regroup: whether known faces are grouped along first, so that a group goes with those that are in it, each face
            with the nearest. It takes the time of all faces, and fits where few are known.

    Returns:
        `(N,)` int64, `UNKNOWN` for faces of nobody; of new people the largest is the first.

    Raises:
        DataError: arguments do not fit the faces, or `threshold` is not a cosine.

    Example:
        >>> from magface.cluster import average_linkage
        >>> faces = Embeddings(np.array([[9, 0], [8, 1], [0, 7], [1, 9], [1, 1.2], [-3, 1]], np.float32))
        >>> good = faces.magnitude > 2
        >>> join(faces, [4, -1, -1, -1, -1, -1], 0.5, reliable=good, group=lambda e: average_linkage(e, 0.5), first=5)
        array([ 4,  4,  5,  5,  5, -1])
    """
    checked(threshold)
    known = np.maximum(as_labels(embeddings, known), UNKNOWN)
    good = np.array(reliable, bool)
    if good.shape != known.shape:
        raise DataError(f"{len(known)} faces are reliable or not, each; these are {good.shape}.")
    if known.max(initial=UNKNOWN) >= max(first, 0):
        raise DataError(f"new people cannot begin with {first}; somebody known is {known.max()}.")
    blank = ~embeddings.vectors.any(axis=1)
    result, owners = _looks(embeddings, known, good & ~blank, group, several)
    if regroup:
        rows = np.flatnonzero(good & ~blank)
        _go_along(embeddings, result, rows, _all_numbered(group(embeddings[rows])), good)
    while True:
        count = _decide(embeddings, result, good & ~blank, group, threshold, good, len(owners)) - len(owners)
        owners = np.append(owners, np.arange(count) + max(first, int(owners.max(initial=UNKNOWN)) + 1))
        poor = np.flatnonzero((result == UNKNOWN) & ~good & ~blank)
        _approach(embeddings, result, poor, np.arange(len(poor)), threshold, good)
        if np.isin(result[poor], np.append(result[good], UNKNOWN)).all():
            return np.append(owners, UNKNOWN)[result]
        # who is known by poor faces alone is another to reliable ones, now that there are more of them


def _decide(
    embeddings: Embeddings,
    result: Labels,
    clear: NDArray[np.bool_],
    group: Callable[[Embeddings], Labels],
    threshold: float,
    good: NDArray[np.bool_],
    people: int,
) -> int:
    """Let unknown reliable faces join people, or make new ones from number `people` on; how many there are then."""
    while True:
        loose = np.flatnonzero((result == UNKNOWN) & clear)
        if not len(loose):
            return people
        found = _all_numbered(group(embeddings[loose]))
        _approach(embeddings, result, loose, found, threshold, good)
        left = result[loose] == UNKNOWN
        new = left & (np.bincount(found[left], minlength=len(loose) + 1)[found] > 1)
        if not new.any():
            return people
        fresh = numbered(found[new])
        result[loose[new]] = people + fresh
        people += int(fresh.max()) + 1


def carry(labels: ArrayLike, before: ArrayLike, first: int) -> Labels:
    """Give new people the numbers of those whom they were before.

    A new person takes the number of the old one with whom it shares most faces, each number goes to one person, and
    not to one that somebody still has. The others are numbered on.

    Args:
        labels: `(N,)` integers, as `join` gives them; from `first` on people are new.
        before: `(N,)` integers, whom each face belonged to, all below `first`; negative for nobody.
        first: number of the first new person.

    Returns:
        `(N,)` int64.

    Example:
        >>> carry([7, 7, 7, 8, 8, 9, 2, -1], [3, 3, 5, 5, -1, 2, 2, 3], first=7)
        array([ 3,  3,  3,  5,  5,  7,  2, -1])
    """
    result, old = np.array(labels, np.int64), np.array(before, np.int64)
    used = set(result[(result >= 0) & (result < first)].tolist())
    both = (result >= first) & (old >= 0)
    pairs, shared = np.unique(np.stack([result[both], old[both]], axis=1), axis=0, return_counts=True)
    given: dict[int, int] = {}
    for row in np.lexsort((pairs[:, 0], pairs[:, 1], -shared)):
        new, number = map(int, pairs[row])
        if new not in given and number not in used:
            given[new] = number
            used.add(number)
    for new in np.unique(result[result >= first]).tolist():
        if new not in given:
            given[new] = first
            first += 1
    return np.array([given.get(label, label) for label in result.tolist()], np.int64)


def _looks(
    embeddings: Embeddings,
    known: Labels,
    clear: NDArray[np.bool_],
    group: Callable[[Embeddings], Labels],
    several: Collection[int],
) -> tuple[Labels, Labels]:
    """Look of each face, numbered from 0, and the person of each look."""
    people, look = np.unique(known, return_inverse=True)
    if len(people) and people[0] == UNKNOWN:
        people, look = people[1:], look - 1
    owners = people
    for person in sorted(set(several) & set(people.tolist())):
        rows = np.flatnonzero((known == person) & clear)
        found = _all_numbered(group(embeddings[rows])) if len(rows) > 1 else np.zeros(len(rows), np.int64)
        further = found > 0  # the others, and poor faces, keep the number that they have
        look[rows[further]] = len(owners) - 1 + found[further]
        owners = np.append(owners, np.full(int(found.max(initial=0)), person))
    return look.astype(np.int64), owners


def _go_along(embeddings: Embeddings, result: Labels, rows: Labels, group: Labels, good: NDArray[np.bool_]) -> None:
    """Give unknown faces to the nearest of the people who are known in their group."""
    people, centre = _means(embeddings, _deciding(result, good))
    order = np.argsort(group, kind="stable")
    for members in np.split(rows[order], np.flatnonzero(np.diff(group[order])) + 1):
        labels = result[members]
        near = np.flatnonzero(np.isin(people, labels[labels != UNKNOWN]))
        loose = members[labels == UNKNOWN]
        if len(near) and len(loose):
            cosine = embeddings[loose].direction @ centre[near].T
            result[loose] = people[near[cosine.argmax(axis=1)]]


def _approach(
    embeddings: Embeddings, result: Labels, rows: Labels, group: Labels, threshold: float, good: NDArray[np.bool_]
) -> None:
    """Give groups of unknown faces to the nearest people, in rounds, until nobody is near enough."""
    while True:
        open_ = result[rows] == UNKNOWN
        people, centre = _means(embeddings, _deciding(result, good))
        if not len(people) or not open_.any():
            return
        labels = np.full(len(result), UNKNOWN, np.int64)
        labels[rows[open_]] = group[open_]
        groups, middle = _means(embeddings, labels)
        best = np.full(len(group) + 1, UNKNOWN, np.int64)  # of each group
        step = max(1, _CELLS // len(people))
        for start in range(0, len(groups), step):
            cosine = middle[start : start + step] @ centre.T
            nearest = cosine.argmax(axis=1)
            near = cosine[np.arange(len(cosine)), nearest] >= threshold
            best[groups[start : start + step][near]] = people[nearest[near]]
        if not (best != UNKNOWN).any():
            return
        result[rows[open_]] = best[group[open_]]


def _deciding(labels: Labels, good: NDArray[np.bool_]) -> Labels:
    """Labels of the faces that a person is known by: the reliable ones, or all where there are none."""
    decided = np.unique(labels[good])
    return np.where(good | ~np.isin(labels, decided), labels, UNKNOWN)


def _means(embeddings: Embeddings, labels: Labels) -> tuple[Labels, F32]:
    """Numbers of the groups, rising, and the mean direction of each, weighted by magnitude."""
    names, sums = centres(embeddings, labels, "magnitude")
    rows = np.flatnonzero(labels >= 0)
    member = np.searchsorted(names, labels[rows])
    total = np.bincount(member, weights(embeddings, "magnitude")[rows], minlength=len(names))
    return names, (sums / total[:, None]).astype(np.float32)


def _all_numbered(labels: Labels) -> Labels:
    """Groups of 0 to G - 1 in which faces of no group are alone."""
    alone = labels < 0
    result = labels.copy()
    result[alone] = labels.max(initial=-1) + 1 + np.arange(int(alone.sum()))
    return numbered(result)
