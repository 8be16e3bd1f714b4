"""Is the FPIR that a search states the one that strangers meet?

    python benchmarks/openset.py DATA [--model FILE] [--splits 5] [-o docs/results/openset.md]

DATA is lfw_aligned.tar or a folder of people. In each split some people are enrolled with all their pictures but one,
which is searched for; every picture of all others is a stranger. Thresholds come from the card, which was measured
with other people, and from `Gallery.calibrate`, which knows only who is enrolled. Namesakes are strangers so near to
somebody that they may be enrolled under another name; they are among the FPIR found. Means over the splits, in brackets
the lowest and highest.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks import faces
from magface.data import formats
from magface.embedder import Embedder
from magface.gallery import Gallery, audit, open_gallery, openset
from magface.gallery.searching import Search
from magface.io import write_atomic
from magface.models.card import Card
from magface.types import Embeddings

SIZES = (100, 1000, 4000)
FPIRS = (0.1, 0.01)
HEAD = (
    "| people | by | FPIR stated | FPIR found, card | TPIR | FPIR found, calibrated | TPIR | namesakes |",
    "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
)

Row = tuple[int, str, float, str]
Values = tuple[float, float, float, float]
"""Threshold, FPIR, share of strangers identified who may be enrolled under another name, TPIR."""


def split(labels: NDArray[np.int64], size: int, seed: int) -> tuple[NDArray[np.intp], ...]:
    """Rows that are enrolled, that are searched for their person, and of strangers."""
    rng = np.random.default_rng(seed)
    known = np.isin(labels, rng.permutation(labels.max() + 1)[:size])
    order = rng.permutation(np.flatnonzero(known))
    _, first, count = np.unique(labels[order], return_index=True, return_counts=True)
    mated = order[first[count > 1]]
    return np.setdiff1d(order, mated), mated, np.flatnonzero(~known)


def measure(
    gallery: Gallery, mated: Embeddings, people: list[str], strangers: Embeddings
) -> Iterator[tuple[Row, Values]]:
    """Each way to decide, and what comes of it."""
    size = gallery.info().counts.people
    agree = audit.agreement(gallery.card, size)
    found = {by: (gallery.search(mated, k=1, by=by), gallery.search(strangers, k=1, by=by)) for by in openset.BY}
    for origin in ("card", "gallery"):
        if origin == "gallery":
            gallery.calibrate()
        for by, (ours, others) in found.items():
            right = np.array([search.matches[0].person == name for search, name in zip(ours, people, strict=True)])
            near = np.array([search.matches[0].cosine >= agree for search in others])
            for fpir in FPIRS:
                limit = gallery.threshold(fpir, by=by).threshold
                false = values(others, by) >= limit
                tpir = np.mean(right & (values(ours, by) >= limit))
                yield (size, by, fpir, origin), (limit, false.mean(), (false & near).mean(), tpir)


def values(searches: list[Search], by: openset.By) -> NDArray[np.float64]:
    """Cosine or score of the best match of each."""
    best = [search.matches[0] for search in searches]
    return np.array([match.cosine if by == "cosine" else match.score for match in best])


def table(
    card: Card, embeddings: Embeddings, names: list[str], labels: NDArray[np.int64], splits: int
) -> Iterator[str]:
    """Lines of the result."""
    found = defaultdict(list)
    for size in SIZES:
        for seed in range(splits):
            enrolled, mated, strangers = split(labels, size, seed)
            with (
                tempfile.TemporaryDirectory() as folder,
                open_gallery(f"{folder}/faces.db", card, create=True) as gallery,
            ):
                people = [names[label] for label in labels]
                gallery.enroll(gallery.entries(embeddings[enrolled], [people[row] for row in enrolled]), check=False)
                probes = embeddings[mated], [people[row] for row in mated], embeddings[strangers]
                for row, result in measure(gallery, *probes):
                    found[(size, *row[1:])].append(result)
    yield from HEAD
    for size, by, fpir, origin in found:
        if origin == "card":
            card_rate, card_tpir, namesakes = told(found[size, by, fpir, "card"])
            own_rate, own_tpir, _ = told(found[size, by, fpir, "gallery"])
            yield f"| {size:,} | {by} | {fpir:g} | {card_rate} | {card_tpir} | {own_rate} | {own_tpir} | {namesakes} |"


def told(results: list[Values]) -> tuple[str, str, str]:
    """FPIR with the lowest and highest of the splits, TPIR, and share of namesakes."""
    _, rates, namesakes, tpir = np.transpose(results)
    return (
        f"{rates.mean():.3f} ({rates.min():.3f} to {rates.max():.3f})",
        f"{tpir.mean():.3f}",
        f"{namesakes.mean():.3f}",
    )


def main() -> None:
    """Measure, and write or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    data = options.data / "lfw_aligned.tar" if (options.data / "lfw_aligned.tar").exists() else options.data
    embedder = Embedder(options.model)
    kept, embeddings = faces.embed(embedder, formats.read(data), options.cache)
    labels = np.asarray(kept.labels, np.int64)
    lines = list(table(embedder.card, embeddings, list(kept.people), labels, options.splits))
    text = "\n".join(lines) + "\n"
    if options.output:
        write_atomic(options.output, text.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
