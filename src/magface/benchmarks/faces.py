"""The embeddings of a data set, made once and kept in a cache under what made them."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from magface.data import features
from magface.data.image_folder import ImageFolder
from magface.embedder import Embedder
from magface.errors import DataError
from magface.types import U8, Embeddings

Progress = Callable[[int], object]
"""Called with the number of images that were embedded since the last call."""


def default_cache() -> Path:
    """Folder for embeddings that the platform sets aside for caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "magface", "embeddings")


def embed(
    embedder: Embedder, folder: ImageFolder, cache: Path | None = None, progress: Progress | None = None
) -> Embeddings:
    """Embed every image of a folder, or take the embeddings that the same model made of the same files before.

    Args:
        embedder: the model.
        folder: N images.
        cache: where embeddings are kept; None is the platform's place for caches. A file there is named by the model,
            engine, precision and all files, so a change of any of them embeds again.
        progress: called as images are embedded.

    Returns:
        N raw embeddings in the order of the folder.

    Raises:
        DataError: a file of the cache was changed, or the cache cannot be written.
    """
    key = "\n".join([embedder.fingerprint, embedder.engine, embedder.precision, folder.fingerprint])
    file = (cache or default_cache()) / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
    if file.is_file():
        return _cached(file, embedder, folder)
    vectors = list(embedder.stream(_crops(folder, progress)))
    embeddings = Embeddings(np.stack(vectors), embedder.fingerprint)
    try:
        features.write(file, folder.names, embeddings)
    except OSError as error:
        raise DataError(f"cannot keep embeddings in {file.parent} ({error.strerror}); choose another cache.") from error
    return embeddings


def _crops(folder: ImageFolder, progress: Progress | None) -> Iterator[U8]:
    for index in range(len(folder)):
        yield folder.read(index)
        if progress is not None:
            progress(1)


def _cached(file: Path, embedder: Embedder, folder: ImageFolder) -> Embeddings:
    names, embeddings = features.read(file)
    if tuple(names) != folder.names or embeddings.model != embedder.fingerprint:
        raise DataError(f"{file} does not belong to this model and data; delete it.")
    return embeddings
