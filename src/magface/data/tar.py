"""Where the files of an uncompressed tar archive lie: ustar, with the long names and sizes of GNU and POSIX."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from magface.errors import DataError

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_LONGEST = 1 << 20
"""Bytes of a name, or of other facts on a file, at most."""
_DIGITS = 9
_REGULAR = (b"0", b"\0", b"7")
_EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, folders and pipes, whose sizes mean nothing."""


class Member(NamedTuple):
    """A regular file; a plain tuple, as there are millions."""

    name: str
    offset: int
    size: int


def members(path: str | os.PathLike[str]) -> Iterator[Member]:
    """Regular files of an archive, in their order, with the bytes they take; links, devices and sparse files have none.

    Nothing but the headers is read, and every step goes forward by what the file really holds.

    Args:
        path: an archive without compression.

    Raises:
        DataError: the file cannot be read, is no such archive, is damaged or was cut off; the sentence names the byte.

    Example:
        >>> import tarfile, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with tarfile.open(Path(folder, "a.tar"), "w") as archive:
        ...         archive.addfile(tarfile.TarInfo("Ann/1.jpg"))
        ...     list(members(Path(folder, "a.tar")))
        [Member(name='Ann/1.jpg', offset=512, size=0)]
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe waits, a device never ends
            raise DataError(f"{path} is no file; name a folder, or an uncompressed .tar of it.")
        with Path(path).open("rb", buffering=0) as file:
            yield from _Archive(path, file).members()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from error


class _Archive:
    def __init__(self, path: str | os.PathLike[str], file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._total = os.fstat(file.fileno()).st_size
        self._position = 0

    def members(self) -> Iterator[Member]:
        facts: dict[str, str] = {}
        while True:
            start = self._position
            header = self._take(_BLOCK)
            if header == _ZEROS:
                return
            name, kind, size = self._header(header, start)
            if kind in (b"L", b"x"):
                facts |= {"path": _text(self._take(size))} if kind == b"L" else self._records(self._take(size), start)
                self._skip(-size % _BLOCK)
                continue
            if kind in _REGULAR:
                size = self._size(facts["size"], start) if "size" in facts else size
                if self._position + size > self._total:
                    raise self._cut()
                if not name.endswith("/") and not facts.keys() - {"path", "size"}:
                    yield Member(facts.get("path", name), self._position, size)
            self._skip(0 if kind in _EMPTY else size + -size % _BLOCK)
            facts = facts if kind == b"K" else {}

    def _take(self, size: int) -> bytes:
        if size > _LONGEST:
            raise self._damaged(self._position)
        self._file.seek(self._position)
        content = self._file.read(size)
        if len(content) < size:
            raise self._cut()
        self._position += size
        return content

    def _skip(self, size: int) -> None:
        if self._position + size > self._total:
            raise self._cut()
        self._position += size

    def _header(self, header: bytes, start: int) -> tuple[str, bytes, int]:
        """Name, type and size."""
        wanted = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if _number(header[148:156]) != wanted or (size := _number(header[124:136])) is None:
            raise self._damaged(start)
        name = _text(header[:100])
        prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
        return f"{prefix}/{name}" if prefix else name, header[156:157], size

    def _records(self, content: bytes, start: int) -> dict[str, str]:
        """Facts `length key=value` of POSIX, as far as they matter here."""
        facts = {}
        position = 0
        while position < len(content) and content[position]:
            space = content.find(b" ", position, position + _DIGITS)
            length = content[position:space] if space > 0 else b""
            end = position + int(length) if length.isdigit() else 0
            key, _, value = content[space + 1 : end].partition(b"=")
            if not value.endswith(b"\n") or end > len(content):
                raise self._damaged(start)
            if key in (b"path", b"size") or key.startswith(b"GNU.sparse."):
                facts[str(key, errors="replace")] = _text(value[:-1])
            position = end
        return facts

    def _size(self, text: str, start: int) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise self._damaged(start)
        return int(text)

    def _damaged(self, start: int) -> DataError:
        if not start:
            return DataError(f"{self._path} is no uncompressed .tar archive; name a folder of people, or a .tar of it.")
        return DataError(f"{self._path} is damaged at byte {start:,}; get the file again.")

    def _cut(self) -> DataError:
        if self._total < _BLOCK:
            return self._damaged(0)
        return DataError(f"{self._path} was cut off at byte {self._total:,}; get the whole file.")


def _number(field: bytes) -> int | None:
    """A number in octal digits, or in base 256 as GNU writes large ones; None where it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = field.partition(b"\0")[0].strip(b" ") or b"0"
    try:
        return int(digits, 8) if digits.isdigit() else None
    except ValueError:
        return None


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode(errors="surrogateescape")
