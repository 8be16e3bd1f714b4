"""Ways to judge a face, by name, so that a benchmark can set them side by side on the same faces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from magface.embedder import Embedder
from magface.quality.measures import MEASURES
from magface.types import F32, U8, Embeddings


class Method(Protocol):
    """A way to judge a face."""

    name: str

    def __call__(self, crops: Iterable[U8]) -> F32:
        """Judge crops, each `(112, 112, 3)` uint8 RGB, as they come.

        Returns:
            `(N,)` float32, higher is better, never NaN.
        """


class Magnitude:
    """The length of a network's embedding."""

    def __init__(self, embedder: Embedder, name: str = "magnitude") -> None:
        self.embedder, self.name = embedder, name

    def __call__(self, crops: Iterable[U8]) -> F32:
        """See `Method`."""
        vectors = np.array(list(self.embedder.stream(crops)), np.float32)
        return Embeddings(vectors.reshape(-1, self.embedder.card.embedding_size)).magnitude


class Image:
    """A measure of the picture alone."""

    def __init__(self, name: str) -> None:
        self.name, self._measure = name, MEASURES[name]

    def __call__(self, crops: Iterable[U8]) -> F32:
        """See `Method`."""
        return np.fromiter(map(self._measure, crops), np.float32)
