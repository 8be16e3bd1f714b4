"""Groups of faces as dense places: DBSCAN and HDBSCAN, plain or with poor faces at the edge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.cluster import neighbours as search
from magface.cluster.numbering import UNKNOWN, numbered
from magface.cluster.weighting import Weighting, checked, weights
from magface.data.audit import Links, groups, links
from magface.errors import DataError
from magface.types import Embeddings

PAIRS = 10_000_000
"""Pairs of near faces that fit into memory: DBSCAN refuses more."""
POOR = 0.1
"""Share of the faces that count less than others when magnitudes weigh. More only costs: with the shipped model, pairs
of different people do not come nearer as faces get poorer, and a person of two faces is lost with one of them."""
_NEAR = 0.2
"""Cosine from which neighbours among very many faces must not be missed: below it nobody is told from others."""
_FARTHEST = 2.0
"""Distance of opposite directions."""
_COPY = 1e-6
"""Distance of copies: a sparse matrix takes 0 for no edge."""


def dbscan(
    embeddings: Embeddings, threshold: float, *, least: float = 2, weighting: Weighting = "unit"
) -> NDArray[np.int64]:
    """Chains of near faces, each in a place of at least `least` faces.

    A face is a core when the weights of the faces whose cosine to it reaches the threshold, its own among them, add up
    to `least`. Cores that reach the threshold are one group. A face that is no core goes to the group of its nearest
    core, or is unknown without one, so the order of the faces does not matter.

    Equation: DBSCAN (core: sum_j w_j [cos_ij >= t] >= least, w = 1 or min(1, a / 10th percentile of a))

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) is unknown.
        threshold: cosine of a pair, -1 to 1. One pair of different people joins two groups, so choose a higher one
            than for average linkage.
        least: weight that makes a core; 2 lets two good faces of a person be a group.
        weighting: `"unit"`, every face counts alike, or `"magnitude"`: the poorest tenth counts less, so poor faces
            alone make no core and build no bridges.

    Returns:
        `(N,)` int64, 0 for the largest group, `UNKNOWN` for faces in no dense place; groups of one size are numbered
        in the order of their first face.

    Raises:
        DataError: `threshold` is not a cosine, so many pairs reach it that they do not fit into memory, or there is no
            such weighting.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> dbscan(faces, threshold=0.5)
        array([-1,  0,  0])
    """
    checked(threshold)
    count = len(embeddings)
    weight = _trust(embeddings, weighting)
    shown = np.flatnonzero(embeddings.vectors.any(axis=1))
    near = links(embeddings.vectors, threshold, shown, PAIRS)
    if near.total > len(near):
        raise DataError(
            f"{near.total:,} pairs of faces reach the cosine {threshold}, more than the {PAIRS:,} that fit into "
            "memory; choose a higher threshold or another algorithm."
        )
    around = weight.copy()
    for here, there in ((near.first, near.second), (near.second, near.first)):
        around += np.bincount(here, weight[there], count)
    core = np.zeros(count, bool)
    core[shown] = around[shown] >= least * (1 - 1e-9)
    both = core[near.first] & core[near.second]
    label = np.where(core, groups(count, near.first[both], near.second[both]), UNKNOWN)
    edge, inner = _nearest_cores(near, core)
    label[edge] = label[inner]
    return numbered(label)


def _nearest_cores(near: Links, core: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Faces that are no cores but near one, and the nearest core of each; of equally near ones the first."""
    edge, inner = np.concatenate([near.first, near.second]), np.concatenate([near.second, near.first])
    cosine = np.tile(near.cosine, 2)
    kept = ~core[edge] & core[inner]
    edge, inner, cosine = edge[kept], inner[kept], cosine[kept]
    order = np.lexsort((inner, -cosine, edge))
    found, first = np.unique(edge[order], return_index=True)
    return found, inner[order[first]]


def hdbscan(
    embeddings: Embeddings, *, least: int = 2, neighbours: int = 64, weighting: Weighting = "unit"
) -> NDArray[np.int64]:
    """Dense places, each at a density of its own, by HDBSCAN; no threshold to choose.

    It tells places apart, so among faces of one person alone it finds parts or nothing.

    It sees the nearest neighbours of each face: a place that is larger than their number can still be whole, as its
    faces reach each other in steps. Faces that no steps join are as far apart as can be. All neighbours give exactly
    the result of all distances. Distances are those of directions, `sqrt(2 - 2 cos)`. Memory grows with the neighbours
    of all faces. Needs the extra `cluster` (scikit-learn).

    Equation: HDBSCAN (reach of i and j = max(core_i / w_i, core_j / w_j, |x_i - x_j|), core_i the distance to the
    neighbour that makes it a group, w = 1 or min(1, a / 10th percentile of a))

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) is unknown.
        least: faces that make a group, at least 2.
        neighbours: of each face that are looked at, at least `least - 1`.
        weighting: `"unit"`, every face counts alike, or `"magnitude"`: the poorest tenth is farther away, and so joins
            last.

    Returns:
        `(N,)` int64, 0 for the largest group, `UNKNOWN` for faces in no dense place; groups of one size are numbered
        in the order of their first face.

    Raises:
        DataError: `least` or `neighbours` is too small, or there is no such weighting.

    Example:
        >>> angles = np.radians([0, 3, 90, 94, 200])
        >>> hdbscan(Embeddings(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
        array([ 0,  0,  1,  1, -1])
    """
    from sklearn.cluster import HDBSCAN

    if least < 2:
        raise DataError(f"a group has at least 2 faces; {least} are none.")
    if neighbours < least - 1:
        raise DataError(
            f"groups of {least} faces need at least {least - 1} neighbours of each; {neighbours} are fewer."
        )
    trust = _trust(embeddings, weighting)
    shown = np.flatnonzero(embeddings.vectors.any(axis=1))
    group = np.full(len(embeddings), UNKNOWN, np.int64)
    if len(shown) < least:
        return group
    faces = embeddings[shown]
    found = search.approximate(faces, min(neighbours, len(faces) - 1), floor=_NEAR)
    tree = _spanning_tree(_reachability(found, least, trust[shown]))
    model = HDBSCAN(min_cluster_size=least, min_samples=1, metric="precomputed", copy=False)
    group[shown] = model.fit_predict(tree)
    return numbered(group)


def _trust(embeddings: Embeddings, weighting: Weighting) -> NDArray[np.float64]:
    """`(N,)` weights, 1 but for the poorest tenth, whose weights fall with their magnitude."""
    weight = weights(embeddings, weighting)
    return np.minimum(1, weight / np.quantile(weight, POOR)) if len(weight) else weight


def _reachability(found: search.Neighbours, least: int, trust: NDArray[np.float64]) -> Any:
    """Sparse `(N, N)` mutual reachability: the distance of a pair, and no less than the core distance of either."""
    from scipy.sparse import csr_array

    count = len(found)
    distance = np.maximum(np.sqrt(np.maximum(2 - 2 * found.cosine.astype(np.float64), 0)), _COPY)
    core = distance[:, least - 2] / trust
    face = np.repeat(np.arange(count), found.index.shape[1])
    kept = found.index.ravel() >= 0
    face, other, away = face[kept], found.index.ravel()[kept], distance.ravel()[kept]
    reach = csr_array((np.maximum(away, np.maximum(core[face], core[other])), (face, other)), shape=(count, count))
    return reach.maximum(reach.T)


def _spanning_tree(graph: Any) -> Any:
    """Sparse symmetric minimum spanning tree; parts that no edge joins are as far from each other as can be."""
    from scipy.sparse import coo_array, csgraph

    forest = csgraph.minimum_spanning_tree(graph).tocoo()
    parts, part = csgraph.connected_components(forest, directed=False)
    ends = np.unique(part, return_index=True)[1]
    data = np.concatenate([forest.data, np.full(parts - 1, _FARTHEST)])
    row, column = np.concatenate([forest.row, ends[:-1]]), np.concatenate([forest.col, ends[1:]])
    return coo_array(
        (np.tile(data, 2), (np.concatenate([row, column]), np.concatenate([column, row]))), shape=graph.shape
    ).tocsr()
