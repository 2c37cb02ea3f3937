"""The first training step of a fresh process, with an empty and with a filled cache of kernels.

With a filled one a network of 150 layers is held to what the first step takes beyond a later one, which
itself takes most of a second.

python benchmarks/first_step.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from alone import in_own_process
from common import Row, options, progress, report

SPECS = ("danet_c_r18", "sew_r152", "danet_a_r152", "danet_c_r152")
COLD, WARM = 23.0, 1.0


def main() -> int:
    at = options("first_step", __doc__, rounds=(3, 1))
    rows: list[Row] = []
    raw: dict[str, object] = {}
    for spec in SPECS[:1] if at.quick else SPECS:
        size = {"steps": at.steps, "batch": at.batch, "image": at.image}
        with tempfile.TemporaryDirectory(prefix="danetc-bench-") as cache:
            progress(f"first step: {spec}, cold")
            cold = in_own_process(spec, "danetc fused", Path(cache), **size)
            warm = []
            for _ in range(at.rounds):
                progress(f"first step: {spec}, warm")
                warm.append(in_own_process(spec, "danetc fused", Path(cache), **size))
        middle = sorted(warm, key=lambda one: one.first)[len(warm) // 2]
        rows.append(Row(f"{spec}, cold cache", cold.first, most=COLD, unit="s"))
        if spec == SPECS[0]:
            rows.append(Row(f"{spec}, warm cache", middle.first, most=WARM, unit="s"))
        else:
            label = f"{spec}, warm cache, {middle.first:.2f} s, less a later step"
            rows.append(Row(label, middle.first - middle.later, most=WARM, unit="s"))
        raw[spec] = {"cold": asdict(cold), "warm": [asdict(one) for one in warm]}
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
