import io
import pickle
import struct
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from magface.data import recordio
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError, ImageError
from magface.threads import prefetch

MAGIC = struct.pack("<I", 0xCED7230A)
PIECES = st.sampled_from([MAGIC, MAGIC[:2], MAGIC[1:], b"\0", b"abc", b"\xff\xd8", b"pad4"])
PAYLOADS = st.lists(PIECES, min_size=1, max_size=9).map(b"".join)


def png(level):
    stream = io.BytesIO()
    Image.new("RGB", (112, 112), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def frames(content):
    """A record as dmlc writes it: word by word, a new part wherever a whole word is the magic word."""
    parts, part = [], b""
    for start in range(0, len(content), 4):
        word = content[start : start + 4]
        if word == MAGIC:
            parts.append(part)
            part = b""
        else:
            part += word
    parts.append(part)
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def content(key, label, image=b"", flag=None):
    """A header with a label, or with several behind it, and the image, as mxnet packs them."""
    if np.ndim(label):
        return struct.pack(f"<IfQQ{len(label)}f", len(label) if flag is None else flag, 0, key, 0, *label) + image
    return struct.pack("<IfQQ", flag or 0, label, key, 0) + image


def unpacked(path):
    """Contents of all records, by the rules of dmlc's reader."""
    data, start, found = path.read_bytes(), 0, {}
    while start < len(data):
        begin, whole = start, b""
        while True:
            magic, word = struct.unpack_from("<4sI", data, start)
            assert magic == MAGIC
            size = word & (1 << 29) - 1
            whole += data[start + 8 : start + 8 + size]
            start += 8 + (size + 3) // 4 * 4
            if word >> 29 in (0, 3):
                break
            whole += MAGIC
        found[begin] = whole
    return found


@pytest.fixture
def make(tmp_path):
    """Writes records `(key, content)` and, unless told not to, their index."""

    def make(records, index=True):
        path, lines, data = tmp_path / "train.rec", [], b""
        for key, each in records:
            lines.append(f"{key}\t{len(data)}\n")
            data += frames(each)
        path.write_bytes(data)
        if index:
            path.with_suffix(".idx").write_text("".join(lines))
        return path

    return make


def images(count=5, start=1):
    return [(key, content(key, key // 2, b"image %d" % key)) for key in range(start, start + count)]


def insightface(count=5):
    """Images, then record 0 and people, as insightface's tools write them, here with the labels `label, aligned`."""
    records = [(key, content(key, (key // 2, 1), b"image %d" % key)) for key in range(1, count + 1)]
    ranges = [(1, 2), (2, 4), (4, 6)]
    people = [(count + 1 + row, content(count + 1 + row, both)) for row, both in enumerate(ranges)]
    return [*records, (0, content(0, (count + 1, count + 1 + len(people)))), *people]


def encoded(faces):
    return [faces.encoded(index) for index in range(len(faces))]


FIVE = [b"image %d" % key for key in range(1, 6)]


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("form", ["plain", "insightface", "header first", "arrays"])
def test_every_form_gives_the_same_images(make, form, index):
    records = {
        "plain": images(),
        "insightface": insightface(),
        "header first": [*insightface()[5:6], *insightface()[:5], *insightface()[6:]],
        "arrays": [(key, content(key, (key // 2, 7, 8), b"image %d" % key)) for key in range(1, 6)],
    }[form]
    faces = recordio.read(make(records, index))
    assert encoded(faces) == FIVE
    assert faces.people == ("00000000", "00000001", "00000002")
    assert faces.labels.tolist() == [0, 1, 1, 2, 2]
    assert faces.names[:2] == ("00000000/00000001", "00000001/00000002")
    assert faces.failures == ()


def test_key_0_is_an_image_where_it_holds_one(make):
    faces = recordio.read(make([(key, content(key, (3, 1), b"image %d" % key)) for key in range(2)]))
    assert encoded(faces) == [b"image 0", b"image 1"]


def test_an_index_names_and_orders_the_records(make):
    faces = recordio.read(make([(9, content(0, 1, b"nine")), (3, content(0, 1, b"three"))]))
    assert encoded(faces) == [b"three", b"nine"]
    assert faces.names == ("00000001/00000003", "00000001/00000009")


def test_ids_that_are_the_same_are_counted(make):
    faces = recordio.read(make([(0, content(7, row, b"image %d" % row)) for row in range(3)], index=False))
    assert faces.names == tuple(f"{row:08d}/{row:08d}" for row in range(3))


@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=6))
def test_the_magic_word_may_be_anywhere(tmp_path_factory, payloads):
    path = tmp_path_factory.mktemp("rec") / "train.rec"
    path.write_bytes(b"".join(frames(content(key, 1, each)) for key, each in enumerate(payloads)))
    assert encoded(recordio.read(path)) == payloads


def test_the_magic_word_may_be_in_the_header(make):
    key = 0xCED7230A  # at a multiple of 4, so the header itself comes in parts
    assert frames(content(key, 1, b"x")).count(MAGIC) == 2
    faces = recordio.read(make([(1, content(key, 4, b"one")), (2, content(key << 32, (5, 1), MAGIC))]))
    assert encoded(faces) == [b"one", MAGIC]
    assert faces.people == ("00000004", "00000005")


@given(
    payloads=st.lists(PAYLOADS, min_size=1, max_size=8, unique=True),
    people=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    suspect=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, payloads, people, suspect):
    path = tmp_path_factory.mktemp("rec") / "train.rec"
    records = [Record("first", "Ann 0", Held(png(1)), "web")] + [
        Record(f'{row}/a\tb"\n.jpg', f"Ann {person}", Held(each), "film", mark)
        for row, (each, person, mark) in enumerate(zip(payloads, people, suspect, strict=False))
    ]
    seen = []
    recordio.write(path, FaceSet.of(records), seen.append)
    assert sum(seen) == len(records)
    faces = recordio.read(path)
    assert faces.failures == ()
    assert list(zip(encoded(faces), faces.records(), strict=True)) == [
        (each.place.content, Record(each.name, each.person, place, each.source, each.suspect))
        for each, place in zip(sorted(records, key=lambda each: each.person), faces.places, strict=True)
    ]
    for start, whole in unpacked(path).items():
        assert path.read_bytes()[start:].startswith(frames(whole))
    path.with_suffix(".tsv").unlink()
    bare = recordio.read(path)
    assert (encoded(bare), bare.labels.tolist(), bare.failures) == (encoded(faces), faces.labels.tolist(), ())


def test_the_files_are_those_of_insightface(tmp_path):
    path = tmp_path / "train.rec"
    records = [Record("b/1", "Bea", Held(png(1))), Record("a/1", "Abe", Held(png(2))), Record("b/2", "Bea", Held(b"3"))]
    recordio.write(path, FaceSet.of(records))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["property", "train.idx", "train.rec", "train.tsv"]
    assert (tmp_path / "property").read_text() == "2,112,112"
    index = dict(map(int, line.split("\t")) for line in path.with_suffix(".idx").read_text().splitlines())
    held = unpacked(path)
    by_key = {key: held[start] for key, start in index.items()}
    assert by_key == {
        1: content(1, 0, png(2)),
        2: content(2, 1, png(1)),
        3: content(3, 1, b"3"),
        0: content(0, (4, 6)),
        4: content(4, (1, 2)),
        5: content(5, (2, 4)),
    }
    table = path.with_suffix(".tsv").read_text().splitlines()
    assert table[0].split("\t") == ["key", "bytes", "path", "identity", "source", "suspect"]
    assert table[3].split("\t") == ["3", "1", "b/2", "Bea", "", "0"]


@pytest.mark.parametrize(
    "index",
    [
        "",
        "nonsense",
        "1\t0\n",
        "1\t" + "9" * 400,
        "\0\xff\n" * 9,
        "1\t0\n1\t40\n2\t80\n3\t120\n4\t160\n",
        "1\t4\n2\t44\n3\t84\n4\t124\n5\t164\n",
        "1\t0\n2\t40\n3\t80\n4\t120\n5\t99999\n",
        "-1\t0\n2\t40\n3\t80\n4\t120\n5\t160\n",
    ],
)
def test_a_damaged_index_misleads_nobody(make, index):
    path = make(images())
    assert path.with_suffix(".idx").read_text() == "1\t0\n2\t40\n3\t80\n4\t120\n5\t160\n"
    path.with_suffix(".idx").write_text(index)
    faces = recordio.read(path)
    assert encoded(faces) == FIVE
    assert faces.labels.tolist() == [0, 1, 1, 2, 2]
    assert [name for name, _ in faces.failures] == ["train.idx"]
    assert "does not fit train.rec and was not used; delete it" in faces.failures[0][1]


def test_a_file_cut_at_any_byte_keeps_what_is_whole(make, tmp_path):
    path = make(insightface())
    whole, ends = path.read_bytes(), []
    for start, each in unpacked(path).items():
        ends.append(start + 8 + len(each))
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends)
        if not complete:
            with pytest.raises(DataError, match=r"train\.rec"):
                recordio.read(path)
            continue
        faces = recordio.read(path)
        assert encoded(faces) == FIVE[:complete]
        reasons = " ".join(why for _, why in faces.failures)
        assert f"lacks {9 - complete} records of its index" in reasons or complete == 9
        clean = cut in [0, *ends] or any(end <= cut < end + 4 and (cut - end) < -end % 4 for end in ends)
        padded = cut in [end + -end % 4 for end in ends]
        assert (f"record {complete} of the file, at byte" in reasons) == (not clean and not padded)


def test_damage_in_the_middle_costs_what_it_touches(make):
    path = make(images())
    whole = path.read_bytes()
    for byte in range(40, 80):
        changed = bytearray(whole)
        changed[byte] ^= 0xFF
        path.write_bytes(changed)
        faces = recordio.read(path)
        kept = [each for each in encoded(faces) if each in FIVE]
        assert {FIVE[0], *FIVE[2:]} <= {*kept}
        if byte < 48:  # the words of the frame
            assert len(faces) == 4
            assert "record 1 of the file, at byte 40, is damaged; the next 40 bytes are left out" in str(faces.failures)


@pytest.mark.parametrize("label", [np.nan, np.inf, -np.inf, -1, 0.5, 2.0**24, 1e30])
@pytest.mark.parametrize("form", [float, lambda label: (label, 1.0)])
def test_labels_that_are_none_are_named(make, label, form):
    faces = recordio.read(make([*images(2), (3, content(3, form(label), b"three")), *images(1, 4)]))
    assert encoded(faces) == [b"image 1", b"image 2", b"image 4"]
    assert [name for name, _ in faces.failures] == ["train.rec record 3"]
    assert "record 3 has the label" in faces.failures[0][1]


def test_records_without_an_image_are_named(make):
    odd = [
        (6, content(6, 1)),
        (7, content(7, (1, 2), flag=4_000_000_000)),
        (8, content(8, 1, flag=1)),
        (9, b"short"),
    ]
    faces = recordio.read(make([*images(), *odd, *images(1, 10)], index=False))
    assert encoded(faces) == [*FIVE, b"image 10"]
    reasons = " ".join(why for _, why in faces.failures)
    assert "record 6 holds no image" in reasons
    assert "record 7 is too short for the 4000000000 labels" in reasons
    assert "record 8 is too short for the 1 labels" in reasons
    assert "record 8 of the file, at byte" in reasons
    assert len(faces.failures) == 4


def test_record_0_counts_the_images(make):
    for count, message in [(7, "holds 5 of the 6 images"), (5, "holds 1 images that its record 0 does not count")]:
        faces = recordio.read(make([*images(), (0, content(0, (count, 9)))]))
        assert message in faces.failures[0][1]
        assert len(faces) == min(count - 1, 5)
    rounded = [*images(), (0, content(0, (2.0**24 + 2, 2.0**24 + 4))), (6, content(6, (1, 2)))]
    assert recordio.read(make(rounded)).names[-1] == "00000002/00000005"


@pytest.mark.parametrize(("text", "said"), [("3,112,112", None), ("9,112,112\n", "announces 9 people"), ("?", "else")])
def test_property_is_compared(make, text, said):
    path = make(images())
    path.with_name("property").write_text(text)
    failures = recordio.read(path).failures
    assert [name for name, _ in failures] == ["property"] * (said is not None)
    assert said is None or said in failures[0][1]


@pytest.mark.parametrize("change", ["size", "people", "names", "cut", "noise", "heading", "mark", "key"])
def test_names_of_another_file_are_not_taken(tmp_path, change):
    path = tmp_path / "train.rec"
    people = ["Ann", "Ann", "Bob"]
    recordio.write(path, FaceSet.of([Record(f"{n}", who, Held(png(n))) for n, who in enumerate(people)]))
    table = path.with_suffix(".tsv")
    lines = table.read_text().splitlines(keepends=True)
    assert recordio.read(path).people == ("Ann", "Bob")
    table.write_text(
        {
            "size": lines[0] + lines[1].replace(f"\t{len(png(0))}\t", "\t7\t") + "".join(lines[2:]),
            "people": "".join(lines).replace("Bob", "Ann"),
            "names": "".join([*lines[:2], lines[2].replace("\t1\t", "\t0\t"), lines[3]]),
            "cut": "".join(lines)[:-9],
            "noise": "\0\n\t\n" * 9,
            "heading": "".join(lines[1:]),
            "mark": "".join(lines[:3]) + lines[3].replace("\t0\n", "\tyes\n"),
            "key": "".join(lines[:2]),
        }[change]
    )
    faces = recordio.read(path)
    assert faces.people == ("00000000", "00000001")
    assert [name for name, _ in faces.failures] == ["train.tsv"]


def test_names_stay_with_the_images_that_are_left(tmp_path):
    path = tmp_path / "train.rec"
    records = [Record(f"{n}.png", "AB"[n // 2], Held(png(n))) for n in range(4)]
    recordio.write(path, FaceSet.of(records))
    damaged = bytearray(path.read_bytes())
    damaged[list(unpacked(path))[1]] ^= 1
    path.write_bytes(damaged)
    faces = recordio.read(path)
    assert faces.names == ("0.png", "2.png", "3.png")
    assert faces.people == ("A", "B")
    assert encoded(faces) == [png(0), png(2), png(3)]


def test_many_threads_and_other_processes_read_one_file(make):
    payloads = [bytes([key % 251]) * (key % 97 + 1) for key in range(400)]
    faces = recordio.read(make([(key, content(key, 0, each)) for key, each in enumerate(payloads)]))
    gate = threading.Barrier(8)

    def one(index):
        if index < 8:
            gate.wait(10)
        return faces.encoded(index)

    assert list(prefetch(one, range(400), workers=8, limit=64)) == payloads
    again = pickle.loads(pickle.dumps(faces))
    assert encoded(again) == payloads


def test_systems_that_cannot_read_at_a_place_open_the_file_each_time(make, monkeypatch):
    monkeypatch.delattr("os.pread")
    assert encoded(recordio.read(make(images()))) == FIVE


def test_a_file_that_changes_gives_no_wrong_image(make):
    path = make(images())
    faces = recordio.read(path)
    path.write_bytes(frames(content(1, 1, b"another")) * 9)
    assert faces.failures == ()
    with pytest.raises(DataError, match=r"train\.rec, record 3 has changed"):
        faces.encoded(2)
    other = recordio.read(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="record 0 has changed"):
        other.encoded(0)
    path.unlink()
    with pytest.raises(ImageError, match="No such file"):
        pickle.loads(pickle.dumps(other)).encoded(0)


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=6),
    st.one_of(st.none(), st.binary(max_size=60)),
)
def test_changed_bytes_give_data_errors_only(tmp_path_factory, changes, index):
    path = tmp_path_factory.getbasetemp() / "changed.rec"
    data = bytearray(b"".join(frames(each) for _, each in insightface()))
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data)
    path.with_suffix(".idx").write_bytes(b"" if index is None else index)
    try:
        faces = recordio.read(path)
    except DataError:
        return
    assert all(encoded(faces))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.just(MAGIC),
            st.integers(0, 2**32 - 1).map(lambda w: MAGIC + struct.pack("<I", w)),
        ),
        max_size=12,
    ).map(b"".join)
)
def test_random_bytes_give_data_errors_only(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "random.rec"
    path.write_bytes(data)
    try:
        recordio.read(path)
    except DataError:
        return


def test_a_search_for_records_ends(make, tmp_path):
    path = tmp_path / "noise.rec"
    path.write_bytes((MAGIC + b"\1\0\0\0") * 40_000)
    with pytest.raises(DataError, match="damaged all over"):
        recordio.read(path)
    far = frames(content(1, 1, b"one")) + b"\7" * 300_000 + frames(content(2, 1, b"two"))
    path.write_bytes(far)
    faces = recordio.read(path)
    assert encoded(faces) == [b"one", b"two"]
    assert "the next 300000 bytes are left out" in faces.failures[0][1]


def test_what_is_no_file_or_holds_nothing(tmp_path, make):
    for name, message in [("none.rec", "No such file"), (".", "is no file")]:
        with pytest.raises(DataError, match=message):
            recordio.read(tmp_path / name)
    with pytest.raises(DataError, match="holds no image"):
        recordio.read(make([]))
    with pytest.raises(DataError, match=r"no usable image in .* record 1 has the label -1"):
        recordio.read(make([(1, content(1, -1, b"x"))]))


def test_what_cannot_be_written(tmp_path):
    one = FaceSet.of([Record("a", "A", Held(png(1)))])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/other.rec").touch()
    cases = [
        ("a.bin", one, "end in .rec"),
        ("a.rec", FaceSet.of([]), "no image"),
        ("full/a.rec", one, "holds other.rec"),
        ("a.rec", FaceSet.of([Record("a", "A", Held(png(1)), "s" * 256)]), "longer than 255"),
        ("a.rec", FaceSet.of([Record("a", "A", Held(png(1) + MAGIC * 70_000))]), "larger than RecordIO"),
        ("a.rec", FaceSet.of([Record("a", "A", Held(png(1))), Record("b", "A", Held(b""))]), "b is empty"),
        ("a.rec", FaceSet.of([Record("a", "A", Held(b"x"))]), "a is not an image"),
    ]
    for name, faces, message in cases:
        with pytest.raises((DataError, ImageError), match=message):
            recordio.write(tmp_path / name, faces)
    assert [path.name for path in tmp_path.rglob("*.rec")] == ["other.rec"]
    recordio.write(tmp_path / "full/other.rec", one)
    assert len(recordio.read(tmp_path / "full/other.rec")) == 1
