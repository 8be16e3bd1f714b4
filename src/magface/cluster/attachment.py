"""Poor faces last: groups of reliable faces first, and then the others beside them, or left out as unknown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.cluster.numbering import UNKNOWN, numbered
from magface.cluster.weighting import Weighting, checked, weights
from magface.data.audit import centroids
from magface.errors import DataError
from magface.geometry import direction
from magface.types import F32, Embeddings

_CELLS = 1 << 23
"""Cosines that are computed at a time."""


def attach(
    embeddings: Embeddings, labels: ArrayLike, threshold: float, *, weighting: Weighting = "magnitude"
) -> NDArray[np.int64]:
    """Give each unknown face to the nearest group, if it is near enough; no face of a group moves.

    Near is the cosine to the centre of a group, which is made of the faces that it had: the order of the faces and
    who else is attached change nothing.

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) stays unknown.
        labels: `(N,)` integers, the group of each face; negative for faces to place.
        threshold: cosine to the centre, -1 to 1, from which a face belongs to the group.
        weighting: of the faces of a group in its centre.

    Returns:
        `(N,)` int64, the same numbers of groups; `UNKNOWN` where no group is near enough.

    Raises:
        DataError: there is not one label a face, `threshold` is not a cosine, or there is no such weighting.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 2.0], [-1.0, 0.0]], np.float32))
        >>> attach(faces, [4, 7, -1, -1], threshold=0.5)
        array([ 4,  7,  7, -1])
    """
    checked(threshold)
    result = as_labels(embeddings, labels)
    names, sums = centres(embeddings, result, weighting)
    loose = np.flatnonzero(result < 0)
    result[loose] = UNKNOWN
    if not len(names):
        return result
    unit = direction(sums)
    step = max(1, _CELLS // len(names))
    for start in range(0, len(loose), step):
        rows = loose[start : start + step]
        faces = direction(embeddings.vectors[rows])
        cosine = faces @ unit.T
        best = cosine.argmax(axis=1)
        near = (cosine[np.arange(len(rows)), best] >= threshold) & faces.any(axis=1)
        result[rows[near]] = names[best[near]]
    return result


def reliable_first(
    group: Callable[[Embeddings], NDArray[np.int64]], embeddings: Embeddings, *, least: float, threshold: float
) -> NDArray[np.int64]:
    """Group the faces of sufficient magnitude, and attach the others last.

    Args:
        group: any algorithm; it sees the reliable faces only.
        embeddings: N faces of one model, raw.
        least: magnitude from which a face is reliable.
        threshold: cosine to the centre of a group from which another face belongs to it; see `attach`.

    Returns:
        `(N,)` int64, 0 for the largest group; `UNKNOWN` for faces that the algorithm left out and no group is near,
        and for poor faces of people of whom there are no others.

    Raises:
        DataError: see `attach`.

    Example:
        >>> from magface.cluster import average_linkage
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 2.0], [-1.0, 0.0]], np.float32))
        >>> reliable_first(lambda each: average_linkage(each, 0.4), faces, least=4, threshold=0.4)
        array([ 1,  0,  0, -1])
    """
    reliable = embeddings.magnitude >= least
    labels = np.full(len(embeddings), UNKNOWN, np.int64)
    labels[reliable] = group(embeddings[reliable])
    return numbered(attach(embeddings, labels, threshold))


def centres(embeddings: Embeddings, labels: NDArray[np.int64], weighting: Weighting) -> tuple[NDArray[np.int64], F32]:
    """Numbers of the groups, `(G,)` rising, and `(G, D)` float32 sums of the weighted directions of each."""
    rows = np.flatnonzero(labels >= 0)
    names, member = np.unique(labels[rows], return_inverse=True)
    weight = weights(embeddings, weighting)[rows, None].astype(np.float32)
    return names, centroids(direction(embeddings.vectors[rows]) * weight, member, len(names))


def as_labels(embeddings: Embeddings, labels: ArrayLike) -> NDArray[np.int64]:
    """A copy of labels that fit the faces.

    Raises:
        DataError: they do not.
    """
    found = np.array(labels, np.int64)
    if found.shape != (len(embeddings),):
        raise DataError(f"{len(embeddings)} faces need one label each; these have shape {found.shape}.")
    return found
