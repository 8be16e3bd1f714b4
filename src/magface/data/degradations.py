"""What makes a face harder to recognise, drawn onto aligned crops at a chosen strength.

Every degradation takes a `(H, W, 3)` uint8 RGB crop, a strength within [0, 1] and a NumPy generator, and returns a new
crop of the same shape. Strength 0 changes nothing; with generators in the same state, a greater strength is a severer
case of the same kind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from magface.types import F32, U8

Array = NDArray[Any]
Degradation = Callable[[U8, float, np.random.Generator], U8]
NAMES: dict[str, Degradation] = {}
"""Every degradation, in the order in which a picture suffers them: scene, framing, light, optics, sensor, file."""

_SIDE = 112
_EYES = np.array([[38.3, 51.6], [73.5, 51.6]], np.float32)
_NOSE = np.array([56.0, 71.7], np.float32)
_CHIN = 116.0
"""Where the face is in a crop of the ArcFace template; the chin lies just outside."""


def _degradation(function: Callable[[U8, float, np.random.Generator], Array]) -> Degradation:
    @functools.wraps(function)
    def checked(image: U8, strength: float, rng: np.random.Generator) -> U8:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"a crop is (H, W, 3) uint8, not {image.shape} {image.dtype}.")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is within 0 and 1, not {strength}.")
        return _to_u8(function(image, float(strength), rng)) if strength else image.copy()

    NAMES[function.__name__] = checked
    return checked


@dataclass(frozen=True)
class Degrade:
    """A random composition of degradations, mild and severe alike.

    Attributes:
        none: probability that the crop stays as it is.
        counts: probabilities, up to a factor, of composing 1, 2, 3, ... degradations.
        weights: relative frequency of each degradation; those not named have weight 1.

    Raises:
        ValueError: a name in `weights` is unknown, or a number is not a probability.

    Example:
        >>> face = np.full((112, 112, 3), 128, np.uint8)
        >>> Degrade()(face, np.random.default_rng(0)).shape
        (112, 112, 3)
    """

    none: float = 0.1
    counts: Sequence[float] = (0.5, 0.3, 0.2)
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.weights) - set(NAMES)
        if unknown:
            raise ValueError(f"no degradation is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}.")
        if not 0 <= self.none <= 1 or min([*self.counts, *self.weights.values()]) < 0 or not sum(self.counts):
            raise ValueError("probabilities and weights of degradations must not be negative.")

    def __call__(self, image: U8, rng: np.random.Generator) -> U8:
        """Degrade a `(H, W, 3)` uint8 RGB crop."""
        if rng.random() < self.none:
            return image.copy()
        weights = np.array([self.weights.get(name, 1.0) for name in NAMES])
        count = 1 + rng.choice(len(self.counts), p=np.array(self.counts) / np.sum(self.counts))
        count = min(int(count), int(np.count_nonzero(weights)))
        chosen = rng.choice(len(NAMES), count, replace=False, p=weights / weights.sum())
        functions = list(NAMES.values())
        for index in sorted(chosen):
            image = functions[index](image, 1 - rng.random(), rng)
        return image


# Scene


@_degradation
def sunglasses(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Glasses over both eyes, from small and lightly tinted to large and opaque."""
    size = _scale(image) * (0.65 + 0.35 * strength)
    half_width, half_height = rng.uniform(15, 19) * size, rng.uniform(10, 16) * size
    eyes = _EYES * _scale(image) + rng.normal(0, 1, 2) + np.array([0, 0.15 * half_height])
    tilt = np.deg2rad(rng.normal(0, 3))
    squareness = rng.uniform(2, 4.5)
    outlines = [
        _lens(eye, half_width, half_height, squareness, tilt, side) for eye, side in zip(eyes, (-1, 1), strict=True)
    ]
    frame = rng.choice([15.0, 50.0, 130.0], p=[0.6, 0.2, 0.2]) + rng.uniform(-12, 12, 3)
    thickness = max(1, round(rng.uniform(0.8, 3.2) * size))
    tint = rng.uniform(0, 45) + rng.uniform(-1, 1, 3) * rng.choice([3.0, 30.0])
    opacity = min(1, 0.3 + strength) * np.array([1.0, rng.uniform(0.55, 1.0)])

    lens = _filled(image, outlines)
    heights = np.concatenate(outlines)[:, 1]
    veil = np.interp(_grid(image)[1], [heights.min(), heights.max()], opacity).astype(np.float32)
    result = _blend(image, tint + _glare(image, rng), lens * veil)
    rims = _stroked(image, outlines, thickness, closed=True)
    inner = [outlines[0][np.argmax(outlines[0][:, 0])], outlines[1][np.argmin(outlines[1][:, 0])]]
    outer = [outlines[0][np.argmin(outlines[0][:, 0])], outlines[1][np.argmax(outlines[1][:, 0])]]
    ends = [[0, outer[0][1] - 3], [image.shape[1], outer[1][1] - 3]]
    bars = [np.array(inner), *(np.array([a, b]) for a, b in zip(outer, ends, strict=True))]
    rims = np.maximum(rims, _stroked(image, bars, thickness, closed=False))
    return _blend(result, np.broadcast_to(frame, image.shape), rims * min(1, 0.4 + strength))


@_degradation
def mask(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """A face mask, from one that covers the chin to one that reaches the eyes."""
    unit = _scale(image)
    top = (_CHIN - (_CHIN - _NOSE[1] + rng.uniform(7, 17)) * strength) * unit
    bottom = (_CHIN + rng.uniform(-4, 12)) * unit
    centre = (_NOSE[0] + rng.normal(0, 2)) * unit
    half_width, sag = rng.uniform(35, 52) * unit, rng.uniform(2, 16) * unit
    t = np.linspace(-1, 1, 33)
    upper = np.stack([centre + half_width * t, top + sag * np.abs(t) ** rng.uniform(1.2, 2.5)], 1)
    side = upper[0, 1] + rng.uniform(0.3, 0.6) * (bottom - upper[0, 1])
    lower = np.stack([centre + half_width * t, side + (bottom - side) * np.sqrt(1 - t**2)], 1)
    angle = np.deg2rad(rng.normal(0, 3))
    outline = _rotated(np.concatenate([upper, lower[::-1]]), np.array([centre, bottom]), angle)

    cloth = _texture(image, rng, _cloth_colour(rng)) * _illumination(image, rng.uniform(0.3, 0.8))[..., None]
    if rng.random() < 0.5:
        cloth = cloth * _pleats(image, rng)[..., None]
    ridge = 1 + rng.uniform(0.05, 0.25) * np.exp(-(((_grid(image)[0] - centre) / (0.25 * half_width)) ** 2))
    result = _blend(image, cloth * ridge[..., None], _filled(image, [outline]))
    if rng.random() < 0.6:
        ear = top - rng.uniform(0, 18) * unit
        straps = [np.array([outline[0], [0, ear]]), np.array([outline[32], [image.shape[1], ear]])]
        band = np.broadcast_to(cloth.mean((0, 1)), image.shape)
        result = _blend(result, band, 0.9 * _stroked(image, straps, max(1, round(1.5 * unit)), closed=False))
    return result


@_degradation
def patch(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """A turned rectangle of colour, pattern or noise anywhere on the face, up to about half of the crop."""
    height, width = image.shape[:2]
    centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    area, aspect = 0.5 * strength * height * width, np.exp(rng.uniform(-0.9, 0.9))
    size = (np.sqrt(area * aspect), np.sqrt(area / aspect))
    box = cv2.boxPoints((tuple(map(float, centre)), tuple(map(float, size)), float(rng.uniform(0, 90))))
    colour = image[rng.integers(height), rng.integers(width)] if rng.random() < 0.5 else rng.uniform(0, 255, 3)
    return _blend(image, _texture(image, rng, colour), _filled(image, [box]))


# Framing


@_degradation
def truncation(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """The black side of a crop whose face reaches over the edge of its photo, up to 45 % of the crop."""
    x, y = _grid(image)
    side = rng.integers(4) * np.pi / 2 + np.deg2rad(rng.normal(0, 10))
    across = (x - image.shape[1] / 2) * np.cos(side) + (y - image.shape[0] / 2) * np.sin(side)
    return image * (across < (0.5 - 0.45 * strength) * image.shape[1])[..., None]


@_degradation
def misalignment(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """A shift of up to 16 pixels of 112 and a zoom of up to 40 %, in or out."""
    towards, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.choice([-1, 1]) * 0.35 * strength * rng.uniform(0.3, 1))
    distance = 16 * _scale(image) * strength * rng.uniform(0.3, 1)
    return _warped(image, 0.0, zoom, distance * np.array([np.cos(towards), np.sin(towards)]), rng)


@_degradation
def rotation(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """A turn within the picture of up to 45 degrees, left or right."""
    return _warped(image, rng.choice([-1, 1]) * 45 * strength, 1.0, np.zeros(2), rng)


# Light


@_degradation
def darkness(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Too little light, down to 4 % of it, with the noise of a sensor that lacks it."""
    gamma, gain = 1 + 1.2 * strength * rng.random(), (1 - strength) ** 1.5 + 0.04
    dark = 255 * np.minimum(gain, 1) * (image / np.float32(255)) ** gamma
    return dark + 5 * strength * rng.standard_normal(image.shape, np.float32)


@_degradation
def overexposure(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Too much light: highlights clip until only the darkest features are left."""
    return image * (1 + (1 + 2.5 * rng.random()) * strength) + 70 * strength


@_degradation
def low_contrast(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Haze: everything moves towards one grey, up to 94 %."""
    return image + 0.94 * strength * (rng.uniform(60, 200) - image.astype(np.float32))


# Optics


@_degradation
def gaussian_blur(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Out of focus, to a standard deviation of 6 pixels of 112."""
    return cv2.GaussianBlur(image, (0, 0), 6 * strength * _scale(image))


@_degradation
def motion_blur(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Smeared along a random line of up to 26 pixels of 112."""
    length, angle = 1 + 25 * strength * _scale(image), rng.uniform(0, np.pi)
    reach = int(length / 2) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


@_degradation
def downsampling(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Few pixels: reduced to as little as a tenth and enlarged again, each by a random interpolation."""
    height, width = image.shape[:2]
    factor = 1 + 9 * strength
    down = rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC])
    up = rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
    small = cv2.resize(image, (round(width / factor), round(height / factor)), interpolation=int(down))
    return cv2.resize(small, (width, height), interpolation=int(up))


# Sensor


@_degradation
def gaussian_noise(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Noise that does not depend on the light, to a standard deviation of 60 grey levels; grey or in colour."""
    shape = (*image.shape[:2], rng.choice([1, 3]))
    return image + 60 * strength * rng.standard_normal(shape, np.float32)


@_degradation
def shot_noise(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Noise of counting photons, down to about 6 for white."""
    photons = 6 / max(strength, 1e-6) ** 2
    return rng.poisson(image * (photons / 255)) * (255 / photons)


# File


@_degradation
def jpeg(image: U8, strength: float, rng: np.random.Generator) -> Array:
    """Compressed, from quality 95 down to 2."""
    quality = round(2 + 93 * (1 - strength) ** 2)
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]


# Drawing


def _to_u8(image: Array) -> U8:
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _scale(image: U8) -> float:
    return image.shape[1] / _SIDE


def _grid(image: U8) -> tuple[F32, F32]:
    """Coordinates x `(1, W)` and y `(H, 1)`."""
    return np.arange(image.shape[1], dtype=np.float32)[None], np.arange(image.shape[0], dtype=np.float32)[:, None]


def _blend(image: Array, paint: Array, alpha: F32) -> F32:
    """`paint` over `image` where `alpha`, `(H, W)` within [0, 1], says so."""
    return image + alpha[..., None] * (paint - image)


def _fixed(points: Array) -> NDArray[np.int32]:
    return np.rint(points * np.float32(16)).astype(np.int32)


def _filled(image: U8, outlines: Sequence[Array]) -> F32:
    """Soft-edged cover, `(H, W)` within [0, 1], of polygons of `(P, 2)` points."""
    cover = np.zeros(image.shape[:2], np.uint8)
    for outline in outlines:
        cv2.fillPoly(cover, [_fixed(outline)], 255, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(cover, (3, 3), 0.6) / np.float32(255)


def _stroked(image: U8, lines: Sequence[Array], thickness: int, *, closed: bool) -> F32:
    """Soft-edged cover, `(H, W)` within [0, 1], of lines through `(P, 2)` points."""
    cover = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(cover, [_fixed(line) for line in lines], closed, 255, thickness, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(cover, (3, 3), 0.5) / np.float32(255)


def _rotated(points: Array, centre: Array, angle: float) -> Array:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points - centre) @ turn + centre


def _lens(centre: Array, half_width: float, half_height: float, squareness: float, tilt: float, side: int) -> Array:
    """Outline `(48, 2)` of a lens: a superellipse whose lower inner corner is drawn in."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / squareness)
    y = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / squareness)
    x = x * (1 - 0.12 * (y > 0) * y) + 0.06 * side * y
    return _rotated(centre + np.stack([half_width * x, half_height * y], 1), centre, tilt)


def _glare(image: U8, rng: np.random.Generator) -> F32:
    """A reflection on the lenses, `(H, W, 1)` grey levels; none for half of the glasses."""
    x, y = _grid(image)
    bright = rng.uniform(30, 140) * (rng.random() < 0.5)
    slant, phase, width = rng.uniform(-1, 1), rng.uniform(0, 40), rng.uniform(2, 8)
    stripe = ((x + slant * y + phase) % 40 - 20) / width
    return (bright * np.exp(-(stripe**2)))[..., None].astype(np.float32)


def _cloth_colour(rng: np.random.Generator) -> Array:
    """The colours masks have: black more often than white, pale blue, navy, grey, red or any other."""
    colours = [[22, 22, 25], [225, 225, 225], [150, 190, 215], [28, 35, 65], [110, 110, 112], [165, 30, 35]]
    choice = rng.choice(7, p=[0.34, 0.16, 0.14, 0.12, 0.08, 0.06, 0.1])
    colour = np.array(colours[choice]) if choice < 6 else rng.uniform(0, 255, 3)
    return np.clip(colour * rng.uniform(0.8, 1.15) + rng.normal(0, 6, 3), 0, 255)


def _texture(image: U8, rng: np.random.Generator, colour: Array) -> F32:
    """Cloth or paint, `(H, W, 3)` grey levels: plain, striped, blotched, noisy or printed on."""
    height, width = image.shape[:2]
    paint = np.broadcast_to(colour, image.shape).astype(np.float32)
    other = rng.uniform(0, 255, 3)
    kind = rng.choice(5, p=[0.62, 0.08, 0.14, 0.04, 0.12])
    if kind == 0:
        return paint
    if kind == 1:
        x, y = _grid(image)
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 16)
        cover = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    elif kind == 2:
        cells = int(rng.integers(3, 12))
        cover = cv2.resize(rng.random((cells, cells)), (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    elif kind == 3:
        return paint + rng.uniform(10, 60) * rng.standard_normal(image.shape, np.float32)
    else:
        start = np.array([width * rng.uniform(0.3, 0.5), height * rng.uniform(0.7, 0.9)])
        cover = _stroked(image, [start + rng.normal(0, 1, (24, 2)) * (10, 3)], 1, closed=False)
    return _blend(paint, np.broadcast_to(other, image.shape), cover.astype(np.float32))


def _pleats(image: U8, rng: np.random.Generator) -> F32:
    """Factor `(H, W)` of the folds across a mask."""
    x, y = _grid(image)
    bend = rng.uniform(0, 0.006) * (x - image.shape[1] / 2) ** 2
    return 1 - rng.uniform(0.05, 0.3) * np.exp(-((((y - bend) % rng.uniform(9, 16)) / 1.5 - 1) ** 2))


def _illumination(image: U8, share: float) -> F32:
    """Factor `(H, W)` by which the light on the face brightens and darkens what is laid on it."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 10).astype(np.float32)
    return 1 - share + share * grey / max(grey.mean(), 1.0)


def _warped(image: U8, degrees: float, zoom: float, shift: Array, rng: np.random.Generator) -> U8:
    """Turned, zoomed and shifted about the middle; outside is black, as beyond the edge of a photo, or mirrored."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, zoom)
    matrix[:, 2] += shift
    border = cv2.BORDER_CONSTANT if rng.random() < 0.5 else cv2.BORDER_REFLECT
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
