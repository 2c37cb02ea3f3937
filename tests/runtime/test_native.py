"""Functions in C++: made once, kept, made anew where damaged, and what is said where they cannot be made."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
import warnings
from pathlib import Path

import pytest

from danetc.runtime.kernels import cache, native
from danetc.runtime.kernels import torch_internals as internals

SOURCES = sorted(Path(native.__file__).parent.glob("*.cpp"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    internals.notice.cache_clear()
    return tmp_path / "kernels" / "native"


def sparse() -> ctypes.CDLL | None:
    return native.library("sparse.cpp", native.source("sparse.cpp"))


def compiles(source: bytes, to: Path, *options: str) -> None:
    """Compile for each kind of vector, with every warning an error."""
    compiler = native.compiler()
    assert compiler is not None
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    for flags in ((), *(native._VECTORS.values() if is_x86 else ())):
        command = [*compiler, *native._options(), "-Wall", "-Wextra", "-Werror", *options, *flags]
        command += ["-x", "c++", "-", "-o", str(to)]
        subprocess.run(command, input=source, check=True)


@pytest.mark.thorough
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_each_source_compiles_without_a_warning(source: Path, tmp_path: Path) -> None:
    compiles(source.read_bytes(), tmp_path / "library")


def test_a_damaged_one_is_made_anew(folder: Path) -> None:
    place = native._place(native.source("sparse.cpp"), ())
    assert place.parent == folder
    folder.mkdir(parents=True)
    place.write_bytes(b"no library")
    library = sparse()
    assert library.convolve
    assert list(folder.iterdir()) == [place]


@pytest.mark.parametrize("reason", ["no compiler", "fails"])
def test_missing_is_said_once(folder: Path, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason == "no compiler":
        monkeypatch.setattr(native, "compiler", lambda: None)
        said = "there is no C++ compiler (set CXX, or install g++ or clang++) on this machine"
    else:
        monkeypatch.setattr(native, "_options", lambda: ("-no-such-flag",))
        said = "no-such-flag"
    with pytest.warns(RuntimeWarning, match=re.escape(said)):
        assert sparse() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sparse() is None
    assert not any(folder.glob("*"))


def test_windows_takes_clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.sys, "platform", "win32")
    monkeypatch.setattr(native.shutil, "which", lambda name: name == "clang-cl")
    assert native.compiler() == ["clang-cl", "--driver-mode=g++"]
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    assert native.missing_compiler() == "no C++ compiler (install LLVM, which has clang-cl)"
