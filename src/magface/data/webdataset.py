"""WebDataset shards: uncompressed tar archives in which the files of an image lie beside each other under one key.

```
faces-000000.tar: 000000000.jpg  000000000.cls  000000000.json  000000001.jpg ...
faces-000001.tar: ...
```

`.cls` is the number of the person, or a name, and `.json` may hold `identity`, `name`, `source` and `suspect`.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from magface import images, io
from magface.data import tar, writing
from magface.data.face_set import FaceSet, Record, Stretch
from magface.errors import DataError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1 << 20
_LONGEST = 1 << 16
"""Bytes of a `.json` or `.cls` at most."""


def read(path: str | os.PathLike[str]) -> FaceSet:
    """Find the images of shards; none is opened.

    People are the `identity` of the `.json`, or else what `.cls` says. Images are called as their `.json` says, where
    that tells all of them apart, or else `shard/key.jpg`. One whose `.json` or `.cls` makes no sense is one of
    `failures`.

    Args:
        path: a shard, a folder of them, or a pattern such as `faces-{000000..000010}.tar`.

    Raises:
        DataError: there is no shard, one is missing, damaged or cut off, none holds an image, or two images have one
            name.
    """
    records: list[Record] = []
    keys: list[str] = []
    failures: writing.Failures = []
    for shard in shards(path):
        try:
            with shard.open("rb") as file:
                for sample in _samples(shard):
                    _add(sample, file, records, keys, failures)
        except OSError as error:
            raise DataError(f"cannot read {shard} ({error.strerror}); check the path.") from error
    if not records:
        reason = f": {failures[0][1]}" if failures else "; name shards, or make some with `magface data convert`."
        raise DataError(f"{path} holds no image{reason}")
    if len({record.name for record in records}) < len(records):  # those of people, perhaps
        records = [replace(record, name=key) for record, key in zip(records, keys, strict=True)]
    return FaceSet.of(records, failures)


def write(
    path: str | os.PathLike[str],
    faces: FaceSet,
    progress: Callable[[int], object] | None = None,
    *,
    per_shard: int = 10_000,
) -> tuple[tuple[str, str], ...]:
    """Write shards, images bit for bit and in their order; the same set gives the same bytes.

    A shard is whole or not there. In a folder, a writer that was stopped goes on with the next shard.

    Args:
        path: a folder, missing, empty or left by a stopped writer of the same set, for shards `FOLDER-000000.tar`; or
            one `.tar`; or a pattern such as `faces-{000000..000010}.tar`, whose shards share the images evenly.
        faces: the set.
        progress: called as images are written.
        per_shard: images of a shard in a folder.

    Returns:
        Name and reason of every image that cannot be read and was left out.

    Raises:
        DataError: there is something at `path` already, no image can be read, or the pattern has more shards than there
            are images.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> from magface.data.face_set import Held
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write(Path(folder, "a.tar"), FaceSet.of([Record("Ann/1.gif", "Ann", Held(b"GIF89a"))]))
        ...     [member.name for member in tar.members(Path(folder, "a.tar"))], read(Path(folder, "a.tar")).names
        (['000000000.gif', '000000000.cls', '000000000.json'], ('Ann/1.gif',))
    """
    path = Path(path)
    failures: writing.Failures = []
    if path.suffix.lower() == ".tar":
        targets = _expanded(path)
        if len(targets) > len(faces):
            raise DataError(f"{path} names {len(targets):,} shards for {len(faces):,} images; name fewer.")
        for target in targets:
            if os.path.lexists(target):
                raise DataError(f"{target} exists; delete it, or choose another place.")
        _write(targets, faces, failures, progress)
        return tuple(failures)
    with writing.unfinished(path, f"webdataset {per_shard}", faces) as folder:
        count = -(-len(faces) // per_shard)
        _write([folder / f"{path.name}-{number:06d}.tar" for number in range(count)], faces, failures, progress)
    return tuple(failures)


def is_shard(path: str | os.PathLike[str]) -> bool:
    """Whether an image and its `.cls` or `.json` lie beside each other at the start of an archive.

    Raises:
        DataError: the file is no uncompressed tar archive, or is damaged before the first image.
    """
    sample = next(_samples(Path(path)), None)
    return sample is not None and bool({"cls", "json"} & sample.others.keys())


def shards(path: str | os.PathLike[str]) -> list[Path]:
    """The archives that a path means: a file, those of a folder, or those of a pattern.

    Raises:
        DataError: there is none, or one of a pattern is missing.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(file for file in path.glob("*.tar") if not file.name.startswith("."))
        if not found:
            raise DataError(f"{path} holds no shard (.tar); name a folder of shards.")
        return found
    found = _expanded(path)
    missing = next((file for file in found if not file.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} does not exist; name a shard, a folder of shards, or a pattern of those there are.")
    return found


def _expanded(path: Path) -> list[Path]:
    part = _RANGE.search(path.name)
    if part is None or path.exists():
        return [path]
    first, last = int(part[1]), int(part[2])
    if not 0 <= last - first < _MOST_SHARDS:
        raise DataError(f"{path.name} names no range of shards; write it as name-{{000000..000010}}.tar.")
    names = (f"{number:0{len(part[1])}d}" for number in range(first, last + 1))
    return [path.with_name(path.name[: part.start()] + name + path.name[part.end() :]) for name in names]


class _Sample(NamedTuple):
    """The files of one key."""

    shard: Path
    key: str
    image: tar.Member
    others: dict[str, tar.Member]
    """By their endings."""


def _samples(shard: Path) -> Iterator[_Sample]:
    visible = (member for member in tar.members(shard) if not member.name.rpartition("/")[2].startswith("."))
    for key, group in groupby(visible, lambda member: _split(member.name)[0]):
        image, others = None, {}
        for member in group:
            suffix = _split(member.name)[1]
            if suffix in ("cls", "json"):
                others[suffix] = member
            elif image is None and f".{suffix}" in images.EXTENSIONS:
                image = member
        if image is not None:
            yield _Sample(shard, key, image, others)


def _split(name: str) -> tuple[str, str]:
    """Key and ending: the name of a file ends at its first dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _add(sample: _Sample, file: BinaryIO, records: list[Record], keys: list[str], failures: writing.Failures) -> None:
    name = f"{sample.shard.stem}/{sample.key.removeprefix('./')}.{_split(sample.image.name)[1]}"
    try:
        facts = _facts(sample, file)
        person = facts["identity"] if "identity" in facts else _content(sample, "cls", file).strip()
    except ValueError as error:
        failures.append((name, f"{sample.shard}, {sample.key} {error}; it is left out."))
        return
    place = Stretch(sample.shard, sample.image.offset, sample.image.size)
    keys.append(name)
    records.append(Record(facts.get("name") or name, person, place, facts.get("source", ""), facts["suspect"]))


def _facts(sample: _Sample, file: BinaryIO) -> dict[str, Any]:
    """What the `.json` says, as far as it concerns a set of faces.

    Raises:
        ValueError: it makes no sense.
    """
    try:
        found = json.loads(_content(sample, "json", file) or "{}")
    except (ValueError, RecursionError):
        raise ValueError("has a .json that is damaged") from None
    if not isinstance(found, dict):
        raise ValueError("has a .json that is no object")
    found = {title: value for title, value in found.items() if value is not None}
    facts = {"suspect": found.get("suspect", False)}
    if facts["suspect"] not in (False, True):
        raise ValueError("has a .json in which `suspect` is neither true nor false")
    facts["suspect"] = bool(facts["suspect"])
    for title in ("identity", "name", "source"):
        if title in found:
            if type(found[title]) not in (str, int):
                raise ValueError(f"has a .json in which `{title}` is no text")
            facts[title] = str(found[title])
    return facts


def _content(sample: _Sample, suffix: str, file: BinaryIO) -> str:
    """Text of a file; nothing where it is missing."""
    if suffix not in sample.others:
        return ""
    member = sample.others[suffix]
    if member.size > _LONGEST:
        raise ValueError(f"has a .{suffix} of {member.size:,} bytes")
    file.seek(member.offset)
    try:
        return file.read(member.size).decode()
    except UnicodeDecodeError:
        raise ValueError(f"has a .{suffix} that is no text") from None


def _write(
    targets: Sequence[Path], faces: FaceSet, failures: writing.Failures, progress: writing.Progress | None
) -> None:
    for target, rows in zip(targets, np.array_split(np.arange(len(faces)), len(targets)), strict=True):
        if target.is_file() and _images(target) == len(rows):
            if progress is not None:
                progress(len(rows))
            continue
        with io.atomic_path(target) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for row, content in writing.encoded(faces, failures, progress, rows.tolist()):
                for suffix, part in _parts(faces, row, content) if content is not None else ():
                    member = tarfile.TarInfo(f"{row:09d}{suffix}")
                    member.size = len(part)
                    archive.addfile(member, BytesIO(part))
                archive.getmembers().clear()  # a kilobyte each
            if target == targets[-1]:
                writing.some(faces, failures)


def _images(shard: Path) -> int:
    try:
        return sum(1 for _ in _samples(shard))
    except DataError:
        return -1


def _parts(faces: FaceSet, row: int, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Endings and contents of the files of an image."""
    label = int(faces.labels[row])
    facts = {
        "identity": faces.people[label],
        "name": faces.names[row],
        "source": str(faces.sources[row]),
        "suspect": bool(faces.suspect[row]),
    }
    yield writing.ending(content), content
    yield ".cls", str(label).encode()
    yield ".json", json.dumps(facts).encode()
