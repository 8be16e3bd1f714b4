"""The whole job: from photos to a folder of shards that accounts for each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from magface import io
from magface.bulk import plan as plans
from magface.bulk import reader, shards
from magface.bulk.crew import Crew
from magface.bulk.plan import Plan
from magface.bulk.reader import Source
from magface.errors import DataError

SHARD_SIZE = 2048
THREADS = 1
"""Cores of a process."""
_TOLD = 1000
"""Failures that a summary names, at most; all are in the files of the photos."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a folder of shards holds.

    Attributes:
        photos: of the plan, each in one shard exactly once.
        read_now: photos of the shards that were made in this run.
        shards: how many there are.
        faces: in all photos.
        without_face: photos in which no face was found.
        unreadable: photos that could not be read.
        failures: name and reason of the first thousand of these.
        embedding_size: numbers of an embedding.
        model: fingerprint of the model.
    """

    photos: int
    read_now: int
    shards: int
    faces: int
    without_face: int
    unreadable: int
    failures: tuple[tuple[str, str], ...]
    embedding_size: int
    model: str


Run = Callable[[Plan, Sequence[int], Callable[[int], object]], None]


def embed(
    photos: Iterable[str | os.PathLike[str]],
    folder: Path,
    source: Source,
    *,
    lists: Iterable[Path] = (),
    shard_size: int = SHARD_SIZE,
    run: Run | None = None,
    started: Callable[[int], object] = lambda photos: None,
    progress: Callable[[int], object] = lambda photos: None,
) -> Summary:
    """Embed the faces of photos into a folder of shards, on many processes; what is done already is not done again.

    A script that calls it needs `if __name__ == "__main__":`, for the processes import the script too.

    Args:
        photos: files, folders and archives, see `plan.gather`.
        folder: made where it is missing.
        source: of the model and detector.
        lists: text files with one path a line.
        shard_size: photos of a shard, >= 1; shards that were planned before stay.
        run: makes shards of a plan; `None` takes the processes of `local`.
        started: called once with the number of photos that must be read.
        progress: called with the photos that were read since the last call.

    Raises:
        DataError: there is no photo, the folder holds embeddings of another model or detector, another run is writing
            to it, or it does not account for every photo.
        ImageError: a path does not exist.
        ModelError: the model cannot be used.
        OSError: the folder cannot be written; shards that are done stay.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from skimage import data
        >>> with tempfile.TemporaryDirectory() as place:
        ...     Image.fromarray(data.astronaut()).save(Path(place, "a.png"))
        ...     summary = embed([place], Path(place, "faces"), Source())
        >>> summary.photos, summary.faces, summary.failures
        (1, 1, ())
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is no folder; choose another name with -o.")
    settings, size = reader.settings(source)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        shards.sweep(folder)
        plan = plans.make(folder, settings, plans.gather(photos, lists), shard_size)
        missing = [shard for shard in range(len(plan.sizes)) if not shards.finished(plan, shard)]
        read_now = sum(plan.sizes[shard] for shard in missing)
        started(read_now)
        try:
            if missing:
                (run or local(source))(plan, missing, progress)
        finally:
            shards.sweep(folder)
        return _summary(plan, read_now, size)


def local(source: Source, processes: int | None = None) -> Run:
    """Processes of this machine.

    Args:
        source: of the model and detector.
        processes: how many; `None` for all cores.
    """
    cores = os.cpu_count() or 1

    def run(plan: Plan, missing: Sequence[int], progress: Callable[[int], object]) -> None:
        count = min(processes or max(1, cores // THREADS), len(missing))
        with Crew(plan, source, count, max(1, cores // count)) as crew:
            crew.run(missing, progress)

    return run


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with io.locked(folder / ".lock"):
            yield
    except BlockingIOError as error:
        raise DataError(f"another run is writing to {folder}; wait for its end, or choose another folder.") from error


def _summary(plan: Plan, read_now: int, size: int) -> Summary:
    """Account for every photo of the plan."""
    photos = faces = without_face = unreadable = 0
    failures: list[tuple[str, str]] = []
    for shard in range(len(plan.sizes)):
        found = shards.count(plan, shard)
        photos, faces = photos + found.photos, faces + found.faces
        without_face += found.without_face
        unreadable += len(found.failures)
        failures += found.failures[: _TOLD - len(failures)]
    return Summary(
        *(photos, read_now, len(plan.sizes), faces, without_face, unreadable, tuple(failures)),
        embedding_size=size,
        model=plan.settings.model,
    )
