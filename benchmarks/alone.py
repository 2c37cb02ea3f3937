"""A training step in a process that has run none before: its first step, and its peak memory."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits is no CPU time

import ctypes
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from allocated import peak_bytes
from candidates import Conditions, candidates
from steps import TrainingStep
from timing import timed

from danetc.compiler import check_file, graph_of
from danetc.runtime.kernels.cache import VARIABLE


@dataclass(frozen=True, slots=True)
class Alone:
    """A step in a process of its own.

    ``first`` and ``later`` are the seconds of the first step and of a later one, ``peak`` the most bytes of tensors at a time in a
    later one beyond what is there between steps (weights, the optimizer's state; not the gradients,
    which each step makes anew), where torch says so, and ``resident`` the same of the process's
    memory as the system sees it, where it says so.
    """

    first: float
    later: float
    peak: int | None
    resident: int | None


def alone(step: TrainingStep) -> Alone:
    """Measure a step that this process has not run before."""
    first = timed(step, step.device).wall
    later = timed(step, step.device).wall
    step.optimizer.zero_grad()
    resident = resident_peak(step) if step.device.type == "cpu" else None
    step.optimizer.zero_grad()
    return Alone(first, later, peak_bytes(step), resident)


def resident_peak(step: Callable[[], object]) -> int | None:
    """How far the process's resident memory rises in a step, in bytes.

    None where the system cannot start its high-water mark anew (Linux with glibc can).
    """
    gc.collect()
    if not _give_back_freed_memory():
        return None
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    except OSError:
        return None
    step()
    after = _status("VmHWM")
    return None if before is None or after is None else max(0, after - before)


def _status(key: str) -> int | None:
    """A size from the process's status, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{key}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _give_back_freed_memory() -> bool:
    """Make glibc return freed memory, which a step would otherwise reuse without being counted."""
    if sys.platform != "linux":
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False  # another C library
    trim(0)
    return True


def in_own_process(
    spec: str, name: str, cache: Path, *, steps: int, batch: int, image: int
) -> Alone:
    """Measure the candidate of this name in a new process, whose cache of kernels is ``cache``."""
    environment = {
        **os.environ,
        VARIABLE: str(cache),
        "TRITON_CACHE_DIR": str(cache / "triton"),  # of other libraries
    }
    settings = json.dumps({"steps": steps, "image": image})
    done = subprocess.run(
        [sys.executable, __file__, spec, name, settings, str(batch)],
        stdout=subprocess.PIPE, text=True, check=True, env=environment,
    )  # fmt: skip
    return Alone(**json.loads(done.stdout.splitlines()[-1]))


def main(spec: str, name: str, settings: str, batch: str) -> None:
    graph = graph_of(check_file(spec), settings=json.loads(settings))
    backends = [name.removeprefix("danetc ")] if name.startswith("danetc ") else []
    found, _ = candidates(graph, Conditions.of(graph, int(batch)), backends)
    print(json.dumps(asdict(alone(found[name].make()))))


if __name__ == "__main__":
    main(*sys.argv[1:])
