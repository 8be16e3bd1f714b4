"""Write docs/model-card.md, and the short card in README.md, from the card inside the model that ships.

Example: python docs/make_card.py
"""

from __future__ import annotations

import re
from pathlib import Path

from magface.models import card, default
from magface.models.card import Card
from magface.quality import calibration

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "model-card.md"
BLOCK = re.compile(r"(?s)(?<=<!-- card:begin -->\n).*(?=<!-- card:end -->)")
LEVELS = (0, 1, 5, 25, 50, 75, 95, 99, 100)


def short(found: Card) -> str:
    """What a reader of the README needs."""
    return _table(
        ("", "`" + found.name + "`"),
        [
            ("version", found.version),
            ("licence", found.licence),
            ("network", f"{found.backbone}, {found.embedding_size} numbers a face"),
            ("trained on", found.training_data),
            *[(each.name, _value(each.value, each.unit)) for each in found.benchmarks],
            *[(f"cosine at FMR {each.fmr:g}", _threshold(each.cosine, each.impostors)) for each in found.thresholds],
        ],
    )


def full(found: Card) -> str:
    """The whole card as a page."""
    percentiles = [(f"{level} %", f"{found.magnitude_percentiles[level]:.2f}") for level in LEVELS]
    thresholds = [(f"{each.fmr:g}", f"{each.cosine:.4f}", f"{each.impostors:,}") for each in found.thresholds]
    sections = [part for part in (_errors(found), _bands(found), _comparison(found)) if part]
    benchmarks = [(each.name, _value(each.value, each.unit), f"`{each.command}`") for each in found.benchmarks]
    facts = [
        ("version", found.version),
        ("licence", found.licence),
        ("notices", found.notices),
        ("trained on", found.training_data),
        ("recipe", found.recipe),
        ("network", f"`{found.backbone}`, {found.embedding_size} numbers a face"),
        ("detector", found.detector),
        ("grouping", f"average linkage down to a mean cosine of {found.cluster_threshold:.4f}"),
        ("sha256", f"`{found.sha256}`"),
    ]
    return "\n".join(
        [
            f"# {found.name}",
            "",
            "Written by `python docs/make_card.py` from the card inside the model file.",
            "",
            _table(("", ""), facts),
            "## Quality",
            "",
            f"Score = 100 / (1 + exp(({found.quality.a0:.3f} - a) / {found.quality.w:.3f})), a the magnitude.",
            *(
                ["Measured on:", "", *[f"- {line}" for line in found.population.splitlines()], ""]
                if found.population
                else []
            ),
            "Share of the reference faces whose magnitude is lower:",
            "",
            _table(("share", "magnitude"), percentiles),
            "## Thresholds",
            "",
            "Two faces are taken for one person when the cosine of their directions is at least:",
            "",
            _table(("FMR", "cosine", "comparisons of different people"), thresholds),
            *sections,
            "## Benchmarks",
            "",
            _table(("measure", "value", "command"), benchmarks) if benchmarks else "None in the card.\n",
        ]
    )


def _errors(found: Card) -> str:
    """Expected errors at each threshold."""
    steps = [
        (f"{each.fmr:g}", f"{a:.2f}", f"{score:.0f}", f"{100 * rate:.2f} %", f"{pairs:,}")
        for each in found.reliability
        for a, score, rate, pairs in zip(
            each.magnitude, calibration.score(each.magnitude, found), each.fnmr, each.genuine, strict=True
        )
    ]
    head = ("FMR", "magnitude from", "score from", "missed", "of pairs")
    about = "How often two pictures of one person are taken for two people, by the magnitude of the worse one:"
    return f"## Expected errors\n\n{about}\n\n{_table(head, steps)}" if steps else ""


def _bands(found: Card) -> str:
    """Thresholds by quality."""
    steps = [
        (f"{each.fmr:g}", f"{a:.2f}", _threshold(cosine, count))
        for each in found.bands
        for a, cosine, count in zip(each.magnitude, each.cosine, each.impostors, strict=True)
    ]
    about = "Thresholds that hold the false match rate in each band of the magnitude of the worse picture:"
    return (
        f"## Thresholds by quality\n\n{about}\n\n{_table(('FMR', 'magnitude from', 'cosine'), steps)}" if steps else ""
    )


def _comparison(found: Card) -> str:
    """The quality-aware score."""
    if found.comparison is None:
        return ""
    rows = [(f"{e.fmr:g}", f"{e.score:.4f}", f"{e.impostors:,}") for e in found.comparison.thresholds]
    formula = f"s + min(0, {found.comparison.beta:.4f} s - {found.comparison.alpha:.4f}) q"
    about = (
        f"QMagFace: {formula}, s the cosine and q the magnitude of the worse picture; [what it is worth](quality.md)."
    )
    return f"## Quality-aware score\n\n{about}\n\n{_table(('FMR', 'score', 'comparisons of different people'), rows)}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _value(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".strip()


def _threshold(cosine: float, impostors: int) -> str:
    return f"{cosine:.4f}, of {impostors:,} comparisons of different people"


def main() -> None:
    """Write both."""
    found, _ = card.read(default.path())
    PAGE.write_text(full(found), encoding="utf-8")
    README.write_text(BLOCK.sub(lambda _: short(found), README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
