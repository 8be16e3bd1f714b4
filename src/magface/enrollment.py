"""From photos to a gallery: the face of each as an entry, and the faces of a gallery embedded by another model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import simplejpeg

from magface import geometry, images
from magface.data import face_set
from magface.embedder import Embedder
from magface.errors import DataError, MagfaceError
from magface.gallery.gallery import Gallery
from magface.gallery.records import Box, Entry, StoredFace, check_name
from magface.models.card import Card
from magface.quality import calibration
from magface.recognizer import Photo, RecognizedFace, Recognizer
from magface.types import F32, U8

Which = Literal["largest", "only"]
WHICH: tuple[Which, ...] = get_args(Which)

_AHEAD = 128
_OVERLAP = 0.5
_JPEG_QUALITY = 95

Named = tuple[str, Path]
"""A person and a photo of theirs."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A photo that gives no face to enroll.

    Attributes:
        path: of the photo.
        reason: in one sentence.
        readable: whether it is an image at all.
    """

    path: Path
    reason: str
    readable: bool


def people(folder: Path) -> list[Named]:
    """Photos of a folder that holds one folder for each person, whose name it has.

    Args:
        folder: as `people/Ann/1.jpg`; deeper folders belong to the person above them.

    Returns:
        Person and photo, in the order of the photos.

    Raises:
        DataError: there is no photo, one lies in no person's folder, or the name of a folder is no name of a person.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("Ann/1.jpg", "Bob/old/2.jpg"):
        ...         Path(root, name).parent.mkdir(parents=True)
        ...         Path(root, name).touch()
        ...     [(person, path.name) for person, path in people(Path(root))]
        [('Ann', '1.jpg'), ('Bob', '2.jpg')]
    """
    found = images.find([folder])
    if not found:
        raise DataError(f"{folder} holds no photo; give a folder with one folder for each person.")
    named = []
    for path in found:
        parts = path.relative_to(folder).parts
        if len(parts) < 2:
            raise DataError(
                f"{path} lies in no person's folder: is {folder} a person? Give the folder above, in which each person "
                "has one, or say who it is with --person."
            )
        named.append((parts[0], path))
    for person in dict.fromkeys(person for person, _ in named):
        check_name(person, "a person")
    return named


def from_photos(
    recognizer: Recognizer, photos: Iterable[Named], *, which: Which = "largest", crops: bool = True
) -> Iterator[tuple[Path, Entry | Unusable]]:
    """The face of each photo, ready to enroll.

    Args:
        recognizer: finds and embeds the faces.
        photos: who is on each.
        which: `largest`, the face of the largest box; `only`, the single one: a photo with several is of no use.
        crops: keep the aligned crop in the entry.

    Returns:
        Each photo, in order, with its entry, or why it has none.
    """
    names, paths = tee(photos)
    for (person, path), photo in zip(names, recognizer.stream(path for _, path in paths), strict=True):
        face = _chosen(photo, which)
        yield path, face if isinstance(face, Unusable) else _entry(person, photo.path, face, crops)


def from_crops(
    embedder: Embedder, files: Iterable[Named], *, crops: bool = True
) -> Iterator[tuple[Path, Entry | Unusable]]:
    """Aligned crops of 112x112 pixels, ready to enroll.

    Args:
        embedder: the network.
        files: who is on each.
        crops: keep the crop in the entry, too.

    Returns:
        Each file, in order, with its entry, or why it has none.
    """
    names, paths = tee(files)
    read = images.read_ahead(
        (path for _, path in paths), lambda path, crop: face_set.aligned(crop, str(path)), ahead=_AHEAD
    )
    pending: deque[tuple[str, Path, U8 | str]] = deque()

    def waiting() -> Iterator[U8]:
        for (person, path), (_, crop) in zip(names, read, strict=True):
            pending.append((person, path, crop))
            if not isinstance(crop, str):
                yield crop

    def unreadable() -> Iterator[tuple[Path, Unusable]]:
        while pending and isinstance(pending[0][2], str):
            _, path, reason = pending.popleft()
            yield path, Unusable(path, str(reason), readable=False)

    for vector in embedder.stream(waiting()):
        yield from unreadable()
        person, path, crop = pending.popleft()
        kept = encoded(np.asarray(crop)) if crops else b""
        score = _score(vector, embedder.card)
        yield path, Entry(person, vector, score, source=_address(path), crop=kept, time=time.time())
    yield from unreadable()


def encoded(crop: U8) -> bytes:
    """A crop as a JPEG file: small, and its embedding differs from that of the crop by far less than two photos do.

    Args:
        crop: `(112, 112, 3)` uint8 RGB.
    """
    return simplejpeg.encode_jpeg(np.ascontiguousarray(crop), quality=_JPEG_QUALITY, colorsubsampling="444")


def _chosen(photo: Photo, which: Which) -> RecognizedFace | Unusable:
    if photo.error:
        return Unusable(photo.path, photo.error, readable=False)
    if not photo.faces:
        return Unusable(photo.path, f"no face was found in {photo.path}; take one that is larger or clearer.", True)
    if which == "only" and len(photo.faces) > 1:
        return Unusable(photo.path, f"{photo.path} shows {len(photo.faces)} faces; cut out the one to enroll.", True)
    return max(photo.faces, key=lambda face: face.face.area)


def _entry(person: str, path: Path, face: RecognizedFace, crops: bool) -> Entry:
    x1, y1, x2, y2 = map(float, face.face.box)
    return Entry(
        person,
        face.embedding,
        face.score,
        source=_address(path),
        box=(x1, y1, x2, y2),
        crop=encoded(face.crop) if crops else b"",
        time=time.time(),
    )


def _address(path: Path) -> str:
    """Where a photo is, whatever folder one is in later; bytes that are not Unicode as escapes."""
    return str(path.absolute()).encode(errors="surrogateescape").decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Lost:
    """A face that another model cannot embed.

    Attributes:
        face: id.
        person: name.
        reason: in one sentence.
    """

    face: int
    person: str
    reason: str


def reembed(
    gallery: Gallery, recognizer: Recognizer, *, drop: bool = False, progress: Callable[[int], object] = lambda _: None
) -> list[Lost]:
    """Embed every face of a gallery with another model, which is the gallery's from then on.

    A face is embedded from the crop that was kept, or from its picture, if that still shows a face in the same place.
    Until all are done the gallery answers as before; then it changes as a whole.

    Args:
        gallery: of any model.
        recognizer: of the new one.
        drop: remove faces that cannot be embedded, instead of refusing.
        progress: called with the number of faces that were done since the last call.

    Returns:
        Faces that were removed.

    Raises:
        DataError: faces cannot be embedded and `drop` is False, or none can; the gallery is as it was.
    """
    names = {person.id: person.name for person in gallery.people()}
    found: dict[int, F32] = {}
    lost: list[Lost] = []
    faces = gallery.faces()
    while some := list(islice(faces, _AHEAD)):
        for face, vector in zip(some, _embedded(recognizer, some), strict=True):
            if isinstance(vector, str):
                lost.append(Lost(face.id, names.get(face.person, ""), vector))
            else:
                found[face.id] = vector
        progress(len(some))
    if lost and not (drop and found):
        raise DataError(
            f"{len(lost):,} of {len(lost) + len(found):,} faces cannot be embedded again, the first that of "
            f"{lost[0].person}: {lost[0].reason} Bring their pictures back, or drop those faces if there are others."
        )
    if lost:
        gallery.remove_face(*(each.face for each in lost))

    def vectors(faces: Sequence[StoredFace]) -> list[tuple[F32, float]]:
        later = [face for face in faces if face.id not in found]  # another process enrolled them meanwhile
        for face, vector in zip(later, _embedded(recognizer, later), strict=True):
            if isinstance(vector, str):
                raise DataError(f"a face that was enrolled meanwhile cannot be embedded: {vector} Run it again.")
            found[face.id] = vector
        return [(found[face.id], _score(found[face.id], recognizer.card)) for face in faces]

    gallery.reembed(recognizer.card, vectors)
    return lost


def _embedded(recognizer: Recognizer, faces: Sequence[StoredFace]) -> list[F32 | str]:
    """Embedding of each face, or why there is none."""
    crops = [_crop(recognizer, face) for face in faces]
    usable = [crop for crop in crops if not isinstance(crop, str)]
    vectors = iter(recognizer.embedder.embed(np.stack(usable)).vectors if usable else ())
    return [crop if isinstance(crop, str) else next(vectors) for crop in crops]


def _crop(recognizer: Recognizer, face: StoredFace) -> U8 | str:
    """What the network is to see of a face, or why there is nothing."""
    try:
        if face.crop:
            return face_set.aligned(images.decode(face.crop, name=f"the crop of face {face.id}"), f"face {face.id}")
        if not face.source:
            return f"of face {face.id} neither a crop nor the place of its picture was kept."
        if face.box is None:
            return face_set.aligned(images.read(face.source), face.source)
        found = recognizer.faces(face.source)
    except MagfaceError as error:
        return str(error)
    best = max(found, key=lambda each: _overlap(each.face.box, face.box), default=None)
    if best is None or _overlap(best.face.box, face.box) < _OVERLAP:
        return f"{face.source} no longer shows face {face.id} where it was."
    return best.crop


def _overlap(a: F32, box: Box | None) -> float:
    """Intersection over union of two boxes."""
    b = np.array(box, np.float64)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def _score(vector: F32, card: Card) -> float:
    return float(calibration.score(geometry.magnitude(vector), card))
