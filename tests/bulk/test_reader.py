import tarfile

import numpy as np
import pytest
from PIL import Image

from magface import images
from magface.bulk import plan as plans
from magface.bulk import reader
from magface.bulk.reader import Reader, Source
from magface.embedder import Embedder
from magface.errors import ModelError
from magface.recognizer import Recognizer


@pytest.fixture(scope="module")
def crops(tmp_path_factory, astronaut):
    """Crops of one face, ever smaller; a photo that is none, and a file that is no image."""
    folder = tmp_path_factory.mktemp("crops")
    [face] = Recognizer().faces(astronaut)
    for number in range(9):
        small = Image.fromarray(face.crop).resize((112 - 8 * number,) * 2)
        small.resize((112, 112)).save(folder / f"{number}.png")
    Image.fromarray(astronaut).save(folder / "4-photo.png")
    (folder / "7-none.jpg").write_text("no image")
    return folder


def entries(folder, place, aligned):
    plan = plans.make(place, reader.settings(Source(aligned=aligned))[0], plans.gather([folder]), 100)
    return plan, plan.entries(0)


def test_crops_are_embedded_as_the_embedder_does(crops, tmp_path):
    plan, found = entries(crops, tmp_path, True)
    begun = []
    one = Reader(Source(aligned=True), threads=1)
    one.check(plan)
    each = list(one.read(found, begun.append))
    assert sorted(begun) == list(range(11))
    assert [bool(photo.error) for photo in each] == [entry.name.endswith(("photo.png", ".jpg")) for entry in found]
    assert "512x512" in each[4].error
    assert "4-photo.png" in each[4].error
    vectors = np.concatenate([photo.vectors for photo in each if not photo.error])
    wanted, _ = Embedder().embed_files([entry.name for entry in found])
    np.testing.assert_allclose(vectors, wanted.vectors, rtol=1e-3, atol=1e-3)
    # and once more, in another order and company, bit for bit
    again = list(one.read(found[::-2]))[::-1]
    for first, second in zip(each[::2], again, strict=True):
        np.testing.assert_array_equal(first.vectors, second.vectors)


def test_photos_are_read_as_the_recognizer_does_also_from_an_archive(crops, astronaut, tmp_path):
    (tmp_path / "in").mkdir()
    two = np.concatenate([astronaut, astronaut[:, ::-1]], axis=1)
    for name, image in (("one", astronaut), ("two", two), ("wall", np.full((90, 120, 3), 60, np.uint8))):
        Image.fromarray(image).save(tmp_path / "in" / f"{name}.png")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "in", "in")
    one = Reader(Source(), threads=1)
    recognizer = Recognizer()
    for number, place in enumerate((tmp_path / "in", tmp_path / "x.tar")):
        _, found = entries(place, tmp_path / f"out{number}", False)
        each = list(one.read(found))
        assert [(len(photo.vectors), photo.error) for photo in each] == [(1, ""), (2, ""), (0, "")]
        for entry, photo in zip(found, each, strict=True):
            wanted = recognizer.faces(images.decode(entry.place.read()))
            for mine, vector, face in zip(photo.faces, photo.vectors, wanted, strict=True):
                np.testing.assert_array_equal(mine.box, face.face.box)
                np.testing.assert_allclose(vector, face.embedding, rtol=1e-3, atol=1e-3)


def test_what_has_gone_since_it_was_planned_is_the_failure_of_one_photo(crops, tmp_path):
    (tmp_path / "in").mkdir()
    crop = (crops / "0.png").read_bytes()
    for name in "ab":
        (tmp_path / "in" / f"{name}.png").write_bytes(crop)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "in", "in")
    (tmp_path / "list").write_bytes(b"a\0b.png\n" + bytes(tmp_path / "gone.png") + b"\n")
    table = plans.gather([tmp_path / "in", tmp_path / "x.tar"], [tmp_path / "list"])
    found = plans.make(tmp_path / "out", reader.settings(Source(aligned=True))[0], table, 9).entries(0)
    (tmp_path / "in" / "a.png").unlink()
    (tmp_path / "x.tar").write_bytes(b"")
    each = list(Reader(Source(aligned=True), threads=1).read(found))
    assert sum(not photo.error for photo in each) == 1
    for entry, photo in zip(found, each, strict=True):
        assert photo.error == "" or entry.name.partition("/x.tar")[0] in photo.error


def test_another_model_than_that_of_the_plan_is_refused(tmp_path):
    (tmp_path / "list").write_text("a.png\n")
    table = plans.gather([], [tmp_path / "list"])
    plan = plans.make(tmp_path / "out", plans.Settings("f00d", "", "auto"), table, 9)
    with pytest.raises(ModelError, match="same file everywhere"):
        Reader(Source(aligned=True), threads=1).check(plan)
