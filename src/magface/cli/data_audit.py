"""`magface data audit`: what is wrong with a set of faces."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from magface.cli import options, reading

if TYPE_CHECKING:
    from magface.data.audit import Audit
    from magface.data.face_set import FaceSet, Record
    from magface.types import Embeddings

SUSPECT = "suspect.tsv"
PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
_BINS = 20
_SHOWN = 10
_BAR = 50


def audit(
    data: Annotated[Path, typer.Argument(help="Set of 112x112 crops of any form; its content tells which.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for tables of what is found.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Tab-separated list of the images of DATA: path, identity, source, suspect.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that the paths of a list start from; that of the list if not given.")
    ] = None,
    copy: Annotated[
        float, typer.Option(min=-1, max=1, help="Cosine from which two images are copies of one, or of one moment.")
    ] = 0.92,
    far: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Cosine to the rest of its person below which an image is an outlier; the model's threshold at its "
            "highest false match rate if not given.",
        ),
    ] = None,
    agree: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Cosine from which two people are likely one; if not given, one that a pair of different people of "
            "DATA is unlikely to reach.",
        ),
    ] = None,
    model: options.Model = None,
    cache: Annotated[Path | None, typer.Option(help="Folder in which embeddings are kept.")] = None,
    engine: options.Engine = options.EngineChoice.auto,
    form: options.Output = options.Format.text,
) -> None:
    r"""Look for what is wrong with a set of faces: copies, wrong labels, one person under two names.

    \b
    exact copies   images of the same content
    near copies    images of a cosine of at least --copy
    outliers       images that are far from the rest of their person, copies left out, or nearer to another
    same person    pairs of people whose images agree so well that they are likely one
    magnitude      how the quality of the images is spread

    With -o FOLDER, suspect.tsv lists all images with the outliers marked, as training takes it with --table;
    duplicates.tsv and same_person.tsv list the pairs. Nothing of DATA is changed: look at what is found.

    \b
    Examples:
      magface data audit people/
      magface data audit people/ -o audit && magface train recipe.toml --data people/ --table audit/suspect.tsv -o run
    """
    from magface import io
    from magface.benchmarks.faces import embed
    from magface.data import audit as audits
    from magface.data import formats
    from magface.embedder import Embedder

    given = formats.read(data, table, root)
    if output is not None:
        io.check_place(output / SUSPECT)
    embedder = Embedder(model, engine=engine.value)
    with options.progress() as bar:
        task = bar.add_task("Embedding", total=len(given), note="")
        faces, embeddings = embed(embedder, given, cache, lambda done: bar.advance(task, done))
    cosines = [threshold.cosine for threshold in embedder.card.thresholds]
    far = min(cosines) if far is None else far
    found = audits.audit(
        embeddings.vectors, faces.labels, faces.digests, far=far, sure=max(cosines), copy=copy, agree=agree
    )
    facts = {
        "output": None if output is None else str(output),
        "images": len(faces),
        "people": len(faces.people),
        "thresholds": {"copy": copy, "far": far, "agree": round(found.agree, 4)},
        **_facts(faces, embeddings, found),
        "magnitude": _magnitudes(embeddings),
        "unreadable": list(faces.failures),
    }
    if output is not None:
        _write(output, data, faces, embeddings, found, facts)
    if form is options.Format.json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _tell(facts)
    reading.fail_set(faces.failures, len(faces))


def _facts(faces: FaceSet, embeddings: Embeddings, found: Audit) -> dict[str, Any]:
    """What is found, by names."""
    import numpy as np

    names, people, person = faces.names, faces.people, faces.labels.tolist()
    images = np.bincount(faces.labels).tolist()
    wrong = np.flatnonzero(found.wrong)
    near, same = found.near, found.same
    return {
        "exact_copies": [[names[row] for row in rows] for rows in found.exact],
        "near_copies": [
            {"first": names[a], "second": names[b], "cosine": round(cosine, 4), "same_person": person[a] == person[b]}
            for a, b, cosine in zip(near.first.tolist(), near.second.tolist(), near.cosine.tolist(), strict=True)
        ],
        "near_copies_total": near.total,
        "outliers": [
            {"name": names[row], "person": people[person[row]], "images": images[person[row]]}
            | _standing(faces, embeddings, found, row)
            for row in wrong[np.argsort(found.own[wrong], kind="stable")].tolist()
        ],
        "same_person": [
            {"first": people[a], "second": people[b], "cosine": round(cosine, 4), "images": [images[a], images[b]]}
            for a, b, cosine in zip(same.first.tolist(), same.second.tolist(), same.cosine.tolist(), strict=True)
        ],
        "same_person_total": same.total,
        "one_image": [name for name, count in zip(people, images, strict=True) if count == 1],
    }


def _standing(faces: FaceSet, embeddings: Embeddings, found: Audit, row: int) -> dict[str, Any]:
    """How an image stands to its own person and to the nearest other one; None where there is nobody."""
    own, other, nearest = float(found.own[row]), float(found.other[row]), int(found.nearest[row])
    return {
        "own": None if math.isnan(own) else round(own, 4),
        "other": None if math.isnan(other) else round(other, 4),
        "nearest": None if nearest < 0 else faces.people[nearest],
        "magnitude": round(float(embeddings.magnitude[row]), 4),
    }


def _magnitudes(embeddings: Embeddings) -> dict[str, Any]:
    import numpy as np

    a = embeddings.magnitude.astype(np.float64)
    counts, edges = np.histogram(a, _BINS)
    percentiles = zip(PERCENTILES, np.percentile(a, PERCENTILES).round(4).tolist(), strict=True)
    return {
        "percentiles": {str(share): value for share, value in percentiles},
        "edges": edges.round(4).tolist(),
        "counts": counts.tolist(),
    }


def _write(
    output: Path, data: Path, faces: FaceSet, embeddings: Embeddings, found: Audit, facts: dict[str, Any]
) -> None:
    """Write the tables; that of all images in the form that training takes, with what speaks for and against each."""
    from magface.data import table as tables

    def row(index: int, record: Record) -> list[object]:
        labels = [record.person, record.source, int(record.suspect or found.wrong[index]), record.name]
        standing = _standing(faces, embeddings, found, index).values()
        return [_path(data, faces, index), *labels, *("" if value is None else value for value in standing)]

    titles = (*tables.TITLES, "own", "other", "nearest", "magnitude")
    tables.write_rows(output / SUSPECT, titles, (row(*each) for each in enumerate(faces.records())))
    exact = [
        ("exact", faces.names[rows[0]], faces.names[other], 1.0, bool(faces.labels[rows[0]] == faces.labels[other]))
        for rows in found.exact
        for other in rows[1:]
    ]
    near = (("near", *pair.values()) for pair in facts["near_copies"])
    tables.write_rows(output / "duplicates.tsv", ("kind", "first", "second", "cosine", "same_person"), [*exact, *near])
    same = ((pair["first"], pair["second"], pair["cosine"], *pair["images"]) for pair in facts["same_person"])
    tables.write_rows(
        output / "same_person.tsv", ("first", "second", "cosine", "images_of_first", "images_of_second"), same
    )


def _path(data: Path, faces: FaceSet, row: int) -> str:
    """What a table of the set calls an image: its file below the folder, which may have another name in the set."""
    from magface.data.face_set import Stretch

    place = faces.places[row]
    if isinstance(place, Stretch) and place.size < 0 and data.is_dir() and place.file.is_relative_to(data):
        return place.file.relative_to(data).as_posix()
    return faces.names[row]


def _tell(facts: dict[str, Any]) -> None:
    limits = facts["thresholds"]
    say = typer.echo
    say(f"{facts['images']:,} images of {facts['people']:,} people")
    _list(f"{len(facts['exact_copies']):,} groups of exact copies", map(" = ".join, facts["exact_copies"]))
    _list(
        f"{facts['near_copies_total']:,} pairs of near copies, cosine >= {limits['copy']:.3f}",
        (
            f"{pair['cosine']:.3f}  {pair['first']}  {pair['second']}"
            + ("" if pair["same_person"] else "  (of two people)")
            for pair in facts["near_copies"]
        ),
    )
    _list(
        f"{len(facts['outliers']):,} outliers, cosine to the rest of their person < {limits['far']:.3f}, or another is "
        f"nearer and >= {limits['agree']:.3f}",
        (
            f"{image['own']:.3f}  {image['name']}"
            + f"  ({image['other']:.3f} {image['nearest']})" * bool(image["nearest"])
            for image in facts["outliers"]
        ),
    )
    _list(
        f"{facts['same_person_total']:,} pairs of people who are likely one, cosine >= {limits['agree']:.3f}",
        (f"{pair['cosine']:.3f}  {pair['first']}  {pair['second']}" for pair in facts["same_person"]),
    )
    say(f"{len(facts['one_image']):,} people with one image")
    say(f"{len(facts['unreadable']):,} images that cannot be read")
    say("magnitude")
    edges, counts = facts["magnitude"]["edges"], facts["magnitude"]["counts"]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        say(f"  {low:7.2f} to {high:7.2f}  {count:>9,}  {'#' * math.ceil(_BAR * count / max(counts))}")
    say("  " + ", ".join(f"{share} %: {value:.2f}" for share, value in facts["magnitude"]["percentiles"].items()))
    if facts["output"]:
        say(f"All of it in {facts['output']}")


def _list(title: str, lines: Iterable[str]) -> None:
    """A title and the first lines; what is left out is in the tables and in JSON."""
    lines = list(lines)
    typer.echo(title)
    for line in lines[:_SHOWN]:
        typer.echo(f"  {options.printable(line)}")
    if len(lines) > _SHOWN:
        typer.echo(f"  ... and {len(lines) - _SHOWN:,} more")
