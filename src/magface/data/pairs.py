"""Lists of image pairs to compare, in the forms in which verification sets are published, and the images they name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magface import images
from magface.errors import DataError

_LARGEST = 1 << 27
_FOLDS = 10
_DEEPEST = 16
_NUMBER = re.compile(r"_\d+$")
_SAME = {"1": True, "true": True, "0": False, "-1": False, "false": False}


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of images by name, with folds.

    Attributes:
        first: N names as the list gives them, or `Person/Person_0001` where it gives numbers; see `match`.
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


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a list, cut into fields."""

    path: Path
    number: int
    fields: tuple[str, ...]

    def error(self, text: str) -> DataError:
        return DataError(f"{self.path}, line {self.number}{text}")


def read(path: str | os.PathLike[str], split: str = "") -> Pairs:
    r"""Read a list of pairs; its content says which form it has.

    - LFW, XQLFW: the first line is `FOLDS PAIRS` or, for a single fold, `PAIRS`. Every fold is `PAIRS` genuine lines
      `Person i j` and `PAIRS` impostor lines `Person i Other j`; image i of a person is `Person/Person_000i`.
    - RFW: the same lines without the first one, in any order.
    - CALFW, CPLFW: two lines `name.jpg n` for each pair, with 0 for an impostor pair in both.
    - AgeDB-30, the official `pair.list`, your own: `first second same` or `first second same fold`, where `same` is 1
      or 0 and no name a bare number. Names may hold spaces where tabs or commas part the fields.
    - CFP: a folder with `Pair_list_F.txt`, `Pair_list_P.txt` and `Split`, or one that holds it as `Protocol`.

    Where a list names no folds, there are ten: tenths of the genuine and tenths of the impostor pairs, in their order.

    Args:
        path: text file, fields separated by tabs, commas or spaces; or the folder of CFP.
        split: `FF` (frontal with frontal) or `FP` (frontal with profile), where the folder of CFP has both.

    Returns:
        The pairs in the order of the list; those of CALFW and CPLFW, which list all genuine ones first, fold by fold.

    Raises:
        DataError: the file is missing or of no such form; the sentence names the line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pairs.txt").write_text("1 1\nAnn 1 2\nAnn 1 Bob 3\n")
        ...     pairs = read(Path(folder, "pairs.txt"))
        >>> pairs.second, pairs.same
        (('Ann/Ann_0002', 'Bob/Bob_0003'), array([ True, False]))
    """
    file = Path(path)
    if file.is_dir():
        return _cfp(file, split)
    rows = _rows(file)
    if not rows:
        raise DataError(f"{file} holds no pairs.")
    head = rows[0].fields
    numbers = tuple(field.isdecimal() for field in head)
    match len(head), numbers:
        case ((1 | 2), _) if all(numbers):
            return _lfw(rows)
        case 2, _:
            return _two_lines(rows)
        case 3, (_, True, True):
            return _people(rows)
        case 4, (_, True, _, True) if not (numbers[2] and head[2] in _SAME):
            return _people(rows)
        case ((3 | 4), _):
            return _general(rows)
    raise rows[0].error(" is of no known form; write `first second same`, with 1 or 0 for `same`.")


def _rows(path: Path) -> list[_Row]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)  # a device never ends
        if len(content) > _LARGEST:
            raise DataError(f"{path} is too large for a list of pairs (over {_LARGEST:,} bytes); check the path.")
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"cannot read the pairs of {path} ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"cannot read the pairs of {path}: byte {error.start} is no text in UTF-8; save it as such."
        ) from error
    return [_Row(path, number, _fields(line)) for number, line in enumerate(lines, 1) if line.strip()]


def _fields(line: str) -> tuple[str, ...]:
    if "\t" in line:
        return tuple(field.strip() for field in line.strip().split("\t"))
    if line.count(",") > 1:
        return tuple(field.strip() for field in line.split(","))
    return tuple(line.split())


def _lfw(rows: Sequence[_Row]) -> Pairs:
    head = rows[0].fields
    folds, size = (_integer(rows[0], field) for field in (head if len(head) == 2 else ("1", *head)))
    count = folds * size * 2
    if not count:
        raise rows[0].error(" must be 'FOLDS PAIRS' or 'PAIRS', as in LFW's pairs.txt.")
    if len(rows) - 1 != count:
        raise DataError(f"{rows[0].path} promises {count} pairs and lists {len(rows) - 1}; get the whole file.")
    found = [_person(row, place % (2 * size) < size) for place, row in enumerate(rows[1:])]
    return _of(found, np.arange(count) // (2 * size))


def _people(rows: Sequence[_Row]) -> Pairs:
    return _of([_person(row, len(row.fields) == 3) for row in rows])


def _person(row: _Row, genuine: bool) -> tuple[str, str, bool]:
    if len(row.fields) != (3 if genuine else 4):
        kind = "a genuine pair 'Person i j'" if genuine else "an impostor pair 'Person i Other j'"
        raise row.error(f" is not {kind}.")
    person, i, *_, j = row.fields
    other = person if genuine else row.fields[2]
    return _image(row, person, i), _image(row, other, j), genuine


def _image(row: _Row, person: str, image: str) -> str:
    if not image.isdecimal():
        raise row.error(f": {image!r} is not the number of an image.")
    return f"{person}/{person}_{_integer(row, image):04d}"


def _two_lines(rows: Sequence[_Row]) -> Pairs:
    if len(rows) % 2:
        raise rows[-1].error(" is the first of a pair; its second line is missing.")
    found = []
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        for row in (one, other):
            if len(row.fields) != 2 or not row.fields[1].isdecimal():
                raise row.error(" must be 'name n', with 0 for an impostor pair.")
        if one.fields[1] != other.fields[1]:
            raise other.error(f" belongs to {one.fields[0]}, but their numbers differ.")
        found.append((one.fields[0], other.fields[0], _integer(one, one.fields[1]) > 0))
    pairs = _of(found)
    order = np.lexsort((~pairs.same, pairs.fold))
    return _of([found[k] for k in order], pairs.fold[order])


def _general(rows: Sequence[_Row]) -> Pairs:
    width = len(rows[0].fields)
    for row in rows:
        if len(row.fields) != width or row.fields[2].lower() not in _SAME:
            fold = " fold" if width == 4 else ""
            raise row.error(f" must be 'first second same{fold}', with 1 or 0 for `same`.")
    found = [(row.fields[0], row.fields[1], _SAME[row.fields[2].lower()]) for row in rows]
    return _of(found, np.array([_integer(row, row.fields[3]) for row in rows]) if width == 4 else None)


def _cfp(folder: Path, split: str) -> Pairs:
    lists = "Pair_list_F.txt", "Pair_list_P.txt"
    places = folder, folder / "Protocol", folder.absolute().parent.parent
    protocol = next((place for place in places if (place / lists[0]).is_file()), None)
    if protocol is None:
        raise DataError(f"{folder} is no list of pairs, nor a folder with {lists[0]} as CFP has it; name one.")
    known = [name for name in ("FF", "FP") if (protocol / "Split" / name).is_dir()]
    if not split:
        split = folder.name if folder.name in known else known[0] if len(known) == 1 else ""
    if split not in known:
        if not known:
            raise DataError(f"{protocol} holds neither Split/FF nor Split/FP; get the whole folder.")
        raise DataError(f"{protocol} holds {' and '.join(known)}; name one, such as {protocol / 'Split' / known[0]}.")
    frontal = _numbered(protocol / lists[0])
    second = frontal if split == "FF" else _numbered(protocol / lists[1])
    found: list[tuple[str, str, bool]] = []
    fold: list[int] = []
    parts = {each: {part.name for part in (protocol / "Split" / each).iterdir() if part.is_dir()} for each in known}
    for number, part in enumerate(sorted(set().union(*parts.values()))):  # each split has the folds of the other
        for name, genuine in (("same.txt", True), ("diff.txt", False)):
            place = protocol / "Split" / split / part / name
            pairs = [(*_numbers(row, frontal, second), genuine) for row in _rows(place)]
            if not pairs:
                raise DataError(f"{place} holds no pairs; get the whole folder.")
            found += pairs
            fold += [number] * len(pairs)
    if not found:
        raise DataError(f"{protocol / 'Split' / split} holds no pairs; get the whole folder.")
    return _of(found, np.array(fold))


def _numbered(path: Path) -> dict[int, str]:
    """Names by their numbers in one of CFP's lists of images."""
    found = {}
    for row in _rows(path):
        if len(row.fields) != 2:
            raise row.error(" must be 'number path'.")
        found[_integer(row, row.fields[0])] = row.fields[1]
    return found


def _numbers(row: _Row, first: dict[int, str], second: dict[int, str]) -> tuple[str, str]:
    """The images that a line `i,j` of CFP names."""
    fields = ",".join(row.fields).split(",")
    if len(fields) != 2:
        raise row.error(" must be 'i,j'.")
    numbers = [_integer(row, field) for field in fields]
    for number, listed in zip(numbers, (first, second), strict=True):
        if number not in listed:
            raise row.error(f": there is no image {number} in CFP's list.")
    return first[numbers[0]], second[numbers[1]]


def _integer(row: _Row, field: str) -> int:
    if not field.isdecimal() or len(field) > 9:
        raise row.error(f": {field[:20]!r} is not a number that can stand there.")
    return int(field)


def _of(found: Sequence[tuple[str, str, bool]], fold: NDArray[np.int64] | None = None) -> Pairs:
    first, second, labels = zip(*found, strict=True)
    same = np.array(labels)
    if fold is None:
        rank = np.where(same, np.cumsum(same), np.cumsum(~same)) - 1
        fold = rank * _FOLDS // np.where(same, same.sum(), (~same).sum())
    return Pairs(first, second, same, fold)


def match(wanted: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    r"""The image of a set that each name of a list means.

    Both are read from the right: `Ann/Ann_0001` is `lfw/Ann/Ann_0001.jpg` and `../Data/Ann/Ann_0001.png`, and the other
    way round. Endings of image files and the writing of folders (`\`, `./`, `../`) make no difference, unless the
    ending alone tells two images apart. Where no name is found, folders that all names of a side share are left out.

    Args:
        wanted: N names of a list.
        names: M names of a set, unlike each other.

    Returns:
        `(N,)` int64, the place among `names`, -1 where there is none.

    Raises:
        DataError: a name could be several images, or one image is meant by several names.

    Example:
        >>> match(["Ann/Ann_0001", "Bob/Bob_0001"], ["lfw/Ann/Ann_0002.jpg", "lfw/Ann/Ann_0001.jpg"])
        array([ 1, -1])
    """
    asked, have = {name: _key(name) for name in wanted}, [_key(name) for name in names]
    places = _places(asked, have, names)
    if not places:
        asked = dict(zip(asked, _without_shared_folders(asked.values()), strict=True))
        places = _places(asked, _without_shared_folders(have), names)
    meant: dict[int, str] = {}
    for name, place in places.items():
        if asked[meant.setdefault(place, name)] != asked[name]:
            raise DataError(f"both {meant[place]} and {name} could be {names[place]}; write more of their folders.")
    return np.array([places.get(name, -1) for name in wanted], np.int64)


def people(pairs: Pairs) -> NDArray[np.int64] | None:
    """Who is in each pair, where the names of the images tell.

    A person is the folder that agrees with `same` for all pairs, the one closest to the root where several do; or else
    the name of the file without its number, as in `Ann_0001.jpg`.

    Returns:
        `(2, N)` int64, the same number for images of one person; None where no folder and no name agrees.

    Example:
        >>> pairs = Pairs(("a/x/1.jpg", "a/x/1.jpg"), ("a/x/2.jpg", "a/y/1.jpg"), np.array([True, False]), np.zeros(2))
        >>> people(pairs)
        array([[0, 0],
               [0, 1]])
    """
    names = [key.split("/") for key in _without_shared_folders(map(_key, pairs.first + pairs.second))]
    deepest = min(max(len(parts) for parts in names), _DEEPEST)
    ways = [["/".join(parts[:-1][:depth]) for parts in names] for depth in range(1, deepest)]
    stems = [_NUMBER.split(parts[-1]) for parts in names]
    if all(len(stem) > 1 for stem in stems):
        ways.append([stem[0] for stem in stems])
    for persons in ways:
        _, numbers = np.unique(persons, return_inverse=True)
        first, second = numbers.reshape(2, -1)
        if ((first == second) == pairs.same).all():
            return np.stack([first, second])
    return None


def _places(asked: dict[str, str], have: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """The place in `have`, the names' keys, of each name asked for that is there."""
    tails = {key.rpartition("/")[2] for key in asked.values()}
    depths = {key.count("/") + 1 for key in asked.values()}
    keys = set(asked.values())
    longer: dict[str, list[int]] = {key: [] for key in keys}  # names that end in a key
    shorter: dict[str, list[int]] = {}  # names that may be the end of a key
    for place, key in enumerate(have):
        parts = key.split("/")
        if parts[-1] not in tails:
            continue
        for depth in depths:
            if depth <= len(parts) and (end := "/".join(parts[-depth:])) in keys:
                longer[end].append(place)
        shorter.setdefault(key, []).append(place)
    ending = {key.count("/") + 1 for key in shorter}
    found = {}
    for name, key in asked.items():
        parts = key.split("/")
        ends = ("/".join(parts[-depth:]) for depth in ending if depth < len(parts))
        candidates = longer[key] + [place for end in ends for place in shorter.get(end, ())]
        if candidates:
            found[name] = _the_one(name, key, candidates, have, names)
    return found


def _the_one(name: str, key: str, candidates: list[int], have: Sequence[str], names: Sequence[str]) -> int:
    """Of several places the one that is equal: first in all folders, then in the ending of the file."""
    equal = [place for place in candidates if have[place] == key] or candidates
    left = [place for place in equal if _ending(names[place]) == _ending(name)] or equal
    if len(left) > 1:
        raise DataError(f"{name} could be {names[left[0]]} or {names[left[1]]}; write more of its folders.")
    return left[0]


def _ending(name: str) -> str:
    """`.jpg` and the like in lower case; a dot in a name such as `m.0abc_0001` starts none."""
    ending = f".{name.rpartition('.')[2]}".lower()
    return ending if ending in images.EXTENSIONS else ""


def _key(name: str) -> str:
    """Folders and name without ending, written one way."""
    stem = name[: len(name) - len(_ending(name))].replace("\\", "/")
    return "/".join(part for part in stem.split("/") if part not in ("", ".", ".."))


def _without_shared_folders(keys: Iterable[str]) -> list[str]:
    found = list(keys)
    ends = min(found, default="").split("/")[:-1], max(found, default="").split("/")[:-1]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False)))
    return ["/".join(key.split("/")[shared:]) for key in found]
