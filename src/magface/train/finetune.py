"""What a network that is trained already gives to a run: class centres, a range of magnitudes, features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from magface import geometry
from magface.data.face_set import FaceSet
from magface.train import views
from magface.train.config import Loss
from magface.train.tuning import propose
from magface.train.views import Views
from magface.types import F32

_SAMPLE, _CROPS = 2000, 200  # images from which the branch learns what features look like


def class_centres(embeddings: F32, labels: NDArray[np.int64], suspect: NDArray[np.bool_]) -> F32:
    """Mean direction of each person, weighted by the squared magnitude, suspect images left out.

    Args:
        embeddings: `(N, D)` float32, raw.
        labels: `(N,)` int64, 0..P-1.
        suspect: `(N,)` bool; each person has an image that is not.

    Returns:
        `(P, D)` float32, unit vectors.
    """
    _, sums = _weighted(embeddings, labels, suspect)
    return geometry.direction(sums).astype(np.float32)


def own_centres(embeddings: F32, labels: NDArray[np.int64], suspect: NDArray[np.bool_]) -> F32:
    """Class centre of each image's person made of the other images, so that no image is compared with itself.

    Args:
        embeddings: `(N, D)` float32, raw.
        labels: `(N,)` int64, 0..P-1.
        suspect: `(N,)` bool; each person has another image that is not.

    Returns:
        `(N, D)` float32, unit vectors.
    """
    weighted, sums = _weighted(embeddings, labels, suspect)
    return geometry.direction(sums[labels] - weighted).astype(np.float32)


def _weighted(
    embeddings: F32, labels: NDArray[np.int64], suspect: NDArray[np.bool_]
) -> tuple[F32, NDArray[np.float64]]:
    """What each image adds to its person, `(N, D)`, nothing where it is suspect, and the sums `(P, D)`."""
    weighted = geometry.magnitude(embeddings)[:, None] * embeddings * ~suspect[:, None]
    sums = np.zeros((labels.max() + 1, embeddings.shape[1]))
    np.add.at(sums, labels, weighted)
    return weighted, sums


def prepare_branch(backbone: nn.Module, known: Views, faces: FaceSet, device: str) -> None:
    """Tell the branch what features look like, and let it drop units while it trains."""
    branch: Any = backbone.get_submodule("branch")
    rows = np.linspace(0, len(faces) - 1, min(len(faces), _SAMPLE)).astype(int)
    with torch.no_grad():
        if known.features is not None:
            features = torch.from_numpy(known.features[rows].reshape(-1, *known.features.shape[2:]))
        else:
            trunk: Any = backbone
            crops = [torch.from_numpy(faces.read(row))[None].to(device) for row in rows[:_CROPS]]
            features = torch.cat([trunk.trunk(views.to_network(crop)) for crop in crops])
    if hasattr(branch, "standardise"):
        branch.standardise(features.to(device))
    branch.train()


_RANGE = {"l_a", "u_a", "l_m", "u_m"}


def tuned(settings: Loss, magnitude: F32) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of the loss for a network with these magnitudes; what the recipe sets itself stays.

    Args:
        settings: of the recipe.
        magnitude: `(N,)` float32, of the training images before training.

    Returns:
        Settings for `losses.build`, and a sentence for each that was chosen here. Where the recipe sets a part of
        MagFace's range, lambda_g is the lower bound for the whole.

    Raises:
        DataError: the magnitudes allow no proposal.
    """
    given = settings.margin
    if settings.name != "magface" or given.keys() >= _RANGE:
        return given, ()
    proposal = propose(magnitude, **{name: given[name] for name in ("s", "regularizer") if name in given})
    known = given.keys() | ({"lambda_g"} if given.keys() & _RANGE else set())
    chosen = {name: value for name, value in proposal.options.items() if name not in known}
    reasons = tuple(reason for reason in proposal.reasons if reason.split()[0] in chosen)
    return {**chosen, **given}, reasons
