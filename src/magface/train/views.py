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
from magface.data.face_set import FaceSet
from magface.io import atomic_path
from magface.threads import prefetch
from magface.train.config import Recipe
from magface.train.log import progress
from magface.types import F32, U8

_CHUNK = 16  # images of a forward pass; activations of more leave the processor's cache
_HALF_MAX = 65504.0


@dataclass(frozen=True)
class Views:
    """Embeddings and, where asked for, trunk features of the clean image (view 0), its degraded views and its steps.

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
    embeddings: F32
    features: NDArray[np.float16] | None


def compute(backbone: nn.Module, faces: FaceSet, recipe: Recipe, folder: Path, device: str = "cpu") -> Views:
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


def _write(backbone: nn.Module, faces: FaceSet, recipe: Recipe, paths: tuple[Path, Path], device: str) -> None:
    settings, make = recipe.degradation, degrade(recipe)
    count = 1 + settings.views + settings.steps
    step = max(1, _CHUNK // count)

    def chunk(index: int) -> _Chunk:
        rows = range(index * step, min((index + 1) * step, len(faces)))
        x = to_network(torch.from_numpy(np.stack([view for row in rows for view in views(row)])).to(device))
        with torch.inference_mode():
            f, h = _forward(backbone, x, count > 1)
        shape = len(rows), count
        half = None if h is None else h.reshape(*shape, *h.shape[1:]).cpu().numpy()
        return _Chunk(slice(rows.start, rows.stop), f.float().reshape(*shape, -1).cpu().numpy(), half)

    def views(row: int) -> list[U8]:
        image = faces.read(row)
        generators = [np.random.default_rng((settings.seed, row, view)) for view in range(1, settings.views + 1)]
        drawn = [make(flip(image, rng), rng) for rng in generators]
        return [image, *drawn, *_steps(image, settings.steps, (settings.seed, row))]

    with progress() as bar, ExitStack() as files:
        first = chunk(0)
        embeddings = np.empty((len(faces), *first.embeddings.shape[1:]), np.float32)
        into = files.enter_context(atomic_path(paths[0]))
        if first.features is not None:
            place = files.enter_context(atomic_path(paths[1]))
            features = open_memmap(place, "w+", np.float16, (len(faces), *first.features.shape[1:]))
        shown = bar.add_task("features of the training images", total=len(faces), note="")
        workers = recipe.optimization.workers
        for part in prefetch(chunk, range(-(-len(faces) // step)), workers=workers, limit=workers + 1):
            embeddings[part.rows] = part.embeddings
            if part.features is not None:
                features[part.rows] = part.features
            bar.update(shown, advance=len(part.embeddings))
        if first.features is not None:
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


def _steps(image: U8, count: int, seed: tuple[int, int]) -> list[U8]:
    """One degradation at `count` rising strengths; the seed decides which, and how strong the first is."""
    rng = np.random.default_rng((*seed, 0))
    name = rng.choice(list(degradations.NAMES))
    strengths = (np.arange(count) + 1 - rng.random()) / max(count, 1)
    state = int(rng.integers(2**32))
    return [degradations.NAMES[name](image, strength, np.random.default_rng(state)) for strength in strengths]


def flip(image: U8, rng: np.random.Generator) -> U8:
    """Mirrored left to right, half of the time."""
    return np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image


def _key(backbone: nn.Module, faces: FaceSet, recipe: Recipe) -> str:
    drawing = {name: value for name, value in asdict(recipe.degradation).items() if name != "share"}
    settings = [faces.fingerprint, drawing, recipe.backbone]
    drawn = inspect.getsource(degradations)
    found = hashlib.sha256(json.dumps([*settings, drawn]).encode())
    for name, tensor in backbone.state_dict().items():
        if not name.startswith("branch."):
            found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
