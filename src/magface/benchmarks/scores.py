"""Comparisons between embedded faces, scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.result import Curve, Measure, edc_measures, number, tar_measure
from magface.geometry import cosine
from magface.metrics import quality, verification
from magface.types import F32, Embeddings

FMR = 1e-3
FMRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Similarity and quality of pairs.

    Attributes:
        similarity: `(N,)` float, cosine of the directions.
        quality: `(N,)` float32, the lower magnitude of the pair.
        same: `(N,)` bool, True for genuine pairs.
    """

    similarity: NDArray[np.floating]
    quality: F32
    same: NDArray[np.bool_]


def score(embeddings: Embeddings, first: NDArray[np.intp], second: NDArray[np.intp], same: NDArray[np.bool_]) -> Scores:
    """Compare rows `first` with rows `second`, each `(N,)`, in blocks of bounded memory."""
    vectors, magnitude = embeddings.vectors, embeddings.magnitude
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(first), _BLOCK)]
    similarity = [cosine(vectors[first[block]], vectors[second[block]]) for block in blocks]
    joined = np.concatenate(similarity) if similarity else np.zeros(0, np.float32)
    return Scores(joined, quality.pair_quality(magnitude[first], magnitude[second]).astype(np.float32), same)


def measures(
    scores: Scores,
    fmrs: Sequence[float] = (FMR,),
    people: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
) -> tuple[Measure, ...]:
    """TAR, EER, AUC and error versus discard, whose threshold is that of FMR 1e-3 on all pairs.

    Args:
        scores: of N pairs.
        fmrs: false match rates for the TAR.
        people: who is in the first and in the second images, each `(N,)`, to draw people again for the intervals of TAR
            and EER; without it TAR has that of its pairs.

    Raises:
        DataError: there are no genuine or no impostor pairs.
    """
    genuine, impostor = np.sort(scores.similarity[scores.same]), np.sort(scores.similarity[~scores.same])
    points = verification.operating_points(genuine, impostor, fmrs)
    eer = number("EER", verification.eer(genuine, impostor))
    if people is not None:
        drawn = verification.bootstrap_people(scores.similarity, scores.same, *people, fmrs)
        points = tuple(replace(point, interval=tar) for point, tar in zip(points, drawn.tar, strict=True))
        eer = replace(eer, interval=drawn.eer)
    discard = _discard(scores, verification.tar_at_fmr(genuine, impostor, FMR))
    if people is not None:
        discard = [replace(measure, interval=None) for measure in discard]  # that of pairs would say too little
    return (*map(tar_measure, points), eer, number("AUC", verification.auc(genuine, impostor)), *discard)


def _discard(scores: Scores, point: verification.OperatingPoint) -> Sequence[Measure]:
    if point.threshold is None:
        return Measure("EDC r", None, note=point.reason), Measure("EDC efficiency", None, note=point.reason)
    genuine, found = scores.same, scores.similarity[scores.same]
    return edc_measures(quality.efficiency(found, scores.quality[genuine], point.threshold))


def rates(genuine: NDArray[np.floating], impostor: NDArray[np.floating]) -> list[Measure]:
    """TAR at `FMRS`, EER and AUC of scores; many are best sorted before.

    Raises:
        DataError: there are no genuine or no impostor pairs.
    """
    return [
        *map(tar_measure, verification.operating_points(genuine, impostor, FMRS)),
        number("EER", verification.eer(genuine, impostor)),
        number("AUC", verification.auc(genuine, impostor)),
    ]


def curve(genuine: NDArray[np.floating], impostor: NDArray[np.floating]) -> Curve:
    """The ROC at as many points as a plot with logarithmic axes needs; many scores are best sorted before."""
    points = verification.roc_points(genuine, impostor)
    return Curve(tuple(points.fmr.tolist()), tuple(points.tar.tolist()), len(genuine), len(impostor))
