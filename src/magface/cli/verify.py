"""`magface verify`: are these two photos of one person?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options

if TYPE_CHECKING:
    from magface.recognizer import RecognizedFace, Verification

Number = Annotated[int | None, typer.Option(min=1, help="Which face, counted from the left; the largest if not given.")]


def verify(
    a: Annotated[Path, typer.Argument(help="A photo.")],
    b: Annotated[Path, typer.Argument(help="Another photo.")],
    fmr: Annotated[float, typer.Option(help="False match rate to decide at; one of the model's.")] = 1e-3,
    face_a: Number = None,
    face_b: Number = None,
    model: options.Model = None,
    detector: options.Detector = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Decide whether two photos show one person.

    Of several faces in a photo the largest is compared. The exit code is 0 for a match, 1 for no match, 2 where
    that cannot be decided: an unreadable photo, no face.

    \b
    Examples:
      magface verify passport.jpg door.jpg
      magface verify team.jpg anna.jpg --face-a 2 --fmr 1e-4
    """
    recognizer = options.recognizer(model, detector, engine)
    result = recognizer.verify(
        a, b, fmr=fmr, face_a=None if face_a is None else face_a - 1, face_b=None if face_b is None else face_b - 1
    )
    if form is options.Format.json:
        typer.echo(json.dumps(_facts(result, a, b), indent=2))
    else:
        typer.echo(_text(result, a, b, chosen=(face_a is not None, face_b is not None)))
    raise typer.Exit(0 if result.match else 1)


def _facts(result: Verification, a: Path, b: Path) -> dict[str, Any]:
    return {
        "match": result.match,
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


def _text(result: Verification, a: Path, b: Path, chosen: tuple[bool, bool]) -> str:
    threshold = result.threshold
    sign = ">=" if result.match else "<"
    lines = [
        f"{'match' if result.match else 'no match'}: cosine {result.cosine:.3f} {sign} {threshold.cosine:.3f}",
        f"  A  {_quality(result.a)}  {options.printable(str(a))}",
        f"  B  {_quality(result.b)}  {options.printable(str(b))}",
        f"Decided at a false match rate of {threshold.fmr:g}, "
        f"measured on {threshold.impostors:,} comparisons of different people.",
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
    return "\n".join(lines + _trust(result))


def _quality(face: RecognizedFace) -> str:
    return f"score {face.score:3.0f}, better than {face.percentile:3.0f} % of reference faces"


def _trust(result: Verification) -> list[str]:
    """What the worse of the two pictures means for the decision."""
    if not result.weak:
        return []
    side = "A" if result.a.score <= result.b.score else "B"
    meaning = "the match stands, but look yourself" if result.match else "it may be one person whom this picture hides"
    return [f"Caution: {side} is a weak picture (score {result.score:.0f}); {meaning}."]
