"""Is this picture of a face good enough: accept it, let a person look at it, or take it again; and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from magface.errors import DataError
from magface.models.card import Card
from magface.quality import components
from magface.quality.calibration import score
from magface.quality.components import Component
from magface.types import F32, U8, Embeddings

ACCEPT, RETAKE = 70.0, 35.0
"""Scores at which one in ten, and one in two, comparisons with another picture of the person are missed.

Measured at FMR 1e-3 by the lower score of the pair, on 87,916 genuine pairs of `train.tar`:

| score | 0-20 | 20-30 | 30-40 | 40-50 | 50-60 | 60-70 | 70-80 | 80-90 | 90-100 |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| FNMR | 0.93 | 0.64 | 0.51 | 0.32 | 0.19 | 0.13 | 0.07 | 0.03 | 0.01 |

`python benchmarks/components.py DATA` measures it again.
"""


class Verdict(StrEnum):
    """What to do with a picture of a face."""

    accept = "accept"
    review = "review"
    retake = "retake"


@dataclass(frozen=True, slots=True)
class Limits:
    """Scores that decide.

    Attributes:
        accept: at least this is accepted, 0 to 100.
        retake: below this is taken again, 0 to `accept`; what is between is for a person to look at.

    Raises:
        DataError: they are no scores, or in the wrong order.
    """

    accept: float = ACCEPT
    retake: float = RETAKE

    def __post_init__(self) -> None:
        if not 0 <= self.retake <= self.accept <= 100:
            raise DataError(
                f"pictures are taken again below a score of {self.retake:g} and accepted from {self.accept:g}; "
                "both must be 0 to 100, and the first not above the second."
            )

    def verdict(self, score: float) -> Verdict:
        """What to do with a picture of that score.

        Example:
            >>> [Limits(accept=80).verdict(score).value for score in (34, 35, 80)]
            ['retake', 'review', 'accept']
        """
        if score >= self.accept:
            return Verdict.accept
        return Verdict.review if score >= self.retake else Verdict.retake


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Assessment:
    """A verdict and what stands behind it.

    Attributes:
        verdict: what to do with the picture.
        components: every measure that could be taken, in the order of `components.RANGES`.
    """

    verdict: Verdict
    components: tuple[Component, ...]

    @property
    def causes(self) -> tuple[Component, ...]:
        """Measures that are out of the range of good pictures and may be why this one is not accepted."""
        return () if self.verdict is Verdict.accept else tuple(each for each in self.components if each.cause)


def assess(
    crop: U8,
    embedding: F32,
    card: Card,
    embed: Callable[[U8], Embeddings],
    landmarks: F32 | None = None,
    limits: Limits = DEFAULT,
) -> Assessment:
    """Judge a face.

    Whether something covers it is looked for only where it is not accepted: that takes two more embeddings.

    Args:
        crop: `(112, 112, 3)` uint8 RGB, aligned.
        embedding: `(D,)` float32, raw, of that crop.
        card: of the model that made it.
        embed: crops `(N, 112, 112, 3)` to raw embeddings, by the same model.
        landmarks: `(5, 2)` float, in pixels of the photo; None where only the crop is known: then so are neither pose
            nor size.
        limits: scores that decide.
    """
    verdict = limits.verdict(float(score(np.linalg.norm(embedding), card)))
    found = components.measure(crop, landmarks)
    if verdict is not Verdict.accept:
        hidden = embed(components.covered(crop)).vectors
        found += components.occlusion(crop, embedding, hidden, card.quality.w)
    return Assessment(verdict, found)
