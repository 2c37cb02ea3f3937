"""The memory policy ``recompute``: what it saves, what it costs, and whether that is computed right.

Bytes held from the forward to the backward pass against torchvision's on T x N images, and against
those computed without running a step; a training step's time and its peak against the policy ``none``.

    python benchmarks/memory.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys

import torch
from allocated import peak_bytes, saved_bytes
from candidates import Conditions
from common import ANN, Row, entries, named, network, options, progress, report, seconds
from steps import TrainingStep
from timing import ratio, time_interleaved

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.recompute import POLICIES
from danetc.tasks.memory import plain_step, step_memory

CONNECTIONS = ("sew", "danet_a", "danet_b", "danet_c")
SAVED, COST = 0.25, 1.35


def step_of(graph: Graph, policy: str, at: Conditions) -> TrainingStep:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(at.images, *at.size, generator=generator).to(at.device)
    labels = torch.randint(1000, (at.images,), generator=generator).to(at.device)
    return TrainingStep(emit(graph, backend="fused", memory=policy), x, labels)


def main() -> int:
    at = options("memory", __doc__, rounds=(7, 3))
    rows: list[Row] = []
    raw: dict[str, object] = {}
    for depth in (18,) if at.quick else (18, 50):
        found = entries(network(f"sew_r{depth}", at), at)
        ann = named(found, ANN)
        progress(f"saved bytes: {ann}")
        base = saved_bytes(found[ann].make().loss)
        raw[ann] = {"saved": base}
        for connection in CONNECTIONS:
            spec = f"{connection}_r{depth}"
            graph = network(spec, at)
            conditions = Conditions.of(graph, at.batch)
            steps = {policy: step_of(graph, policy, conditions) for policy in POLICIES}
            progress(f"time: {spec}")
            samples = time_interleaved(steps, steps["none"].device, at.rounds)
            saved = {policy: saved_bytes(step.loss) for policy, step in steps.items()}
            peaks = {policy: peak_bytes(step) for policy, step in steps.items()}
            count = counted(graph, at.batch)
            rows += [
                Row(f"{spec} recompute: saved / {ann}", saved["recompute"] / base, most=SAVED),
                Row(f"{spec} none: saved / {ann}", saved["none"] / base),
                Row(f"{spec} recompute: time / none", ratio(samples, *POLICIES[::-1]), most=COST),
                Row(f"{spec} recompute: peak / none", peaks["recompute"] / peaks["none"]),
                error(spec, count, saved),
            ]
            raw[spec] = {
                "saved": saved,
                "peak": peaks,
                "counted": count,
                "seconds": seconds(samples),
            }
    return report(at, rows, raw)


def counted(graph: Graph, batch: int) -> dict[str, int]:
    """Return the bytes that each policy saves, computed without running a step."""
    step = plain_step(graph, "fused", batch)
    return {policy: step_memory(step, policy).saved for policy in POLICIES}


def error(spec: str, count: dict[str, int], saved: dict[str, int]) -> Row:
    worst = max(abs(count[policy] - saved[policy]) for policy in POLICIES)
    return Row(f"{spec}: saved bytes, measured and computed: difference", worst, most=0)


if __name__ == "__main__":
    sys.exit(main())
