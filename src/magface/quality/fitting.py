"""What a card says of faces, measured on faces: of known people all of it, of any others the scale alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from magface.errors import DataError
from magface.models.card import Bands, Reliability, Threshold
from magface.quality import bands, calibration, comparisons, qmagface, reliability
from magface.quality.comparisons import Labels, Pairs
from magface.types import Embeddings

SCALE = ("magnitude_percentiles", "quality")
"""Fields of a card that any faces give."""
_GROUPING = 1e-3
"""False match rate at whose threshold grouping stops."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was measured.

    Attributes:
        fields: of a card, by name; empty where the faces do not suffice.
        notes: by name of a field, why it is empty, or what it gains.
    """

    fields: dict[str, Any]
    notes: dict[str, str]


def of_faces(embeddings: Embeddings) -> Fitted:
    """Percentiles and scale from faces of anybody.

    Raises:
        DataError: there is no face, or they hardly differ.
    """
    magnitude = embeddings.magnitude
    found = calibration.percentiles(magnitude), calibration.fit_sigmoid(magnitude)
    return Fitted(dict(zip(SCALE, found, strict=True)), {})


def of_people(
    embeddings: Embeddings,
    labels: Labels,
    *,
    fmrs: Sequence[float] = calibration.FMRS,
    thresholds: Sequence[Threshold] = (),
) -> Fitted:
    """Scale, thresholds, expected errors, and what weighs quality in a decision, from faces of known people.

    Args:
        embeddings: N faces.
        labels: `(N,)` integers, who they are.
        fmrs: false match rates.
        thresholds: given ones, whose rates count instead of `fmrs` and at which expected errors are measured.

    Raises:
        DataError: there are too few faces or pairs of different people for a threshold, or a rate is out of range.
    """
    scale = of_faces(embeddings)
    genuine, impostor = comparisons.genuine(embeddings, labels), comparisons.impostor(embeddings, labels)
    found = tuple(thresholds) or calibration.thresholds(impostor.cosine, fmrs)
    rates = [each.fmr for each in found]
    errors, no_errors = _reliability(genuine, found)
    banded, no_bands = _bands(impostor, rates)
    joined = (np.concatenate(sides) for sides in zip(genuine, impostor, strict=True))
    aware = qmagface.fit(*joined, fmrs=rates)
    fields = {
        **scale.fields,
        "thresholds": found,
        "cluster_threshold": min(found, key=lambda each: abs(math.log(each.fmr / _GROUPING))).cosine,
        "reliability": errors,
        "bands": banded,
        "comparison": aware.comparison,
    }
    notes = {"reliability": no_errors, "bands": no_bands, "comparison": aware.reason}
    return Fitted(fields, {name: note for name, note in notes.items() if note})


def _reliability(genuine: Pairs, thresholds: Sequence[Threshold]) -> tuple[tuple[Reliability, ...], str]:
    try:
        return tuple(reliability.fit(genuine.cosine, genuine.quality, each) for each in thresholds), ""
    except DataError as error:
        return (), str(error)


def _bands(impostor: Pairs, rates: Sequence[float]) -> tuple[tuple[Bands, ...], str]:
    """Thresholds by quality at those rates for which the comparisons give more than one band."""
    count = len(impostor.cosine)
    found = [bands.fit(impostor.cosine, impostor.quality, fmr) for fmr in rates if fmr * count >= 1]
    several = tuple(each for each in found if len(each.magnitude) > 1)
    return several, "" if several else f"{count:,} comparisons of different people are too few for bands of quality."
