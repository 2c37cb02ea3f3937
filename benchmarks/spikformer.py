"""A training step of Spikformer 4-384 against the same modules of PyTorch with SpikingJelly's neurons.

Steps alternate, so that both meet the machine as it is at the moment, and CPU time is compared: of one
thread, it does not count who else computes. On a CPU SpikingJelly has one backend for all steps at once.

    python benchmarks/spikformer.py [--quick] [--batch N] [--rounds N]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import spikformer_reference as spikformer
from common import Row, options, progress, report  # before torch

# isort: split
import torch
from allocated import saved_bytes
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from tests.zoo.harness import graph

TIME, BYTES = 0.95, 0.6


def main() -> int:
    at = options("spikformer", __doc__, batch=4, image=32, rounds=(5, 2))
    settings = {"image": at.image, "steps": at.steps}
    ours = graph("spikformer", settings)
    other = spikformer.network(**settings)
    model = emit(ours, 0, "fused")
    spikformer.load_by_order(model, other)
    x = torch.rand(at.batch, 3, at.image, at.image)
    frames = x.expand(at.steps, *x.shape).contiguous()
    labels = torch.arange(at.batch) % 10

    def loss_of(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            functional.reset_net(network)
            return nn.functional.cross_entropy(network(x), labels)

        return loss

    entries = {"danetc": loss_of(model, x), "SpikingJelly": loss_of(other, frames)}
    held = {name: saved_bytes(loss) for name, loss in entries.items()}
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for turn in range(at.rounds + 1):
        for name, loss in entries.items():
            progress(f"spikformer: {name}, {turn}")
            start = time.process_time()
            loss().backward()
            if turn:  # the first compiles
                seconds[name].append(time.process_time() - start)
    middle = {name: median(values) for name, values in seconds.items()}
    rows = [
        Row("SpikingJelly, a step", middle["SpikingJelly"], unit="s"),
        Row("danetc, a step", middle["danetc"], unit="s"),
        Row("CPU time", middle["danetc"] / middle["SpikingJelly"], most=TIME),
        Row("saved bytes", held["danetc"] / held["SpikingJelly"], most=BYTES),
    ]
    return report(at, rows, {"seconds": seconds, "bytes": held})


if __name__ == "__main__":
    sys.exit(main())
