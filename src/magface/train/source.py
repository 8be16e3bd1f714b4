"""The batches of a run: which images, in which order, made harder how."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface.data.augmentations import Augment
from magface.data.face_set import FaceSet
from magface.data.sampler import GlobalSampler
from magface.errors import DataError, MagfaceError
from magface.train import views
from magface.train.config import Recipe
from magface.train.ranks import Ranks
from magface.train.views import Views
from magface.types import F32, U8


@dataclass(frozen=True, eq=False)
class Batch:
    """A part of a step's faces, on one rank.

    Attributes:
        names: b names of images.
        rows: `(b,)` int64, place in the training images.
        degraded: `(b,)` bool.
        inputs: `(b, 112, 112, 3)` uint8 crops, or `(b, ...)` float16 trunk features.
        share: of the step's faces on all ranks, how many are in this part on all ranks.
        portion: of the part's faces on all ranks, how many are here.
        embeddings: `(b, D)` float32 of those features, without the branch; None beside crops.
        steps: `(b, 1 + S, ...)` float16 features of the clean images and their steps; None without steps.
        step_embeddings: `(b, 1 + S, D)` float32, likewise.
    """

    names: list[str]
    rows: NDArray[np.int64]
    degraded: NDArray[np.bool_]
    inputs: NDArray[np.uint8] | NDArray[np.float16]
    share: float = 1.0
    portion: float = 1.0
    embeddings: F32 | None = None
    steps: NDArray[np.float16] | None = None
    step_embeddings: F32 | None = None


class Source:
    """Batches, each decided by the seed and the number of its step alone, whatever the number of ranks.

    Args:
        recipe: settings.
        faces: N training images.
        known: their views, or None; batches hold features when it does.
        ranks: all of them; of a batch each takes every `world`-th face.
        unreadable: file to which the names of images go that could be read when the run began, and not any more. They
            are left out of their batches.

    Attributes:
        sampler: the order of the images.
    """

    def __init__(self, recipe: Recipe, faces: FaceSet, known: Views | None, ranks: Ranks, unreadable: Path) -> None:
        self.recipe, self.faces, self.ranks = recipe, faces, ranks
        settings = recipe.optimization
        self.sampler = GlobalSampler(len(faces), settings.batch, recipe.seed, drop_last=settings.drop_last)
        self._features = None if known is None else known.features
        self._embeddings = None if known is None else known.embeddings
        self._degrade, self._augment = views.degrade(recipe), Augment(recipe.augmentation)
        self._unreadable, self._lock = unreadable, threading.Lock()

    def parts(self, step: int) -> list[Batch]:
        """This rank's parts of the batch of a step; the last faces of the batch are degraded."""
        rows = self.sampler.rows(step)
        degraded = np.arange(len(rows)) >= round(len(rows) * (1 - self.recipe.degradation.share))
        if self._features is not None and self._embeddings is not None:
            return [self._known(self._features, self._embeddings, rows, degraded, step)]
        count, parts = self.recipe.optimization.accumulate, []
        for number in range(count):
            places = np.arange(number, len(rows), count)
            own = places[self.ranks.rank :: self.ranks.world]
            parts.append(self._read(rows[own], degraded[own], own, step, len(places) / len(rows), len(places)))
        return parts

    def _read(
        self,
        rows: NDArray[np.int64],
        degraded: NDArray[np.bool_],
        places: NDArray[np.int64],
        step: int,
        share: float,
        of: int,
    ) -> Batch:
        """Crops of `rows`, which stand at `places` of the batch; those that cannot be read are left out."""
        crops: list[U8] = []
        kept = np.ones(len(rows), bool)
        for i, (row, hard, place) in enumerate(zip(rows, degraded, places, strict=True)):
            try:
                image = self.faces.read(row)
            except MagfaceError as error:
                kept[i] = False
                self._list(self.faces.names[row], str(error))
                continue
            rng = np.random.default_rng((self.recipe.seed, 1, step, place))
            crops.append(self._degrade(self._augment.flip(image, rng), rng) if hard else self._augment(image, rng))
        if not crops:
            raise DataError(f"no image of step {step} can be read any more; see {self._unreadable}.")
        names = [self.faces.names[row] for row in rows[kept]]
        return Batch(names, rows[kept], degraded[kept], np.stack(crops), share, len(rows) / of)

    def _known(
        self,
        features: NDArray[np.float16],
        embeddings: F32,
        rows: NDArray[np.int64],
        degraded: NDArray[np.bool_],
        step: int,
    ) -> Batch:
        """Features from disk: of the clean image or a degraded view."""
        rng = np.random.default_rng((self.recipe.seed, 1, step))
        settings = self.recipe.degradation
        drawn = rng.integers(1, features.shape[1], len(rows))
        view = np.where(degraded, drawn, 0)
        names = [self.faces.names[row] for row in rows]
        series, of_steps = None, None
        if self.recipe.order.weight:
            place = rows[:, None], np.array([0, *range(-settings.steps, 0)])
            series, of_steps = features[place], embeddings[place]
        inputs = features[rows, view]
        return Batch(names, rows, degraded, inputs, 1.0, 1.0, embeddings[rows, view], series, of_steps)

    def _list(self, name: str, reason: str) -> None:
        with self._lock, self._unreadable.open("a", encoding="utf-8") as file:
            file.write(f"{name}\t{reason}\n")
