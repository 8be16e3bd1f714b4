"""Write docs/model-card.md, and the short card in README.md, from the card inside the model that ships.

Example: python docs/make_card.py
"""

from __future__ import annotations

import re
from pathlib import Path

from magface.models import card, default
from magface.models.card import Card

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
            "Share of the reference faces whose magnitude is lower:",
            "",
            _table(("share", "magnitude"), percentiles),
            "## Thresholds",
            "",
            "Two faces are taken for one person when the cosine of their directions is at least:",
            "",
            _table(("FMR", "cosine", "comparisons of different people"), thresholds),
            "## Benchmarks",
            "",
            _table(("measure", "value", "command"), benchmarks) if benchmarks else "None in the card.\n",
        ]
    )


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
