"""Worker processes that compile kernels in parallel and store them in the cache for the parent process.

Run as ``python -m danetc.runtime.kernels.workers``. The worker pool of Inductor only compiles
Triton code; tracing the kernels, which takes as long, would remain sequential.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

import torch

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.cache import PATIENCE, making_kernels
from danetc.runtime.kernels.prefetch import KernelRequest
from danetc.runtime.system.machine import usable_cores

MOST = 12
"""Maximum number of processes. Each one takes a few hundred MB of a GPU's memory until it ends."""


def compile_elsewhere(requests: Sequence[KernelRequest]) -> None:
    """Compile kernels in worker processes if there are enough; failed ones are missing in the cache."""
    count = min(len(requests) // 2, MOST, usable_cores())
    if count < 2:
        return
    jobs = [
        [
            (each.kernel, [(x.shape, x.dtype) for x in each.args], each.args[0].device)
            for each in requests[first::count]
        ]
        for first in range(count)
    ]
    setting = torch.are_deterministic_algorithms_enabled()
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-m", __name__]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=nothing, stderr=pipe, env=found) for _ in jobs
    ]
    for process, job in zip(processes, jobs, strict=True):
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # the process has failed, and its error is read below
            process.stdin.write(pickle.dumps((setting, job)))
            process.stdin.flush()
    end = monotonic() + PATIENCE
    for process in processes:
        try:
            _, text = process.communicate(timeout=max(0.0, end - monotonic()))
            reason = (text.decode(errors="replace").strip().splitlines() or [""])[-1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            reason = f"it takes longer than {PATIENCE:.0f} s"
        if process.returncode:
            internals.notice(
                f"a process that compiles kernels failed; this one takes over: {reason}"
            )


def main() -> None:
    deterministic, job = pickle.load(sys.stdin.buffer)
    warnings.simplefilter("ignore")  # the parent compiles what fails again, and warns
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    mode = internals.find("FakeTensorMode")()
    with making_kernels():
        for kernel, forms, device in job:
            with mode:
                args = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in forms]
            kernel.compile(args)


if __name__ == "__main__":
    main()
