"""Facts about a run that are written to run.json, such as versions and the state of git."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from danetc.dsl.reading import LANGUAGE
from danetc.runtime.data.images import DECODERS
from danetc.runtime.system.devices import device_name
from danetc.runtime.training.distributed import World

MACHINE = {
    "device": "the device",
    "torch": "torch",
    "decoder": "the decoder of images",
    "threads": "the number of threads",
    "callbacks": "the list of callbacks",
}
"""Facts that may change the results of a resumed run, with their descriptions."""
LIBRARIES = (
    "torchvision", "numpy", "safetensors", "spikingjelly", "webdataset", "datasets", "tonic",
)  # fmt: skip
"""Libraries whose version is recorded."""
DRIVERS = ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version")
"""Files with the version of the GPU driver on Linux."""
CHANGED = 50
"""Maximum number of changed files to record."""


def machine_facts(world: World) -> dict[str, Any]:
    """Return the versions, the machine, the command and the git state of a run as JSON data."""
    on_gpu = world.device.type == "cuda"
    return {
        "danetc": version("danetc"),
        "language": LANGUAGE,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "decoder": DECODERS,
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "cuda": torch.version.cuda if on_gpu else None,
        "hip": torch.version.hip if on_gpu else None,
        "driver": _driver() if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "platform": platform.platform(),
        "device": device_name(world.device),
        "processes": world.size,
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "folder": str(Path.cwd()),
        "git": git_state(),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the facts in ``MACHINE`` that differ, with both values."""
    return [
        f"{what} is {now[key]} now and was {before[key]}"
        for key, what in MACHINE.items()
        if key in before and before[key] != now[key]
    ]


def git_state() -> dict[str, Any] | None:
    """Return the commit and changed files of the current work tree, or None outside of one.

    Parts that git does not report, for instance in time, are None. Programs in the configuration of the
    repository are not run. Filters are disabled, so a file that a filter rewrites may be listed as changed.
    """
    state: dict[str, Any] = dict.fromkeys(("commit", "changed", "more_changed"))
    try:
        state["commit"] = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "-z", *_STATUS, filters=_filters()).split("\0")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        is_late = isinstance(error, subprocess.TimeoutExpired)
        return state if is_late or state["commit"] is not None else None
    names = sorted(line[3:] for line in changed if line)
    return state | {"changed": names[:CHANGED], "more_changed": max(0, len(names) - CHANGED)}


_STATUS = ("--no-renames", "--untracked-files=no", "--ignore-submodules=all")
_SAFE = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
"""Environment variables that keep git from fetching objects and from writing its index."""


def _filters() -> list[str]:
    """Return the names of the settings of filters, which may be programs."""
    try:
        found = _git("config", "-z", "--name-only", "--get-regexp", r"^filter\.")
    except subprocess.CalledProcessError:  # there are none
        return []
    return found.split("\0")[:-1]


def _git(*arguments: str, filters: Sequence[str] = ()) -> str:
    unset = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, **dict.fromkeys(filters, "")}
    environment = {**os.environ, **_SAFE, "GIT_CONFIG_COUNT": str(len(unset))}
    for number, (key, value) in enumerate(unset.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return subprocess.run(
        ["git", "--no-pager", *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=20,
        check=True,
        env=environment,
    ).stdout


def _driver() -> str | None:
    """Return the version of the GPU driver, or None if it is unknown."""
    for place in DRIVERS:
        with suppress(OSError):
            found = re.search(r"\d+(\.\d+)+", Path(place).read_text("utf-8", "replace"))
            return None if found is None else found[0]
    return None


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
