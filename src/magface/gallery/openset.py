"""When a search has found somebody: the threshold at a stated false positive identification rate (FPIR).

The more people a gallery holds, the likelier somebody in it resembles a stranger by chance. A search of N people makes
N comparisons, so the false match rate of each has to be about N times lower than the FPIR, and is mostly lower than any
that a model card has measured: the threshold is then extrapolated, and every threshold says how far.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, get_args

from magface.errors import DataError, ModelError
from magface.models.card import Card

By = Literal["cosine", "quality"]
BY: tuple[By, ...] = get_args(By)

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Shift:
    """What a gallery found its own strangers to need, beside the card.

    Attributes:
        value: what is added to every threshold of the card, in cosine or score.
        fpir: the rate it was measured at.
        people: in the gallery at that time.
        searches: of people who had been left out, behind it.
        left_out: searches that found somebody as near as one person under two names is.
    """

    value: float
    fpir: float
    people: int
    searches: int
    left_out: int = 0

    def to_json(self) -> str:
        """As it is kept in a gallery."""
        return json.dumps([self.value, self.fpir, self.people, self.searches, self.left_out])

    @staticmethod
    def from_json(text: str) -> Shift | None:
        """Of a text that `to_json` made; None for "".

        Raises:
            DataError: the text is another.
        """
        if not text:
            return None
        try:
            value, fpir, people, searches, left_out = json.loads(text)
            return Shift(float(value), float(fpir), int(people), int(searches), int(left_out))
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError("the calibration in the gallery cannot be read; calibrate it again.") from error


@dataclass(frozen=True, slots=True)
class OpenSet:
    """A threshold for searches, and how it came about.

    Attributes:
        threshold: somebody is identified when the cosine, or the quality-aware score, reaches it; above 1, nobody is.
        by: what it is compared with, `cosine` or `quality`.
        fpir: share of searches for strangers that may identify somebody.
        people: who are searched.
        fmr: false match rate of one comparison that this takes.
        measured: lowest false match rate that the card measured.
        shift: of the gallery, that is in `threshold`; None where it comes from the card alone.
    """

    threshold: float
    by: By
    fpir: float
    people: int
    fmr: float
    measured: float
    shift: Shift | None = None

    @property
    def extrapolated(self) -> float:
        """Times that the false match rate lies below the lowest measured one; 1 where it does not."""
        return max(1.0, self.measured / self.fmr)

    @property
    def how(self) -> str:
        """How it came about, in a sentence.

        Example:
            >>> OpenSet(0.55, "cosine", 0.01, 4000, 2.5e-6, 1e-4).how
            'FPIR 0.01 of 4,000 people takes a false match rate of 2.5e-06, 40 times below what was measured:
            extrapolated.'
        """
        beyond = f", {self.extrapolated:,.0f} times below what was measured: extrapolated" if self.beyond else ""
        own = (
            f"; moved by {self.shift.value:+.3f} after {self.shift.searches:,} searches of the gallery itself"
            if self.shift
            else ""
        )
        people = f"{self.people:,} {'person' if self.people == 1 else 'people'}"
        return f"FPIR {self.fpir:g} of {people} takes a false match rate of {self.fmr:.2g}{beyond}{own}."

    @property
    def beyond(self) -> bool:
        """Whether it is extrapolated."""
        return self.extrapolated > 1 + 1e-6


def threshold(card: Card, fpir: float, people: int, by: By = "cosine", shift: Shift | None = None) -> OpenSet:
    """Threshold at a false positive identification rate in a gallery of so many people.

    Equation: FMR = 1 - (1 - FPIR)^(1/N)

    That is exact where the N comparisons of a search are independent of each other. They are not quite: strangers who
    resemble one person resemble others too, which makes the FPIR lower than stated. The threshold at that rate is
    `cosine_at` or `score_at`.

    Args:
        card: of the model.
        fpir: between 0 and 1, both excluded.
        people: who are searched; of an empty gallery, as of one person.
        by: `cosine`, or `quality` for the quality-aware score.
        shift: of `Gallery.calibrate`, added.

    Raises:
        DataError: `fpir` is out of range.
        ModelError: the card has no quality-aware score.

    Example:
        >>> from magface.models import card, default
        >>> model, _ = card.read(default.path())
        >>> [round(threshold(model, 0.01, people).threshold, 3) for people in (1, 100, 10_000)]
        [0.303, 0.441, 0.547]
    """
    if not 0 < fpir < 1:
        raise DataError(f"the false positive identification rate must lie between 0 and 1; {fpir:g} does not.")
    fmr = -math.expm1(math.log1p(-fpir) / max(people, 1))
    value = cosine_at(card, fmr) if by == "cosine" else score_at(card, fmr)
    measured = min(each.fmr for each in card.thresholds)
    return OpenSet(value + (shift.value if shift else 0.0), by, fpir, people, fmr, measured, shift)


def cosine_at(card: Card, fmr: float) -> float:
    """Cosine at a false match rate, measured or not.

    Equation: t(FMR) linear in the normal quantile z(1 - FMR), through the measured rates

    As the cosines of different people are nearly normally distributed, their quantiles lie nearly on a line. Between
    two measured rates it runs through both, beyond them through the two outermost. A card with a single rate gives a
    line through cosine 0 at FMR 0.5.

    Args:
        card: of the model.
        fmr: between 0 and 1, both excluded.
    """
    points = [(each.fmr, each.cosine) for each in card.thresholds]
    return _line(points if len(points) > 1 else [(0.5, 0.0), *points], fmr)


def score_at(card: Card, fmr: float) -> float:
    """Quality-aware score at a false match rate, measured or not.

    A score is never above its cosine, and is the cosine itself from `alpha / beta` on. So its threshold is never above
    that of the cosine, and the same from `alpha / beta` on; below, it is interpolated as in `cosine_at`.

    Args:
        card: of the model.
        fmr: between 0 and 1, both excluded.

    Raises:
        ModelError: the card has no quality-aware score.
    """
    if card.comparison is None:
        raise ModelError(f"{card.name} has no quality-aware score; search by cosine.")
    cosine = cosine_at(card, fmr)
    points = [(each.fmr, each.score) for each in card.comparison.thresholds]
    if cosine >= card.comparison.alpha / card.comparison.beta or len(points) < 2:
        return cosine
    return min(cosine, _line(points, fmr))


def _line(points: Sequence[tuple[float, float]], fmr: float) -> float:
    """Value at a rate, linear in its normal quantile between the two points around it, or the outermost two."""
    known = sorted({_quantile(rate): value for rate, value in points}.items())
    z = _quantile(fmr)
    after = min(max(next((i for i, (at, _) in enumerate(known) if at >= z), len(known)), 1), len(known) - 1)
    (z0, t0), (z1, t1) = known[after - 1], known[after]
    return t0 + (t1 - t0) * (z - z0) / (z1 - z0)


def _quantile(fmr: float) -> float:
    """Normal quantile of 1 - FMR, also where that rounds to 1."""
    return -_NORMAL.inv_cdf(fmr)
