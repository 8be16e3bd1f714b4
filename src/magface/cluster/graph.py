"""Groups of faces as communities of the graph of nearest neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from magface.cluster.linkage import average_linkage
from magface.cluster.neighbours import Neighbours
from magface.types import Embeddings

Weighting = Literal["unit", "magnitude"]


def leiden(
    embeddings: Embeddings,
    threshold: float,
    *,
    neighbours: Neighbours | int = 32,
    weighting: Weighting = "unit",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Groups of faces as communities of the graph of nearest neighbours.

    Args:
        embeddings: N faces of one model, raw.
        threshold: mean cosine, -1 to 1, at which two groups are still one person; a model's card holds its own.
        neighbours: of each face, or how many to look for.
        weighting: `"unit"`: every face counts alike; `"magnitude"`: a face counts by its magnitude.
        seed: of the search for neighbours and of the communities.

    Returns:
        `(N,)` int64, 0 for the largest group; groups of one size are numbered in the order of their first face.
    """
    return average_linkage(embeddings, threshold)
