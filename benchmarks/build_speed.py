"""CPU seconds of `danetc.build` on ResNet-152 once torch is imported, in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

LIMIT = 2.0
RUNS = 5
SPEC = Path(__file__).parents[1] / "specs" / "danet_c_r152.danet"

PROGRAM = """
import sys
import time
import torch
import danetc
cpu, wall = time.process_time(), time.perf_counter()
model = danetc.build(sys.argv[1])
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
assert sum(p.numel() for p in model.parameters()) == 60_192_808
print(cpu, wall)
"""


def build_once() -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SPEC)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    cpu, wall = map(float, done.stdout.split())
    return cpu, wall


def main() -> int:
    build_once()  # byte code and disk cache
    runs = [build_once() for _ in range(RUNS)]
    cpu, wall = (median(column) for column in zip(*runs, strict=True))
    print(f"build of {SPEC.name}: {cpu:.2f} s of CPU (limit {LIMIT} s), {wall:.2f} s on the clock")
    return int(cpu > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
