"""Directions in a few bytes: enough to say who is likely to be near, not who is nearest.

Directions are turned to the axes along which people differ most, and those are turned at random so that each carries
as much as the others. Every few of them together are one of 16 points, which takes four bits (product quantization,
Jegou et al. 2011); a processor compares 32 people at a time with four bits of a probe (Andre et al. 2015).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError
from magface.gallery.index.rows import Vectors
from magface.types import F32

Codes = NDArray[np.uint8]

PARTS = 64
"""Points of a code."""
POINTS = 16
WIDTH = 4
"""Axes of a point, at most."""
LEARNED = 1 << 16
"""Directions from which axes and points are learned, at most."""
MOST = 4096
"""Candidates; where more are needed, a sketch saves nothing."""
BLOCK = 1 << 14
"""Directions that are turned at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """How directions become codes.

    Attributes:
        mean: `(D,)` float32, taken off directions.
        axes: `(D, PARTS * W)` float32, of length 1.
        points: `(PARTS, 16, W)` float32.
    """

    mean: F32
    axes: F32
    points: F32

    def encode(self, rows: Vectors) -> Codes:
        """Codes `(N, PARTS / 2)` of directions `(N, D)`."""
        quantizer = self._quantizer()
        parts = [quantizer.compute_codes(self.turned(rows[s : s + BLOCK])) for s in range(0, len(rows), BLOCK)]
        return np.concatenate([np.empty((0, PARTS // 2), np.uint8), *parts])

    def scan(self, codes: Codes) -> Scan:
        """Codes `(N, PARTS / 2)`, to be searched."""
        faiss = library()
        plain = faiss.IndexPQ(self.axes.shape[1], len(self.points), 4, faiss.METRIC_INNER_PRODUCT)
        plain.pq = self._quantizer()
        plain.is_trained, plain.ntotal = True, len(codes)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), plain.codes)
        return Scan(self, faiss.IndexPQFastScan(plain))

    def turned(self, rows: Vectors) -> F32:
        """Directions `(N, D)` as numbers `(N, PARTS * W)` on the axes."""
        return np.ascontiguousarray((rows.astype(np.float32) - self.mean) @ self.axes)

    def _quantizer(self) -> Any:
        faiss = library()
        quantizer = faiss.ProductQuantizer(self.axes.shape[1], len(self.points), 4)
        faiss.copy_array_to_vector(self.points.ravel(), quantizer.centroids)
        return quantizer


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Codes in the order in which a processor compares them."""

    sketch: Sketch
    index: Any

    def __len__(self) -> int:
        return self.index.ntotal

    def add(self, rows: Vectors) -> None:
        """Add directions `(N, D)`."""
        for start in range(0, len(rows), BLOCK):
            self.index.add(self.sketch.turned(rows[start : start + BLOCK]))

    def likely(self, probes: F32, count: int) -> NDArray[np.int64]:
        """Rows `(Q, count)` that are likely to be near, likeliest first; -1 where there are fewer."""
        if not len(self):
            return np.full((len(probes), count), -1)
        # the mean adds the same to everybody
        return self.index.search(np.ascontiguousarray(probes @ self.sketch.axes), count)[1]


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What was learned of people.

    Attributes:
        sketch: of their directions.
        codes: `(N, PARTS / 2)` uint8, of the rows of the base.
        candidates: how many likely people to compare exactly, for the recall asked for; 0 where a sketch does not
            reach it.
        people: for how many it was learned, >= 1.
    """

    sketch: Sketch
    codes: Codes
    candidates: int
    people: int


def width(dimension: int) -> int:
    """Axes of a point for directions of D numbers; 0 where there are too few for a sketch."""
    return min(WIDTH, dimension // PARTS)


def learn(rows: Vectors, rng: np.random.Generator) -> Sketch:
    """A sketch for directions like these, `(N, D)` float32 or float16, D >= 64 and N >= 256.

    Needs faiss, of the extra `gallery`.
    """
    faiss = library()
    rows = rows.astype(np.float32)
    mean = rows.mean(axis=0)
    centred = rows - mean
    count = PARTS * width(rows.shape[1])
    _, vectors = np.linalg.eigh(centred.T @ centred)
    turn, _ = np.linalg.qr(rng.standard_normal((count, count)))
    axes = np.ascontiguousarray(vectors[:, -count:] @ turn, np.float32)
    quantizer = faiss.ProductQuantizer(count, PARTS, 4)
    quantizer.train(np.ascontiguousarray(centred @ axes))
    points = faiss.vector_to_array(quantizer.centroids).reshape(PARTS, POINTS, -1)
    return Sketch(mean, axes, points)


def library() -> ModuleType:
    """The library of codes, faiss.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise DataError("an approximate index needs more packages: pip install 'magface[gallery]'") from error
