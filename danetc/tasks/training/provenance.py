"""The facts of a run: what it was made with and of, beside the settings that decide its numbers."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from danetc.dsl.language_version import LANGUAGE

if TYPE_CHECKING:
    from danetc.runtime.training.distributed import World
    from danetc.tasks.training.request import TrainingPlan

MACHINE = {
    "device": "the device",
    "torch": "torch",
    "threads": "the number of threads",
}
"""Facts that a run may go on under when they change, and that may change its numbers. (That of
processes is reported by the training itself.)"""


LIBRARIES = (
    "torchvision", "numpy", "safetensors", "spikingjelly", "webdataset", "datasets", "tonic",
)  # fmt: skip
"""Whose versions may matter, beside torch's."""
CHANGED = 50
"""At most so many changed files of a git work tree are named."""


def facts(plan: TrainingPlan, world: World) -> dict[str, Any]:
    """What run.json says of a run on rank 0, as JSON data."""
    from danetc.runtime.training.distributed import device_name
    from danetc.version import version

    device, request = world.device, plan.request
    on_gpu = device.type == "cuda"
    return {
        "danetc": version(),
        "language": LANGUAGE,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "platform": platform.platform(),
        "device": device_name(device),
        "processes": world.size,
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "folder": str(Path.cwd()),
        "git": git_state(),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": {
            "spec": request.spec,
            "init": request.init,
            "memory": request.memory,
            "classes": request.classes,
            "subset_seed": request.subset_seed,
        },
        "data": plan.data.describe(),
        "recipe": plan.recipe.as_dict(),
    }


def git_state() -> dict[str, Any] | None:
    """Commit and changed files of the work tree that the process stands in; None outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        lines = _git("status", "--porcelain", "--untracked-files=no").splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    changed = [line[3:] for line in lines]
    return {
        "commit": commit.strip(),
        "changed": changed[:CHANGED],
        "more_changed": max(0, len(changed) - CHANGED),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=20,
        check=True,
    )
    return done.stdout


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
