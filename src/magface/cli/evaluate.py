"""`magface evaluate`: measure a model on a benchmark, or on a folder of people."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from magface import io
from magface.cli import options
from magface.errors import DataError, MagfaceError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.table import Table

    from magface.benchmarks.faces import Aligner
    from magface.benchmarks.result import Measure, Result
    from magface.data.face_set import FaceSet
    from magface.embedder import Embedder


class Arithmetic(StrEnum):
    """How the network calculates."""

    f32 = "f32"
    bf16 = "bf16"


class Protocol(StrEnum):
    """How pairs are compared."""

    single = "single"
    insightface = "insightface"
    magface_official = "magface-official"


class Missing(StrEnum):
    """What becomes of a pair that lacks an image."""

    exclude = "exclude"
    reject = "reject"


class Interval(StrEnum):
    """What is drawn again for an interval."""

    pairs = "pairs"
    people = "people"


class Threshold(StrEnum):
    """What becomes of the threshold when pairs are discarded."""

    fixed = "fixed"
    repicked = "repicked"


class Images(StrEnum):
    """What the images are."""

    crops = "crops"
    photos = "photos"


class Face(StrEnum):
    """Which face of a photo counts."""

    largest = "largest"
    central = "central"


class Printed(StrEnum):
    """How to print the result."""

    text = "text"
    json = "json"
    markdown = "markdown"
    latex = "latex"


@dataclass(frozen=True, slots=True)
class _Bench:
    """A benchmark of the package.

    Attributes:
        module: its file in `magface.benchmarks`.
        takes: options of the command that it takes.
        always: what it is given besides.
        opened: whether it takes a set of faces instead of a path.
    """

    module: str
    takes: frozenset[str]
    always: dict[str, Any] = field(default_factory=dict)
    opened: bool = False

    def evaluate(self, embedder: Embedder, data: Path, given: dict[str, Any]) -> Result:
        """Run it with the options that were given."""
        from magface.data import formats

        module = importlib.import_module(f"magface.benchmarks.{self.module}")
        if "features" in given:
            for option in ("cache", "flip"):
                if option in given:
                    raise DataError(f"--{option} is about images, and --features holds embeddings; leave one out.")
            del given["progress"]
            return module.evaluate_features(given.pop("features"), data, **self.always, **given)
        if "methods" in given:
            given["methods"] = _methods(given["methods"])
        faces = formats.read(data, given.pop("table", None)) if self.opened else None
        if "images" in self.takes:
            given["align"] = aligner(given.pop("images", None), given.pop("face", "largest"), faces)
        return module.evaluate(embedder, data if faces is None else faces, **self.always, **given)


_ALIGNED = frozenset({"images", "face", "cache"})
_PAIRS = _ALIGNED | {"pairs", "protocol", "missing", "interval"}
_DISCARD = frozenset({"fmr", "fnmr", "threshold", "rule", "methods", "beside"})
_VERIFICATION = ("lfw", "cfp-ff", "cfp-fp", "agedb-30", "calfw", "cplfw", "xqlfw")
_BENCHES = {
    "own": _Bench("own", _ALIGNED | {"interval", "seed"}, opened=True),
    **{name: _Bench("verification", _PAIRS, {"name": name}) for name in (*_VERIFICATION, "pairs")},
    "rfw": _Bench("rfw", _PAIRS - {"pairs"}),
    "ijbb": _Bench("ijb", frozenset({"flip", "detector_score", "features", "cache"}), {"subset": "IJBB"}),
    "ijbc": _Bench("ijb", frozenset({"flip", "detector_score", "features", "cache"}), {"subset": "IJBC"}),
    "megaface": _Bench("megaface", _ALIGNED | {"distractors", "noises", "seed"}),
    "tinyface": _Bench("tinyface", _ALIGNED),
    "templates": _Bench("templates", frozenset({"share", "seed", "cache"}), opened=True),
    "decisions": _Bench("decisions", _ALIGNED | {"share", "seed"}, opened=True),
    "clusters": _Bench("clusters", _ALIGNED | {"share", "seed"}, opened=True),
    "edc": _Bench("edc", _DISCARD | {"pairs", "interval", "degrade", "seed", "cache"}),
    "identifiability": _Bench(
        "identifiability",
        frozenset({"lowest", "table", "degrade", "methods", "beside", "seed", "cache"}),
        opened=True,
    ),
    "degradation": _Bench("degradation", frozenset({"methods", "beside", "seed"})),
    "groups": _Bench("groups", _ALIGNED | {"table"}),
    "toy": _Bench("toy", frozenset()),
}


def evaluate(
    context: typer.Context,
    bench: Annotated[str, typer.Argument(metavar="BENCH|FOLDER", help="What to measure, or a folder of people.")],
    data: Annotated[Path | None, typer.Argument(help="Where the data of the benchmark lie.")] = None,
    model: options.Model = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for result.json, table.md, table.tex, and plots: ROC, DET, error versus discard.",
        ),
    ] = None,
    images: Annotated[
        Images | None, typer.Option(help="Aligned 112x112 crops, or photos; a FOLDER is looked at if not given.")
    ] = None,
    face: Annotated[
        Face | None, typer.Option(help="The face of a photo that counts; the largest if not given.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Sets of pairs: list of pairs; looked for in and beside DATA if not given.")
    ] = None,
    protocol: Annotated[
        Protocol | None, typer.Option(help="Sets of pairs: how they are compared; single if not given.")
    ] = None,
    missing: Annotated[
        Missing | None,
        typer.Option(help="Sets of pairs: leave out a pair that lacks an image, or count it as rejected."),
    ] = None,
    interval: Annotated[
        Interval | None, typer.Option(help="FOLDER, sets of pairs, edc: intervals by drawing pairs, or people, again.")
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option(help="megaface: folder, feature file or .npy of the distractors.")
    ] = None,
    noises: Annotated[Path | None, typer.Option(help="megaface: folder of the lists of images to leave out.")] = None,
    features: Annotated[
        Path | None, typer.Option(help="ijbb, ijbc: feature file, or .npy in the order of the list.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="ijbb, ijbc: add the embedding of the mirrored crop.")] = False,
    detector_score: Annotated[
        bool, typer.Option("--detector-score", help="ijbb, ijbc: weigh images by the score of the detector besides.")
    ] = False,
    fmr: Annotated[
        list[float] | None,
        typer.Option(help="edc: false match rate that fixes the threshold; several are taken one after the other."),
    ] = None,
    fnmr: Annotated[
        float | None, typer.Option(help="edc: the error to start with, such as 0.05, instead of a false match rate.")
    ] = None,
    threshold: Annotated[
        Threshold | None, typer.Option(help="edc: fixed on all pairs, or picked again as pairs are discarded.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="edc: how two qualities become that of a pair: min (if not given), mean, ...")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="edc, identifiability, degradation: qualities to judge, with commas between, or all."),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="edc, identifiability, degradation: another model whose magnitude is judged, too."),
    ] = None,
    degrade: Annotated[
        int | None,
        typer.Option(min=0, help="edc, identifiability: degrade half of the images first, as this seed says."),
    ] = None,
    lowest: Annotated[
        float | None, typer.Option(help="identifiability: share of images of low magnitude; 0.1 if not given.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Only its images count. identifiability: as of data audit; groups: a column an attribute."),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="templates, decisions, clusters: share of the images to blur; 0.5, 0 and 0 if not given."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of what is drawn; 0 if not given.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder in which embeddings are kept.")] = None,
    engine: options.Engine = options.EngineChoice.auto,
    precision: Annotated[Arithmetic, typer.Option(help="bf16 is faster; publish f32.")] = Arithmetic.f32,
    form: Annotated[Printed, typer.Option("--format", help="How to print the result.")] = Printed.text,
) -> None:
    r"""Measure a model on a benchmark, or on your own folder of people.

    \b
      FOLDER         your own: pairs, searches and templates that a seed draws
      lfw cfp-ff cfp-fp agedb-30 calfw cplfw xqlfw
                     verification of listed pairs; DATA is a folder or .tar of
                     crops, or a verification .bin of insightface
      pairs          the same for any list of pairs
      rfw            four groups of people, verification in each
      ijbb ijbc      templates, 1:1 and 1:N; DATA holds meta and loose_crop
      megaface       FaceScrub probes in DATA against --distractors
      tinyface       probes in a gallery with distractors
      templates      do magnitudes weigh templates of blurred and clear images well?
      decisions      do a quality-aware score and thresholds by quality decide better
                     than the cosine? on pairs of faces and of templates
      clusters       does the magnitude help to group faces? five algorithms, on
                     directions alone and quality-aware
      edc            error versus discard, on --pairs or on pairs that a seed draws;
                     of the magnitude or of other --methods beside it
      identifiability
                     of images of low magnitude, which are hard and which tell
                     nothing, and which --methods see it; montages with -o
      degradation    does the magnitude fall while good faces are degraded, and other
                     --methods with it?
      groups         scores and false matches by gender, age and race, or by the
                     columns of --table
      toy            order of quality against an official feature list

    Embeddings are made once and kept under what made them; to score them again takes seconds.

    \b
    Examples:
      magface evaluate lfw lfw_aligned.tar --pairs pairs.txt --output lfw
      magface evaluate edc crops/ --methods magnitude,brightness --interval people
    """
    from magface.embedder import Embedder

    chosen, place = _chosen(bench, data)
    options_given = {
        "images": images,
        "face": face,
        "pairs": pairs,
        "protocol": protocol,
        "missing": missing,
        "interval": interval,
        "distractors": distractors,
        "noises": noises,
        "features": features,
        "flip": flip or None,
        "detector_score": detector_score or None,
        "fmr": fmr or None,
        "fnmr": fnmr,
        "threshold": threshold,
        "rule": rule,
        "methods": methods,
        "beside": beside or None,
        "degrade": degrade,
        "lowest": lowest,
        "table": table,
        "share": share,
        "seed": seed,
        "cache": cache,
    }
    given = _checked(chosen, {option: value for option, value in options_given.items() if value is not None})
    plots = False
    if out is not None:
        io.check_place(out / "result.json")
        plots = _plots()
    embedder = Embedder(model, engine=engine.value, precision=precision.value)
    with options.progress() as bar:
        given["progress"] = _Embedding(bar)
        result = _BENCHES[chosen].evaluate(embedder, place, given)
    if result.failures:
        image, reason = next(iter(result.failures.items()))
        about = reason if image in reason else f"{image} {reason}"
        options.say(f"{len(result.failures):,} images are missing; the first: {about}")
    known = result.model == embedder.fingerprint  # ready features may be of another model
    model_card = dataclasses.asdict(embedder.card) if known else None
    name = embedder.card.name if known else result.model[:12] or "unknown model"
    whole = {**result.as_dict(), "command": shlex.join(["magface", *context.obj]), "model_card": model_card}
    if out is not None:
        _write(out, name, result, whole, plots)
        if result.samples and plots:
            _montages(out, result, place, table, degrade)
    _print(name, result, whole, form)
    if result.failures:
        raise typer.Exit(1)


class _Embedding:
    """The progress of embedding; see `benchmarks.faces.Expecting`."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._total = bar, 0
        self._task = bar.add_task("Embedding", total=None, note="")

    def expect(self, images: int) -> None:
        self._total += images
        self._bar.update(self._task, total=self._total)

    def __call__(self, done: int) -> None:
        self._bar.advance(self._task, done)


def _chosen(bench: str, data: Path | None) -> tuple[str, Path]:
    """Name of the benchmark and where its data lie."""
    if data is None and Path(bench).exists():
        return "own", Path(bench)
    if bench not in _BENCHES:
        near = get_close_matches(bench, _BENCHES, 1)
        hint = f"did you mean {near[0]}?" if near else "see magface evaluate --help."
        raise DataError(f"there is no folder and no benchmark {bench}; {hint}")
    if data is None:
        raise DataError(f"{bench} needs its data: magface evaluate {bench} DATA.")
    return bench, data


def _checked(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, when the benchmark takes them all."""
    for option in given.keys() - _BENCHES[name].takes:
        takers = ", ".join(bench for bench, each in _BENCHES.items() if option in each.takes)
        raise DataError(f"--{option.replace('_', '-')} belongs to {takers}; leave it out.")
    return {option: value.value if isinstance(value, StrEnum) else value for option, value in given.items()}


def aligner(images: str | None, face: Literal["largest", "central"], faces: FaceSet | None) -> Aligner | None:
    """What makes crops of the images; None where they are crops."""
    from magface.aligner import Photos
    from magface.data.face_set import SIDE

    if images is None and faces is not None and _first_size(faces) != (SIDE, SIDE, 3):
        images = Images.photos
    return Photos(which=face) if images == Images.photos else None


def _methods(names: str) -> tuple[str, ...]:
    """Methods of quality that are named with commas between them."""
    from magface.benchmarks import methods

    return methods.NAMES if names == "all" else tuple(dict.fromkeys(name.strip() for name in names.split(",")))


def _first_size(faces: FaceSet) -> tuple[int, ...]:
    """Shape of the first image that can be read."""
    for index in range(len(faces)):
        with suppress(MagfaceError):
            return faces.image(index).shape
    return ()


def _write(out: Path, model: str, result: Result, whole: dict[str, Any], plots: bool) -> None:
    """Everything that a paper or a page takes of a result."""
    from magface.report import rows

    io.write_atomic(out / "result.json", json.dumps(whole, indent=2))
    io.write_atomic(out / "table.md", rows.markdown({model: result}, intervals=True))
    io.write_atomic(out / "table.tex", rows.latex({model: result}, intervals=True))
    if result.curves and plots:
        from magface.viz import curves, style

        title = f"{result.benchmark}: {model}"
        for name, draw in (("roc", curves.roc), ("det", curves.det)):
            style.save(draw(result.curves, title), out / name)
    if result.discards and plots:
        from magface.viz import discard, style

        title = f"{result.benchmark}: {model}"
        for name, some in discard.grouped(result.discards).items():
            style.save(discard.edc(some, title), out / name)
    if plots:
        from magface.cli.figures import figures
        from magface.viz import style

        for name, figure in figures(result, f"{result.benchmark}: {model}"):
            style.save(figure, out / name)


def _montages(out: Path, result: Result, data: Path, table: Path | None, degrade: int | None) -> None:
    """Pictures of the samples of each group; of a person's faces, so they belong on the user's disk alone."""
    from magface.data import formats
    from magface.data.degraded import degraded
    from magface.viz import montage, style

    faces = formats.read(data, table)
    faces = faces if degrade is None else degraded(faces, degrade)
    row = {name: number for number, name in enumerate(faces.names)}
    for group, samples in result.samples.items():
        images = [faces.image(row[sample.image]) for sample in samples]
        figure = montage.montage(images, [sample.caption for sample in samples], f"{result.benchmark}: {group}")
        style.save(figure, out / group.replace(" ", "-"))


def _plots() -> bool:
    """Whether there is what draws curves; says it where there is not."""
    found = find_spec("matplotlib") is not None
    if not found:
        options.say("no plots without matplotlib; pip install 'magface[plot]' for them.")
    return found


def _print(model: str, result: Result, whole: dict[str, Any], form: Printed) -> None:
    from magface.report import rows

    match form:
        case Printed.json:
            typer.echo(json.dumps(whole, indent=2))
        case Printed.markdown:
            typer.echo(rows.markdown({model: result}, intervals=True), nl=False)
        case Printed.latex:
            typer.echo(rows.latex({model: result}, intervals=True), nl=False)
        case Printed.text:
            from rich.console import Console

            Console().print(_table(result, model))


def _table(result: Result, model: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    counts = ", ".join(f"{count:,} {name}" for name, count in result.counts.items())
    about = f"{counts}\n{result.protocol}" if result.protocol else counts
    table = Table(
        title=f"{result.benchmark}: {model}" + (f" ({result.model[:12]})" if result.model else ""), caption=about
    )
    for name in ("measure", "value", "95 % interval", "note"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for part, measures in groupby(result.measures, lambda measure: measure.name.rpartition(": ")[0]):
        table.add_section()
        if part:
            table.add_row(f"[bold]{escape(part)}[/bold]")
        for measure in measures:
            table.add_row(measure.name.rpartition(": ")[2], *_numbers(measure), measure.note)
    return table


def _numbers(measure: Measure) -> tuple[str, str]:
    value = "-" if measure.value is None else f"{measure.value:.4f}"
    return value, "" if measure.interval is None else "{:.4f} to {:.4f}".format(*measure.interval)
