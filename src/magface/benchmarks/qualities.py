"""What methods make of the faces of a data set, found once and kept in the cache of its embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from magface import __version__, io
from magface.benchmarks.faces import Expecting, Progress, default_cache, embed, keeping
from magface.benchmarks.methods import Magnitude, Method
from magface.data import features
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.threads import READERS, prefetch
from magface.types import F32, U8, Embeddings

_AHEAD = 128


def judge(
    methods: Sequence[Method],
    embedder: Embedder,
    faces: FaceSet,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, F32]:
    """Judge every face of a set by every method.

    Args:
        methods: each with a name of its own.
        embedder: the model that they were built for.
        faces: N crops that can be read, as `faces.embed` gives them.
        cache: where scores are kept, see `faces.embed`; a file there is named by the method, the model, the version of
            this package and the images. Magnitudes are taken from the embeddings there.
        progress: called as crops are judged.

    Returns:
        `(N,)` float32 by name of the method, higher is better.

    Raises:
        DataError: a crop cannot be read any more, or the cache cannot be used.
    """
    found = {}
    for method in methods:
        if isinstance(method, Magnitude):
            kept, embeddings = embed(method.embedder, faces, cache, progress)
            found[method.name] = embeddings.magnitude
            if len(kept) != len(faces):
                raise DataError(f"{kept.failures[-1][0]} could be read before and cannot now; run again.")
        else:
            found[method.name] = _judged(method, embedder, faces, cache or default_cache(), progress)
    return found


def _judged(method: Method, embedder: Embedder, faces: FaceSet, cache: Path, progress: Progress | None) -> F32:
    asking: object = progress
    if isinstance(asking, Expecting):
        asking.expect(len(faces))
    tell = progress or (lambda _: None)
    made_by = [method.name, __version__, embedder.fingerprint, embedder.precision, faces.fingerprint]
    file = cache / f"{hashlib.sha256(chr(10).join(made_by).encode()).hexdigest()}.npz"
    if file.is_file():
        names, scores = features.read(file)
        if names != list(faces.names) or scores.vectors.shape[1] != 1:
            raise DataError(f"{file} does not belong to this method and data; delete it.")
        tell(len(faces))
        return scores.vectors[:, 0]
    with keeping(cache):
        io.check_place(file)
    found = method(_crops(faces, tell))
    with keeping(cache):
        features.write(file, faces.names, Embeddings(found[:, None], embedder.fingerprint))
    return found


def _crops(faces: FaceSet, tell: Progress) -> Iterator[U8]:
    for crop in prefetch(faces.read, range(len(faces)), workers=READERS, limit=_AHEAD):
        tell(1)
        yield np.asarray(crop, np.uint8)
