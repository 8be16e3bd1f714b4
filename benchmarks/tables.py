"""Write the tables of docs/benchmarks.md from the results in docs/results.

A result is what `magface evaluate ... --format json` printed, in a file `SET.MODEL.json`.

Examples:
    python benchmarks/tables.py                                     write the tables
    python benchmarks/tables.py --measure DATA --sface sface.onnx   measure both models first,
                                                                    and note it in the card of the shipped one

DATA is a folder with lfw_aligned.tar, lfw_pairs.txt, album_raw.tar, rof_dev.tar and the folder magface_toy.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from magface import io
from magface.models import card, default
from magface.models.card import Benchmark

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
RESULTS = DOCS / "results"
BLOCK = re.compile(r"(?s)(?<=<!-- tables:begin -->\n).*(?=<!-- tables:end -->)")

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


def arguments(name: str, model: str, data: str, sface: str) -> list[str]:
    """Arguments of `magface` that give a result."""
    chosen = ["--model", sface] if model == "sface" else []
    return ["evaluate", *SETS[name][1].format(data=data).split(), *chosen, "--format", "json"]


def measure(data: Path, sface: Path) -> None:
    """Measure both models on every set."""
    RESULTS.mkdir(exist_ok=True)
    for name, (_, _, models) in SETS.items():
        for model in models:
            command = [sys.executable, "-m", "magface.cli.main", *arguments(name, model, str(data), str(sface))]
            done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
            if done.returncode not in (0, 1):  # 1 where images are missing, which the result names
                done.check_returncode()
            result = json.loads(done.stdout)
            kept = {
                field: result[field] for field in ("benchmark", "model", "measures", "counts", "failures", "protocol")
            }
            (RESULTS / f"{name}.{model}.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def write_card() -> None:
    """Put the results of the shipped model into its card; its fingerprint stays."""
    path, shipped = default.path(), "magface-sface"
    measured = []
    for name, wanted in CARDED.items():
        values = {each["name"]: each["value"] for each in results()[name][shipped]["measures"]}
        command = f"magface {' '.join(arguments(name, shipped, 'DATA', ''))}"
        measured += [Benchmark(title, round(values[each], 4), "", command) for each, title in wanted.items()]
    found, _ = card.read(path)
    io.write_atomic(path, card.attach(path.read_bytes(), dataclasses.replace(found, benchmarks=tuple(measured))))


def results() -> dict[str, dict[str, Any]]:
    """Results by set and model."""
    found: dict[str, dict[str, Any]] = {name: {} for name in SETS}
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
        f"magface {' '.join(arguments(name, model, 'DATA', 'sface.onnx'))} > docs/results/{name}.{model}.json"
        for model in models
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


def main() -> None:
    """Measure if asked, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="DATA", help="measure both models on the sets in this folder")
    parser.add_argument("--sface", type=Path, default=Path("sface.onnx"), help="model file of the untouched SFace")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.sface)
        write_card()
    PAGE.write_text(BLOCK.sub(lambda _: block(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
