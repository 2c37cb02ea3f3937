"""The memory policy ``recompute``: what it saves, what it costs, and whether it was foretold.

Bytes held from the forward to the backward pass against torchvision's on T x N images; a training
step's time against the policy ``none``; and the predicted peak of a step's tensors against the
measured one, under both policies.

    python benchmarks/memory.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys

import torch
from common import ANN, Row, entries, named, network, options, progress, report, seconds

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.compiler.plans.memory import POLICIES, predict
from danetc.runtime.bench.memory import peak_bytes, saved_bytes
from danetc.runtime.bench.steps import TrainingStep, race, ratio
from danetc.tasks.benchmark import Conditions

CONNECTIONS = ("sew", "danet_a", "danet_b", "danet_c")
OTHERS = ("spiking_densenet121", "ms_resnet18")  # their peak is foretold too
SAVED, COST, ERROR = 0.25, 1.35, 0.15


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
            samples = race(steps, steps["none"].device, at.rounds)
            saved = {policy: saved_bytes(step.loss) for policy, step in steps.items()}
            peaks = {policy: peak_bytes(step) for policy, step in steps.items()}
            foretold = predicted(graph, at.batch)
            rows += [
                Row(f"{spec} recompute: saved / {ann}", saved["recompute"] / base, most=SAVED),
                Row(f"{spec} none: saved / {ann}", saved["none"] / base),
                Row(f"{spec} recompute: time / none", ratio(samples, *POLICIES[::-1]), most=COST),
                Row(f"{spec} recompute: peak / none", peaks["recompute"] / peaks["none"]),
                error(spec, foretold, peaks),
            ]
            raw[spec] = {
                "saved": saved,
                "peak": peaks,
                "predicted": foretold,
                "seconds": seconds(samples),
            }
    for spec in () if at.quick else OTHERS:
        progress(f"peak: {spec}")
        graph = network(spec, at)
        conditions = Conditions.of(graph, at.batch)
        peaks = {policy: peak_after_one(step_of(graph, policy, conditions)) for policy in POLICIES}
        foretold = predicted(graph, at.batch)
        rows.append(error(spec, foretold, peaks))
        raw[spec] = {"peak": peaks, "predicted": foretold}
    return report(at, rows, raw)


def peak_after_one(step: TrainingStep) -> int:
    """Bytes at the peak of a step, once kernels are compiled and the optimizer has its state."""
    step()
    step.optimizer.zero_grad()
    return peak_bytes(step)


def predicted(graph: Graph, batch: int) -> dict[str, int]:
    """The predicted peak of each policy beyond the weights."""
    plans = {policy: predict(graph, batch, "fused", policy) for policy in POLICIES}
    return {policy: plan.total - plan.weights for policy, plan in plans.items()}


def error(spec: str, foretold: dict[str, int], peaks: dict[str, int]) -> Row:
    worst = max(abs(foretold[policy] / peaks[policy] - 1) for policy in POLICIES)
    return Row(f"{spec}: predicted peak, largest error", worst, most=ERROR)


if __name__ == "__main__":
    sys.exit(main())
