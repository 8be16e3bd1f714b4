"""Where a face looks, from its five landmarks and the shape of an average head."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.align import TEMPLATE
from magface.errors import DataError

_NOSE_DEPTH, _MOUTH_DEPTH = -15.0, -2.0  # pixels of the crop in front of the eyes; 35 are between these
_TINY = 1e-6


class Pose(NamedTuple):
    """Angles in degrees: what turns a face that looks into the camera, in the order pitch, yaw, roll.

    Attributes:
        yaw: -90 to 90, above 0 where the face looks to the right of the picture.
        pitch: -180 to 180, above 0 where it looks up.
        roll: -180 to 180, above 0 where it is turned clockwise in the picture.
    """

    yaw: float
    pitch: float
    roll: float

    @property
    def turned(self) -> float:
        """Degrees between where the face looks and the camera, 0 to 180; turning the picture does not change it."""
        return math.degrees(math.acos(math.cos(math.radians(self.yaw)) * math.cos(math.radians(self.pitch))))


def head() -> NDArray[np.float64]:
    """`(5, 3)` float64: the landmarks of an average head that looks into the camera.

    Columns are right, down and away from the camera, in pixels of the crop; the middle of the eyes is the origin. In
    the picture it is the template, made symmetric, so that a face which fits the template looks straight ahead.
    """
    mirrored = np.array(TEMPLATE, np.float64)[[1, 0, 2, 4, 3]]
    axis = (TEMPLATE[:, 0] + mirrored[:, 0]).mean() / 2
    mirrored[:, 0] = 2 * axis - mirrored[:, 0]
    flat = (TEMPLATE + mirrored) / 2
    depth = [0.0, 0.0, _NOSE_DEPTH, _MOUTH_DEPTH, _MOUTH_DEPTH]
    return np.column_stack([flat - flat[:2].mean(axis=0), depth])


def pose(landmarks: ArrayLike) -> Pose:
    """Yaw, pitch and roll of a face.

    The linear map from the average head to the landmarks, in the sense of least squares, is brought to the nearest
    rotation seen by a camera far away. People differ in how far the nose stands out, so a single angle is a hint of
    about 10 degrees; the order of frontal, half and full profile is what can be relied on.

    Source: DeMenthon and Davis, "Model-based object pose in 25 lines of code", 1995 (the first step, POS)

    Args:
        landmarks: `(5, 2)` float, `(x, y)` in pixels of a photo or crop, in the order of `Face.landmarks`.

    Raises:
        DataError: landmarks are not five finite points, or fall together.

    Example:
        >>> max(map(abs, pose(2 * TEMPLATE + 10))) < 1
        True
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise DataError("the landmarks of a face must be five points of finite numbers; detect the face again.")
    model = head()
    seen = np.linalg.lstsq(model - model.mean(axis=0), points - points.mean(axis=0), rcond=None)[0].T
    left, lengths, right = np.linalg.svd(seen, full_matrices=False)
    if lengths[0] < _TINY:
        raise DataError("the five landmarks of a face fall together; detect the face again.")
    rows = left @ right
    away = np.cross(*rows)
    yaw = math.asin(float(np.clip(away[0], -1, 1)))
    pitch = math.atan2(float(-away[1]), float(away[2]))
    roll = math.atan2(float(rows[1, 0]), float(rows[0, 0]))
    return Pose(*(math.degrees(angle) for angle in (yaw, pitch, roll)))
