"""Lists of image pairs to compare, in the form of LFW's `pairs.txt`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of images by name, with folds.

    Attributes:
        first: N names `Person/Person_0001`, without the ending of the file.
        second: N names likewise.
        same: `(N,)` bool, True for two images of one person.
        fold: `(N,)` int64, from 0.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def read_lfw(path: str | os.PathLike[str]) -> Pairs:
    r"""Read LFW's `pairs.txt`, or another list of its form.

    The first line is `FOLDS PAIRS` or, for a single fold, `PAIRS`. Every fold is `PAIRS` genuine lines
    `Person i j` and `PAIRS` impostor lines `Person i Other j`; image i of a person is `Person/Person_000i`.

    Args:
        path: text file, fields separated by tabs or spaces.

    Returns:
        The pairs in the order of the file.

    Raises:
        DataError: the file is missing or not of this form; the sentence names the line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pairs.txt").write_text("1 1\nAnn 1 2\nAnn 1 Bob 3\n")
        ...     pairs = read_lfw(Path(folder, "pairs.txt"))
        >>> pairs.second, pairs.same
        (('Ann/Ann_0002', 'Bob/Bob_0003'), array([ True, False]))
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the pairs of {path}: {error}.") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    folds, size = _header(path, rows[0][1] if rows else [])
    if len(rows) - 1 != folds * size * 2:
        raise DataError(f"{path} promises {folds * size * 2} pairs and lists {len(rows) - 1}; get the whole file.")
    first, second, same = [], [], np.arange(folds * size * 2) % (2 * size) < size
    for (number, fields), genuine in zip(rows[1:], same, strict=True):
        if len(fields) != (3 if genuine else 4):
            kind = "a genuine pair 'Person i j'" if genuine else "an impostor pair 'Person i Other j'"
            raise DataError(f"{path}, line {number} is not {kind}.")
        first.append(_name(path, number, *fields[:2]))
        second.append(_name(path, number, fields[0] if genuine else fields[2], fields[-1]))
    return Pairs(tuple(first), tuple(second), same, np.arange(len(same)) // (2 * size))


def _header(path: str | os.PathLike[str], fields: list[str]) -> tuple[int, int]:
    if len(fields) not in (1, 2) or not all(field.isdecimal() and int(field) for field in fields):
        raise DataError(f"{path}, line 1 must be 'FOLDS PAIRS' or 'PAIRS', as in LFW's pairs.txt.")
    return int(fields[0]) if len(fields) == 2 else 1, int(fields[-1])


def _name(path: str | os.PathLike[str], number: int, person: str, image: str) -> str:
    if not image.isdecimal():
        raise DataError(f"{path}, line {number}: {image!r} is not the number of an image.")
    return f"{person}/{person}_{int(image):04d}"
