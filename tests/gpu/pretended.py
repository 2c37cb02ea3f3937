"""Pretended CUDA devices: the library is compiled here and used in separate processes (``device``)."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from danetc.runtime.kernels import native

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_suffix(".cpp")


def lacking() -> str | None:
    """Return why no device can be pretended here, or None."""
    if sys.platform != "linux":
        return "CUDA devices are pretended on Linux alone"
    if torch.version.cuda or torch.version.hip:
        return "this torch has CUDA, and none can be pretended"
    return native.missing_compiler()


def library() -> Path:
    """Return the compiled library, which is kept in build/."""
    folder = Path(torch.__file__).parent
    headers, libraries = folder / "include", folder / "lib"
    command = [
        *(native.compiler() or ()), "-std=c++20", "-O0", "-fPIC", "-shared", str(SOURCE),
        f"-I{headers}", f"-I{headers / 'torch/csrc/api/include'}", f"-L{libraries}",
        "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{libraries}",
    ]  # fmt: skip
    key = repr((command, torch.__version__)).encode() + SOURCE.read_bytes()
    place = ROOT / "build" / "pretended" / f"{hashlib.sha256(key).hexdigest()}.so"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            made = Path(scratch) / place.name
            subprocess.run([*command, "-o", str(made)], check=True)
            os.replace(made, place)  # another process may do this at the same time
    return place


def inside(*arguments: str, devices: int = 1, **rest: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ...`` in the repository with pretended devices."""
    own = {
        "DANETC_PRETENDED_LIBRARY": str(library()),
        "PRETENDED_DEVICES": str(devices),
        "DANETC_TEST_DEVICE": "cuda",  # read by the tests of training
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | own, text=True, **rest)
