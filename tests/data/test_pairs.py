"""The official list, and lists that are not one."""

import pytest

from magface.data.pairs import read_lfw
from magface.errors import DataError


def test_official_list(data):
    pairs = read_lfw(data / "lfw_pairs.txt")
    assert len(pairs) == 6000
    assert [int(((pairs.fold == k) & pairs.same).sum()) for k in range(10)] == [300] * 10
    assert (pairs.first[0], pairs.second[0]) == ("Abel_Pacheco/Abel_Pacheco_0001", "Abel_Pacheco/Abel_Pacheco_0004")
    assert pairs.second[300] == "Dean_Barker/Dean_Barker_0001"
    assert not pairs.same[300]


def test_single_fold(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("2\nA\t1\t2\nB 1 12345\nA 1 B 1\nA 2 C 3\n\n")
    pairs = read_lfw(path)
    assert pairs.fold.tolist() == [0] * 4
    assert pairs.same.tolist() == [True, True, False, False]
    assert pairs.second[1] == "B/B_12345"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1"),
        ("ten 300\n", "line 1"),
        ("1 0\n", "line 1"),
        ("1 1\nA 1 2\n", "promises 2 pairs and lists 1"),
        ("1 1\nA 1 B 2\nA 1 2\n", "line 2 is not a genuine pair"),
        ("1 1\nA 1 2\nA 1 2\n", "line 3 is not an impostor pair"),
        ("1 1\nA 1 x\nA 1 B 2\n", "line 2: 'x' is not the number"),
    ],
)
def test_malformed_lists_are_refused(tmp_path, text, words):
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_lfw(path)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_lfw(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="cannot read"):
        read_lfw(tmp_path / "binary")
