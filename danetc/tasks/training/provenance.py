"""Facts of a run in run.json: versions, machine, command and git state."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from danetc.dsl.reading import LANGUAGE, open_regular

if TYPE_CHECKING:
    from danetc.runtime.training.distributed import World
    from danetc.tasks.training.request import TrainingPlan

MACHINE = {
    "device": "the device",
    "torch": "torch",
    "threads": "the number of threads",
}
"""Names of facts that may change the results of a resumed run, with their descriptions."""
LIBRARIES = (
    "torchvision", "numpy", "safetensors", "spikingjelly", "webdataset", "datasets", "tonic",
)  # fmt: skip
"""Names of the libraries whose versions are recorded."""
TEXT = 2**24
"""Maximum size of a file that is also compared without carriage returns, as git may store it."""
CHANGED = 50
"""Maximum number of changed files that are named."""


def facts(plan: TrainingPlan, world: World) -> dict[str, Any]:
    """Return the facts of a run on rank 0, as JSON data."""
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
            "spec": request.spec or "<text>",
            "init": request.init,
            "memory": request.memory,
            "classes": request.classes,
            "subset_seed": request.subset_seed,
        },
        "data": plan.data.describe(),
        "recipe": plan.recipe.as_dict(),
    }


def git_state() -> dict[str, Any] | None:
    """Return commit and changed files of the work tree of the process; None outside of one.

    git compares its index with the commit; the files are compared with the index here, since git
    would run programs named in the repository's configuration (fsmonitor, filters), also in
    submodules. A file that a filter or an encoding changes on its way into git is listed once it is
    newer than the index.
    """
    try:
        top, commit = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        staged = _git("diff-index", "--cached", "--name-only", "--no-renames", "-z", "HEAD")
        listed = _git("ls-files", "-z", "--stage", "--debug", "--full-name", ":/")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    entries = (_Entry(*each.groups()) for each in _ENTRY.finditer(listed))
    edited = (each.path for each in entries if each.is_changed(Path(top)))
    changed = sorted({*filter(None, staged.split("\0")), *edited})
    return {
        "commit": commit,
        "changed": changed[:CHANGED],
        "more_changed": max(0, len(changed) - CHANGED),
    }


_ENTRY = re.compile(
    r"(\d{6}) ([0-9a-f]+) (\d)\t([^\0]+)\0"
    r"\s+ctime: \d+:\d+\s+mtime: (\d+):(\d+)\s+dev: \d+\s+ino: \d+\s+uid: \d+\s+gid: \d+"
    r"\s+size: (\d+)\s+flags: ([0-9a-f]+)\n"
)
"""A line of the index, as ``git ls-files --debug`` writes it."""
_NOT_LOOKED_AT = 0x4000_8000
"""Flags of files that are not in the work tree (sparse checkouts), or are assumed unchanged."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file in the index of git."""

    mode: str
    name: str
    stage: str
    path: str
    seconds: str
    nanoseconds: str
    size: str
    flags: str

    def is_changed(self, top: Path) -> bool:
        """True if the file in the work tree has other contents than the index."""
        if int(self.flags, 16) & _NOT_LOOKED_AT or self.mode == "160000":  # a submodule
            return False
        place = top / self.path
        try:
            found = place.lstat()
            if stat.S_ISLNK(found.st_mode):
                link = os.fsencode(os.readlink(place))
                return self.mode != "120000" or not self._holds(io.BytesIO(link), len(link))
            time = int(self.seconds) * 10**9 + int(self.nanoseconds)
            if time % 10**9 and found.st_mtime_ns == time and found.st_size == int(self.size):
                return self.stage != "0"
            with open_regular(place) as stream:
                if found.st_size == int(self.size) and self._holds(stream, found.st_size):
                    return False
                if found.st_size > TEXT:
                    return True
                stream.seek(0)
                text = stream.read().replace(b"\r\n", b"\n")
                return not self._holds(io.BytesIO(text), len(text))
        except OSError:
            return True

    def _holds(self, stream: Any, size: int) -> bool:
        taken = hashlib.new("sha1" if len(self.name) == 40 else "sha256", usedforsecurity=False)
        taken.update(b"blob %d\0" % size)
        return hashlib.file_digest(stream, lambda: taken).hexdigest() == self.name


_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
"""Missing objects are not fetched: that would run programs named in the configuration."""


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
         *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=20,
        check=True,
        env={**os.environ, **_ENVIRONMENT},
    )  # fmt: skip
    return done.stdout


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
