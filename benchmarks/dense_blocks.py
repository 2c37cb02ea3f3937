"""Densely connected stages in their number of blocks: what the compiler makes of them, and plainly.

Under a dense rule, block i reads the outputs of all previous blocks. Written plainly, that is a sum or a
concatenation of i values, n (n + 1) / 2 in a stage of n blocks. The compiler keeps running sums,
and of concatenations the parts, once for all that read them (plainly each of them is kept: that is
the eager backend). Linear means that the last doubling costs no more for each block than those
before it.

A concatenating block has weights for each of the channels that it reads, so its arithmetic and its
operands grow with the square of the blocks, whoever runs it: these are reported without a bound.

    python benchmarks/dense_blocks.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys
from typing import Any

from allocated import saved_bytes
from candidates import Candidate, Conditions, candidates
from common import Options, Row, each_step, marginal, options, progress, report, seconds
from timing import medians, time_interleaved

from danetc.compiler import check_text, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import PIPELINE

SPEC = """use std
network probe(steps = 4) {{
  input = image(3, {image}, {image});  steps = steps;  neuron = IF;  surrogate = sigmoid(alpha = 4)
  stem = conv(8, kernel = 3) -> norm -> spike
  stages = stage({block}(8), {blocks}) via {connection} by {rule}
  head = {end} -> mean_over_time -> linear(10)
}}
"""
STAGES = {
    "densely_additive": ("basic", "origin", "avgpool"),
    "densely_concatenated": ("dense", "dense_layer", "norm -> spike -> avgpool"),
}
LINEAR = {
    "densely_additive": ("operands", "seconds", "saved_bytes"),
    "densely_concatenated": ("saved_bytes",),
}
PLAIN = tuple(step for step in PIPELINE if step.name != "merge-duplicates")
MOST = 1.2


def graph(rule: str, blocks: int, at: Options, plain: bool) -> Graph:
    block, connection, end = STAGES[rule]
    text = SPEC.format(
        image=at.image, block=block, connection=connection, rule=rule, blocks=blocks, end=end
    )
    checked = check_text(text)
    return graph_of(checked, settings={"steps": at.steps}, passes=PLAIN if plain else PIPELINE)


def candidate(network: Graph, at: Options, backend: str) -> Candidate:
    found, _ = candidates(network, Conditions.of(network, at.batch), [backend])
    return found[f"danetc {backend}"]


def joined(network: Graph) -> int:
    """Operands of all additions and concatenations: the values that a step reads again."""
    return sum(len(node.inputs) for node in network.nodes.values() if node.op in ("add", "concat"))


def main() -> int:
    at = options("dense_blocks", __doc__, image=16, rounds=(5, 2))
    sizes = (4, 8, 16) if at.quick else (8, 16, 32, 64)
    rows: list[Row] = []
    raw: dict[str, Any] = {"blocks": sizes}
    for rule in STAGES:
        for plain in (False, True):
            graphs = {f"{size} blocks": graph(rule, size, at, plain) for size in sizes}
            backend = "eager" if plain and rule == "densely_concatenated" else "fused"
            found = {name: candidate(each, at, backend) for name, each in graphs.items()}
            label = f"{rule}, {'plain' if plain else 'compiled'}"
            held = each_step(found, lambda step: saved_bytes(step.loss), label)
            steps = {name: entry.make() for name, entry in found.items()}
            device = next(iter(steps.values())).device
            samples = time_interleaved(
                steps, device, at.rounds, on_progress=lambda name: progress(name)
            )
            figures: dict[str, list[float]] = {
                "operands": [joined(each) for each in graphs.values()],
                "seconds": [medians(samples[name]).seconds for name in found],
                "saved_bytes": [held[name] for name in found],
            }
            for key, values in figures.items():
                bound = MOST if not plain and key in LINEAR[rule] else None
                rows.append(Row(f"{label}: {key}", marginal(sizes, values), most=bound))
            raw[label] = figures | {"samples": seconds(samples)}
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
