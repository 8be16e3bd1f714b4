"""What the network makes of every training image before training, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import inspect
import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from magface.data import degradations
from magface.data.image_folder import SIDE, ImageFolder
from magface.io import atomic_path
from magface.train.config import Recipe
from magface.train.loop import prefetch, progress
from magface.types import F32, U8

_CHUNK = 16  # images of a forward pass; activations of more leave the processor's cache
_HALF_MAX = 65504.0


@dataclass(frozen=True)
class Views:
    """Embeddings and, where asked for, trunk features of the clean image (view 0) and its degraded views.

    Attributes:
        key: fingerprint of the images, the weights, and the degradations.
        embeddings: `(N, V, D)` float32, raw.
        features: `(N, V, ...)` float16 mapped from disk, or None.
    """

    key: str
    embeddings: F32
    features: NDArray[np.float16] | None


class _Chunk(NamedTuple):
    rows: slice
    images: U8


def compute(backbone: nn.Module, faces: ImageFolder, recipe: Recipe, folder: Path, device: str = "cpu") -> Views:
    """Views of every image from `folder`, or computed and put there.

    With `recipe.degradation.views` = 0 there is only the clean view, and no features.

    Args:
        backbone: in evaluation mode; `trunk` and `embed` make the features and the embedding without the branch.
        faces: N training images.
        recipe: settings of the degradations.
        folder: where views are kept, shared by runs.
        device: where `backbone` is.
    """
    key = _key(backbone, faces, recipe)
    stem = folder / f"views-{key[:16]}"
    paths = stem.with_suffix(".embeddings.npy"), stem.with_suffix(".features.npy")
    if not paths[0].exists():
        _write(backbone, faces, recipe, paths, device)
    features = np.load(paths[1], mmap_mode="r") if recipe.degradation.views else None
    return Views(key, np.load(paths[0]), features)


def degrade(recipe: Recipe) -> degradations.Degrade:
    """The degradations of a recipe."""
    settings = recipe.degradation
    return degradations.Degrade(settings.none, settings.counts, settings.weights)


def to_network(images: Tensor) -> Tensor:
    """`(N, 112, 112, 3)` uint8 RGB to what a backbone takes, `(N, 3, 112, 112)` float32 0..255."""
    return images.permute(0, 3, 1, 2).float()


def _write(backbone: nn.Module, faces: ImageFolder, recipe: Recipe, paths: tuple[Path, Path], device: str) -> None:
    count, make = 1 + recipe.degradation.views, degrade(recipe)
    step = max(1, _CHUNK // count)

    def chunk(index: int) -> _Chunk:
        rows = range(index * step, min((index + 1) * step, len(faces)))
        return _Chunk(slice(rows.start, rows.stop), np.stack([v for row in rows for v in views(row)]))

    def views(row: int) -> list[U8]:
        image = faces.read(row)
        generators = [np.random.default_rng((recipe.degradation.seed, row, view)) for view in range(1, count)]
        return [image, *(make(flip(image, rng), rng) for rng in generators)]

    with progress() as bar, torch.no_grad(), ExitStack() as files:
        f, h = _forward(backbone, torch.zeros(1, 3, SIDE, SIDE, device=device), count > 1)
        embeddings = np.empty((len(faces), count, f.shape[1]), np.float32)
        into = files.enter_context(atomic_path(paths[0]))
        if h is not None:
            place = files.enter_context(atomic_path(paths[1]))
            features = open_memmap(place, "w+", np.float16, (len(faces), count, *h.shape[1:]))
        shown = bar.add_task("features of the training images", total=len(faces), note="")
        for _, part in prefetch(chunk, range(-(-len(faces) // step)), recipe.optimization.workers):
            f, h = _forward(backbone, to_network(torch.from_numpy(part.images).to(device)), count > 1)
            rows = embeddings[part.rows]
            rows[:] = f.float().cpu().numpy().reshape(rows.shape)
            if h is not None:
                features[part.rows] = h.reshape(len(rows), count, *h.shape[1:]).cpu().numpy()
            bar.update(shown, advance=len(rows))
        if h is not None:
            features.flush()
        with into.open("wb") as file:
            np.save(file, embeddings)


def _forward(backbone: nn.Module, x: Tensor, with_features: bool) -> tuple[Tensor, Tensor | None]:
    """Embeddings, and features in half precision."""
    if not with_features:
        return backbone(x), None
    network: Any = backbone
    features = network.trunk(x)
    return network.embed(features), features.clamp(-_HALF_MAX, _HALF_MAX).half()


def flip(image: U8, rng: np.random.Generator) -> U8:
    """Mirrored left to right, half of the time."""
    return np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image


def _key(backbone: nn.Module, faces: ImageFolder, recipe: Recipe) -> str:
    drawing = {name: value for name, value in asdict(recipe.degradation).items() if name != "share"}
    settings = [faces.fingerprint, drawing, recipe.backbone]
    drawn = inspect.getsource(degradations)
    found = hashlib.sha256(json.dumps([*settings, drawn]).encode())
    for name, tensor in backbone.state_dict().items():
        if not name.startswith("branch."):
            found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
