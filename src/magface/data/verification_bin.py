"""Verification sets `.bin`: a pickle of `(images, same)`, read by a machine that can do nothing but build lists."""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magface import io
from magface.data.face_set import FaceSet, Held, Record
from magface.data.pairs import Pairs
from magface.errors import DataError
from magface.text import printable
from magface.threads import READERS, prefetch

FOLDS = 10

_AHEAD = 128
_ENDING = re.compile(r"\.[^./]*$")
_PROTOCOL = 3
"""The first with bytes of their own: any Python 3 reads it, with and without `encoding="bytes"`."""


def read(path: str | os.PathLike[str]) -> tuple[FaceSet, Pairs]:
    """Read the encoded images, and the pairs 0 and 1, 2 and 3, and so on.

    The pickle may be of any protocol, of Python 2 or 3, and may hold the images as bytes or as uint8 arrays. Whatever
    else it asks for is refused, and nothing in it is ever called.

    Args:
        path: as insightface publishes `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`.

    Returns:
        The images, named `0000000`, `0000001`, ..., of people whom the file does not name; and the pairs, in 10
        contiguous folds, as scikit-learn's `KFold(10)` makes them (one a pair where there are fewer).

    Raises:
        DataError: the file cannot be read, is damaged, asks for what a list of images does not need, or holds no pair.
    """
    images, same = _lists(path, _load(path))
    records = [Record(f"{number:07d}", "", Held(content)) for number, content in enumerate(images)]
    names = tuple(record.name for record in records)
    sizes = [len(part) for part in np.array_split(same, min(FOLDS, len(same)))]
    return FaceSet.of(records), Pairs(names[::2], names[1::2], same, np.repeat(np.arange(len(sizes)), sizes))


def write(path: str | os.PathLike[str], faces: FaceSet, pairs: Pairs) -> None:
    """Write the images of the pairs, bit for bit, so that any Python 3 reads them; an image of two pairs comes twice.

    Names have no place in the file, and folds neither: readers make 10 of the order.

    Args:
        path: ends in `.bin` by custom.
        faces: have the images.
        pairs: of names in `faces`, with or without the ending of the file.

    Raises:
        ImageError: an image cannot be read.
        DataError: there is no pair, or `faces` lacks an image of one, or has two that differ in their endings.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> faces = FaceSet.of([Record("Ann/1.png", "Ann", Held(b"one")), Record("Ann/2.png", "Ann", Held(b"two"))])
        >>> pairs = Pairs(("Ann/1",), ("Ann/2",), np.array([True]), np.array([0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "ann.bin"), faces, pairs)
        ...     found, _ = read(Path(folder, "ann.bin"))
        >>> found.names, found.encoded(1)
        (('0000000', '0000001'), b'two')
    """
    if not len(pairs):
        raise DataError(f"there is no pair to write to {path}.")
    short = [_ENDING.sub("", name) for name in faces.names]
    once = Counter(short)
    rows = {name: row for row, name in enumerate(short) if once[name] == 1}
    rows |= {name: row for row, name in enumerate(faces.names)}
    wanted = [name for pair in zip(pairs.first, pairs.second, strict=True) for name in pair]
    missing = next((name for name in wanted if name not in rows), None)
    if missing is not None:
        raise DataError(
            f"the pairs name {missing}, which the images lack, or have with two endings; give both of one set."
        )
    images = list(prefetch(faces.encoded, [rows[name] for name in wanted], workers=READERS, limit=_AHEAD))
    with io.atomic_path(path) as temporary, temporary.open("wb") as file:
        pickle.dump((images, pairs.same.tolist()), file, protocol=_PROTOCOL)


def _load(path: str | os.PathLike[str]) -> object:
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe waits, a device never ends
            raise DataError(f"{path} is no file; name a verification .bin.")
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from error
    try:
        return _Machine(content).run()
    except _RefusalError as error:
        raise DataError(
            f"{path} asks for {error}, which no list of images needs; nothing of it ran. Get the file from its authors."
        ) from error
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise DataError(f"{path} is damaged or no verification .bin ({error}); get the file again.") from error


def _lists(path: str | os.PathLike[str], found: object) -> tuple[list[bytes], NDArray[np.bool_]]:
    if not isinstance(found, tuple | list) or len(found) != 2 or not isinstance(found[0], tuple | list):
        raise DataError(f"{path} is no pair of images and labels; get a verification .bin.")
    images = [_image(path, number, image) for number, image in enumerate(found[0])]
    same = _same(path, found[1])
    if not len(same):
        raise DataError(f"{path} holds no pair; get the file again.")
    if len(images) != 2 * len(same):
        raise DataError(f"{path} holds {len(images)} images for {len(same)} pairs, which need two each.")
    return images, same


def _image(path: str | os.PathLike[str], number: int, image: object) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, _Array) and image.dtype == np.uint8 and len(image.content) in image.shape:
        return image.content
    raise DataError(f"{path}, image {number} is no encoded image, neither bytes nor a row of uint8; get another file.")


def _same(path: str | os.PathLike[str], listed: object) -> NDArray[np.bool_]:
    if isinstance(listed, _Array):
        listed = listed.values().tolist() if len(listed.shape) == 1 else None
    if not isinstance(listed, tuple | list):
        raise DataError(f"{path} has no list that says which pairs show one person; get the file again.")
    values = [value.scalar() if isinstance(value, _Array) else value for value in listed]
    for number, value in enumerate(values):
        if not isinstance(value, int) or value not in (0, 1):
            raise DataError(f"{path}, pair {number} is neither True nor False; get the file again.")
    return np.array(values, bool)


class _RefusalError(Exception):
    """Something that a pickle asks for and does not get."""


@dataclass(slots=True)
class _Type:
    """A dtype in the making."""

    code: str
    order: str = "="

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass(slots=True)
class _Array:
    """An array, or a number, in the making; the content is that of the file and not copied."""

    content: bytes = b""
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()

    def fill(self, content: object, dtype: object, shape: object) -> None:
        if not isinstance(content, bytes) or not isinstance(dtype, _Type) or not isinstance(shape, tuple):
            raise _RefusalError("an array of something else than numbers")
        if len(shape) > _DIMENSIONS or not all(
            type(side) is int and 0 <= side <= max(len(content), 1) for side in shape
        ):
            raise ValueError("an array is not as large as its shape")
        self.content, self.dtype, self.shape = content, dtype.dtype(), shape
        if math.prod(shape) * self.dtype.itemsize != len(content):
            raise ValueError("an array is not as large as its shape")

    def values(self) -> NDArray[Any]:
        return np.frombuffer(self.content, self.dtype)

    def scalar(self) -> object:
        return self.values().item() if self.dtype is not None and not self.shape else None


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_GLOBALS = {
    **{(module, "_reconstruct"): "reconstruct" for module in _MULTIARRAY},
    **{(module, "scalar"): "scalar" for module in _MULTIARRAY},
    **{(module, "_frombuffer"): "frombuffer" for module in _NUMERIC},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
}


@dataclass(frozen=True, slots=True)
class _Global:
    """One of the names that a pickle of images needs; nothing but a word."""

    word: str


class _Mark:
    """Where on the stack a tuple or a list begins."""


_MARK = _Mark()
_NUMBERS = {b"J": "<i", b"K": "<B", b"M": "<H"}
_BYTES = {b"T": "<i", b"U": "<B", b"B": "<I", b"C": "<B", b"\x8e": "<Q", b"\x96": "<Q"}
_TEXTS = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q"}
_CONSTANTS: dict[bytes, object] = {b"N": None, b"\x88": True, b"\x89": False, b"(": _MARK}
_TUPLES = {b")": 0, b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUTS = {b"q": "<B", b"r": "<I"}
_GETS = {b"h": "<B", b"j": "<I"}
_INSTRUCTIONS = {instruction.code: instruction.name for instruction in pickletools.opcodes}
_ORDERS = ("<", ">", "|", "=")
_CODE = re.compile(r"b1|[iu][1248]")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[\\'\"nrt]|)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_DIGITS = 20
_DIMENSIONS = 32
_LEAST_STEPS = 1 << 16
_BYTES_A_STEP = 16


class _Machine:
    """Reads a pickle for what images and labels need: bytes, text, numbers, tuples, lists and arrays of numbers.

    No name in the pickle is looked up. Memory stays within a small multiple of the file: an instruction takes only what
    the file holds, there is one for every 16 bytes at most (an image has thousands), and text becomes bytes no longer
    than the file.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def run(self) -> object:
        """What the pickle holds.

        Raises:
            _RefusalError: it asks for something else.
            ValueError: it is damaged; or another error that reading it with wrong types gives.
        """
        for _ in range(_LEAST_STEPS + len(self._content) // _BYTES_A_STEP):
            code = self._take(1)
            if code == b".":
                return self._pop()
            self._step(code)
        raise ValueError("it has more instructions than its images need")

    def _step(self, code: bytes) -> None:
        if code in _CONSTANTS:
            self._push(_CONSTANTS[code])
        elif code in _NUMBERS:
            self._push(self._number(_NUMBERS[code]))
        elif code in _BYTES:
            self._push(self._take(self._number(_BYTES[code])))
        elif code in _TEXTS:
            self._push(str(self._take(self._number(_TEXTS[code])), "utf-8", "surrogatepass"))
        elif code in _TUPLES:
            self._push(tuple(self._pops(_TUPLES[code])))
        elif code in _PUTS:
            self._put(self._number(_PUTS[code]))
        elif code in _GETS:
            self._push(self._memo[self._number(_GETS[code])])
        else:
            self._rarer(code)

    def _rarer(self, code: bytes) -> None:
        match code:
            case b"t":
                self._push(tuple(self._marked()))
            case b"]":
                self._push([])
            case b"l":
                self._push(self._marked())
            case b"a":
                self._append([self._pop()])
            case b"e":
                self._append(self._marked())
            case b"R":
                words = self._pop()
                self._push(self._made(self._pop(), words))
            case b"b":
                state = self._pop()
                self._build(self._top(), state)
            case b"\x94":
                self._put(len(self._memo))
            case b"p":
                self._put(self._integer(self._line()))
            case b"g":
                self._push(self._memo[self._integer(self._line())])
            case b"c":
                self._push(self._named(str(self._line(), "utf-8"), str(self._line(), "utf-8")))
            case b"\x93":
                module, name = self._pops(2)
                self._push(self._named(module, name))
            case b"\x80":
                self._take(1)
            case b"\x95":
                self._take(8)
            case b"0":
                self._pop()
            case b"1":
                self._marked()
            case b"2":
                self._push(self._top())
            case _:
                self._text(code)

    def _text(self, code: bytes) -> None:
        """Instructions of protocol 0, and long numbers."""
        match code:
            case b"I" | b"L":
                line = self._line()
                flag = {b"00": False, b"01": True}.get(line) if code == b"I" else None
                self._push(self._integer(line.removesuffix(b"L")) if flag is None else flag)
            case b"\x8a":
                self._push(int.from_bytes(self._take(self._number("<B")), "little", signed=True))
            case b"S":
                self._push(_unescaped(self._line()))
            case b"V":
                self._push(str(self._line(), "raw-unicode-escape"))
            case _:
                name = _INSTRUCTIONS.get(str(code, "latin-1"))
                if name is None:
                    raise ValueError(f"byte {self._position - 1} is no instruction")
                raise _RefusalError(f"the pickle instruction {name}")

    def _take(self, size: int) -> bytes:
        start = self._position
        if not 0 <= size <= len(self._content) - start:
            raise ValueError("it ends too early")
        self._position = start + size
        return self._content[start : self._position]

    def _number(self, form: str) -> int:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> bytes:
        end = self._content.find(b"\n", self._position)
        if end < 0:
            raise ValueError("it ends too early")
        return self._take(end + 1 - self._position)[:-1]

    @staticmethod
    def _integer(line: bytes) -> int:
        if len(line) > _DIGITS:
            raise ValueError("a number is too long")
        return int(line)

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise ValueError("an instruction lacks what it needs")
        return self._stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        self._stack.pop()
        return value

    def _pops(self, count: int) -> list[Any]:
        return [self._pop() for _ in range(count)][::-1]

    def _marked(self) -> list[Any]:
        """What lies above the last mark."""
        values = []
        while self._stack and self._stack[-1] is not _MARK:
            values.append(self._stack.pop())
        if not self._stack:
            raise ValueError("a list has no beginning")
        self._stack.pop()
        return values[::-1]

    def _put(self, key: int) -> None:
        self._memo[key] = self._top()

    def _append(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise ValueError("something is added to what is no list")
        target.extend(values)

    def _named(self, module: object, name: object) -> _Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name is no text")
        word = _GLOBALS.get((module, name))
        if word is None:
            raise _RefusalError(printable(f"{module[:60]}.{name[:60]}"))
        return _Global(word)

    def _made(self, what: object, words: object) -> object:
        """What one of the known names makes of its arguments."""
        if not isinstance(what, _Global) or not isinstance(words, tuple):
            raise _RefusalError("a call of what is no function")
        match what.word, words:
            case "bytes", ():
                return b""
            case "encode", (str() as text, "latin1" | b"latin1"):
                return self._encode(text)
            case "dtype", (str() | bytes() as code, *_):
                return _type(code if isinstance(code, str) else str(code, "ascii"))
            case "reconstruct", (_Global("ndarray"), *_):
                return _Array()
            case "scalar", (dtype, content):
                return self._array(content, dtype, ())
            case "frombuffer", (content, dtype, shape, *_):
                return self._array(content, dtype, shape)
        raise _RefusalError(f"{what.word} of unusual arguments")

    def _encode(self, text: str) -> bytes:
        self._encoded += len(text)
        if self._encoded > len(self._content):
            raise ValueError("it encodes one text again and again")
        return text.encode("latin-1")

    @staticmethod
    def _array(content: object, dtype: object, shape: object) -> _Array:
        array = _Array()
        array.fill(content, dtype, shape)
        return array

    def _build(self, target: object, state: object) -> None:
        match target, state:
            case _Type(), (_, str() | bytes() as order, *_):
                order = order if isinstance(order, str) else str(order, "ascii")
                if order not in _ORDERS:
                    raise ValueError("an array has no order of bytes")
                target.order = order
            case _Array(), (_, shape, dtype, _, content):
                target.fill(content, dtype, shape)
            case _:
                raise _RefusalError("the state of an object that is no array")


def _type(code: str) -> _Type:
    if not _CODE.fullmatch(code):
        raise _RefusalError(f"an array of {code[:20]!a}")
    return _Type(code)


def _unescaped(line: bytes) -> bytes:
    """Bytes as Python 2 writes them, in quotes."""
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a text has no quotes")

    def one(found: re.Match[bytes]) -> bytes:
        escape = found[1]
        if not escape:
            raise ValueError("a text is not as Python writes it")
        return bytes([int(escape[1:], 16)]) if escape[:1] == b"x" else _ESCAPED.get(escape, escape)

    return _ESCAPE.sub(one, line[1:-1])
