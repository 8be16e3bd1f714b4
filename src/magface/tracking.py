"""Faces of one person in frames that follow each other, so that a long video is a few hundred things to group.

A track holds a sum of embeddings and its few best faces, however long it is: memory grows with the tracks, not with
the frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from magface import geometry
from magface.types import F32, Face

Where = TypeVar("Where")

OVERLAP = 0.3
"""Least intersection over union of the boxes of a face in two frames that follow each other."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting(Generic[Where]):
    """A face in a frame.

    Attributes:
        where: what tells the frame, for the caller.
        slot: stretch of time that the frame belongs to; of one slot a track keeps the best face alone.
        face: in pixels of the frame.
        embedding: `(D,)` float32, raw.
        magnitude: of the embedding.
    """

    where: Where
    slot: int
    face: Face
    embedding: F32
    magnitude: float


@dataclass(slots=True, eq=False)
class Track(Generic[Where]):
    """Sightings of one person.

    Attributes:
        count: sightings.
        best: the sightings of highest magnitude, one a slot, highest first.
        last: the newest.
    """

    last: Sighting[Where]
    count: int = 0
    best: list[Sighting[Where]] = field(default_factory=list)

    @property
    def embedding(self) -> F32:
        """`(D,)` float32, sum of the raw embeddings of the best: MagFace+, so that good pictures say who it is."""
        return np.sum([each.embedding for each in self.best], axis=0, dtype=np.float32)

    def add(self, sighting: Sighting[Where], keep: int) -> None:
        """Take in a sighting, and keep the best of so many slots."""
        self.last = sighting
        self.count += 1
        rival = next((each for each in self.best if each.slot == sighting.slot), None)
        if rival is not None and rival.magnitude >= sighting.magnitude:
            return
        kept = [each for each in self.best if each is not rival]
        self.best = sorted([*kept, sighting], key=lambda each: -each.magnitude)[:keep]


class Tracker(Generic[Where]):
    """Follows faces from frame to frame.

    A face goes on with the track that it overlaps most and whose newest face looks alike; where one of the two is too
    weak to say who it is, the place alone decides. Whoever is lost starts a new track.

    Args:
        alike: least cosine of two faces of a track.
        weak: magnitude below which a face does not say who it is.
        keep: best faces of a track, >= 1.
        patience: seconds for which a face may be out of sight.

    Attributes:
        tracks: all, in the order in which they began.
    """

    def __init__(self, alike: float, weak: float, keep: int, patience: float = 1.0) -> None:
        self.tracks: list[Track[Where]] = []
        self._alike, self._weak, self._keep, self._patience = alike, weak, keep, patience
        self._open: list[tuple[float, Track[Where]]] = []

    def add(self, seconds: float, sightings: Sequence[Sighting[Where]]) -> None:
        """Take in the faces of the next frame, at that time in seconds, not before that of the last one."""
        self._open = [(seen, track) for seen, track in self._open if seconds - seen <= self._patience]
        tracks = [track for _, track in self._open]
        overlap = _overlaps([track.last.face for track in tracks], [each.face for each in sightings])
        taken: dict[int, Track[Where]] = {}
        used: set[int] = set()
        for number, row in _falling(overlap):
            if number not in used and row not in taken and self._fits(tracks[number], sightings[row]):
                taken[row] = tracks[number]
                used.add(number)
        self._open = [seen for number, seen in enumerate(self._open) if number not in used]
        for row, sighting in enumerate(sightings):
            track = taken.get(row) or self._begun(sighting)
            track.add(sighting, self._keep)
            self._open.append((seconds, track))

    def cut(self) -> None:
        """End every track, as between two videos."""
        self._open = []

    def _begun(self, sighting: Sighting[Where]) -> Track[Where]:
        track = Track(sighting)
        self.tracks.append(track)
        return track

    def _fits(self, track: Track[Where], sighting: Sighting[Where]) -> bool:
        if min(track.best[0].magnitude, sighting.magnitude) < self._weak:
            return True
        alike = (geometry.cosine(face.embedding, sighting.embedding) for face in (track.last, track.best[0]))
        return bool(max(alike) >= self._alike)


def apart(sightings: Iterable[Sighting[Where]], count: int) -> list[Sighting[Where]]:
    """The best sightings of a person, none in the same slot as a better one or in one beside it.

    Args:
        sightings: of one person, from any tracks.
        count: how many, at most.

    Returns:
        Highest magnitude first.
    """
    chosen: list[Sighting[Where]] = []
    for each in sorted(sightings, key=lambda each: -each.magnitude):
        if len(chosen) == count:
            break
        if all(abs(each.slot - other.slot) > 1 for other in chosen):
            chosen.append(each)
    return chosen


def _overlaps(a: Sequence[Face], b: Sequence[Face]) -> NDArray[np.floating]:
    """`(A, B)`: intersection over union of boxes."""
    one, other = (np.array([face.box for face in faces], np.float64).reshape(-1, 4) for faces in (a, b))
    sides = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    area, areas = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (one, other))
    return shared / np.maximum(area[:, None] + areas - shared, 1e-6)


def _falling(overlap: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Row and column of every overlap that suffices, largest first."""
    rows, columns = np.nonzero(overlap >= OVERLAP)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))
