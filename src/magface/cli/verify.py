"""`magface verify`: are these two photos of one person?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options
from magface.errors import DataError

if TYPE_CHECKING:
    from magface.models.card import Card
    from magface.recognizer import RecognizedFace, Verification


class By(StrEnum):
    """What decides."""

    cosine = "cosine"
    band = "band"
    quality = "quality"


Number = Annotated[int | None, typer.Option(min=1, help="Which face, counted from the left; the largest if not given.")]


def verify(
    a: Annotated[Path, typer.Argument(help="A photo.")],
    b: Annotated[Path, typer.Argument(help="Another photo.")],
    fmr: Annotated[float, typer.Option(help="False match rate to decide at; one of the model's.")] = 1e-3,
    face_a: Number = None,
    face_b: Number = None,
    by: Annotated[
        By,
        typer.Option(
            help="What decides: the cosine at one threshold, or at that of the quality of the pair, "
            "or the quality-aware score."
        ),
    ] = By.cosine,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Decide whether two photos show one person.

    Of several faces in a photo the largest is compared. The exit code is 0 for a match, 1 for no match, 2 where
    that cannot be decided: an unreadable photo, no face.

    Where the card of the model tells, it also says how often a pair of one person is missed whose worse picture is as
    good as this one, and what the other ways of deciding would say; --by makes one of them count.

    \b
    Examples:
      magface verify passport.jpg door.jpg
      magface verify team.jpg anna.jpg --face-a 2 --fmr 1e-4
    """
    recognizer = options.recognizer(model, detector, engine)
    result = recognizer.verify(
        a, b, fmr=fmr, face_a=None if face_a is None else face_a - 1, face_b=None if face_b is None else face_b - 1
    )
    decisions = _decisions(result, recognizer.card)
    if by not in decisions:
        raise DataError(f"the model does not decide by {by} at FMR {fmr:g}; measure it with magface quality calibrate.")
    decision, missed = decisions[by], _missed(result, recognizer.card)
    if form is options.Format.json:
        facts = _facts(result, decision, a, b)
        facts |= {"decided_by": by, "decisions": {name: each.facts() for name, each in decisions.items()}}
        facts["expected_fnmr"] = None if missed is None else dataclasses.asdict(missed)
        typer.echo(json.dumps(facts, indent=2))
    else:
        lines = _lines(result, decision, a, b, chosen=(face_a is not None, face_b is not None))
        others = [f"By {each.way}: {each.line()}" for name, each in decisions.items() if name != by]
        typer.echo(
            "\n".join([*lines, *others, *([] if missed is None else [missed.line()]), *_trust(result, decision)])
        )
    raise typer.Exit(0 if decision.match else 1)


@dataclass(frozen=True, slots=True)
class _Decision:
    """A number that is compared with a threshold.

    Attributes:
        way: of deciding.
        what: the number is.
        value: of this pair.
        threshold: a match is not below it.
        impostors: comparisons of different people behind the threshold.
    """

    way: str
    what: str
    value: float
    threshold: float
    impostors: int

    @property
    def match(self) -> bool:
        return self.value >= self.threshold

    def facts(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in ("value", "threshold", "impostors")}, "match": self.match}

    def line(self) -> str:
        word, sign = ("match", ">=") if self.match else ("no match", "<")
        return f"{word}: {self.what} {self.value:.3f} {sign} {self.threshold:.3f}"


@dataclass(frozen=True, slots=True)
class _Missed:
    """How often a pair of one person of this quality is missed at the threshold of the model.

    Attributes:
        cosine: that threshold.
        rate: within [0, 1].
        pairs: of one person, behind the rate.
        interval: 95 % Wilson interval of the rate.
        below: the pair is worse than all that were measured.
    """

    cosine: float
    rate: float
    pairs: int
    interval: tuple[float, float]
    below: bool

    def line(self) -> str:
        low, high = (f"{100 * end:.1f}" for end in self.interval)
        rate = f"{'at least ' if self.below else ''}{100 * self.rate:.1f} %"
        return (
            f"At cosine {self.cosine:.3f} a pair of one person of this quality is missed in {rate} of cases "
            f"({round(self.rate * self.pairs):,} of {self.pairs:,} pairs; 95 % interval {low} to {high} %)."
        )


def _worse(result: Verification) -> float:
    return min(result.a.magnitude, result.b.magnitude)


def _decisions(result: Verification, card: Card) -> dict[str, _Decision]:
    """By what the model can decide at this false match rate."""
    import numpy as np

    from magface.models.card import at
    from magface.quality import bands, qmagface

    threshold, quality = result.threshold, _worse(result)
    found = {
        By.cosine.value: _Decision(
            "one threshold for all", "cosine", result.cosine, threshold.cosine, threshold.impostors
        )
    }
    band = at(card.bands, threshold.fmr)
    if band is not None:
        row = max(int(np.searchsorted(band.magnitude, quality, side="right")) - 1, 0)
        found[By.band.value] = _Decision(
            "the threshold for this quality",
            "cosine",
            result.cosine,
            float(bands.threshold(quality, band)),
            band.impostors[row],
        )
    comparison = card.comparison
    known = None if comparison is None else at(comparison.thresholds, threshold.fmr)
    if comparison is not None and known is not None:
        value = float(qmagface.score(result.cosine, quality, comparison))
        found[By.quality.value] = _Decision("the quality-aware score", "score", value, known.score, known.impostors)
    return found


def _missed(result: Verification, card: Card) -> _Missed | None:
    """What the card expects at its threshold, where it was measured at that one."""
    from magface.models.card import at
    from magface.quality import reliability

    found, quality = at(card.reliability, result.threshold.fmr), _worse(result)
    if found is None or found.cosine != result.threshold.cosine:
        return None
    rate, pairs = reliability.expected_fnmr(quality, found)
    return _Missed(found.cosine, rate, pairs, reliability.interval(rate, pairs), quality < found.magnitude[0])


def _facts(result: Verification, decision: _Decision, a: Path, b: Path) -> dict[str, Any]:
    return {
        "match": decision.match,
        "cosine": result.cosine,
        "threshold": result.threshold.cosine,
        "fmr": result.threshold.fmr,
        "impostors": result.threshold.impostors,
        "score": result.score,
        "weak": result.weak,
        "a": _side(a, result.a, result.faces_a),
        "b": _side(b, result.b, result.faces_b),
    }


def _side(photo: Path, face: RecognizedFace, faces: Sequence[RecognizedFace]) -> dict[str, Any]:
    return {
        "photo": str(photo),
        "face": faces.index(face) + 1,
        "faces": len(faces),
        "box": face.face.box.tolist(),
        "score": face.score,
        "percentile": face.percentile,
        "magnitude": face.magnitude,
    }


def _lines(result: Verification, decision: _Decision, a: Path, b: Path, chosen: tuple[bool, bool]) -> list[str]:
    lines = [
        decision.line(),
        f"  A  {_quality(result.a)}  {options.printable(str(a))}",
        f"  B  {_quality(result.b)}  {options.printable(str(b))}",
        f"Decided at a false match rate of {result.threshold.fmr:g}, "
        f"measured on {decision.impostors:,} comparisons of different people.",
    ]
    for side, face, faces, was_chosen in (
        ("A", result.a, result.faces_a, chosen[0]),
        ("B", result.b, result.faces_b, chosen[1]),
    ):
        if len(faces) > 1 and not was_chosen:
            lines.append(
                f"{len(faces)} faces in {side}: compared number {faces.index(face) + 1} from the left, the largest; "
                f"choose another with --face-{side.lower()}."
            )
    return lines


def _quality(face: RecognizedFace) -> str:
    return f"score {face.score:3.0f}, better than {face.percentile:3.0f} % of reference faces"


def _trust(result: Verification, decision: _Decision) -> list[str]:
    """What the worse of the two pictures means for the decision."""
    if not result.weak:
        return []
    side = "A" if result.a.score <= result.b.score else "B"
    meaning = (
        "the match stands, but look yourself" if decision.match else "it may be one person whom this picture hides"
    )
    return [f"Caution: {side} is a weak picture (score {result.score:.0f}); {meaning}."]
