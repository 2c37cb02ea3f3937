"""CPU seconds of ``danetc check`` on small specs that ask for much, each in a process of its own.

``python benchmarks/adversarial.py [PART OF A NAME]``: the specs of ``tests/adversarial/``;
``--wild [COUNT]``: specs put together at random. Each is to be checked or refused within LIMIT seconds
of CPU, with at most MOST_OUTPUT bytes of output.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.adversarial import SPECS, wild

ROOT = Path(__file__).parents[1]
SIZE = 100_000
LIMIT = 2.0
MOST_OUTPUT = 100_000
PATIENCE = 30
"""CPU seconds after which a check is killed."""


@dataclass(frozen=True)
class Result:
    seconds: float
    megabytes: float
    status: int
    output: bytes


def measure(files: Mapping[str, str]) -> Result:
    """Check a spec of several files in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "danetc", "check", "main.danet"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE)),
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = usage.ru_utime + usage.ru_stime
    return Result(seconds, usage.ru_maxrss / 1024, process.returncode, output)


def main() -> int:
    wanted = sys.argv[1:] or [""]
    if wanted[0] == "--wild":
        count = int(wanted[1]) if len(wanted) > 1 else 200
        makers = {f"wild {seed}": partial(wild, seed) for seed in range(count)}
    else:
        makers = {name: make for name, make in SPECS.items() if wanted[0] in name}
    worst = 0.0
    missed = []
    for name, make in makers.items():
        result = measure(make(SIZE))
        size = len(result.output)
        first = re.search(rb"error\[(E\d+)\]: (.{0,60})", result.output)
        says = b" ".join(first.groups()).decode(errors="replace") if first else ""
        worst = max(worst, result.seconds)
        broken = b"internal error" in result.output or result.status not in (0, 1)
        bad = result.seconds > LIMIT or size > MOST_OUTPUT or broken
        if bad:
            missed.append(name)
        print(
            f"{'!' if bad else ' '} {name:40} {result.seconds:6.2f} s {result.megabytes:5.0f} MB "
            f"{size:7} B  status {result.status}  {says}",
            flush=True,
        )
    print(f"longest {worst:.2f} s (limit {LIMIT:g} s); {len(missed)} of {len(makers)} miss a limit")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
