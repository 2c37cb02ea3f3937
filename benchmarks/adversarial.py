"""CPU seconds of ``danetc check`` on small specs that ask for much, each in a process of its own.

``python benchmarks/adversarial.py [PART OF A NAME]``: the specs of ``tests/adversarial.py``. Each is
to be checked or refused within LIMIT seconds of CPU, with at most MOST_OUTPUT bytes of output, as
text and as JSON.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.adversarial import SPECS

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


def measure(files: Mapping[str, str], *options: str) -> Result:
    """Check a spec of several files in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "danetc", "check", *options, "main.danet"],
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
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    worst = 0.0
    missed = []
    for name, make in SPECS.items():
        if wanted not in name:
            continue
        text = measure(make(SIZE))
        size = len(text.output)
        first = re.search(rb"error\[(E\d+)\]: (.{0,60})", text.output)
        says = b" ".join(first.groups()).decode(errors="replace") if first else ""
        worst = max(worst, text.seconds)
        bad = text.seconds > LIMIT or size > MOST_OUTPUT or text.status not in (0, 1)
        if bad:
            missed.append(name)
        print(
            f"{'!' if bad else ' '} {name:40} {text.seconds:6.2f} s {text.megabytes:5.0f} MB "
            f"{size:7} B  status {text.status}  {says}",
            flush=True,
        )
    print(f"longest {worst:.2f} s (limit {LIMIT:g} s); {len(missed)} of {len(SPECS)} miss a limit")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
