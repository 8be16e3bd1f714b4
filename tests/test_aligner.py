"""Crops of raw photos: which face, the same pixels as the recognizer's, a folder that a stopped run goes on with."""

import csv
import os
import shutil
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

import magface
from magface import align, aligner, images
from magface.aligner import Finder, Photos, choose, find, write
from magface.benchmarks.faces import embed
from magface.data import image_folder
from magface.data.face_set import FaceSet, Held, Record
from magface.embedder import Embedder
from magface.errors import DataError, NoFaceError
from magface.types import Face


class Corners:
    """A face for each pixel of red 255 in the first row, as large as its green says; how often it was asked."""

    name = "corners"

    def __init__(self):
        self.asked = 0

    def detect(self, images):
        self.asked += 1
        [image] = images
        found = []
        for x in np.flatnonzero(image[0, :, 0] == 255):
            size = float(image[0, x, 1])
            box = np.array([x, 0, x + size, size], np.float32)
            found.append(Face(box, align.TEMPLATE * (size / 112) + np.float32([x, 0]), 0.9))
        return [found[::-1]]


def photo(*faces, level=7):
    image = np.full((60, 200, 3), level, np.uint8)
    for x, size in faces:
        image[0, x] = (255, size, 0)
    return image


def save(path, *faces, level=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(*faces, level=level)).save(path, lossless=True)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    save(root / "ann/1.png", (10, 30))
    save(root / "ann/2.png", (10, 30), (90, 20), level=20)
    save(root / "bob/1.png", (50, 40), level=30)
    save(root / "bob/wall.png", level=40)
    save(root / "loose.png", (5, 50), level=50)
    (root / "bob/torn.png").write_bytes(b"\x89PNG torn")
    return root


def table(folder, name="faces.tsv"):
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def crops(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def state(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_crops_and_tables(root, tmp_path):
    finder, out, counted = Finder(Corners()), tmp_path / "out", []
    result = write(finder, find(root), out, progress=counted.append)
    assert (result.photos, result.read_now, result.crops) == (6, 6, 4)
    assert sorted(counted) == [0, 0, 1, 1, 1, 1]
    assert result.without_face == ("bob/wall.png",)
    assert [name for name, _ in result.failures] == ["bob/torn.png"]
    assert crops(out) == ["ann/1.png", "ann/2.png", "bob/1.png", "unknown/loose.png"]
    rows = table(out)
    assert [row["path"] for row in rows] == crops(out)
    assert [(row["photo"], row["identity"], row["face"], row["faces"]) for row in rows] == [
        ("ann/1.png", "ann", "1", "1"),
        ("ann/2.png", "ann", "1", "2"),
        ("bob/1.png", "bob", "1", "1"),
        ("loose.png", "", "1", "1"),
    ]
    assert [float(rows[2][name]) for name in ("x1", "y1", "x2", "y2", "detector_score")] == [50, 0, 90, 40, 0.9]
    landmarks = [float(rows[2][f"{point}_{axis}"]) for point in aligner._POINTS for axis in "xy"]
    np.testing.assert_allclose(landmarks, (align.TEMPLATE * (40 / 112) + [50, 0]).ravel(), atol=0.006)
    for name, x, size in (("bob/1", 50, 40), ("ann/2", 10, 30)):
        expected = align.crop(images.read(root / f"{name}.png"), align.TEMPLATE * (size / 112) + np.float32([x, 0]))
        np.testing.assert_array_equal(images.read(out / f"{name}.png"), expected)
    failed = table(out, "failures.tsv")
    assert [(row["photo"], row["kind"]) for row in failed] == [
        ("bob/torn.png", "unreadable"),
        ("bob/wall.png", "no face"),
    ]
    assert all(row["reason"] for row in failed)


def test_the_folder_is_a_set_of_faces(root, tmp_path):
    out = tmp_path / "out"
    write(Finder(Corners()), find(root), out)
    for faces in (image_folder.read(out), image_folder.read(out, out / "faces.tsv")):
        assert faces.checked().names == tuple(crops(out))
        assert [faces.people[label] for label in faces.labels] == ["ann", "ann", "bob", ""]


def test_labels_of_a_set_go_along(tmp_path):
    content = cv2.imencode(".png", photo((3, 20))[..., ::-1])[1].tobytes()
    out = tmp_path / "out"
    for person, source, suspect in (("Ann", "web", True), ("Bea", "film", False)):
        faces = FaceSet.of([Record("7", person, Held(content), source, suspect)])
        result = write(Finder(Corners()), faces, out)
        [row] = table(out)
        assert (row["path"], row["identity"], row["source"], row["suspect"]) == (
            *("unknown/7.png", person, source),
            str(int(suspect)),
        )
    assert result.read_now == 0


def test_a_second_run_reads_only_what_is_new_changed_lost_or_unreadable(root, tmp_path):
    out, detector = tmp_path / "out", Corners()
    write(Finder(detector), find(root), out)
    before = state(out)
    again = write(Finder(detector), find(root), out)
    assert again.read_now == 1  # the torn one
    assert detector.asked == 5
    assert state(out) == before

    save(root / "bob/torn.png", (0, 20))
    save(root / "ann/1.png", (10, 31), (99, 50))
    (out / "bob/1.png").unlink()
    (root / "ann/2.png").unlink()
    result = write(Finder(detector), find(root), out)
    assert (result.read_now, detector.asked) == (3, 8)
    fresh = tmp_path / "fresh"
    write(Finder(detector), find(root), fresh)
    assert state(fresh) == state(out)


def test_another_choice_or_detector_makes_all_anew(root, tmp_path):
    out = tmp_path / "out"
    write(Finder(Corners()), find(root), out)
    result = write(Finder(Corners()), find(root), out, "all")
    assert result.read_now == 6
    assert crops(out) == ["ann/1#1.png", "ann/2#1.png", "ann/2#2.png", "bob/1#1.png", "unknown/loose#1.png"]
    assert write(Finder(Corners()), find(root), out, "all").read_now == 1
    (out / "ann/2#2.png").unlink()
    assert write(Finder(Corners()), find(root), out, "all").read_now == 2
    other = Corners()
    other.name = "other"
    assert write(Finder(other), find(root), out, "all").read_now == 6


@pytest.mark.parametrize("fail_at", range(6))
def test_a_stopped_run_leaves_whole_files_and_goes_on(root, tmp_path, fail_at):
    out, done = tmp_path / "out", []

    def progress(crops):
        if len(done) == fail_at:
            raise KeyboardInterrupt
        done.append(crops)

    with pytest.raises(KeyboardInterrupt):
        write(Finder(Corners()), find(root), out, progress=progress)
    assert [row["path"] for row in table(out)] == crops(out)
    write(Finder(Corners()), find(root), out)
    fresh = tmp_path / "fresh"
    write(Finder(Corners()), find(root), fresh)
    assert state(out) == state(fresh)


def test_a_killed_run_loses_the_rows_since_the_last_table_and_no_crop(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write(Finder(Corners()), find(root), out)
    whole = state(out)
    saved = aligner._Folder._save
    monkeypatch.setattr(aligner._Folder, "_save", lambda folder: None)
    shutil.rmtree(out)
    write(Finder(Corners()), find(root), out)  # as if the power went before any table
    monkeypatch.setattr(aligner._Folder, "_save", saved)
    assert write(Finder(Corners()), find(root), out).read_now == 6
    assert state(out) == whole


def test_two_runs_do_not_mix(root, tmp_path):
    out = tmp_path / "out"

    def second(_):
        with pytest.raises(DataError, match="another run"):
            write(Finder(Corners()), find(root), out)

    write(Finder(Corners()), find(root), out, progress=second)


def test_photos_that_differ_in_the_ending_keep_it(tmp_path):
    root, out = tmp_path / "photos", tmp_path / "out"
    for name in ("ann/1.png", "ann/1.webp", "ann/2.png", "bob/1.png"):
        save(root / name, (10, 30))
    write(Finder(Corners()), find(root), out)
    assert crops(out) == ["ann/1.png.png", "ann/1.webp.png", "ann/2.png.png", "bob/1.png"]


def test_a_tar_gives_the_same(root, tmp_path):
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(root, ".")
    assert find(archive).names == find(root).names
    write(Finder(Corners()), find(root), tmp_path / "a")
    write(Finder(Corners()), find(archive), tmp_path / "b")
    for name in crops(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert write(Finder(Corners()), find(archive), tmp_path / "b").read_now == 1


def test_the_folder_of_crops_is_no_photo(root):
    write(Finder(Corners()), find(root), root / "crops")
    assert find(root, without=root / "crops").names == tuple(n for n in find(root).names if not n.startswith("crops/"))
    with pytest.raises(DataError, match="no photo"):
        find(root, without=root)


@pytest.mark.parametrize("name", ["/etc/x.png", "a/../../x.png"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="leads out"):
        write(Finder(Corners()), FaceSet.of([Record(name, "", Held(b""))]), tmp_path / "out")


def test_names_that_are_not_unicode_are_written_as_escapes(tmp_path):
    root, out = tmp_path / "photos", tmp_path / "out"
    try:
        save(root / "ann/1.png", (10, 30))
        (root / "ann/1.png").rename(root / "ann" / os.fsdecode(b"\xff\t.png"))
    except OSError:
        pytest.skip("needs a file system that takes any name")
    write(Finder(Corners()), find(root), out)
    assert [row["path"] for row in table(out)] == ["ann/\\xff\t.png"]
    assert image_folder.read(out, out / "faces.tsv").failures == ()


@pytest.mark.parametrize("content", [b"", b"path\tphoto\nx\ty\n", b"\xff\xfe\x00", b'path\t"'])
@pytest.mark.parametrize("name", ["faces.tsv", "failures.tsv"])
def test_a_damaged_table_is_named(root, tmp_path, name, content):
    out = tmp_path / "out"
    write(Finder(Corners()), find(root), out)
    (out / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*delete it"):
        write(Finder(Corners()), find(root), out)
    assert len(crops(out)) == 4


def test_a_table_cannot_remove_what_lies_outside(root, tmp_path):
    out, other = tmp_path / "out", tmp_path / "mine.png"
    write(Finder(Corners()), find(root), out)
    other.write_bytes(b"")
    text = (out / "faces.tsv").read_text()
    (out / "faces.tsv").write_text(text.replace("unknown/loose.png", "../mine.png"))
    with pytest.raises(DataError, match="leads out"):
        write(Finder(Corners()), find(root), out)
    assert other.exists()


def test_nothing_there(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photo"):
        find(tmp_path / "empty")
    with pytest.raises(DataError, match="none"):
        find(tmp_path / "none.tar")


def test_ties_go_to_the_left():
    left, right = (Face(np.array(box, np.float32), align.TEMPLATE, 1.0) for box in ((0, 0, 9, 9), (11, 0, 20, 9)))
    assert choose([left, right], "largest", 9, 20) == choose([left, right], "central", 9, 20) == [0]
    assert [choose([], which, 9, 9) for which in aligner.WHICH] == [[], [], []]


def test_photos_choose_and_say_so():
    image = photo((10, 50), (90, 20))
    for which, x, size in (("largest", 10, 50), ("central", 90, 20)):
        photos = Photos(Finder(Corners()), which)
        assert photos.name == f"corners {which}"
        np.testing.assert_array_equal(
            photos("x", image), align.crop(image, align.TEMPLATE * (size / 112) + np.float32([x, 0]))
        )
    with pytest.raises(NoFaceError, match="no face was found in x"):
        photos("x", photo())


def test_a_python_detector_is_told_by_its_content(tmp_path):
    path, names = tmp_path / "own.py", set()
    for number in range(2):
        path.write_text(
            f"class D:\n    name = 'own'\n    def detect(self, images): return {number}\ndef detector(): return D()\n"
        )
        names.add(Finder(path).name)
    assert len(names) == 2
    assert all(name.startswith("own-") for name in names)


def test_the_recognizer_cuts_the_same(astronaut):
    [face] = magface.Recognizer().faces(astronaut)
    np.testing.assert_array_equal(Photos()("x", astronaut), face.crop)


def test_photos_are_embedded_as_their_crops_are(album, tmp_path):
    """Real photos: embedded through the aligner, and from the folder of crops."""
    photos = find(album)[np.arange(0, 459, 40)]
    embedder, finder = Embedder(), Finder()
    result = write(finder, photos, tmp_path / "out", "central")
    assert result.crops == len(photos)
    direct, a = embed(embedder, photos, tmp_path / "cache", align=Photos(finder, "central"))
    crops, b = embed(embedder, image_folder.read(tmp_path / "out"), tmp_path / "cache")
    assert [name.removesuffix(".jpg") for name in direct.names] == [name.removesuffix(".png") for name in crops.names]
    np.testing.assert_allclose(a.vectors, b.vectors, atol=1e-3)


def test_the_middle_finds_the_named_person(album):
    """Beside Christine Todd Whitman stands somebody larger; she is in the middle."""
    photos, finder = find(album), Finder()
    person = album / "Christine_Todd_Whitman"
    others = [Photos(finder, "central")("", images.read(path)) for path in sorted(person.glob("*_000[1-4].jpg"))]
    image = images.read(person / "Christine_Todd_Whitman_0005.jpg")
    both = [Photos(finder, which)("", image) for which in ("largest", "central")]
    embedded = Embedder().embed(np.stack([*both, *others])).direction
    largest, central = embedded[:2] @ embedded[2:].mean(axis=0)
    assert central > 0.4 > largest
    assert len(photos.people) == 60
