"""Peak memory of a training step in fresh processes, at a batch where activations dominate.

What is reported is how far resident memory (on a GPU: allocated memory) rises above what is there
between two steps: activations, gradients and scratch space, not weights nor the optimizer's state.

    python benchmarks/peak_memory.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from alone import Alone, in_own_process
from common import ANN, Row, entries, named, network, options, progress, report

CONNECTIONS = ("sew", "danet_a", "danet_b", "danet_c")


def peak(measured: Alone) -> int:
    return measured.peak if measured.resident is None else measured.resident


def main() -> int:
    at = options("peak_memory", __doc__, batch=32, rounds=(1, 1))
    rows: list[Row] = []
    raw: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(prefix="danetc-bench-") as cache:
        for depth in (18,) if at.quick else (18, 50):
            measured: dict[str, Alone] = {}
            for connection in CONNECTIONS[: 2 if at.quick else None]:
                spec = f"{connection}_r{depth}"
                found = entries(network(spec, at), at)
                ann = named(found, ANN)
                for name, label in ((ann, ann), ("danetc fused", f"{spec} fused")):
                    if label in measured:
                        continue
                    progress(f"peak memory: {label}")
                    measured[label] = in_own_process(
                        spec, name, Path(cache), steps=at.steps, batch=at.batch, image=at.image
                    )
            rows.append(Row(ann, peak(measured[ann]) / 1e6, unit="MB"))
            for label, one in measured.items():
                if label != ann:
                    rows.append(Row(f"{label} / {ann}", peak(one) / peak(measured[ann]), most=1.0))
                    rows.append(
                        Row(f"{label} / {ann}, tensors alone", one.peak / measured[ann].peak)
                    )
            raw[f"resnet{depth}"] = {label: asdict(one) for label, one in measured.items()}
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
