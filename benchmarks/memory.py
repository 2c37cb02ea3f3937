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
from danetc.benchmark import Conditions
from danetc.compiler.emit.fx import emit
from danetc.compiler.graph import Graph
from danetc.compiler.memory import POLICIES, predict
from danetc.compiler.program import check_file, graph_of
from danetc.runtime.bench import TrainingStep, race, ratio
from danetc.runtime.memory import peak_bytes, saved_bytes

CONNECTIONS = ("sew", "danet_a", "danet_b", "danet_c")
SAVED, COST, ERROR = 0.25, 1.35, 0.15


def step_of(graph: Graph, policy: str, at: Conditions) -> TrainingStep:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(at.images, *at.size, generator=generator).to(at.device)
    labels = torch.randint(1000, (at.images,), generator=generator).to(at.device)
    return TrainingStep(emit(graph, backend="fused", memory=policy), x, labels)


def sized(spec: str, steps: int, image: int) -> Graph:
    """The network for images of this size: a prediction goes by its graph."""
    return graph_of(check_file(spec), settings={"steps": steps, "image": image})


def main() -> int:
    at = options("memory", __doc__, rounds=(7, 3))
    rows: list[Row] = []
    raw: dict[str, object] = {}
    for depth in (18,) if at.quick else (18, 50):
        found = entries(network(f"sew_r{depth}", at.steps), at)
        ann = named(found, ANN)
        progress(f"saved bytes: {ann}")
        base = saved_bytes(found[ann].make().loss)
        raw[ann] = {"saved": base}
        for connection in CONNECTIONS:
            spec = f"{connection}_r{depth}"
            graph = sized(spec, at.steps, at.image)
            conditions = Conditions.of(graph, at.batch, at.image)
            steps = {policy: step_of(graph, policy, conditions) for policy in POLICIES}
            progress(f"time: {spec}")
            samples = race(steps, steps["none"].device, at.rounds)
            saved = {policy: saved_bytes(step.loss) for policy, step in steps.items()}
            peaks = {policy: peak_bytes(step) for policy, step in steps.items()}
            plans = {p: predict(graph, at.batch, "fused", p, "float32", "sgd") for p in POLICIES}
            foretold = {policy: plan.total - plan.weights for policy, plan in plans.items()}
            worst = max(abs(foretold[p] / peaks[p] - 1) for p in POLICIES)
            rows += [
                Row(f"{spec} recompute: saved / {ann}", saved["recompute"] / base, most=SAVED),
                Row(f"{spec} none: saved / {ann}", saved["none"] / base),
                Row(f"{spec} recompute: time / none", ratio(samples, *POLICIES[::-1]), most=COST),
                Row(f"{spec} recompute: peak / none", peaks["recompute"] / peaks["none"]),
                Row(f"{spec}: predicted peak, largest error", worst, most=ERROR),
            ]
            raw[spec] = {
                "saved": saved,
                "peak": peaks,
                "predicted": foretold,
                "seconds": seconds(samples),
            }
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
