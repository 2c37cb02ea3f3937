"""Functions in C++ that take pointers, compiled when they are first called.

They do not include headers of torch, so compilation takes a fraction of a second. The libraries are
stored with the other kernels (``kernels.cache``). The compiler is GCC or Clang on Linux, Clang on
macOS, and ``clang-cl`` on Windows.
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
from functools import lru_cache
from pathlib import Path

import torch

from danetc.runtime.kernels.cache import kernel_folder
from danetc.runtime.kernels.torch_internals import InternalUse, notice

_OPTIONS = (
    "-O3", "-std=c++17", "-shared", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi",
)  # fmt: skip
_SYSTEM = {"linux": ("-fPIC", "-fopenmp"), "darwin": ("-fPIC",)}
_VECTORS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": (
        "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma",
        "-mprefer-vector-width=512",
    ),
}  # fmt: skip
"""Options by the capability of the processor that torch reports. (``-march=native`` would use instructions
that another machine sharing the folder may lack.)"""
_EXPORT = '"C" __declspec(dllexport)' if sys.platform == "win32" else '"C"'


def compiler() -> list[str] | None:
    """Return the command of the C++ compiler, or None if there is none."""
    if sys.platform == "win32":
        return ["clang-cl", "--driver-mode=g++"] if shutil.which("clang-cl") else None
    own = shlex.split(os.environ.get("CXX", ""))
    for command in [own] if own else [["g++"], ["clang++"], ["c++"]]:
        if shutil.which(command[0]):
            return command
    return None


def missing_compiler() -> str | None:
    """Return what to install to compile C++, or None if there is a compiler."""
    if compiler() is not None:
        return None
    if sys.platform == "win32":
        return "no C++ compiler (install LLVM, which has clang-cl)"
    return "no C++ compiler (set CXX, or install g++ or clang++)"


def source(name: str) -> str:
    """Return the text of a source file in this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def is_compiled(text: str, *options: str) -> bool:
    """True if the library of a source is on disk, or if no library can be compiled."""
    return compiler() is None or _place(text, options).is_file()


def library(name: str, text: str, *options: str) -> ctypes.CDLL | None:
    """Return the library of a source, compiled with these options besides the common ones; None, with one
    notice, if it cannot be compiled."""
    missing = missing_compiler()
    if missing is not None:
        notice(f"there is {missing} on this machine: {InternalUse.COMPILE.value}")
        return None
    try:
        return _library(text, options)
    except (OSError, subprocess.SubprocessError) as error:
        output = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace")
        reason = next((line for line in output.splitlines() if "error" in line), output)
        notice(f"{name} could not be compiled and runs operation by operation: {reason}")
        return None


def _library(text: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """Raises OSError and SubprocessError."""
    place = _place(text, options)
    if place.is_file():
        try:
            return ctypes.CDLL(str(place))
        except OSError:  # damaged: compile it again
            place.unlink(missing_ok=True)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made = Path(folder) / place.name
        command = [*(compiler() or ()), *_options(), *options, "-x", "c++", "-", "-o", str(made)]
        subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=300)
        os.replace(made, place)  # another process may do the same
    return ctypes.CDLL(str(place))


@lru_cache(maxsize=1)
def _options() -> tuple[str, ...]:
    vectors = _VECTORS.get(torch.backends.cpu.get_cpu_capability(), ())
    return *_OPTIONS, *_SYSTEM.get(sys.platform, ()), *vectors, f"-DPUBLIC=extern {_EXPORT}"


def _place(text: str, options: tuple[str, ...]) -> Path:
    """The file of a library, named by everything that its code depends on."""
    key = text, _options(), options, platform.machine(), sys.platform
    name = hashlib.sha256(repr(key).encode()).hexdigest()
    return kernel_folder() / "native" / (name + ".dll" * (sys.platform == "win32"))
