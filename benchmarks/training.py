"""Steps of training beside those of the official recipe, as ratios measured in turns.

    python benchmarks/training.py                        # MobileFaceNet and iResNet-18 on the CPU
    python benchmarks/training.py --device cuda          # iResNet-50 and -100, 85,742 people, batch 512, on a GPU
    python benchmarks/training.py --device cuda --backbones iresnet50 --classes 1000000 --head sampled

Both sides see the same synthetic crops, which are in memory: reading and augmenting are not part of it. The official
recipe is float32, without channels_last and compilation, with a dense one-hot matrix that picks the logits to widen.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from magface import backbones
from magface.heads.full import Full
from magface.heads.partial_fc import PartialFC
from magface.losses.magface import MagFace
from magface.train.config import Head, Optimization, Recipe
from magface.train.criterion import Criterion
from magface.train.loop import Task, Trainer
from magface.train.ranks import Ranks
from magface.train.source import Batch
from magface.train.training import called

PAPER = {"l_a": 10.0, "u_a": 110.0, "l_m": 0.45, "u_m": 0.8, "lambda_g": 35.0}
PUBLISHED = {"iresnet50": 3389, "iresnet100": 2014}
"""Images a second of the official code on eight V100, distributed, half precision, 85,742 people, batch 512."""


@dataclass(frozen=True)
class Line:
    """One backbone."""

    backbone: str
    ratio: float | None
    images_per_second: float
    official_images_per_second: float | None
    peak_gib: float | None
    published_images_per_second: int | None


class Official(nn.Module):
    """The loss of the official code, written from its description: every logit is made twice and chosen by one-hot."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, classes).uniform_(-1, 1).renorm_(2, 1, 1e-5).mul_(1e5))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss."""
        a = x.norm(dim=1, keepdim=True).clamp(PAPER["l_a"], PAPER["u_a"])
        m = (PAPER["u_m"] - PAPER["l_m"]) / (PAPER["u_a"] - PAPER["l_a"]) * (a - PAPER["l_a"]) + PAPER["l_m"]
        cosine = (F.normalize(x) @ F.normalize(self.weight, dim=0)).clamp(-1, 1)
        sine = (1 - cosine**2).clamp(min=1e-12).sqrt()
        widened = torch.where(cosine > 0, cosine * m.cos() - sine * m.sin(), cosine)
        hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 1.0)
        logits = 64 * (hot * widened + (1 - hot) * cosine)
        g = a / PAPER["u_a"] ** 2 + 1 / a
        return F.cross_entropy(logits, labels) + PAPER["lambda_g"] * g.mean()


def main() -> None:
    """Measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--backbones", nargs="+", help="default: mobilefacenet iresnet18; on a GPU iresnet50 iresnet100"
    )
    parser.add_argument("--batch", type=int, help="default: 64; on a GPU 512")
    parser.add_argument("--classes", type=int, help="people (default: 10,000; on a GPU 85,742)")
    parser.add_argument("--head", choices=("full", "sampled"), default="full", help="sampled: a tenth of the centres")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the ratio (default: 5)")
    parser.add_argument("--steps", type=int, default=3, help="steps of a side in a round (default: 3)")
    parser.add_argument("--alone", action="store_true", help="leave the official recipe out")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    gpu = options.device.startswith("cuda")
    names = options.backbones or (["iresnet50", "iresnet100"] if gpu else ["mobilefacenet", "iresnet18"])
    batch, classes = options.batch or (512 if gpu else 64), options.classes or (85_742 if gpu else 10_000)
    lines = [measure(name, batch, classes, options) for name in names]
    about = {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "batch": batch,
        "classes": classes,
        "head": options.head,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if options.format == "json":
        print(json.dumps({**about, "lines": [asdict(line) for line in lines]}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for line in lines:
        print(", ".join(f"{name} {value}" for name, value in asdict(line).items() if value is not None))


def measure(name: str, batch: int, classes: int, options: argparse.Namespace) -> Line:
    """Ratio of the official step's time to ours, median over rounds, and speeds."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (batch, 112, 112, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, batch)
    sides: list[Callable[[], None]] = [ours(name, crops, labels, classes, options)]
    if not options.alone:
        sides.append(official(name, crops, labels, classes, options.device))
    gpu = options.device.startswith("cuda")
    for _ in range(3):  # compilation and caches
        for side in sides:
            side()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    times = [[seconds(side, options.steps, options.device) for side in sides] for _ in range(options.rounds)]
    speeds = [batch * options.steps / statistics.median(side) for side in zip(*times, strict=True)]
    ratio = None if options.alone else statistics.median(theirs / own for own, theirs in times)
    peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
    return Line(
        name, ratio, speeds[0], None if options.alone else speeds[1], peak, PUBLISHED.get(name) if gpu else None
    )


def seconds(step: Callable[[], None], steps: int, device: str) -> float:
    """Wall-clock time of some steps."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ours(
    name: str, crops: np.ndarray, labels: np.ndarray, classes: int, options: argparse.Namespace
) -> Callable[[], None]:
    """A step of this package's loop: bf16, channels_last, compiled."""
    settings = Optimization(
        batch=len(crops), optimizer="sgd", weight_decay=5e-4, precision="bf16", compile=not options.no_compile
    )
    recipe = Recipe(backbone=name, head=Head(kind=options.head), optimization=settings)
    ranks = Ranks(device=options.device)
    torch.manual_seed(0)
    backbone = backbones.build(name).to(options.device, memory_format=torch.channels_last).train()
    margin = MagFace(**PAPER)
    size = int(backbone.size)
    head = Full(classes, size, margin) if options.head == "full" else PartialFC(classes, size, margin, rate=0.1)
    head.to(options.device)
    network = called(recipe, backbone, ranks)
    criterion = Criterion(recipe, network, backbone, head, labels, None, None, ranks)
    rows = np.arange(len(crops))
    part = Batch([""] * len(crops), rows, np.zeros(len(crops), bool), crops)
    task = Task(network, backbone, head, margin, 1, lambda step: [part], criterion)
    trainer = Trainer(task, settings, ranks, Path(tempfile.gettempdir()))
    return lambda: trainer.step(0, [part], 1e-3) and None


def official(name: str, crops: np.ndarray, labels: np.ndarray, classes: int, device: str) -> Callable[[], None]:
    """A step of the official recipe."""
    torch.manual_seed(0)
    backbone = backbones.build(name).to(device).train()
    head = Official(int(backbone.size), classes).to(device)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=1e-3, momentum=0.9, weight_decay=5e-4)
    target = torch.from_numpy(labels).to(device)

    def step() -> None:
        images = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float().contiguous()
        optimizer.zero_grad()
        head(backbone(images), target).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
