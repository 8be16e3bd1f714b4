"""Where a face looks, from its five landmarks and the shape of an average head."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError

HEAD: NDArray[np.float64] = np.array(
    [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.551, -0.434], [-0.427, 0.975, 0.087], [0.427, 0.975, 0.087]]
)
"""`(5, 3)`: the landmarks of an average head that looks into the camera: right, down and away from it, in distances
between the eyes. It is the rigid shape that fits YuNet's landmarks of 459 photos of 60 people of LFW best; straight
ahead is as the median of them looks."""
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
        >>> pose(90 * HEAD[:, :2] + 200).turned < 0.01
        True
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise DataError("the landmarks of a face must be five points of finite numbers; detect the face again.")
    seen = np.linalg.lstsq(HEAD - HEAD.mean(axis=0), points - points.mean(axis=0), rcond=None)[0].T
    left, lengths, right = np.linalg.svd(seen, full_matrices=False)
    if lengths[0] < _TINY:
        raise DataError("the five landmarks of a face fall together; detect the face again.")
    rows = left @ right
    away = np.cross(*rows)
    yaw = math.asin(float(np.clip(away[0], -1, 1)))
    pitch = math.atan2(float(-away[1]), float(away[2]))
    roll = math.atan2(float(rows[1, 0]), float(rows[0, 0]))
    return Pose(*(math.degrees(angle) for angle in (yaw, pitch, roll)))
