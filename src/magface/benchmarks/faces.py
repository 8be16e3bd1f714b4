"""The embeddings of a data set, made once and kept in a cache under what made them."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from magface import io
from magface.data import face_set, features
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError, MagfaceError
from magface.threads import READERS, prefetch
from magface.types import F32, U8, Embeddings

Progress = Callable[[int], object]
"""Called with the number of images that were embedded since the last call; see `Expecting`."""

_SHARD = 1 << 15
"""Images whose embeddings share a file; what a kill can lose."""
_AHEAD = 128


@runtime_checkable
class Expecting(Protocol):
    """A `Progress` that wants to know beforehand how many images there will be."""

    def expect(self, images: int) -> None:
        """So many more will be embedded."""


class Aligner(Protocol):
    """Makes the crop that the network sees of an image.

    Attributes:
        name: tells one way of alignment from another in the cache.
    """

    name: str

    def __call__(self, name: str, image: U8) -> U8:
        """The `(112, 112, 3)` uint8 RGB crop of the image called `name`, `(H, W, 3)` uint8 RGB.

        Raises:
            MagfaceError: there is none.
        """


class Crops:
    """For images that are aligned crops already."""

    name = "crops"

    def __call__(self, name: str, image: U8) -> U8:
        """See `Aligner`."""
        return face_set.aligned(image, name)


def default_cache() -> Path:
    """Folder for embeddings that the platform sets aside for caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "magface", "embeddings")


@contextmanager
def keeping(cache: Path) -> Iterator[None]:
    """Turn a cache that cannot be written into one sentence.

    Raises:
        DataError: something could not be written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot keep embeddings in {cache} ({error.strerror}); choose another cache.") from error


def known(faces: FaceSet) -> FaceSet:
    """Only images of people who have a name; the others are in `failures`, as they would all be one person.

    Raises:
        DataError: there is none.
    """
    if "" not in faces.people:
        return faces
    if len(faces.people) == 1:
        raise DataError("the data do not say who is on their images; give each person a sub-folder or an identity.")
    names = zip(faces.names, faces.labels.tolist(), strict=True)
    return faces.without(
        [f"nobody knows who is on {name}." if not faces.people[label] else "" for name, label in names]
    )


def embed(
    embedder: Embedder,
    faces: FaceSet,
    cache: Path | None = None,
    progress: Progress | None = None,
    *,
    flip: bool = False,
    align: Aligner | None = None,
) -> tuple[FaceSet, Embeddings]:
    """Embed every image of a set, or take the embeddings that the same model made of the same images before.

    Args:
        embedder: the model.
        faces: N images.
        cache: where embeddings are kept; None is the platform's place for caches. A file there is named by the model,
            engine, precision, alignment, and by the names, people and contents of its images, so a change of any of
            them embeds again; a run that was stopped goes on with the images that are left.
        progress: called as images are embedded.
        flip: embed the mirrored crops.
        align: makes crops of the images; None where they are crops.

    Returns:
        The images that could be embedded, the others among the failures, and their raw embeddings.

    Raises:
        DataError: no image can be embedded, a file of the cache was changed, or the cache cannot be written.
    """
    asking: object = progress
    if isinstance(asking, Expecting):
        asking.expect(len(faces))
    task = _Task(embedder, cache or default_cache(), progress or (lambda _: None), flip, align or Crops())
    reasons: list[str] = []
    parts: list[Embeddings] = []
    for start in range(0, len(faces), _SHARD):
        part = task.shard(faces[np.arange(start, min(start + _SHARD, len(faces)))])
        reasons += part.reasons
        if part.embeddings is not None:
            parts.append(part.embeddings)
    return faces.without(reasons), Embeddings.concatenate(parts)


@dataclass(eq=False)
class _Shard:
    """Embeddings of the images without a reason against them; None where there are none."""

    reasons: list[str]
    embeddings: Embeddings | None = None


@dataclass(frozen=True, eq=False)
class _Task:
    embedder: Embedder
    cache: Path
    progress: Progress
    flip: bool
    align: Aligner

    def shard(self, faces: FaceSet) -> _Shard:
        """Embeddings of a part of a set, from its file or made and put there."""
        view = "mirrored" if self.flip else "as it is"
        made_by = [self.embedder.fingerprint, self.embedder.engine, self.embedder.precision, self.align.name, view]
        file = self.cache / f"{hashlib.sha256(chr(10).join([*made_by, faces.fingerprint]).encode()).hexdigest()}.npz"
        if file.is_file():
            return self._cached(file, faces)
        with keeping(self.cache):
            io.check_place(file)
        made = self._made(faces)
        if made.embeddings is not None:
            names = [name for name, reason in zip(faces.names, made.reasons, strict=True) if not reason]
            with keeping(self.cache):
                features.write(file, names, made.embeddings)
        return made

    def _made(self, faces: FaceSet) -> _Shard:
        made = _Shard([""] * len(faces))
        vectors: F32 | None = None
        count = 0
        for count, vector in enumerate(self.embedder.stream(self._crops(faces, made.reasons)), 1):
            if vectors is None:
                vectors = np.empty((len(faces), len(vector)), np.float32)
            vectors[count - 1] = vector
        if vectors is not None:
            made.embeddings = Embeddings(vectors[:count], self.embedder.fingerprint)
        return made

    def _crops(self, faces: FaceSet, reasons: list[str]) -> Iterator[U8]:
        rows = range(len(faces))
        read = prefetch(lambda row: self._crop(faces, row), rows, workers=READERS, limit=_AHEAD)
        for row, crop in zip(rows, read, strict=True):
            self.progress(1)
            if isinstance(crop, str):
                reasons[row] = crop
            else:
                yield crop

    def _crop(self, faces: FaceSet, row: int) -> U8 | str:
        """The crop that the network sees, or the reason why there is none."""
        try:
            crop = self.align(faces.names[row], faces.image(row))
        except MagfaceError as error:
            return str(error)
        return np.asarray(cv2.flip(crop, 1), np.uint8) if self.flip else crop

    def _cached(self, file: Path, faces: FaceSet) -> _Shard:
        try:
            names, embeddings = features.read(file)
        except DataError as error:
            raise DataError(f"{file} is damaged; delete it, and its images are embedded again.") from error
        kept = set(names)
        left = {row: self._crop(faces, row) for row, name in enumerate(faces.names) if name not in kept}
        reasons = [left.get(row, "") for row in range(len(faces))]
        known = [name for row, name in enumerate(faces.names) if row not in left]
        whole = all(isinstance(crop, str) for crop in left.values())
        if embeddings.model != self.embedder.fingerprint or names != known or not whole:
            raise DataError(f"{file} does not belong to this model and data; delete it.")
        self.progress(len(faces))
        return _Shard([str(reason) for reason in reasons], embeddings)
