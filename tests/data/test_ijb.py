"""Lists of IJB-B and IJB-C: as they should be, as they may be, and damaged."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magface.data import ijb
from magface.errors import DataError, MagfaceError

IMAGES = [("1.jpg", 7, 100), ("2.jpg", 7, 100), ("3.jpg", 9, 101), ("4.jpg", 12, 100), ("5.jpg", 3, 8)]
PAIRS = [(7, 9, 1), (7, 12, 0), (12, 9, 0)]
GALLERIES = ([(7, 1)], [(12, 2)])
PROBES = [(9, 1), (3, 2)]


@pytest.fixture
def root(tmp_path, write_ijb):
    return write_ijb(tmp_path / "IJBC", IMAGES, PAIRS, GALLERIES, PROBES)


def change(root, name, line, text):
    """Put another line into a list; lines count from 1."""
    path = root / "meta" / f"ijbc_{name}"
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))


def test_lists_as_they_should_be(root):
    found = ijb.read(root)
    assert (found.subset, found.names, len(found)) == ("IJBC", ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"), 5)
    assert (found.template.tolist(), found.media.tolist()) == ([7, 7, 9, 12, 3], [100, 100, 101, 100, 8])
    np.testing.assert_array_equal(found.landmarks[4], np.arange(10, dtype=np.float32).reshape(5, 2))
    np.testing.assert_allclose(found.score, 0.9)
    pairs = ijb.read_pairs(found)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist(), strict=True)) == PAIRS
    assert len(pairs) == 3
    protocol = ijb.read_identification(found)
    assert protocol.names == ("G1", "G2")
    assert [(g.template.tolist(), g.subject.tolist()) for g in protocol.galleries] == [([7], [1]), ([12], [2])]
    assert (protocol.probes.template.tolist(), protocol.probes.subject.tolist()) == ([9, 3], [1, 2])


def test_the_loose_crops_are_a_set_of_images(root):
    (root / "loose_crop").mkdir()
    (root / "loose_crop" / "3.jpg").write_bytes(b"bytes")
    faces = ijb.read(root).faces()
    assert faces.names == tuple(name for name, _, _ in IMAGES)
    assert faces.encoded(2) == b"bytes"


def test_the_folder_is_found_by_its_lists(root, tmp_path, write_ijb):
    assert ijb.find(tmp_path) == ijb.find(root) == ("IJBC", root)
    write_ijb(tmp_path / "IJBB", IMAGES, PAIRS, GALLERIES, PROBES, subset="ijbb")
    with pytest.raises(DataError, match="name one of the two"):
        ijb.find(tmp_path)
    found = ijb.read(tmp_path, "IJBB")
    assert (found.subset, found.root) == ("IJBB", tmp_path / "IJBB")
    assert ijb.read_identification(found).names == ("S1", "S2")
    with pytest.raises(DataError, match=r"no meta/ijbb_face_tid_mid\.txt"):
        ijb.find(root, "IJBB")


@pytest.mark.parametrize(
    "form", [lambda s: s.replace(" ", "\t"), lambda s: s.replace("\n", " \r\n"), lambda s: s + "\n\n"]
)
def test_other_spaces_are_read_line_by_line(root, form):
    expected = ijb.read(root)
    for path in (root / "meta").glob("*.txt"):
        path.write_bytes(form(path.read_text()).encode())
    found = ijb.read(root)
    assert found.names == expected.names
    for column in ("template", "media", "landmarks", "score"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
        assert getattr(found, column).dtype == getattr(expected, column).dtype
    np.testing.assert_array_equal(ijb.read_pairs(found).same, ijb.read_pairs(expected).same)


def test_tables_of_nist_have_more_columns_and_lines(root):
    (root / "meta" / "ijbc_1N_probe_mixed.csv").write_text(
        'FILENAME,"TEMPLATE_ID",SUBJECT_ID,SIGHTING_ID\n"img/1,2.png",9,1,5\nframes/2.png,9,1,\nframes/3.png, 3,2,7\n'
    )
    probes = ijb.read_identification(ijb.read(root)).probes
    assert (probes.template.tolist(), probes.subject.tolist()) == ([9, 3], [1, 2])


@pytest.mark.parametrize(
    ("name", "line", "text", "words"),
    [
        ("face_tid_mid.txt", 2, "2.jpg 7", "line 2 has 2 fields and must be 'name tid mid'"),
        ("face_tid_mid.txt", 3, "3.jpg nine 101", "line 3: tid is 'nine', not an id"),
        ("face_tid_mid.txt", 3, "3.jpg -9 101", "line 3: tid is '-9', not an id"),
        ("face_tid_mid.txt", 3, "3.jpg 9 99999999999", "line 3: mid is '99999999999', not an id"),
        ("face_tid_mid.txt", 3, "../3.jpg 9 101", "line 3: name is '../3.jpg', not the name of a file"),
        ("face_tid_mid.txt", 3, "/3.jpg 9 101", "line 3: name is '/3.jpg'"),
        ("face_tid_mid.txt", 3, "", "line 3 is empty"),
        ("face_tid_mid.txt", 3, "3.jpg " + "9" * 5000, "line 3 is too long"),
        ("face_tid_mid.txt", 6, "6.jpg 3 9", "lists 6 images and ijbc_name_5pts_score.txt 5"),
        ("name_5pts_score.txt", 4, "x.jpg 0 1 2 3 4 5 6 7 8 9 1", "line 4 is about x.jpg, but .* names 4.jpg there"),
        ("name_5pts_score.txt", 4, "4.jpg 0 1 2 3 4 5 6 7 8 nan 1", "line 4: y5 is 'nan', not a number"),
        ("name_5pts_score.txt", 4, "4.jpg 0 1 2 3 4 5 6 7 8 1e60 1", "line 4: y5 is '1e60', not a number"),
        ("name_5pts_score.txt", 4, "4.jpg 0 1 2 3 4 5 6 7 8 9 -1", "line 4: score is '-1', not a number >= 0"),
        ("template_pair_label.txt", 2, "7 12 2", "line 2: label is '2', not 0 or 1"),
        ("template_pair_label.txt", 2, "7 12", "line 2 has 2 fields"),
        ("template_pair_label.txt", 3, "12 10 0", "line 3 names template 10, which has no image"),
        ("template_pair_label.txt", 1, "2147483647 9 0", "line 1 names template 2147483647"),
        ("1N_gallery_G1.csv", 1, "7,1", "line 1 must be a heading"),
        ("1N_gallery_G1.csv", 2, "7", "line 2 has no ids"),
        ("1N_gallery_G1.csv", 2, "7,Ann", "line 2 has no ids"),
        ("1N_gallery_G1.csv", 2, "8,1", "line 2 names template 8, which has no image"),
        ("1N_gallery_G1.csv", 2, '"7,1' + "\n1" * 70000, "is not a line of a table"),
        ("1N_gallery_G1.csv", 2, "", "lists no template"),
        ("1N_gallery_G2.csv", 2, "12,1", "G1 and G2 beside .* share a person"),
        ("1N_probe_mixed.csv", 3, "9,2", "line 3 gives template 9 to a second person"),
        ("1N_probe_mixed.csv", 3, "3,5", "template 3 shows nobody of the galleries"),
    ],
)
def test_malformed_lists_are_refused_with_their_line(root, name, line, text, words):
    change(root, name, line, text)
    with pytest.raises(DataError, match=words):
        read_all(root)


@pytest.mark.parametrize(
    "name", ["name_5pts_score.txt", "template_pair_label.txt", "1N_gallery_G2.csv", "1N_probe_mixed.csv"]
)
def test_missing_empty_and_binary_lists_are_refused(root, name):
    path = root / "meta" / f"ijbc_{name}"
    for content, words in ((b"", "whole file|heading"), (b"\xff\xfe\x00 \x80\n", "not text")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_all(root)
    path.unlink()
    with pytest.raises(DataError, match="cannot read"):
        read_all(root)


@given(
    name=st.sampled_from(["face_tid_mid.txt", "name_5pts_score.txt", "template_pair_label.txt", "1N_probe_mixed.csv"]),
    at=st.integers(0, 120),
    junk=st.binary(max_size=12)
    | st.sampled_from([b"\0", b'"', b" ", b"\r", b"\n", b"1e999", b"\xef\xbb\xbf", b"_", b"+"]),
    cut=st.integers(0, 12),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(root, write_ijb, name, at, junk, cut):
    write_ijb(root, IMAGES, PAIRS, GALLERIES, PROBES)
    path = root / "meta" / f"ijbc_{name}"
    content = path.read_bytes()
    path.write_bytes(content[:at] + junk + content[at + cut :])
    try:
        listing, said = read_all(root), ""
    except MagfaceError as error:
        listing, said = None, str(error)
    if listing is None:
        assert str(root) in said
    else:
        assert len(listing.template) == len(listing.media) == len(listing.landmarks) == len(listing.names)


def read_all(root):
    listing = ijb.read(root)
    ijb.read_pairs(listing)
    ijb.read_identification(listing)
    return listing


def test_marks_of_the_order_of_bytes_are_no_part_of_a_list(root):
    found = ijb.read(root), ijb.read_identification(ijb.read(root))
    for file in (root / "meta").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    again = ijb.read(root), ijb.read_identification(ijb.read(root))
    assert again[0].names == found[0].names
    assert again[1].probes.template.tolist() == found[1].probes.template.tolist()
