"""Aligned crops in, raw embeddings out; what a model needs to know is in its file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from magface import engines, images
from magface.engines import EngineName, Precision
from magface.errors import ImageError, ModelError
from magface.models import card, default
from magface.types import F32, U8, Embeddings

BATCH = 4
"""Crops that the network takes at a time: of more, what it works on leaves the processor's cache."""
_FEW = 16  # crops that do not pay for getting ready for a stream
_AHEAD = 128


class Embedder:
    """A face network with its card.

    Args:
        model: an `.onnx` file with a card; `None` is the model that ships with the package.
        engine: see `engines.load`.
        precision: see `engines.load`.
        threads: see `engines.load`.

    Attributes:
        card: of the model.
        fingerprint: hex sha256 of the model; recorded in what it makes.
        precision: of the arithmetic inside the network, `f32` or `bf16`.
        source: the model file.

    Raises:
        ModelError: the file is missing, damaged, without a card, or takes something else than aligned crops.
        EngineError: the engine cannot be used.

    Example:
        >>> embedder = Embedder()
        >>> embedder.embed(np.zeros((2, 112, 112, 3), np.uint8)).vectors.shape
        (2, 128)
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        engine: EngineName = "auto",
        precision: Precision = "f32",
        threads: int | None = None,
    ) -> None:
        self.source = default.path() if model is None else Path(model)
        content = card.content(self.source)
        self.card, self.fingerprint = card.read(content)
        self.precision: Precision = precision
        self._engine = engines.load(content, engine, precision=precision, threads=threads)
        if self._engine.shape != (None, 112, 112, 3) or self._engine.dtype != np.uint8:
            raise ModelError("the model does not take uint8 RGB crops of 112x112; export it with `magface export`.")

    @property
    def engine(self) -> str:
        """Name of the engine that runs."""
        return self._engine.name

    def embed(self, crops: U8) -> Embeddings:
        """Embed crops that are in memory.

        Args:
            crops: `(N, 112, 112, 3)` uint8 RGB, aligned to the card's template; N >= 0.

        Returns:
            N raw embeddings.

        Raises:
            EngineError: the crops have another shape or type.
            ModelError: the embeddings are not finite, or not of the size in the card.
        """
        if 0 < len(crops) <= _FEW:
            return Embeddings(self._checked(self._engine(crops)[0]), self.fingerprint)
        return self._collected(self.stream(crops))

    def stream(self, crops: Iterable[U8]) -> Iterator[F32]:
        """Embed crops as they come; the network works while the next are made.

        Args:
            crops: each `(112, 112, 3)` uint8 RGB, aligned.

        Returns:
            Raw embeddings `(D,)` float32, one for each crop, in order. A few batches are held in memory.

        Raises:
            EngineError: a crop has another shape or type.
            ModelError: the embeddings are not finite, or not of the size in the card.
        """
        return chain.from_iterable(self._checked(outputs[0]) for outputs in self._engine.stream(_batches(crops)))

    def embed_files(
        self, paths: Sequence[str | os.PathLike[str]], *, progress: Callable[[int], object] | None = None
    ) -> tuple[Embeddings, list[tuple[Path, str]]]:
        """Embed aligned crops on the disk, reading while the network works.

        Args:
            paths: image files of 112x112 pixels.
            progress: called with the number of files that were read since the last call.

        Returns:
            The embeddings of the files that could be read, in the order of `paths`, and `(path, reason)` of the
            others; together they are as many as `paths`.
        """
        failures: list[tuple[Path, str]] = []

        def crops() -> Iterator[U8]:
            for path, crop in images.read_ahead(paths, _aligned, ahead=_AHEAD):
                if progress is not None:
                    progress(1)
                if isinstance(crop, str):
                    failures.append((path, crop))
                else:
                    yield crop

        return self._collected(self.stream(crops())), failures

    def _checked(self, vectors: F32) -> F32:
        """Output of the network for one batch, before anybody relies on it."""
        if vectors.shape[1:] != (self.card.embedding_size,):
            raise ModelError("the model gives vectors of another size than its card says; export it again.")
        if not np.isfinite(vectors).all():
            raise ModelError("the model gives NaN or infinity for a face; train or export it again.")
        return vectors

    def _collected(self, vectors: Iterable[F32]) -> Embeddings:
        rows: Any = np.fromiter(vectors, np.dtype((np.float32, self.card.embedding_size)))
        return Embeddings(rows, self.fingerprint)


def _batches(crops: Iterable[U8]) -> Iterator[U8]:
    remaining = iter(crops)
    while batch := list(islice(remaining, BATCH)):
        yield np.stack(batch)


def _aligned(path: Path, crop: U8) -> U8:
    if crop.shape != (112, 112, 3):
        raise ImageError(
            f"{path} has {crop.shape[1]}x{crop.shape[0]} pixels, but an aligned crop has 112x112; "
            "use magface embed without --aligned."
        )
    return crop
