"""Where the ranges of `magface quality`, its thresholds and its hints of covered faces come from.

    python benchmarks/components.py DATA [--faces 268] [-o docs/results/components.txt]

DATA is a folder with train.tar, train.tsv and photos_raw.tar, from which everything is learned, and rof_dev.tar, on
which the hints are checked once. The last part needs scikit-learn, which fits the weights that the package holds.
"""

from __future__ import annotations

import argparse
import csv
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from magface import geometry, images
from magface.detect import YuNet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.io import write_atomic
from magface.quality import calibration, components
from magface.quality.components import RANGES
from magface.recognizer import Recognizer
from magface.types import F32, U8

FMR = 1e-3
PAD = 24
BANDS = (0, 20, 30, 40, 50, 60, 70, 80, 90, 100)
TURNS = (0, 15, 30, 45, 60, 90)
MOST = 30  # pictures of one person that are compared
NEGATIVES = 1000  # good faces beside those of ROF

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Faces:
    """Crops of a set, and what is known of them."""

    names: NDArray[np.str_]
    people: NDArray[np.str_]
    good: NDArray[np.bool_]
    crops: U8
    vectors: F32

    def embeddings_of(self, person: NDArray[np.intp]) -> F32:
        """Directions of some of them."""
        return geometry.direction(self.vectors[person])


def load(archive: Path, embedder: Embedder, table: Path | None = None) -> Faces:
    """Crops `PERSON/NAME.jpg` of an archive, embedded; good are those of photos of their own, in the table."""
    rows = {} if table is None else {row["path"]: row for row in csv.DictReader(table.open(), delimiter="\t")}
    with tarfile.open(archive) as tar:
        files = [member for member in tar.getmembers() if member.isfile()]
        crops = np.stack([images.decode(tar.extractfile(file).read(), name=file.name) for file in files])
    names = [file.name for file in files]
    good = [name in rows and rows[name]["source"] == "celeba299" and rows[name]["suspect"] == "0" for name in names]
    people = [name.split("/")[0] for name in names]
    return Faces(np.array(names), np.array(people), np.array(good), crops, embedder.embed(crops).vectors)


def by_person(faces: Faces, some: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Rows of each person."""
    found = defaultdict(list)
    for row in np.flatnonzero(some):
        found[str(faces.people[row])].append(int(row))
    return found


def verdicts(faces: Faces, embedder: Embedder) -> Iterator[str]:
    """FNMR of genuine pairs by the lower score of the two."""
    score = calibration.score(geometry.magnitude(faces.vectors), embedder.card)
    threshold = embedder.card.threshold(FMR).cosine
    rng = np.random.default_rng(0)
    scores, missed = [], []
    for rows in by_person(faces, np.ones(len(faces.names), bool)).values():
        some = np.array(rows) if len(rows) <= MOST else rng.choice(rows, MOST, replace=False)
        directions = faces.embeddings_of(some)
        a, b = np.triu_indices(len(some), 1)
        scores.append(np.minimum(score[some[a]], score[some[b]]))
        missed.append((directions @ directions.T)[a, b] < threshold)
    lower, wrong = np.concatenate(scores), np.concatenate(missed)
    yield f"FNMR at FMR {FMR:g} by the lower score of the pair, {len(lower):,} genuine pairs of train.tar"
    for low, high in pairwise(BANDS):
        inside = (lower >= low) & (lower < high)
        yield f"  {low:3}-{high:<3} {wrong[inside].mean():6.3f}  of {inside.sum():,}"


def natural(faces: Faces, embedder: Embedder) -> Iterator[str]:
    """Share of good faces out of each range, and how often pictures in it and out of it are missed."""
    missed = share_missed(faces, embedder)
    score = calibration.score(geometry.magnitude(faces.vectors), embedder.card)
    detector = YuNet(score=0.1)
    rows = [values(crop, detector) for crop in faces.crops]
    yield f"Measures of {faces.good.sum():,} good faces, and of all {len(faces.names):,}: how often they are missed"
    yield "  percentiles 2, 50, 98 of good faces; out of range, of good and of all; FNMR in and out; score in and out"
    for name in ("sharpness", "brightness", "clipped", "contrast", "yaw", "pitch"):
        fine = RANGES[name]
        value = np.array([row.get(name, np.nan) for row in rows])
        known, out = np.isfinite(value), (value < fine.low) | (value > fine.high)
        for side, beyond in (("below", value < fine.low), ("above", value > fine.high)):
            if not np.isfinite(fine.low if side == "below" else fine.high):
                continue
            levels = np.nanpercentile(value[faces.good], (2, 50, 98))
            yield (
                f"  {name:10} {side}  {levels[0]:7.1f} {levels[1]:7.1f} {levels[2]:7.1f}"
                f"   {(beyond & faces.good).sum() / faces.good.sum():6.1%} {beyond.sum() / known.sum():6.1%}"
                f"   {np.nanmean(missed[known & ~out]):.3f} {np.nanmean(missed[beyond]):.3f}"
                f"   {np.median(score[known & ~out]):3.0f} {np.median(score[beyond]):3.0f}"
            )


def share_missed(faces: Faces, embedder: Embedder) -> Array:
    """Of each face, the share of good pictures of its person that it does not match; NaN where there is none."""
    threshold = embedder.card.threshold(FMR).cosine
    score = calibration.score(geometry.magnitude(faces.vectors), embedder.card)
    good = faces.good | (np.char.find(faces.names, "rof_") >= 0) & (score > 70)
    missed = np.full(len(faces.names), np.nan)
    for rows in by_person(faces, np.ones(len(good), bool)).values():
        cosine = faces.embeddings_of(np.array(rows)) @ faces.embeddings_of(np.array(rows)).T
        for number, row in enumerate(rows):
            others = [other for other, mate in enumerate(rows) if good[mate] and other != number]
            if others:
                missed[row] = (cosine[number, others] < threshold).mean()
    return missed


def values(crop: U8, detector: YuNet) -> dict[str, float]:
    """Measures of a crop, with the pose of the face that is found in it."""
    padded = np.asarray(cv2.copyMakeBorder(crop, PAD, PAD, PAD, PAD, cv2.BORDER_CONSTANT), np.uint8)
    [found] = detector.detect([padded])
    try:
        measured = components.measure(crop, found[0].landmarks if found else None)
    except DataError:
        measured = components.measure(crop)
    return {each.name: each.value for each in measured}


def sweeps(faces: Faces, embedder: Embedder, count: int) -> Iterator[str]:
    """FNMR and score of good faces that are made ever worse, against another good picture of the person."""
    rng = np.random.default_rng(0)
    mates = [rng.choice(rows, 2, replace=False) for rows in by_person(faces, faces.good).values() if len(rows) > 1]
    pairs = np.array(mates)[rng.permutation(len(mates))[:count]]
    others, threshold = faces.vectors[pairs[:, 1]], embedder.card.threshold(FMR).cosine
    yield f"Good faces of {len(pairs)} people made worse: the level, its measure, FNMR, median score"
    for name, (spoil, levels) in SPOILED.items():
        for level in levels:
            crops = [spoil(faces.crops[row], level) for row in pairs[:, 0]]
            vectors = embedder.embed(np.stack(crops)).vectors
            shown = name if name in RANGES else "sharpness"
            measured = level if shown == "size" else np.median([measure(crop, shown) for crop in crops])
            score = np.median(calibration.score(geometry.magnitude(vectors), embedder.card))
            fnmr = (geometry.cosine(vectors, others) < threshold).mean()
            yield f"  {name:10} {level:5g}  {shown} {measured:5.1f}  {fnmr:.3f}  {score:3.0f}"


def measure(crop: U8, name: str) -> float:
    """One measure of a crop."""
    return next(each.value for each in components.measure(crop) if each.name == name)


def lit(crop: U8, level: float) -> U8:
    """More or less light, until the middle of the face is that bright."""
    low, high = 0.0, 40.0
    for _ in range(30):
        gain = (low + high) / 2
        bright = np.clip(np.rint(crop * gain), 0, 255).astype(np.uint8)
        low, high = (gain, high) if measure(bright, "brightness") < level else (low, gain)
    return bright


def flattened(crop: U8, level: float) -> U8:
    """Less contrast, about the mean."""
    middle = crop[28:104, 22:90].mean()
    share = min(1.0, level / measure(crop, "contrast"))
    return np.clip(np.rint(middle + (crop - middle) * share), 0, 255).astype(np.uint8)


def reduced(crop: U8, level: float) -> U8:
    """Fewer pixels between the eyes, enlarged again."""
    side = round(112 * level / 35.24)
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC), np.uint8)


def blurred(crop: U8, level: float) -> U8:
    """Out of focus, by a standard deviation in pixels of the crop."""
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), level), np.uint8) if level else crop


SPOILED: dict[str, tuple[Callable[[U8, float], U8], tuple[float, ...]]] = {
    "blur": (blurred, (0, 0.5, 0.8, 1, 1.3, 1.6, 2, 2.5, 3, 4)),
    "brightness": (lit, (20, 30, 40, 50, 60, 80, 100, 140, 160, 180, 200, 215, 230)),
    "contrast": (flattened, (4, 6, 8, 10, 13, 16, 20, 25, 30)),
    "size": (reduced, (30, 25, 22, 20, 18, 16, 14, 12, 10, 8)),
}


def turned(archive: Path, recognizer: Recognizer, count: int = 25) -> Iterator[str]:
    """What photos lose that are turned in the picture: the detector finds the landmarks less well."""
    found = []
    with tarfile.open(archive) as tar:
        for member in (member for member in tar if member.isfile()):
            image = images.decode(tar.extractfile(member).read(), name=member.name)
            face = max(recognizer.faces(image), key=lambda face: face.score, default=None)
            if face is not None and face.score > 60:
                found.append((image, face))
            if len(found) == count:
                break
    yield f"Faces of {len(found)} photos turned in the picture: degrees, share found, median change of the score"
    for degrees in TURNS:
        changes = []
        for image, face in found:
            side, middle = 3 * face.face.size, face.face.landmarks.mean(axis=0)
            matrix = cv2.getRotationMatrix2D(tuple(map(float, middle)), -degrees, 1.0)
            matrix[:, 2] += side / 2 - middle
            square = np.asarray(cv2.warpAffine(image, matrix, (int(side), int(side))), np.uint8)
            near = [
                other.score - face.score
                for other in recognizer.faces(square)
                if np.linalg.norm(other.face.landmarks.mean(axis=0) - side / 2) < face.face.size / 3
            ]
            changes += near[:1]
        yield f"  {degrees:3}  {len(changes) / len(found):.2f}  {np.median(changes):6.1f}"


def covered(train: Faces, dev: Faces, embedder: Embedder) -> Iterator[str]:
    """Weights of the hints from real sunglasses and masks, cross-validated over people, and a check on other people."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    rng = np.random.default_rng(0)
    rof = np.flatnonzero(np.char.find(train.names, "rof_") >= 0)
    rows = np.concatenate([rof, rng.choice(np.flatnonzero(train.good), NEGATIVES, replace=False)])
    known, checked = features(train, rows, embedder), features(dev, np.arange(len(dev.names)), embedder)
    for number, (name, word, other) in enumerate(
        (("eyes covered", "sunglasses", "sunglasses_"), ("mouth covered", "wearing_mask", "masked_"))
    ):
        x, y = known[number], np.char.find(train.names[rows], word) >= 0
        cross = np.zeros(len(y))
        for fit, rest in GroupKFold(5).split(x, y, train.people[rows]):
            cross[rest] = LogisticRegression(C=10, max_iter=3000).fit(x[fit], y[fit]).predict_proba(x[rest])[:, 1]
        whole = LogisticRegression(C=10, max_iter=3000).fit(x, y)
        yield f"{name}: weights {whole.coef_[0].round(2).tolist()}, offset {whole.intercept_[0]:.2f}"
        yield f"  train.tar, {y.sum()} of {len(y):,}, cross-validated over people: {hits(cross, y, name)}"
        found, truth = shipped(checked, number), np.char.find(dev.names, other) >= 0
        yield f"  rof_dev.tar, {truth.sum()} of {len(truth):,}, as shipped: {hits(found, truth, name)}"


def features(faces: Faces, rows: NDArray[np.intp], embedder: Embedder) -> tuple[Array, Array]:
    """What the hints go by: of the eyes four numbers a face, of the mouth one."""
    hidden = embedder.embed(np.concatenate([components.covered(faces.crops[row]) for row in rows])).vectors
    width = embedder.card.quality.w
    eyes = [
        components.eyes_features(faces.crops[row], faces.vectors[row], hidden[2 * number], width)
        for number, row in enumerate(rows)
    ]
    mouth = [
        [components.mouth_feature(faces.vectors[row], hidden[2 * number + 1], width)] for number, row in enumerate(rows)
    ]
    return np.array(eyes), np.array(mouth)


def shipped(found: tuple[Array, Array], number: int) -> Array:
    """Probabilities by the weights in the package."""
    return np.array([components.probabilities(eyes, mouth)[number] for eyes, [mouth] in zip(*found, strict=True)])


def hits(probability: Array, truth: NDArray[np.bool_], name: str) -> str:
    """AUC, and precision, recall and false alarms at the limit of the range."""
    from sklearn.metrics import roc_auc_score

    said = probability > RANGES[name].high
    return (
        f"AUC {roc_auc_score(truth, probability):.3f}, at {RANGES[name].high:g} precision {truth[said].mean():.3f}, "
        f"recall {said[truth].mean():.3f}, false alarms {said[~truth].mean():.3f}"
    )


def study(data: Path, count: int) -> Iterable[str]:
    """Every line of the study."""
    recognizer = Recognizer()
    embedder = recognizer.embedder
    train = load(data / "train.tar", embedder, data / "train.tsv")
    yield f"Model {embedder.card.name} {embedder.card.version}, {embedder.fingerprint}"
    yield from verdicts(train, embedder)
    yield from natural(train, embedder)
    yield from sweeps(train, embedder, count)
    yield from turned(data / "photos_raw.tar", recognizer)
    yield from covered(train, load(data / "rof_dev.tar", embedder), embedder)


def main() -> None:
    """Print the study, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--faces", type=int, default=268, help="people whose faces are made worse")
    parser.add_argument("-o", "--output", type=Path, help="file to write it to")
    arguments = parser.parse_args()
    lines = []
    for line in study(arguments.data, arguments.faces):
        print(line, flush=True)
        lines.append(line)
    if arguments.output:
        write_atomic(arguments.output, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
