"""Write the tables of docs/benchmarks.md, docs/quality.md and docs/clusters.md from the results in docs/results.

A result is what `magface evaluate ... --format json` printed, in a file `SET.MODEL.json`.

Examples:
    python benchmarks/tables.py                                     write the tables
    python benchmarks/tables.py --measure DATA --sface sface.onnx   measure both models first,
                                                                    and note it in the card of the shipped one
    python benchmarks/tables.py --measure DATA --sface sface.onnx --crfiqa crfiqa.onnx --quality
                                                                    measure what docs/quality.md needs, for hours
    python benchmarks/tables.py --measure DATA --clusters           measure what docs/clusters.md needs, for an hour

DATA is a folder with lfw_aligned.tar, lfw_pairs.txt, album_raw.tar, rof_dev.tar and the folder magface_toy; for
docs/quality.md also with train.tar, train.tsv and utkface_balanced.tar. crfiqa.onnx is made by
recipes/crfiqa-sface.toml.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from magface import io
from magface.data import formats, table
from magface.models import card, default
from magface.models.card import Benchmark

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
QUALITY, CLUSTERS = DOCS / "quality.md", DOCS / "clusters.md"
RESULTS = DOCS / "results"
BLOCK = re.compile(r"(?s)(?<=<!-- tables:begin -->\n).*(?=<!-- tables:end -->)")
NAMED = re.compile(
    r"(?s)(?P<begin><!-- (?P<block>rivals|degraded|decisions|hard|groups|grouped|centres):begin -->\n)"
    r"(?P<text>.*?)(?P<end><!-- (?P=block):end -->)"
)

BOTH, SHIPPED = ("sface", "magface-sface"), ("magface-sface",)
LFW = "lfw {data}/lfw_aligned.tar --pairs {data}/lfw_pairs.txt"
SETS = {
    "lfw": ("LFW, the official 6,000 pairs", LFW, BOTH),
    "lfw-insightface": (
        "LFW as insightface's script compares: mirrored crop added",
        f"{LFW} --protocol insightface",
        SHIPPED,
    ),
    "lfw-magface-official": (
        "LFW as MagFace's script compares: mean of the other folds removed",
        f"{LFW} --protocol magface-official",
        SHIPPED,
    ),
    "lfw-own": ("LFW as a folder of one's own: pairs, searches, templates", "{data}/lfw_aligned.tar", SHIPPED),
    "album": ("An album of 60 people: photos, not crops", "{data}/album_raw.tar", SHIPPED),
    "templates": ("Templates of LFW crops, half of them blurred", "templates {data}/lfw_aligned.tar", BOTH),
    "rof_dev": ("Real-world Occluded Faces, people not in the training data", "edc {data}/rof_dev.tar", BOTH),
    "toy": ("Order of quality beside the official model", "toy {data}/magface_toy", BOTH),
    "degradation": ("Magnitude while faces are degraded", "degradation {data}/lfw_aligned.tar", BOTH),
}
"""Title, arguments of `magface evaluate`, and the models that are measured."""

ALL = "--methods all --beside {sface} --beside {crfiqa}"
TRAINED = "{data}/train.tar --table"
RIVALS = {
    "rivals-lfw": ("LFW", f"edc {{data}}/lfw_aligned.tar {ALL} --interval people"),
    "rivals-rof_dev": ("ROF", f"edc {{data}}/rof_dev.tar {ALL} --interval people"),
    "rivals-degraded": ("LFW, half degraded", f"edc {{data}}/lfw_aligned.tar --degrade 0 {ALL} --interval people"),
}
"""Title and arguments of `magface evaluate`, for the shipped model; every quality on the same pairs."""
HARD = {
    "hard-train": ("CelebA and ROF, to train", f"identifiability {TRAINED} {{data}}/train.tsv {ALL}"),
    "hard-held": ("its people kept out of training", f"identifiability {TRAINED} {{held}} {ALL}"),
    "hard-rof_dev": ("ROF", f"identifiability {{data}}/rof_dev.tar {ALL}"),
    "hard-degraded": ("LFW, half degraded", f"identifiability {{data}}/lfw_aligned.tar --degrade 0 {ALL}"),
}
"""The same, for hard and unidentifiable faces."""
AMONG = (
    ("hard-train", "lowest 10 %"),
    ("hard-held", "lowest 10 %"),
    ("hard-rof_dev", "lowest 10 %"),
    ("hard-degraded", "all images"),
    ("hard-train", "equal magnitude"),
    ("hard-rof_dev", "equal magnitude"),
)
"""What the table of areas shows of each."""
DECISIONS = {
    "decisions-lfw": ("LFW", "decisions {data}/lfw_aligned.tar"),
    "decisions-rof_dev": ("ROF", "decisions {data}/rof_dev.tar"),
    "decisions-blurred": ("LFW, half blurred", "decisions {data}/lfw_aligned.tar --share 0.5"),
}
"""The same, for decisions with quality; of both models."""
STUDIED = {"degradation-rivals": ("LFW", "degradation {data}/lfw_aligned.tar --methods all --beside {sface}")}
"""The same, for faces that are degraded step by step."""
GROUPED = {"groups": ("UTKFace", "groups {data}/utkface_balanced.tar")}
"""The same, for groups of people; of both models."""
QUALITIES = RIVALS | STUDIED | HARD | DECISIONS | GROUPED
CLUSTERED = {
    "clusters-lfw": ("LFW", "clusters {data}/lfw_aligned.tar"),
    "clusters-blurred": ("LFW, half blurred", "clusters {data}/lfw_aligned.tar --share 0.5"),
    "clusters-rof_dev": ("ROF", "clusters {data}/rof_dev.tar"),
    "clusters-rof_blurred": ("ROF, half blurred", "clusters {data}/rof_dev.tar --share 0.5"),
    "clusters-album": ("album", "clusters {data}/album_raw.tar --images photos --face central"),
}
"""The same, for groups of faces."""
AWARE = ("magnitude", "poor faces last")
"""Quality-aware ways of grouping."""
SHARE, START = "30 %", "FMR 0.001"
DISCARDED = 0.5
"""Share of pairs up to which curves are kept."""
DRAWN = ("ideal", "magnitude", "crfiqa-sface", "sface", "SER-FIQ", "perturbation", "BRISQUE", "sharpness (Laplacian)")
"""Qualities whose curves are kept; the table has them all."""

CARDED = {
    "lfw": {
        "accuracy": "LFW accuracy",
        "TAR@FMR=0.001": "LFW TAR at FMR 1e-3",
        "EDC efficiency": "LFW EDC efficiency",
    },
    "rof_dev": {"TAR@FMR=0.001": "ROF TAR at FMR 1e-3", "EDC efficiency": "ROF EDC efficiency"},
    "toy": {"Spearman": "Spearman with the official magnitudes, 10 faces"},
    "degradation": {"falling steps, all": "steps of degradation at which the magnitude falls"},
}
"""Measures that the card of the shipped model holds, and their names there."""

MODELS = {"sface": "untouched SFace", "magface-sface": "shipped model"}


PLACES = {"data": "DATA", "sface": "sface.onnx", "crfiqa": "crfiqa.onnx", "held": "held-out.tsv"}
"""What the documents call the files."""


def arguments(name: str, model: str, places: Mapping[str, str]) -> list[str]:
    """Arguments of `magface` that give a result."""
    what = (SETS | QUALITIES | CLUSTERED)[name][1]
    chosen = ["--model", places["sface"]] if model == "sface" else []
    return ["evaluate", *what.format(**places).split(), *chosen, "--format", "json"]


def measure(names: Iterable[tuple[str, str]], places: Mapping[str, str]) -> None:
    """Measure models on sets."""
    RESULTS.mkdir(exist_ok=True)
    for name, model in names:
        command = [sys.executable, "-m", "magface.cli.main", *arguments(name, model, places)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        if done.returncode not in (0, 1):  # 1 where images are missing, which the result names
            done.check_returncode()
        keep(name, model, json.loads(done.stdout))


def keep(name: str, model: str, result: Mapping[str, Any]) -> None:
    """Write what the documents show of a result; names of images are not in it, except those that failed."""
    kept = {field: result[field] for field in ("benchmark", "model", "measures", "counts", "failures", "protocol")}
    curves = {each: thinned(curve) for each, curve in result["discards"].items() if shown(each, curve)}
    text = json.dumps(kept, indent=2)
    if name in RIVALS:
        text = f'{text[:-2]},\n  "discards": {json.dumps(curves)}\n}}'
    (RESULTS / f"{name}.{model}.json").write_text(text + "\n", encoding="utf-8")


def shown(name: str, curve: Mapping[str, Any]) -> bool:
    """Whether the documents draw a curve."""
    drawn = name.removesuffix(f" at {START}") in DRAWN
    return drawn and curve["kind"] == "FNMR" and curve["start"].startswith(f"{START},")


def thinned(curve: Mapping[str, Any]) -> dict[str, Any]:
    """A curve as far as it is drawn, without its band."""
    steps = sum(each <= DISCARDED for each in curve["discarded"])
    discarded, error = ([round(each, 6) for each in curve[field][:steps]] for field in ("discarded", "error"))
    return {**curve, "discarded": discarded, "error": error, "band": []}


def held_out(data: Path, path: Path) -> None:
    """Write a table of the images of the people whom the recipe of the shipped model kept out of training."""
    rows = table.read(data / "train.tsv")
    _, held = formats.read(data / "train.tar", data / "train.tsv").split(0.1, seed=2)
    titles = list(next(iter(rows.values())))
    table.write_rows(path, titles, ([rows[name][title] for title in titles] for name in held.names))


def write_card() -> None:
    """Put the results of the shipped model into its card; its fingerprint stays."""
    path, shipped = default.path(), "magface-sface"
    measured = []
    for name, wanted in CARDED.items():
        values = {each["name"]: each["value"] for each in results()[name][shipped]["measures"]}
        command = f"magface {' '.join(arguments(name, shipped, PLACES))}"
        measured += [Benchmark(title, round(values[each], 4), "", command) for each, title in wanted.items()]
    found, _ = card.read(path)
    io.write_atomic(path, card.attach(path.read_bytes(), dataclasses.replace(found, benchmarks=tuple(measured))))


def results() -> dict[str, dict[str, Any]]:
    """Results by set and model."""
    found: dict[str, dict[str, Any]] = {name: {} for name in [*SETS, *QUALITIES, *CLUSTERED]}
    for path in sorted(RESULTS.glob("*.json")):
        name, model = path.stem.split(".")
        found[name][model] = json.loads(path.read_text(encoding="utf-8"))
    return found


def block() -> str:
    """Everything between the marks of the page."""
    found = results()
    return "\n".join(section(name, found[name]) for name in SETS if found[name])


def section(name: str, found: dict[str, Any]) -> str:
    """Title, commands and table of one set."""
    models = [model for model in MODELS if model in found]
    first = found[models[0]]
    commands = [
        f"magface {' '.join(arguments(name, model, PLACES))} > docs/results/{name}.{model}.json" for model in models
    ]
    numbers = {model: {each["name"]: each for each in found[model]["measures"]} for model in models}
    heads = [f"{MODELS[model]} ({found[model]['model'][:12]})" for model in models]
    names = list(dict.fromkeys(measure for model in models for measure in numbers[model]))
    told = [name for name in names if any(numbers[model].get(name, {}).get("value") is not None for model in models)]
    rows = [f"| {each} | {' | '.join(number(numbers[model].get(each)) for model in models)} |" for each in told]
    untold = [each for each in names if each not in told]
    return "\n".join(
        [
            f"### {SETS[name][0]}",
            "",
            ", ".join(f"{count:,} {what}" for what, count in first["counts"].items()) + ".",
            *(["", f"Protocol: {first['protocol']}."] if first["protocol"] else []),
            "",
            f"| measure | {' | '.join(heads)} |",
            f"| --- |{' ---: |' * len(models)}",
            *rows,
            "",
            *([f"Too few comparisons for {', '.join(untold)}.", ""] if untold else []),
            "```",
            *commands,
            "```",
            "",
        ]
    )


def number(measure: dict[str, Any] | None) -> str:
    """A value with its 95 % interval."""
    if measure is None or measure["value"] is None:
        return "–"
    interval = measure["interval"]
    return f"{measure['value']:.4f}" + ("" if interval is None else " ({:.4f} to {:.4f})".format(*interval))


def blocks() -> dict[str, str]:
    """What stands between the marks of docs/quality.md and docs/clusters.md, by the name of the marks."""
    every = results()
    found = {name: models["magface-sface"] for name, models in every.items() if "magface-sface" in models}
    return {
        "rivals": rivals({name: found[name] for name in RIVALS if name in found}),
        "hard": hard({name: found[name] for name in HARD if name in found}),
        "decisions": "\n".join(
            decisions(model, {name: every[name][model] for name in DECISIONS if model in every[name]})
            for model in reversed(MODELS)
        ),
        "degraded": degraded(found["degradation-rivals"]),
        "groups": groups(every["groups"]),
        "grouped": grouped({name: found[name] for name in CLUSTERED if name in found}),
        "centres": centres({name: found[name] for name in CLUSTERED if name in found}),
    }


def values(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Measures of a result by name."""
    return {each["name"]: each for each in result["measures"]}


def rivals(found: Mapping[str, Any]) -> str:
    """Mean error of every quality up to 30 % discarded, and how much of the error at the start more than magnitude."""
    area, more = f": pAUC {SHARE} at {START}", f": r {SHARE} minus that of magnitude at {START}"
    measures = {name: values(result) for name, result in found.items()}
    methods = list(
        dict.fromkeys(each.removesuffix(area) for some in measures.values() for each in some if area in each)
    )
    lowest = {name: min(some[f"{method}{area}"]["value"] for method in methods) for name, some in measures.items()}
    rows = []
    for method in methods:
        cells = []
        for name, some in measures.items():
            value = some[f"{method}{area}"]["value"]
            text = f"**{100 * value:.3f}**" if value == lowest[name] else f"{100 * value:.3f}"
            other = some.get(f"{method}{more}")
            cells.append(f"{text} | {difference(other)}")
        rows.append(f"| {method} | {' | '.join(cells)} |")
    heads = [f"{RIVALS[name][0]}: pAUC (%) | more than magnitude" for name in found]
    counts = [
        f"- {RIVALS[name][0]}: {result['counts']['genuine pairs']:,} genuine pairs of "
        f"{result['counts']['images']:,} images, {100 * error(result):.3f} % of them wrong; "
        f"the best order would come to {100 * ideal(result):.3f} %."
        for name, result in found.items()
    ]
    return page(heads, "quality", rows, counts, found)


def error(result: Mapping[str, Any]) -> float:
    """FNMR of all pairs."""
    return float(next(iter(result["discards"].values()))["error"][0])


def ideal(result: Mapping[str, Any]) -> float:
    """Mean FNMR up to 30 % of the best order."""
    r, share = (values(result)[f"magnitude: {what} {SHARE} at {START}"]["value"] for what in ("r", "efficiency"))
    return error(result) * (1 - (1 - r) / float(share))


def difference(measure: Mapping[str, Any] | None) -> str:
    """A difference with its interval, shorter."""
    if measure is None or measure["value"] is None:
        return "–"
    ends = " ({:+.2f} to {:+.2f})".format(*measure["interval"]) if measure["interval"] else ""
    return f"{measure['value']:+.2f}{ends}"


def hard(found: Mapping[str, Any]) -> str:
    """Shares of hard and unidentifiable faces, and what tells them apart."""
    measures = {name: values(result) for name, result in found.items()}
    shares = [each for each in next(iter(measures.values()), {}) if not each.startswith("AUC")]
    rows = [f"| {each} | {' | '.join(counted(some[each]) for some in measures.values())} |" for each in shares]
    counts = [
        f"- {HARD[name][0]}: {result['counts']['images']:,} images of {result['counts']['people']:,} people, "
        f"{result['counts']['images of lowest magnitude']:,} of lowest magnitude."
        for name, result in found.items()
    ]
    columns = [(name, among) for name, among in AMONG if name in found]
    names = dict.fromkeys(each.partition(": ")[2] for name, _ in columns for each in measures[name] if "AUC" in each)
    areas = [
        f"| {each} | {' | '.join(short(measures[name].get(f'AUC, {among}: {each}')) for name, among in columns)} |"
        for each in names
    ]
    return "\n".join(
        [
            page([HARD[name][0] for name in found], "share of images", rows, counts, {}),
            page([f"{HARD[name][0]}: {among}" for name, among in columns], "AUC", areas, [], found),
        ]
    )


def decisions(model: str, found: Mapping[str, Any]) -> str:
    """FNMR of the cosine, what the ways with quality change of it, and where false matches gather."""
    end, gather = ": FNMR@FMR=0.001", ": highest FMR of a fifth of quality, at FMR=0.001"
    measures = {name: values(result) for name, result in found.items()}
    rows = []
    for part, first in (("pairs", "cosine"), ("templates", "mean"), ("gallery", "mean")):
        names = dict.fromkeys(each for some in measures.values() for each in some if each.startswith(f"{part}: "))
        for name in names:
            if name == f"{part}: {first}{end}":
                row, shown = f"{part}: FNMR of {first}", rated
            elif name.endswith(f" minus {first}{end}"):
                row, shown = f"{part}: {name.removeprefix(f'{part}: ').removesuffix(f' minus {first}{end}')}", changed
            elif name.endswith(gather) and part == "pairs":
                row, shown = f"{name.removesuffix(gather)}, highest FMR of a fifth of quality", rated
            else:
                continue
            rows.append(f"| {row} | {' | '.join(shown(some.get(name)) for some in measures.values())} |")
    return page([DECISIONS[name][0] for name in found], f"{MODELS[model]}, in % at FMR 0.1 %", rows, [], found, model)


def degraded(result: Mapping[str, Any]) -> str:
    """How often every quality falls with the damage, and how well it is in order, the best first."""
    falls, order = "falling steps, all", "Spearman, all"
    measures = values(result)
    names = [each.removesuffix(falls) for each in measures if each.endswith(falls)]
    names.sort(key=lambda name: measures[f"{name}{order}"]["value"])
    rows = [
        f"| {name.removesuffix(': ') or 'magnitude'} | {measures[f'{name}{falls}']['value']:.3f} "
        f"| {measures[f'{name}{order}']['value']:+.2f} |"
        for name in names
    ]
    heads = ["steps at which it falls", "Spearman with the strength"]
    return page(heads, "quality", rows, [], STUDIED)


def groups(found: Mapping[str, Any]) -> str:
    """Scores of every group of one attribute and of gender and race crossed, of the shipped model."""
    measures = values(found["magface-sface"])
    names = [each.removesuffix(": mean score") for each in measures if each.endswith(": mean score")]
    rows = []
    for name in names:
        some = {each: measures.get(f"{name}: {each}") for each in ("mean score", "difference", "difference, adjusted")}
        below = measures[f"{name}: below 70 (not accepted)"]["value"]
        fmr = measures.get(f"{name}: FMR")
        rows.append(
            f"| {name} | {some['mean score']['value']:.1f} | {tenths(some['difference'])} "
            f"| {tenths(some['difference, adjusted'])} | {100 * below:.1f} % "
            f"| {'–' if fmr is None else '{:.2f} %'.format(100 * fmr['value'])} |"
        )
    heads = ["mean score", "difference to all", "at equal pictures", "below 70", "FMR"]
    return page(heads, "group", rows, [], GROUPED)


def grouped(found: Mapping[str, Any]) -> str:
    """BCubed F of every algorithm on directions alone, and what its quality-aware ways add."""
    rows = []
    for set_name, result in found.items():
        measures = values(result)
        for plain in [each for each in measures if each.endswith(", unit: BCubed F")]:
            people, algorithm = plain.removesuffix(", unit: BCubed F").split(": ")
            ways = [measures.get(f"{people}: {algorithm}, {way}: BCubed F minus unit") for way in AWARE]
            information = [measures[f"{people}: {algorithm}, {way}: NMI"]["value"] for way in ("unit", "magnitude")]
            told = [rated(measures[plain]), *map(changed, ways), *(f"{100 * each:.2f}" for each in information)]
            rows.append(f"| {CLUSTERED[set_name][0]}, {people} | {algorithm} | {' | '.join(told)} |")
        for given in [each for each in measures if ": threshold " in each and each.endswith(": BCubed F")]:
            people, name = given.removesuffix(": BCubed F").split(": ")
            at = measures[given]["note"].split(":")[0]
            told = [rated(measures[given]), *["–"] * 4]
            rows.append(f"| {CLUSTERED[set_name][0]}, {people} | agglomerative, {name} ({at}) | {' | '.join(told)} |")
    heads = ["algorithm", "BCubed F of directions", *(f"{way} adds" for way in AWARE), "NMI", "NMI, magnitude"]
    return page(heads, "set, in %", rows, [], found)


def centres(found: Mapping[str, Any]) -> str:
    """How the magnitude goes with being near the centre of a person, and faces that represent people."""
    measures = {name: values(result) for name, result in found.items()}
    names = dict.fromkeys(each for some in measures.values() for each in some if each.startswith("centre: "))
    rows = [
        f"| {each.removeprefix('centre: ')} | {' | '.join(plain(some.get(each)) for some in measures.values())} |"
        for each in names
    ]
    return page([CLUSTERED[name][0] for name in found], "", rows, [], {})


def plain(measure: Mapping[str, Any] | None) -> str:
    """A value with its interval, in three decimals."""
    if measure is None or measure["value"] is None:
        return "–"
    return f"{measure['value']:.3f} ({measure['interval'][0]:.3f} to {measure['interval'][1]:.3f})"


def tenths(measure: Mapping[str, Any] | None) -> str:
    """A difference of scores with its interval."""
    return "–" if measure is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(measure["value"], *measure["interval"])


def rated(measure: Mapping[str, Any] | None) -> str:
    """A rate in percent with its interval."""
    return "–" if measure is None or measure["value"] is None else percent(measure, "{:.2f}")


def changed(measure: Mapping[str, Any] | None) -> str:
    """A difference of rates in percentage points with its interval."""
    return "–" if measure is None or measure["value"] is None else percent(measure, "{:+.2f}")


def percent(measure: Mapping[str, Any], form: str) -> str:
    """A number times 100, with its interval."""
    value, *ends = (form.format(100 * each) for each in (measure["value"], *(measure["interval"] or ())))
    text = f"{value} ({' to '.join(ends)})" if ends else value
    return text.replace("+0.00", "0").replace("-0.00", "0")


def counted(measure: Mapping[str, Any] | None) -> str:
    """A share in percent, and the images behind it."""
    if measure is None:
        return "–"
    return f"{100 * measure['value']:.1f} % ({measure['note'].split()[0]})"


def short(measure: Mapping[str, Any] | None) -> str:
    """A value with its interval, in two decimals."""
    if measure is None or measure["value"] is None:
        return "–"
    return f"{measure['value']:.2f} ({measure['interval'][0]:.2f} to {measure['interval'][1]:.2f})"


def page(
    heads: list[str],
    first: str,
    rows: list[str],
    counts: list[str],
    found: Mapping[str, Any],
    model: str = "magface-sface",
) -> str:
    """A table, what it was made of, and the commands."""
    columns = sum(head.count("|") + 1 for head in heads)
    commands = [
        f"magface {' '.join(arguments(name, model, PLACES))} > docs/results/{name}.{model}.json" for name in found
    ]
    shell = ["", "```", *commands, "```", ""] if commands else [""]
    table = [f"| {first} | {' | '.join(heads)} |", f"| --- |{' ---: |' * columns}", *rows]
    return "\n".join([*table, "", *counts, *shell] if counts else [*table, *shell])


def main() -> None:
    """Measure if asked, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="DATA", help="measure both models on the sets in this folder")
    parser.add_argument("--sface", type=Path, default=Path("sface.onnx"), help="model file of the untouched SFace")
    parser.add_argument("--crfiqa", type=Path, default=Path("crfiqa.onnx"), help="model file of the CR-FIQA rival")
    parser.add_argument("--quality", action="store_true", help="measure what docs/quality.md needs instead")
    parser.add_argument("--clusters", action="store_true", help="measure what docs/clusters.md needs instead")
    options = parser.parse_args()
    if options.measure:
        with tempfile.TemporaryDirectory() as folder:
            held = Path(folder, "held-out.tsv")
            places = {"data": options.measure, "sface": options.sface, "crfiqa": options.crfiqa, "held": held}
            if options.clusters:
                names = [(name, "magface-sface") for name in CLUSTERED]
            elif options.quality:
                held_out(options.measure, held)
                names = [(name, "magface-sface") for name in [*RIVALS, *STUDIED, *HARD]]
                names += [(name, model) for name in [*DECISIONS, *GROUPED] for model in BOTH]
            else:
                names = [(name, model) for name, (_, _, models) in SETS.items() for model in models]
            measure(names, {name: str(place) for name, place in places.items()})
        if not (options.quality or options.clusters):
            write_card()
    PAGE.write_text(BLOCK.sub(lambda _: block(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    made = blocks()
    for path in (QUALITY, CLUSTERS):
        text = path.read_text(encoding="utf-8")
        text = NAMED.sub(lambda found: f"{found['begin']}{made[found['block']]}{found['end']}", text)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
