"""Speed of `magface embed` into a folder of shards, beside the network alone on all cores.

    python benchmarks/embedding.py CROPS [--photos PHOTOS] [--limit N] [--rounds N] [--processes P]

The network runs in OpenVINO on crops in memory, in whole batches, as fast as it can; the job reads files, starts its
processes, and writes and checks its shards. Both sides run in turns; each ratio is the median of those of the rounds.
Steady is from the first face on, whole from the start of the job to its end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
from inference import seconds

from magface import images
from magface.bulk import job
from magface.bulk.reader import Source
from magface.models import default

BATCHES = (4, 16)
"""Of the network alone; the faster one counts."""
CROPS = 512


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path, help="folder of aligned crops")
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--limit", type=int, default=4096, help="images that are used at most (default: 4096)")
    parser.add_argument("--shard-size", type=int, default=job.SHARD_SIZE, help="images of a shard")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each ratio (default: 3)")
    parser.add_argument("--processes", type=int, help="processes of the job (default: as many as it takes)")
    options = parser.parse_args()
    paths = images.find([options.crops])[: options.limit]
    networks = [network(np.stack([images.read(path) for path in paths[:CROPS]]), batch) for batch in BATCHES]
    print(f"{os.cpu_count()} cores; images a second, and over those of the network alone")
    measure("aligned crops", paths, Source(aligned=True), networks, options)
    if options.photos:
        measure("photos, by faces", images.find([options.photos])[: options.limit], Source(), networks, options)


def network(crops: np.ndarray, batch: int) -> Callable[[], float]:
    """Gives the crops a second of the network alone."""
    core = openvino.Core()
    model = core.read_model(default.path())
    model.reshape([batch, 112, 112, 3])
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", hints))

    def run() -> None:
        for start in range(0, len(crops) - batch + 1, batch):
            queue.start_async([crops[start : start + batch]], share_inputs=True)
        queue.wait_all()

    run()
    return lambda: len(crops) // batch * batch / seconds(run)


def measure(
    name: str, paths: list[Path], source: Source, networks: list[Callable[[], float]], options: argparse.Namespace
) -> None:
    """Print a line for the steady and the whole job."""
    rates = []
    for _ in range(options.rounds):
        before = max(run() for run in networks)
        steady, whole = embedded(paths, source, options)
        alone = (before + max(run() for run in networks)) / 2
        rates.append((steady / alone, whole / alone, steady, whole, alone))
    middle = [statistics.median(column) for column in zip(*rates, strict=True)]
    print(f"{name}, {len(paths)} files: alone {middle[4]:.0f}/s")
    print(f"  steady {middle[2]:.0f}/s, {middle[0]:.2f}; whole {middle[3]:.0f}/s, {middle[1]:.2f}")


def embedded(paths: list[Path], source: Source, options: argparse.Namespace) -> tuple[float, float]:
    """Faces a second from the first one on, and of the whole job."""
    begun: list[tuple[float, int]] = []

    def progress(count: int) -> None:
        if count and not begun:
            begun.append((time.perf_counter(), count))

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = job.embed(
            paths,
            Path(folder, "faces"),
            source,
            shard_size=options.shard_size,
            run=job.local(source, options.processes),
            progress=progress,
        )
        end = time.perf_counter()
    [(first, count)] = begun
    faces = found.faces
    return faces * (1 - count / len(paths)) / (end - first), faces / (end - start)


if __name__ == "__main__":
    main()
