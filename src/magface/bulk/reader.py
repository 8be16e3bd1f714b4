"""Detector and network, loaded once, that read one shard after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magface import images
from magface.aligner import Finder
from magface.bulk.plan import Entry, Plan, Settings
from magface.bulk.shards import Found
from magface.data.face_set import aligned
from magface.embedder import Embedder
from magface.engines import EngineName
from magface.errors import ImageError, ModelError
from magface.models import card, default
from magface.models.card import Card
from magface.recognizer import Recognizer
from magface.types import U8

_AHEAD = 128
_WARM = 32


@dataclass(frozen=True, slots=True)
class Source:
    """Where model and detector are; what a process needs to make a `Reader`.

    Attributes:
        model: file of the model; `None` is the one that ships with the package.
        detector: see `Recognizer`.
        engine: that runs the network.
        aligned: whether the photos are aligned crops.
    """

    model: Path | None = None
    detector: Path | None = None
    engine: EngineName = "auto"
    aligned: bool = False


class Reader:
    """Reads photos or aligned crops.

    Args:
        source: of the model.
        threads: of the network, and as many that decode; `None` for all cores.

    Attributes:
        settings: what results must not be mixed with others of.

    Raises:
        ModelError: a model is missing or damaged.
        EngineError: the engine cannot be used.
    """

    def __init__(self, source: Source, threads: int | None = None) -> None:
        self._threads = threads
        if source.aligned:
            self._embedder = Embedder(source.model, engine=source.engine, threads=threads)
            self._found = self._crops
        else:
            self._recognizer = Recognizer(source.model, source.detector, source.engine, threads=threads)
            self._embedder = self._recognizer.embedder
            self._found = self._photos
        # so that the network is compiled for whole batches before the first few faces come, and gives the same numbers
        self._embedder.embed(np.zeros((_WARM, 112, 112, 3), np.uint8))

    @property
    def card(self) -> Card:
        """Card of the model."""
        return self._embedder.card

    def check(self, plan: Plan) -> None:
        """Refuse to read for a plan of another model, as where machines do not have the same file.

        Raises:
            ModelError: the models differ.
        """
        if self._embedder.fingerprint != plan.settings.model:
            raise ModelError("the model file is not the one that the job began with; use the same file everywhere.")

    def read(self, entries: Sequence[Entry], begun: Callable[[int], object] = lambda index: None) -> Iterator[Found]:
        """What is in each photo, in order; several are decoded while the network works.

        Args:
            entries: the photos.
            begun: called with the index of a photo before it is read, in any thread.
        """
        index = {entry.name: number for number, entry in enumerate(entries)}

        def content(name: str) -> bytes:
            begun(index[name])
            return _content(entries[index[name]])

        return self._found([entry.name for entry in entries], content)

    def _photos(self, names: Sequence[str], content: Callable[[str], bytes]) -> Iterator[Found]:
        for photo in self._recognizer.stream(names, content=content, readers=self._threads):
            vectors, faces = [face.embedding for face in photo.faces], [face.face for face in photo.faces]
            yield Found(vectors, faces, photo.error)

    def _crops(self, names: Sequence[str], content: Callable[[str], bytes]) -> Iterator[Found]:
        waiting: deque[Found] = deque()

        def crops() -> Iterator[U8]:
            found = images.decode_ahead(
                names, content, lambda name, image: aligned(image, name), ahead=_AHEAD, readers=self._threads
            )
            for _, crop in found:
                waiting.append(Found(error=crop if isinstance(crop, str) else ""))
                if not isinstance(crop, str):
                    yield crop

        for vector in self._embedder.stream(crops()):
            while waiting[0].error:
                yield waiting.popleft()
            waiting.popleft()
            yield Found([vector])
        yield from waiting


def settings(source: Source) -> tuple[Settings, int]:
    """What a plan for a source writes down, and the numbers of an embedding.

    Raises:
        ModelError: a model is missing or damaged.
    """
    found, fingerprint = card.read(default.path() if source.model is None else source.model)
    detector = "" if source.aligned else Finder(source.detector).name
    return Settings(fingerprint, detector, source.engine), found.embedding_size


def _content(entry: Entry) -> bytes:
    try:
        return entry.place.read()
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"cannot read {entry.name} ({reason}); check the path.") from error
