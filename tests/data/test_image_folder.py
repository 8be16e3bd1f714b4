import errno
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magface.data import image_folder
from magface.errors import DataError, ImageError


def jpeg(colour, side=112):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "faces"
    for number, name in enumerate(["bea/2.jpg", "bea/1.JPG", "abe/1.png", "cyd/1.jpg", ".hidden/1.jpg", "loose.jpg"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg((40 * number, 100, 50)))
    (root / "notes.txt").write_text("not an image")
    return root


def test_people_are_folders_in_order(root):
    faces = image_folder.read(root)
    assert faces.names == ("abe/1.png", "bea/1.JPG", "bea/2.jpg", "cyd/1.jpg")
    assert faces.people == ("abe", "bea", "cyd")
    assert faces.labels.tolist() == [0, 1, 1, 2]
    assert faces.failures == ()
    crop = faces.read(2)
    assert crop.shape == (112, 112, 3)
    assert crop.dtype == np.uint8
    assert np.abs(crop[50, 50].astype(int) - (0, 100, 50)).max() <= 3


def test_a_tar_is_the_same(root, tmp_path):
    archive = tmp_path / "faces.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".")
    folder, packed = image_folder.read(root), image_folder.read(archive)
    assert packed.names == folder.names
    assert packed.fingerprint == folder.fingerprint
    assert all(np.array_equal(packed.read(i), folder.read(i)) for i in range(len(folder)))


def test_damaged_images_are_listed_and_left_out(root):
    (root / "abe/2.jpg").write_bytes(jpeg((1, 2, 3))[:-200])
    (root / "abe/3.jpg").write_bytes(b"")
    (root / "abe/4.jpg").write_bytes(b"\xff\xd8\xff nothing else")
    (root / "abe/5.jpg").write_bytes(jpeg((1, 2, 3), 160))
    faces = image_folder.read(root).checked()
    assert len(faces) == 4
    assert [name for name, _ in faces.failures] == ["abe/2.jpg", "abe/3.jpg", "abe/4.jpg", "abe/5.jpg"]
    assert "160x160" in faces.failures[3][1]


def test_table_filters_and_names(root, tmp_path):
    table = tmp_path / "faces.tsv"
    table.write_text(
        "path\tidentity\tsource\tsuspect\nbea/1.JPG\tx\tweb\t1\ncyd/1.jpg\tx\tfilm\t0\nno/1.jpg\ty\tweb\t0\n"
    )
    faces = image_folder.read(root, table)
    assert faces.names == ("bea/1.JPG", "cyd/1.jpg")
    assert faces.people == ("x",)
    assert faces.suspect.tolist() == [True, False]
    assert faces.sources.tolist() == ["web", "film"]
    assert faces.failures == (("no/1.jpg", "no/1.jpg is in the table but not in the data; copy it there."),)


def test_subsets_relabel_and_at_least_counts_what_is_not_suspect(root):
    faces = image_folder.read(root)
    pair = faces.at_least(2)
    assert pair.people == ("bea",)
    assert pair.labels.tolist() == [0, 0]
    assert np.array_equal(pair.read(1), faces.read(2))
    assert len(faces.at_least(3)) == 0


def test_split_keeps_people_whole_and_apart_and_stays(root):
    for number in range(60):
        (root / f"p{number}").mkdir()
        (root / f"p{number}/1.jpg").write_bytes(jpeg((number, 0, 0)))
    train, held = image_folder.read(root).split(0.3, seed=1)
    assert not set(train.people) & set(held.people)
    assert len(train) + len(held) == 64
    assert 8 < len(held.people) < 32
    (root / "new").mkdir()
    (root / "new/1.jpg").write_bytes(jpeg((9, 9, 9)))
    assert set(image_folder.read(root).split(0.3, seed=1)[1].people) - {"new"} == set(held.people)
    assert set(image_folder.read(root).split(0.3, seed=2)[1].people) != set(held.people)


def test_a_file_changed_in_use(root):
    faces = image_folder.read(root)
    (root / "abe/1.png").write_bytes(b"gone")
    with pytest.raises(ImageError, match=r"abe/1\.png"):
        faces.read(0)
    (root / "abe/1.png").unlink()
    with pytest.raises(ImageError, match="No such file"):
        faces.read(0)


def test_fingerprint_sees_contents(root):
    before = image_folder.read(root).fingerprint
    (root / "abe/1.png").write_bytes(jpeg((200, 0, 0)))
    assert image_folder.read(root).fingerprint != before


@pytest.mark.parametrize("content", [None, b"this is no archive"])
def test_nothing_there(tmp_path, content):
    path = tmp_path / "faces.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="folder"):
        image_folder.read(path)


def test_no_crop_and_bad_tables(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="sub-folder"):
        image_folder.read(tmp_path / "empty")
    table = tmp_path / "t.tsv"
    with pytest.raises(DataError, match="cannot be read"):
        image_folder.read(root, table)
    table.write_text("file\nabe/1.png\n")
    with pytest.raises(DataError, match="path"):
        image_folder.read(root, table)


def test_a_written_folder_comes_back_with_all_that_is_known(faces, known, tmp_path):
    seen = []
    assert image_folder.write(tmp_path / "out", faces, seen.append) == ()
    assert sum(seen) == len(faces)
    assert known(image_folder.read(tmp_path / "out")) == known(faces)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert files == [
        "Ann Lee/a.b.c.jpg",
        "Ann Lee/a.b.c.webp",
        "Zoë/1.jpg",
        "Zoë/2.png",
        "_Bob/web_album_1.jpg",
        "ann lee~2/A.B.C.WEBP",
        "faces.tsv",
        "unknown/7.png",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_are_people_without_the_table_too(faces, tmp_path):
    image_folder.write(tmp_path / "out", faces)
    (tmp_path / "out" / "faces.tsv").unlink()
    found = image_folder.read(tmp_path / "out")
    assert sorted(np.bincount(found.labels)) == sorted(np.bincount(faces.labels))


def test_images_added_to_a_written_folder_count(faces, tmp_path):
    image_folder.write(tmp_path / "out", faces)
    (tmp_path / "out/Cyd").mkdir()
    (tmp_path / "out/Cyd/1.jpg").write_bytes(jpeg((1, 2, 3)))
    (tmp_path / "out/Zoë/1.jpg").unlink()
    found = image_folder.read(tmp_path / "out")
    assert set(found.names) == {*faces.names, "Cyd/1.jpg"} - {"Zoë/1.jpg"}
    assert [name for name, _ in found.failures] == ["Zoë/1.jpg"]


def test_a_writer_that_was_stopped_goes_on(faces, known, stopped, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        image_folder.write(tmp_path / "out", stopped)
    for whole in (tmp_path / "out").rglob("*.*p*g"):
        assert whole.read_bytes() in [faces.encoded(row) for row in range(len(faces))]
    (tmp_path / "out/Zoë").mkdir(exist_ok=True)
    (tmp_path / "out/Zoë/1.jpg").write_bytes(b"half")
    before = (tmp_path / "out/Zoë/2.png").stat().st_mtime_ns if (tmp_path / "out/Zoë/2.png").exists() else None
    image_folder.write(tmp_path / "out", faces)
    assert known(image_folder.read(tmp_path / "out")) == known(faces)
    assert before in (None, (tmp_path / "out/Zoë/2.png").stat().st_mtime_ns)


def test_what_cannot_be_read_is_left_out(root, tmp_path):
    faces = image_folder.read(root)
    (root / "bea/2.jpg").write_bytes(b"")
    (root / "cyd/1.jpg").unlink()
    failures = image_folder.write(tmp_path / "out", faces)
    assert [name for name, _ in failures] == ["bea/2.jpg", "cyd/1.jpg"]
    assert image_folder.read(tmp_path / "out").names == ("abe/1.png", "bea/1.JPG")
    with pytest.raises(DataError, match="exists"):
        image_folder.write(tmp_path / "out", faces)
    with pytest.raises(DataError, match="no image that can be read"):
        image_folder.write(tmp_path / "none", faces[faces.labels == 2])


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes in the file system")
def test_links_lead_to_people_and_nowhere_twice(root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.jpg").write_bytes(jpeg("red"))
    (root / "dot").symlink_to(elsewhere)
    (root / "abe" / "all").symlink_to(root)
    (root / "abe" / "self").symlink_to(".")
    (root / "eve").symlink_to("../..")
    faces = image_folder.read(root)
    assert faces.names == ("abe/1.png", "bea/1.JPG", "bea/2.jpg", "cyd/1.jpg", "dot/1.jpg")


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes in the file system")
def test_broken_links_and_pipes_are_no_silent_loss(root):
    (root / "abe" / "2.jpg").symlink_to("gone.jpg")
    os.mkfifo(root / "abe" / "3.jpg")
    faces = image_folder.read(root)
    assert [name for name, _ in faces.checked().failures] == ["abe/2.jpg", "abe/3.jpg"]


def test_a_folder_that_cannot_be_listed_is_said(root, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "bea":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"cannot list the folder .*bea \(Permission denied\)"):
        image_folder.read(root)
