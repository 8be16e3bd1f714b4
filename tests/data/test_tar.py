import io
import os
import random
import struct
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.data import tar
from magface.errors import DataError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda name: name.strip("/. ") and not name.endswith("/")
)


def archive(path, members, **settings):
    with tarfile.open(path, "w", **settings) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(st.lists(st.tuples(NAMES, st.binary(max_size=1200)), max_size=4))
def test_names_and_places_are_those_of_tarfile(tmp_path_factory, form, members):
    if form == tarfile.USTAR_FORMAT:
        members = [(ascii(name)[:90], content) for name, content in members]
    path = archive(tmp_path_factory.mktemp("tar") / "a.tar", members, format=form)
    content = path.read_bytes()
    with tarfile.open(path) as file:
        wanted = [(each.name, each.offset_data, each.size) for each in file]
    found = list(tar.members(path))
    assert [(each.name.rstrip("/"), each.offset, each.size) for each in found] == wanted
    assert [content[each.offset :][: each.size] for each in found] == [each for _, each in members]


def test_only_regular_files_count(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"type{kind.decode()}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
        sparse = tarfile.TarInfo("sparse.jpg")
        sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "sparse.jpg"}
        file.addfile(sparse)
        file.addfile(tarfile.TarInfo("whole.jpg"))
    assert [each.name for each in tar.members(path)] == ["whole.jpg"]


def test_names_that_lead_elsewhere_are_only_names(tmp_path):
    path = archive(tmp_path / "a.tar", [("../../x.jpg", b"1"), ("/etc/x.jpg", b"2")])
    assert [each.name for each in tar.members(path)] == ["../../x.jpg", "/etc/x.jpg"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_that_was_cut_anywhere_is_refused(tmp_path, form):
    whole = archive(tmp_path / "a.tar", [("a" * 120, b"one" * 300), ("b", b"two")], format=form).read_bytes()
    end = whole.rindex(b"two") + 512
    for size in range(0, end, 37):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.tar"):
            list(tar.members(tmp_path / "cut.tar"))


def header(size, kind=b"0", name=b"a.jpg"):
    field = size if isinstance(size, bytes) else b"\x80" + size.to_bytes(11)
    block = bytearray(name.ljust(100, b"\0") + bytes(24) + field + bytes(12) + b" " * 8 + kind).ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "size", [1 << 40, 1 << 63, (1 << 88) - 1, b"\xff" * 12, b"77777777777\0", b"abc".ljust(12, b"\0")]
)
@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"g", b"K", b"Z"])
def test_sizes_that_cannot_be_are_refused(tmp_path, size, kind):
    (tmp_path / "a.tar").write_bytes(header(0) + header(size, kind) + bytes(4096))
    with pytest.raises(DataError, match=r"cut off|damaged"):
        list(tar.members(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    "facts", [b"13 size=-5120\n", b"99 path=a\n", b"0 path=a\n", b"path", b"9 path=a", b"-9 a=b\n"]
)
def test_facts_that_cannot_be_are_refused(tmp_path, facts):
    content = header(len(facts), b"x") + facts.ljust(512, b"\0") + header(0) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(header(0) + content)
    with pytest.raises(DataError, match="damaged"):
        list(tar.members(tmp_path / "a.tar"))


def test_other_files_are_no_archive(tmp_path):
    for number, content in enumerate([b"", b"text", bytes(100), struct.pack("I", 1) * 999, b"\x1f\x8b" + bytes(2000)]):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"no uncompressed \.tar"):
            list(tar.members(path))
    with pytest.raises(DataError, match="No such file"):
        list(tar.members(tmp_path / "none.tar"))


def test_random_damage_gives_members_or_a_sentence(tmp_path):
    whole = archive(tmp_path / "a.tar", [("é" * 120, b"one" * 300), ("b.jpg", b"two"), ("c", b"")]).read_bytes()
    draw = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 3, 30])):
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        (tmp_path / "b.tar").write_bytes(damaged)
        try:
            found = list(tar.members(tmp_path / "b.tar"))
        except DataError:
            continue
        assert all(each.offset + each.size <= len(whole) for each in found)


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes in the file system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"a\.tar is no file"):
        list(tar.members(tmp_path / "a.tar"))
