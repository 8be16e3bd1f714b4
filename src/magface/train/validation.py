"""How good a network is, while it trains on any benchmark, and afterwards on people kept out of training."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from magface import images
from magface.benchmarks import degradation, edc, toy, verification
from magface.benchmarks.edc import draw
from magface.benchmarks.scores import measures, score
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import ImageError
from magface.train import views
from magface.train.config import Recipe
from magface.train.log import progress
from magface.types import F32, U8, Embeddings

GENUINE, IMPOSTOR = 20_000, 200_000
_CHUNK = 16


class Live:
    """A network in training as the benchmarks take a model: crops in, raw embeddings out.

    Args:
        backbone: in evaluation mode.
        device: where it is.
        step: names this state of it.
    """

    engine, precision = "torch", "f32"

    def __init__(self, backbone: nn.Module, device: str, step: int = 0) -> None:
        self.backbone, self.device, self.fingerprint = backbone, device, f"step {step}"

    def stream(self, crops: Iterable[U8]) -> Iterator[F32]:
        """Raw embeddings `(D,)` float32 of crops `(112, 112, 3)` uint8, in order."""
        remaining = iter(crops)
        while chunk := list(islice(remaining, _CHUNK)):
            with torch.inference_mode():
                inputs = views.to_network(torch.from_numpy(np.stack(chunk)).to(self.device))
                found = self.backbone(inputs).float().cpu().numpy()
            yield from found

    def embed_files(
        self, paths: Sequence[str | os.PathLike[str]], *, progress: Callable[[int], object] | None = None
    ) -> tuple[Embeddings, list[tuple[Path, str]]]:
        """Embed aligned crops on the disk; the first that cannot be read ends it."""
        try:
            crops = [images.read(path) for path in paths]
        except ImageError as error:
            return Embeddings(np.empty((0, 1), np.float32)), [(Path(), str(error))]
        return Embeddings(np.stack(list(self.stream(crops))), self.fingerprint), []


def of(recipe: Recipe, backbone: nn.Module, device: str) -> Callable[[int], dict[str, float]] | None:
    """What measures the benchmark of a recipe after a number of steps; None where it names none.

    The numbers are called `benchmark/measure`.
    """
    settings = recipe.validation
    if settings.benchmark == "none":
        return None

    def measure(step: int) -> dict[str, float]:
        live = cast(Embedder, Live(backbone, device, step))
        with tempfile.TemporaryDirectory() as folder:  # a cache is of no use: each state of the network is new
            cache = Path(folder)
            match settings.benchmark:
                case "lfw":
                    pairs = settings.pairs or None
                    result = verification.evaluate(live, settings.data, name="lfw", pairs=pairs, cache=cache)
                case "edc":
                    result = edc.evaluate(live, settings.data, cache=cache)
                case "toy":
                    result = toy.evaluate(live, settings.data)
                case _:
                    result = degradation.evaluate(live, settings.data, faces=30, steps=5)
        found = {m.name: m.value for m in result.measures if m.value is not None}
        return {f"{settings.benchmark}/{name}": value for name, value in found.items()}

    return measure


def validate(recipe: Recipe, backbone: nn.Module, faces: FaceSet, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Verification and error versus discard on the people for validation, for each source of images by itself.

    Args:
        recipe: says which people.
        backbone: the trained network.
        faces: the data set, before people are kept for validation.
        device: where `backbone` is.

    Returns:
        By source: each measure of `benchmarks.scores` that the data can tell. A source with too few people is left
        out; with `validation = 0` there is none.
    """
    _, held = faces.split(recipe.data.validation, recipe.data.validation_seed)
    if not len(held):
        return {}
    held = held.checked()
    vectors = _embed(Live(backbone.eval(), device), held)
    found = {}
    for source in np.unique(held.sources).tolist():
        rows = held.sources == source
        _, labels = np.unique(held.labels[rows], return_inverse=True)
        if len(labels) < 3 or not 1 < labels.max() + 1 < len(labels):
            continue
        scores = score(Embeddings(vectors[rows]), *draw(labels, GENUINE, IMPOSTOR, seed=0))
        found[source or "all"] = {m.name: m.value for m in measures(scores) if m.value is not None}
    return found


def _embed(live: Live, faces: FaceSet) -> F32:
    with progress() as bar:
        shown = bar.add_task("validation", total=len(faces), note="")

        def crops() -> Iterator[U8]:
            for row in range(len(faces)):
                yield faces.read(row)
                bar.update(shown, advance=1)

        return np.stack(list(live.stream(crops())))
