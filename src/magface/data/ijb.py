"""IJB-B and IJB-C in insightface's form: loose crops, and a folder `meta` that says what they are.

```
IJBC/loose_crop/1.jpg ...
IJBC/meta/ijbc_face_tid_mid.txt            name, template, medium
IJBC/meta/ijbc_name_5pts_score.txt         name, five landmarks, score of the detector
IJBC/meta/ijbc_template_pair_label.txt     template, template, 1 for one person
IJBC/meta/ijbc_1N_gallery_G1.csv           template, person; and G2, in IJB-B S1 and S2
IJBC/meta/ijbc_1N_probe_mixed.csv          template, person
```
"""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from magface.data.face_set import FaceSet, Record, Stretch
from magface.errors import DataError
from magface.types import F32

Subset = Literal["IJBB", "IJBC"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)

_GALLERIES = {"IJBB": ("S1", "S2"), "IJBC": ("G1", "G2")}
_LINE = 4096
"""Bytes of a line at most."""
_MOST = 2**31 - 1
_GREATEST = float(np.finfo(np.float32).max)

I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The images of a subset, in the order of its lists.

    Attributes:
        subset: `IJBB` or `IJBC`.
        root: the folder that holds `loose_crop` and `meta`.
        names: N file names in `loose_crop`.
        template: `(N,)` int32, the template of each image.
        media: `(N,)` int32, the medium of each image: a still, or a video of which it is a frame.
        landmarks: `(N, 5, 2)` float32, `(x, y)` in pixels of the loose crop.
        score: `(N,)` float32, confidence of the detector, >= 0.
    """

    subset: Subset
    root: Path
    names: tuple[str, ...]
    template: I32
    media: I32
    landmarks: F32
    score: F32

    def __len__(self) -> int:
        return len(self.names)

    def faces(self) -> FaceSet:
        """The loose crops; the lists do not say who is on them."""
        folder = self.root / "loose_crop"
        return FaceSet.of([Record(name, "", Stretch(folder / name)) for name in self.names])


@dataclass(frozen=True, slots=True, eq=False)
class TemplatePairs:
    """Pairs of templates to compare.

    Attributes:
        first: `(P,)` int32, ids of templates.
        second: `(P,)` int32, likewise.
        same: `(P,)` bool, True for templates of one person.
    """

    first: I32
    second: I32
    same: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, eq=False)
class Enrolled:
    """Templates and whom they show.

    Attributes:
        template: `(K,)` int32, ids of templates, each once.
        subject: `(K,)` int32, the person of each.
    """

    template: I32
    subject: I32

    def __len__(self) -> int:
        return len(self.template)


@dataclass(frozen=True, slots=True, eq=False)
class Identification:
    """The 1:N protocol.

    Attributes:
        names: of the galleries, `G1` and `G2`.
        galleries: two disjoint sets of people, one template each.
        probes: templates of the people of both.
    """

    names: tuple[str, str]
    galleries: tuple[Enrolled, Enrolled]
    probes: Enrolled


def find(root: str | os.PathLike[str], subset: Subset | None = None) -> tuple[Subset, Path]:
    """Which subset is at `root`, or in a folder of its name there, and the folder that holds its `meta`.

    Raises:
        DataError: there is none, or both and `subset` is None.
    """
    places = [
        (each, folder)
        for each in SUBSETS
        for folder in (Path(root), Path(root, each))
        if subset in (None, each) and _meta(folder, each, "face_tid_mid.txt").is_file()
    ]
    if not places:
        wanted = " or ".join(f"meta/{each.lower()}_face_tid_mid.txt" for each in SUBSETS if subset in (None, each))
        raise DataError(f"{root} holds no {wanted}; name the folder IJBB or IJBC of insightface's form.")
    if len({each for each, _ in places}) > 1:
        raise DataError(f"{root} holds IJBB and IJBC; name one of the two.")
    return places[0]


def read(root: str | os.PathLike[str], subset: Subset | None = None) -> Listing:
    """Read which images there are, in which templates and media, and where their landmarks lie.

    Args:
        root: folder with `loose_crop` and `meta`, or one with such a folder `IJBB` or `IJBC`.
        subset: needed where `root` holds both.

    Raises:
        DataError: a list is missing or malformed, the sentence names the line; or the two lists do not name the same
            images in the same order.
    """
    subset, folder = find(root, subset)
    media = _columns(path := _meta(folder, subset, "face_tid_mid.txt"), {"name": _NAME, "tid": _ID, "mid": _ID})
    points = {f"{axis}{point}": _NUMBER for point in range(1, 6) for axis in "xy"}
    other = _meta(folder, subset, "name_5pts_score.txt")
    detected = _columns(other, {"name": _NAME, **points, "score": _SCORE})
    names = media["name"]
    for number, (here, there) in enumerate(zip(names, detected["name"], strict=False), 1):
        if here != there:
            raise DataError(f"{other}, line {number} is about {there}, but {path.name} names {here} there.")
    if len(names) != len(detected["name"]):
        raise DataError(f"{path} lists {len(names)} images and {other.name} {len(detected['name'])}; get both again.")
    landmarks = np.stack([detected[column] for column in points], axis=1).reshape(-1, 5, 2)
    return Listing(subset, folder, tuple(names), media["tid"], media["mid"], landmarks, detected["score"])


def read_pairs(listing: Listing) -> TemplatePairs:
    """Read the pairs of the 1:1 protocol.

    Raises:
        DataError: the list is missing or malformed, or names a template without an image; the sentence names the line.
    """
    path = _meta(listing.root, listing.subset, "template_pair_label.txt")
    found = _columns(path, {"tid_1": _ID, "tid_2": _ID, "label": _LABEL})
    templates = np.unique(listing.template)
    for column in ("tid_1", "tid_2"):
        known = np.isin(found[column], templates)
        if not known.all():
            row = int(np.argmin(known))
            raise _unknown(path, row + 1, int(found[column][row]))
    return TemplatePairs(found["tid_1"], found["tid_2"], found["label"].astype(bool))


def read_identification(listing: Listing) -> Identification:
    """Read the galleries and probes of the 1:N protocol.

    The tables have a heading with `TEMPLATE_ID` and `SUBJECT_ID`; other columns, and further lines of a template, as
    in NIST's own tables, are allowed.

    Raises:
        DataError: a table is missing or malformed, the sentence names the line; or a probe shows nobody of the
            galleries.
    """
    names = _GALLERIES[listing.subset]
    known = set(listing.template.tolist())
    one, two = (_enrolled(_meta(listing.root, listing.subset, f"1N_gallery_{name}.csv"), known) for name in names)
    path = _meta(listing.root, listing.subset, "1N_probe_mixed.csv")
    probes = _enrolled(path, known)
    if len(np.intersect1d(one.subject, two.subject)):
        raise DataError(f"the galleries {names[0]} and {names[1]} beside {path} share a person; get the tables again.")
    strangers = probes.template[~np.isin(probes.subject, np.concatenate([one.subject, two.subject]))]
    if len(strangers):
        raise DataError(f"{path}: template {strangers[0]} shows nobody of the galleries; get the tables again.")
    return Identification((names[0], names[1]), (one, two), probes)


def _meta(folder: Path, subset: Subset, name: str) -> Path:
    return folder / "meta" / f"{subset.lower()}_{name}"


def _enrolled(path: Path, known: set[int]) -> Enrolled:
    table = csv.reader(line for _, line in _lines(path))
    subjects: dict[int, int] = {}
    try:
        heading = [title.strip().upper() for title in next(table, [])]
        if not {"TEMPLATE_ID", "SUBJECT_ID"} <= set(heading):
            raise DataError(f"{path}, line 1 must be a heading with TEMPLATE_ID and SUBJECT_ID.")
        columns = heading.index("TEMPLATE_ID"), heading.index("SUBJECT_ID")
        for row in filter(None, table):
            try:
                template, subject = (_id(row[column].strip()) for column in columns)
            except (ValueError, IndexError):
                raise DataError(f"{path}, line {table.line_num} has no ids of a template and a person.") from None
            if subjects.setdefault(template, subject) != subject:
                raise DataError(f"{path}, line {table.line_num} gives template {template} to a second person.")
            if template not in known:
                raise _unknown(path, table.line_num, template)
    except csv.Error as error:
        raise DataError(f"{path}, line {table.line_num} is not a line of a table: {error}.") from error
    if not subjects:
        raise DataError(f"{path} lists no template; get the whole file.")
    return Enrolled(np.array(list(subjects), np.int32), np.array(list(subjects.values()), np.int32))


def _unknown(path: Path, line: int, template: int) -> DataError:
    return DataError(f"{path}, line {line} names template {template}, which has no image; get all lists again.")


class _Kind(NamedTuple):
    """What a column holds."""

    wanted: str
    code: str
    """Of `array`."""
    parse: Callable[[str], Any]
    """Raises a ValueError for what is not wanted."""
    fits: Callable[[Any], bool]
    """Whether a parsed column holds what `parse` would give."""


def _id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _MOST):
        raise ValueError
    return int(text)


def _label(text: str) -> int:
    return ("0", "1").index(text)


def _number(text: str) -> float:
    if not abs(value := float(text)) <= _GREATEST:
        raise ValueError
    return value


def _score(text: str) -> float:
    if (value := _number(text)) < 0:
        raise ValueError
    return value


_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*")
"""Names that need no second look, which takes ten times as long."""


def _name(text: str) -> str:
    path = PurePosixPath(text)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise ValueError
    return text


def _are_names(column: list[str]) -> bool:
    try:
        return all(_PLAIN.fullmatch(text) or _name(text) for text in column)
    except ValueError:
        return False


_NAME = _Kind("the name of a file", "", _name, _are_names)
_ID = _Kind("an id", "i", _id, lambda column: bool((column >= 0).all()))
_LABEL = _Kind("0 or 1", "b", _label, lambda column: bool(((column == 0) | (column == 1)).all()))
_NUMBER = _Kind("a number", "f", _number, lambda column: bool(np.isfinite(column).all()))
_SCORE = _Kind("a number >= 0", "f", _score, lambda column: bool((np.isfinite(column) & (column >= 0)).all()))


def _columns(path: Path, kinds: Mapping[str, _Kind]) -> dict[str, Any]:
    """Columns of a list whose fields are parted by spaces: names as a list, others as arrays.

    A list as it should be takes seconds for millions of lines; any other is read again line by line, which either
    makes sense of it or finds the line that does not.
    """
    found = _fast(path, kinds)
    if found is None or not all(kind.fits(found[title]) for title, kind in kinds.items()):
        found = _slow(path, kinds)
    if not len(next(iter(found.values()))):
        raise DataError(f"{path} is empty; get the whole file.")
    return found


def _fast(path: Path, kinds: Mapping[str, _Kind]) -> dict[str, Any] | None:
    import pyarrow as pa
    from pyarrow import csv as arrow

    types = {"": pa.string(), "i": pa.int32(), "b": pa.int8(), "f": pa.float32()}
    try:
        table = arrow.read_csv(
            path,
            arrow.ReadOptions(column_names=list(kinds)),
            arrow.ParseOptions(delimiter=" ", quote_char=False, double_quote=False, ignore_empty_lines=False),
            arrow.ConvertOptions(
                column_types={title: types[kind.code] for title, kind in kinds.items()}, null_values=[]
            ),
        )
    except (pa.ArrowException, OSError, ValueError):
        return None
    return {title: table[title].to_numpy() if kind.code else table[title].to_pylist() for title, kind in kinds.items()}


def _slow(path: Path, kinds: Mapping[str, _Kind]) -> dict[str, Any]:
    found: dict[str, Any] = {title: array(kind.code) if kind.code else [] for title, kind in kinds.items()}
    form = f"'{' '.join(kinds)}'"
    blank = 0
    for number, line in _lines(path):
        fields = line.split()
        if not fields:
            blank = blank or number
            continue
        if blank:
            raise DataError(f"{path}, line {blank} is empty; every line must be {form}.")
        if len(fields) != len(kinds):
            raise DataError(f"{path}, line {number} has {len(fields)} fields and must be {form}.")
        for field, (title, kind) in zip(fields, kinds.items(), strict=True):
            try:
                found[title].append(kind.parse(field))
            except ValueError:
                raise DataError(f"{path}, line {number}: {title} is {field[:40]!r}, not {kind.wanted}.") from None
    return {title: np.asarray(found[title]) if kind.code else found[title] for title, kind in kinds.items()}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, each of bounded length."""
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(_LINE):
                number += 1
                if len(line) == _LINE:
                    raise DataError(f"{path}, line {number} is too long for a list; get the file again.")
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number} is not text; get the file again.") from error
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); copy the whole folder meta there.") from error
