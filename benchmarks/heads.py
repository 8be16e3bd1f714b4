"""Memory and time of a training step of each head, beside a dense one-hot and cross-entropy.

    python benchmarks/heads.py [--classes 1000000] [--batch 128] [--device cuda] [--format json]

Every head runs in new processes, one head after the other: MagFace, forward, backward and an SGD step with momentum and
weight decay. Memory is the peak of a process beyond what it holds after its imports, so it counts centres, momentum,
gradients and logits; of the card's memory with `--device cuda`. Time is the median of the steps after the first.
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
from importlib.metadata import version
from pathlib import Path

HEADS = {
    "dense": ("dense one-hot, cross-entropy", 1),
    "full": ("full", 1),
    "sharded": ("sharded", 2),
    "sampled": ("sampled", 1),
}
"""Title and number of processes."""

SETTINGS = (10.0, 110.0, 0.45, 0.8)
LAMBDA_G, S = 35.0, 64.0


def main() -> None:
    """Measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1_000_000, help="C (default: 1000000)")
    parser.add_argument("--dim", type=int, default=512, help="embedding size (default: 512)")
    parser.add_argument("--batch", type=int, default=128, help="faces of a step on all processes (default: 128)")
    parser.add_argument("--rate", type=float, default=0.1, help="of the sampled head (default: 0.1)")
    parser.add_argument("--steps", type=int, default=4, help="steps, of which the first is not timed (default: 4)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: 1)")
    parser.add_argument("--heads", nargs="+", choices=tuple(HEADS), default=list(HEADS), help="which (default: all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="sharded takes two cards with cuda")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--process", nargs=3, metavar=("HEAD", "RANK", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        head, rank, store = options.process
        print(json.dumps(measure(options, head, int(rank), store)))
        return
    results = [{"head": head, "processes": HEADS[head][1], **run(options, head)} for head in options.heads]
    about = {
        **{name: getattr(options, name) for name in ("classes", "dim", "batch", "rate", "steps", "threads", "device")},
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }
    if options.format == "json":
        print(json.dumps({**about, "heads": results}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{'head':36} {'processes':>9} {'GiB of each':>11} {'s a step':>9} {'loss':>8}")
    for result in results:
        title = HEADS[result["head"]][0] + (f", rate {options.rate:g}" if result["head"] == "sampled" else "")
        peak, seconds, loss = result["peak_bytes"] / 2**30, result["seconds"], result["loss"]
        print(f"{title:36} {result['processes']:9} {peak:11.2f} {seconds:9.2f} {loss:8.3f}")


def run(options: argparse.Namespace, head: str) -> dict[str, float]:
    """Greatest numbers of the processes of a head."""
    given = ("classes", "dim", "batch", "rate", "steps", "threads", "device")
    settings = [text for name in given for text in (f"--{name}", str(getattr(options, name)))]
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, *settings, "--process", head, str(rank), str(Path(folder) / "store")],
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
            )
            for rank in range(HEADS[head][1])
        ]
        answers = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"the head {head!r} failed, perhaps for lack of memory; try fewer --classes.")
    found = [json.loads(answer) for answer in answers]
    return {name: max(each[name] for each in found) for name in found[0]}


def measure(options: argparse.Namespace, head: str, rank: int, store: str) -> dict[str, float]:
    """Peak memory, time and loss of a head in this process."""
    import torch
    from torch import distributed

    from magface.heads.full import Full
    from magface.heads.partial_fc import PartialFC
    from magface.losses.magface import MagFace
    from magface.train.optim import SGD

    torch.set_num_threads(options.threads)
    torch.manual_seed(2021)  # not a seed of a batch: a face on a centre makes the dense head give NaN
    world = HEADS[head][1]
    device = torch.device(f"cuda:{rank}" if options.device == "cuda" else "cpu")
    if world > 1:
        backend = "nccl" if options.device == "cuda" else "gloo"
        distributed.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=world)
    before = peak(device)
    margin = MagFace(*SETTINGS, lambda_g=LAMBDA_G, s=S)
    if head == "dense":
        module = dense_head(options.classes, options.dim)
    elif head == "full":
        module = Full(options.classes, options.dim, margin)
    else:
        module = PartialFC(options.classes, options.dim, margin, rate=options.rate if head == "sampled" else 1.0)
    module.to(device)
    kind = torch.optim.SGD if head == "dense" else SGD
    optimizer = kind(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    times = []
    for step in range(options.steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(options.batch, options.dim, generator=generator)
        labels = torch.randint(options.classes, (options.batch,), generator=generator)
        mine = slice(rank * options.batch // world, (rank + 1) * options.batch // world)
        local, own = x[mine].to(device).requires_grad_(), labels[mine].to(device)
        start = time.perf_counter()
        optimizer.zero_grad()
        out = module(local, own)
        loss = out if head == "dense" else out.loss
        loss.backward()
        optimizer.step()
        value = loss.item()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
        del out, loss
    if world > 1:
        distributed.destroy_process_group()
    return {"peak_bytes": peak(device) - before, "seconds": statistics.median(times[1:] or times), "loss": value}


def peak(device) -> int:
    """Most bytes that this process has held, in main memory or on the card."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def dense_head(classes: int, dim: int):
    """MagFace as one writes it down first: every step a matrix of all faces and classes, in plain autograd."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    l_a, u_a, l_m, u_m = SETTINGS

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(torch.empty(classes, dim).normal_())

        def forward(self, x, labels):
            a = x.norm(dim=1, keepdim=True).clamp(l_a, u_a)
            m = (u_m - l_m) / (u_a - l_a) * (a - l_a) + l_m
            cosine = (F.normalize(x) @ F.normalize(self.centres).T).clamp(-1, 1)
            sine = (1 - cosine**2).sqrt()
            widened = torch.where(cosine > 0, cosine * m.cos() - sine * m.sin(), cosine)
            hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 1.0)
            logits = S * (hot * widened + (1 - hot) * cosine)
            return F.cross_entropy(logits, labels) + LAMBDA_G * (a / u_a**2 + 1 / a).mean()

    return Dense()


if __name__ == "__main__":
    main()
