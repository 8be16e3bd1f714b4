"""One way to number groups, whatever found them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNKNOWN = -1
"""Label of a face that belongs to no group: too poor to tell, or near nobody."""


def numbered(group: ArrayLike) -> NDArray[np.int64]:
    """Number groups by falling size, then by first face; faces of no group keep `UNKNOWN`.

    Args:
        group: `(N,)` integers, one label a group in any order; negative for a face of no group.

    Returns:
        `(N,)` int64, 0 for the largest group, -1 for faces of none.

    Example:
        >>> numbered([7, -1, 3, 3])
        array([ 1, -1,  0,  0])
    """
    labels = np.asarray(group)
    known = labels >= 0
    result = np.full(len(labels), UNKNOWN, np.int64)
    _, first, member, count = np.unique(labels[known], return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(count), np.int64)
    rank[np.lexsort((first, -count))] = np.arange(len(count))
    result[known] = rank[member]
    return result
