"""Photos in, faces with embeddings and qualities out: the one path that every command takes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np

from magface import align, geometry, images
from magface.aligner import Finder
from magface.detect import Detector
from magface.embedder import Embedder
from magface.engines import EngineName
from magface.errors import ImageError, NoFaceError
from magface.models.card import Card, Threshold
from magface.quality import calibration, verdict
from magface.quality.verdict import Assessment, Limits
from magface.threads import READERS, prefetch
from magface.types import F32, U8, Face

PathLike = str | os.PathLike[str]

PORTRAIT = 224
_MARGIN = 1.6
_AHEAD = 32
_GROUP = 256
_FRAMES = 64


@dataclass(frozen=True, slots=True, eq=False)
class RecognizedFace:
    """A face of a photo and what the model reads from it.

    Attributes:
        face: where it is, as the detector found it.
        crop: `(112, 112, 3)` uint8 RGB, aligned: what the network saw.
        portrait: `(S, S, 3)` uint8 RGB, S <= 224: a wider, unaligned cut of the photo, to look at.
        embedding: `(D,)` float32, raw.
        magnitude: of the embedding, >= 0.
        score: quality, 0 to 100, from the magnitude as the model's card says.
        percentile: share in percent of the card's reference faces that are worse, 0 to 100.
    """

    face: Face
    crop: U8
    portrait: U8
    embedding: F32
    magnitude: float
    score: float
    percentile: float


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photo that was read, or the reason why it could not be.

    Attributes:
        path: as it was given.
        faces: from left to right.
        error: reason in one sentence; empty when it could be read.
    """

    path: Path
    faces: tuple[RecognizedFace, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """Are two faces one person?

    Attributes:
        a: face of the first photo that was compared.
        b: face of the second photo.
        faces_a: all faces of the first photo, from left to right.
        faces_b: all faces of the second photo.
        cosine: similarity of their directions, -1 to 1.
        threshold: of the model's card: cosine at a false match rate, and the comparisons behind it.
    """

    a: RecognizedFace
    b: RecognizedFace
    faces_a: tuple[RecognizedFace, ...]
    faces_b: tuple[RecognizedFace, ...]
    cosine: float
    threshold: Threshold

    @property
    def match(self) -> bool:
        """Whether the cosine reaches the threshold."""
        return self.cosine >= self.threshold.cosine

    @property
    def score(self) -> float:
        """Quality of the worse of the two faces, 0 to 100: what the comparison can be trusted by."""
        return min(self.a.score, self.b.score)

    @property
    def weak(self) -> bool:
        """Whether the worse picture is so poor that it may hide who it shows."""
        return self.score < calibration.WEAK


class Recognizer:
    """Detector, alignment and network in one.

    Args:
        model: an `.onnx` file with a card; `None` is the model that ships with the package.
        detector: a `Detector`, or a file as in `detect.load`; `None` is YuNet.
        engine: that runs the network, see `engines.load`.
        threads: of the network, see `engines.load`.

    Attributes:
        embedder: the network.
        detector: finds the faces.

    Raises:
        ModelError: a model is missing, damaged or has no card.
        EngineError: the engine cannot be used.

    Example:
        >>> from skimage import data
        >>> [face] = Recognizer().faces(data.astronaut())
        >>> face.embedding.shape, 0 <= face.score <= 100
        ((128,), True)
    """

    def __init__(
        self,
        model: PathLike | None = None,
        detector: Detector | PathLike | None = None,
        engine: EngineName = "auto",
        *,
        threads: int | None = None,
    ) -> None:
        self.embedder = Embedder(None if model is None else Path(model), engine=engine, threads=threads)
        self._finder = Finder(detector)
        self.detector = self._finder.detector

    @property
    def card(self) -> Card:
        """Card of the model."""
        return self.embedder.card

    def faces(self, photo: PathLike | U8) -> list[RecognizedFace]:
        """Every face of one photo, from left to right; empty where there is none.

        Args:
            photo: a file, or `(H, W, 3)` uint8 RGB, upright.

        Raises:
            ImageError: the file is not a readable image, or the array is of another shape or type.
        """
        image = _checked(photo) if isinstance(photo, np.ndarray) else images.read(photo)
        draft = _Draft(Path(), self._cuts(image))
        if draft.cuts:
            draft.vectors.extend(self.embedder.embed(np.stack([cut.crop for cut in draft.cuts])).vectors)
        return list(draft.photo(self.card).faces)

    def verify(
        self,
        a: PathLike | U8,
        b: PathLike | U8,
        *,
        fmr: float = 1e-3,
        face_a: int | None = None,
        face_b: int | None = None,
    ) -> Verification:
        """Compare a face of one photo with a face of another.

        Args:
            a: a file, or `(H, W, 3)` uint8 RGB, upright.
            b: likewise.
            fmr: false match rate to decide at, one of the model's card.
            face_a: which face of `a`, 0 for the leftmost; `None` for the largest.
            face_b: which face of `b`.

        Raises:
            ImageError: a file is not a readable image.
            NoFaceError: a photo has no face, or not the one that was asked for.
            ModelError: the card has no threshold at `fmr`.
        """
        threshold = self.card.threshold(fmr)
        faces_a, faces_b = self.faces(a), self.faces(b)
        one, other = _choose(faces_a, face_a, a), _choose(faces_b, face_b, b)
        cosine = float(geometry.cosine(one.embedding, other.embedding))
        return Verification(one, other, tuple(faces_a), tuple(faces_b), cosine, threshold)

    def assess(self, face: RecognizedFace, limits: Limits = verdict.DEFAULT) -> Assessment:
        """Whether the picture of a face is good enough, and what is wrong with it.

        Args:
            face: of this recognizer.
            limits: scores from which it is accepted and below which it is taken again.

        Example:
            >>> from skimage import data
            >>> recognizer = Recognizer()
            >>> [face] = recognizer.faces(data.astronaut())
            >>> found = recognizer.assess(face)
            >>> found.verdict.value, found.causes
            ('accept', ())
        """
        return verdict.assess(
            face.crop, face.embedding, self.card, self.embedder.embed, landmarks=face.face.landmarks, limits=limits
        )

    def stream(
        self,
        paths: Iterable[PathLike],
        *,
        content: Callable[[str], bytes] | None = None,
        readers: int | None = None,
    ) -> Iterator[Photo]:
        """Read many photos: several are decoded and searched at a time, while the network embeds faces of earlier ones.

        As many photos are in memory as there are threads, and fewer where they are very large; of those that wait only
        the cuts of their faces are kept. A photo that cannot be read comes with its `error`.

        Args:
            paths: of the photos.
            content: gives the encoded image of a path, in any thread, see `images.decode_ahead`; `None` reads the file.
            readers: threads that decode and search, see `images.decode_ahead`.

        Returns:
            One `Photo` for each path, in order.
        """
        drafts = (
            _Draft(path, error=cuts) if isinstance(cuts, str) else _Draft(path, cuts)
            for path, cuts in images.read_ahead(
                paths, lambda path, image: self._cuts(image), ahead=_AHEAD, content=content, readers=readers
            )
        )
        return self._embedded(drafts, _GROUP)

    def frames(self, frames: Iterable[U8]) -> Iterator[tuple[RecognizedFace, ...]]:
        """Faces of images in memory as they come, as those of a video: several are searched at a time.

        As many images are in memory as there are threads.

        Args:
            frames: each `(H, W, 3)` uint8 RGB, upright.

        Returns:
            The faces of each image, from left to right, in order.
        """
        drafts = (_Draft(Path(), cuts) for cuts in prefetch(self._cuts, frames, workers=READERS, limit=READERS + 1))
        return (photo.faces for photo in self._embedded(drafts, _FRAMES))

    def _embedded(self, drafts: Iterator[_Draft], group: int) -> Iterator[Photo]:
        """Photos of drafts in order, each as soon as all faces of so many are embedded."""
        for first in drafts:
            # Photos with few faces take long to fill a batch; those of a group wait for no later ones.
            pending: deque[_Draft] = deque()
            for vector in self.embedder.stream(_crops(chain([first], islice(drafts, group - 1)), pending)):
                while pending[0].complete:
                    yield pending.popleft().photo(self.card)
                pending[0].vectors.append(vector)
            while pending:
                yield pending.popleft().photo(self.card)

    def _cuts(self, image: U8) -> list[_Cut]:
        """Cuts of the faces of a photo, from left to right."""
        faces = self._finder.faces(image)
        return [_Cut(face, align.crop(image, face.landmarks), portrait(image, face)) for face in faces]


@dataclass(slots=True, eq=False)
class _Cut:
    face: Face
    crop: U8
    portrait: U8


@dataclass(slots=True, eq=False)
class _Draft:
    """A photo whose embeddings are on their way."""

    path: Path
    cuts: list[_Cut] = field(default_factory=list)
    error: str = ""
    vectors: list[F32] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.vectors) == len(self.cuts)

    def photo(self, card: Card) -> Photo:
        faces = []
        for cut, vector in zip(self.cuts, self.vectors, strict=True):
            a = float(geometry.magnitude(vector))
            quality = float(calibration.score(a, card)), float(calibration.percentile(a, card))
            faces.append(RecognizedFace(cut.face, cut.crop, cut.portrait, vector, a, *quality))
        return Photo(self.path, tuple(faces), self.error)


def _crops(drafts: Iterable[_Draft], pending: deque[_Draft]) -> Iterator[U8]:
    """Aligned crops of photos in order; each photo is put into `pending` before its crops come."""
    for draft in drafts:
        pending.append(draft)
        yield from [cut.crop for cut in draft.cuts]


def _checked(image: U8) -> U8:
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
        raise ImageError(
            f"a photo in memory must be (H, W, 3) uint8 RGB; this one is {image.shape} {image.dtype}: convert it."
        )
    return image


def _choose(faces: Sequence[RecognizedFace], index: int | None, photo: PathLike | U8) -> RecognizedFace:
    """The face of that index, or the largest."""
    name = "the photo" if isinstance(photo, np.ndarray) else os.fspath(photo)
    if not faces:
        raise NoFaceError(f"no face was found in {name}; take a photo in which the face is larger or clearer.")
    if index is None:
        return max(faces, key=lambda face: face.face.area)
    if not 0 <= index < len(faces):
        raise NoFaceError(f"{name} has no face {index + 1}; it has {len(faces)}, counted from the left.")
    return faces[index]


def portrait(image: U8, face: Face, *, margin: float = _MARGIN, longest: int = PORTRAIT) -> U8:
    """Square around a face with some of what surrounds it, kept inside the photo.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        face: of that photo.
        margin: side of the square over that of the face, >= 1.
        longest: side of the picture in pixels, at most.

    Returns:
        `(S, S, 3)` uint8, S <= `longest`, and smaller where the face is; never enlarged.

    Example:
        >>> face = Face(np.array([40, 40, 80, 90], np.float32), np.zeros((5, 2), np.float32), 0.9)
        >>> portrait(np.zeros((100, 200, 3), np.uint8), face).shape
        (80, 80, 3)
    """
    height, width = image.shape[:2]
    side = int(np.clip(round(face.size * margin), 1, min(height, width)))
    centre = (face.box[:2] + face.box[2:]) / 2
    left, top = (int(np.clip(round(c - side / 2), 0, n - side)) for c, n in zip(centre, (width, height), strict=True))
    square = image[top : top + side, left : left + side]
    if side <= longest:
        return square.copy()  # a view would keep the whole photo in memory
    square = images.halved(square, 2 * longest, 2 * longest)
    return np.asarray(cv2.resize(square, (longest, longest), interpolation=cv2.INTER_AREA), np.uint8)
