"""Scores and false matches by group of people: who is told more often that a picture is too bad?"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from magface import aligner
from magface.benchmarks.faces import Aligner, Crops, Progress, embed
from magface.benchmarks.result import Measure, Result, number
from magface.data import table as tables
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.groups import differences, match_rate
from magface.metrics.verification import bootstrap, wilson
from magface.quality import calibration
from magface.quality.calibration import WEAK
from magface.quality.measures import brightness, contrast, laplacian
from magface.quality.verdict import ACCEPT, RETAKE
from magface.threads import READERS, prefetch
from magface.types import F32, U8

F64 = NDArray[np.float64]
Index = NDArray[np.int64]
Labels = Mapping[str, str]

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "other")
AGES = (0, 3, 10, 20, 30, 40, 50, 60, 70)
"""Where bands of age begin, in years."""

FEWEST = 30
"""Faces of a group below which nothing is said of it."""

CONTROLS = ("sharpness", "brightness", "contrast", "black edge")
"""What is held equal for an adjusted difference, see `pictures`, besides the other labels."""

FMR = 1e-3
_MOST_VALUES = 40
_MOST_COMPARED = 4000
_UTKFACE = re.compile(r"(\d{1,3})_([01])_([0-4])_", re.ASCII)
_YEARS = re.compile(r"\d{1,3}", re.ASCII)
_PERCENTILES = (10, 50, 90)
_BELOW = {WEAK: "weak", RETAKE: "retake", ACCEPT: "not accepted"}
_MIDDLE = (slice(36, 104), slice(26, 86))
_BLACK = 16  # what a JPEG makes of black
_AHEAD = 128


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """The groups of one attribute, or of several crossed.

    Attributes:
        attributes: what tells the groups apart.
        names: of G groups, as in `gender female, race Black`; only those of `FEWEST` faces and more.
        group: `(N,)` int, the group of each face; -1 for faces of smaller ones.
        small: smaller groups.
    """

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    group: Index
    small: int = 0


def evaluate(
    embedder: Embedder,
    data: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    cache: Path | None = None,
    align: Aligner | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure how scores, and false matches, differ between groups of people.

    Args:
        embedder: the model.
        data: folder or uncompressed tar of 112x112 crops, named `AGE_GENDER_RACE_DATE.jpg` as those of UTKFace if there
            is no table.
        table: tab-separated file with a heading: `path`, and a column for each attribute, with few values each; `age`
            may hold years. An image that it lacks is left out.
        cache: see `faces.embed`.
        align: makes crops of the images; None where they are crops.
        progress: called as images are embedded.

    Returns:
        For every group, of one attribute or of all but the age crossed: mean and percentiles of the score, shares
        below its limits, difference to the mean of all, as it is and with `CONTROLS` and the other labels held equal,
        and the false match rate at the threshold of the card. For every attribute, the two groups farthest apart.

    Raises:
        DataError: there is no readable crop, no label, a column has too many values, or no group is large enough.
    """
    faces, known = labelled(aligner.find(data), table)
    faces, embeddings = embed(embedder, faces, cache, progress, align=align)
    labels = {
        attribute: np.array([known[name][attribute] for name in faces.names]) for attribute in known[faces.names[0]]
    }
    parts = partitions(labels)
    about = _Faces(
        calibration.score(embeddings.magnitude, embedder.card),
        embeddings.direction,
        pictures(faces, align),
        labels,
        embedder.card.threshold(FMR).cosine,
    )
    measures = [*about.spread("all", slice(None)), *(measure for part in parts for measure in about.compared(part))]
    counts = {
        "images": len(faces),
        "images missing": len(faces.failures),
        "groups": sum(len(part.names) for part in parts),
        f"groups of fewer than {FEWEST} faces, left out": sum(part.small for part in parts),
    }
    protocol = (
        "labels are of how people look, often a model's guess; adjusted: at equal "
        f"{', '.join(CONTROLS)} and other labels, by least squares; FMR at cosine >= {about.threshold:.4f} "
        "(FMR 0.001 of the card) of all pairs of images, taken as of different people, which is not sure where "
        "nobody knows who they are; intervals over images"
    )
    return Result("groups", embedder.fingerprint, tuple(measures), counts, dict(faces.failures), protocol)


def labelled(faces: FaceSet, table: str | os.PathLike[str] | None = None) -> tuple[FaceSet, dict[str, Labels]]:
    """Images that have labels, and the labels by name; the other images are among the failures.

    Raises:
        DataError: none has any, or the table cannot be read.
    """
    if table is None:
        known = {name: found for name in faces.names if (found := _of_name(name))}
        reason = "{} is not named AGE_GENDER_RACE_DATE; rename it, or give a table of labels."
    else:
        known = _of_table(table)
        reason = "{} has no labels in the table, or not all; add them."
    return faces.without(["" if name in known else reason.format(name) for name in faces.names]), known


def partitions(labels: Mapping[str, NDArray[np.str_]]) -> tuple[Partition, ...]:
    """Groups by each attribute, then by all but the age crossed where these are several.

    Args:
        labels: `(N,)` values of each attribute.

    Raises:
        DataError: no group has `FEWEST` faces.

    Example:
        >>> labels = {"gender": np.repeat(["male", "female"], 40), "age": np.tile(["0 to 2", "70 and more"], 40)}
        >>> [part.names for part in partitions(labels)]
        [('gender female', 'gender male'), ('age 0 to 2', 'age 70 and more')]
    """
    crossed = tuple(attribute for attribute in labels if attribute != "age")
    wanted = [(attribute,) for attribute in labels] + [crossed] * (len(crossed) > 1)
    parts = tuple(_partition(attributes, labels) for attributes in wanted)
    if not any(part.names for part in parts):
        raise DataError(f"no group has {FEWEST} faces; take more images, or columns with fewer values.")
    return parts


def pictures(faces: FaceSet, align: Aligner | None = None) -> F64:
    """What the pictures are like, whoever is on them.

    Returns:
        `(N, 4)`, as `CONTROLS`: logarithm of the Laplacian sharpness, mean luma and its standard deviation, all in the
        middle of the face, and the share of the crop that is black from its edge on, as beyond the edge of a photo.
    """
    made = align or Crops()
    read = prefetch(
        lambda row: _picture(made(faces.names[row], faces.image(row))), range(len(faces)), workers=READERS, limit=_AHEAD
    )
    return np.array(list(read))


def _picture(crop: U8) -> list[float]:
    middle = np.ascontiguousarray(crop[_MIDDLE])
    black = (crop.max(axis=2) < _BLACK).astype(np.uint8)
    _, parts = cv2.connectedComponents(black, connectivity=4)
    outer = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    edge = np.isin(parts, outer[outer > 0]).mean()
    return [float(np.log1p(laplacian(middle))), brightness(middle), contrast(middle), float(edge)]


@dataclass(frozen=True, slots=True, eq=False)
class _Faces:
    """What is known of N faces."""

    score: F64
    direction: F32
    picture: F64
    labels: Mapping[str, NDArray[np.str_]]
    threshold: float

    def spread(self, name: str, rows: NDArray[np.bool_] | slice) -> list[Measure]:
        """How the scores of a group lie."""
        score = self.score[rows]
        count = len(score)
        mean = Measure(
            f"{name}: mean score",
            float(score.mean()),
            bootstrap(lambda drawn: float(score[drawn].mean()), count),
            f"{count:,} faces",
        )
        levels = zip(_PERCENTILES, np.percentile(score, _PERCENTILES).tolist(), strict=True)
        found = [mean, *(Measure(f"{name}: score, percentile {level}", value) for level, value in levels)]
        for limit, meaning in _BELOW.items():
            below = int((score < limit).sum())
            share, interval = below / count, wilson(below, count)
            found.append(Measure(f"{name}: below {limit:g} ({meaning})", share, interval, f"{below:,} of {count:,}"))
        return found

    def compared(self, part: Partition) -> list[Measure]:
        """Everything about the groups of a partition."""
        kept = part.group >= 0
        if not part.names:
            return []
        raw = differences(self.score[kept], part.group[kept])
        adjusted = differences(self.score[kept], part.group[kept], self._controls(part)[kept])
        found: list[Measure] = []
        for place, name in enumerate(part.names):
            rows = part.group == place
            found += self.spread(name, rows)
            for what, each in (("difference", raw), ("difference, adjusted", adjusted)):
                low, high = each.interval[place].tolist()
                found.append(Measure(f"{name}: {what}", float(each.value[place]), (low, high)))
            found.append(self._matched(name, np.flatnonzero(rows)))
        title = " and ".join(part.attributes)
        for what, each in (("largest gap", raw), ("largest gap, adjusted", adjusted)):
            best, worst = (part.names[end] for end in each.ends)
            found.append(Measure(f"{title}: {what}", each.gap, each.gap_interval, f"{best} less {worst}"))
        found.append(self._matched(f"{title}: of two groups", np.flatnonzero(kept), part.group))
        return found

    def _controls(self, part: Partition) -> F64:
        """The pictures, also squared, as too much light is as bad as too little, and the labels that do not divide."""
        scaled = (self.picture - self.picture.mean(axis=0)) / np.maximum(self.picture.std(axis=0), 1e-9)
        others = [values for name, values in self.labels.items() if name not in part.attributes]
        held = [(values[:, None] == np.unique(values)[1:]).astype(np.float64) for values in others]
        return np.hstack([scaled, scaled**2, *held])

    def _matched(self, name: str, rows: Index, apart: Index | None = None) -> Measure:
        """False match rate within a group, or across groups."""
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_COMPARED)).astype(int)]
        found = match_rate(self.direction[some], self.threshold, None if apart is None else apart[some])
        name = f"{name}, FMR" if apart is not None else f"{name}: FMR"
        return replace(
            number(name, found.rate), interval=found.interval, note=f"{found.accepted:,} of {found.comparisons:,}"
        )


def _partition(attributes: tuple[str, ...], labels: Mapping[str, NDArray[np.str_]]) -> Partition:
    columns = [[f"{attribute} {value}" for value in labels[attribute]] for attribute in attributes]
    names = np.array([", ".join(values) for values in zip(*columns, strict=True)])
    found, index, counts = np.unique(names, return_inverse=True, return_counts=True)
    order = sorted(np.flatnonzero(counts >= FEWEST), key=lambda k: _place(str(found[k])))
    group = np.full(len(found), -1)
    group[order] = np.arange(len(order))
    kept = tuple(str(found[k]) for k in order)
    return Partition(attributes, kept, group[index], len(found) - len(kept))


def _place(name: str) -> tuple[float, str]:
    """Ages in their order, and everything else by name."""
    age = re.match(r"age (\d+)", name)
    return (float(age[1]) if age else 0.0, name)


def _of_name(name: str) -> Labels:
    """Labels in the name of a file of UTKFace; empty where there are none."""
    found = _UTKFACE.match(PurePosixPath(name).name)
    if found is None:
        return {}
    age, gender, race = map(int, found.groups())
    return {"gender": GENDERS[gender], "age": _band(age), "race": RACES[race]}


def _of_table(path: str | os.PathLike[str]) -> dict[str, Labels]:
    """Labels of each path that has all of them."""
    rows = tables.read(path, titles=None)
    attributes = [
        title for title in dict.fromkeys(title for row in rows.values() for title in row) if title not in tables.TITLES
    ]
    if not attributes:
        raise DataError(f"{path} needs a column for each attribute, besides `path`.")
    known: dict[str, Labels] = {name: {each: row.get(each, "") for each in attributes} for name, row in rows.items()}
    known = {name: row for name, row in known.items() if all(row.values())}
    if "age" in attributes and all(_YEARS.fullmatch(row["age"]) for row in known.values()):
        known = {name: {**row, "age": _band(int(row["age"]))} for name, row in known.items()}
    for attribute in attributes:
        values = len({row[attribute] for row in known.values()})
        if values > _MOST_VALUES:
            raise DataError(
                f"column {attribute} of {path} has {values:,} different values; a group needs a value that many share: "
                "delete the column, or put its values into bands."
            )
    return known


def _band(age: int) -> str:
    """Band of an age in years.

    Example:
        >>> _band(0), _band(29), _band(116)
        ('0 to 2', '20 to 29', '70 and more')
    """
    start = bisect_right(AGES, age)
    return f"{AGES[start - 1]} to {AGES[start] - 1}" if start < len(AGES) else f"{AGES[-1]} and more"
