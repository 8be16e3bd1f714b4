"""The one face to show of each group."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.cluster.attachment import as_labels, centres
from magface.cluster.weighting import Weighting, weights
from magface.geometry import cosine
from magface.types import Embeddings


def representative(
    embeddings: Embeddings, labels: ArrayLike, *, weighting: Weighting = "magnitude"
) -> NDArray[np.int64]:
    """The row of the face to show of each group: the largest magnitude among the half that is nearest to the centre.

    The centre is the sum of the group's embeddings, so good faces make it. Near is a cosine of at least the median of
    the group, the lower of the two in the middle where their number is even: two faces are equally near. Of equal
    magnitudes the first face is taken.

    Args:
        embeddings: N faces of one model, raw.
        labels: `(N,)` integers, the group of each face, as from `numbered`; negative for faces of none.
        weighting: of the faces in the centre.

    Returns:
        `(G,)` int64, a row for each number from 0 to the largest label; -1 for a number that no face has.

    Raises:
        DataError: there is not one label a face, or there is no such weighting.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 1.0], [3.0, 9.9], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> representative(faces, [1, 0, 0, 0])
        array([3, 0])
    """
    group = as_labels(embeddings, labels)
    names, sums = centres(embeddings, group, weighting)
    rows = np.flatnonzero(group >= 0)
    result = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
    member = np.searchsorted(names, group[rows])
    near = cosine(embeddings.vectors[rows], sums[member])
    order = np.lexsort((near, member))
    starts = np.searchsorted(member[order], np.arange(len(names)))
    counts = np.diff(np.append(starts, len(rows)))
    median = near[order][starts + (counts - 1) // 2]
    magnitude = np.where(near >= median[member], weights(embeddings, "magnitude")[rows], -1)
    best = np.lexsort((rows, -magnitude, member))
    result[names] = rows[best[starts]]
    return result
