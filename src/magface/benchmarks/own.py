"""Your own faces: people in sub-folders, judged in pairs, in searches and as templates that a seed draws.

Every person is in every protocol that the number of their images allows:

- verification: accuracy over ten folds of people, a tenth each, and so many genuine as impostor pairs in each, at most
  300; error rates over 20,000 genuine and 2,000,000 impostor pairs of all images, or all there are;
- identification: people fall into two halves, and one image of each person enrols in the gallery of their half. All
  other images search both galleries: mated in that of their half, non-mated in the other. A mate must come first and
  reach the threshold to count for TPIR;
- templates: people with four images and more, at most 4,000, give two templates of as many images each, at most five,
  without a common image; the first template of everybody is compared with the second of everybody.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks import fused
from magface.benchmarks.edc import draw
from magface.benchmarks.faces import Aligner, Progress, embed, known
from magface.benchmarks.result import Curve, Measure, Result, rate_measure, tpir_measure
from magface.benchmarks.scores import FMRS, curve, measures, rates, score
from magface.benchmarks.verification import Interval
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.fusion import Weighting, fuse
from magface.metrics.identification import Found, rank_rate, search, tpir_at_fpir
from magface.metrics.verification import bootstrap_people_accuracy, kfold_accuracy
from magface.types import Embeddings

GENUINE, IMPOSTOR = 20_000, 2_000_000
FOLDS, PER_FOLD = 10, 300
RANKS = (1, 5, 10)
FPIRS = (0.01, 0.1)
WEIGHTINGS: tuple[Weighting, ...] = ("mean", "magface+")
MEDIA = 5
"""Images of a template, at most."""
TEMPLATES = 4_000
"""People whose templates are compared, each with all others, at most."""

Index = NDArray[np.int64]


def evaluate(
    embedder: Embedder,
    faces: FaceSet,
    *,
    align: Aligner | None = None,
    interval: Interval = "pairs",
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure verification, identification and templates on a set of people.

    Args:
        embedder: the model.
        faces: images of at least two people, one of them with two images.
        align: makes crops of the images; None where they are crops.
        interval: 95 % intervals of the verification by drawing pairs, or people, again; those of searches and templates
            are of searches and pairs.
        seed: of all that is drawn.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        The measures of each protocol, its name before them; those that need more images have none and say so.

    Raises:
        DataError: no image can be embedded, or there are too few people or images to compare.
    """
    kept, embeddings = embed(embedder, known(faces), cache, progress, align=align)
    if not 1 < len(kept.people) < len(kept):
        raise DataError("an evaluation needs at least two people, and one of them with two images.")
    pairs, roc, compared = _verification(embeddings, kept.labels, seed, interval == "people")
    searches, searched = _identification(embeddings, kept.labels, seed)
    fused_pairs, templates = _templates(embeddings, kept.labels, seed)
    counts = {
        "images": len(kept),
        "images missing": len(kept.failures),
        "people": len(kept.people),
        **compared,
        **searched,
        "templates": templates,
    }
    found = (
        *fused.named("verification", pairs),
        *fused.named("identification", searches),
        *fused.named("templates", fused_pairs),
    )
    protocol = (
        f"own: pairs, searches and templates drawn with seed {seed}; single view; unreadable images left out; "
        f"intervals of the verification over {interval}"
    )
    curves = {"verification": roc}
    return Result("own", embedder.fingerprint, found, counts, dict(kept.failures), protocol, curves)


def _verification(
    embeddings: Embeddings, labels: Index, seed: int, over_people: bool
) -> tuple[list[Measure], Curve, dict[str, int]]:
    first, second, same = draw(labels, GENUINE, IMPOSTOR, seed)
    scores = score(embeddings, first, second, same)
    genuine, impostor = scores.similarity[same], scores.similarity[~same]
    counts = {"genuine pairs": len(genuine), "impostor pairs": len(impostor)}
    people = (labels[first], labels[second]) if over_people else None
    accuracy = _accuracy(embeddings, labels, seed, over_people)
    return [accuracy, *measures(scores, FMRS, people)], curve(genuine, impostor), counts


def _accuracy(embeddings: Embeddings, labels: Index, seed: int, over_people: bool) -> Measure:
    """Accuracy over folds of people, as many genuine as impostor pairs in each."""
    people = np.random.default_rng(seed).permutation(labels.max() + 1)
    pairs = [pair for fold in np.array_split(people, FOLDS) if (pair := _fold(labels, fold, seed)) is not None]
    if len(pairs) < 2:
        return Measure("accuracy", None, note="needs two folds of people, each with a genuine and an impostor pair.")
    first, second, same = (np.concatenate(column) for column in zip(*pairs, strict=True))
    fold = np.repeat(np.arange(len(pairs)), [len(pair.same) for pair in pairs])
    similarity = score(embeddings, first, second, same).similarity
    found = kfold_accuracy(similarity, same, fold)
    interval = None
    if over_people:
        interval = bootstrap_people_accuracy(similarity, same, fold, labels[first], labels[second])
    note = f"mean of {len(pairs)} folds of people, {len(same):,} pairs"
    return Measure("accuracy", found.accuracy, interval, note)


class _Pairs(NamedTuple):
    first: Index
    second: Index
    same: NDArray[np.bool_]


def _fold(labels: Index, people: Index, seed: int) -> _Pairs | None:
    """Pairs inside a fold of people; None where there are not both kinds."""
    rows = np.flatnonzero(np.isin(labels, people))
    if not 1 < len(np.unique(labels[rows])) < len(rows):
        return None
    pairs = _Pairs(*draw(labels[rows], PER_FOLD, PER_FOLD, seed))
    size = min(int(pairs.same.sum()), int((~pairs.same).sum()))
    chosen = np.append(np.flatnonzero(pairs.same)[:size], np.flatnonzero(~pairs.same)[:size])
    return _Pairs(rows[pairs.first[chosen]], rows[pairs.second[chosen]], pairs.same[chosen])


def _identification(embeddings: Embeddings, labels: Index, seed: int) -> tuple[list[Measure], dict[str, int]]:
    rng = np.random.default_rng(seed)
    half = rng.permutation(labels.max() + 1) % 2
    shuffled = rng.permutation(len(labels))
    _, place = np.unique(labels[shuffled], return_index=True)
    enrolled = shuffled[place]
    probes = np.setdiff1d(shuffled, enrolled)
    direction = embeddings.direction
    galleries = [enrolled[half[labels[enrolled]] == side] for side in (0, 1)]
    found = _joined([search(direction[probes], labels[probes], direction[g], labels[g]) for g in galleries])
    closed = [rate_measure(f"rank-{k}", rank_rate(found, k), "mated") for k in RANKS]
    opened = [tpir_measure(tpir_at_fpir(found, fpir)) for fpir in FPIRS]
    return [*closed, *opened], {"enrolled people": len(enrolled), "searches": len(found)}


def _joined(found: list[Found]) -> Found:
    """Searches of several galleries."""
    columns = ([getattr(each, name) for each in found] for name in ("mate", "rank", "other", "precision"))
    return Found(*map(np.concatenate, columns))


def _templates(embeddings: Embeddings, labels: Index, seed: int) -> tuple[list[Measure], int]:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    person = labels[rows]
    size = np.bincount(person)[person]
    place = np.arange(len(rows)) - np.searchsorted(person, person)
    media = np.minimum(size // 2, MEDIA)
    used = (size >= 4) & (place < 2 * media)
    side = (place >= media).astype(np.int64)
    people = np.unique(person[used])
    if len(people) < 2:
        return [Measure("TAR", None, note="needs two people with four images and more.")], 0
    people = rng.permutation(people)[:TEMPLATES]
    template = (2 * person + side)[used]
    first, second = (grid.ravel() for grid in np.meshgrid(2 * people, 2 * people + 1, indexing="ij"))
    same = first + 1 == second
    found = []
    for weighting in WEIGHTINGS:
        templates = fuse(embeddings.vectors[rows[used]], template, weighting=weighting)
        scores = fused.scored(templates, templates.rows(first), templates.rows(second))
        found += fused.named(weighting, rates(np.sort(scores[same]), np.sort(scores[~same])))
    return found, 2 * len(people)
