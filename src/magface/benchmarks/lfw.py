"""Labelled Faces in the Wild: the official 6,000 pairs in ten folds, single view, no flip."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.faces import Progress, embed
from magface.benchmarks.result import Measure, Result
from magface.benchmarks.scores import Scores, measures, score
from magface.data import image_folder
from magface.data.pairs import Pairs, read
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.verification import kfold_accuracy
from magface.types import Embeddings

_PAIRS = ("pairs.txt", "lfw_pairs.txt")


def find_pairs(data: Path) -> Path:
    """The list of pairs inside the folder of crops, or beside the folder or archive.

    Raises:
        DataError: there is none.
    """
    places = [folder / name for folder in (data, data.absolute().parent) for name in _PAIRS]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError(f"there is no {' or '.join(_PAIRS)} in or beside {data}; name the list of pairs.")
    return found


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    pairs: str | os.PathLike[str] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure verification and error versus discard on LFW, or on another set with a list of LFW's form.

    Accuracy follows the LFW protocol with exact thresholds; TAR and error versus discard take one threshold, at
    FMR 1e-3 over all pairs.

    Args:
        embedder: the model.
        data: folder of 112x112 crops `Name/Name_0001.jpg`, or an uncompressed tar of it.
        pairs: the list; None looks for `pairs.txt` or `lfw_pairs.txt` in and beside `data`.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        accuracy, its std over folds, TAR, EER, AUC, EDC r and efficiency. Pairs with a missing or unreadable image
        are left out, counted in `pairs missing`, and their images are named in `failures`.

    Raises:
        DataError: the list or the data are missing or malformed, or no pair is left.
    """
    listed = read(find_pairs(Path(data)) if pairs is None else pairs)
    folder = image_folder.read(data).checked()
    wanted = set(listed.first + listed.second)
    folder = folder[np.array([_key(name) in wanted for name in folder.names])]
    row = {_key(name): index for index, name in enumerate(folder.names)}
    failures = dict.fromkeys(sorted(wanted - row.keys()), "is not in the data")
    failures |= {_key(name): reason for name, reason in folder.failures if _key(name) in failures}
    kept = np.array([a in row and b in row for a, b in zip(listed.first, listed.second, strict=True)])
    if not kept.any():
        raise DataError(f"{data} holds no image pair of the list; it needs crops named like Name/Name_0001.jpg.")
    folder, embeddings = embed(embedder, folder, cache, progress)
    return Result(
        "lfw",
        embedder.fingerprint,
        _measures(embeddings, listed, row, kept),
        {
            "images": len(folder),
            "images missing": len(failures),
            "genuine pairs": int(np.sum(listed.same & kept)),
            "impostor pairs": int(np.sum(~listed.same & kept)),
            "pairs missing": int(np.sum(~kept)),
        },
        failures,
    )


def _measures(
    embeddings: Embeddings, listed: Pairs, row: dict[str, int], kept: NDArray[np.bool_]
) -> tuple[Measure, ...]:
    numbers = np.flatnonzero(kept)
    first, second = (np.array([row[names[i]] for i in numbers]) for names in (listed.first, listed.second))
    scores = score(embeddings, first, second, listed.same[kept])
    return (*_accuracy(scores, listed.fold[kept]), *measures(scores))


def _accuracy(scores: Scores, fold: NDArray[np.int64]) -> tuple[Measure, ...]:
    folds = len(np.unique(fold))
    if folds < 2:
        return ()
    found = kfold_accuracy(scores.similarity, scores.same, fold)
    return (
        Measure("accuracy", found.accuracy, note=f"mean of {folds} folds"),
        Measure("accuracy std", found.std, note="over folds"),
    )


def _key(name: str) -> str:
    """`Name/Name_0001` of a file, wherever its folder lies in the archive."""
    path = PurePosixPath(name)
    return f"{path.parent.name}/{path.stem}"
