"""Write the public-domain portrait that scikit-image carries, and copies of it that are worse in known ways.

The portrait is of the astronaut Eileen Collins (NASA). The name of a copy says what was done to it.

Example: python examples/demo_photos.py demo/photos
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from magface import Face, YuNet
from magface.types import U8


def blur(photo: U8, sigma: float) -> U8:
    """Out of focus by a standard deviation of `sigma` pixels."""
    return cv2.GaussianBlur(photo, (0, 0), sigma)


def shrink(photo: U8, factor: int) -> U8:
    """Taken from farther away."""
    height, width = photo.shape[:2]
    return cv2.resize(photo, (width // factor, height // factor), interpolation=cv2.INTER_AREA)


def darken(photo: U8, light: float) -> U8:
    """With a share of the light, and the noise of a sensor that lacks it."""
    noise = np.random.default_rng(0).normal(0, 4, photo.shape)
    return np.clip(photo * light + noise, 0, 255).astype(np.uint8)


def compress(photo: U8, quality: int) -> U8:
    """Stored as a JPEG of low quality."""
    stored = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(stored, cv2.IMREAD_COLOR)


def sunglasses(photo: U8, face: Face) -> U8:
    """Both eyes behind dark lenses."""
    left, right = face.landmarks[:2]
    distance = float(np.linalg.norm(right - left))
    worn = photo.copy()
    cv2.line(worn, _pixel(left), _pixel(right), (20, 20, 20), round(0.12 * distance), cv2.LINE_AA)
    for eye in (left, right):
        axes = round(0.42 * distance), round(0.32 * distance)
        cv2.ellipse(worn, _pixel(eye), axes, 0, 0, 360, (20, 20, 20), cv2.FILLED, cv2.LINE_AA)
    return worn


def mask(photo: U8, face: Face) -> U8:
    """Nose, mouth and chin behind a cloth."""
    nose, (x1, _, x2, y2) = face.landmarks[2], face.box
    width, top = x2 - x1, nose[1]
    outline = [(x1, top), (nose[0], top - 0.1 * width), (x2, top), (x2 - 0.2 * width, y2), (x1 + 0.2 * width, y2)]
    worn = photo.copy()
    cv2.fillPoly(worn, [np.array(outline, np.int32)], (190, 205, 215), cv2.LINE_AA)
    return worn


def copies(photo: U8) -> dict[str, U8]:
    """The photo, `(H, W, 3)` uint8 RGB, and its copies by name."""
    [[face]] = YuNet().detect([photo])
    return {
        "original": photo,
        "blur_slight": blur(photo, 1.5),
        "blur_strong": blur(photo, 4),
        "small_2x": shrink(photo, 2),
        "small_4x": shrink(photo, 4),
        "small_6x": shrink(photo, 6),
        "dark": darken(photo, 0.2),
        "very_dark": darken(photo, 0.06),
        "jpeg_10": compress(photo, 10),
        "jpeg_4": compress(photo, 4),
        "sunglasses": sunglasses(photo, face),
        "mask": mask(photo, face),
    }


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def main(folder: Path) -> None:
    """Write the photos into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, photo in copies(data.astronaut()).items():
        cv2.imwrite(str(folder / f"{name}.png"), photo[..., ::-1])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo/photos"))
