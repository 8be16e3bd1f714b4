"""The k nearest faces of every face by cosine, exactly or nearly so.

Exact search compares all pairs, in blocks. The approximate one looks only into the cells of space next to a face: many
small cells, found by way of a graph over their centres, so that a face costs about the same among a million as among
ten thousand. How many cells it looks into is measured on a sample of the faces at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.geometry import direction
from magface.types import F32, Embeddings

Index = NDArray[np.int64]

NONE = -1
"""Stands where a face has fewer neighbours than columns."""
_NEVER = -2.0
"""Less than any cosine."""

_ROWS, _COLUMNS = 1024, 8192
"""Faces that are compared at a time: 32 MiB of cosines."""

_FEW = 16384
"""Faces up to which all pairs are compared in about the time that it takes to make cells."""
_CELL = 32
"""Faces in a cell, about."""
_ROUNDS, _TAUGHT = 3, 4
"""Of K-means, on a quarter of the faces: cells need not be the best ones, only near faces in near cells."""
_PROBES = (8, 16, 32, 64, 128, 256, 512)
"""Cells that are looked into for a face: the first number that gives the recall."""
_SAMPLE = 512
"""Faces whose exact neighbours recall is measured on."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest other faces of N faces, nearest first; those at one cosine in any order.

    Attributes:
        index: `(N, k)` int64, rows of the faces; -1 where there are fewer than k.
        cosine: `(N, k)` float32, falling along a row; -1 where there is no face.
    """

    index: Index
    cosine: F32

    def __len__(self) -> int:
        return len(self.index)


def exact(embeddings: Embeddings, k: int) -> Neighbours:
    """Compare every face with every other, in blocks; numpy is all it needs.

    Time grows with N^2 D. Memory beside the result is that of the directions and of one block.

    Args:
        embeddings: N faces of one model, raw; a face without direction (all zeros) has cosine 0 with every other.
        k: neighbours of a face, at least 1.

    Returns:
        The k nearest of each face, itself left out.

    Raises:
        DataError: k is less than 1.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> exact(faces, k=1).index.ravel()
        array([2, 2, 1])
    """
    _check(k)
    return _exact(embeddings, np.arange(len(embeddings)), k)


def approximate(
    embeddings: Embeddings, k: int, *, recall: float = 0.98, floor: float = -1.0, seed: int = 0
) -> Neighbours:
    """Look for the neighbours of a face only in the cells of space around it.

    Time grows about with N log N. One seed gives one result, whatever the number of threads. Up to 16,384 faces are
    compared exactly. Needs faiss, of the extra `cluster`.

    Args:
        embeddings: N faces of one model, raw.
        k: neighbours of a face, at least 1.
        recall: share of the true neighbours to find, measured on a sample of the faces; above 0, up to 1.
        floor: a neighbour counts for `recall` by how far its cosine is above this one. Among many faces each has
            neighbours that hardly resemble it, which are hard to find and tell nothing.
        seed: of the sample and of the cells.

    Returns:
        Nearly the k nearest of each face, itself left out.

    Raises:
        DataError: k is less than 1, or `recall` is no share.

    Example:
        >>> faces = Embeddings(np.array([[9.0, 0.0], [0.0, 5.0], [0.1, 7.0]], np.float32))
        >>> approximate(faces, k=2).index[0]
        array([2, 1])
    """
    _check(k)
    if not 0 < recall <= 1:
        raise DataError(f"recall is a share of the neighbours, above 0 and up to 1; {recall} is not.")
    if len(embeddings) <= _FEW:
        return exact(embeddings, k)
    rng = np.random.default_rng(seed)
    cells = _cells(embeddings, rng)
    _widen(cells, embeddings, k, recall, floor, rng)
    result = _empty(len(embeddings), k)
    for rows in _blocks(len(embeddings), _COLUMNS):
        result.index[rows], result.cosine[rows] = _search(cells, embeddings, np.arange(rows.start, rows.stop), k)
    return result


def _check(k: int) -> None:
    if k < 1:
        raise DataError(f"a face needs at least one neighbour; k = {k} asks for none.")


def _blocks(count: int, size: int) -> Iterator[slice]:
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def _empty(count: int, k: int) -> Neighbours:
    return Neighbours(np.full((count, k), NONE, np.int64), np.full((count, k), _NEVER, np.float32))


def _exact(embeddings: Embeddings, rows: Index, k: int) -> Neighbours:
    """The neighbours of the faces in `rows`."""
    result = _empty(len(rows), k)
    unit = direction(embeddings.vectors[rows])
    for block in _blocks(len(embeddings), _COLUMNS):
        faces = direction(embeddings.vectors[block])
        for at in _blocks(len(rows), _ROWS):
            _fill(result, at, unit[at], rows[at], faces, block.start)
    result.cosine[result.index == NONE] = -1
    return result


def _fill(result: Neighbours, at: slice, unit: F32, rows: Index, faces: F32, first: int) -> None:
    """Let the faces of a block, `first` on, compete in the lines `at` for the neighbours of the faces in `rows`."""
    index, cosine = result.index[at], result.cosine[at]
    k = index.shape[1]
    found = unit @ faces.T
    np.clip(found, -1, 1, out=found)
    itself = np.flatnonzero((rows >= first) & (rows < first + len(faces)))
    found[itself, rows[itself] - first] = _NEVER
    least = cosine[:, -1, None]  # strictly more is needed, which any cosine is where the line is not full
    if found.shape[1] > k and np.any(index[:, -1] == NONE):
        least = np.nextafter(np.partition(found, -k, axis=1)[:, -k, None], np.float32(_NEVER))
    line, column = np.nonzero(found > least)
    _merge(index, cosine, line, column + first, found[line, column])


def _merge(index: Index, cosine: F32, line: Index, new: Index, new_cosine: F32) -> None:
    """Keep the best of what each line has and of what is new for it."""
    old = np.nonzero(index != NONE)
    lines = np.concatenate([old[0], line])
    faces, cosines = np.concatenate([index[old], new]), np.concatenate([cosine[old], new_cosine])
    order = np.lexsort((-cosines, lines))
    place = np.arange(len(order)) - np.searchsorted(lines[order], lines[order])
    order, place = order[place < index.shape[1]], place[place < index.shape[1]]
    index[lines[order], place], cosine[lines[order], place] = faces[order], cosines[order]


def _cells(embeddings: Embeddings, rng: np.random.Generator) -> Any:
    """Faces by the nearest of many centres: spherical K-means, the centres found by way of a graph over them."""
    import faiss

    count, size = embeddings.vectors.shape
    centres = direction(embeddings.vectors[np.sort(rng.choice(count, count // _CELL, replace=False))])
    taught = np.sort(rng.choice(count, count // _TAUGHT, replace=False))
    for _ in range(_ROUNDS):
        graph, sums = _graph(centres), np.zeros_like(centres)
        for rows in _blocks(len(taught), _COLUMNS):
            unit = direction(embeddings.vectors[taught[rows]])
            cell = graph.search(unit, 1)[1][:, 0]
            order = np.argsort(cell, kind="stable")
            starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
            sums[cell[order[starts]]] += np.add.reduceat(unit[order], starts)
        occupied = np.any(sums, axis=1)
        centres[occupied] = direction(sums[occupied])
    cells: Any = faiss.IndexIVFFlat(_graph(centres), size, len(centres), faiss.METRIC_INNER_PRODUCT)
    cells.quantizer_trains_alone, cells.is_trained = 1, True
    for rows in _blocks(count, _COLUMNS):
        cells.add(direction(embeddings.vectors[rows]))
    return cells


def _graph(centres: F32) -> Any:
    """Hierarchical navigable small world over the centres; their order makes the graph, so one thread adds them."""
    import faiss

    graph: Any = faiss.IndexHNSWFlat(centres.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = 40, 32
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        graph.add(centres)
    finally:
        faiss.omp_set_num_threads(threads)
    return graph


def _widen(cells: Any, embeddings: Embeddings, k: int, recall: float, floor: float, rng: np.random.Generator) -> None:
    """Look into as many cells as give the recall on a sample."""
    import faiss

    sample = np.sort(rng.choice(len(embeddings), _SAMPLE, replace=False))
    truth = _exact(embeddings, sample, k)
    graph: Any = faiss.downcast_index(cells.quantizer)
    counts = np.maximum(truth.cosine - floor, 0)
    for probes in _PROBES:
        cells.nprobe = probes
        graph.hnsw.efSearch = max(32, 2 * probes)
        index, _ = _search(cells, embeddings, sample, k)
        hit = (truth.index[:, :, None] == index[:, None, :]).any(axis=2)
        if counts[hit].sum() >= recall * counts.sum():
            return


def _search(cells: Any, embeddings: Embeddings, rows: Index, k: int) -> tuple[Index, F32]:
    cosine, index = cells.search(direction(embeddings.vectors[rows]), k + 1)
    itself = index == rows[:, None]
    order = np.argsort(itself, axis=1, kind="stable")[:, :k]
    index, cosine = np.take_along_axis(index, order, 1), np.take_along_axis(cosine, order, 1)
    return index, np.where(index == NONE, -1, np.clip(cosine, -1, 1))
