"""Functions in C++ that take pointers, for what torch and Inductor have not, or take long for: compiled when
they are first called.

They need none of torch's headers, so that it takes a fraction of a second. The libraries are kept on disk
with the other kernels (``kernels.cache``).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.cache import kernel_folder
from danetc.runtime.kernels.compiled import missing_compiler
from danetc.runtime.kernels.torch_internals import InternalUse

LIBRARIES = True
"""Whether there may be any; without them torch, and kernels of Inductor's, do what they are for."""

_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared")
_VECTORS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": (
        "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma",
        "-mprefer-vector-width=512",
    ),
}  # fmt: skip
"""By what torch says of the processor. (All that it has would be more than another has that shares the
folder.)"""


def compiler() -> list[str] | None:
    """The command of the C++ compiler; None where there is none. (Inductor would find the same, but importing
    it takes longer than to compile.)"""
    own = shlex.split(os.environ.get("CXX", ""))
    for command in [own] if own else [["g++"], ["clang++"], ["c++"]]:
        if shutil.which(command[0]):
            return command
    return None


def _flags() -> tuple[str, ...]:
    return *_FLAGS, *_VECTORS.get(torch.backends.cpu.get_cpu_capability(), ())


def parallel() -> tuple[str, ...]:
    """Flags for a source that shares its work among threads, where its compiler is known to have them."""
    return ("-fopenmp",) if sys.platform == "linux" else ()


def text(name: str) -> str:
    """A source beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def is_there(source: str, more: Sequence[str] = ()) -> bool:
    """Whether a library is on the disk already, or can be on none."""
    can_be = LIBRARIES and compiler() is not None
    return not can_be or _place(source.encode(), (*_flags(), *more)).is_file()


def library(name: str, source: str, more: Sequence[str] = ()) -> ctypes.CDLL | None:
    """The library of a source, by ``more`` flags than all have. None on Windows, whose compiler takes
    others, and where it cannot be had, which is said once: torch is to do then what ``name`` is for."""
    if sys.platform == "win32" or not LIBRARIES:
        return None
    if compiler() is None:
        missing = missing_compiler("cpu") or f"no {os.environ.get('CXX')}"
        internals.notice(f"there is {missing} on this machine: {InternalUse.COMPILE.value}")
        return None
    try:
        return _library(source.encode(), (*_flags(), *more))
    except (OSError, subprocess.SubprocessError) as error:
        output = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace")
        reason = next((line for line in output.splitlines() if "error" in line), output)
        internals.notice(f"{name} could not be compiled, and torch runs in its place: {reason}")
        return None


def _library(source: bytes, flags: Sequence[str]) -> ctypes.CDLL:
    """Raises OSError and SubprocessError."""
    place = _place(source, flags)
    if place.is_file():
        try:
            return ctypes.CDLL(str(place))
        except OSError:  # damaged: it is made anew
            place.unlink(missing_ok=True)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made = Path(folder) / "library"
        command = [*(compiler() or ()), *flags, "-x", "c++", "-", "-o", str(made)]
        subprocess.run(command, input=source, capture_output=True, check=True, timeout=300)
        os.replace(made, place)  # whole or not at all, whoever else makes it
    return ctypes.CDLL(str(place))


def _place(source: bytes, flags: Sequence[str]) -> Path:
    """The file of a library: its name tells apart all that may make its code differ."""
    key = source, tuple(flags), platform.machine(), sys.platform
    return kernel_folder() / "native" / hashlib.sha256(repr(key).encode()).hexdigest()
