"""Does the magnitude fall, step by step, while faces are degraded?"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.faces import Progress
from magface.benchmarks.result import Measure, Result
from magface.data import formats
from magface.data.degradations import NAMES
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.verification import wilson
from magface.types import U8, Embeddings

KINDS = {
    "blur": "gaussian_blur",
    "down-sampling": "downsampling",
    "darkness": "darkness",
    "occlusion": "patch",
    "JPEG": "jpeg",
}
FACES = 100
STEPS = 5


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    faces: int = FACES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Degrade faces in five equal steps of strength and count the steps in which the magnitude falls.

    Args:
        embedder: the model.
        data: folder with one sub-folder of good 112x112 crops for each person, or an uncompressed tar of it.
        faces: people to draw, with one image each; all where there are fewer.
        seed: of the draw and of the degradations.
        progress: called as images are embedded, `1 + 5 * STEPS` for each face.

    Returns:
        The share of falling steps of all degradations together and of each.

    Raises:
        DataError: no readable crop, or `faces` is below 1.
    """
    if faces < 1:
        raise DataError("a degradation series needs at least one face.")
    folder = formats.read(data).checked()
    chosen = _draw(folder, faces, seed)
    vectors = list(embedder.stream(_series(folder, chosen, seed, progress)))
    magnitude = Embeddings(np.stack(vectors), embedder.fingerprint).magnitude.reshape(len(chosen), -1)
    series = np.insert(magnitude[:, 1:].reshape(len(chosen), len(KINDS), STEPS), 0, magnitude[:, :1], axis=2)
    falls = np.diff(series, axis=2) < 0
    found = [_share(name, falls[:, kind]) for kind, name in enumerate(KINDS)]
    counts = {"images": len(chosen), "images missing": len(folder.failures), "steps": falls.size}
    return Result("degradation", embedder.fingerprint, (_share("all", falls), *found), counts, dict(folder.failures))


def _draw(folder: FaceSet, faces: int, seed: int) -> NDArray[np.int64]:
    """One image of each of `faces` people."""
    rng = np.random.default_rng(seed)
    people = rng.permutation(len(folder.people))[:faces]
    return np.array([rng.choice(np.flatnonzero(folder.labels == person)) for person in people])


def _series(folder: FaceSet, chosen: NDArray[np.int64], seed: int, progress: Progress | None) -> Iterator[U8]:
    """Each face as it is, then its five degradations at every step; a series shares one state of the generator."""
    for index in chosen.tolist():
        crop = folder.read(index)
        yield crop
        for name in KINDS.values():
            for step in range(1, STEPS + 1):
                yield NAMES[name](crop, step / STEPS, np.random.default_rng([seed, index]))
        if progress is not None:
            progress(1 + len(KINDS) * STEPS)


def _share(name: str, falls: NDArray[np.bool_]) -> Measure:
    count = int(falls.sum())
    return Measure(f"falling steps, {name}", count / falls.size, wilson(count, falls.size), f"{count} of {falls.size}")
