"""Comparisons between embedded faces, scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.result import Measure, edc_measures, number, tar_measure
from magface.geometry import cosine
from magface.metrics import quality, verification
from magface.types import F32, Embeddings

FMR = 1e-3
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Similarity and quality of pairs.

    Attributes:
        similarity: `(N,)` float32 cosine of the directions.
        quality: `(N,)` float32, the lower magnitude of the pair.
        same: `(N,)` bool, True for genuine pairs.
    """

    similarity: F32
    quality: F32
    same: NDArray[np.bool_]


def score(embeddings: Embeddings, first: NDArray[np.intp], second: NDArray[np.intp], same: NDArray[np.bool_]) -> Scores:
    """Compare rows `first` with rows `second`, each `(N,)`, in blocks of bounded memory."""
    vectors, magnitude = embeddings.vectors, embeddings.magnitude
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(first), _BLOCK)]
    similarity = [cosine(vectors[first[block]], vectors[second[block]]) for block in blocks]
    joined = np.concatenate(similarity) if similarity else np.zeros(0, np.float32)
    return Scores(joined, quality.pair_quality(magnitude[first], magnitude[second]).astype(np.float32), same)


def measures(scores: Scores, fmr: float = FMR) -> tuple[Measure, ...]:
    """TAR, EER, AUC and error versus discard, the threshold fixed at `fmr` on all pairs.

    Raises:
        DataError: there are no genuine or no impostor pairs.
    """
    genuine, impostor = scores.similarity[scores.same], scores.similarity[~scores.same]
    point = verification.tar_at_fmr(genuine, impostor, fmr)
    if point.threshold is None:
        discard = Measure("EDC r", None, note=point.reason), Measure("EDC efficiency", None, note=point.reason)
    else:
        discard = edc_measures(quality.efficiency(genuine, scores.quality[scores.same], point.threshold))
    return (
        tar_measure(point),
        number("EER", verification.eer(genuine, impostor)),
        number("AUC", verification.auc(genuine, impostor)),
        *discard,
    )
