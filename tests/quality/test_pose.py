import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from magface.detect import YuNet
from magface.errors import DataError
from magface.images import read
from magface.quality.pose import HEAD, pose

LEFT_RIGHT = [1, 0, 2, 4, 3]
FRONTAL = 35 * HEAD[:, :2]


def seen(yaw, pitch, roll, scale=90.0, at=(200.0, 100.0)):
    """The head turned by SciPy: x right, y down, z away; first up, then to the right, then clockwise."""
    turn = Rotation.from_euler("xyz", [-pitch, -yaw, roll], degrees=True)  # fixed axes
    return scale * turn.apply(HEAD)[:, :2] + at


@given(st.floats(-85, 85), st.floats(-85, 85), st.floats(-179, 179), st.floats(0.01, 100))
def test_known_angles_are_found_again(yaw, pitch, roll, scale):
    found = pose(seen(yaw, pitch, roll, scale))
    assert found == pytest.approx((yaw, pitch, roll), abs=1e-4)


@given(st.floats(-85, 85), st.floats(-85, 85), st.floats(-179, 179))
def test_turned_is_the_angle_between_the_view_and_the_camera(yaw, pitch, roll):
    ahead = Rotation.from_euler("xyz", [-pitch, -yaw, roll], degrees=True).apply([0, 0, -1])
    angle = np.degrees(np.arccos(np.clip(-ahead[2], -1, 1)))
    assert pose(seen(yaw, pitch, roll)).turned == pytest.approx(angle, abs=1e-3)


def test_signs():
    nose = FRONTAL.copy()
    nose[2] += (6, 0)
    assert pose(nose).yaw > 10
    nose = FRONTAL.copy()
    nose[2] -= (0, 6)
    assert pose(nose).pitch > 10
    quarter = np.array([[0, 1], [-1, 0]])  # right becomes down
    assert pose(FRONTAL @ quarter).roll == pytest.approx(90, abs=1)


def test_real_people_look_about_straight_ahead(album):
    photos = [read(path) for path in sorted(album.rglob("*.jpg"))[::3]]
    found = np.array([pose(faces[0].landmarks) for faces in YuNet().detect(photos) if faces])
    assert np.median(found, axis=0) == pytest.approx((0, 0, 0), abs=5)
    assert (np.percentile(np.abs(found), 80, axis=0) < (30, 15, 10)).all()


@given(st.lists(st.floats(-20, 20), min_size=10, max_size=10))
def test_a_mirrored_face_looks_the_other_way(noise):
    landmarks = FRONTAL + np.reshape(noise, (5, 2)) / 4
    mirrored = landmarks[LEFT_RIGHT] * (-1, 1)
    yaw, pitch, roll = pose(landmarks)
    assert pose(mirrored) == pytest.approx((-yaw, pitch, -roll), abs=1e-3)


@given(st.floats(-80, 80), st.floats(-60, 60), st.floats(-80, 80))
def test_turning_the_picture_changes_roll_alone(yaw, pitch, by):
    angle = np.radians(by)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    found = pose(seen(yaw, pitch, 5.0) @ turn)
    assert found == pytest.approx((yaw, pitch, 5.0 + by), abs=1e-4)


@pytest.mark.parametrize(
    "landmarks", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2)), np.full((5, 2), 7.0), [[np.inf, 1]] * 5]
)
def test_landmarks_without_a_face_are_refused(landmarks):
    with pytest.raises(DataError, match="landmarks of a face"):
        pose(landmarks)


def test_a_full_profile_has_an_angle_however_it_is_rounded():
    for roll in range(-179, 180):
        for yaw in (-90, 90):
            assert abs(pose(seen(yaw, 0, roll)).yaw) == pytest.approx(90, abs=1e-4)


def test_landmarks_on_one_line_are_no_reason_to_stop():
    assert np.isfinite(pose(np.outer([0, 4, 2, 1, 3], [30, 10]) + 100)).all()
