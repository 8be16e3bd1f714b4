"""Draw the figures of the documentation: one function a figure, written to docs/figures.

They need no data but the results in docs/results and the portrait that scikit-image carries.

Example: python docs/make_figures.py gradient-scale
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from magface import losses
from magface.aligner import Photos
from magface.benchmarks.degradation import KINDS
from magface.benchmarks.result import Discard
from magface.embedder import Embedder
from magface.heads.gradient_scale import Slopes, optimum, slopes
from magface.io import atomic_path
from magface.losses.magface import MagFace
from magface.quality import calibration
from magface.viz import degradation, discard, gradients, style

FIGURES = Path(__file__).parent / "figures"
RESULTS = Path(__file__).parent / "results"

PEOPLE = 85_742
"""Of MS1MV2, on which the published models train."""
STRANGERS = 64 / (2 * 512)
"""Cosine to the others that counts as much as directions at random in 512 dimensions, at s = 64."""
SHOWN = ("blur", "down-sampling", "JPEG", "darkness", "rotation", "hidden mouth")
"""Kinds of damage on the strip."""
DPI = {"strip": 74}
"""Faces take more bytes than lines."""
OTHERS = {
    "Softmax": "softmax",
    "NormFace": "normface",
    "SphereFace-R": "sphereface-r",
    "CosFace": "cosface",
    "ArcFace": "arcface",
    "Mag-CosFace": "mag-cosface",
    "CurricularFace": "curricularface",
    "ElasticFace-Arc": "elasticface-arc",
    "ElasticFace-Cos": "elasticface-cos",
}
"""Losses of the second figure."""
MIDDLE, DEVIATION = 60.0, 0.333 * 50
"""Statistics with which AdaFace's margin runs over the same magnitudes as MagFace's, 10 to 110."""


class Grid(NamedTuple):
    """Slopes of each loss, and where MagFace leaves the magnitude."""

    cosine: Tensor
    magnitude: Tensor
    slopes: dict[str, Slopes]
    optimum: dict[str, Tensor]


def grid(cosine: Tensor, magnitude: Tensor) -> Grid:
    """Four losses with the settings of their papers."""
    magface = {
        "MagFace with an easy margin": MagFace(lambda_g=35.0),
        "MagFace": MagFace(lambda_g=35.0, easy_margin=False),
    }
    of = {"num_classes": PEOPLE, "other": STRANGERS}
    found = {
        "ArcFace": slopes(losses.build("arcface"), cosine, magnitude, **of),
        **{name: slopes(loss, cosine, magnitude, **of) for name, loss in magface.items()},
        "AdaFace": slopes(losses.build("adaface"), cosine, magnitude, mu=MIDDLE, sigma=DEVIATION, **of),
    }
    return Grid(cosine, magnitude, found, {name: optimum(magnitude, found[name].push) for name in magface})


def _drawn() -> Grid:
    degrees = torch.linspace(10, 125, 231, dtype=torch.float64)
    return grid((degrees * math.pi / 180).cos(), torch.linspace(10, 110, 201, dtype=torch.float64))


def gradient_scale() -> Figure:
    """How hard four losses pull a face to its centre."""
    found = _drawn()
    scales = {name: each.pull for name, each in found.slopes.items()}
    return gradients.gradient_scale(found.cosine, found.magnitude, scales, found.optimum)


def gradient_scale_others() -> Figure:
    """The same of the losses whose pull does not depend on the magnitude, and of Mag-CosFace."""
    degrees = torch.linspace(10, 125, 231, dtype=torch.float64)
    cosine, magnitude = (degrees * math.pi / 180).cos(), torch.linspace(10, 110, 51, dtype=torch.float64)
    of = {"num_classes": PEOPLE, "other": STRANGERS}
    scales = {title: slopes(losses.build(name), cosine, magnitude, **of).pull for title, name in OTHERS.items()}
    return gradients.gradient_scale(cosine, magnitude, scales)


def magnitude_slope() -> Figure:
    """How MagFace moves the magnitude; the other losses leave it alone."""
    found = _drawn()
    pushed = {name: found.slopes[name].push for name in found.optimum}
    return gradients.magnitude_slope(found.cosine, found.magnitude, pushed, found.optimum)


def error_versus_discard(name: str, title: str) -> Figure:
    """How fast the errors vanish when the pairs that a quality puts lowest are left out."""
    found = json.loads((RESULTS / f"rivals-{name}.magface-sface.json").read_text(encoding="utf-8"))["discards"]
    [curves] = discard.grouped({each: Discard(**curve) for each, curve in found.items()}).values()
    return discard.edc(curves, title)


def strip() -> Figure:
    """The public-domain portrait of Eileen Collins (NASA), worse and worse, with its score."""
    from skimage import data

    embedder, strengths = Embedder(threads=1), np.linspace(0, 1, 7)
    crop = Photos()("astronaut", data.astronaut())
    faces = [[KINDS[kind](crop, each, np.random.default_rng(0)) for each in strengths] for kind in SHOWN]
    images = np.array(faces, np.uint8)
    scores = calibration.score(embedder.embed(images.reshape(-1, *crop.shape)).magnitude, embedder.card)
    return degradation.strip(images, scores.reshape(images.shape[:2]), SHOWN, strengths.tolist())


MAKERS: dict[str, Callable[[], Figure]] = {
    "gradient-scale": gradient_scale,
    "gradient-scale-others": gradient_scale_others,
    "magnitude-slope": magnitude_slope,
    "strip": strip,
    "edc-lfw": partial(error_versus_discard, "lfw", "LFW"),
    "edc-rof_dev": partial(error_versus_discard, "rof_dev", "ROF: sunglasses and masks"),
    "edc-degraded": partial(error_versus_discard, "degraded", "LFW, half of the images degraded"),
}


def main(names: list[str]) -> None:
    """Draw the figures named, or all."""
    FIGURES.mkdir(exist_ok=True)
    for name in names or MAKERS:
        drawn = BytesIO()
        with style.look():
            MAKERS[name]().savefig(drawn, format="png", dpi=DPI.get(name, 110))
        with Image.open(drawn) as whole, atomic_path(FIGURES / f"{name}.png") as temporary:
            few = whole.convert("RGB").quantize(256, dither=Image.Dither.NONE)  # half of the bytes
            few.save(temporary, format="png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
