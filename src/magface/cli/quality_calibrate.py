"""`magface quality calibrate`: what the magnitudes and cosines of a model mean, measured on your own faces."""

from __future__ import annotations

import dataclasses
import json
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options
from magface.cli.cards import Output, Table
from magface.cli.evaluate import Face, Images
from magface.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table as Rows

    from magface.data.face_set import FaceSet
    from magface.embedder import Embedder
    from magface.models.card import Card
    from magface.quality.fitting import Fitted
    from magface.types import Embeddings


class Part(StrEnum):
    """What a card says of faces."""

    scale = "scale"
    thresholds = "thresholds"
    reliability = "reliability"
    bands = "bands"
    comparison = "comparison"


_FIELDS = {
    Part.scale: ("magnitude_percentiles", "quality"),
    Part.thresholds: ("thresholds", "cluster_threshold"),
    Part.reliability: ("reliability",),
    Part.bands: ("bands",),
    Part.comparison: ("comparison",),
}


def calibrate(
    faces: Annotated[Path, typer.Argument(metavar="FOLDER", help="Faces: a folder for each person, or an archive.")],
    output: Output,
    model: options.Model = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Nobody knows who is on the images: only the scale is measured.")
    ] = False,
    images: Annotated[
        Images | None, typer.Option(help="Aligned 112x112 crops, or photos; the first is looked at if not given.")
    ] = None,
    face: Annotated[Face, typer.Option(help="The face of a photo that counts.")] = Face.largest,
    table: Table = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Recipe: measure on the people alone that it kept out of training.")
    ] = None,
    fmr: Annotated[
        list[float] | None,
        typer.Option(help="False match rate; repeat it for several. 0.01, 0.001, 0.0001 if not given."),
    ] = None,
    keep: Annotated[list[Part] | None, typer.Option(help="Leave a part of the card as it is; repeat it.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder in which embeddings are kept.")] = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Measure on your own faces what a model's magnitudes and cosines mean, and write the model with that card.

    The network stays as it is, and so does its fingerprint: embeddings from before still fit. Parts of the card:

    \b
      scale        percentiles, and the score of 0 to 100: the worst hundredth of the faces is below 20, a typical
                   one has 80
      thresholds   cosines at false match rates, over all pairs of different people
      reliability  how often a pair of one person is missed at each, by the magnitude of its worse picture
      bands        thresholds that hold the false match rate in each band of quality
      comparison   constants of the quality-aware score, where it helps on people who were left out

    Some hundred people with several pictures each are needed, as your cameras see them, and not those who trained the
    model. Without names, --unlabelled measures the scale and leaves the rest.

    \b
    Examples:
      magface quality calibrate people/ -o mine.onnx
      magface quality calibrate photos/ --unlabelled -o mine.onnx
      magface quality calibrate people.tar --model other.onnx --fmr 1e-3 --fmr 1e-5 --keep scale -o mine.onnx
    """
    from magface import io
    from magface.embedder import Embedder
    from magface.models import card, default

    kept = _kept(unlabelled, keep or [], fmr, table, held_out)
    io.check_place(output)
    content = card.content(default.path() if model is None else model)
    embedder = Embedder(model, engine=engine.value)
    found = _faces(faces, unlabelled, table, held_out)
    measured, embeddings = _embedded(embedder, found, images, face, cache)
    old = embedder.card
    fitted = _fitted(old, kept, unlabelled, fmr, embeddings, measured)
    new = _renewed(old, fitted, kept, _described(measured, faces, held_out))
    io.write_atomic(output, card.attach(content, new))
    if form is options.Format.json:
        typer.echo(json.dumps(_facts(output, old, new, fitted, measured), indent=2))
    else:
        _show(output, old, new, fitted)
    if measured.failures:
        image, reason = measured.failures[0]
        about = reason if image in reason else f"{image} {reason}"
        options.say(f"{len(measured.failures):,} images are missing; the first: {about}")
        raise typer.Exit(1)


def _kept(
    unlabelled: bool, keep: list[Part], fmr: list[float] | None, table: Path | None, held_out: Path | None
) -> set[Part]:
    """Parts that stay.

    Raises:
        DataError: the options do not fit each other.
    """
    kept = set(keep)
    for rate in fmr or ():
        if not 0 < rate < 1:
            raise DataError(f"a false match rate lies between 0 and 1; {rate:g} does not.")
    if unlabelled:
        if fmr or table or held_out or kept:
            raise DataError("--unlabelled measures the scale alone; leave out --fmr, --table, --held-out and --keep.")
        return set(Part) - {Part.scale}
    if kept == set(Part):
        raise DataError("--keep leaves nothing to measure; leave out the part that is to be measured.")
    if Part.thresholds in kept and fmr:
        raise DataError("--keep thresholds keeps their false match rates too; leave out --fmr.")
    if Part.reliability in kept and Part.thresholds not in kept:
        raise DataError("expected errors hold at the thresholds they were measured at; --keep thresholds too.")
    return kept


def _faces(folder: Path, unlabelled: bool, table: Path | None, held_out: Path | None) -> FaceSet:
    """Images that are not suspect, of the people that count.

    Raises:
        DataError: there is none.
    """
    from magface import aligner
    from magface.benchmarks.faces import known
    from magface.data import formats
    from magface.train import config

    if unlabelled:
        return aligner.find(folder)
    found = known(formats.read(folder, table))
    found = found[~found.suspect]
    if held_out is not None:
        recipe = config.load(held_out)
        _, found = found.split(recipe.data.validation, recipe.data.validation_seed)
    if not len(found):
        raise DataError(f"{folder} holds no face to measure on; look at --table and --held-out.")
    return found


def _embedded(
    embedder: Embedder, faces: FaceSet, images: Images | None, face: Face, cache: Path | None
) -> tuple[FaceSet, Embeddings]:
    from magface.benchmarks.faces import embed
    from magface.cli import evaluate

    align = evaluate.aligner(None if images is None else images.value, face.value, faces)
    with options.progress() as bar:
        task = bar.add_task("Embedding", total=len(faces), note="")
        return embed(embedder, faces, cache, lambda done: bar.advance(task, done), align=align)


def _fitted(
    old: Card, kept: set[Part], unlabelled: bool, fmr: list[float] | None, embeddings: Embeddings, faces: FaceSet
) -> Fitted:
    from magface.quality import calibration, fitting

    if unlabelled:
        return fitting.of_faces(embeddings)
    thresholds = old.thresholds if Part.thresholds in kept else ()
    rates = sorted(set(fmr or calibration.FMRS), reverse=True)
    return fitting.of_people(embeddings, faces.labels, fmrs=rates, thresholds=thresholds)


def _renewed(old: Card, fitted: Fitted, kept: set[Part], described: str) -> Card:
    """The card with what was measured, and whose faces that was."""
    left = {field for part in kept for field in _FIELDS[part]}
    fields = {name: value for name, value in fitted.fields.items() if name not in left}
    before = _populations(old.population)
    texts = {part: before.get(part, "") if part in kept else described for part in Part}
    return dataclasses.replace(old, **fields, population=_joined(texts))


def _populations(text: str) -> dict[str, str]:
    """Whose faces each part was measured on: lines of `_joined`, or one text for all."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        names, colon, faces = line.partition(": ")
        if not colon or not set(names.split(", ")) <= set(Part):
            return dict.fromkeys(Part, text)
        found |= dict.fromkeys(names.split(", "), faces)
    return found


def _joined(texts: dict[Part, str]) -> str:
    """The text where all parts have the same, else a line for each."""
    if len(set(texts.values())) == 1:
        return texts[Part.scale]
    lines = {text: ", ".join(part for part in Part if texts[part] == text) for text in texts.values() if text}
    return "\n".join(f"{parts}: {text}" for text, parts in lines.items())


def _described(faces: FaceSet, folder: Path, held_out: Path | None) -> str:
    from magface.cli import cards

    kept = f", kept out of training by {held_out.name}" if held_out is not None else ""
    return " ".join(f"{cards.population(faces, folder.resolve().name)}{kept}".split())


def _facts(output: Path, old: Card, new: Card, fitted: Fitted, faces: FaceSet) -> dict[str, Any]:
    before, after = (
        {field: fields[field] for part in Part for field in _FIELDS[part]}
        for fields in map(dataclasses.asdict, (old, new))
    )
    return {
        "output": str(output),
        "model": new.sha256,
        "faces": len(faces),
        "failures": len(faces.failures),
        "population": new.population,
        "before": before,
        "after": after,
        "notes": fitted.notes,
    }


def _show(output: Path, old: Card, new: Card, fitted: Fitted) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Rows

    console = Console()
    rows = Rows("", "before", "after", title=escape(new.name), caption=escape(new.population))
    columns = _summary(old), _summary(new)
    for name in dict.fromkeys([*columns[0], *columns[1]]):
        rows.add_row(name, *(column.get(name, "-") for column in columns))
    console.print(rows)
    if new.reliability:
        console.print(_errors(new))
    for part in Part:
        if part in fitted.notes:
            typer.echo(f"{part}: {fitted.notes[part]}")
    typer.echo(output)


def _summary(card: Card) -> dict[str, str]:
    comparison = card.comparison
    return {
        "magnitude of score 50": f"{card.quality.a0:.2f}",
        "median magnitude": f"{card.magnitude_percentiles[50]:.2f}",
        **{f"cosine at FMR {each.fmr:g}": f"{each.cosine:.4f}" for each in card.thresholds},
        "cosine of grouping": f"{card.cluster_threshold:.4f}",
        **{f"pairs of one person at FMR {each.fmr:g}": f"{sum(each.genuine):,}" for each in card.reliability},
        **{f"bands of quality at FMR {each.fmr:g}": f"{len(each.cosine)}" for each in card.bands},
        "alpha and beta": "-" if comparison is None else f"{comparison.alpha:.4f}, {comparison.beta:.4f}",
    }


def _errors(card: Card) -> Rows:
    """Expected errors at the threshold nearest to FMR 0.001."""
    from rich.table import Table as Rows

    from magface.quality import calibration, reliability

    found = min(card.reliability, key=lambda each: abs(math.log(each.fmr / 1e-3)))
    title = f"missed pairs of one person at FMR {found.fmr:g}, by the worse picture"
    rows = Rows("magnitude from", "score from", "missed", "of pairs", "95 % interval", title=title)
    for a, score in zip(found.magnitude, calibration.score(found.magnitude, card), strict=True):
        rate, pairs = reliability.expected_fnmr(a, found)
        low, high = reliability.interval(rate, pairs)
        rows.add_row(
            f"{a:.2f}", f"{score:.0f}", f"{100 * rate:.2f} %", f"{pairs:,}", f"{100 * low:.2f} to {100 * high:.2f} %"
        )
    return rows
