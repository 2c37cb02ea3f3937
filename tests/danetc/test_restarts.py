"""torchrun restarts a training of which a process was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


def second(launcher: psutil.Process) -> psutil.Process | None:
    """The process of rank 1, without its loaders."""
    for child in launcher.children():
        if child.environ().get("RANK") == "1":
            return child
    return None


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="torchrun needs libuv there")
def test_a_killed_process_is_replaced_and_the_training_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--max-restarts=1", "-m", "danetc", "train", "danet_c_small", "--data", "digits"]
    command += ["-o", "run", "--set", "recipe.epochs=2", "--set", "recipe.checkpoint_minutes=0.01"]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file)
    try:
        end = time.monotonic() + 300
        while not (tmp_path / "run" / "checkpoints" / "last").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, "no checkpoint was written"
            time.sleep(0.1)
        victim = second(psutil.Process(process.pid))
        assert victim is not None
        victim.kill()
        assert process.wait(300) == 0, log.read_text()
    finally:
        process.kill()
    said = log.read_text()
    assert "another process of the training has ended" in said
    assert "resuming from run/checkpoints: phase" in said
    assert "test accuracy" in said
