"""Does the magnitude weigh well? Templates of a few images of a person, some of them blurred, fused in every way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface import fusion
from magface.benchmarks import fused
from magface.benchmarks.drawn import REPEATS, AllPairs, Drawn, draws
from magface.benchmarks.faces import Aligner, Crops, Progress, embed, known
from magface.benchmarks.result import Curve, Measure, Result
from magface.benchmarks.scores import curve, rates
from magface.data import degradations
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.fusion import Templates, Weighting
from magface.types import F32, U8

SHARE = 0.5
KINDS = ("gaussian_blur", "motion_blur", "downsampling")
SMALLEST, LARGEST = 2, 5
PEOPLE = 2000
OF_A_PERSON = 4
COMPARED: tuple[Weighting, Weighting] = ("mean", "magface+")
_FMRS = (1e-2, 1e-3, 1e-4)

Index = NDArray[np.int64]


class Blurred:
    """Blurs a share of the images, each in one way and with a strength from half to full; seeded by its name.

    Args:
        names: of all images.
        share: of them to blur, 0 to 1; met exactly, up to rounding.
        kinds: names of degradations, see `data.degradations`.
        seed: of the choice and of the degradations.
        align: makes crops of the images; None where they are crops.

    Attributes:
        text: says it.
        name: tells one choice from another in the cache, which keeps parts of a set whatever the other parts are.
        chosen: names of the blurred images.
    """

    def __init__(
        self, names: Sequence[str], share: float, kinds: Sequence[str], seed: int, align: Aligner | None = None
    ) -> None:
        self.text = f"{share:g} blurred by {', '.join(kinds)}, seed {seed}"
        self._align = align or Crops()
        self._kinds = [degradations.NAMES[kind] for kind in kinds]
        self._seeds = {
            name: hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest() for name in names
        }
        self.chosen = frozenset(sorted(names, key=self._seeds.__getitem__)[: round(share * len(names))])
        digest = hashlib.sha256("\0".join(sorted(self.chosen)).encode(errors="surrogateescape")).hexdigest()
        self.name = ", ".join([self.text, digest, *([] if align is None else [align.name])])

    def __call__(self, name: str, image: U8) -> U8:
        """See `faces.Aligner`."""
        crop = self._align(name, image)
        if name not in self.chosen:
            return crop
        rng = np.random.default_rng(list(self._seeds[name]))
        return self._kinds[rng.integers(len(self._kinds))](crop, rng.uniform(0.5, 1), rng)


def evaluate(
    embedder: Embedder,
    faces: FaceSet,
    *,
    share: float = SHARE,
    kinds: Sequence[str] = KINDS,
    weightings: Sequence[Weighting] = COMPARED,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compare every two templates that a draw makes of the images of each person.

    The images of a person are dealt into templates of 2 to 5, at most 4 templates; those of people with fewer than 4
    images meet only other people. Where there are more than 2,000 people, as many are drawn. Each image is a medium of
    its own, so `magface` is the same as `mean` here, and `magface+media` the same as `magface+`.

    Args:
        embedder: the model.
        faces: aligned crops of known people.
        share: of the images to blur, 0 to 1.
        kinds: names of degradations, see `data.degradations`.
        weightings: ways of fusing, see `fusion.fuse`.
        seed: of all draws.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        For each way of fusing, TAR at FMR 1e-6 to 1e-1 where the pairs suffice, EER and AUC; and where both are asked
        for, what `magface+` adds to `mean`, with an interval of draws of people. A template without a readable image
        scores -1.

    Raises:
        DataError: `share` or `kinds` are not what they should be, nobody has 4 images, there is one person only, or no
            image can be read.
    """
    if not 0 <= share <= 1 or not kinds or not set(kinds) <= degradations.NAMES.keys():
        raise DataError(f"blur a share from 0 to 1 of the images, by any of {', '.join(degradations.NAMES)}.")
    faces = known(faces)
    dealt = deal(faces.labels, seed)
    used = faces[dealt.image]
    blurred = Blurred(used.names, share, kinds, seed)
    kept, embeddings = embed(embedder, used, cache, progress, align=blurred)
    failures = dict(kept.failures)
    vectors = fused.spread(embeddings.vectors, np.array([name not in failures for name in used.names]))
    found = {each: fusion.fuse(vectors, dealt.template, weighting=each) for each in weightings}
    pairs = AllPairs.of(dealt.person)
    measures, curves = _compared(found, pairs)
    counts = {
        "images": len(used),
        "images blurred": len(blurred.chosen),
        "images missing": len(failures),
        "people": pairs.people,
        "templates": len(dealt.person),
        "templates missing": int(next(iter(found.values())).empty.sum()),
        "genuine pairs": int(pairs.same.sum()),
        "impostor pairs": int((~pairs.same).sum()),
    }
    protocol = (
        f"templates of {SMALLEST} to {LARGEST} images, {blurred.text}; one without an image scores {fused.REJECTED:g}"
    )
    return Result("templates", embedder.fingerprint, tuple(measures), counts, failures, protocol, curves)


@dataclass(frozen=True, slots=True, eq=False)
class Dealt:
    """Images dealt into templates.

    Attributes:
        image: `(M,)` int64, rows of the images that are used.
        template: `(M,)` int64, the template of each, from 0.
        person: `(T,)` int64, the person of each template.
    """

    image: Index
    template: Index
    person: Index


def deal(labels: Index, seed: int, most: int = OF_A_PERSON) -> Dealt:
    """Deal the images of each person into templates, as `evaluate` says.

    Args:
        labels: `(N,)` int, the person of each image.
        seed: of the draw.
        most: templates of a person, at most.

    Raises:
        DataError: nobody has 4 images, or nobody else has 2.

    Example:
        >>> dealt = deal(np.array([0, 0, 0, 0, 1, 1, 2]), seed=0)
        >>> dealt.person.tolist(), np.bincount(dealt.template).tolist()
        ([0, 0, 1], [2, 2, 2])
    """
    rng = np.random.default_rng(seed)
    people, counts = np.unique(labels, return_counts=True)
    enough = people[counts >= SMALLEST]
    if len(enough) < 2 or counts.max() < 2 * SMALLEST:
        raise DataError("templates need two people with 2 images at least, and one of them with 4.")
    hands = [
        (person, hand)
        for person in np.sort(rng.permutation(enough)[:PEOPLE])
        for hand in _hands(rng.permutation(np.flatnonzero(labels == person)), rng, most)
    ]
    sizes = [len(hand) for _, hand in hands]
    return Dealt(
        image=np.concatenate([hand for _, hand in hands]),
        template=np.repeat(np.arange(len(hands)), sizes),
        person=np.array([person for person, _ in hands], np.int64),
    )


def _hands(images: Index, rng: np.random.Generator, most: int) -> Iterator[Index]:
    """At most so many templates, and two at least where there are images for two."""
    for number in range(most):
        room = len(images) - SMALLEST if number == 0 and len(images) >= 2 * SMALLEST else len(images)
        if room < SMALLEST:
            return
        size = int(rng.integers(SMALLEST, min(LARGEST, room) + 1))
        yield images[:size]
        images = images[size:]


def _compared(found: dict[Weighting, Templates], pairs: AllPairs) -> tuple[list[Measure], dict[str, Curve]]:
    scores = {each: fused.scored(templates, pairs.first, pairs.second) for each, templates in found.items()}
    measures: list[Measure] = []
    curves = {}
    for weighting, values in scores.items():
        genuine, impostor = np.sort(values[pairs.same]), np.sort(values[~pairs.same])
        measures += fused.named(weighting, rates(genuine, impostor))
        curves[str(weighting)] = curve(genuine, impostor)
    if set(COMPARED) <= scores.keys():
        theirs, ours = (scores[each] for each in COMPARED)
        measures += [_difference(ours, theirs, pairs, fmr) for fmr in _FMRS]
    return measures, curves


def _difference(ours: F32, theirs: F32, pairs: AllPairs, fmr: float) -> Measure:
    """TAR of one way of fusing minus that of another, drawn again with the same people in each draw."""
    name = f"{COMPARED[1]} minus {COMPARED[0]}: TAR@FMR={fmr:g}"
    impostors = int((~pairs.same).sum())
    if fmr * impostors < 1:
        return Measure(name, None, note=f"FMR {fmr:g} needs more than {impostors:,} impostor comparisons.")
    one, two = (Drawn(scores, pairs, fmr) for scores in (ours, theirs))
    differences = np.array([one.tar(weight) - two.tar(weight) for weight in draws(pairs.people)])
    low, high = np.nanquantile(differences, [0.025, 0.975])
    once = np.ones(pairs.people, np.int64)
    note = f"interval of {REPEATS} draws of {pairs.people:,} people"
    return Measure(name, one.tar(once) - two.tar(once), (float(low), float(high)), note)
