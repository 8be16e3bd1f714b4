"""Tensors of a weights file, whoever wrote it: what torch saves, or safetensors. Nothing in a file is executed.

A file of torch is a pickle, and a pickle is a program. torch's own `weights_only` refuses what could do harm; here
everything is refused beforehand that weights do not need, also what would only take memory.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from magface.errors import DataError

if TYPE_CHECKING:
    import torch

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number with which torch began its files up to 1.5
_LEGACY_PICKLES = 5
_NEEDED = re.compile(
    r"collections (OrderedDict|Counter)|_codecs encode|torch (Size|device)|"
    r"torch\._utils _rebuild_(tensor_v2|parameter)|"
    r"torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
)
_LIGHTNING = re.compile(r"(pytorch_lightning|lightning)\.[\w.]+ \w+")
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a weights file holds: tensors by name, or a checkpoint whose values are of plain types and tensors.

    Args:
        path: of a file that `torch.save` wrote, of any version, or of a safetensors file; told by the content.

    Returns:
        Tensors on the CPU, some of which may live in the file as long as nobody copies them.

    Raises:
        DataError: the file is missing, damaged, of another kind, or holds more than weights need.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(f"there is no checkpoint file {path}; check the path.")
        with path.open("rb") as file:
            head = file.read(len(_LEGACY))
    except OSError as error:
        raise DataError(f"cannot read the checkpoint {path} ({error.strerror}); check the path.") from error
    if head.startswith(_ZIP) or head == _LEGACY:
        return _of_torch(path, zipped=head.startswith(_ZIP))
    return _of_safetensors(path)


def _of_torch(path: Path, *, zipped: bool) -> dict[str, Any]:
    import torch

    try:
        names = set(_zipped_names(path) if zipped else _legacy_names(path))
        refused = sorted(name for name in names if not (_NEEDED.fullmatch(name) or _LIGHTNING.fullmatch(name)))
        if refused:
            wanted = ", ".join(name.replace(" ", ".") for name in refused[:3])
            raise DataError(
                f"{path} asks for {wanted}, which weights do not need; it was not loaded, and nothing in it was run."
            )
        stand_ins = [_stand_in(*name.split()) for name in names if _LIGHTNING.fullmatch(name)]
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # torch remarks on files that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except DataError:
        raise
    except Exception as error:  # hostile bytes make zipfile, pickletools and torch fail in many ways
        raise _damaged(path) from error
    if not isinstance(state, dict):
        raise DataError(f"{path} holds no dictionary of tensors; save the state_dict of the network.")
    return state


def _stand_in(module: str, name: str) -> Any:
    """An empty class in place of one by which Lightning names a callback."""
    return type(name, (), {"__module__": module})


def _zipped_names(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [
            entry for entry in entries if entry.filename.count("/") == 1 and entry.filename.endswith("/data.pkl")
        ]
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if len(pickles) != 1 or not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise _damaged(path)
        yield from _names(io.BytesIO(archive.read(pickles[0])))


def _legacy_names(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            yield from _names(file)


def _names(pickle: BinaryIO) -> Iterator[str]:
    """`module name` of everything that a pickle would look up; the other way to do it is refused by torch."""
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "GLOBAL":
            yield str(argument)


def _of_safetensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = path.stat().st_size - 8
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size:
            raise _damaged(path)
        try:
            entries = json.loads(file.read(length))
            entries.pop("__metadata__", None)
            spans = {name: (entry, *entry["data_offsets"]) for name, entry in entries.items()}
            if sum(end - start for _, start, end in spans.values()) > size - length:
                raise _damaged(path)
            return {name: _tensor(file, 8 + length, *span) for name, span in spans.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _damaged(path) from error


def _tensor(file: BinaryIO, data: int, entry: dict[str, Any], start: int, end: int) -> torch.Tensor:
    """One tensor of a safetensors file whose data begin at byte `data`.

    Raises:
        ValueError: its type, shape and place contradict each other.
    """
    import torch

    dtype = getattr(torch, _DTYPES[entry["dtype"]])
    shape = entry["shape"]
    if not all(type(each) is int and each >= 0 for each in (*shape, start)):
        raise ValueError("not a shape")
    if math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError("shape and place differ")
    if start == end:
        return torch.empty(shape, dtype=dtype)
    file.seek(data + start)
    content = bytearray(file.read(end - start))
    if len(content) != end - start:
        raise ValueError("the file ends too early")
    return torch.frombuffer(content, dtype=dtype).reshape(shape)


def _damaged(path: Path) -> DataError:
    return DataError(f"{path} is damaged, or no file of torch or safetensors; get it again.")
