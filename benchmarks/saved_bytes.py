"""Bytes held from the forward to the backward pass, ours against torchvision's on T x N images.

This counts everything that a forward pass leaves allocated. Parameters and inputs, which existed
before, do not count.

    python benchmarks/saved_bytes.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys

from allocated import saved_bytes
from candidates import Candidate
from common import ANN, SPIKINGJELLY, Row, each_step, entries, named, network, options, ours, report

MOST = {"sew": 0.60, "danet_c": 0.60, "danet_a": 0.80, "danet_b": 0.80, "origin": None}
"""The bound for each connection: an analog stream (PA-A, PA-B) keeps more."""


def main() -> int:
    at = options("saved_bytes", __doc__)
    rows: list[Row] = []
    raw = {}
    for depth in (18,) if at.quick else (18, 50):
        found: dict[str, Candidate] = {}
        graphs = {name: network(f"{name}_r{depth}", at) for name in MOST}
        for graph in graphs.values():
            found |= entries(graph, at, ("eager", "fused") if depth == 18 else ("fused",))
        held = each_step(found, lambda step: saved_bytes(step.loss), "saved bytes")
        ann = named(found, ANN)
        rows.append(Row(ann, held[ann] / 1e6, unit="MB"))
        for name, graph in graphs.items():
            value = held[ours(graph)] / held[ann]
            rows.append(Row(f"{graph.name} / {ann}", value, most=MOST[name]))
        for name in held:
            if SPIKINGJELLY in name or name.endswith(" eager"):
                rows.append(Row(f"{name} / {ann}", held[name] / held[ann]))
        raw[f"resnet{depth}"] = held
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
