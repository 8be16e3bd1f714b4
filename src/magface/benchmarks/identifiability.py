"""Which faces of low magnitude are hard but still tell who they show, and which tell nothing?

People with `FEWEST` images and more have a centre, the mean direction of their images without suspect ones. Each image
is compared with the centre of its person's other images and with those of all other people. It is

- **informative** when its own centre is the nearest, and at least as near as the threshold at which one in 1,000 other
  centres would be taken for its own;
- **unidentifiable** when one in 20 of the other centres is as near as its own;
- **of somebody else**, likely a wrong label, when it is not informative and another centre is nearer than its own, as
  near as only 1 % of the informative images have another;
- **between** otherwise.

An image of a person who is not in the set, under a wrong name, looks unidentifiable here; suspect images are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks import methods as quality_methods
from magface.benchmarks.faces import Progress, embed, known
from magface.benchmarks.qualities import judge
from magface.benchmarks.result import Measure, Result, Sample
from magface.data.degraded import degraded
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.geometry import cosine, direction
from magface.metrics.concordance import concordance, resampled
from magface.metrics.verification import wilson
from magface.types import F32

FEWEST = 4
"""Images that a person needs, suspect ones not counted."""
LOWEST = 0.1
FMR = 1e-3
NO_NEARER = 0.05
"""Share of other centres that are as near as the own one to an unidentifiable image, at least."""
SOMEBODY = 0.99
BANDS = 20
SCALE = 64.0
"""Of the cosines in the entropy, as in the softmax of MagFace."""
SAMPLES = 48
GROUPS = ("informative", "between", "unidentifiable", "of somebody else")

_COMPARED = 2_000_000
_CELLS = 1 << 22
_ENOUGH = 5
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


def evaluate(
    embedder: Embedder,
    faces: FaceSet,
    *,
    lowest: float = LOWEST,
    degrade: int | None = None,
    methods: Sequence[str] = ("magnitude",),
    beside: Sequence[Embedder | str | Path] = (),
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Split images into those that tell who they show and those that do not, and see what tells the two apart.

    Args:
        embedder: the model.
        faces: 112x112 crops of people; those with `FEWEST` images and more count.
        lowest: share of images, those of the lowest magnitude, that are looked at by themselves.
        degrade: seed by which half of the images are degraded first, see `data.degraded`; they are then suspect.
        methods: names of `methods.NAMES`; what is asked whether it tells them apart.
        beside: other models, or their files, whose magnitudes are asked too.
        seed: of the samples, and of the people drawn again for the intervals.
        cache: see `faces.embed`; what methods say is kept there too.
        progress: called as images are embedded and judged.

    Returns:
        The share of each group among the images of the lowest magnitude and among all; the area under the ROC of each
        method with informative images against unidentifiable ones, among the lowest, among all, and among images of
        equal magnitude, that is in the same of `BANDS` bands of equal number. Intervals are over people, and the notes
        say how far a method is from the first. Three more need no label but everybody's centre: the cosine to the
        nearest, its lead over the second, and how certain the softmax over all is (negative entropy); they share the
        nearest centre with the definition of an informative image. Samples of the lowest are among the `samples`.

    Raises:
        DataError: no readable crop, fewer than `1 / NO_NEARER` people with enough images, or a name of a method or a
            share is wrong.
    """
    if not 0 < lowest <= 1:
        raise DataError(f"the share of images of the lowest magnitude lies between 0 and 1; {lowest} does not.")
    judges = quality_methods.build(methods, embedder, beside)
    whole = known(faces if degrade is None else degraded(faces, degrade)).at_least(FEWEST)
    if len(whole.people) < 1 / NO_NEARER:
        needed = round(1 / NO_NEARER)
        raise DataError(
            f"this needs at least {needed} people with {FEWEST} images each, to say what is near; the data have "
            f"{len(whole.people)}."
        )
    kept, embeddings = embed(embedder, whole, cache, progress)
    enough = np.bincount(kept.labels[~kept.suspect], minlength=len(kept.people))[kept.labels] >= FEWEST
    usable, magnitude = kept[enough], embeddings.magnitude[enough]
    places = place(embeddings.vectors[enough], usable.labels, usable.suspect)
    group = grouped(places)
    values = {**judge(judges, embedder, usable, cache, progress), **places.without_label()}
    low = magnitude <= np.quantile(magnitude, lowest)
    name = f"lowest {100 * lowest:g} %"
    found = [
        *_shares(name, group[low], usable.suspect[low]),
        *_shares("all images", group, usable.suspect),
        *_areas(f"AUC, {name}", values, group, usable.labels, np.zeros(len(low), int), low, seed),
        *_areas("AUC, all images", values, group, usable.labels, np.zeros(len(low), int), low | True, seed),
        *_areas("AUC, equal magnitude", values, group, usable.labels, bands(magnitude), low | True, seed),
    ]
    counts = {
        "images": len(usable),
        "images missing": len(kept.failures),
        "people": len(usable.people),
        "suspect images": int(usable.suspect.sum()),
        "images of lowest magnitude": int(low.sum()),
    }
    worse = "" if degrade is None else f"half of the images degraded with seed {degrade}, and suspect; "
    protocol = worse + (
        f"people with {FEWEST} images and more; informative: own centre first and cosine >= {places.threshold:.4f} "
        f"(FMR {FMR:g} of image and other centre); unidentifiable: {100 * NO_NEARER:g} % of other centres as near; of "
        f"somebody else: another centre nearer and cosine >= {places.somebody:.4f}; AUC of informative against "
        f"unidentifiable, intervals over people; equal magnitude: {BANDS} bands"
    )
    samples = dict(_samples(usable.names, magnitude, places, group, low, seed))
    return Result(
        "identifiability", embedder.fingerprint, tuple(found), counts, dict(kept.failures), protocol, samples=samples
    )


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where N images lie among the centres of P people.

    Attributes:
        own: `(N,)` cosine to the centre of the other images of the same person.
        other: `(N,)` cosine to the nearest centre of another person.
        as_near: `(N,)` share of the other centres that are as near as the own one, 0 to 1.
        lead: `(N,)` cosine to the nearest of all centres, the own one among them, minus that to the second.
        certainty: `(N,)` minus the entropy of the softmax of all cosines times `SCALE`, <= 0.
        threshold: cosine that `FMR` of the comparisons with other centres reach.
    """

    own: F32
    other: F32
    as_near: F32
    lead: F32
    certainty: F32
    threshold: float

    @property
    def informative(self) -> Mask:
        """`(N,)` bool."""
        return (self.own >= self.threshold) & (self.own > self.other)

    @property
    def somebody(self) -> float:
        """Cosine to another centre that only `1 - SOMEBODY` of the informative images reach; at least the threshold."""
        if not self.informative.any():
            return self.threshold
        return max(float(np.quantile(self.other[self.informative], SOMEBODY)), self.threshold)

    def without_label(self) -> dict[str, F32]:
        """What a gallery of everybody's centre says without knowing whose the image is."""
        nearest = np.maximum(self.own, self.other)
        return {"nearest centre": nearest, "lead of the nearest centre": self.lead, "certainty": self.certainty}


def place(vectors: F32, labels: Index, suspect: Mask, *, compared: int = _COMPARED) -> Places:
    """Compare images with the centres of all people, in blocks of bounded memory.

    Args:
        vectors: `(N, D)` float32, raw.
        labels: `(N,)` int, from 0 to P - 1, P >= 2; each person has two images that are not suspect.
        suspect: `(N,)` bool, images that are in no centre.
        compared: comparisons with other centres behind the threshold, at most; then every k-th of them.

    Example:
        >>> vectors = np.array([[9, 0], [8, 1], [0, 5], [0, 6]], np.float32)
        >>> places = place(vectors, np.array([0, 0, 1, 1]), np.zeros(4, bool))
        >>> places.own.round(2), places.other.round(2)
        (array([0.99, 0.99, 1.  , 1.  ], dtype=float32), array([0.  , 0.12, 0.06, 0.06], dtype=float32))
    """
    people = int(labels.max()) + 1
    unit = direction(vectors).astype(np.float32)
    adding = unit * ~suspect[:, None]
    sums = np.zeros((people, unit.shape[1]), np.float32)
    np.add.at(sums, labels, adding)
    centres = direction(sums).astype(np.float32)
    own = cosine(unit, sums[labels] - adding).astype(np.float32)
    rows, step = max(1, _CELLS // people), max(1, len(labels) * (people - 1) // compared)
    parts: list[tuple[F32, ...]] = []
    strangers: list[F32] = []
    for start in range(0, len(labels), rows):
        block = slice(start, start + rows)
        each, near = np.arange(len(labels[block])), unit[block] @ centres.T
        near[each, labels[block]] = -np.inf
        others = near[near > -np.inf]
        strangers.append(others[::step])
        as_near = np.sum(near >= own[block, None], axis=1) / np.float32(people - 1)
        other = near.max(axis=1)
        near[each, labels[block]] = own[block]
        second, first = np.partition(near, people - 2, axis=1)[:, -2:].T
        parts.append((other, as_near, first - second, _certainty(near)))
    other, as_near, lead, certainty = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Places(own, other, as_near, lead, certainty, float(np.quantile(np.concatenate(strangers), 1 - FMR)))


def _certainty(cosines: F32) -> F32:
    logits = SCALE * (cosines - cosines.max(axis=1, keepdims=True))
    total = np.exp(logits).sum(axis=1)
    return np.asarray((np.exp(logits) * logits).sum(axis=1) / total - np.log(total), np.float32)


def grouped(places: Places) -> Index:
    """Number of the group of each image among `GROUPS`, `(N,)`.

    Example:
        >>> own, other, as_near = np.float32([[0.9, 0.3, 0.1, 0.1], [0.1, 0.2, 0.2, 0.8], [0.0, 0.0, 0.2, 0.2]])
        >>> grouped(Places(own, other, as_near, other, other, threshold=0.5)).tolist()
        [0, 1, 2, 3]
    """
    group = np.full(len(places.own), 1)
    group[places.as_near >= NO_NEARER] = 2
    group[(places.other > places.own) & (places.other >= places.somebody)] = 3
    group[places.informative] = 0
    return group


def bands(magnitude: F32, count: int = BANDS) -> Index:
    """Number of the band of each image, `(N,)`, when the order of magnitudes is cut into `count` equal parts.

    Example:
        >>> bands(np.float32([3, 1, 2, 4]), 2).tolist()
        [1, 0, 0, 1]
    """
    rank = np.argsort(np.argsort(magnitude, kind="stable"))
    return rank * count // len(magnitude)


def _shares(where: str, group: Index, suspect: Mask) -> Iterator[Measure]:
    for number, name in enumerate(GROUPS):
        hits = int(np.sum(group == number))
        note = f"{hits:,} of {len(group):,} images, {int(np.sum(suspect[group == number])):,} of them suspect"
        yield Measure(f"{where}: {name}", hits / len(group), wilson(hits, len(group)), note)


def _areas(
    what: str, values: Mapping[str, F32], group: Index, labels: Index, stratum: Index, among: Mask, seed: int
) -> Iterator[Measure]:
    """How well each quantity tells informative images from unidentifiable ones."""
    rows = np.flatnonzero(among & ((group == 0) | (group == 2)))
    positive = group[rows] == 0
    few = min(int(positive.sum()), int((~positive).sum()))
    if few < _ENOUGH:
        reason = f"needs {_ENOUGH} informative and {_ENOUGH} unidentifiable images; of one kind there are {few}."
        yield from (Measure(f"{what}: {name}", None, note=reason) for name in values)
        return
    table = np.stack([value[rows] for value in values.values()]).astype(np.float64)
    drawn = resampled(table, positive, labels[rows], stratum[rows], seed=seed)
    for name, row, draws in zip(values, table, drawn, strict=True):
        low, high = np.nanquantile(draws, [0.025, 0.975])
        note = ""
        if draws is not drawn[0] and not np.array_equal(row, table[0]):
            note = "{:+.3f} to {:+.3f} beside ".format(*np.nanquantile(draws - drawn[0], [0.025, 0.975]))
            note += next(iter(values))
        area = concordance(row, positive, stratum[rows])
        yield Measure(f"{what}: {name}", None if np.isnan(area) else area, (float(low), float(high)), note)


def _samples(
    names: tuple[str, ...], magnitude: F32, places: Places, group: Index, low: Mask, seed: int
) -> Iterator[tuple[str, tuple[Sample, ...]]]:
    """Some images of each group of low magnitude, in the order of magnitude."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(GROUPS):
        rows = np.flatnonzero(low & (group == number))
        rows = rng.permutation(rows)[:SAMPLES]
        rows = rows[np.argsort(magnitude[rows], kind="stable")]
        if len(rows):
            yield name, tuple(Sample(names[row], f"{magnitude[row]:.1f}  {places.own[row]:.2f}") for row in rows)
