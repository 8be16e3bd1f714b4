"""Results that were written as JSON, read again for their curves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from magface.benchmarks.result import Curve, Discard
from magface.errors import DataError

_LARGEST = 1 << 26
_LONGEST = 100_000
_MOST = 2**53
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """The curves of a result, and what tells it from others.

    Attributes:
        model: name in its card, or the start of its fingerprint; empty where neither is known.
        benchmark: name.
        curves: ROC by name.
        discards: error versus discard by name.
    """

    model: str
    benchmark: str
    curves: Mapping[str, Curve]
    discards: Mapping[str, Discard]


def read(path: str | os.PathLike[str]) -> Stored:
    """Read what `magface evaluate -o` or `--format json` wrote.

    Args:
        path: the JSON file.

    Raises:
        DataError: the file cannot be read, is no result, or a curve in it is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "result.json")
        ...     _ = file.write_text('{"benchmark": "lfw", "model": "f00d", "measures": []}')
        ...     read(file)
        Stored(model='f00d', benchmark='lfw', curves={}, discards={})
    """
    file = Path(path)
    content = _content(file)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("benchmark", "model")):
        raise DataError(f"{file} is no result; name a result.json that `magface evaluate -o` wrote.")
    card = content.get("model_card")
    name = card.get("name") if isinstance(card, dict) else None
    return Stored(
        name if isinstance(name, str) else content["model"][:12],
        content["benchmark"],
        _each(file, content, "curves", _curve),
        _each(file, content, "discards", _discard),
    )


def _content(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)  # a device never ends
    except OSError as error:
        raise DataError(f"cannot read the result {file} ({error.strerror}); check the path.") from error
    if len(raw) > _LARGEST:
        raise DataError(f"{file} is too large for a result (over {_LARGEST:,} bytes); check the path.")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON; name a result.json that `magface evaluate -o` wrote.") from error


def _each(file: Path, content: dict[str, Any], key: str, make: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise DataError(f"{file} is damaged: {key} must be curves by name; evaluate again.")
    made = {}
    for name, each in found.items():
        try:
            made[name] = make(each)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{file} is damaged: the curve {name[:60]!r} lacks numbers; evaluate again.") from error
    return made


def _curve(found: dict[str, Any]) -> Curve:
    return Curve(_numbers(found["fmr"]), _numbers(found["tar"]), _count(found["genuine"]), _count(found["impostor"]))


def _discard(found: dict[str, Any]) -> Discard:
    band = tuple((low, high) for low, high in map(_numbers, _list(found["band"])))
    kind, start = found["kind"], found["start"]
    if not isinstance(kind, str) or not isinstance(start, str):
        raise TypeError
    return Discard(
        _numbers(found["discarded"]), _numbers(found["error"]), band, kind, start, _count(found["comparisons"])
    )


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list) or len(values) > _LONGEST:
        raise TypeError
    return values


def _numbers(values: Any) -> tuple[float, ...]:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in _list(values)):
        raise TypeError
    return tuple(map(float, values))


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise TypeError
    return value
