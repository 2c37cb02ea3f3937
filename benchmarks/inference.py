"""Inference on a CPU: our folded networks against torchvision's folded ResNets on T x N images.

Both run in this process under ``torch.inference_mode``, in turns. A turn is as many passes as take
at least a second of CPU; figures are medians of the turns: CPU seconds a pass and wall seconds a
pass, and the ratio of ours to torchvision's. On a machine that others use too, the ratio of the
least CPU seconds says more.

    python benchmarks/inference.py [--networks sew_r18 ...] [--size 64] [--batch 4] [--json]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits is no CPU time

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

import torch
import torchvision
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

import danetc

LIMIT = 1.0
TURNS = 7
CPU_SECONDS = 1.0
NETWORKS = (
    "origin_r18", "sew_r18", "danet_a_r18", "danet_c_r18",
    "origin_r50", "sew_r50", "danet_a_r50", "danet_c_r50",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Milliseconds a pass."""

    network: str
    cpu_ms: float
    wall_ms: float
    torchvision_cpu_ms: float
    torchvision_wall_ms: float
    cpu_ratio: float
    wall_ratio: float
    least_cpu_ratio: float
    first_pass_s: float


def settle(model: nn.Module, x: Tensor) -> None:
    """Running statistics of real activations: otherwise spikes would die out and zeros be fast."""
    model.train()
    with torch.no_grad():
        for _ in range(10):
            model(x)
    model.eval()


def ours(network: str, size: int, batch: int, steps: int) -> tuple[nn.Module, Tensor]:
    model = danetc.build(network, set={"steps": steps, "image": size})
    x = torch.randn(batch, 3, size, size)
    settle(model, x)
    return danetc.fold(model), x


def theirs(depth: str, size: int, images: int) -> tuple[nn.Module, Tensor]:
    model = getattr(torchvision.models, f"resnet{depth}")()
    x = torch.randn(images, 3, size, size)
    settle(model, x)
    return fuse(model), x


def passes(run: Callable[[], object], count: int) -> tuple[float, float]:
    """CPU and wall seconds a pass."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        run()
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def measure(network: str, size: int, batch: int, steps: int, turns: int) -> Row:
    torch.manual_seed(0)
    depth = network.rsplit("_r", 1)[1]
    mine, other = ours(network, size, batch, steps), theirs(depth, size, steps * batch)
    with torch.inference_mode():
        return compare(network, mine, other, turns)


def compare(
    network: str, mine: tuple[nn.Module, Tensor], other: tuple[nn.Module, Tensor], turns: int
) -> Row:
    (model, x), (reference, images) = mine, other
    start = time.perf_counter()
    model(x)
    first = time.perf_counter() - start
    runs = (lambda: model(x), lambda: reference(images))
    counts = []
    for run in runs:
        run()
        counts.append(1 + int(CPU_SECONDS / max(passes(run, 2)[0], 1e-3)))
    taken: list[list[tuple[float, float]]] = [[], []]
    for _ in range(turns):
        for row, run, count in zip(taken, runs, counts, strict=True):
            row.append(passes(run, count))
    (cpu, wall), (their_cpu, their_wall) = (
        tuple(1e3 * median(column) for column in zip(*row, strict=True)) for row in taken
    )
    ratios = [median(a[i] / b[i] for a, b in zip(*taken, strict=True)) for i in range(2)]
    least = min(cpu for cpu, _ in taken[0]) / min(cpu for cpu, _ in taken[1])
    return Row(network, cpu, wall, their_cpu, their_wall, *ratios, least, first)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    if not options.json:
        print(f"load average {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads")
        print("network          CPU ms  torchvision   ratio   wall ratio   of least   first pass")
    for network in options.networks:
        row = measure(network, options.size, options.batch, options.steps, options.turns)
        rows.append(row)
        if not options.json:
            print(
                f"{row.network:14} {row.cpu_ms:8.1f} {row.torchvision_cpu_ms:12.1f} "
                f"{row.cpu_ratio:7.2f} {row.wall_ratio:12.2f} {row.least_cpu_ratio:10.2f} "
                f"{row.first_pass_s:10.1f} s",
                flush=True,
            )
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    return int(any(row.cpu_ratio > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
