import io

import numpy as np
import pytest
from PIL import Image

from magface.data.face_set import FaceSet, Held, Record, Stretch
from magface.errors import DataError, ImageError


def png(level, side=112):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


class Broken:
    def read(self):
        raise DataError("faces.rec, record 3 is cut off; get the file again.")


@pytest.fixture
def records():
    return [
        Record("b/2", "Bea", Held(png(20)), "web", True),
        Record("a/1", "Abe", Held(png(10))),
        Record("b/1", "Bea", Held(png(30)), "film"),
    ]


def test_order_is_kept_and_people_are_sorted(records):
    faces = FaceSet.of(records)
    assert faces.names == ("b/2", "a/1", "b/1")
    assert faces.people == ("Abe", "Bea")
    assert faces.labels.tolist() == [1, 0, 1]
    assert list(faces.records()) == records
    assert [int(faces.read(i)[0, 0, 0]) for i in range(3)] == [20, 10, 30]


def test_names_are_unique(records):
    with pytest.raises(DataError, match="two images are called a/1"):
        FaceSet.of([*records, records[1]])


def test_rows_may_come_in_any_order(records):
    faces = FaceSet.of(records)[np.array([2, 0])]
    assert faces.names == ("b/1", "b/2")
    assert faces.people == ("Bea",)
    assert faces.labels.tolist() == [0, 0]
    assert faces.sources.tolist() == ["film", "web"]
    assert faces.suspect.tolist() == [False, True]


@pytest.mark.parametrize("change", ["name", "person", "content"])
def test_the_fingerprint_sees_names_people_and_contents(records, change):
    name, person, content = {
        "name": ("a/2", "Abe", png(10)),
        "person": ("a/1", "Bea", png(10)),
        "content": ("a/1", "Abe", png(11)),
    }[change]
    other = [records[0], Record(name, person, Held(content)), records[2]]
    assert FaceSet.of(records).fingerprint == FaceSet.of(list(records)).fingerprint
    assert FaceSet.of(records).fingerprint != FaceSet.of(other).fingerprint


def test_what_cannot_be_read_is_named_with_its_reason(records, tmp_path):
    bad = [
        Record("c/1", "Cyd", Broken()),
        Record("c/2", "Cyd", Stretch(tmp_path / "gone.jpg")),
        Record("c/3", "Cyd", Held(png(1, side=96))),
        Record("c/4", "Cyd", Held(b"no image")),
    ]
    faces, seen = FaceSet.of([*records, *bad], [("d/1", "d/1 is missing.")]), []
    found = faces.checked(seen.append)
    assert found.names == ("b/2", "a/1", "b/1")
    assert found.people == ("Abe", "Bea")
    assert sum(seen) == 7
    reasons = dict(found.failures)
    assert list(reasons) == ["c/1", "c/2", "c/3", "c/4", "d/1"]
    assert "record 3" in reasons["c/1"]
    assert "No such file" in reasons["c/2"]
    assert "96x96" in reasons["c/3"]
    assert faces.digests[3] == faces.digests[4] == ""
    assert len(faces.digests[0]) == 64
    with pytest.raises(ImageError, match="magface data align"):
        faces.read(5)


def test_a_set_without_a_readable_crop_is_refused():
    with pytest.raises(DataError, match=r"no readable 112x112 crop \(2 left out, the first because x is empty"):
        FaceSet.of([Record("x", "", Held(b"")), Record("y", "", Held(b"1"))]).checked()


def test_a_stretch_is_a_part_of_a_file(tmp_path):
    (tmp_path / "all").write_bytes(b"0123456789")
    assert Stretch(tmp_path / "all", 2, 3).read() == b"234"
    assert Stretch(tmp_path / "all").read() == b"0123456789"
