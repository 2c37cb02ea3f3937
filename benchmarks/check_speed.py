"""CPU seconds of `danetc check` on ResNet-152, each time in a fresh process without torch."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

LIMIT = 0.4
RUNS = 7
SPEC = Path(__file__).parents[1] / "specs" / "danet_c_r152.danet"

PROGRAM = """
import sys
from danetc.main import main
status = main(["check", sys.argv[1]])
heavy = {"torch", "numpy", "rich"} & sys.modules.keys()
sys.exit(f"imported: {heavy}" if heavy else status)
"""


def children_seconds() -> float:
    """CPU seconds, user and system, of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check_once() -> float:
    before = children_seconds()
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SPEC)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    return children_seconds() - before


def main() -> int:
    check_once()  # byte code and disk cache
    seconds = median(check_once() for _ in range(RUNS))
    print(f"check of {SPEC.name}: {seconds:.3f} s of CPU (limit {LIMIT} s), torch not imported")
    return int(seconds > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
