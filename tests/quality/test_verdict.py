"""The score alone decides; causes are given where it did not suffice."""

import cv2
import numpy as np
import pytest

from magface.embedder import Embedder
from magface.errors import DataError
from magface.quality import verdict
from magface.quality.verdict import ACCEPT, RETAKE, Limits, Verdict
from magface.recognizer import Recognizer


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer()


@pytest.mark.parametrize(
    ("score", "wanted"),
    [(0, "retake"), (34.99, "retake"), (35, "review"), (69.99, "review"), (70, "accept"), (100, "accept")],
)
def test_thresholds_belong_to_the_better_side(score, wanted):
    assert (RETAKE, ACCEPT) == (35, 70)
    assert Limits().verdict(score) == wanted


@pytest.mark.parametrize("limits", [(50, 60), (101, 10), (50, -1), (float("nan"), 10)])
def test_limits_in_the_wrong_order_are_refused(limits):
    with pytest.raises(DataError, match="0 to 100"):
        Limits(*limits)


def test_equal_limits_leave_nothing_to_review():
    assert {Limits(50, 50).verdict(score) for score in range(101)} == {Verdict.accept, Verdict.retake}


def test_a_good_face_is_accepted_without_looking_further(recognizer, astronaut):
    [face] = recognizer.faces(astronaut)
    embedder, calls = Embedder(), []

    def embed(crops):
        calls.append(crops)
        return embedder.embed(crops)

    found = verdict.assess(face.crop, face.embedding, embedder.card, embed, face.face.landmarks)
    assert (found.verdict, found.causes, calls) == (Verdict.accept, (), [])
    strict = verdict.assess(face.crop, face.embedding, embedder.card, embed, face.face.landmarks, Limits(accept=100))
    assert strict.verdict is Verdict.review
    assert len(calls) == 1
    assert [each.name for each in strict.components[-2:]] == ["eyes covered", "mouth covered"]


def test_a_blurred_face_is_not_accepted_for_its_blur(recognizer, astronaut):
    [face] = recognizer.faces(cv2.GaussianBlur(astronaut, (0, 0), 9))
    found = recognizer.assess(face)
    assert found.verdict is not Verdict.accept
    assert "blurred" in [each.cause.split(":")[0] for each in found.causes]


def test_without_landmarks_neither_pose_nor_size_is_known(recognizer, astronaut):
    [face] = recognizer.faces(astronaut)
    found = verdict.assess(face.crop, face.embedding, recognizer.card, recognizer.embedder.embed)
    assert {each.name for each in found.components} == {"sharpness", "brightness", "clipped", "contrast"}


def test_what_is_out_of_range_in_an_accepted_picture_is_no_cause(recognizer, astronaut):
    dark = np.rint(astronaut * 0.3).astype(np.uint8)
    [face] = recognizer.faces(dark)
    found = recognizer.assess(face, Limits(accept=0, retake=0))
    assert found.verdict is Verdict.accept
    assert any(each.cause for each in found.components)
    assert found.causes == ()


def test_what_is_fine_is_no_cause(recognizer, astronaut):
    [face] = recognizer.faces(cv2.GaussianBlur(astronaut, (0, 0), 9))
    found = recognizer.assess(face)
    fine = [each for each in found.components if not each.cause]
    assert fine
    assert not set(fine) & set(found.causes)
    assert {*fine, *found.causes} == set(found.components)
