"""Time, memory and F of graph clustering from 10,000 faces to a million, beside peers.

    python benchmarks/clustering.py -o docs/results/speed/clustering.json         # 10,000 and 100,000, with peers
    python benchmarks/clustering.py --full -o docs/results/speed/clustering.json  # and a million

Every run is a process of its own, whose peak memory includes the faces themselves. Peers are given the exact
neighbours or all faces, and are left out where they are not installed or would take hours. A second run keeps what the
first wrote, if it was made by the same command.

The faces are synthetic, 512 numbers each: cosines of different people have a standard deviation of 0.085, those of one
person a mean of 0.59; people have 2 to 2,000 faces, with a heavy tail, and a fifth of the faces are of people with one
face only. The magnitude falls with the noise of a face: the poorest are far from everybody.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from magface import io
from magface.cluster import average_linkage, neighbours
from magface.cluster.graph import leiden
from magface.metrics.clustering import pairwise
from magface.types import Embeddings

SIZE = 512
THRESHOLD = 0.35
DENSE = 0.5
"""Cosine for DBSCAN, which joins two people by one pair of faces."""
K = 32
LARGEST = 2000
METHODS = {
    "leiden": 10**6,
    "leiden, magnitude": 10**6,
    "leiden, exact neighbours": 10**5,
    "average linkage": 10**4,
    "scikit-learn DBSCAN": 10**4,
    "scikit-learn HDBSCAN": 10**4,
    "igraph Leiden CPM, exact neighbours": 10**5,
}
"""Each with the most faces that it is run on."""


def main() -> None:
    """Measure each method at each size, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="a million faces too: half an hour and 8 GiB")
    parser.add_argument("-o", "--output", type=Path, help="JSON to write, and to go on from")
    parser.add_argument("--faces", type=int, nargs="+", default=[10**4, 10**5], help="numbers of faces")
    parser.add_argument("--method", choices=METHODS, help="this one only")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of BLAS and faiss")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FACES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], int(options.one[1]))))
        return
    lines = kept(options.output)
    for count in [*options.faces, *([10**6] if options.full else [])]:
        done = {line["method"] for line in lines if line["faces"] == count}
        for method in [
            name
            for name, most in METHODS.items()
            if count <= most and name not in done and options.method in (None, name)
        ]:
            if line := alone(method, count, options.threads):
                lines.append({**line, "threads": options.threads, "processor": platform.processor()})
            if options.output:
                text = json.dumps({"command": "python benchmarks/clustering.py --full", "lines": lines}, indent=2)
                options.output.parent.mkdir(exist_ok=True)
                io.write_atomic(options.output, f"{text}\n")
    print(table(lines))


def kept(path: Path | None) -> list[dict[str, Any]]:
    """Lines that an earlier run wrote."""
    return json.loads(path.read_text())["lines"] if path and path.exists() else []


def alone(method: str, count: int, threads: int) -> dict[str, Any] | None:
    """The line of a new process; None where the method is not installed."""
    command = [sys.executable, __file__, "--one", method, str(count)]
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))}
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)


def measured(method: str, count: int) -> dict[str, Any] | None:
    """Time, peak memory and F of one method."""
    faces, person = synthetic(count)
    try:
        start, before = time.perf_counter(), time.process_time()
        groups, parts = run(method, faces)
        seconds = time.perf_counter() - start
        busy = time.process_time() - before
    except ModuleNotFoundError as error:
        print(f"{method}: {error}", file=sys.stderr)
        return None
    score = pairwise(person, alone_where_unknown(groups))
    return {
        "method": method,
        "faces": count,
        "seconds": round(seconds, 2),
        "seconds of processor": round(busy, 2),
        **{name: round(value, 2) for name, value in parts.items()},
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "faces GiB": round(faces.vectors.nbytes / 2**30, 2),
        "groups": len(np.unique(groups)),
        "people": len(np.unique(person)),
        **{name: round(getattr(score, name), 4) for name in ("precision", "recall", "f")},
    }


def run(method: str, faces: Embeddings) -> tuple[np.ndarray, dict[str, float]]:
    """Groups, and the seconds of parts."""
    match method:
        case "average linkage":
            return average_linkage(faces, THRESHOLD), {}
        case "scikit-learn DBSCAN":
            from sklearn.cluster import DBSCAN

            return DBSCAN(eps=1 - DENSE, min_samples=2, metric="cosine").fit_predict(faces.vectors), {}
        case "scikit-learn HDBSCAN":
            from sklearn.cluster import HDBSCAN

            return HDBSCAN(min_cluster_size=2, copy=True).fit_predict(faces.direction), {}
    start = time.perf_counter()
    found = neighbours.exact(faces, K) if "exact" in method else neighbours.approximate(faces, K, floor=THRESHOLD)
    parts = {"seconds of neighbours": time.perf_counter() - start}
    if method.startswith("igraph"):
        return igraph_leiden(found), parts
    return leiden(faces, THRESHOLD, neighbours=found, weighting="magnitude" if "magni" in method else "unit"), parts


def igraph_leiden(found: neighbours.Neighbours) -> np.ndarray:
    """Leiden of igraph on the same graph: the constant Potts model of the neighbours alone."""
    import igraph

    one, column = np.nonzero(found.cosine >= THRESHOLD)
    other = found.index[one, column]
    count = len(found)
    pairs, first = np.unique(np.minimum(one, other) * count + np.maximum(one, other), return_index=True)
    graph = igraph.Graph(n=count, edges=np.stack([pairs // count, pairs % count], axis=1))
    weights = found.cosine[one, column][first].astype(float)
    result = graph.community_leiden("CPM", weights=weights, resolution=THRESHOLD, n_iterations=5)
    return np.array(result.membership)


def alone_where_unknown(groups: np.ndarray) -> np.ndarray:
    """Labels in which each face of no group is one of its own."""
    return np.where(groups < 0, np.arange(len(groups)) + len(groups), groups)


def synthetic(count: int, seed: int = 0) -> tuple[Embeddings, np.ndarray]:
    """Faces and who is on each; see the head of this file."""
    rng = np.random.default_rng(seed)
    sizes: list[int] = []
    left = int(count * 0.8)
    while left:
        sizes.append(min(int(2 + 4 * rng.pareto(1.2)), LARGEST, left))
        left -= sizes[-1]
    people = len(sizes) + count - sum(sizes)
    person = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.arange(len(sizes), people)])
    person = rng.permutation(person)
    axes = np.where(np.arange(SIZE) < 80, 1, 0.25).astype(np.float32)
    centres = drawn(rng, people, axes)
    magnitude = np.exp(rng.normal(math.log(22), 0.25, count)).astype(np.float32)
    vectors = np.empty((count, SIZE), np.float32)
    for start in range(0, count, 8192):
        rows = slice(start, start + 8192)
        noise = 0.8 * (22 / magnitude[rows]) ** 1.5
        vectors[rows] = centres[person[rows]] + drawn(rng, len(noise), axes) * noise[:, None]
        vectors[rows] *= (magnitude[rows] / np.linalg.norm(vectors[rows], axis=1))[:, None]
    return Embeddings(vectors), person


def drawn(rng: np.random.Generator, count: int, axes: np.ndarray) -> np.ndarray:
    """Random directions that are wider along some axes."""
    result = rng.standard_normal((count, SIZE), dtype=np.float32) * axes
    return result / np.linalg.norm(result, axis=1, keepdims=True)


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = (
        "| faces | method | seconds | of them neighbours | of processor | peak GiB | groups | precision | recall | F |"
    )
    rows = [
        f"| {line['faces']:,} | {line['method']} | {line['seconds']:.1f} | {line.get('seconds of neighbours', '')} "
        f"| {line['seconds of processor']:.0f} "
        f"| {line['peak GiB']:.1f} | {line['groups']:,} | {line['precision']:.4f} | {line['recall']:.4f} "
        f"| {line['f']:.4f} |"
        for line in sorted(lines, key=lambda line: (line["faces"], list(METHODS).index(line["method"])))
    ]
    return "\n".join([head, "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", *rows])


if __name__ == "__main__":
    main()
