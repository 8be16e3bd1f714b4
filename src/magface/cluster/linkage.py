"""Groups of faces by average linkage: the mean cosine between two groups, plain or weighted by magnitude."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magface.cluster.numbering import numbered
from magface.cluster.weighting import Weighting, checked, weights
from magface.types import Embeddings

_TIE = 1e-12
"""Cosines closer than this are equal: rounding must not send a chain of near-duplicates round in circles."""


def average_linkage(embeddings: Embeddings, threshold: float, *, weighting: Weighting = "unit") -> NDArray[np.int64]:
    """Join groups, nearest first, while the mean cosine between two of them is at least `threshold`.

    The mean cosine of two groups is the product of their summed directions divided by both sizes, so the exact
    result needs memory for N x D numbers instead of N x N. Time grows with N^2 D: about a second for 8,000 faces.
    Weighted by magnitude, summed directions are summed raw embeddings and sizes are summed magnitudes. A joined group
    lies between its parts for every other group, so joins never bring groups nearer, whatever the weights.

    Equation: UPGMA on cosine, by chains of nearest neighbours (Murtagh 1983); similarity of groups A and B
    = sum_ij w_i w_j cos_ij / (sum_i w_i sum_j w_j), i in A, j in B, w = 1 or the magnitude

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) has cosine 0 with every other.
        threshold: mean cosine, -1 to 1, at which two groups are still one person; a model's card holds its own.
        weighting: `"unit"`, every face counts alike, or `"magnitude"`, a poor face says little about its group.

    Returns:
        `(N,)` int64, 0 for the largest group; groups of one size are numbered in the order of their first face.

    Raises:
        DataError: `threshold` is not a cosine, or there is no such weighting.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> average_linkage(faces, threshold=0.5)
        array([1, 0, 0])
    """
    checked(threshold)
    sizes = weights(embeddings, weighting)
    sums = embeddings.direction * sizes[:, None]
    name = np.arange(len(sums))  # of the group in each row
    joined = name.copy()  # the group that each group went into
    live = len(sums)  # the first rows hold the groups that may still grow
    chain: list[int] = []
    while live:
        chain = chain or [live - 1]
        tip, before = chain[-1], chain[-2] if len(chain) > 1 else None
        cosine = sums[:live] @ sums[tip] / (sizes[:live] * sizes[tip])
        cosine[tip] = -np.inf
        best = int(np.argmax(cosine))
        if before is not None and cosine[best] <= cosine[before] + _TIE:
            best = before
        if cosine[best] < threshold:  # joins elsewhere never bring a group nearer, so this one is whole
            removed = chain.pop()
        elif best == before:
            removed = best
            sums[tip] += sums[best]
            sizes[tip] += sizes[best]
            joined[name[best]] = name[tip]
            del chain[-2:]
        else:
            chain.append(best)
            continue
        live -= 1
        for column in (sums, sizes, name):
            column[removed] = column[live]
        chain = [removed if row == live else row for row in chain]
    return numbered(_roots(joined))


def _roots(joined: NDArray[np.int64]) -> NDArray[np.int64]:
    while np.any(joined != joined[joined]):
        joined = joined[joined]
    return joined
