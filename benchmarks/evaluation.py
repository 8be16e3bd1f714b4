"""Speed and memory of benchmarks at published size, beside the direct way, on synthetic features.

    python benchmarks/evaluation.py [ijb megaface lfw rec edc] [--counts 0.02] [--direct 1] [--full] [--format json]

IJB-C has 469,375 images, 23,124 templates and 15,658,489 pairs, MegaFace 1,000,000 distractors and 3,530 probes; the
default is a fiftieth of that. The direct way follows the described official procedure: features in a text list read
line by line, a loop over templates and media, pairs multiplied row by row in batches, rates at the nearest point of the
ROC. With `--direct` below 1, it reads, fuses and compares only that share, and its seconds are scaled up. `--full` is
all of both, and takes several GB of disk for an hour. Error versus discard has 1,000,000 comparisons and 1,000 levels;
its plain way looks at every level on its own: what is kept, and, where the threshold is picked again, sorted.

Every side runs in a new process, whose greatest memory is the peak; ratios of two ways that one process can hold are
medians of runs that alternate.
"""

from __future__ import annotations

import argparse
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
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, GALLERY, PROBES, PAIRS = 469_375, 3_531, 19_593, 15_658_489
DISTRACTORS, FACESCRUB, CELEBRITIES = 1_000_000, 3_530, 80
COMPARISONS, LEVELS = 1_000_000, 1_000
CROPS = 7_701
"""Images of LFW that its 6,000 pairs name."""
DIM = 512
BATCH = 16
BLOCK = 8_192
FMRS = [10.0**-power for power in range(6, 0, -1)]
FMR = 1e-3
PACKAGES = ("magface", "numpy", "opencv-python-headless", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Line:
    """One measured number and what it should reach at published size on two idle cores."""

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
    parser.add_argument("--counts", type=float, default=0.02, help="share of the published counts (default: 0.02)")
    parser.add_argument("--direct", type=float, default=1.0, help="share of the direct way that is run (default: 1)")
    parser.add_argument("--full", action="store_true", help="published counts, and all of the direct way")
    parser.add_argument("--crops", type=Path, help="lfw, rec: folder or tar of 112x112 crops by person with pairs.txt")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each ratio (default: 3)")
    parser.add_argument("--scratch", type=Path, help="where temporary files go (default: the system's place)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.full:
        options.counts = options.direct = 1.0
    if not (0 < options.counts <= 1 and 0 < options.direct <= 1):
        parser.error("--counts and --direct are shares above 0 and up to 1.")
    if options.step:
        step, folder = options.step
        found = STEPS[step](options, Path(folder))
        print(json.dumps({**found, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return
    lines = [line for part in options.parts or PARTS for line in measured(options, part)]
    about = {
        "counts": options.counts,
        "direct": options.direct,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    if options.format == "json":
        print(json.dumps({**about, "lines": [asdict(line) for line in lines]}, indent=2))
        return
    print(f"{options.counts:g} of the published counts, {about['cores']} cores, Python {about['python']}")
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()))
    for line in lines:
        said = "" if line.reached is None else "yes" if line.reached else "no"
        print(f"{line.name:58} {line.value:9.2f} {line.unit:4} {line.target:>8}  {said:4} {line.note}")


def measured(options: argparse.Namespace, part: str) -> Iterator[Line]:
    """Lines of one part; its files are gone afterwards."""
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="evaluation-") as folder:

        def run(step: str) -> dict[str, Any]:
            given = ["--counts", options.counts, "--direct", options.direct, "--rounds", options.rounds]
            crops = [] if options.crops is None else ["--crops", options.crops]
            command = [sys.executable, __file__, *given, *crops, "--step", step, folder]
            process = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=False)
            if process.returncode:
                sys.exit(f"the step {step!r} failed, perhaps for lack of memory or disk; try smaller --counts.")
            return json.loads(process.stdout.splitlines()[-1])

        yield from PARTS[part](run)


Run = Callable[[str], dict[str, Any]]


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compared(other: Callable[[], object], ours: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median of the other's time over ours, and of our seconds; each runs once before, unmeasured."""
    other()
    ours()
    times = [(seconds(other), seconds(ours)) for _ in range(rounds)]
    return {"ratio": statistics.median(a / b for a, b in times), "seconds": statistics.median(b for _, b in times)}


# IJB-C


def ijb_lines(run: Run) -> Iterator[Line]:
    """1:1 and 1:N on one synthetic IJB-C."""
    made = run("make ijb")
    one, every, many, direct = (run(step) for step in ("1:1", "1:1, every fusion", "1:N", "direct 1:1"))
    note = "{images:,} images, {templates:,} templates, {pairs:,} pairs".format(**made)
    yield Line("IJB-C 1:1, one fusion, from features to rates", one["seconds"], "s", "< 60", one["seconds"] < 60, note)
    yield Line("IJB-C 1:1, one fusion, peak memory", one["peak"], "GiB", "< 4", one["peak"] < 4)
    yield Line("IJB-C 1:1, every fusion", every["seconds"], "s", "< 60", every["seconds"] < 60)
    yield Line("IJB-C 1:1, every fusion, peak memory", every["peak"], "GiB", "< 4", every["peak"] < 4)
    steps = ("lists", "features", "fusing", "comparing", "rates")
    total = sum(direct[step] for step in steps)
    ratio, spared = total / one["seconds"], (total - direct["features"]) / one["seconds"]
    note = ", ".join(f"{step} {direct[step]:.0f} s" for step in steps)
    note += "" if direct["share"] == 1 else f"; scaled up from {direct['share']:g} of the work"
    yield Line("IJB-C 1:1, direct way / ours", ratio, "x", ">= 10", ratio >= 10, note)
    yield Line("IJB-C 1:1, direct way without its text features / ours", spared, "x")
    yield Line("IJB-C 1:1, direct way, peak memory", direct["peak"], "GiB")
    if direct["share"] == 1:
        pairs = [(a, b) for a, b in zip(one["tar"], direct["tar"], strict=True) if a is not None]
        gap = max(abs(a - b) for a, b in pairs)
        yield Line("IJB-C 1:1, greatest difference of the rates", gap, "", note="exact against the nearest FMR")
    note = "{gallery:,} gallery templates, {probes:,} probes".format(**made)
    yield Line("IJB-C 1:N, from features to rates", many["seconds"], "s", "< 20", many["seconds"] < 20, note)
    yield Line("IJB-C 1:N, peak memory", many["peak"], "GiB", "< 4", many["peak"] < 4)


def make_ijb(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Lists and features of people whose images scatter about a centre; as many as in IJB-C, times `--counts`."""
    rng = np.random.default_rng(0)
    gallery, probes = (max(20, round(options.counts * count)) for count in (GALLERY, PROBES))
    person = np.append(np.arange(gallery), rng.integers(0, gallery, probes))
    ids = np.sort(rng.choice(10 * len(person), len(person), replace=False)) + 1
    images = max(len(person), round(options.counts * IMAGES))
    template = np.sort(np.append(np.arange(len(person)), rng.integers(0, len(person), images - len(person))))
    names = [f"{number}.jpg" for number in range(1, images + 1)]
    (folder / "meta").mkdir()

    def write(name: str, rows: Iterator[str]) -> None:
        with (folder / "meta" / f"ijbc_{name}").open("w") as file:
            file.writelines(rows)

    media = rng.integers(0, 8, images) + 1
    columns = zip(names, ids[template].tolist(), media.tolist(), strict=True)
    write("face_tid_mid.txt", (f"{name} {tid} {mid}\n" for name, tid, mid in columns))
    points = " ".join(["30.123 45.678"] * 5)
    write("name_5pts_score.txt", (f"{name} {points} 0.987\n" for name in names))
    entries = [(int(ids[row]), int(person[row])) for row in range(len(person))]
    middle = gallery // 2
    for name, rows in (
        ("gallery_G1", slice(0, middle)),
        ("gallery_G2", slice(middle, gallery)),
        ("probe_mixed", slice(gallery, None)),
    ):
        lines = (f"{template},{subject}\n" for template, subject in entries[rows])
        write(f"1N_{name}.csv", iter(["TEMPLATE_ID,SUBJECT_ID\n", *lines]))
    pairs = min(gallery * probes, max(1000, round(options.counts * PAIRS)))
    write("template_pair_label.txt", drawn_pairs(ids, person, gallery, pairs, rng))
    centres = rng.standard_normal((gallery, DIM), np.float32)
    array = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, (images, DIM))
    lines = round(options.direct * images)
    with (folder / "features.txt").open("w") as text:
        for start in range(0, images, BLOCK):
            rows = slice(start, min(start + BLOCK, images))
            noise = rng.standard_normal((rows.stop - start, DIM), np.float32) * 3
            array[rows] = (centres[person[template[rows]]] + noise) * rng.uniform(0.5, 1.5, (len(noise), 1))
            for name, row in zip(names[rows], array[rows].tolist(), strict=True):
                if lines > 0:
                    text.write(f"{name} {' '.join(map('{:.6f}'.format, row))}\n")
                    lines -= 1
    array.flush()
    counts = {"images": images, "templates": len(person), "pairs": pairs, "gallery": gallery, "probes": probes}
    return counts


def drawn_pairs(
    ids: np.ndarray, person: np.ndarray, gallery: int, pairs: int, rng: np.random.Generator
) -> Iterator[str]:
    """Every gallery template with its mates and with probes of other people, `pairs` in all."""
    probes = np.arange(gallery, len(person))
    for row, wanted in enumerate(np.diff(np.linspace(0, pairs, gallery + 1).astype(int)).tolist()):
        mates = probes[person[probes] == row][:wanted]
        others = rng.choice(probes[person[probes] != row], wanted - len(mates), replace=False)
        for second, same in [*((m, 1) for m in ids[mates].tolist()), *((o, 0) for o in ids[np.sort(others)].tolist())]:
            yield f"{ids[row]} {second} {same}\n"


def ours(task: str, every: bool) -> Callable[[argparse.Namespace, Path], dict[str, Any]]:
    """Evaluate the features as a user would."""

    def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
        from magface.benchmarks import ijb
        from magface.fusion import WEIGHTINGS

        weightings = WEIGHTINGS if every else ["magface"]
        start = time.perf_counter()
        result = ijb.evaluate_features(folder / "features.npy", folder, weightings=weightings, tasks=[task])
        took = time.perf_counter() - start
        values = {measure.name: measure.value for measure in result.measures}
        return {"seconds": took, "tar": [values.get(f"magface: TAR@FMR={fmr:g}") for fmr in FMRS]}

    return run


def direct(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The described procedure, step by step; seconds of what is run in part are scaled up."""
    times: dict[str, float] = {}
    share = options.direct

    def timed(step: str, work: Callable[[], Any], scale: float = 1.0) -> Any:
        start = time.perf_counter()
        found = work()
        times[step] = times.get(step, 0.0) + (time.perf_counter() - start) / scale
        return found

    def read_features() -> np.ndarray:
        rows = []
        with (folder / "features.txt").open() as file:
            for line in file:
                rows.append(np.array([float(number) for number in line.split()[1:]], np.float32))
        return np.array(rows)

    def list_of(name: str, columns: tuple[int, ...], rows: int | None = None) -> np.ndarray:
        path = folder / "meta" / f"ijbc_{name}"
        return np.loadtxt(path, dtype=np.int64, usecols=columns, max_rows=rows)

    templates, media = timed("lists", lambda: list_of("face_tid_mid.txt", (1, 2))).T
    with (folder / "meta" / "ijbc_template_pair_label.txt").open("rb") as file:
        pairs = sum(1 for _ in file)
    measured_pairs = max(1, round(share * pairs))
    listed = timed("lists", lambda: list_of("template_pair_label.txt", (0, 1, 2), measured_pairs), share)
    features = timed("features", read_features, share)
    if share < 1:
        features = np.load(folder / "features.npy", mmap_mode="r")
    unique = np.unique(templates)
    some = unique[: max(1, round(share * len(unique)))]
    fused = timed("fusing", lambda: template_features(features, templates, media, some), len(some) / len(unique))
    if share < 1:  # what is compared has no say in how long that takes
        fused = np.resize(fused, (len(unique), DIM))
    scores = timed("comparing", lambda: batched_scores(fused, unique, *listed.T[:2]), share)
    tar = timed("rates", lambda: nearest_rates(scores, listed[:, 2]), share)
    return {**times, "share": share, "tar": tar}


def template_features(features: np.ndarray, templates: np.ndarray, media: np.ndarray, unique: np.ndarray) -> np.ndarray:
    """A loop over templates: mean of each medium, its direction, their sum, its direction."""
    fused = np.zeros((len(unique), DIM))
    for count, template in enumerate(unique):
        rows = np.where(templates == template)[0]
        of_template, of_media = features[rows], media[rows]
        parts = [np.mean(of_template[of_media == medium], axis=0) for medium in np.unique(of_media)]
        parts = [part / np.sqrt(np.sum(part**2)) for part in parts]
        fused[count] = np.sum(parts, axis=0)
    return fused / np.sqrt(np.sum(fused**2, axis=1, keepdims=True))


def batched_scores(fused: np.ndarray, unique: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Products of rows, summed, 100,000 pairs at a time."""
    place = np.zeros(unique[-1] + 1, int)
    for count, template in enumerate(unique):
        place[template] = count
    scores = np.zeros(len(first))
    for start in range(0, len(first), 100_000):
        rows = slice(start, start + 100_000)
        scores[rows] = np.sum(fused[place[first[rows]]] * fused[place[second[rows]]], axis=1)
    return scores


def nearest_rates(scores: np.ndarray, label: np.ndarray) -> list[float]:
    """TAR at the point of the ROC whose FMR is nearest to each wanted one, the highest of several."""
    order = np.argsort(-scores, kind="stable")
    same = label[order]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    accepted = np.cumsum(same)[ends]
    tar, fmr = accepted / max(1, accepted[-1]), (1 + ends - accepted) / max(1, len(scores) - accepted[-1])
    return [float(tar[len(fmr) - 1 - np.argmin(np.abs(fmr[::-1] - wanted))]) for wanted in FMRS]


# MegaFace


def megaface_lines(run: Run) -> Iterator[Line]:
    """The crowd against the plain product of the same blocks."""
    made, found = run("make megaface"), run("megaface")
    note = "{distractors:,} distractors, {probes:,} probes, {seconds:.1f} s".format(**{**made, **found})
    ratio = 1 / found["ratio"]
    yield Line("MegaFace / plain blocked product, time", ratio, "x", "<= 1.5", ratio <= 1.5, note)
    held = found["peak"] - found["mapped"]
    yield Line(
        "MegaFace, peak memory beside the mapped features", held, "GiB", note=f"features {found['mapped']:.2f} GiB"
    )


def make_megaface(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Distractors in a file, probes of 80 people."""
    rng = np.random.default_rng(1)
    distractors, probes = (max(200, round(options.counts * count)) for count in (DISTRACTORS, FACESCRUB))
    array = np.lib.format.open_memmap(folder / "distractors.npy", "w+", np.float32, (distractors, DIM))
    for start in range(0, distractors, BLOCK):
        rows = slice(start, min(start + BLOCK, distractors))
        array[rows] = rng.standard_normal((rows.stop - start, DIM), np.float32)
    array.flush()
    centres = rng.standard_normal((CELEBRITIES, DIM), np.float32)
    labels = np.arange(probes) % CELEBRITIES
    np.savez(
        folder / "probes.npz", labels=labels, probes=centres[labels] + rng.standard_normal((probes, DIM), np.float32)
    )
    return {"distractors": distractors, "probes": probes}


def megaface(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both ways in turns, from the mapped file."""
    from magface.geometry import direction
    from magface.metrics.distractors import challenge

    crowd = np.load(folder / "distractors.npy", mmap_mode="r")
    with np.load(folder / "probes.npz") as file:
        probes, labels = file["probes"], file["labels"]
    unit = direction(probes)

    def plain() -> float:
        return max(float((unit @ crowd[start : start + BLOCK].T).max()) for start in range(0, len(crowd), BLOCK))

    sizes = [10**power for power in range(1, 7) if 10**power < len(crowd)] + [len(crowd)]
    found = compared(plain, lambda: challenge(probes, labels, crowd, sizes=sizes), options.rounds)
    return {**found, "mapped": crowd.nbytes / 2**30}


# crops


def lfw_lines(run: Run) -> Iterator[Line]:
    """Files to table against the bare network on the same crops in memory."""
    found = run("lfw")
    note = "{crops:,} crops, {rate:.0f} crops/s".format(**found)
    yield Line(
        "LFW, decode to table / bare network, throughput", found["ratio"], "x", ">= 0.90", found["ratio"] >= 0.9, note
    )


def rec_lines(run: Run) -> Iterator[Line]:
    """Records to pixels against decoding the same bytes in memory."""
    found = run("rec")
    for name, target in (("Pillow", ">= 1"), ("OpenCV", "")):
        for threads in ("as benchmarks read", "one thread"):
            ratio = found[f"{name}, {threads}"]["ratio"]
            note = f"{found['crops'] / found[f'{name}, {threads}']['seconds']:.0f} crops/s"
            reached = ratio >= 1 if target else None
            yield Line(f".rec with decoding / plain {name}, {threads}", ratio, "x", target, reached, note)


def crops_of(options: argparse.Namespace, folder: Path) -> Path:
    """Crops in LFW's form: those given, or places of a public-domain portrait."""
    if options.crops is not None:
        return options.crops
    import cv2
    from skimage import data

    rng = np.random.default_rng(2)
    people = max(20, round(options.counts * CROPS / 2))
    root = folder / "crops"
    for person in range(people):
        (root / f"P{person}").mkdir(parents=True)
        for number in (1, 2):
            x, y = rng.integers(0, 400, 2)
            crop = cv2.cvtColor(data.astronaut()[y : y + 112, x : x + 112], cv2.COLOR_RGB2BGR)
            path = root / f"P{person}" / f"P{person}_{number:04}.jpg"
            cv2.imwrite(str(path), crop, [cv2.IMWRITE_JPEG_QUALITY, 95])
    size = people // 20
    rows = [
        row
        for fold in range(10)
        for row in [
            *(f"P{p}\t1\t2" for p in range(2 * fold * size, 2 * fold * size + size)),
            *(f"P{p}\t1\tP{p + size}\t1" for p in range(2 * fold * size, 2 * fold * size + size)),
        ]
    ]
    (folder / "pairs.txt").write_text("\n".join([f"10\t{size}", *rows]) + "\n")
    return root


def lfw(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both ways in turns; the embeddings are made anew each time."""
    import openvino

    from magface.benchmarks import verification
    from magface.data import image_folder
    from magface.embedder import Embedder
    from magface.models import default

    root = crops_of(options, folder)
    embedder = Embedder(engine="openvino")
    embedded: list[int] = []

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            found = verification.evaluate(embedder, root, name="lfw", cache=Path(cache))
            embedded.append(found.counts["images"])

    ours()
    faces = image_folder.read(root)
    crops = np.stack([faces.read(row) for row in range(embedded[0])])
    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(core.compile_model(core.read_model(default.path()), "CPU", hints))

    def bare() -> None:
        for start in range(0, len(crops), BATCH):
            queue.start_async([crops[start : start + BATCH]], share_inputs=True)
        queue.wait_all()

    found = compared(bare, ours, options.rounds)
    return {**found, "crops": len(crops), "rate": len(crops) / found["seconds"]}


def rec(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both ways in turns, on one thread, and on as many as benchmarks take; plain decoding is on one."""
    import io

    import cv2
    from PIL import Image

    from magface.data import image_folder, recordio
    from magface.data.face_set import READERS
    from magface.threads import prefetch

    faces = image_folder.read(crops_of(options, folder))
    (folder / "rec").mkdir()
    recordio.write(folder / "rec" / "train.rec", faces)
    contents = [faces.encoded(row) for row in range(len(faces))]
    records = recordio.read(folder / "rec" / "train.rec")

    def pillow() -> None:
        for content in contents:
            np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def opencv() -> None:
        for content in contents:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def one_thread() -> None:
        for row in range(len(records)):
            records.read(row)

    def as_benchmarks_read() -> None:
        for _ in prefetch(records.read, range(len(records)), workers=READERS, limit=128):
            pass

    found: dict[str, Any] = {"crops": len(records)}
    for name, plain in (("Pillow", pillow), ("OpenCV", opencv)):
        for threads, ours in (("one thread", one_thread), ("as benchmarks read", as_benchmarks_read)):
            found[f"{name}, {threads}"] = compared(plain, ours, options.rounds)
    return found


# error versus discard


def edc_lines(run: Run) -> Iterator[Line]:
    """A million comparisons and a thousand levels, beside a loop over the levels."""
    found = run("edc")
    for way in ("fixed", "picked again"):
        each, name = found[way], f"EDC, threshold {way}"
        note = "{genuine:,} genuine, {impostor:,} impostor pairs, {levels:,} levels".format(**each)
        yield Line(f"{name}, one core", each["seconds"], "s", "< 2", each["seconds"] < 2, note)
        yield Line(f"{name}, level by level / ours", each["ratio"], "x")


def edc(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both ways in turns, for a fixed threshold and for one that is picked again; they must agree."""
    from magface.metrics import quality
    from magface.metrics.repicked import edc_repicked

    rng = np.random.default_rng(0)
    count = max(LEVELS, round(options.counts * COMPARISONS))
    half, levels = count // 2, np.arange(LEVELS) / LEVELS
    some = levels[:: round(1 / options.direct)]
    scores = np.append(rng.normal(2, 1, half), rng.normal(0, 1, count - half))
    judged = scores + rng.normal(0, 2, count)
    sides = scores[:half], scores[half:], judged[:half], judged[half:]
    lowest = np.sort(judged)[np.floor(some * count + 1e-9).astype(int)]

    def plain_fixed() -> np.ndarray:
        return np.array([np.mean(scores[judged >= worst] < 0) for worst in lowest])

    def plain_repicked() -> np.ndarray:
        return np.array([plainly_repicked(*sides, worst) for worst in lowest])

    def fixed() -> np.ndarray:
        return quality.sampled(quality.edc(scores, judged, 0.0), levels).error

    def repicked() -> np.ndarray:
        return edc_repicked(*sides, FMR, levels).error

    found = {}
    for way, plain, ours, pairs in (
        ("fixed", plain_fixed, fixed, (count, 0)),
        ("picked again", plain_repicked, repicked, (half, count - half)),
    ):
        np.testing.assert_allclose(ours()[np.searchsorted(levels, some)], plain(), atol=1e-9)
        each = compared(plain, ours, options.rounds)
        about = {"genuine": pairs[0], "impostor": pairs[1], "levels": LEVELS}
        found[way] = {"seconds": each["seconds"], "ratio": each["ratio"] * LEVELS / len(some), **about}
    return found


def plainly_repicked(
    genuine: np.ndarray, impostor: np.ndarray, genuine_q: np.ndarray, impostor_q: np.ndarray, worst: float
) -> float:
    """FNMR of the pairs of at least the worst quality, where a thousandth of their impostors is accepted."""
    kept, others = genuine[genuine_q >= worst], np.sort(impostor[impostor_q >= worst])
    accepted = int(len(others) * FMR)
    return float(np.mean(kept <= others[-1 - accepted])) if accepted and len(kept) else float("nan")


PARTS: dict[str, Callable[[Run], Iterator[Line]]] = {
    "ijb": ijb_lines,
    "megaface": megaface_lines,
    "lfw": lfw_lines,
    "rec": rec_lines,
    "edc": edc_lines,
}
STEPS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "make ijb": make_ijb,
    "1:1": ours("1:1", every=False),
    "1:1, every fusion": ours("1:1", every=True),
    "1:N": ours("1:N", every=False),
    "direct 1:1": direct,
    "make megaface": make_megaface,
    "megaface": megaface,
    "lfw": lfw,
    "rec": rec,
    "edc": edc,
}


if __name__ == "__main__":
    main()
