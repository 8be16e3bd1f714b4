"""Hostile files: each ends in one error, nothing in them runs, and they take no memory to speak of."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import textwrap
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magface.errors import DataError
from magface.models import tensors

MANY = 1_000_003  # a count that is found again in the bytes
TEN_GB = 2_500_000_000


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(entries, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def entries(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def claiming(content, count):
    """A file of torch whose pickle says that its storage and tensor hold `count` numbers."""
    old, new = b"J" + struct.pack("<i", MANY), b"\x8a\x05" + struct.pack("<q", count)[:5]
    assert old in content
    return content.replace(old, new)


def few(**options):
    """A file that claims ten GB and holds three numbers."""
    content = saved({"a": torch.zeros(MANY)}, **options)
    if options:
        return claiming(content, TEN_GB)[:2000]
    parts = entries(content)
    return zipped({
        name: data[:12] if "/data/" in name else claiming(data, TEN_GB) if name.endswith("data.pkl") else data
        for name, data in parts.items()
    })  # fmt: skip


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(1,), place=(0, 4)):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}}


LEGACY = {"_use_new_zipfile_serialization": False}
WHOLE = saved({"a": torch.zeros(100)})
HOSTILE = {
    "empty": b"",
    "one byte": b"x",
    "junk": random.Random(0).randbytes(5000),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a plain pickle": pickle.dumps({"a": 1}),
    "an empty zip": zipped({}),
    "a zip of something else": zipped({"a/b.txt": b"text"}),
    "half a file": WHOLE[: len(WHOLE) // 2],
    "a file without its end": WHOLE[:-10],
    "half an old file": saved({"a": torch.zeros(100)}, **LEGACY)[:-100],
    "an old file's first line": saved({}, **LEGACY)[:20],
    "a storage of 10 GB": few(),
    "an old storage of 10 GB": few(**LEGACY),
    "a negative storage": claiming(saved({"a": torch.zeros(MANY)}, **LEGACY), -3),
    "a zip bomb": zipped({**entries(WHOLE), "archive/data/0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED),
    "memory of 10 GB": saved({"a": Evil(bytearray, 4 * TEN_GB)}),
    "a tensor of 10 GB": saved({"a": Evil(torch.Tensor, TEN_GB)}),
    "old memory of 10 GB": saved({"a": Evil(bytearray, 4 * TEN_GB)}, **LEGACY),
    "a script of torch": zipped({"a/data.pkl": pickle.dumps({}, 2), "a/constants.pkl": pickle.dumps((), 2)}),
    "two pickles": zipped({"a/data.pkl": pickle.dumps({}, 2), "b/data.pkl": pickle.dumps({}, 2)}),
    "a header of 10 GB": safetensors(entry(), bytes(4), length=4 * TEN_GB),
    "safetensors of 10 GB": safetensors(entry(shape=(TEN_GB,), place=(0, 4 * TEN_GB)), bytes(4)),
    "many of the same": safetensors({str(i): entry()["a"] for i in range(9)}, bytes(4)),
    "another place": safetensors(entry(place=(4, 8)), bytes(4)),
    "a negative place": safetensors(entry(place=(-4, 0)), bytes(4)),
    "another size": safetensors(entry(shape=(3,)), bytes(4)),
    "a negative shape": safetensors(entry(shape=(-1, -1)), bytes(4)),
    "a shape of words": safetensors(entry(shape=("1",)), bytes(4)),
    "an unknown type": safetensors(entry(dtype="F8"), bytes(4)),
    "no place": safetensors({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "no object": safetensors({"a": 3}),
    "a list": safetensors([1, 2]),
    "no JSON": safetensors(b"{{{{"),
    "deep JSON": safetensors(b"[" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    path = tmp_path / "a.pth"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"a\.pth (is damaged|asks for [\w., ]+, which weights do not need)"):
        tensors.read(path)


@pytest.mark.skipif(sys.platform != "linux", reason="others count memory in other units")
def test_they_take_no_memory(tmp_path):
    """The most that a process ever held, before and after it read all of them."""
    for number, content in enumerate(HOSTILE.values()):
        (tmp_path / str(number)).write_bytes(content)
    program = """
        import resource, sys
        from pathlib import Path
        import torch
        from magface.errors import DataError
        from magface.models import tensors
        torch.save({}, sys.argv[2])
        tensors.read(sys.argv[2])
        held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before, refused = held(), 0
        for path in Path(sys.argv[1]).iterdir():
            try:
                tensors.read(path)
            except DataError:
                refused += 1
        print(refused, held() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), tmp_path, tmp_path.parent / "whole.pt"]
    refused, kilobytes = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert refused == len(HOSTILE)
    assert kilobytes < 50_000


@pytest.mark.parametrize("options", [{}, LEGACY, {"pickle_protocol": 4}], ids=["zip", "old", "newer pickle"])
@pytest.mark.parametrize("call", [os.mkdir, os.system, eval, exec], ids=lambda call: call.__name__)
def test_nothing_in_a_file_runs(tmp_path, monkeypatch, options, call):
    monkeypatch.chdir(tmp_path)
    evil = Evil(call, {os.mkdir: "made", os.system: "mkdir made"}.get(call, "__import__('os').mkdir('made')"))
    path = tmp_path / "a.pth"
    path.write_bytes(saved({"state_dict": {"a": torch.zeros(1), "b": evil}}, **options))
    with pytest.raises(DataError, match=r"was not loaded, and nothing in it was run|is damaged"):
        tensors.read(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.pth"]
    pickle.loads(pickle.dumps(evil))  # it would have
    assert (tmp_path / "made").exists()


def test_the_error_names_what_the_file_asks_for(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(saved({"a": Evil(os.system, "true")}))
    with pytest.raises(DataError, match=r"asks for (posix|nt)\.system, which weights do not need"):
        tensors.read(path)


def test_folders_and_missing_files_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(DataError, match="there is no checkpoint file"):
            tensors.read(path)


GIVEN = {"epoch": 3, "state_dict": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([1, 2])}}
FILES = (saved(GIVEN), saved(GIVEN, **LEGACY), safetensors(entry(shape=(2, 2), place=(0, 16)), bytes(16)))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_either_harmless_or_refused(tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.pth"
    path.write_bytes(content[: data.draw(st.sampled_from((len(content), len(content) // 2, 9 * len(content) // 10)))])
    try:
        found = tensors.read(path)
    except DataError:
        return
    assert isinstance(found, dict)
