"""Training steps: ours against torchvision's ReLU ResNet on T x N images, and SpikingJelly's.

All steps run in this process in interleaved rounds; ratios are medians of the rounds' ratios in
CPU seconds (on a GPU in its time).

    python benchmarks/training.py [--quick] [--batch N] [--image S] [--threads K]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from candidates import Candidate
from common import (
    ANN,
    SPIKINGJELLY,
    Row,
    convolutions_alone,
    entries,
    named,
    network,
    options,
    ours,
    progress,
    report,
    seconds,
)
from timing import ratio, time_interleaved

MOST = 1.05
ALONE, ALONE_MOST = "convolutions of {}", 1.31
CONNECTIONS = ("sew", "danet_a", "danet_c")  # danet_a is PA-A
DEPTHS = (18, 50)


def bases(found: Mapping[str, Candidate]) -> dict[str, float | None]:
    """Steps that are compared with their convolutions alone, and the bounds."""
    return {"danetc sew_r18 fused": ALONE_MOST, named(found, ANN): None}


def main() -> int:
    at = options("training", __doc__)
    rows: list[Row] = []
    raw: dict[str, object] = {}
    for depth in DEPTHS:
        extra = ("origin",) if depth == 18 else ()
        graphs = [network(f"{name}_r{depth}", at) for name in (*CONNECTIONS, *extra)]
        found: dict[str, Candidate] = {}
        own = {}
        for graph in graphs:
            own[graph.name] = entries(graph, at)
            found |= own[graph.name]
        if depth != 18:
            found = {name: item for name, item in found.items() if SPIKINGJELLY not in name}
        made = {name: entry.make() for name, entry in found.items()}
        device = next(iter(made.values())).device
        steps: dict[str, Callable[[], object]] = {**made}
        if depth == 18:
            steps |= {ALONE.format(name): convolutions_alone(made[name]) for name in bases(found)}
        samples = time_interleaved(
            steps, device, at.rounds, on_progress=lambda name: progress(f"training: {name}")
        )
        ann = named(found, ANN)
        for graph in graphs:
            value = ratio(samples, ours(graph), ann)
            rows.append(Row(f"{graph.name} / {ann}", value, most=MOST))
        for graph in graphs:
            if depth == 18 and graph.name in ("sew_r18", "origin_r18"):
                if not any(SPIKINGJELLY in name for name in own[graph.name]):
                    print("no SpikingJelly here: pip install 'danetc[spikingjelly]'")
                    continue
                other = named(own[graph.name], SPIKINGJELLY)
                theirs = ratio(samples, other, ann)
                value = ratio(samples, other, ours(graph))
                rows.append(Row(f"{other} / {ann}", theirs))
                rows.append(Row(f"{other} / {graph.name}", value, least=theirs / MOST))
        if depth == 18:
            for name, most in bases(found).items():
                value = ratio(samples, name, ALONE.format(name))
                rows.append(Row(f"{name} / its convolutions alone, by torch", value, most=most))
        raw[f"resnet{depth}"] = seconds(samples)
        del steps, made
    raw["device"] = str(device)
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
