"""The folder of compiled kernels: the user's own, or none that lasts."""

from __future__ import annotations

import os
import platform
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from danetc.runtime.kernels import cache as kernel_cache
from danetc.runtime.kernels import compiled, torch_internals
from danetc.runtime.kernels.cache import NotPrivate, kernel_folder, private_folder
from danetc.runtime.kernels.compiled import CompiledFunction
from tests.runtime.triton_source import uncompiled

needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is known of folders, before and after."""
    for cached in (kernel_cache._folder, torch_internals.notice):
        cached.cache_clear()
    yield
    for cached in (kernel_cache._folder, torch_internals.notice):
        cached.cache_clear()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@needs_owners
def test_it_is_made_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the user's cache folder, or in the one that the variable names; also with an open umask."""
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


def group_writable(place: Path) -> None:
    place.mkdir()
    place.chmod(0o770)


def world_writable(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def linked(place: Path) -> None:
    place.with_name("elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.with_name("elsewhere"))


def a_file(place: Path) -> None:
    place.touch()


def replaceable(place: Path) -> None:
    place.mkdir(mode=0o700)
    place.parent.chmod(0o777)


def below_a_file(place: Path) -> None:
    place.parent.rmdir()
    place.parent.touch()


REFUSED = {
    group_writable: "can be written to by others (mode 0770)",
    world_writable: "can be written to by others (mode 0777)",
    linked: "is a symbolic link",
    a_file: "is not a folder",
    replaceable: "could replace",
    below_a_file: "Not a directory",
}


@needs_owners
@pytest.mark.parametrize("made", REFUSED, ids=lambda made: made.__name__)
def test_what_others_could_have_written_is_not_read(
    made: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private folder takes its place, which is said once."""
    assert callable(made)
    place = tmp_path / "mine" / "kernels"
    place.parent.mkdir()
    made(place)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(place.parent))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = kernel_folder()
        assert kernel_folder() == found
    assert mode(found) == 0o700
    assert tmp_path not in found.parents
    (notice,) = [str(item.message) for item in caught]
    assert REFUSED[made] in notice  # type: ignore[index]
    assert "DANETC_CACHE_DIR" in notice


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
    """It loads what the first compiles, and compiles itself where that has died or takes too long."""
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    lock = kernel_folder() / f"{platform.node()}.lock"
    said: list[str] = []
    traced: list[CompiledFunction] = []
    kernel = CompiledFunction(lambda x: (x + x,), "double", (True,), "2 x")
    x = torch.ones(1, 2, 3, 4)

    def one_more(kernel: CompiledFunction, *rest: object) -> Any:
        traced.append(kernel)
        return uncompiled(kernel)

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
    monkeypatch.setattr(compiled, "_compiled", one_more)
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
    assert len(traced) == (first != "compiles")
    assert said == ["note: another process compiles kernels; waiting for it"]
    notices = [str(item.message) for item in caught if item.category is RuntimeWarning]
    assert len(notices) == (first == "hangs")
    assert all("this one compiles its own" in text and str(lock) in text for text in notices)
