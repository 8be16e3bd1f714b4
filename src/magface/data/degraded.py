"""A set of faces of which a seed degrades a share, for measuring where good faces have nothing to tell."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import cv2
import numpy as np

from magface import images
from magface.data.degradations import Degrade
from magface.data.face_set import FaceSet, Place

SHARE = 0.5


def degraded(faces: FaceSet, seed: int = 0, share: float = SHARE) -> FaceSet:
    """The same images, a share of them degraded by `degradations.Degrade`, mildly and severely alike.

    The name of an image and the seed decide, so an image is degraded in the same way whatever else is in the set.
    Nothing is decoded before it is asked for.

    Args:
        faces: N images.
        seed: of what is drawn.
        share: of images that are degraded, 0 to 1; met on average.

    Returns:
        N images; those that are degraded are suspect, since nobody should take them for what the person looks like.
    """
    draws = [np.random.default_rng(_words(seed, name)).random() for name in faces.names]
    chosen = np.array(draws) < share
    places = tuple(
        _Degraded(place, name, seed) if worse else place
        for place, name, worse in zip(faces.places, faces.names, chosen, strict=True)
    )
    return replace(faces, places=places, suspect=faces.suspect | chosen)


@dataclass(frozen=True, slots=True)
class _Degraded:
    """A degraded image, as the bytes of a PNG."""

    place: Place
    name: str
    seed: int

    def read(self) -> bytes:
        """See `Place`."""
        rng = np.random.default_rng(_words(self.seed, self.name))
        rng.random()  # decided that it is degraded
        worse = Degrade(none=0)(images.decode(self.place.read(), name=self.name), rng)
        return cv2.imencode(".png", worse[..., ::-1])[1].tobytes()


def _words(seed: int, name: str) -> list[int]:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return [seed, *np.frombuffer(digest, "<u4").tolist()]
