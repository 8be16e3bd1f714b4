"""MegaFace: FaceScrub probes find their mates among 10 to 1,000,000 distractors, with the cleaned lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from magface.benchmarks.faces import Aligner, Progress, embed
from magface.benchmarks.result import Result, rate_measure, tar_measure
from magface.data import features, image_folder
from magface.embedder import Embedder
from magface.errors import DataError
from magface.images import EXTENSIONS
from magface.metrics.distractors import FMRS, SIZES, challenge

PROBE_NOISES = "facescrub_noises.txt"
DISTRACTOR_NOISES = "megaface_noises.txt"


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    distractors: str | os.PathLike[str] | None = None,
    noises: str | os.PathLike[str] | None = None,
    sizes: tuple[int, ...] = SIZES,
    seed: int = 0,
    align: Aligner | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure identification and verification against distractors.

    Differs from the official code: an image of the lists is left out, where the scripts in public use put the mean of
    its person, or a vector far from all, in its place; and each size is one draw of distractors, not the mean of ten.

    Args:
        embedder: the model.
        data: folder of the probes, `PERSON/IMAGE` (or an uncompressed tar of it), or a feature file with such names
            (see `features.read`).
        distractors: folder of the distractors in sub-folders of any depth (or a tar), a feature file, or a `.npy` of
            `(N, D)` float32 or float16, which is mapped and never read as a whole.
        noises: folder with the lists `facescrub_noises.txt`, one file name a line, and `megaface_noises.txt`, one
            `FOLDER/FOLDER/IMAGE` a line, perhaps behind a number and a tab; lines that begin with `#` say nothing. One
            of them may be absent; None leaves nothing out.
        sizes: numbers of distractors.
        seed: of their draw.
        align: makes crops of the images; None where they are crops.
        cache: see `faces.embed`.
        progress: called as images are embedded.

    Returns:
        Rank-1 at each size, over all ordered pairs of a person's probes, and TAR at FMR 1e-4 to 1e-6 over all scores
        of a probe with a distractor.

    Raises:
        DataError: a file or list is missing or malformed, the features are of another model, or nobody has two probes.
    """
    if distractors is None:
        raise DataError("MegaFace needs distractors beside the probes; name their folder or feature file.")
    lists = _lists(None if noises is None else Path(noises))
    source = _Source(embedder, align, cache, progress)
    probes = source.read(Path(data), lists.probes)
    people = [str(PurePosixPath(name).parent) for name in probes.names]
    if "." in people:
        name = probes.names[people.index(".")]
        raise DataError(f"{data}: {name} does not say whose face it is; a probe needs the name PERSON/IMAGE.")
    crowd = _mapped(Path(distractors), lists) if _is_array(distractors) else source.read(Path(distractors), lists.crowd)
    found = challenge(probes.vectors, people, crowd.vectors, sizes=sizes, fmrs=FMRS, seed=seed)
    rates = [
        rate_measure(f"rank-1, {size:,} distractors", rate, "ordered pairs")
        for size, rate in zip(sizes, found.rank_one, strict=True)
    ]
    points = [tar_measure(point) for point in found.points]
    counts = {
        "probes": len(probes.vectors),
        "people": len(set(people)),
        "probes missing": len(probes.failures),
        "probes on the list": probes.listed,
        "distractors": len(crowd.vectors),
        "distractors missing": len(crowd.failures),
        "distractors on the list": crowd.listed,
    }
    protocol = (
        f"megaface: a mate must beat every distractor, each size one draw with seed {seed}; listed images left out"
    )
    failures = probes.failures | crowd.failures
    return Result("megaface", embedder.fingerprint, (*rates, *points), counts, failures, protocol)


@dataclass(frozen=True, slots=True)
class _List:
    """Images to leave out.

    Attributes:
        parts: of a name that tell an image from others: its folders, and the file without its ending.
        keys: these parts of the images.
    """

    parts: int
    keys: frozenset[tuple[str, ...]] = frozenset()

    def names(self, path: Path, names: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the images at `path` are on the list."""
        if not self.keys:
            return np.zeros(len(names), bool)
        keys = [_key(name, self.parts) for name in names]
        short = next((name for name, key in zip(names, keys, strict=True) if len(key) < self.parts), None)
        if short is not None:
            raise DataError(f"{path}: {short} cannot be on a list of FOLDER/FOLDER/IMAGE; name the folder above.")
        return np.array([key in self.keys for key in keys], bool)


@dataclass(frozen=True, slots=True)
class _Lists:
    probes: _List = _List(1)
    crowd: _List = _List(3)


def _lists(folder: Path | None) -> _Lists:
    if folder is None:
        return _Lists()
    if not any((folder / file).is_file() for file in (PROBE_NOISES, DISTRACTOR_NOISES)):
        raise DataError(f"there is no {PROBE_NOISES} or {DISTRACTOR_NOISES} in {folder}; check the path.")
    return _Lists(_read_list(folder / PROBE_NOISES, 1), _read_list(folder / DISTRACTOR_NOISES, 3))


def _read_list(path: Path, parts: int) -> _List:
    if not path.is_file():
        return _List(parts)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}.") from error
    keys = set()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        key = _key((line.strip().split("\t") * 2)[1], parts)
        if len(key) < parts:
            raise DataError(f"{path}, line {number} is not FOLDER/FOLDER/IMAGE; get the list of the distractors.")
        keys.add(key)
    return _List(parts, frozenset(keys))


def _key(name: str, parts: int) -> tuple[str, ...]:
    """The last parts of a name, the ending of the file aside."""
    path = PurePosixPath(name)
    stem = path.stem if path.suffix.lower() in EXTENSIONS else path.name
    return (*path.parts[:-1], stem)[-parts:]


@dataclass(frozen=True, eq=False)
class _Side:
    """Probes or distractors.

    Attributes:
        names: of the images; none where nobody knows them.
        vectors: `(N, D)` raw embeddings.
        failures: name to reason of the images without.
        listed: images that were left out because a list names them.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.floating]
    failures: dict[str, str]
    listed: int


@dataclass(frozen=True, eq=False)
class _Source:
    embedder: Embedder
    align: Aligner | None
    cache: Path | None
    progress: Progress | None

    def read(self, path: Path, unwanted: _List) -> _Side:
        """Embeddings of the images at `path`, or in the feature file there, but for the unwanted."""
        if path.suffix.lower() in features.FORMATS and not path.is_dir():
            return self._ready(path, unwanted)
        faces = image_folder.read(path)
        listed = unwanted.names(path, faces.names)
        kept, embeddings = embed(self.embedder, faces[~listed], self.cache, self.progress, align=self.align)
        return _Side(kept.names, embeddings.vectors, dict(kept.failures), int(listed.sum()))

    def _ready(self, path: Path, unwanted: _List) -> _Side:
        names, embeddings = features.read(path)
        if embeddings.model not in ("", self.embedder.fingerprint):
            raise DataError(f"{path} was made by another model; name that one, or embed the images again.")
        listed = unwanted.names(path, names)
        kept = embeddings[~listed] if listed.any() else embeddings
        return _Side(tuple(np.array(names)[~listed].tolist()), kept.vectors, {}, int(listed.sum()))


def _is_array(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".npy"


def _mapped(path: Path, lists: _Lists) -> _Side:
    if lists.crowd.keys:
        what = f"{path} has no names to look for in {DISTRACTOR_NOISES}; write it without them, and take the list away."
        raise DataError(what)
    try:
        vectors = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy fails on hostile bytes in many ways
        raise DataError(f"{path} is no array that can be mapped; write it with numpy.save.") from error
    return _Side((), vectors, {}, 0)
