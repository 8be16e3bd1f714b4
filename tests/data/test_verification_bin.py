import codecs
import io
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import KFold

from magface.data import verification_bin
from magface.data.face_set import FaceSet, Held, Record
from magface.data.pairs import Pairs
from magface.errors import DataError, ImageError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
IMAGES = st.lists(st.binary(max_size=40), min_size=1, max_size=6).map(lambda images: images * 2)
ODD = [b"", b"'\"\\\n\r\t\0\x1a\xff\\x41", b'it"s', b"it's"]


@pytest.fixture
def load(tmp_path):
    def load(content):
        path = tmp_path / "faces.bin"
        path.write_bytes(content)
        return verification_bin.read(path)

    return load


def encoded(faces):
    return [faces.encoded(index) for index in range(len(faces))]


def array(image):
    return np.frombuffer(image, np.uint8).copy()


def python_2(images, same, protocol):
    """As `cPickle` of Python 2 writes `(images, same)`, where a str is bytes."""
    if protocol == 0:
        lines = b"".join(b"S" + repr(image)[1:].encode() + b"\np%d\na" % row for row, image in enumerate(images, 9))
        return b"((lp1\n" + lines + b"(lp2\n" + b"".join(b"I%02d\na" % value for value in same) + b"tp3\n."
    strings = [
        b"U" + bytes([len(image)]) + image if row % 2 else b"T" + struct.pack("<i", len(image)) + image
        for row, image in enumerate(images)
    ]
    flags = b"".join(b"\x88" if value else b"\x89" for value in same)
    return b"\x80\x02]q\x01(" + b"".join(strings) + b"e]q\x02(" + flags + b"e\x86q\x03."


def test_a_published_file_is_read_as_pickle_reads_it(data):
    path = data / "small_lfw.bin"
    faces, pairs = verification_bin.read(path)
    images, same = pickle.loads(path.read_bytes(), encoding="bytes")  # ours, and known to be harmless
    assert encoded(faces) == [image.tobytes() for image in images]
    assert pairs.same.tolist() == same
    assert faces.people == ("",)
    assert pairs.first[:2] == ("0000000", "0000002")
    assert pairs.second[:2] == ("0000001", "0000003")
    assert all(faces.read(index).shape == (112, 112, 3) for index in range(len(faces)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(images=IMAGES)
def test_every_protocol_and_form_is_the_same(tmp_path_factory, protocol, images):
    path = tmp_path_factory.mktemp("bin") / "faces.bin"
    same = [row % 3 == 0 for row in range(len(images) // 2)]
    forms = [
        (images, same),
        (tuple(images), tuple(map(int, same))),
        [images, np.array(same)],
        ([array(image) for image in images], [np.bool_(value) for value in same]),
        ([array(image)[None] for image in images], np.array(same, ">i4")),
    ]
    for form in forms:
        path.write_bytes(pickle.dumps(form, protocol))
        faces, pairs = verification_bin.read(path)
        assert encoded(faces) == images
        assert pairs.same.tolist() == same


@pytest.mark.parametrize("protocol", [0, 2])
def test_python_2_is_read_too(load, protocol):
    content = python_2(ODD, [True, False], protocol)
    assert pickle.loads(content, encoding="bytes")[0] == ODD
    faces, pairs = load(content)
    assert encoded(faces) == ODD
    assert pairs.same.tolist() == [True, False]


@pytest.mark.parametrize("old", [True, False])
def test_arrays_of_every_numpy_are_read(load, old):
    content = pickle.dumps(([array(b"one"), array(b"two")], [np.True_]), 3)
    assert b"numpy._core" in content
    content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray") if old else content
    assert encoded(load(content)[0]) == [b"one", b"two"]


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 25, 600])
def test_folds_are_those_of_scikit_learn(load, count):
    _, pairs = load(pickle.dumps(([b""] * 2 * count, [True] * count)))
    if count == 1:
        assert pairs.fold.tolist() == [0]
        return
    for fold, (_, test) in enumerate(KFold(min(count, 10)).split(np.zeros(count))):
        assert np.flatnonzero(pairs.fold == fold).tolist() == test.tolist()


@given(images=IMAGES)
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("bin") / "faces.bin"
    faces = FaceSet.of([Record(f"{row}/a.jpg", "", Held(image)) for row, image in enumerate(images)])
    names = [f"{row}/a" for row in range(len(images))]
    pairs = Pairs(tuple(names[1::2]), tuple(names[::2]), np.arange(len(names) // 2) % 2 == 0, np.zeros(1, np.int64))
    verification_bin.write(path, faces, pairs)
    for options in ({}, {"encoding": "bytes"}, {"encoding": "latin-1"}):
        written, same = pickle.loads(path.read_bytes(), **options)
        assert written == [image for pair in zip(images[1::2], images[::2], strict=True) for image in pair]
        assert same == pairs.same.tolist()
    again, found = verification_bin.read(path)
    assert encoded(again) == written
    verification_bin.write(path.with_name("again.bin"), again, found)
    assert path.with_name("again.bin").read_bytes() == path.read_bytes()


def test_pairs_without_an_image_are_not_written(tmp_path):
    faces = FaceSet.of([Record(name, "", Held(b"x")) for name in ("a/1.jpg", "a/2.jpg", "a/2.png", "a/3.jpg")])

    def write(*names):
        pairs = Pairs(names[::2], names[1::2], np.ones(len(names) // 2, bool), np.zeros(len(names) // 2, np.int64))
        verification_bin.write(tmp_path / "faces.bin", faces, pairs)

    for names, message in [(("a/1", "a/4"), "name a/4"), (("a/1", "a/2"), "two endings"), ((), "no pair")]:
        with pytest.raises(DataError, match=message):
            write(*names)
    gone = FaceSet.of([Record("gone", "", Gone())])
    with pytest.raises(ImageError):
        verification_bin.write(tmp_path / "faces.bin", gone, Pairs(("gone",), ("gone",), np.array([True]), np.zeros(1)))
    assert not list(tmp_path.iterdir())
    write("a/2.png", "a/1", "a/1.jpg", "a/3")
    assert len(verification_bin.read(tmp_path / "faces.bin")[0]) == 4


class Gone:
    def read(self):
        raise FileNotFoundError(2, "No such file or directory")


class Call:
    """Pickles as a call."""

    def __init__(self, what, *words):
        self.words = what, words

    def __reduce__(self):
        return self.words


HOSTILE = {
    "(posix|nt).system": Call(os.system, "touch it-ran"),
    "(builtins|__builtin__).eval": Call(eval, "open('it-ran', 'w')"),
    "(builtins|__builtin__).exec": Call(exec, "open('it-ran', 'w')"),
    "(builtins|__builtin__).getattr": Call(getattr, "a", "upper"),
    "(builtins|__builtin__).bytearray": Call(bytearray, 1 << 40),
    "(_?io|__builtin__).open": Call(open, "it-ran", "w"),
    "numpy.load": Call(np.load, "it-ran"),
    "collections.OrderedDict": OrderedDict(),
    "fractions.Fraction": Fraction(1, 2),
    "bytes of unusual": Call(bytes, 1 << 40),
    "encode of unusual": Call(codecs.encode, "payload", "zlib_codec"),
    "array of 'O'": Call(np.dtype, "O"),
    "array of 'V1099511627776'": Call(np.dtype, "V1099511627776"),
    "ndarray of unusual": Call(np.ndarray, (1 << 40,)),
    "reconstruct of unusual": Call(np._core.multiarray._reconstruct, bytes, (0,), b"b"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_else_is_made_and_nothing_runs(load, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    bad = HOSTILE[name]
    for protocol in PROTOCOLS:
        for lists in (bad, ([bad, b""], [True]), ([b"", b""], [bad])):
            with pytest.raises(DataError, match=name):
                load(pickle.dumps(lists, protocol))
    assert [path.name for path in tmp_path.iterdir()] == ["faces.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"(ios\nsystem\n.", "INST"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "os.system"),
        (b"c\x1b[2J\nos\n.", r"\\x1b\[2J\.os"),
        (b"(S'true'\nios\nsystem\n.", "INST"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"}.", "EMPTY_DICT"),
        (b"Pid\n.", "PERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"G\0\0\0\0\0\0\0\0.", "BINFLOAT"),
        (b"\x8b\xff\xff\xff\x7f1.", "LONG4"),
        (b"\x80\x02]]\x86)R.", "no function"),
        (b"\x80\x02]]b.", "no array"),
        (b"\xff.", "byte 0 is no instruction"),
        (b".", "lacks what it needs"),
        (b"", "ends too early"),
        (b"(((.", "lacks what it needs"),
        (b"t.", "no beginning"),
        (b"Na.", "lacks"),
        (b"NNa.", "no list"),
        (b"h\x07.", "damaged"),
        (b"I" + b"9" * 5000 + b"\n.", "too long"),
        (b"Ieleven\n.", "damaged"),
        (b"S'a\\q'\n.", "as Python writes it"),
        (b"S'a\n.", "no quotes"),
        (b"\x8c\x01\xff.", "damaged"),
        (b"\x80\x04)\x85)\x93.", "no text"),
        (b"\x80\x04" + b")" + b"\x85" * 9000 + b"N\x93.", "no text"),
        (b")" + b"\x85" * 60000 + b".", "no pair of images"),
    ],
)
def test_instructions_that_lists_of_images_do_not_need(load, content, message):
    with pytest.raises(DataError, match=message):
        load(content)


MULTIARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n"
NEW = MULTIARRAY + b"cnumpy\nndarray\nK\0\x85U\x01b\x87R"
TYPE = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"(K\x01J\xff\xff\xff\x7f\x85" + TYPE + b"\x89U\x02abtb.", "not as large"),
        (b"(K\x01" + b"J\xff\xff\xff\x7f" * 2 + b"\x86" + TYPE + b"\x89U\x02abtb.", "not as large"),
        (b"(K\x01J\xff\xff\xff\xff\x85" + TYPE + b"\x89U\x02abtb.", "not as large"),
        (b"(K\x01(" + (b"\x8a\xff" + b"\x7f" * 255) * 2000 + b"t" + TYPE + b"\x89U\x02abtb.", "not as large"),
        (b"(K\x01U\x01a\x85" + TYPE + b"\x89U\x02abtb.", "not as large"),
        (b"(K\x01K\x02\x85" + TYPE + b"\x89]tb.", "something else than numbers"),
        (b"(K\x01K\x02\x85N\x89U\x02abtb.", "something else than numbers"),
        (b"(K\x01N" + TYPE + b"\x89U\x02abtb.", "something else than numbers"),
        (b"(K\x01K\x02\x85" + TYPE + b"(K\x03U\x01Xtb\x89U\x02abtb.", "no order"),
        (b"Nb.", "no array"),
        (b".", "no pair of images"),
    ],
)
def test_arrays_that_promise_something_else(load, state, message):
    with pytest.raises(DataError, match=message):
        load(NEW + state)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (None, "no pair of images"),
        ([b"", b""], "no pair of images"),
        (([b""], [True], 1), "no pair of images"),
        ((b"ab", [True]), "no pair of images"),
        (([], []), "holds no pair"),
        (([], np.zeros(0, bool)), "holds no pair"),
        (([b""] * 3, [True]), "3 images for 1 pairs"),
        (([b"", "text"], [True]), "image 1 is no encoded image"),
        (([b"", np.zeros((112, 112, 3), np.uint8)], [True]), "image 1 is no encoded image"),
        (([b"", np.zeros(3, np.int16)], [True]), "image 1 is no encoded image"),
        (([b"", b""], True), "no list that says"),
        (([b"", b""], np.ones((1, 1), bool)), "no list that says"),
        (([b"", b""], [2]), "pair 0 is neither"),
        (([b"", b""], ["True"]), "pair 0 is neither"),
        (([b"", b""], [np.ones(1, bool)]), "pair 0 is neither"),
        (([b"", b""], np.array([7])), "pair 0 is neither"),
    ],
)
def test_lists_of_another_kind(load, lists, message):
    for protocol in PROTOCOLS:
        with pytest.raises(DataError, match=message):
            load(pickle.dumps(lists, protocol))


BOMBS = {
    "marks": b"(" * 400_000,
    "lists": b"]" * 400_000,
    "nested": b")" + b"\x85" * 400_000 + b".",
    "copies": b"]" + b"2" * 400_000,
    "memo": b"]" + b"\x94" * 400_000,
    "far memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "long bytes": b"\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "long bytearray": b"\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "long text": b"\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "negative": b"T\xff\xff\xff\xff.",
    "long frame": b"\x95" + struct.pack("<Q", 1 << 62) + b".",
    "laughs": b"]q\x00" + b"".join(b"]q%c(" % row + b"h%c" % (row - 1) * 100 + b"e" for row in range(1, 99)) + b".",
    "encoded again": (
        b"c_codecs\nencode\nq\x00X" + struct.pack("<I", 200_000) + b"x" * 200_000 + b"q\x01X\x06\0\0\0latin1q\x02(l"
        b"" + b"h\0h\x01h\x02\x86Ra" * 20_000 + b"."
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_memory_stays_near_the_size_of_the_file(load, name):
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            load(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 16 * len(BOMBS[name]) + 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_cut_at_any_byte_is_refused(load, protocol):
    for lists in (([b"one'\n", b"two"], [True]), ([array(b"one"), array(b"two")], np.array([True]))):
        content = pickle.dumps(lists, protocol)
        for cut in range(len(content)):
            with pytest.raises(DataError):
                load(content[:cut])


@given(
    protocol=st.sampled_from(PROTOCOLS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_give_data_errors_only(tmp_path_factory, protocol, changes):
    content = bytearray(pickle.dumps(([array(b"one"), b"two"], [np.True_]), protocol))
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "changed.bin"
    path.write_bytes(content)
    try:
        faces, pairs = verification_bin.read(path)
    except DataError:
        return
    assert len(faces) == 2 * len(pairs)


@given(st.binary(max_size=60))
def test_random_bytes_give_data_errors_only(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.bin"
    path.write_bytes(content)
    with pytest.raises(DataError):
        verification_bin.read(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        verification_bin.read(tmp_path / "none.bin")
    with pytest.raises(DataError, match="is no file"):
        verification_bin.read(tmp_path)


def test_a_real_image_comes_through(load):
    stream = io.BytesIO()
    Image.new("RGB", (112, 112), (200, 10, 10)).save(stream, "PNG")
    faces, _ = load(pickle.dumps(([stream.getvalue(), b""], [False])))
    assert faces.read(0)[5, 5].tolist() == [200, 10, 10]
    with pytest.raises(ImageError, match="0000001 is empty"):
        faces.read(1)
