"""Is the FPIR that a search states the one that strangers meet?

    python benchmarks/openset.py DATA [--model FILE] [--splits 10] [-o docs/results/openset.txt]

DATA is lfw_aligned.tar or a folder of people. In each split some people are enrolled with all their pictures but one,
which is searched for; every picture of all others is a stranger. Thresholds come from the card, which other people
were measured for, and from `Gallery.calibrate`, which knows only who is enrolled.
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
from magface.gallery import Gallery, audit, open_gallery
from magface.gallery.searching import Search
from magface.io import write_atomic
from magface.models.card import Card
from magface.types import Embeddings

SIZES = (100, 1000, 4000)
FPIRS = (0.1, 0.01)
HEAD = (
    f"{'people':>6} {'by':>7} {'stated':>6} {'threshold of':>12} {'value':>6} {'FPIR found':>10} "
    f"{'lowest':>7} {'highest':>7} {'namesakes':>9} {'TPIR':>6}"
)

Row = tuple[int, str, float, str]


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
) -> Iterator[tuple[Row, list[float]]]:
    """Threshold, FPIR, share of strangers who may be enrolled under another name, and TPIR of each way to decide."""
    size = gallery.info().counts.people
    for origin in ("card", "gallery"):
        if origin == "gallery":
            gallery.calibrate()
        agree = audit.agreement(gallery.card, size)
        for by in ("cosine", "quality"):
            for fpir in FPIRS:
                found, others = (gallery.search(probes, k=1, by=by, fpir=fpir) for probes in (mated, strangers))
                accepted = [search for search in others if search.identified]
                hits = [search.identified for search in found]
                right = [hit is not None and hit.person == name for hit, name in zip(hits, people, strict=True)]
                values = [
                    gallery.threshold(fpir, by=by).threshold,
                    len(accepted) / len(others),
                    sum(nearest(search) >= agree for search in accepted) / len(others),
                    float(np.mean(right)),
                ]
                yield (size, by, fpir, origin), values


def nearest(search: Search) -> float:
    """Cosine to the best match."""
    return search.matches[0].cosine


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
                for row, values in measure(gallery, *probes):
                    found[(size, *row[1:])].append(values)
    yield HEAD
    for (size, by, fpir, origin), values in found.items():
        threshold, rate, twins, tpir = np.mean(values, axis=0)
        low, high = np.min(values, axis=0)[1], np.max(values, axis=0)[1]
        yield (
            f"{size:>6} {by:>7} {fpir:>6g} {origin:>12} {threshold:>6.3f} {rate:>10.4f} {low:>7.4f} {high:>7.4f} "
            f"{twins:>9.4f} {tpir:>6.3f}"
        )


def main() -> None:
    """Measure, and write or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    data = options.data / "lfw_aligned.tar" if (options.data / "lfw_aligned.tar").exists() else options.data
    embedder = Embedder(options.model)
    kept, embeddings = faces.embed(embedder, formats.read(data), options.cache)
    labels = np.asarray(kept.labels, np.int64)
    lines = [
        f"{embedder.card.name} {embedder.card.version}, {len(kept):,} pictures of {len(kept.people):,} people, mean of "
        f"{options.splits} splits; namesakes: strangers so near that they may be enrolled under another name",
        *table(embedder.card, embeddings, list(kept.people), labels, options.splits),
    ]
    text = "\n".join(lines) + "\n"
    if options.output:
        write_atomic(options.output, text.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
