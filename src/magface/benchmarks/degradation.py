"""Does a score fall, step by step, while faces are degraded? The magnitude's, and any other way to judge a face."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks import methods as quality_methods
from magface.benchmarks.faces import Expecting, Progress
from magface.benchmarks.result import Measure, Result
from magface.data import formats
from magface.data.degradations import NAMES, Degradation
from magface.data.face_set import FaceSet
from magface.data.regions import REGIONS, cover
from magface.embedder import Embedder
from magface.errors import DataError, MagfaceError
from magface.metrics.quality import spearman
from magface.metrics.verification import bootstrap
from magface.types import F32, U8

F64 = NDArray[np.float64]


def _hiding(region: str) -> Degradation:
    return lambda image, strength, rng: cover(image, region, strength)


KINDS: Mapping[str, Degradation] = {
    "blur": NAMES["gaussian_blur"],
    "down-sampling": NAMES["downsampling"],
    "JPEG": NAMES["jpeg"],
    "noise": NAMES["gaussian_noise"],
    "darkness": NAMES["darkness"],
    "over-exposure": NAMES["overexposure"],
    "rotation": NAMES["rotation"],
    "crop": NAMES["truncation"],
    **{f"hidden {region}": _hiding(region) for region in REGIONS},
}
"""What is done to a face, by name."""

FACES = 300
STEPS = 10
_REPEATS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Scores of faces at every strength of every kind of damage.

    Attributes:
        kinds: K names, of `KINDS`.
        strengths: `(S + 1,)` float64, from 0 to 1 in equal steps.
        scores: `(N, K, S + 1)` float32 of N faces, by the name of the method; higher is better.
        failures: name of every image that was drawn and could not be read, and why.
    """

    kinds: tuple[str, ...]
    strengths: F64
    scores: Mapping[str, F32]
    failures: Mapping[str, str]


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    faces: int = FACES,
    steps: int = STEPS,
    seed: int = 0,
    methods: Sequence[str] = (),
    beside: Sequence[Embedder | str | Path] = (),
    progress: Progress | None = None,
) -> Result:
    """Degrade faces in equal steps of strength, and see whether the magnitude falls with them.

    Args:
        embedder: the model.
        data: folder with one sub-folder of good 112x112 crops for each person, or an uncompressed tar of it.
        faces: people to draw, with one image each; all where there are fewer.
        steps: of strength, from the face as it is to the worst.
        seed: of the draw and of the degradations.
        methods: other ways to judge the same images than the magnitude, of `methods.NAMES`.
        beside: other models, or their files, whose magnitudes are judged besides.
        progress: called as images are judged, `1 + steps * len(KINDS)` for each face and method.

    Returns:
        For all kinds of damage together and for each: the share of steps at which the score falls, and the mean over
        faces of Spearman's correlation between strength and score, -1 where it falls at every step. Those of other
        methods have the name of the method before theirs.

    Raises:
        DataError: no readable crop, a method is unknown, or `faces` or `steps` is below 1.
    """
    found = study(
        embedder, data, faces=faces, steps=steps, seed=seed, methods=methods, beside=beside, progress=progress
    )
    measures: list[Measure] = []
    for number, (name, scores) in enumerate(found.scores.items()):
        measures += judged(scores, found.kinds, f"{name}: " if number else "")
    count = len(next(iter(found.scores.values())))
    counts = {"images": count, "images missing": len(found.failures), "steps": count * len(found.kinds) * steps}
    protocol = (
        f"{len(found.kinds)} kinds of damage to each of {count:,} faces, at {steps} strengths; Spearman of strength "
        "and score, mean over faces, -1 at best; a score that never changes counts as 0; intervals over faces"
    )
    return Result("degradation", embedder.fingerprint, tuple(measures), counts, dict(found.failures), protocol)


def study(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    faces: int = FACES,
    steps: int = STEPS,
    seed: int = 0,
    methods: Sequence[str] = (),
    beside: Sequence[Embedder | str | Path] = (),
    progress: Progress | None = None,
) -> Study:
    """The scores behind `evaluate`, for curves; the magnitude's come first.

    The damaged images are made as they are judged, for one method after the other, and never kept.
    """
    if min(faces, steps) < 1:
        raise DataError("a degradation series needs at least one face and one step.")
    asked = quality_methods.build(dict.fromkeys(["magnitude", *methods]), embedder, beside)
    folder = formats.read(data)
    chosen, failures = _draw(folder, faces, seed)
    asking: object = progress
    if isinstance(asking, Expecting):
        asking.expect(len(asked) * len(chosen) * (1 + len(KINDS) * steps))
    scores = {}
    for method in asked:
        flat = method(_series(folder, chosen, steps, seed, progress)).reshape(len(chosen), -1)
        damaged = flat[:, 1:].reshape(len(chosen), len(KINDS), steps)
        scores[method.name] = np.insert(damaged, 0, flat[:, :1], axis=2)
    return Study(tuple(KINDS), np.linspace(0, 1, steps + 1), scores, failures)


def judged(scores: F32, kinds: Sequence[str], prefix: str = "") -> list[Measure]:
    """Measures of how one method's scores fall.

    Args:
        scores: `(N, K, S + 1)` at S + 1 rising strengths, N >= 1, S >= 1.
        kinds: K names.
        prefix: of the names of the measures.

    Returns:
        Share of falling steps and mean Spearman, each of all kinds and then of every kind. The 95 % intervals are over
        faces, as the steps of a face are not independent; None where all faces agree.

    Example:
        >>> [measure.value for measure in judged(np.array([[[3, 2, 1]], [[3, 1, 2]]], np.float32), ["blur"])]
        [0.75, 0.75, -0.75, -0.75]
    """
    falls = np.diff(scores, axis=2) < 0
    orders = np.array([[_order(series) for series in face] for face in scores])
    columns: list[tuple[str, slice]] = [
        ("all", slice(None)),
        *((kind, slice(k, k + 1)) for k, kind in enumerate(kinds)),
    ]
    return [
        *(_mean(f"{prefix}falling steps, {n}", falls[:, k].mean((1, 2)), _counted(falls[:, k])) for n, k in columns),
        *(_mean(f"{prefix}Spearman, {n}", orders[:, k].mean(1), _still(scores[:, k])) for n, k in columns),
    ]


def _draw(folder: FaceSet, faces: int, seed: int) -> tuple[list[int], dict[str, str]]:
    """One readable image of each of `faces` people; an image of nobody in particular is a person by itself."""
    rng = np.random.default_rng(seed)
    nobody = np.array([not person for person in folder.people])[folder.labels]
    _, people = np.unique(
        np.where(nobody, len(folder.people) + np.arange(len(folder)), folder.labels), return_inverse=True
    )
    order = np.lexsort([rng.random(len(folder)), rng.permutation(people.max() + 1)[people]])
    chosen: dict[int, int] = {}
    failures = dict(folder.failures)
    for index in order.tolist():
        if len(chosen) == faces:
            break
        if people[index] not in chosen:
            try:
                folder.read(index)
            except MagfaceError as error:
                failures[folder.names[index]] = str(error)
            else:
                chosen[people[index]] = index
    if not chosen:
        folder.without([failures[name] for name in folder.names])
    return list(chosen.values()), failures


def _series(folder: FaceSet, chosen: Sequence[int], steps: int, seed: int, progress: Progress | None) -> Iterator[U8]:
    """Each face as it is, then every kind of damage at every step; a series shares one state of the generator."""
    for index in chosen:
        crop = folder.read(index)
        yield crop
        for degrade in KINDS.values():
            for step in range(1, steps + 1):
                yield degrade(crop, step / steps, np.random.default_rng([seed, index]))
        if progress is not None:
            progress(1 + len(KINDS) * steps)


def _order(scores: F32) -> float:
    """Spearman of strength and score; 0 for a score that does not change."""
    found = spearman(np.arange(len(scores)), scores)
    return 0.0 if math.isnan(found) else found


def _mean(name: str, each: F64, note: str) -> Measure:
    """Mean of one number a face."""
    interval = (
        None if np.ptp(each) == 0 else bootstrap(lambda rows: float(each[rows].mean()), len(each), repeats=_REPEATS)
    )
    return Measure(name, float(each.mean()), interval, note)


def _counted(falls: NDArray[np.bool_]) -> str:
    return f"{int(falls.sum()):,} of {falls.size:,}"


def _still(scores: F32) -> str:
    """How many series do not change."""
    still = int((np.ptp(scores, axis=-1) == 0).sum())
    return f"{still:,} series without any change" if still else ""
