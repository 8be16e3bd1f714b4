"""Why a picture of a face scores low: what can be measured of it, and the range in which good pictures lie.

The score itself comes from the network. These measures do not make it up; they are what a person who takes the
picture again can change. Sharpness, brightness, clipping and contrast are taken from the middle of the crop, so that
what is black beyond the edge of a photo does not count as dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import ArrayLike

from magface import align
from magface.data.regions import cover
from magface.quality import measures
from magface.quality.pose import pose
from magface.types import F32, U8

_FACE = slice(28, 104), slice(22, 90)  # rows and columns of the crop in which there is nothing but face
_EYES, _BRIDGE = ((slice(46, 60), slice(28, 48)), (slice(46, 60), slice(64, 84))), (slice(40, 58), slice(50, 62))
_BELOW = (slice(60, 66), slice(30, 46)), (slice(60, 66), slice(66, 82))  # where the rim of glasses is
_SKIN = (slice(60, 76), slice(48, 64)), (slice(66, 80), slice(32, 44)), (slice(66, 80), slice(68, 80))
_COVERS = ("both eyes", "mouth")
_DIM = 8.0  # grey levels, so that black skin in a dark photo has no endless ratio
_BETWEEN_EYES = float(np.linalg.norm(align.TEMPLATE[1] - align.TEMPLATE[0]))

_EYES_WEIGHTS, _EYES_OFFSET = (-1.86, -2.20, 2.47, -1.73), -2.74
_MOUTH_WEIGHT, _MOUTH_OFFSET = -6.28, 6.60


@dataclass(frozen=True, slots=True)
class Range:
    """Where a measure is fine, and what it means where it is not.

    Attributes:
        unit: of the value.
        low: least value that is fine.
        high: greatest value that is fine.
        below: a word for what is below `low`, and what to do about it.
        above: a word for what is above `high`, and what to do about it.
    """

    unit: str
    low: float = -math.inf
    high: float = math.inf
    below: tuple[str, str] = ("", "")
    above: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Component:
    """One measure of one face.

    Attributes:
        name: one of `RANGES`.
        value: in the unit of its range.
        cause: what is wrong with it, with the value; empty where it is fine.
        advice: what to do about it; empty where it is fine.
    """

    name: str
    value: float
    cause: str = ""
    advice: str = ""

    @property
    def range(self) -> Range:
        """Where the measure is fine."""
        return RANGES[self.name]


_TURN = "let the person look into the camera"
_LEVEL = "hold the camera, or the head, upright"
_HEIGHT = "hold the camera at the height of the eyes"
RANGES: Mapping[str, Range] = MappingProxyType(
    {
        "sharpness": Range("% of contrast", low=6, below=("blurred", "hold still, focus on the face, add light")),
        "brightness": Range("of 255", 75, 185, ("dark", "add light from the front"), ("bright", "use less light")),
        "clipped": Range("%", high=22, above=("black or white without detail", "use even, softer light")),
        "contrast": Range("of 127", 20, 73, ("flat", "avoid haze and light behind"), ("harsh", "use softer light")),
        "yaw": Range("degrees", -35, 35, ("turned to the left", _TURN), ("turned to the right", _TURN)),
        "pitch": Range("degrees", -8, 8, ("looking down", _HEIGHT), ("looking up", _HEIGHT)),
        "roll": Range("degrees", -15, 15, ("tilted to the left", _LEVEL), ("tilted to the right", _LEVEL)),
        "size": Range("pixels between the eyes", low=16, below=("small", "come closer, or take more pixels")),
        "eyes covered": Range("probability", high=0.5, above=("eyes seem covered", "take off glasses, show the eyes")),
        "mouth covered": Range("probability", high=0.3, above=("mouth seems covered", "take off the mask")),
    }
)
"""Every measure, and what is fine.

A range ends about where 2 % of 5,521 good photos (`celeba299` of `train.tar`) are out of it, and where it was seen that
recognition suffers: faces beyond are missed 1.6 to 3 times as often at FMR 1e-3 as those in the middle. Size, which
crops do not have, ends where faces that were made smaller begin to be missed more often, by a tenth at 16 pixels and
by two thirds at 10; roll, which crops do not have either, where photos that were turned lose a little of their score,
2 at 15 degrees and 21 at 30. Sharpness is variance of the Laplacian over that of the luma, so that darkness is not
taken for blur. The shares of covered faces that are found are in `docs/results/components.txt`.

`python benchmarks/components.py DATA` measures all of it again.
"""


def measure(crop: U8, landmarks: F32 | None = None) -> tuple[Component, ...]:
    """Measures of the picture, and with landmarks of the pose and size.

    Args:
        crop: `(112, 112, 3)` uint8 RGB, aligned.
        landmarks: `(5, 2)` float, in pixels of the photo, as the detector gave them; None where they are unknown.

    Returns:
        One for each of `RANGES` that can be told without a network, in that order.

    Example:
        >>> [each.cause for each in measure(np.zeros((112, 112, 3), np.uint8)) if each.name == "brightness"]
        ['dark: brightness 0 of 255, fine from 75']
    """
    face = crop[_FACE]
    contrast = measures.contrast(face)
    values = {
        "sharpness": 100 * measures.laplacian(face) / max(contrast**2, 1.0),
        "brightness": measures.brightness(face),
        "clipped": 100 * (measures.underexposed(face) + measures.overexposed(face)),
        "contrast": contrast,
    }
    if landmarks is not None:
        looks = pose(landmarks)
        scale = float(np.linalg.norm(align.similarity(landmarks)[:, 0]))
        values |= {"yaw": looks.yaw, "pitch": looks.pitch, "roll": looks.roll, "size": _BETWEEN_EYES / scale}
    return tuple(_component(name, value) for name, value in values.items())


def covered(crop: U8) -> U8:
    """The crop with the eyes, and with the mouth, behind grey: `(2, 112, 112, 3)` uint8."""
    return np.stack([cover(crop, region, 1.0) for region in _COVERS])


def occlusion(crop: U8, embedding: F32, hidden: F32, width: float) -> tuple[Component, Component]:
    """Whether something covers the eyes or the mouth: a hint.

    Where a mask hides the mouth already, grey in its place moves the embedding little; where glasses hide the eyes,
    grey in their place takes little off the magnitude. For the eyes the picture has a say too: how dark the rim below
    them is, the frame across the nose, and how little there is to see.

    The weights are those of a logistic regression on `train.tar`, measured with `python benchmarks/components.py`.

    Args:
        crop: `(112, 112, 3)` uint8 RGB, aligned.
        embedding: `(D,)` float32, raw, of the crop.
        hidden: `(2, D)` float32, raw, of `covered(crop)`.
        width: of the model's score, `card.quality.w`: the unit in which lengths of embeddings count.

    Returns:
        Probabilities that eyes and mouth are covered.
    """
    eyes, mouth = probabilities(
        eyes_features(crop, embedding, hidden[0], width), mouth_feature(embedding, hidden[1], width)
    )
    return _component("eyes covered", eyes), _component("mouth covered", mouth)


def probabilities(eyes: ArrayLike, mouth: float) -> tuple[float, float]:
    """Of covered eyes and of a covered mouth, from `eyes_features` and `mouth_feature`."""
    return (
        _logistic(float(np.dot(_EYES_WEIGHTS, eyes)) + _EYES_OFFSET),
        _logistic(_MOUTH_WEIGHT * mouth + _MOUTH_OFFSET),
    )


def eyes_features(crop: U8, embedding: F32, hidden: F32, width: float) -> tuple[float, float, float, float]:
    """What tells covered eyes: the magnitude that grey over them takes, the rim below, the bridge, the texture."""
    luma = measures.luminance(crop)
    skin = float(np.median([luma[place].mean() for place in _SKIN]))
    below = float(np.mean([luma[place].mean() for place in _BELOW]))
    across = float(np.abs(cv2.Sobel(luma, cv2.CV_32F, 1, 0))[_BRIDGE].mean())
    texture = float(np.mean([luma[place].std() for place in _EYES]))
    taken = float(np.linalg.norm(embedding) - np.linalg.norm(hidden)) / width
    return taken, math.log((below + _DIM) / (skin + _DIM)), math.log1p(across), math.log1p(texture)


def mouth_feature(embedding: F32, hidden: F32, width: float) -> float:
    """What tells a covered mouth: how far grey over it moves the embedding."""
    return float(np.linalg.norm(embedding - hidden)) / width


def _component(name: str, value: float) -> Component:
    fine = RANGES[name]
    if fine.low <= value <= fine.high:
        return Component(name, value)
    word, advice = fine.below if value < fine.low else fine.above
    if fine.unit == "probability":
        return Component(name, value, f"{word}: probability {value:.2f}, fine to {fine.high:g}", advice)
    limit = f"from {fine.low:g}" if value < fine.low else f"to {fine.high:g}"
    return Component(name, value, f"{word}: {name} {_rounded(value, fine)} {fine.unit}, fine {limit}", advice)


def _rounded(value: float, fine: Range) -> str:
    """A value that is out of range, with as many digits as tell it from the limit."""
    limit = fine.low if value < fine.low else fine.high
    return next(text for digits in range(20) if float(text := f"{value:.{digits}f}") != limit or digits == 19)


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
