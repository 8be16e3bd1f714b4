"""Files are whole or not there, whatever ends the program; a lock ends with its process."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from magface import io


class Stopped(Exception):
    pass


def write_half_and_stop(path):
    with io.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise Stopped


def start(code, *arguments):
    """A Python program that prints a line when it is ready, and then waits to be killed."""
    program = textwrap.dedent(code)
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process):
    process.kill()
    process.communicate()
    return process.returncode


@pytest.mark.parametrize("content", [b"\x00\xff", "Grüße\n"])
def test_writes_the_whole_and_makes_the_folder(tmp_path, content):
    path = tmp_path / "new" / "a.txt"
    io.write_atomic(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert [*path.parent.iterdir()] == [path]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Stopped):
        write_half_and_stop(path)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    writer = """
        import sys, time
        from magface import io
        with io.atomic_path(sys.argv[1]) as temporary:
            temporary.write_text("half")
            print("ready", flush=True)
            time.sleep(60)
    """
    assert kill(start(writer, path)) == -signal.SIGKILL
    assert path.read_text() == "old"
    [left] = set(tmp_path.iterdir()) - {path}
    assert left.name.startswith(".a.txt.")  # hidden, so that no search takes it for a result
    io.write_atomic(path, "new")
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="needs permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        io.write_atomic(tmp_path / "a.txt", "a")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_a_place_is_tried_without_leaving_a_file(tmp_path):
    io.check_place(tmp_path / "new" / "a.txt")
    assert [*(tmp_path / "new").iterdir()] == []
    with pytest.raises(IsADirectoryError):
        io.check_place(tmp_path)


HOLDER = """
    import sys, time
    from magface import io
    with io.locked(sys.argv[1]):
        print("ready", flush=True)
        time.sleep(60)
"""


def test_a_lock_holds_as_long_as_its_process(tmp_path):
    path = tmp_path / "lock"
    holder = start(HOLDER, path)
    try:
        with pytest.raises(BlockingIOError, match="another process"), io.locked(path):
            pass
    finally:
        kill(holder)
    with io.locked(path):
        pass
    with io.locked(path):
        assert path.exists()


def test_a_lock_keeps_what_is_in_the_file(tmp_path):
    path = tmp_path / "journal"
    path.write_text("old")
    with io.locked(path):
        pass
    assert path.read_text() == "old"


def test_hash_of_a_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    assert io.sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
def test_a_device_or_pipe_is_never_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(FileExistsError, match="device or pipe"):
        io.write_atomic(path, b"new")
    with pytest.raises(FileExistsError, match="device or pipe"):
        io.check_place(path)
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_no_lock(tmp_path):
    os.mkfifo(tmp_path / "lock")
    for path in (tmp_path / "lock", Path(os.devnull)):
        with pytest.raises(FileExistsError), io.locked(path):
            pass
