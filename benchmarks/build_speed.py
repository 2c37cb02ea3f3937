"""CPU seconds of `danetc.build` on ResNet-152 once torch is imported, and memory of `danetc build`.

Each in fresh processes. Memory is the peak above that of importing torch, in units of the weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

LIMIT, MOST_MEMORY = 2.0, 1.5
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

WRITING = """
import resource
import sys
import tempfile
import torch
import torch.fx
from danetc.main import main
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
before = peak()
with tempfile.TemporaryDirectory() as folder:
    assert main(["build", sys.argv[1], "-o", folder + "/model", "--json"]) == 0
print((peak() - before) / (4 * 60_192_808), file=sys.stderr)
"""


def memory_once() -> float:
    done = subprocess.run(
        [sys.executable, "-c", WRITING, str(SPEC)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return float(done.stderr.splitlines()[-1])


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
    memory = memory_once()
    print(f"its peak memory: {memory:.2f} of its weights (limit {MOST_MEMORY})")
    return int(cpu > LIMIT or memory > MOST_MEMORY)


if __name__ == "__main__":
    sys.exit(main())
