import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.data import image_list
from magface.errors import DataError, ImageError


@pytest.fixture
def root(tmp_path):
    for name in ("ann/1.jpg", "ann/2 b.jpg", "bob/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def listed(root, text, name="train.list", **settings):
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return image_list.read(root / name, **settings)


LINES = {
    "magface": "ann/1.jpg 0 10 0\nann/2 b.jpg 0 10 0\n\nbob/1.jpg 0 2 0\n",
    "im2rec": "0\t10\tann/1.jpg\n1\t10.000000\tann/2 b.jpg\n2\t2\tbob/1.jpg\n",
    "im2rec with more labels": "0\t10\t3\tann/1.jpg\n1\t10\t3\tann/2 b.jpg\n2\t2\t3\tbob/1.jpg\n",
    "insightface": "1\tann/1.jpg\t10\r\n1\tann/2 b.jpg\t10\r\n1\tbob/1.jpg\t2\r\n",
    "insightface with boxes": "0\tann/1.jpg\t10\t1\t2\t3\n0\tann/2 b.jpg\t10\t1\t2\t3\n0\tbob/1.jpg\t2\t1\t2\t3\n",
}


@pytest.mark.parametrize("form", LINES)
def test_forms(root, form):
    faces = listed(root, LINES[form])
    assert faces.names == ("ann/1.jpg", "ann/2 b.jpg", "bob/1.jpg")
    assert [faces.people[label] for label in faces.labels] == ["10", "10", "2"]
    assert [faces.encoded(row) for row in range(3)] == [b"ann/1.jpg", b"ann/2 b.jpg", b"bob/1.jpg"]


def test_paths_start_from_the_list_or_a_root_or_nowhere(root, tmp_path):
    (root / "lists").mkdir()
    with pytest.raises(DataError, match="does not exist; name the folder"):
        listed(root, LINES["magface"], "lists/a.txt")
    assert len(image_list.read(root / "lists/a.txt", root)) == 3
    absolute = listed(root, f"{root}/ann/1.jpg 0 0 0\n", "lists/b.txt")
    assert absolute.encoded(0) == b"ann/1.jpg"


def test_one_missing_image_is_one_failure(root):
    faces = listed(root, "gone.jpg 0 0 0\n" + LINES["magface"])
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        faces.encoded(0)
    assert faces.encoded(1) == b"ann/1.jpg"


@pytest.mark.parametrize(
    "line",
    [
        "ann/1.jpg",
        "ann/1.jpg 0",
        "ann/1.jpg 0 1",
        "ann/1.jpg 0 nan 0",
        "ann/1.jpg 0 inf 0",
        "ann/1.jpg 0 -1 0",
        "ann/1.jpg 0 1.5 0",
        "ann/1.jpg 0 1e300 0",
        "ann/1.jpg 0 ٣ 0",
        "ann/1.jpg 0 Ann 0",
        "1\tann/1.jpg",
        "1\tann/1.jpg\tAnn",
        "\tann/1.jpg\t\t",
        "ann/1.jpg\0 0 1 0",
        "a" * (1 << 17) + " 0 1 0",
    ],
)
def test_a_line_of_another_form_is_named(root, line):
    with pytest.raises(DataError, match=r"train\.list, line 2 "):
        listed(root, f"ann/1.jpg 0 0 0\n{line}\n")


def test_repeated_lines(root):
    faces = listed(root, "ann/1.jpg 0 1 0\nbob/1.jpg 0 2 0\nann/1.jpg 0 1 0\n")
    assert len(faces) == 2
    assert faces.failures == (("ann/1.jpg", f"{root}/train.list, line 3 repeats line 1, and was left out."),)
    with pytest.raises(DataError, match=r"lines 1 and 2 give ann/1\.jpg two people"):
        listed(root, "ann/1.jpg 0 1 0\nann/1.jpg 0 2 0\n")


def test_devices_and_pipes_are_not_read(root):
    os.mkfifo(root / "pipe.jpg")
    faces = listed(root, "/dev/zero 0 0 0\npipe.jpg 0 0 0\nann/1.jpg 0 0 0\nann 0 0 0\n")
    for row in (0, 1, 3):
        with pytest.raises(ImageError, match="pipe or device"):
            faces.encoded(row)


@given(content=st.binary(max_size=200))
def test_any_bytes_give_a_sentence(tmp_path_factory, content):
    with pytest.raises(DataError, match=r"train\.list|does not exist"):
        listed(tmp_path_factory.mktemp("list"), content)
    with pytest.raises(DataError, match="cannot read"):
        image_list.read(tmp_path_factory.mktemp("list") / "none.txt")


@pytest.mark.parametrize("name", ["train.txt", "train.list", "train.lst"])
def test_a_written_list_comes_back_with_all_that_is_known(faces, known, tmp_path, name):
    assert image_list.write(tmp_path / name, faces) == ()
    assert known(image_list.read(tmp_path / name)) == known(faces)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["train", "train.tsv", name])
    lines = [line.split("\t" if name.endswith("lst") else " ") for line in (tmp_path / name).read_text().splitlines()]
    at, person = (2, 1) if name.endswith("lst") else (0, 2)
    assert [int(line[person]) for line in lines] == faces.labels.tolist()
    assert [(tmp_path / line[at]).read_bytes() for line in lines] == [faces.encoded(row) for row in range(len(faces))]
    (tmp_path / "train.tsv").unlink()
    assert [image_list.read(tmp_path / name).encoded(row) for row in range(7)] == [
        faces.encoded(row) for row in range(7)
    ]


def test_a_table_of_other_people_is_refused(faces, tmp_path):
    image_list.write(tmp_path / "a.txt", faces)
    text = (tmp_path / "a.txt").read_text()
    (tmp_path / "a.txt").write_text("\n".join(text.splitlines()[1:]))
    assert len(image_list.read(tmp_path / "a.txt")) == 6
    (tmp_path / "a.txt").write_text(text.replace(" 0 4 0", " 0 3 0"))
    with pytest.raises(DataError, match="otherwise"):
        image_list.read(tmp_path / "a.txt")


def test_a_writer_that_was_stopped_goes_on(faces, known, stopped, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        image_list.write(tmp_path / "a.txt", stopped)
    assert not (tmp_path / "a.txt").exists()
    image_list.write(tmp_path / "a.txt", faces)
    assert known(image_list.read(tmp_path / "a.txt")) == known(faces)


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a/1.jpg"])
def test_nothing_of_others_is_overwritten(faces, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match="exists"):
        image_list.write(tmp_path / "a.txt", faces)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["a.jpg", "a", "two words.txt"])
def test_names_of_lists(faces, tmp_path, name):
    with pytest.raises(DataError, match=r"must end|spaces"):
        image_list.write(tmp_path / name, faces)


def test_a_mark_of_the_order_of_bytes_is_no_part_of_a_path(root):
    faces = listed(root, "\ufeffann/1.jpg 0 0 0\r\nbob/1.jpg 0 1 0\r\n")
    assert faces.names == ("ann/1.jpg", "bob/1.jpg")
