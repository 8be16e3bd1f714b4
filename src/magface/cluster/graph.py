"""Groups of faces as communities of the graph of nearest neighbours, to a million faces.

What is maximised is the surplus of cosine over a threshold inside groups, the constant Potts model. Two groups are
better joined when their mean cosine reaches the threshold: the rule of average linkage, without a resolution limit.

The graph knows only the nearest neighbours of a face, far fewer than a large group has members. So Leiden first finds
small groups by it, and then groups of those: the sum of the cosines of all pairs of two groups is the product of their
summed directions, so from there on nothing is estimated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magface.cluster.attachment import centres
from magface.cluster.neighbours import Neighbours, approximate
from magface.cluster.numbering import numbered
from magface.cluster.weighting import Weighting, checked, weights
from magface.errors import DataError
from magface.geometry import direction
from magface.types import F32, Embeddings

Index = NDArray[np.int64]
F64 = NDArray[np.float64]

_RECALL = 0.98
_ROUNDS = 5
"""Of Leiden, each on the result of the one before."""
_HOLD = 0.8
"""Share of the threshold that the mean cosine of a face with its group may fall to: a poor face is far from all."""
_FACES = 8192
"""Faces that are settled at a time."""
_TIE = 1e-6
"""Share of a cosine by which equal ones are told apart."""
_PAIRS = 16384
"""Pairs of groups whose cosines are summed at a time."""


class _Graph(NamedTuple):
    """Groups and the pairs of them that may be joined.

    Attributes:
        first, second: `(E,)`, the pairs, each once.
        cosines: `(E,)`, > 0, sum of the weighted cosines between the two.
        size: `(G,)`, sum of the weights of the faces in each group.
    """

    first: Index
    second: Index
    cosines: F64
    size: F64


def leiden(
    embeddings: Embeddings,
    threshold: float,
    *,
    neighbours: Neighbours | int = 32,
    weighting: Weighting = "unit",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Group faces so that the surplus of cosine over the threshold, inside groups, is as large as can be.

    Time grows about with N log N, and memory beside the faces with N. One seed gives one result. Needs networkit, and
    faiss where neighbours are not given, of the extra `cluster`.

    Equation: CPM, the constant Potts model (Traag 2011), on cosine: sum over groups of sum_ij w_i w_j (cos_ij - t),
    i < j of one group, t the threshold, w = 1 or the magnitude

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) stays alone.
        threshold: mean cosine at which two groups are still one person, -1 to 1, below 0 like 0; a model's card holds
            its own.
        neighbours: of each face, or how many to look for. Faces that are not linked by neighbours of at least the
            threshold never meet.
        weighting: `"unit"`, every face counts alike, or `"magnitude"`, a poor face says little about its group.
        seed: of the search for neighbours and of Leiden.

    Returns:
        `(N,)` int64, 0 for the largest group; groups of one size are numbered in the order of their first face.

    Raises:
        DataError: `threshold` is not a cosine, the neighbours are those of other faces, or there is no such weighting.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> leiden(faces, threshold=0.5)
        array([1, 0, 0])
    """
    checked(threshold)
    if not isinstance(neighbours, Neighbours):
        neighbours = approximate(embeddings, neighbours, recall=_RECALL, floor=threshold, seed=seed)
    if len(neighbours) != len(embeddings):
        raise DataError(f"{len(embeddings)} faces need the neighbours of each; there are those of {len(neighbours)}.")
    threshold = max(threshold, 0.0)
    graph = _linked(neighbours, threshold, weights(embeddings, weighting))
    labels = _communities(graph, threshold, seed)
    _, sums = centres(embeddings, labels, weighting)
    graph = _contracted(graph, labels, sums)
    while np.any(graph.cosines >= threshold * graph.size[graph.first] * graph.size[graph.second]):
        group = _communities(graph, threshold, seed)
        if len(graph.size) == group.max() + 1:
            break
        joined = np.zeros((group.max() + 1, sums.shape[1]), np.float32)
        np.add.at(joined, group, sums)
        labels, sums = group[labels], joined
        graph = _contracted(graph, group, sums)
    return numbered(_settled(embeddings, neighbours, threshold, weighting, labels, sums))


def _linked(neighbours: Neighbours, threshold: float, weight: F64) -> _Graph:
    """Every face for itself, linked with its neighbours from the threshold on."""
    count, k = neighbours.index.shape
    near = _near(neighbours.index, neighbours.cosine, threshold).ravel()
    one, other = np.repeat(np.arange(count), k)[near], neighbours.index.ravel()[near]
    _, kept = np.unique(np.minimum(one, other) * count + np.maximum(one, other), return_index=True)
    one, other = one[kept], other[kept]
    cosine = neighbours.cosine.ravel()[near][kept]
    return _Graph(one, other, cosine * weight[one] * weight[other], weight)


def _near(index: Index, cosine: F32, threshold: float) -> NDArray[np.bool_]:
    """`(N, k)`, which neighbours may be of one group: at a threshold of 0, too, those without direction are not."""
    return (cosine >= threshold) & (cosine > 0) & (index >= 0)


def _contracted(graph: _Graph, group: Index, sums: F32) -> _Graph:
    """The groups of a graph for the nodes of another, linked where any of their members are."""
    one, other = group[graph.first], group[graph.second]
    low, high = np.minimum(one, other), np.maximum(one, other)
    pairs = np.unique((low * len(sums) + high)[low < high])
    first, second = pairs // len(sums), pairs % len(sums)
    cosines = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS):
        part = slice(start, start + _PAIRS)
        cosines[part] = np.einsum("ed,ed->e", sums[first[part]], sums[second[part]])
    size = np.bincount(group, graph.size, len(sums)).astype(np.float64)
    return _Graph(first[cosines > 0], second[cosines > 0], cosines[cosines > 0], size)


def _settled(
    embeddings: Embeddings, neighbours: Neighbours, threshold: float, weighting: Weighting, labels: Index, sums: F32
) -> Index:
    """Let faces that came with a small group and are far from the large one go to a better group, or stay alone.

    Args:
        embeddings: N faces.
        neighbours: of each.
        threshold: mean cosine with a group from which a face may join it.
        weighting: of the faces.
        labels: `(N,)`, the group of each face.
        sums: `(G, D)`, weighted directions of each group.

    Returns:
        `(N,)`, labels in no order.
    """
    weight = weights(embeddings, weighting)
    size = np.bincount(labels, weight, len(sums))
    result = labels.copy()
    for start in range(0, len(labels), _FACES):
        own = labels[start : start + _FACES]
        unit = direction(embeddings.vectors[start : start + _FACES])
        counted = weight[start : start + _FACES]  # in the sum of its own group
        others = np.einsum("nd,nd->n", unit, sums[own]) - counted * np.any(unit, axis=1)
        loose = np.flatnonzero(others < _HOLD * threshold * (size[own] - counted))
        index, cosine = neighbours.index[start + loose], neighbours.cosine[start + loose]
        group = labels[index]
        near = _near(index, cosine, threshold) & (group != own[loose, None])
        line, column = np.nonzero(near)
        group = group[line, column]
        gain = np.einsum("nd,nd->n", unit[loose[line]], sums[group]) - threshold * size[group]
        order = np.argsort(gain, kind="stable")[np.sum(gain < 0) :]
        result[start + loose] = len(sums) + start + loose
        result[start + loose[line[order]]] = group[order]  # the last one stays: that of the largest gain
    return result


def _communities(graph: _Graph, threshold: float, seed: int) -> Index:
    """Communities of the constant Potts model by a library that maximises modularity.

    Modularity takes from each pair of nodes gamma times the product of their degrees over that of the whole graph.
    A loop at each node, which no grouping can cut, makes its degree `degree` times its size; with the right gamma that
    is threshold x size x size.
    """
    import networkit

    count = len(graph.size)
    # a face between two others that are equally good, as among copies, would go to and fro without end
    cosines = graph.cosines * np.random.default_rng(seed).uniform(1 + _TIE, 1 + 2 * _TIE, len(graph.cosines))
    links = np.bincount(graph.first, cosines, count) + np.bincount(graph.second, cosines, count)
    if not links.any():
        return np.arange(count)
    degree = np.max(links / graph.size)
    loops = np.maximum(degree * graph.size - links, 0) / 2  # a loop counts twice
    node = np.arange(count)
    ends = np.concatenate([graph.first, node]), np.concatenate([graph.second, node])
    threads = networkit.getMaxNumberOfThreads()
    networkit.setSeed(seed, False)
    networkit.setNumberOfThreads(1)  # more would answer in the order in which they happen to run
    try:
        weighted = networkit.GraphFromCoo((np.concatenate([cosines, loops]), ends), n=count, weighted=True)
        gamma = threshold * graph.size.sum() / degree
        found = networkit.community.ParallelLeiden(weighted, iterations=_ROUNDS, gamma=gamma).run().getPartition()
    finally:
        networkit.setNumberOfThreads(threads)
    return np.unique(found.getVector(), return_inverse=True)[1]
