"""When a search has found somebody: the threshold at a stated false positive identification rate (FPIR).

The more people a gallery holds, the likelier somebody in it resembles a stranger by chance. A search of N people makes
N comparisons, so the false match rate of each has to be about N times lower than the FPIR, and is mostly lower than any
that a model card has measured: the threshold is then extrapolated, and every threshold says how far.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from bisect import bisect_left
from collections.abc import Mapping
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
    """What the people of a gallery need, beside the card.

    Attributes:
        cosine: what is added to thresholds of the cosine.
        score: what is added to thresholds of the quality-aware score; 0 for a model without.
        fpir: the rate it was measured at.
        people: in the gallery at that time.
        searches: behind it, each for somebody who had been left out.
        passed: searches that found somebody so near that it may be the same person under another name, who was passed
            over.
    """

    cosine: float
    score: float
    fpir: float
    people: int
    searches: int
    passed: int = 0

    def to_json(self) -> str:
        """As it is kept in a gallery."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Shift:
        """Shift of a text that `to_json` made; none for "".

        Raises:
            DataError: the text is another.

        Example:
            >>> Shift.from_json(Shift(0.01, 0.0, 0.1, 100, 100).to_json()).cosine
            0.01
        """
        if not text:
            return NONE
        try:
            found = Shift(**json.loads(text))
            if all(math.isfinite(value) for value in dataclasses.astuple(found)):
                return found
        except (TypeError, ValueError, RecursionError):
            pass
        raise DataError("the calibration in the gallery cannot be read; calibrate it again.")


NONE = Shift(0.0, 0.0, 1.0, 0, 0)
"""Of a gallery that was not calibrated."""


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
        shift: of the gallery, which is in `threshold`.
    """

    threshold: float
    by: By
    fpir: float
    people: int
    fmr: float
    measured: float
    shift: Shift = NONE

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
        people = f"{self.people:,} {'person' if self.people == 1 else 'people'}"
        times = f"{self.extrapolated:,.0f}" if self.extrapolated < 1e9 else f"{self.extrapolated:.0e}"
        far = f", {times} times below what was measured: extrapolated" if self.beyond else ""
        own = f"; moved by {self.shift.searches:,} searches of the gallery itself" if self.shift.searches else ""
        return f"FPIR {self.fpir:g} of {people} takes a false match rate of {self.fmr:.2g}{far}{own}."

    @property
    def beyond(self) -> bool:
        """Whether it is extrapolated."""
        return self.extrapolated > 1 + 1e-6


def threshold(card: Card, fpir: float, people: int, by: By = "cosine", shift: Shift = NONE) -> OpenSet:
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
        shift: of `Gallery.calibrate`.

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
    fmr = max(-math.expm1(math.log1p(-fpir) / max(people, 1)), sys.float_info.min)
    value = cosine_at(card, fmr, shift) if by == "cosine" else score_at(card, fmr, shift)
    return OpenSet(value, by, fpir, people, fmr, min(each.fmr for each in card.thresholds), shift)


def cosine_at(card: Card, fmr: float, shift: Shift = NONE) -> float:
    """Cosine at a false match rate, measured or not.

    Equation: t(FMR) linear in the normal quantile z(1 - FMR), through the measured rates

    As the cosines of different people are nearly normally distributed, their quantiles lie nearly on a line. Between
    two measured rates it runs through both, beyond them through the two outermost. A card with a single rate gives a
    line through cosine 0 at FMR 0.5.

    Args:
        card: of the model.
        fmr: between 0 and 1, both excluded.
        shift: of `Gallery.calibrate`, added.
    """
    points = {each.fmr: each.cosine for each in card.thresholds}
    return _line(points if len(points) > 1 else {0.5: 0.0, **points}, fmr) + shift.cosine


def score_at(card: Card, fmr: float, shift: Shift = NONE) -> float:
    """Quality-aware score at a false match rate, measured or not.

    A score is never above its cosine, and is the cosine itself from `alpha / beta` on. So its threshold is never above
    that of the cosine, and the same from `alpha / beta` on; below, it is interpolated as in `cosine_at`. A card with
    fewer than two rates of the score gives that of the cosine, which is safe: it identifies fewer.

    Args:
        card: of the model.
        fmr: between 0 and 1, both excluded.
        shift: of `Gallery.calibrate`, added.

    Raises:
        ModelError: the card has no quality-aware score.
    """
    if card.comparison is None:
        raise ModelError(f"{card.name} has no quality-aware score; search by cosine.")
    cosine = cosine_at(card, fmr, shift)
    points = {each.fmr: each.score for each in card.comparison.thresholds}
    if cosine >= card.comparison.alpha / card.comparison.beta or len(points) < 2:
        return cosine
    return min(cosine, _line(points, fmr) + shift.score)


def _line(points: Mapping[float, float], fmr: float) -> float:
    """Value at a rate, linear in its normal quantile between the two rates around it, or through the outermost two."""
    known = sorted((_quantile(rate), value) for rate, value in points.items())
    z = _quantile(fmr)
    after = min(max(bisect_left(known, (z,)), 1), len(known) - 1)
    (z0, t0), (z1, t1) = known[after - 1 : after + 1] if len(known) > 1 else [(z - 1, known[0][1]), (z, known[0][1])]
    return t0 + (t1 - t0) * (z - z0) / (z1 - z0)


def _quantile(fmr: float) -> float:
    """Normal quantile of 1 - FMR, also where that rounds to 1."""
    return -_NORMAL.inv_cdf(fmr)
