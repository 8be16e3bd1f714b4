from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.data import table
from magface.data.face_set import Held, Record
from magface.errors import DataError

TEXT = st.text(st.characters(exclude_characters="\0"), max_size=20).map(
    lambda text: text.encode("utf-8", "ignore").decode()
)
RECORDS = st.lists(st.builds(Record, TEXT.filter(bool), TEXT, st.just(Held(b"")), TEXT, st.booleans()), max_size=5)


@given(RECORDS.filter(bool))
def test_what_was_written_comes_back(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("table") / "a.tsv"
    table.write(path, [(f"{number}.jpg", record) for number, record in enumerate(records)])
    rows = table.read(path)
    bare = [Record(f"{number}.jpg", "folder", Held(b"")) for number in range(len(records))]
    assert [table.described(record, rows[record.name]) for record in bare] == records


def test_a_user_leaves_out_what_the_set_says_already(tmp_path):
    (tmp_path / "a.tsv").write_text("path\tidentity\tother\na.jpg\tAnn\t1\nb.jpg\t\nc.jpg\n")
    rows = table.read(tmp_path / "a.tsv")
    assert rows == {"a.jpg": {"path": "a.jpg", "identity": "Ann"}, "b.jpg": {"path": "b.jpg", "identity": ""}} | {
        "c.jpg": {"path": "c.jpg"}
    }
    said = [table.described(Record(name, "set", Held(b""), "web", True), row) for name, row in rows.items()]
    assert [(each.person, each.source, each.suspect) for each in said] == [
        ("Ann", "web", True),
        ("set", "web", True),
        ("set", "web", True),
    ]


def test_names_that_are_no_unicode_come_back(tmp_path):
    table.write(tmp_path / "a.tsv", [("1.jpg", Record("a\udc80.jpg", "\udcff", Held(b"")))])
    [row] = table.read(tmp_path / "a.tsv").values()
    assert (row["name"], row["identity"]) == ("a\udc80.jpg", "\udcff")


@pytest.mark.parametrize("content", [b"", b"path\n", b"file\na.jpg\n", b"\0\0\xff\xfe", b'path\n"' + b"a" * 200_000])
def test_what_is_no_table(tmp_path, content):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tsv"):
        table.read(tmp_path / "a.tsv")
    with pytest.raises(DataError, match="cannot be read"):
        table.read(tmp_path / "none.tsv")


def test_a_mark_of_the_order_of_bytes_is_no_part_of_the_heading(tmp_path):
    (tmp_path / "t.tsv").write_text("\ufeffpath\tidentity\r\n1.jpg\tAnn\r\n", encoding="utf-8", newline="")
    assert table.read(tmp_path / "t.tsv") == {"1.jpg": {"path": "1.jpg", "identity": "Ann"}}


def test_what_never_ends_is_no_table():
    if not Path("/dev/zero").exists():
        pytest.skip("needs /dev/zero")
    with pytest.raises(DataError, match="/dev/zero is no file"):
        table.read("/dev/zero")
