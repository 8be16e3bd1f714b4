"""Error versus discard on any folder of people: pairs drawn with a fixed seed over all images."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.faces import Progress, embed, known
from magface.benchmarks.result import Measure, Result
from magface.benchmarks.scores import measures, score
from magface.data import formats
from magface.embedder import Embedder
from magface.errors import DataError
from magface.types import Embeddings

GENUINE = 20_000
IMPOSTOR = 200_000
_CONDITIONS = 10
Index = NDArray[np.int64]


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    genuine: int = GENUINE,
    impostor: int = IMPOSTOR,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure verification and error versus discard on pairs drawn from a folder of people.

    Args:
        embedder: the model.
        data: folder with one sub-folder of 112x112 crops for each person, or an uncompressed tar of it.
        genuine: pairs of one person to draw, without repetition; fewer where there are fewer.
        impostor: pairs of two people to draw, likewise.
        seed: of the draw.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        TAR, EER, AUC, EDC r and efficiency at FMR 1e-3, and the mean magnitude: of all, and of each condition where
        all file names begin with one of a few, as in `masked_0001.jpg`.

    Raises:
        DataError: no readable crop, fewer than two people, or nobody with two images.
    """
    folder, embeddings = embed(embedder, known(formats.read(data)), cache, progress)
    first, second, same = draw(folder.labels, genuine, impostor, seed)
    if same.all() or not same.any():
        raise DataError(f"{data} needs at least two people, and one of them with two images.")
    found = measures(score(embeddings, first, second, same)) + _magnitudes(embeddings, folder.names)
    counts = {
        "images": len(folder),
        "images missing": len(folder.failures),
        "people": len(folder.people),
        "genuine pairs": int(np.sum(same)),
        "impostor pairs": int(np.sum(~same)),
    }
    return Result("edc", embedder.fingerprint, found, counts, dict(folder.failures))


def draw(label: Index, genuine: int, impostor: int, seed: int) -> tuple[Index, Index, NDArray[np.bool_]]:
    """Draw pairs without repetition.

    Args:
        label: `(N,)` the person of each image.
        genuine: pairs of one person wanted; all where there are fewer.
        impostor: pairs of two people wanted; all where there are fewer.
        seed: of the draw.

    Returns:
        `first` and `second`, `(P,)` rows with `first > second`, and `same`, `(P,)` bool, genuine pairs before others.

    Example:
        >>> first, second, same = draw(np.array([0, 0, 1]), 5, 1, seed=0)
        >>> first.tolist(), second.tolist(), same.tolist()
        ([1, 2], [0, 1], [True, False])
    """
    rng = np.random.default_rng(seed)
    people = [np.flatnonzero(label == person) for person in np.unique(label)]
    within = [(rows[a], rows[b]) for rows in people for a, b in [np.tril_indices(len(rows), -1)]]
    a, b = (np.concatenate(side) for side in zip(*within, strict=True))
    chosen = rng.choice(len(a), min(genuine, len(a)), replace=False)
    total = math.comb(len(label), 2)
    wanted = math.ceil(1.05 * impostor * total / max(total - len(a), 1)) + 100  # some of them are genuine
    c, d = _unranked(rng.choice(total, min(wanted, total), replace=False))
    others = np.flatnonzero(label[c] != label[d])[:impostor]
    first, second = np.concatenate([a[chosen], c[others]]), np.concatenate([b[chosen], d[others]])
    return first, second, np.arange(len(first)) < len(chosen)


def _unranked(rank: Index) -> tuple[Index, Index]:
    """The pair `i > j` at each place of the list (1, 0), (2, 0), (2, 1), (3, 0), ..."""
    i = ((1 + np.sqrt(1.0 + 8.0 * rank)) / 2).astype(np.int64)
    i -= i * (i - 1) // 2 > rank  # the root may round up
    return i, rank - i * (i - 1) // 2


def _magnitudes(embeddings: Embeddings, names: tuple[str, ...]) -> tuple[Measure, ...]:
    magnitude = embeddings.magnitude
    every = Measure("mean magnitude", float(magnitude.mean()), note=f"{len(names):,} images")
    prefix = np.array([PurePosixPath(name).stem.partition("_")[0] for name in names])
    conditions = sorted(set(prefix.tolist()))
    if not 1 < len(conditions) <= _CONDITIONS:
        return (every,)
    groups = [(name, magnitude[prefix == name]) for name in conditions]
    return (
        every,
        *(Measure(f"mean magnitude {name}", float(a.mean()), note=f"{len(a):,} images") for name, a in groups),
    )
