"""The algorithms by name, for who chooses one at run time."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from magface.cluster.density import dbscan, hdbscan
from magface.cluster.graph import leiden
from magface.cluster.kmeans import kmeans
from magface.cluster.linkage import average_linkage
from magface.cluster.weighting import Weighting
from magface.errors import DataError
from magface.types import Embeddings

Algorithm = Literal["agglomerative", "graph", "dbscan", "hdbscan", "kmeans"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)

LARGE = 10_000
"""Faces from which the graph of neighbours is the default: average linkage takes the square of their number in time."""


def group(
    embeddings: Embeddings,
    algorithm: Algorithm | None,
    threshold: float,
    *,
    people: int | None = None,
    weighting: Weighting = "unit",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Group faces by the algorithm of that name.

    Args:
        embeddings: N faces of one model, raw.
        algorithm: one of `ALGORITHMS`, or None for the `default` of so many faces.
        threshold: cosine at which faces or groups are still one person, -1 to 1; `hdbscan` and `kmeans` need none.
        people: groups to make, for `kmeans` alone.
        weighting: `"unit"`, directions alone count, or `"magnitude"`, quality-aware; see each algorithm.
        seed: of the algorithms that draw.

    Returns:
        `(N,)` int64, 0 for the largest group; `UNKNOWN` where an algorithm leaves a face out.

    Raises:
        DataError: there is no such algorithm, `kmeans` lacks the number of people, or the algorithm refuses a value.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> group(faces, "dbscan", 0.5)
        array([-1,  0,  0])
    """
    match algorithm or default(len(embeddings)):
        case "agglomerative":
            return average_linkage(embeddings, threshold, weighting=weighting)
        case "graph":
            return leiden(embeddings, threshold, weighting=weighting, seed=seed)
        case "dbscan":
            return dbscan(embeddings, threshold, weighting=weighting)
        case "hdbscan":
            return hdbscan(embeddings, weighting=weighting)
        case "kmeans" if people is not None:
            return kmeans(embeddings, people, weighting=weighting, seed=seed)
        case "kmeans":
            raise DataError("kmeans needs the number of people; another algorithm finds it.")
    raise DataError(f"there is no algorithm {algorithm!r}; choose one of {', '.join(ALGORITHMS)}.")


def default(count: int) -> Algorithm:
    """The algorithm for so many faces: exact average linkage, and the graph of neighbours from `LARGE` on.

    Example:
        >>> default(500), default(1_000_000)
        ('agglomerative', 'graph')
    """
    return "agglomerative" if count < LARGE else "graph"
