"""The ten faces of the official repository: does the model order their quality as the official one does?"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from magface.benchmarks.faces import Progress
from magface.benchmarks.result import Measure, Result, number
from magface.data import features
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.quality import spearman


def evaluate(embedder: Embedder, data: str | os.PathLike[str], *, progress: Progress | None = None) -> Result:
    """Correlate the ranks of the model's magnitudes with those of an official feature list.

    Args:
        embedder: the model.
        data: folder with `feat.list` (lines `path v1 ... vD`) and the 112x112 crops it names, by their file names.
        progress: called as images are embedded.

    Returns:
        Spearman's correlation and the range of the model's magnitudes.

    Raises:
        DataError: the list is missing or malformed, or a crop is missing or unreadable.
    """
    names, official = features.read(Path(data, "feat.list"))
    files = [Path(data, PurePosixPath(name).name) for name in names]
    embeddings, failures = embedder.embed_files(files, progress=progress)
    if failures:
        raise DataError(f"{failures[0][0]} cannot be used: {failures[0][1]}")
    magnitude = embeddings.magnitude
    return Result(
        "toy",
        embedder.fingerprint,
        (
            number("Spearman", spearman(magnitude, official.magnitude), "with the official magnitudes"),
            Measure("lowest magnitude", float(magnitude.min())),
            Measure("highest magnitude", float(magnitude.max())),
        ),
        {"images": len(files)},
    )
