"""How good the magnitude is on people who were kept out of training; what a choice between runs goes by."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from magface.benchmarks.edc import draw
from magface.benchmarks.scores import FMR, measures, score
from magface.data.image_folder import ImageFolder
from magface.train import views
from magface.train.config import Recipe
from magface.train.loop import progress
from magface.types import F32, Embeddings

GENUINE, IMPOSTOR = 20_000, 200_000
_CHUNK = 16


def validate(
    recipe: Recipe, backbone: nn.Module, faces: ImageFolder, device: str = "cpu"
) -> dict[str, dict[str, float]]:
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
    vectors = _embed(backbone.eval(), held, device)
    found = {}
    for source in np.unique(held.sources).tolist():
        rows = held.sources == source
        _, labels = np.unique(held.labels[rows], return_inverse=True)
        if len(labels) < 3 or not 1 < labels.max() + 1 < len(labels):
            continue
        scores = score(Embeddings(vectors[rows]), *draw(labels, GENUINE, IMPOSTOR, seed=0))
        found[source or "all"] = {m.name: m.value for m in measures(scores, FMR) if m.value is not None}
    return found


def _embed(backbone: nn.Module, faces: ImageFolder, device: str) -> F32:
    chunks = [range(i, min(i + _CHUNK, len(faces))) for i in range(0, len(faces), _CHUNK)]
    parts = []
    with torch.inference_mode(), progress() as bar:
        shown = bar.add_task("validation", total=len(faces), note="")
        for chunk in chunks:
            crops = torch.from_numpy(np.stack([faces.read(row) for row in chunk])).to(device)
            parts.append(backbone(views.to_network(crops)).float().cpu().numpy())
            bar.update(shown, advance=len(chunk))
    return np.concatenate(parts)
