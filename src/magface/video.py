"""Frames of a video file as upright RGB with their times; anything else as one clear sentence.

Files are hostile input. Only containers of video are opened, known by how they begin: a playlist or a pattern of names
would make the decoder read other files. One frame is in memory at a time, none is larger than `MAX_PIXELS`, and there
are never more frames than bytes.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from cv2.utils import logging

from magface.errors import ImageError
from magface.types import U8

EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv"}
    | {".ogv"}
)
"""Names by which a folder is searched for videos; `Video` goes by the content alone."""

MAX_PIXELS = 64_000_000
"""Largest frame: twice that of 8K."""

_STARTS = {b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"FLV\x01", b"\x30\x26\xb2\x75", b"OggS"}
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}  # of MP4 and QuickTime, after four bytes of size
_PHOTOS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
_SYNC, _PACKETS = 0x47, ((0, 188), (4, 192))  # of a transport stream: the offset of its first packet, and their length
_USUAL_RATE, _MAX_RATE = 25.0, 1000.0
_WHOLE = 0.9  # share of the time that a file claims, with which it counts as read to its end
_opening = threading.Lock()

Wanted = Callable[[int, float], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame of a video.

    Attributes:
        index: place in the video, from 0.
        seconds: when it is shown, >= 0; rises from frame to frame.
        image: `(H, W, 3)` uint8 RGB, upright.
    """

    index: int
    seconds: float
    image: U8


class Video:
    """A video file, read from its start as often as wanted.

    Attributes:
        path: of the file.
        count: frames that the file claims to have; 0 where it does not say.
        seconds: how long it claims to be; 0 where it does not say.
        early: after it was read to its end: where that came much too early, a sentence that says so; else empty.

    Raises:
        ImageError: the file cannot be read, is no video, is damaged, or its frames are too large.

    Example:
        >>> Video("no-such-video.mp4")
        Traceback (most recent call last):
        ...
        magface.errors.ImageError: cannot read no-such-video.mp4 (No such file or directory); check the path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.early = ""
        self._name = str(self.path.absolute())  # a path that cannot be taken for an address
        self._check_name()
        if not is_video(self.path):
            raise ImageError(f"{self.path} is not a video that can be read; save it as MP4.")
        self._bytes = self.path.stat().st_size
        capture = self._opened()
        try:
            claimed = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            self.count = int(claimed) if 0 < claimed <= self._bytes else 0
            self._rate = _sane(capture.get(cv2.CAP_PROP_FPS))
            self.seconds = self.count / self._rate
        finally:
            capture.release()

    def every(self, count: int) -> Iterator[Frame]:
        """The first of each `count` frames, >= 1."""
        return self._chosen(lambda index, seconds: index % count == 0)

    def rate(self, fps: float) -> Iterator[Frame]:
        """So many frames a second, > 0, as far as the video has them; also where its own frames come unevenly."""
        due = 0.0

        def wanted(index: int, seconds: float) -> bool:
            nonlocal due
            if seconds < due:
                return False
            due = (math.floor(seconds * fps + 1e-6) + 1) / fps - 1e-6
            return True

        return self._chosen(wanted)

    def at(self, indexes: Collection[int]) -> Iterator[Frame]:
        """The frames of those indexes, in the order of the video."""
        if indexes:
            wanted = frozenset(indexes)
            yield from self._chosen(lambda index, seconds: index in wanted, last=max(wanted))

    def _chosen(self, wanted: Wanted, last: float = math.inf) -> Iterator[Frame]:
        """Frames of which `wanted` says so by index and seconds; others are not even turned into colours."""
        capture = self._opened()
        index, seconds = -1, -1 / self._rate
        try:
            while index < min(last, self._bytes) and capture.grab():
                index += 1
                now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                # files without times, or with wrong ones, go on at their usual pace
                seconds = now if seconds < now < math.inf else seconds + 1 / self._rate
                if wanted(index, seconds):
                    read, pixels = capture.retrieve()
                    if read:
                        yield Frame(index, max(seconds, 0.0), self._rgb(pixels))
        finally:
            capture.release()
        if index < 0:
            raise self._damaged()
        if last == math.inf and index + 1 < _WHOLE * self.count and seconds < _WHOLE * self.seconds:
            self.early = f"{self.path} ends after {seconds:.1f} of {self.seconds:.1f} seconds; copy it again."

    def _check_name(self) -> None:
        """Refuse names that crash the decoder, or that it takes for a pattern of the names of many pictures."""
        unicode = not any("\ud800" <= letter <= "\udfff" for letter in self._name)
        if not unicode or ("%" in self._name and self.path.suffix.lower() not in EXTENSIONS):
            raise ImageError(f"{self.path} has a name that the video decoder cannot open; rename it, as in clip.mp4.")

    def _opened(self) -> cv2.VideoCapture:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is in our own sentence
        with _opening:
            level = logging.getLogLevel()
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
            try:
                capture = cv2.VideoCapture(self._name, cv2.CAP_FFMPEG)
            finally:
                logging.setLogLevel(level)
        if not capture.isOpened():
            raise self._damaged()
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self._check_size(*(int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)))
        return capture

    def _rgb(self, pixels: U8) -> U8:
        self._check_size(pixels.shape[1], pixels.shape[0])
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise ImageError(
                f"{self.path} has frames of {width} x {height} pixels, more than the limit of {MAX_PIXELS}; "
                "make it smaller."
            )

    def _damaged(self) -> ImageError:
        return ImageError(f"{self.path} is damaged, incomplete or of an unknown kind of video; save it as MP4.")


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a video does.

    Raises:
        ImageError: it cannot be read, or is a folder, pipe or device.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(bytes.fromhex("0000001866747970") + b"isom")
        ...     _ = file.seek(0)
        ...     is_video(file.name)
        True
    """
    place = Path(path)
    try:
        if place.exists() and not place.is_file():  # a pipe waits, a device never ends
            raise ImageError(f"{path} is a folder, pipe or device; give a video file.")
        with place.open("rb") as file:
            start = file.read(2 * max(length for _, length in _PACKETS))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {path} ({reason}); check the path.") from error
    return (
        start[:4] in _STARTS
        or (start[4:8] in _BOXES and start[8:12] not in _PHOTOS)
        or (start[:4] == b"RIFF" and start[8:12] == b"AVI ")
        or any(start[first::length][:2] == bytes([_SYNC] * 2) for first, length in _PACKETS)
    )


def _sane(rate: float) -> float:
    return rate if 0 < rate <= _MAX_RATE else _USUAL_RATE
