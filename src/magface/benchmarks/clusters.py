"""Does the magnitude help to group faces? Each algorithm on directions alone, beside its quality-aware forms.

IJB-B's protocol of clustering takes 512, 1,024 and 1,845 people, each of these sets inside the next; here they are
drawn from the people of any set. A threshold belongs to a way of grouping as much as to a model, and is chosen on other
people: those of one half by what is best for the faces of the other half, in the same groups.

A group of two people costs both of them, so people who share groups vary together. Intervals that take them for
independent are a fifth too narrow: of two ways that are equally good, they call one better in 12 of 100 sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks import fused
from magface.benchmarks.drawn import REPEATS, draws
from magface.benchmarks.faces import Aligner, Progress, embed, known
from magface.benchmarks.result import Measure, Result
from magface.benchmarks.templates import KINDS, Blurred
from magface.cluster.algorithms import Algorithm, group
from magface.cluster.attachment import reliable_first
from magface.cluster.estimate import threshold
from magface.cluster.linkage import average_linkage
from magface.cluster.representatives import representative
from magface.cluster.weighting import Weighting
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.geometry import cosine, direction
from magface.metrics import clustering
from magface.types import Embeddings

PEOPLE = (512, 1024, 1845)
"""Of IJB-B's sets for clustering."""
COMPARED: tuple[Algorithm, ...] = ("kmeans", "agglomerative", "dbscan", "hdbscan", "graph")
_FREE = ("kmeans", "hdbscan")
"""Algorithms without a threshold; the first is told the number of people, as in the paper."""
UNIT: Weighting = "unit"
MAGNITUDE: Weighting = "magnitude"
LAST = "poor faces last"
THRESHOLDS = tuple(round(0.1 + 0.02 * step, 2) for step in range(31))
POOR = 0.1
"""Share of the faces that come last."""
NORMAL = 1.96
"""Deviations on each side of 95 % of a normal distribution."""
FEW = 3
"""Images of a person, at least, for a centre that the image itself has no part in."""

Index = NDArray[np.int64]
F64 = NDArray[np.float64]


def evaluate(
    embedder: Embedder,
    faces: FaceSet,
    *,
    algorithms: Sequence[Algorithm] = COMPARED,
    people: Sequence[int] = PEOPLE,
    share: float = 0.0,
    align: Aligner | None = None,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Group the faces of nested sets of people in every way.

    Args:
        embedder: the model.
        faces: images of people.
        algorithms: names, see `cluster.algorithms.ALGORITHMS`.
        people: in each set; those that there are not so many of are left out, and of fewer than the first all are one
            set. People with two images and more come before others.
        share: of the images to blur, 0 to 1, as the benchmark `templates` does.
        align: makes crops of the images; None where they are crops.
        seed: of the draw of people, the halves, the blur and the algorithms.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        For each set, algorithm and way (`unit`, `magnitude`, `poor faces last`) BCubed F with an interval over people,
        NMI and pairwise F, and BCubed F minus that of `unit` for the same people; the same of average linkage at the
        threshold of the card and at one that is estimated without labels; then how the magnitude of an image goes
        with being near the centre of its person, and the face that represents a person beside one drawn at random.

    Raises:
        DataError: `share` is out of range, there are fewer than two people, or no image can be read.
    """
    if not 0 <= share <= 1:
        raise DataError(f"blur a share from 0 to 1 of the images, not {share}.")
    used = known(faces)
    blurred = Blurred(used.names, share, KINDS, seed, align)
    kept, embeddings = embed(embedder, used, cache, progress, align=blurred if share else align)
    number = np.unique(kept.labels, return_inverse=True)[1].astype(np.int64)
    if number.max(initial=0) < 1:
        raise DataError("groups are of several people; give a set of two at least.")
    measures: list[Measure] = []
    for rows in _sets(number, people, seed):
        taken = _Set(embeddings[rows], np.unique(number[rows], return_inverse=True)[1].astype(np.int64), seed)
        found = [*taken.compared(algorithms), *taken.fixed(embedder.card.cluster_threshold)]
        measures += fused.named(f"{taken.count:,} people", found)
    measures += _centres(embeddings, number)
    counts = {
        "images": len(kept),
        "images blurred": len(blurred.chosen),
        "images missing": len(kept.failures),
        "people": int(number.max()) + 1,
    }
    protocol = (
        f"thresholds chosen for each half of the people on the other half by BCubed F; "
        f"{blurred.text if share else 'images as they are'}; intervals over people, those who share a group together, "
        f"and of centres {REPEATS} draws of people; a face left out is alone; "
        f"the {POOR:.0%} of lowest magnitude come last"
    )
    return Result("clusters", embedder.fingerprint, tuple(measures), counts, dict(kept.failures), protocol)


def _sets(number: Index, people: Sequence[int], seed: int) -> Iterator[Index]:
    """Rows of the images of each set of people."""
    images = np.bincount(number)
    drawn = np.random.default_rng(seed).permutation(len(images))
    order = drawn[np.argsort(images[drawn] < 2, kind="stable")]
    fitting = [size for size in sorted(people) if size <= len(images)] or [len(images)]
    for size in fitting:
        yield np.flatnonzero(np.isin(number, order[:size]))


@dataclass(frozen=True, slots=True, eq=False)
class _Grouped:
    """One way of grouping, with the threshold that each half of the people gives the other.

    Attributes:
        labels: `(2, N)` groups at the threshold for the faces of each half.
        thresholds: of each half.
        precision: `(N,)` BCubed precision of each face at the threshold of its half.
        recall: `(N,)` likewise.
    """

    labels: Index
    thresholds: tuple[float, float]
    precision: F64
    recall: F64


@dataclass(frozen=True, slots=True, eq=False)
class _Rated:
    """BCubed F of one way of grouping.

    Attributes:
        f: of all faces.
        pull: `(P,)` how far each person moves it.
        shared: `(P, P)` people who vary together, as they share groups.
    """

    f: float
    pull: F64
    shared: NDArray[np.bool_]

    def measure(self, name: str, note: str) -> Measure:
        """The value with an interval of 95 %."""
        low, high = np.clip(_around(self.f, self.pull, self.shared), 0, 1)
        return Measure(name, self.f, (float(low), float(high)), note)

    def beside(self, other: _Rated, name: str) -> Measure:
        """What it adds to another way."""
        added = self.f - other.f
        return Measure(name, added, _around(added, self.pull - other.pull, self.shared | other.shared))


class _Set:
    """The faces of some people, `number`, `(N,)` from 0.

    Attributes:
        count: of people.
    """

    def __init__(self, embeddings: Embeddings, number: Index, seed: int) -> None:
        self._embeddings, self._number, self._seed = embeddings, number, seed
        self.count = int(number.max()) + 1
        self._half = (np.random.default_rng(seed).permutation(self.count) % 2)[number]
        self._least = float(np.quantile(embeddings.magnitude, POOR))

    def compared(self, algorithms: Sequence[Algorithm]) -> Iterator[Measure]:
        """Every way of every algorithm."""
        for algorithm in algorithms:
            first: _Rated | None = None
            for way, make in self._ways(algorithm).items():
                found = self._chosen(make, (0.0,) if algorithm in _FREE else THRESHOLDS)
                f = self._bcubed(found.precision, found.recall, found.labels)
                name = f"{algorithm}, {way}"
                note = "" if algorithm in _FREE else "thresholds {:.2f} and {:.2f}".format(*found.thresholds)
                yield f.measure(f"{name}: BCubed F", note)
                yield from self._others(name, found)
                if first is None:
                    first = f
                else:
                    yield f.beside(first, f"{name}: BCubed F minus {UNIT}")

    def fixed(self, of_card: float) -> Iterator[Measure]:
        """Average linkage at thresholds that nobody's name had a part in."""
        estimate = threshold(self._embeddings, of_card)
        for name, at, note in (("of the card", of_card, ""), ("estimated", estimate.cosine, estimate.reason)):
            labels = average_linkage(self._embeddings, at)
            sides = clustering.bcubed_faces(self._number, labels)
            told = f"cosine {at:.3f}" + (f": {note}" if note else "")
            yield self._bcubed(*sides, labels[None]).measure(f"threshold {name}: BCubed F", told)
            yield Measure(f"threshold {name}: pairwise F", clustering.pairwise(self._number, labels).f)

    def _ways(self, algorithm: Algorithm) -> dict[str, Callable[[float], Index]]:
        """Functions from a threshold to labels."""
        run = partial(group, algorithm=algorithm, seed=self._seed)

        def grouped(threshold: float, embeddings: Embeddings, weighting: Weighting) -> Index:
            count = self.count if algorithm == "kmeans" else None
            return run(embeddings, threshold=threshold, people=count, weighting=weighting)

        def poor_last(threshold: float) -> Index:
            reliable = partial(grouped, threshold, weighting=MAGNITUDE)
            return reliable_first(reliable, self._embeddings, least=self._least, threshold=threshold)

        ways: dict[str, Callable[[float], Index]] = {
            way: partial(grouped, embeddings=self._embeddings, weighting=way) for way in (UNIT, MAGNITUDE)
        }
        return ways if algorithm in _FREE else {**ways, LAST: poor_last}

    def _chosen(self, make: Callable[[float], Index], thresholds: Sequence[float]) -> _Grouped:
        """Groups at the thresholds that are best for the faces of the other half."""
        everything = [make(threshold) for threshold in thresholds]
        scores = [clustering.bcubed_faces(self._number, labels) for labels in everything]
        best = [
            int(np.argmax([_harmonic(p[self._half != half].mean(), r[self._half != half].mean()) for p, r in scores]))
            for half in (0, 1)
        ]
        precision, recall = (np.where(self._half == 0, scores[best[0]][side], scores[best[1]][side]) for side in (0, 1))
        labels = np.stack([everything[row] for row in best])
        return _Grouped(labels, (thresholds[best[0]], thresholds[best[1]]), precision, recall)

    def _bcubed(self, precision: F64, recall: F64, labels: Index) -> _Rated:
        """BCubed F of the precision and recall of each face, `(N,)`, in groups `(L, N)`."""
        p, r = float(precision.mean()), float(recall.mean())
        slopes = 2 * (r / (p + r)) ** 2, 2 * (p / (p + r)) ** 2  # of F, along precision and recall
        moved = slopes[0] * (precision - p) + slopes[1] * (recall - r)
        pull = np.bincount(self._number, moved, self.count) / len(precision)
        return _Rated(float(_harmonic(precision.mean(), recall.mean())), pull, self._shared(labels))

    def _shared(self, labels: Index) -> NDArray[np.bool_]:
        """`(P, P)`, which people share a group in any of the groupings `(L, N)`, each with themselves too."""
        shared = np.eye(self.count, dtype=bool)
        for grouping in labels:
            order = np.argsort(grouping, kind="stable")
            for rows in np.split(order, np.flatnonzero(np.diff(grouping[order])) + 1):
                if grouping[rows[0]] >= 0:
                    people = np.unique(self._number[rows])
                    shared[np.ix_(people, people)] = True
        return shared

    def _others(self, name: str, found: _Grouped) -> Iterator[Measure]:
        """Means over the halves of measures of whole groups."""
        halves = [(self._number[self._half == half], found.labels[half][self._half == half]) for half in (0, 1)]
        for title, measure in (
            ("NMI", clustering.normalised_mutual_information),
            ("pairwise F", lambda true, labels: clustering.pairwise(true, labels).f),
        ):
            yield Measure(f"{name}: {title}", float(np.mean([measure(*half) for half in halves])))


def _centres(embeddings: Embeddings, number: Index) -> list[Measure]:
    """Magnitude beside nearness to the centre of the other images of a person, and faces that represent people."""
    rows = np.flatnonzero(np.bincount(number)[number] >= FEW)
    if not len(rows):
        return [Measure("centre: images", None, note=f"nobody has {FEW} images.")]
    person = np.unique(number[rows], return_inverse=True)[1].astype(np.int64)
    own = embeddings[rows]
    unit = direction(own.vectors.astype(np.float64))
    sums = np.zeros((person.max() + 1, unit.shape[1]))
    np.add.at(sums, person, unit)
    near = np.asarray(cosine(unit, sums[person] - unit), np.float64)
    return fused.named("centre", [*_correlated(own.magnitude, near, person), *_represented(own, near, person)])


def _correlated(a: NDArray[np.floating], near: F64, person: Index) -> Iterator[Measure]:
    """Rank correlation inside people, and how often the image nearest to the centre has the largest magnitude."""
    ranks = np.stack([_ranks(values, person) for values in (a, near)])
    size = np.bincount(person)
    centred = ranks - ((size - 1) / 2)[person]
    products = np.stack(
        [np.bincount(person, x * y) for x, y in ((centred[0], centred[1]), (centred[0],) * 2, (centred[1],) * 2)]
    )
    largest, nearest = (row == size[person] - 1 for row in ranks)
    hits, chance = np.bincount(person, largest & nearest), 1 / size
    weights = [np.ones(len(size), np.int64), *draws(len(size))]
    together, one, other = np.stack([products @ weight for weight in weights], axis=1)
    note = f"{len(person):,} images of {len(size):,} people, {FEW} and more of each"
    yield _measure("Spearman of magnitude and cosine to the rest, inside people", together / np.sqrt(one * other), note)
    found = np.array([(hits @ weight) / weight.sum() for weight in weights])
    yield _measure("largest magnitude is nearest to the rest", found, f"by chance {chance.mean():.3f}")


def _ranks(values: NDArray[np.floating], person: Index) -> F64:
    """Rank of each image inside its person, 0 for the lowest."""
    order = np.lexsort((values, person))
    starts = np.searchsorted(person[order], person[order])
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values)) - starts
    return ranks


def _represented(embeddings: Embeddings, near: F64, person: Index) -> Iterator[Measure]:
    """Cosine of one face of each person to the rest of their images."""
    mean = np.bincount(person, near) / np.bincount(person)
    order = np.lexsort((embeddings.magnitude, person))
    largest = order[np.append(np.flatnonzero(np.diff(person[order])), len(order) - 1)]
    ways = {
        "representative": near[representative(embeddings, person)],
        "representative, unit centre": near[representative(embeddings, person, weighting="unit")],
        "largest magnitude": near[largest],
    }
    weights = [np.ones(len(mean), np.int64), *draws(len(mean))]
    yield _measure("random face: cosine to the rest", _means(mean, weights))
    for way, values in ways.items():
        yield _measure(f"{way}: cosine to the rest", _means(values, weights))
        yield _measure(f"{way}: minus random", _means(values - mean, weights))


def _around(value: float, pull: F64, shared: NDArray[np.bool_]) -> tuple[float, float]:
    """Interval of 95 % of a sum over people: its variance is the sum of the products of all who vary together."""
    spread = np.sqrt(max(pull @ shared @ pull, pull @ pull))
    return float(value - NORMAL * spread), float(value + NORMAL * spread)


def _means(values: F64, weights: Sequence[Index]) -> F64:
    return np.array([(values @ weight) / weight.sum() for weight in weights])


def _measure(name: str, values: F64, note: str = "") -> Measure:
    """The first of the values, with the interval of the others."""
    return Measure(name, float(values[0]), _interval(values[1:]), note)


def _interval(values: F64) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def _harmonic(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    return 2 * a * b / np.maximum(a + b, 1e-300)
