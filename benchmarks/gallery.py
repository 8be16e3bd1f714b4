"""Speed of galleries beside others that search vectors, on the same made-up faces.

    python benchmarks/gallery.py [exact half approximate flat graph lance milvus store] [--people 100000 | --full]

The vectors are like faces, not random: the cosines of different people spread by 0.09 around 0.1 and those of one
person by 0.1 around 0.68, as the shipped model's do on LFW, whose 128 numbers have an effective dimension of 114
(participation ratio); here 512 numbers have it, each axis with less variance than the one before. One face of everybody
is enrolled, another one of some is searched. Directions drawn evenly would have no structure for an approximate index
to use, and no gap between the person and the others.

Every part runs in a new process on the same files; two sides of a ratio alternate there, and the ratio is the median of
the rounds. The floor is the time in which all cores read as many bytes. Libraries that are not installed are left out.
`--full` is 1,000,000 people without those that take more than minutes to build; with files it takes 10 GB of disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from magface.gallery import Entry, index, open_gallery
from magface.gallery.index.exact import threads
from magface.gallery.records import Settings
from magface.geometry import direction
from magface.models import card as cards
from magface.models import default

DIM = 512
EFFECTIVE = 114
IMPOSTOR, GENUINE, SPREAD = 0.105, 0.683, 0.10
BATCH = 256
PROBES = 1024
SEARCHED = 300
"""Probes by which recalls of graphs and tables are measured, one by one."""
BLOCK = 50_000
DURABLE = 200
PACKAGES = ("magface", "numpy", "faiss-cpu", "numkong", "hnswlib", "usearch", "lancedb", "pymilvus", "milvus-lite")


@dataclass(frozen=True)
class Line:
    """One measured number and what it should reach with a million people on two idle cores."""

    name: str
    value: float
    unit: str
    target: str = ""
    reached: bool | None = None
    note: str = ""


def main() -> None:
    """Measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), help="what to measure (default: all)")
    parser.add_argument("--people", type=int, default=100_000, help="who is enrolled (default: 100,000)")
    parser.add_argument("--full", action="store_true", help="1,000,000 people; graph and milvus only where named")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each ratio (default: 5)")
    parser.add_argument("--scratch", type=Path, help="where vectors and galleries go; vectors there are used again")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.full:
        options.people = 1_000_000
    if options.people < 20_000:
        parser.error("--people is 20,000 at least: fewer are searched before a clock can tell.")
    if options.step:
        step, folder = options.step
        lines = [asdict(line) for line in STEPS[step](Path(folder), options)]
        print(json.dumps({"lines": lines, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return
    parts = options.parts or [part for part in PARTS if not (options.full and part in ("graph", "milvus"))]
    about = {
        "people": options.people,
        "dimension": DIM,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES if installed(name)},
    }
    if options.format == "json":
        print(json.dumps({**about, "lines": [asdict(line) for line in measured(options, parts)]}, indent=2))
        return
    print(f"{options.people:,} people of {DIM} numbers, {about['cores']} cores, Python {about['python']}")
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()))
    for line in measured(options, parts):
        said = "" if line.reached is None else "yes" if line.reached else "no"
        print(f"{line.name:62} {line.value:12,.2f} {line.unit:10} {line.target:>9}  {said:4} {line.note}", flush=True)


def installed(name: str) -> bool:
    """Whether a distribution is there."""
    try:
        return bool(version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def measured(options: argparse.Namespace, parts: list[str]) -> Iterator[Line]:
    """Lines of the parts, each from a process of its own."""
    with tempfile.TemporaryDirectory(prefix="gallery-") as temporary:
        folder = options.scratch or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("make", *parts):
            missing = [name for name in NEEDS.get(part, ()) if not importlib.util.find_spec(name)]
            if missing:
                print(f"{part} is left out: {', '.join(missing)} is not installed.", file=sys.stderr)
                continue
            given = ["--people", options.people, "--rounds", options.rounds, "--step", part, folder]
            command = [str(word) for word in (sys.executable, __file__, *given)]
            process = subprocess.run(command, stdout=subprocess.PIPE, check=False)
            if process.returncode:
                print(f"the part {part!r} failed, perhaps for lack of memory or disk.", file=sys.stderr)
                continue
            found = json.loads(process.stdout.splitlines()[-1])
            yield from (Line(**line) for line in found["lines"])
            if found["lines"]:
                yield Line(f"{part}, peak memory", found["peak"], "GiB")


# the vectors


def make(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """Faces of people, and other faces of some of them."""
    if (folder / "people.npy").exists() and len(np.load(folder / "people.npy", mmap_mode="r")) == options.people:
        return
    rng = np.random.default_rng(0)
    deviation = np.exp(-np.arange(DIM) / EFFECTIVE)
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    axes = np.asarray((deviation / np.linalg.norm(deviation))[:, None] * turn, np.float32)
    common = np.asarray(np.sqrt(IMPOSTOR / (1 - IMPOSTOR)) * turn[-1], np.float32)

    def drawn(count: int) -> Any:
        return rng.standard_normal((count, DIM), dtype=np.float32) @ axes

    def faces(centres: Any) -> Any:
        near = np.clip(rng.normal(np.sqrt(GENUINE), SPREAD / np.sqrt(2 * GENUINE), (len(centres), 1)), 0.3, 0.98)
        other = drawn(len(centres))
        other = direction(other - (other * centres).sum(axis=1, keepdims=True) * centres)
        return (near * centres + np.sqrt(1 - near**2) * other).astype(np.float32)

    shown = np.sort(rng.choice(options.people, PROBES, replace=False))
    people = np.lib.format.open_memmap(folder / "people.npy", "w+", np.float32, (options.people, DIM))
    probes = []
    for start in range(0, options.people, BLOCK):
        centres = direction(drawn(min(BLOCK, options.people - start)) + common)
        people[start : start + BLOCK] = faces(centres)
        here = (shown >= start) & (shown < start + BLOCK)
        probes.append(faces(centres[shown[here] - start]))
    people.flush()
    np.save(folder / "probes.npy", rng.permutation(np.concatenate(probes)))
    yield from ()


def loaded(folder: Path) -> tuple[Any, Any]:
    """People and probes."""
    return np.load(folder / "people.npy"), np.load(folder / "probes.npy")


# timing


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median of our time over the other's, and of both times; each runs once before, unmeasured."""
    ours()
    other()
    times = [(seconds(ours), seconds(other)) for _ in range(rounds)]
    return (
        statistics.median(a / b for a, b in times),
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
    )


def floor(rows: Any) -> Callable[[], object]:
    """Read all bytes with all cores: the greatest of them as integers, which costs nothing beside the reading."""
    flat = rows.reshape(-1).view(np.int32)
    parts, pool = np.array_split(flat, threads()), ThreadPoolExecutor(threads())
    return lambda: list(pool.map(np.max, parts))


def single(search: Callable[[Any], object], probes: Any, rounds: int) -> float:
    """Median milliseconds of one search, of one probe after the other."""
    search(probes[:1])
    return 1000 * statistics.median(seconds(lambda q=q: search(probes[q : q + 1])) for q in range(20 * rounds))


# our index


def compared(people: Any, probes: Any, precision: str, rounds: int) -> Iterator[Line]:
    """Search for one and for many beside what the machine can do at all."""
    made = index.build(np.arange(len(people)), people, Settings(precision=precision))
    one, many = probes[:1], probes[:BATCH]
    by, ours, theirs = ratio(lambda: made.search(one, 10), floor(made.rows.base.rows), 3 * rounds)
    note = f"{1000 * ours:.1f} ms, floor {1000 * theirs:.1f} ms"
    yield Line(f"exact {precision}, one probe / floor of memory", by, "x", "<= 1.3", by <= 1.3, note)
    if precision == "f32":
        by, _, _ = ratio(lambda: made.search(one, 10), lambda: people @ probes[0], 3 * rounds)
        yield Line(f"exact {precision}, one probe / plain matrix product", by, "x")
    by, ours, theirs = ratio(lambda: made.search(many, 10), lambda: many @ people.T, rounds)
    note = f"{BATCH} probes {ours:.2f} s, product in f32 {theirs:.2f} s"
    yield Line(f"exact {precision}, batch / plain matrix product", by, "x", "<= 1.3", by <= 1.3, note)


def exact(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """The exact index in float32."""
    people, probes = loaded(folder)
    yield from compared(people, probes, "f32", options.rounds)


def half(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """The exact index in float16."""
    people, probes = loaded(folder)
    yield from compared(people, probes, "f16", options.rounds)
    whole = index.build(np.arange(len(people)), people, Settings())
    halves = index.build(np.arange(len(people)), people, Settings(precision="f16"))
    found, truth = halves.search(probes, 1), whole.search(probes, 1)
    yield Line("exact f16, same nearest person as f32", float((found.people == truth.people).mean()), "")
    yield Line("exact f16, greatest error of a cosine", float(np.abs(found.cosine - truth.cosine).max()) * 1e5, "1e-5")


def approximate(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """The approximate index, made, searched, changed, written and mapped."""
    people, probes = loaded(folder)
    ids, settings = np.arange(len(people)), Settings(index="approximate")
    whole, made = index.build(ids, people, Settings()), index.build(ids, people, settings)
    yield Line("approximate, made", seconds(made.learn), "s", note=f"{made.learned.candidates} candidates")
    truth = whole.search(probes, 10).people
    found = made.search(probes, 10).people
    recall = float((made.search(probes, 1).people == truth[:, :1]).mean())
    yield Line("approximate, recall@1", recall, "", ">= 0.99", recall >= 0.99, f"{len(probes)} probes")
    recall = float((found[:, :, None] == truth[:, None]).any(axis=1).mean())
    yield Line("approximate, recall@10", recall, "", note="9 of the 10 are not the person")
    by, theirs, ours = ratio(
        lambda: whole.search(probes[:1], 1), lambda: made.search(probes[:1], 1), 3 * options.rounds
    )
    note = f"{1000 * ours:.2f} ms, exact {1000 * theirs:.1f} ms"
    yield Line("exact / approximate, one probe", by, "x", ">= 10", by >= 10, note)
    by, theirs, ours = ratio(
        lambda: whole.search(probes[:BATCH], 1), lambda: made.search(probes[:BATCH], 1), options.rounds
    )
    yield Line("exact / approximate, batch", by, "x", note=f"{BATCH} probes {ours:.2f} s, exact {theirs:.2f} s")
    path = folder / "faces.index"
    yield Line("approximate, written", seconds(lambda: index.save(made, path, "a", 1)), "s")
    start = time.perf_counter()
    mapped, _ = index.load(path, "a", DIM, settings)
    opened = time.perf_counter() - start
    first = seconds(lambda: mapped.search(probes[:1], 1))
    yield Line("approximate, mapped and first search", opened + first, "s", note=f"mapped in {1000 * opened:.1f} ms")
    took = seconds(lambda: [mapped.put(ids[-1:] + 1 + n, people[n : n + 1]) for n in range(5000)])
    yield Line("approximate, people put one by one", 5000 / took, "a second")
    path.unlink()


# others


def flat(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """Faiss, which compares with everybody, in float32 and float16."""
    import faiss

    people, probes = loaded(folder)
    ours = index.build(np.arange(len(people)), people, Settings())
    other = faiss.IndexFlatIP(DIM)
    other.add(people)
    for name, some, rounds in (
        ("one probe", probes[:1], 3 * options.rounds),
        ("batch", probes[:BATCH], options.rounds),
    ):
        by, a, b = ratio(lambda some=some: other.search(some, 10), lambda some=some: ours.search(some, 10), rounds)
        yield Line(f"faiss flat / exact f32, {name}", by, "x", note=f"{1000 * a:.1f} ms, ours {1000 * b:.1f} ms")
    del other
    ours = index.build(np.arange(len(people)), people, Settings(precision="f16"))
    other = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    other.train(people[:1000])
    other.add(people)
    by, a, b = ratio(lambda: other.search(probes[:1], 10), lambda: ours.search(probes[:1], 10), 3 * options.rounds)
    yield Line("faiss fp16 / exact f16, one probe", by, "x", note=f"{1000 * a:.1f} ms, ours {1000 * b:.1f} ms")


def graph(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """Graphs of neighbours, HNSW: built, and searched as far as it takes to find 99 of 100."""
    people, probes = loaded(folder)
    probes = probes[:SEARCHED]
    truth = index.build(np.arange(len(people)), people, Settings()).search(probes, 1).people
    ours = index.build(np.arange(len(people)), people, Settings(index="approximate"))
    yield Line("our approximate, made", seconds(ours.learn), "s")
    yield from against(
        lambda probe: ours.search(probe, 1).people, "our approximate", probes, truth, [1], lambda _: None
    )
    if importlib.util.find_spec("hnswlib"):
        import hnswlib

        found = hnswlib.Index("ip", DIM)
        found.init_index(len(people), M=32, ef_construction=200)
        took = seconds(lambda: found.add_items(people, np.arange(len(people))))
        yield Line("hnswlib, built", took, "s", note="M 32, ef 200")
        yield from against(lambda probe: found.knn_query(probe, 1)[0], "hnswlib", probes, truth, EFS, found.set_ef)
        del found
    if importlib.util.find_spec("usearch"):
        from usearch.index import Index

        other = Index(ndim=DIM, metric="ip", dtype="f16", connectivity=32, expansion_add=200)
        took = seconds(lambda: other.add(np.arange(len(people)), people, threads=threads()))
        yield Line("usearch f16, built", took, "s", note="connectivity 32, expansion 200")

        def widen(ef: int) -> None:
            other.expansion_search = ef

        yield from against(
            lambda probe: np.atleast_2d(other.search(probe, 1).keys), "usearch f16", probes, truth, EFS, widen
        )


EFS = (32, 64, 128, 256, 512, 1024, 2048)


def against(
    search: Callable[[Any], Any], name: str, probes: Any, truth: Any, efforts: Any, set_effort: Callable[[int], object]
) -> Iterator[Line]:
    """Time of one search with the least effort that finds 99 of 100."""
    for effort in efforts:
        set_effort(effort)
        found = np.concatenate([search(probes[q : q + 1]) for q in range(len(probes))])
        recall = float((found == truth).mean())
        if recall >= 0.99:
            break
    took = 1000 * statistics.median(seconds(lambda q=q: search(probes[q : q + 1])) for q in range(len(probes)))
    yield Line(f"{name}, one probe", took, "ms", note=f"recall@1 {recall:.3f}, effort {effort}")


def lance(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """LanceDB, without an index and with IVF-PQ."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfPq

    people, probes = loaded(folder)
    probes = probes[:SEARCHED]
    truth = index.build(np.arange(len(people)), people, Settings()).search(probes, 1).people

    def batches() -> Iterator[Any]:
        for start in range(0, len(people), BLOCK):
            part = people[start : start + BLOCK]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), DIM)
            yield pa.record_batch([pa.array(np.arange(start, start + len(part))), vectors], ["id", "vector"])

    with tempfile.TemporaryDirectory(dir=folder) as place:
        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), DIM))])
        start = time.perf_counter()
        table = lancedb.connect(place).create_table("faces", batches(), schema=schema)
        yield Line("LanceDB, written", len(people) / (time.perf_counter() - start), "a second")

        def search(probe: Any, effort: int = 0) -> Any:
            asked = table.search(probe[0]).distance_type("dot").limit(1).select(["id", "_distance"])
            asked = asked.nprobes(effort).refine_factor(20) if effort else asked
            return np.array(asked.to_arrow()["id"].to_numpy())[None]

        few = probes[:20]
        took = 1000 * statistics.median(seconds(lambda q=q: search(few[q : q + 1])) for q in range(len(few)))
        yield Line("LanceDB without an index, one probe", took, "ms")
        config = IvfPq(distance_type="dot", num_sub_vectors=64, num_partitions=256)
        took = seconds(lambda: table.create_index("vector", config=config))
        yield Line("LanceDB IVF-PQ, built", took, "s")
        efforts: list[int] = [0]

        def tried(probe: Any) -> Any:
            return search(probe, efforts[0])

        yield from against(
            tried, "LanceDB IVF-PQ", probes, truth, (16, 64, 256), lambda effort: efforts.__setitem__(0, effort)
        )


def milvus(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """Milvus Lite, which compares with everybody."""
    from pymilvus import MilvusClient

    people, probes = loaded(folder)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        client = MilvusClient(str(Path(place, "faces.db")))
        client.create_collection("faces", dimension=DIM, metric_type="IP", auto_id=False)
        start = time.perf_counter()
        for first in range(0, len(people), 2000):
            part = people[first : first + 2000]
            client.insert("faces", [{"id": first + n, "vector": vector} for n, vector in enumerate(part)])
        yield Line("Milvus Lite, written", len(people) / (time.perf_counter() - start), "a second")
        few = probes[:20]
        took = single(lambda probe: client.search("faces", probe, limit=1), few, 1)
        yield Line("Milvus Lite, one probe", took, "ms")
        client.close()


# the gallery


def store(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """A gallery in a file: filled, opened, added to."""
    people, probes = loaded(folder)
    card = dataclasses.replace(cards.read(default.path())[0], embedding_size=DIM)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place, "faces.db")
        entries = (Entry(f"person {n}", 10 * vector, 50.0) for n, vector in enumerate(people))
        with open_gallery(path, card, create=True) as made:
            took = seconds(lambda: made.enroll(entries, check=False))
            rate = len(people) / took
            note = "without comparing faces with others"
            yield Line("gallery, enrolled in bulk", rate, "a second", ">= 20,000", rate >= 20_000, note)
            first = seconds(lambda: made.search(probes[:1], k=1))
            yield Line("gallery, first search ever, which makes the index", first, "s")
        opened = [seconds(lambda: open_and_search(path, probes[:1])) for _ in range(options.rounds)]
        took = statistics.median(opened)
        yield Line("gallery, opened and searched once", took, "s", "< 2", took < 2, f"slowest {max(opened):.2f} s")
        with open_gallery(path) as made:
            made.search(probes[:1], k=1)
            for check in (False, True):
                took = 1000 * statistics.median(
                    seconds(
                        lambda n=n, check=check: made.enroll([Entry(f"{check} {n}", 9 * people[n], 50.0)], check=check)
                    )
                    for n in range(DURABLE if not check else 10)
                )
                name = "compared with everybody, and durable" if check else "durable"
                target = {} if check else {"target": "< 5", "reached": took < 5}
                yield Line(f"gallery, one person enrolled, {name}", took, "ms", **target)
            for k in (1, 10):
                took = single(lambda probe, k=k: made.search(probe, k=k), probes, 1)
                yield Line(f"gallery, one search, k {k}", took, "ms")


def open_and_search(path: Path, probes: Any) -> None:
    """What a command does."""
    with open_gallery(path) as made:
        made.search(probes, k=1)


PARTS = ("exact", "half", "approximate", "flat", "graph", "lance", "milvus", "store")
NEEDS = {
    "approximate": ("faiss",),
    "flat": ("faiss",),
    "graph": ("faiss",),
    "lance": ("lancedb",),
    "milvus": ("pymilvus", "milvus_lite"),
}
STEPS = {
    "make": make,
    "exact": exact,
    "half": half,
    "approximate": approximate,
    "flat": flat,
    "graph": graph,
    "lance": lance,
    "milvus": milvus,
    "store": store,
}

if __name__ == "__main__":
    main()
