"""The same job on a Ray cluster: a data set of shard numbers, and actors that each hold a process that reads.

Actors are restarted and shards tried again by Ray; a shard is a file that is written whole under its own name, so an
actor or node that dies loses nothing, and one that is tried twice is there once. What a photo can do to the process
that reads it stays between that process and its actor, see `crew`.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from magface.bulk import shards
from magface.bulk.crew import Crew
from magface.bulk.job import THREADS, Run
from magface.bulk.plan import PLAN, Plan
from magface.bulk.reader import Source
from magface.errors import DataError, MagfaceError

_SECONDS = 10.0
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


def on_ray(address: str, source: Source, processes: int | None = None) -> Run:
    """Makes shards on a Ray cluster.

    Photos, model and folder must lie where every machine of the cluster finds them under the same path, and each needs
    this package.

    Args:
        address: of the cluster: `host:port` or `ray://host:port`; `auto` for the one on this machine, `local` for a new
            one that ends with the job.
        source: of the model and detector.
        processes: in the whole cluster; `None` for all its cores.

    Returns:
        What `job.embed` runs. It raises `DataError` where there is no cluster.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    import ray
    import ray.data
    from ray.exceptions import RayError

    def run(plan: Plan, missing: Sequence[int], progress: Callable[[int], object]) -> None:
        with _cluster(address):
            cores = int(ray.cluster_resources().get("CPU", 1))
            count = max(1, min(processes or cores // THREADS, len(missing)))
            threads = max(1, min(THREADS, cores // count))
            numbers = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
            made = numbers.map_batches(
                _Actor,
                fn_constructor_args=(str(plan.folder.absolute()), source, threads),
                batch_size=1,
                num_cpus=threads,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count, max_tasks_in_flight_per_actor=2),
            )
            try:
                for row in made.iter_rows():
                    if row["error"]:
                        raise DataError(row["error"])
                    progress(plan.sizes[row["shard"]])
            except RayError as error:
                reason = str(error).strip().partition("\n")[0].rstrip(".")
                raise DataError(f"the Ray cluster failed ({reason}); run again, what is done is kept.") from error

    return run


class _Actor:
    """One process of the cluster, with its reader."""

    def __init__(self, folder: str, source: Source, threads: int) -> None:
        self._folder, self._source, self._threads = Path(folder), source, threads
        self._crew: Crew | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The shards are made; what goes wrong comes back as a sentence, as Ray would try an exception again."""
        try:
            self._make(batch["shard"].tolist())
            error = ""
        except MagfaceError as wrong:
            error = str(wrong)
        except OSError as wrong:
            error = f"cannot use {wrong.filename} ({wrong.strerror}); check the path and the room there."
        return {"shard": batch["shard"], "error": [error] * len(batch["shard"])}

    def _make(self, numbers: list[int]) -> None:
        if not (self._folder / PLAN).exists():
            machine = platform.node()
            raise DataError(f"the machine {machine} has no {self._folder}; choose a folder that all machines share.")
        plan = Plan(self._folder)
        self._crew = self._crew or Crew(plan, self._source, 1, self._threads)
        self._crew.run(number for number in numbers if not shards.finished(plan, number))


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Be connected to a cluster, in silence and without telling anybody."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray.data

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):  # Ray prints there which actors died
        if ray.is_initialized():
            yield
            return
        _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    more = {"include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        with _hushed():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0].rstrip(".")
        raise DataError(f"there is no Ray cluster at {address} ({reason}); start one, or give --ray local.") from error


def _knock(address: str) -> None:
    """See whether anybody listens: Ray itself would try for many minutes, in silence.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal() and int(port) < 1 << 16:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the remarks of Ray's compiled part, which know no level, from stderr while it starts."""
    saved = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)
