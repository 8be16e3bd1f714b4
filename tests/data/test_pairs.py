"""Lists in all forms in which they are published, lists that are none, and the images they mean."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.data.pairs import Pairs, match, people, read
from magface.errors import DataError


@pytest.fixture
def listed(tmp_path):
    """Reads a list of this text."""

    def of(text):
        path = tmp_path / "pairs.txt"
        path.write_text(text, encoding="utf-8")
        return read(path)

    return of


def test_official_list(data):
    pairs = read(data / "lfw_pairs.txt")
    assert len(pairs) == 6000
    assert [int(((pairs.fold == k) & pairs.same).sum()) for k in range(10)] == [300] * 10
    assert (pairs.first[0], pairs.second[0]) == ("Abel_Pacheco/Abel_Pacheco_0001", "Abel_Pacheco/Abel_Pacheco_0004")
    assert pairs.second[300] == "Dean_Barker/Dean_Barker_0001"
    assert not pairs.same[300]


def test_single_fold(listed):
    pairs = listed("2\nA\t1\t2\nB 1 12345\nA 1 B 1\nA 2 C 3\n\n")
    assert pairs.fold.tolist() == [0] * 4
    assert pairs.same.tolist() == [True, True, False, False]
    assert pairs.second[1] == "B/B_12345"


def test_official_list_without_its_first_line_is_the_same(data, tmp_path):
    lines = (data / "lfw_pairs.txt").read_text().splitlines()
    (tmp_path / "pairs.txt").write_text("\n".join(lines[1:]))
    pairs, whole = read(tmp_path / "pairs.txt"), read(data / "lfw_pairs.txt")
    assert (pairs.first, pairs.second) == (whole.first, whole.second)
    np.testing.assert_array_equal(pairs.same, whole.same)
    np.testing.assert_array_equal(pairs.fold, whole.fold)


def test_rfw(listed):
    """African_pairs.txt: no first line, people named by Freebase."""
    pairs = listed("m.0h1crds\t2\t3\nm.04zxpvp\t2\tm.03ggz1\t5\n")
    assert pairs.first == ("m.0h1crds/m.0h1crds_0002", "m.04zxpvp/m.04zxpvp_0002")
    assert pairs.second == ("m.0h1crds/m.0h1crds_0003", "m.03ggz1/m.03ggz1_0005")
    assert pairs.same.tolist() == [True, False]


def test_calfw_comes_fold_by_fold(listed):
    """pairs_CALFW.txt: all genuine pairs first, numbered by fold, all impostor pairs 0."""
    genuine = [f"A{k}_0001.jpg {k // 2 + 1}\nA{k}_0002.jpg {k // 2 + 1}\n" for k in range(20)]
    impostor = [f"A{k}_0001.jpg 0\nB{k}_0001.jpg 0\n" for k in range(20)]
    pairs = listed("".join(genuine + impostor))
    assert pairs.fold.tolist() == np.repeat(np.arange(10), 4).tolist()
    assert pairs.same.tolist() == [True, True, False, False] * 10
    assert pairs.first[:4] == ("A0_0001.jpg", "A1_0001.jpg", "A0_0001.jpg", "A1_0001.jpg")
    assert pairs.second[-1] == "B19_0001.jpg"


def test_cplfw(listed):
    pairs = listed("Ann_1.jpg 1\nAnn_2.jpg 1\nAnn_1.jpg 0\nBob_3.jpg 0\n")
    assert pairs.first == ("Ann_1.jpg", "Ann_1.jpg")
    assert pairs.second == ("Ann_2.jpg", "Bob_3.jpg")
    assert pairs.same.tolist() == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "imgs/0.jpg imgs/1.jpg 1\nimgs/2.jpg imgs/3.jpg 0\n",
        "imgs/0.jpg\timgs/1.jpg\t1\nimgs/2.jpg\timgs/3.jpg\t-1\n",
        "imgs/0.jpg, imgs/1.jpg, True\nimgs/2.jpg, imgs/3.jpg, False\n",
        "\ufeffimgs/0.jpg imgs/1.jpg 1\r\nimgs/2.jpg imgs/3.jpg 0\r\n",
    ],
)
def test_agedb_and_general_lists(listed, text):
    pairs = listed(text)
    assert (pairs.first[0], pairs.second[0]) == ("imgs/0.jpg", "imgs/1.jpg")
    assert pairs.second[1] == "imgs/3.jpg"
    assert pairs.same.tolist() == [True, False]


def test_general_list_with_folds_and_spaces(listed):
    pairs = listed("my photos/a.jpg,my photos/b.jpg,1,7\nc,d,0,0\n")
    assert pairs.first[0] == "my photos/a.jpg"
    assert pairs.fold.tolist() == [7, 0]


def test_tenths_of_both_kinds_make_the_folds(listed):
    pairs = listed("".join(f"a{k} b{k} {int(k < 60)}\n" for k in range(100)))
    assert np.bincount(pairs.fold[pairs.same]).tolist() == [6] * 10
    assert np.bincount(pairs.fold[~pairs.same]).tolist() == [4] * 10
    assert (np.diff(pairs.fold[:60]) >= 0).all()


@pytest.fixture
def cfp(tmp_path):
    protocol = tmp_path / "cfp-dataset" / "Protocol"
    for split, second in (("FF", 2), ("FP", 1)):
        for fold in ("01", "02"):
            (protocol / "Split" / split / fold).mkdir(parents=True)
            (protocol / "Split" / split / fold / "same.txt").write_text(f"1,{second}\n")
            (protocol / "Split" / split / fold / "diff.txt").write_text(f"3,{second}\n3,1\n")
    rows = [(1, "001/frontal/01"), (2, "001/frontal/02"), (3, "002/frontal/01")]
    (protocol / "Pair_list_F.txt").write_text("".join(f"{k} ../Data/Images/{name}.jpg\n" for k, name in rows))
    (protocol / "Pair_list_P.txt").write_text("1 ../Data/Images/001/profile/01.jpg\n")
    return protocol.parent


def test_cfp(cfp):
    pairs = read(cfp, "FP")
    assert pairs.first[:2] == ("../Data/Images/001/frontal/01.jpg", "../Data/Images/002/frontal/01.jpg")
    assert set(pairs.second) == {"../Data/Images/001/profile/01.jpg"}
    assert pairs.same.tolist() == [True, False, False] * 2
    assert pairs.fold.tolist() == [0, 0, 0, 1, 1, 1]
    assert read(cfp / "Protocol", "FF").second[0] == "../Data/Images/001/frontal/02.jpg"
    assert read(cfp / "Protocol" / "Split" / "FF").second[0] == "../Data/Images/001/frontal/02.jpg"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("Split/FP/02/same.txt", "1,1\n1,9\n", "same.txt, line 2: there is no image 9"),
        ("Split/FP/02/diff.txt", "1\n", "diff.txt, line 1 must be 'i,j'"),
        ("Split/FP/01/diff.txt", "1,x\n", "diff.txt, line 1: 'x' is not a number"),
        ("Pair_list_P.txt", "one\n", "Pair_list_P.txt, line 1 must be 'number path'"),
    ],
)
def test_malformed_cfp_is_refused(cfp, file, text, words):
    (cfp / "Protocol" / file).write_text(text)
    with pytest.raises(DataError, match=words):
        read(cfp, "FP")


def test_cfp_needs_its_split_and_its_files(cfp, tmp_path):
    with pytest.raises(DataError, match=r"holds FF and FP; name one, such as .*Split.FF"):
        read(cfp)
    with pytest.raises(DataError, match="Pair_list_F"):
        read(tmp_path)
    (cfp / "Protocol" / "Split" / "FF" / "01" / "same.txt").unlink()
    with pytest.raises(DataError, match=r"cannot read the pairs of .*same.txt"):
        read(cfp, "FF")


@pytest.mark.parametrize("damage", ["empty", "fold"])
def test_cfp_loses_no_fold_silently(cfp, damage):
    fold = cfp / "Protocol" / "Split" / "FP" / "02"
    assert fold.is_dir()
    if damage == "empty":
        (fold / "diff.txt").write_text("")
    else:
        shutil.rmtree(fold)
    with pytest.raises(DataError, match=r"FP.02.(diff|same)\.txt"):
        read(cfp, "FP")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no pairs"),
        ("ten 300\n", "line 1 is the first of a pair"),
        ("1 0\n", "line 1 must be 'FOLDS PAIRS'"),
        ("1 1\nA 1 2\n", "promises 2 pairs and lists 1"),
        ("999999999 999999999\nA 1 2\n", "promises"),
        ("1 " + "9" * 5000 + "\nA 1 2\n", "line 1: '9"),
        ("1 1\nA 1 B 2\nA 1 2\n", "line 2 is not a genuine pair"),
        ("1 1\nA 1 2\nA 1 2\n", "line 3 is not an impostor pair"),
        ("1 1\nA 1 x\nA 1 B 2\n", "line 2: 'x' is not the number"),
        ("A 1 2\nA 1 B x\n", "line 2: 'x' is not the number"),
        ("A 1 2\n\nA 1 B 2 9\n", "line 3 is not an impostor pair"),
        ("a.jpg 1\nb.jpg 2\n", "line 2 belongs to a.jpg, but"),
        ("a.jpg 1\nb.jpg 1 1\n", "line 2 must be 'name n'"),
        ("a.jpg b.jpg 1\na.jpg c.jpg 2\n", "line 2 must be 'first second same', with"),
        ("a.jpg b.jpg 1\na.jpg c.jpg 0 1\n", "line 2 must be 'first second same', with"),
        ("a.jpg b.jpg 1 0\na.jpg c.jpg 0 x\n", "line 2: 'x' is not a number"),
        ("a.jpg,b.jpg\n", "line 1 is of no known form"),
        ("a b c d e\n", "line 1 is of no known form"),
    ],
)
def test_malformed_lists_are_refused(listed, text, words):
    with pytest.raises(DataError, match=words):
        listed(text)


@given(st.text(st.sampled_from("A1 \t,\n0x/.-²\ufeff\x00"), max_size=60))
def test_any_text_gives_pairs_or_a_sentence(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "hostile.txt"
    path.write_text(text, encoding="utf-8")
    with contextlib.suppress(DataError):
        pairs = read(path)
        assert len(pairs.first) == len(pairs.second) == len(pairs.same) == len(pairs.fold) > 0


def test_missing_binary_and_huge_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path / "binary")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="too large"):
        read(tmp_path / "huge")
    if Path("/dev/zero").exists():
        with pytest.raises(DataError, match="too large"):
            read("/dev/zero")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Ann/Ann_0001", "Ann/Ann_0001.jpg"),
        ("Ann/Ann_0001", "wrapped/deep/Ann/Ann_0001.PNG"),
        ("Ann/Ann_0001.jpg", "lfw/Ann/Ann_0001.png"),
        ("Ann_0001.jpg", "aligned images/Ann_0001.jpg"),
        ("Ann/Ann_0001", "Ann_0001.jpg"),
        ("m.0abc/m.0abc_0001", "African/m.0abc/m.0abc_0001.jpg"),
        ("../Data/Images/001/frontal/01.jpg", "cfp/Data/Images/001/frontal/01.jpg"),
        ("..\\Data\\Images\\001\\frontal\\01.jpg", "001/frontal/01.jpg"),
        ("./a.b/c", "a.b/c"),
    ],
)
def test_names_are_read_from_the_right(wanted, name):
    assert match([wanted, "nobody"], ["other/one.jpg", name]).tolist() == [1, -1]


def test_folders_that_differ_at_the_root_are_left_out():
    listed = [f"../Data/Images/{k:03d}/frontal/01.jpg" for k in (1, 2, 3)]
    assert match(listed, [f"crops112/{k:03d}/frontal/01.png" for k in (3, 1)]).tolist() == [1, -1, 0]
    assert match(["Ann/Ann_1", "Bob/Bob_1"], ["all/Bob_1.jpg", "all/Ann_1.jpg"]).tolist() == [1, 0]


def test_folders_and_endings_that_are_equal_decide():
    names = ["x/Ann/1.jpg", "Ann/1.png", "Ann/1.jpg"]
    assert match(["Ann/1.jpg", "Ann/1.png"][:1], names).tolist() == [2]
    assert match(["x/Ann/1"], names).tolist() == [0]


@pytest.mark.parametrize(
    ("wanted", "names", "words"),
    [
        (["1.jpg"], ["Ann/1.jpg", "Bob/1.jpg"], "1.jpg could be Ann/1.jpg or Bob/1.jpg"),
        (["Ann/1"], ["Ann/1.jpg", "Ann/1.png"], "could be"),
        (["Ann/1", "Bob/1"], ["1.jpg"], "both Ann/1 and Bob/1 could be 1.jpg"),
    ],
)
def test_names_that_could_be_several_are_refused(wanted, names, words):
    with pytest.raises(DataError, match=words):
        match(wanted, names)


def test_nothing_is_matched_in_nothing():
    assert match(["a"], []).tolist() == [-1]
    assert match([], ["a"]).tolist() == []


@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 3), min_size=1, max_size=9, unique=True), st.integers(1, 3))
def test_matches_are_those_of_comparing_all_with_all(paths, depth):
    names = ["/".join(path) + ".jpg" for path in paths]
    wanted = sorted({"/".join(path[-depth:]) for path in [*paths, ("a", "b", "c")]})
    found = {name: [i for i, other in enumerate(names) if f"/{other}".endswith(f"/{name}.jpg")] for name in wanted}
    if any(len(places) > 1 for places in found.values()):
        with pytest.raises(DataError, match="could be"):
            match(wanted, names)
    elif any(found.values()):
        assert match(wanted, names).tolist() == [found[name][0] if found[name] else -1 for name in wanted]


def test_many_people_whose_files_are_called_alike():
    names = [f"set/{k // 10:06d}/{k % 10:04d}.jpg" for k in range(100_000)]
    wanted = [f"{k:06d}/{k % 10:04d}" for k in range(0, 10_000, 2)]
    np.testing.assert_array_equal(match(wanted, names), [10 * k + k % 10 for k in range(0, 10_000, 2)])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Ann/1.jpg Ann/2.jpg", "Ann/1.jpg Bob/1.jpg"), [[0, 0], [0, 1]]),
        (("x/y/Ann/1 x/y/Ann/2", "x/y/Bob/1 x/y/Cid/1"), [[0, 1], [0, 2]]),
        (("001/frontal/1 001/profile/1", "001/frontal/1 002/profile/1"), [[0, 0], [0, 1]]),
        (("all/m.0a_0001.jpg all/m.0a_0002.jpg", "all/m.0b_0001.jpg all/m.0a_0001.jpg"), [[0, 1], [0, 0]]),
        (("1.jpg 2.jpg", "1.jpg 3.jpg"), None),
        (("Ann/1 Bob/1", "Ann/1 Ann/2"), None),
    ],
)
def test_names_tell_who_is_who_where_they_agree_with_the_labels(names, expected):
    first, second = zip(*(line.split() for line in names), strict=True)
    found = people(Pairs(first, second, np.array([True, False]), np.zeros(2, np.int64)))
    assert expected is None if found is None else found.tolist() == expected
