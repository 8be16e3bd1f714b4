"""The words that the floors exchange: frozen, with units stated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magface import geometry
from magface.errors import DataError

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face found in a photo.

    Attributes:
        box: `(4,)` float32, `[x1, y1, x2, y2]` in pixels of the upright photo; may reach outside it.
        landmarks: `(5, 2)` float32, `(x, y)` in pixels: the eye on the left of the image, the eye on the right,
            nose tip, mouth corner on the left, mouth corner on the right.
        score: confidence of the detector, 0 to 1.
    """

    box: F32
    landmarks: F32
    score: float

    @property
    def size(self) -> float:
        """Longer side of the box in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Raw embeddings of one model: `direction` says who, `magnitude` how far to trust it.

    Attributes:
        vectors: `(N, D)` float32, as the network gave them, never normalised.
        model: fingerprint of the model that made them (hex sha256), or `""` when unknown.

    Raises:
        DataError: `vectors` is not two-dimensional or holds NaN or infinity.

    Example:
        >>> e = Embeddings(np.array([[3, 4], [0, 2]], np.float32))
        >>> e.magnitude
        array([5., 2.], dtype=float32)
        >>> e.direction[1]
        array([0., 1.], dtype=float32)
    """

    vectors: F32
    model: str = ""

    def __post_init__(self) -> None:
        vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        if vectors.ndim != 2:
            raise DataError(f"embeddings must be an (N, D) array; this one has shape {vectors.shape}.")
        if not np.isfinite(vectors).all():
            raise DataError("embeddings hold NaN or infinity; the file or the model that made them is damaged.")
        object.__setattr__(self, "vectors", vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Embeddings:
        return Embeddings(self.vectors[rows], self.model)

    @property
    def direction(self) -> F32:
        """`(N, D)` float32 unit vectors."""
        return geometry.direction(self.vectors)

    @property
    def magnitude(self) -> F32:
        """`(N,)` float32, >= 0, unnormalised."""
        return geometry.magnitude(self.vectors)

    @staticmethod
    def concatenate(parts: Iterable[Embeddings]) -> Embeddings:
        """Join embeddings of the same model.

        Raises:
            DataError: the parts are empty, or come from different models.
        """
        found = list(parts)
        models = {part.model for part in found}
        if len(models) != 1:
            raise DataError("embeddings of different models cannot be mixed; embed the photos again with one model.")
        return Embeddings(np.concatenate([part.vectors for part in found]), models.pop())
