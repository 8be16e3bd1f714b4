"""Photos into a gallery: which face, what is kept, and the same faces embedded by another model."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from magface import Recognizer, cosine, enrollment, images
from magface.enrollment import Unusable
from magface.errors import DataError
from magface.gallery import open_gallery


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer()


@pytest.fixture
def photos(tmp_path, astronaut):
    """Two photos of one person, one of two, one of nobody, and a file that is none."""
    small = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    both = np.full((512, 768, 3), 90, np.uint8)
    both[:, :512], both[:256, 512:] = astronaut, small
    shown = {
        "one.png": astronaut,
        "mirrored.png": astronaut[:, ::-1],
        "both.png": both,
        "wall.png": np.full((200, 200, 3), 80, np.uint8),
    }
    for name, image in shown.items():
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no photo")
    return tmp_path


def named(folder, *names):
    return [("Eileen", folder / name) for name in names]


def test_people_are_the_folders_of_photos(tmp_path):
    for name in ("Ann/1.jpg", "Bob/deep/2.jpg", "Ann/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [(who, path.name) for who, path in enrollment.people(tmp_path)] == [("Ann", "1.jpg"), ("Bob", "2.jpg")]


def test_a_photo_in_nobodys_folder_and_a_folder_without_photos_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no photo"):
        enrollment.people(tmp_path)
    (tmp_path / "1.jpg").touch()
    with pytest.raises(DataError, match="--person"):
        enrollment.people(tmp_path)


def test_a_folder_whose_name_is_no_name_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "a\nb").mkdir()
    (tmp_path / "a\nb" / "1.jpg").touch()
    with pytest.raises(DataError, match="cannot be printed"):
        enrollment.people(tmp_path)


def test_photos_become_entries_in_order_and_others_say_why_not(recognizer, photos):
    names = ("one.png", "wall.png", "broken.png", "mirrored.png")
    found = list(enrollment.from_photos(recognizer, named(photos, *names)))
    assert [path.name for path, _ in found] == list(names)
    one, wall, broken, mirrored = (each for _, each in found)
    [face] = recognizer.faces(photos / "one.png")
    assert np.array_equal(one.vector, face.embedding)
    assert (one.person, one.score, one.source) == ("Eileen", face.score, str(photos / "one.png"))
    assert one.box == pytest.approx(face.face.box.tolist())
    assert one.time > 1.7e9
    assert cosine(one.vector, mirrored.vector) > 0.8
    assert isinstance(wall, Unusable)
    assert wall.readable
    assert "no face" in wall.reason
    assert isinstance(broken, Unusable)
    assert not broken.readable


def test_the_largest_face_counts_or_a_photo_of_several_is_refused(recognizer, photos):
    [(_, largest)] = enrollment.from_photos(recognizer, named(photos, "both.png"))
    assert largest.box[2] < 512
    [(_, refused)] = enrollment.from_photos(recognizer, named(photos, "both.png"), which="only")
    assert "2 faces" in refused.reason


def test_the_crop_that_is_kept_is_nearly_what_the_network_saw(recognizer, photos):
    [(_, entry)] = enrollment.from_photos(recognizer, named(photos, "one.png"))
    again = recognizer.embedder.embed(images.decode(entry.crop)[None]).vectors[0]
    assert cosine(again, entry.vector) > 0.99
    [(_, bare)] = enrollment.from_photos(recognizer, named(photos, "one.png"), crops=False)
    assert bare.crop == b""


def test_crops_become_entries_in_order(recognizer, photos, tmp_path):
    [face] = recognizer.faces(photos / "one.png")
    (tmp_path / "crops").mkdir()
    files = [tmp_path / "crops" / f"{number}.png" for number in range(3)]
    Image.fromarray(face.crop).save(files[0])
    Image.fromarray(face.crop[:100]).save(files[1])
    Image.fromarray(face.crop[:, ::-1]).save(files[2])
    found = list(enrollment.from_crops(recognizer.embedder, [("Eileen", file) for file in files]))
    first, odd, last = (each for _, each in found)
    assert [path for path, _ in found] == files
    assert np.allclose(first.vector, face.embedding, atol=1e-4)
    assert first.box is None
    assert "112x112" in odd.reason
    assert cosine(last.vector, face.embedding) > 0.8


@pytest.fixture
def other(recognizer, monkeypatch):
    """Another model: the same network with its numbers turned round and half as long."""
    found = Recognizer()
    embed = found.embedder.embed
    monkeypatch.setattr(
        found.embedder,
        "embed",
        lambda crops: dataclasses.replace(embed(crops), vectors=embed(crops).vectors[:, ::-1] / 2, model="b" * 64),
    )
    monkeypatch.setattr(found.embedder, "card", dataclasses.replace(recognizer.card, name="other", sha256="b" * 64))
    return found


def enrolled(tmp_path, recognizer, photos, **options):
    gallery = open_gallery(tmp_path / "faces.db", recognizer.card, create=True)
    entries = [
        each for _, each in enrollment.from_photos(recognizer, named(photos, "one.png", "mirrored.png"), **options)
    ]
    assert all(each.added for each in gallery.enroll(entries))
    return gallery


@pytest.mark.parametrize("crops", [True, False])
def test_a_gallery_is_embedded_again_from_crops_or_photos(tmp_path, recognizer, photos, other, crops):
    with enrolled(tmp_path, recognizer, photos, crops=crops) as gallery:
        before = [face.vector for face in gallery.faces()]
        done = []
        assert enrollment.reembed(gallery, other, progress=done.append) == []
        assert sum(done) == 2
        assert gallery.card.sha256 == "b" * 64
        for old, face in zip(before, gallery.faces(), strict=True):
            assert cosine(face.vector, old[::-1]) > 0.99
            assert face.magnitude == pytest.approx(np.linalg.norm(old) / 2, rel=0.1)
        [found] = gallery.search(before[0][::-1][None], 1)
        assert found.matches[0].cosine > 0.9
    with pytest.raises(DataError, match="other"):
        open_gallery(tmp_path / "faces.db", recognizer.card)


def test_a_picture_that_is_gone_or_shows_something_else_stops_it_or_is_dropped(tmp_path, recognizer, photos, other):
    with enrolled(tmp_path, recognizer, photos, crops=False) as gallery:
        Path(photos, "one.png").unlink()
        with pytest.raises(DataError, match=r"1 of 2 faces cannot be embedded again.*Eileen"):
            enrollment.reembed(gallery, other)
        assert gallery.card.sha256 == recognizer.card.sha256
        Image.fromarray(np.full((512, 512, 3), 80, np.uint8)).save(photos / "one.png")
        [lost] = enrollment.reembed(gallery, other, drop=True)
        assert (lost.person, "no longer shows" in lost.reason) == ("Eileen", True)
        assert gallery.info().counts.faces == 1
        Path(photos, "mirrored.png").unlink()
        with pytest.raises(DataError, match="1 of 1 faces"):
            enrollment.reembed(gallery, recognizer, drop=True)
        assert gallery.info().counts.faces == 1


def test_a_face_that_is_enrolled_meanwhile_is_embedded_too(tmp_path, recognizer, photos, other):
    with enrolled(tmp_path, recognizer, photos) as gallery:
        [(_, late)] = enrollment.from_photos(recognizer, [("Late", photos / "both.png")])
        enrollment.reembed(gallery, other, progress=lambda _: gallery.enroll([late]))
        assert gallery.info().counts.people == 2
        [face] = gallery.faces("Late")
        assert cosine(face.vector, late.vector[::-1]) > 0.99
