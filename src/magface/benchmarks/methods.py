"""Ways to judge a face, by name, so that a benchmark can set them side by side on the same faces."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from magface.detect import Detector, YuNet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.quality import brisque, perturbation
from magface.quality.measures import MEASURES, Measure
from magface.quality.pose import pose
from magface.quality.serfiq import SerFiq
from magface.threads import READERS, prefetch
from magface.types import F32, U8, Embeddings, Face

_AHEAD = 64
_PAD = 24
_SCORE = 0.1  # of a detection that still has something to say about a face
DETECTED: dict[str, tuple[Callable[[Face], float], float]] = {
    "face size": (lambda face: float(np.sqrt(np.prod(face.box[2:] - face.box[:2]))), 0.0),
    "pose": (lambda face: -pose(face.landmarks).turned, -180.0),
    "detector score": (lambda face: face.score, 0.0),
}
"""What a detector says of a face, and the lowest value, which a crop gets in which no face is found."""
IMAGES: dict[str, Measure] = {**MEASURES, "BRISQUE": brisque.score}
"""Measures of the picture alone."""
NAMES = ("magnitude", *IMAGES, *DETECTED, "SER-FIQ", "perturbation")
"""Every method, in reading order."""


class Method(Protocol):
    """A way to judge a face."""

    name: str

    def __call__(self, crops: Iterable[U8]) -> F32:
        """Judge crops, each `(112, 112, 3)` uint8 RGB, as they come.

        Returns:
            `(N,)` float32, higher is better, never NaN.
        """


class Magnitude:
    """The length of a network's embedding."""

    def __init__(self, embedder: Embedder, name: str = "magnitude") -> None:
        self.embedder, self.name = embedder, name

    def __call__(self, crops: Iterable[U8]) -> F32:
        """See `Method`."""
        vectors = list(self.embedder.stream(crops))
        return Embeddings(np.stack(vectors)).magnitude if vectors else np.zeros(0, np.float32)


class Image:
    """A measure of the picture alone."""

    def __init__(self, name: str) -> None:
        self.name, self._measure = name, IMAGES[name]

    def __call__(self, crops: Iterable[U8]) -> F32:
        """See `Method`."""
        return np.fromiter(prefetch(self._measure, crops, workers=READERS, limit=_AHEAD), np.float32)


class Detected:
    """What a detector says of the face that it finds in the crop, with a black margin around it; see `DETECTED`."""

    def __init__(self, name: str, detector: Detector | None = None) -> None:
        self.name, self._detector = name, detector or YuNet(score=_SCORE)
        self._judge, self._lowest = DETECTED[name]

    def __call__(self, crops: Iterable[U8]) -> F32:
        """See `Method`."""
        return np.fromiter(map(self._judged, crops), np.float32)

    def _judged(self, crop: U8) -> float:
        padded = cv2.copyMakeBorder(crop, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_CONSTANT)
        [faces] = self._detector.detect([np.asarray(padded, np.uint8)])
        return self._judge(faces[0]) if faces else self._lowest


class Stochastic:
    """SER-FIQ of the network that the embedder runs."""

    def __init__(self, embedder: Embedder, name: str = "SER-FIQ") -> None:
        self.name, self._judge = name, SerFiq(embedder.source)

    def __call__(self, crops: Iterable[U8]) -> F32:
        """See `Method`."""
        return self._judge(crops).astype(np.float32)


class Perturbed:
    """How well the embeddings of slightly changed crops agree."""

    def __init__(self, embedder: Embedder, name: str = "perturbation") -> None:
        self.embedder, self.name = embedder, name

    def __call__(self, crops: Iterable[U8]) -> F32:
        """See `Method`."""
        changed = prefetch(perturbation.variants, crops, workers=READERS, limit=_AHEAD)
        vectors = self.embedder.stream(chain.from_iterable(changed))
        faces = iter(lambda: list(islice(vectors, perturbation.VARIANTS)), [])
        return np.fromiter((perturbation.agreement(np.stack(face)) for face in faces), np.float32)


def build(names: Iterable[str], embedder: Embedder, beside: Sequence[Embedder | str | Path] = ()) -> list[Method]:
    """Methods by name.

    Args:
        names: of `NAMES`.
        embedder: whose faces they judge: its magnitude, and what is made of its embeddings.
        beside: other models, or their files, whose magnitudes are rivals; each under the name in its card, with the
            start of its fingerprint where another has that name too.

    Raises:
        DataError: a name is unknown.
        ModelError: a file of `beside` is no model, or SER-FIQ cannot be had of the network.

    Example:
        >>> [method.name for method in build(["magnitude", "contrast"], Embedder())]
        ['magnitude', 'contrast']
    """
    found = [_method(name, embedder) for name in names]
    for other in beside:
        rival = other if isinstance(other, Embedder) else Embedder(other)
        name = rival.card.name
        if name in {method.name for method in found}:
            name = f"{name} {rival.fingerprint[:8]}"
        found.append(Magnitude(rival, name))
    return found


def _method(name: str, embedder: Embedder) -> Method:
    if name == "magnitude":
        return Magnitude(embedder)
    if name in IMAGES:
        return Image(name)
    if name in DETECTED:
        return Detected(name)
    if name == "SER-FIQ":
        return Stochastic(embedder)
    if name == "perturbation":
        return Perturbed(embedder)
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {close[0]!r}? There" if close else "there"
    raise DataError(f"no quality method is called {name!r}; {hint} are {', '.join(NAMES)}.")
