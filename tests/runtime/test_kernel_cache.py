"""The private folder of compiled kernels, and its C++ libraries, which are rebuilt if damaged."""

import ctypes
import os
import platform
import re
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from danetc.runtime.kernels import cache as kernel_cache
from danetc.runtime.kernels import compiled, native, torch_internals
from danetc.runtime.kernels.cache import NotPrivate, kernel_folder, private_folder
from danetc.runtime.kernels.compiled import CompiledFunction
from tests.runtime.triton_source import uncompiled

needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")


@pytest.fixture(autouse=True)
def _fresh(unsaid: None) -> Iterator[None]:
    kernel_cache._folder.cache_clear()
    yield
    kernel_cache._folder.cache_clear()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@needs_owners
def test_it_is_made_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the user's cache folder or where the variable points, and private with an open umask too."""
    monkeypatch.delenv("DANETC_CACHE_DIR", raising=False)
    monkeypatch.setattr(
        "platformdirs.user_cache_path", lambda name, appauthor: tmp_path / "c" / name
    )
    before = os.umask(0)
    try:
        assert kernel_folder() == tmp_path / "c" / "danetc" / "kernels"
        monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path / "other"))
        assert kernel_folder() == tmp_path / "other" / "kernels"
    finally:
        os.umask(before)
    for place in ("c", "c/danetc", "c/danetc/kernels", "other", "other/kernels"):
        assert mode(tmp_path / place) == 0o700, place


def test_triton_finds_its_own_libdevice_with_all_settings_of_inductor() -> None:
    options = pytest.importorskip("triton.backends.nvidia.compiler").CUDAOptions
    own = dict(options(arch="sm90").extern_libs)["libdevice"]
    with kernel_cache.making_kernels():
        assert os.environ["TRITON_LIBDEVICE_PATH"] == own
    assert Path(own).is_file()


@needs_owners
def test_others_may_not_read_it_any_more_where_they_could(tmp_path: Path) -> None:
    place = tmp_path / "kernels"
    place.mkdir()
    place.chmod(0o755)
    assert private_folder(place) == place
    assert mode(place) == 0o700


def linked(place: Path) -> None:
    place.with_name("elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.with_name("elsewhere"))


def replaceable(place: Path) -> None:
    place.mkdir()
    place.parent.chmod(0o777)


def below_a_file(place: Path) -> None:
    place.parent.rmdir()
    place.parent.touch()


REFUSED: list[tuple[Callable[[Path], object], int | None, str]] = [
    (Path.mkdir, 0o770, "can be written to by others (mode 0770)"),
    (Path.mkdir, 0o777, "can be written to by others (mode 0777)"),
    (linked, None, "is a symbolic link"),
    (Path.touch, None, "is not a folder"),
    (replaceable, 0o700, "could replace"),
    (below_a_file, None, "Not a directory"),
]


@needs_owners
@pytest.mark.parametrize(("made", "mode_of", "said"), REFUSED)
def test_what_others_could_have_written_is_not_read(
    made: Callable[[Path], object],
    mode_of: int | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A private folder replaces it, with one warning."""
    place = tmp_path / "mine" / "kernels"
    place.parent.mkdir()
    made(place)
    if mode_of is not None:
        place.chmod(mode_of)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(place.parent))
    with pytest.warns(RuntimeWarning, match=f"{re.escape(said)}.*DANETC_CACHE_DIR") as caught:
        found, again = (kernel_folder() for _ in range(2))
    assert found == again
    assert len(caught) == 1
    assert mode(found) == 0o700
    assert tmp_path not in found.parents


@needs_owners
def test_that_of_another_user_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = private_folder(tmp_path / "kernels")
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    with pytest.raises(NotPrivate, match="belongs to another user"):
        private_folder(place)


# -- several processes -----------------------------------------------------------------------------

HOLD = """
import filelock, sys
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
input()
"""


@pytest.mark.usefixtures("inductor")
@pytest.mark.parametrize("first", ["compiles", "is killed", "hangs"])
def test_a_second_process_waits_for_the_first(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads what the first compiles, and compiles itself if the first is killed or takes too long."""
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    lock = kernel_folder() / f"{platform.node()}.lock"
    said: list[str] = []
    traced = Mock(side_effect=uncompiled)
    kernel = CompiledFunction(lambda x: (x + x,), "double", (True,), "2 x")
    x = torch.ones(1, 2, 3, 4)

    def meanwhile(note: str) -> None:
        said.append(note)
        if first == "compiles":
            compiled._save("code", compiled._place(kernel, [x]))
            other.communicate("done")
        elif first == "is killed":
            other.kill()

    monkeypatch.setattr(kernel_cache, "say", meanwhile)
    monkeypatch.setattr(kernel_cache, "PATIENCE", 0.1 if first == "hangs" else 60.0)
    monkeypatch.setattr(compiled, "missing_compiler", lambda device: None)
    monkeypatch.setattr(compiled, "_compiled", traced)
    monkeypatch.setattr(torch_internals, "load_code", lambda text: lambda args: [3 * args[0]])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other, warnings.catch_warnings(record=True) as caught:  # fmt: skip
        warnings.simplefilter("always")
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        (y,) = kernel(x)
        other.kill()
    assert torch.equal(y, x * (3 if first == "compiles" else 2))
    assert traced.call_count == (first != "compiles")
    assert said == ["note: another process compiles kernels; waiting for it"]
    notices = [str(item.message) for item in caught if item.category is RuntimeWarning]
    assert len(notices) == (first == "hangs")
    assert all("this one compiles its own" in text and str(lock) in text for text in notices)


# -- functions in C++ -----------------------------------------------------------------------------

SOURCES = sorted(Path(native.__file__).parent.glob("*.cpp"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
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


NO_COMPILER = "there is no C++ compiler (set CXX, or install g++ or clang++) on this machine"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("compiler", None, NO_COMPILER), ("_options", ("-no-such-flag",), "no-such-flag")],
)
def test_missing_is_said_once(
    folder: Path, name: str, value: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, name, lambda: value)
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
