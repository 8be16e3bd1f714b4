"""One path from a photo to its faces, on a portrait in the public domain and worse copies of it."""

import time

import cv2
import numpy as np
import pytest
from PIL import Image

import magface
from magface import align, geometry
from magface.errors import ImageError, ModelError, NoFaceError
from magface.recognizer import portrait
from magface.types import Face


@pytest.fixture(scope="module")
def recognizer():
    return magface.Recognizer()


@pytest.fixture(scope="module")
def two(astronaut):
    """The portrait, and beside it a smaller and blurred copy."""
    small = cv2.resize(cv2.GaussianBlur(astronaut, (0, 0), 3), (256, 256), interpolation=cv2.INTER_AREA)
    image = np.full((512, 800, 3), 128, np.uint8)
    image[:, :512] = astronaut
    image[100:356, 530:786] = small
    return image


@pytest.fixture
def files(tmp_path, astronaut, two):
    paths = [tmp_path / name for name in ("good.png", "torn.jpg", "empty.png", "two.png")]
    Image.fromarray(astronaut).save(paths[0])
    paths[1].write_bytes(b"\xff\xd8\xff torn")
    Image.fromarray(np.full((200, 300, 3), 90, np.uint8)).save(paths[2])
    Image.fromarray(two).save(paths[3])
    return paths


def test_face_has_everything(recognizer, astronaut):
    [face] = recognizer.faces(astronaut)
    assert face.crop.shape == (112, 112, 3)
    assert face.portrait.shape[0] == face.portrait.shape[1] <= 224
    assert face.embedding.shape == (recognizer.card.embedding_size,)
    assert face.magnitude == pytest.approx(np.linalg.norm(face.embedding), rel=1e-6)
    assert face.score == pytest.approx(float(magface.score(face.magnitude, recognizer.card)))
    np.testing.assert_array_equal(face.crop, align.crop(astronaut, face.face.landmarks))


def test_faces_are_counted_from_the_left_and_the_blurred_one_is_worse(recognizer, two):
    left, right = recognizer.faces(two)
    assert left.face.box[0] < right.face.box[0]
    assert left.score > right.score
    assert left.percentile >= right.percentile


def test_no_face_gives_an_empty_list(recognizer):
    assert recognizer.faces(np.zeros((100, 100, 3), np.uint8)) == []


def test_stream_gives_every_photo_in_order_and_the_same_faces(recognizer, files):
    photos = list(recognizer.stream(files * 6))
    assert [photo.path for photo in photos] == files * 6
    for photo in photos:
        assert bool(photo.error) == (photo.path.name == "torn.jpg")
        assert len(photo.faces) == {"good.png": 1, "two.png": 2}.get(photo.path.name, 0)
    alone = {path: recognizer.faces(path) for path in files if path.name != "torn.jpg"}
    for photo in photos:
        for face, expected in zip(photo.faces, alone.get(photo.path, []), strict=True):
            np.testing.assert_array_equal(face.face.box, expected.face.box)
            np.testing.assert_array_equal(face.crop, expected.crop)
            np.testing.assert_array_equal(face.portrait, expected.portrait)
            np.testing.assert_allclose(face.embedding, expected.embedding, atol=1e-4 * expected.magnitude)


def test_stream_takes_only_a_few_photos_ahead(recognizer, files):
    taken = []

    def paths():
        for _ in range(500):
            taken.append(1)
            yield files[0]

    stream = recognizer.stream(paths())
    assert next(stream).faces
    assert len(taken) < 250
    stream.close()


def test_stream_without_faces_does_not_wait_for_the_end(recognizer, files):
    taken = []

    def paths():
        for _ in range(500):
            taken.append(1)
            yield files[2]

    stream = recognizer.stream(paths())
    for done in range(1, 401):
        assert not next(stream).faces
        assert len(taken) - done < 300
    stream.close()


def test_stream_of_nothing_and_of_no_faces(recognizer, files):
    assert list(recognizer.stream([])) == []
    assert [len(photo.faces) for photo in recognizer.stream(files[1:3])] == [0, 0]


def test_same_person_matches(recognizer, astronaut, two):
    result = recognizer.verify(astronaut, two)
    assert result.match
    assert result.a.embedding @ result.b.embedding > 0
    assert result.cosine == pytest.approx(float(geometry.cosine(result.a.embedding, result.b.embedding)))
    assert result.b is result.faces_b[0]  # the larger
    other = recognizer.verify(astronaut, two, face_b=1)
    assert other.b is other.faces_b[1]
    assert other.score == min(other.a.score, other.b.score)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fmr": 1e-9}, ModelError, "it has 0.01, 0.001"),
        ({"face_a": 4}, NoFaceError, "has no face 5; it has 1"),
        ({"face_b": -1}, NoFaceError, "has no face 0"),
    ],
)
def test_impossible_questions_are_refused(recognizer, astronaut, arguments, error, message):
    with pytest.raises(error, match=message):
        recognizer.verify(astronaut, astronaut, **arguments)


def test_verify_names_the_photo_without_a_face(recognizer, files):
    with pytest.raises(NoFaceError, match=r"no face was found in .*empty\.png"):
        recognizer.verify(files[0], files[2])
    with pytest.raises(ImageError, match=r"torn\.jpg"):
        recognizer.verify(files[1], files[0])


def test_a_detector_of_ones_own(astronaut, recognizer):
    class Given:
        name = "given"

        def detect(self, images):
            [known] = recognizer.faces(astronaut)
            broken = Face(known.face.box, np.zeros((5, 2), np.float32), 1.0)
            return [[known.face] if image.shape == astronaut.shape else [broken] for image in images]

    own = magface.Recognizer(detector=Given())
    assert own.detector.name == "given"
    [face] = own.faces(astronaut)
    np.testing.assert_allclose(face.embedding, recognizer.faces(astronaut)[0].embedding, atol=1e-4)


def test_a_detector_of_ones_own_is_asked_by_one_thread_at_a_time(files):
    class Alone:
        name = "alone"
        inside = 0
        most = 0

        def detect(self, images):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.002)
            self.inside -= 1
            return [[] for _ in images]

    own = magface.Recognizer(detector=Alone())
    assert len(list(own.stream(files[:1] * 20))) == 20
    assert own.detector.most == 1


def test_a_face_that_cannot_be_aligned_is_a_failure_of_its_photo_alone(files):
    class Broken:
        name = "broken"

        def detect(self, images):
            return [[Face(np.array([0, 0, 9, 9], np.float32), np.zeros((5, 2), np.float32), 1.0)] for _ in images]

    [photo, torn] = magface.Recognizer(detector=Broken()).stream(files[:2])
    assert "landmarks" in photo.error
    assert "torn.jpg" in torn.error


@pytest.mark.parametrize(
    "convert", [lambda a: a[..., 0], lambda a: a / 255, lambda a: a[:0], lambda a: a[..., [0] * 4]]
)
def test_arrays_that_are_no_photo_are_refused(recognizer, astronaut, convert):
    with pytest.raises(ImageError, match=r"must be \(H, W, 3\) uint8 RGB"):
        recognizer.faces(convert(astronaut))


def test_of_several_faces_the_one_of_the_largest_area_is_compared(recognizer, album):
    # beside the portrait stands a face that the edge of the photo cuts off, narrow but tall
    photo = album / "Andre_Agassi" / "Andre_Agassi_0001.jpg"
    faces = recognizer.faces(photo)
    assert len(faces) == 2
    tallest = max(faces, key=lambda face: face.face.size)
    result = recognizer.verify(photo, album / "Andre_Agassi" / "Andre_Agassi_0002.jpg")
    assert result.match
    assert result.a.face.area > tallest.face.area


def test_frames_give_the_faces_of_each_image_in_order(recognizer, two, astronaut):
    images = [two, np.zeros((100, 100, 3), np.uint8), astronaut]
    found = list(recognizer.frames(iter(images * 30)))
    assert [len(faces) for faces in found] == [2, 0, 1] * 30
    for faces, image in zip(found[:3], images, strict=True):
        for face, wanted in zip(faces, recognizer.faces(image), strict=True):
            np.testing.assert_array_equal(face.crop, wanted.crop)
            np.testing.assert_allclose(face.embedding, wanted.embedding, atol=1e-4 * wanted.magnitude)


def test_frames_take_only_a_few_images_ahead(recognizer):
    taken = []

    def images():
        for _ in range(500):
            taken.append(1)
            yield np.zeros((40, 40, 3), np.uint8)

    frames = recognizer.frames(images())
    for done in range(1, 301):
        assert next(frames) == ()
        assert len(taken) - done < 100
    frames.close()


def test_a_portrait_may_be_wider_and_larger(two, recognizer):
    face = recognizer.faces(two)[0].face
    assert portrait(two, face).shape == (round(1.6 * face.size), round(1.6 * face.size), 3)
    assert portrait(two, face, margin=2.2, longest=1000).shape[0] == round(2.2 * face.size)
    assert portrait(two, face, margin=2.2, longest=50).shape == (50, 50, 3)
