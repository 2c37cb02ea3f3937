"""Kernels on disk that run without Inductor, and the settings that they are known by."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.runtime.kernels import saved
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.cache import VARIABLE, private_folder
from danetc.runtime.kernels.compiled import CompiledFunction, missing_compiler
from tests.differential.networks import small

pytestmark = pytest.mark.usefixtures("compiling")
needs_compiler = pytest.mark.skipif(
    missing_compiler("cpu") is not None, reason="no C++ compiler on this machine"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of kernels."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    saved._remembered.cache_clear()
    yield private_folder(tmp_path / "kernels")
    saved._remembered.cache_clear()


# -- a whole step ----------------------------------------------------------------------------------


STEP = """
import hashlib, sys, torch, danetc
torch.manual_seed(0)
torch.set_num_threads(1)
model = danetc.build(text=sys.argv[1])
x = torch.randn(2, 3, 8, 8)
digest = hashlib.sha256()
out = model(x)
out.square().sum().backward()
model.eval()
with torch.no_grad():
    values = [out.detach(), model(x), model.stream(x)[0], danetc.fold(model)(x)]
for value in (*values, *(p.grad for p in model.parameters())):
    digest.update(value.numpy().tobytes())
print(digest.hexdigest(), "torch._inductor" in sys.modules)
"""


@pytest.mark.thorough
@needs_compiler
def test_the_second_process_runs_the_same_kernels_without_the_compiler(folder: Path) -> None:
    said, stages = [], "stage(basic(8), 2) via sew"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", STEP, f"use std\n{small(stages)}"],
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stdout.split())
    (first, with_compiler), (second, without) = said
    assert first == second
    assert (with_compiler, without) == ("True", "False")


# -- what is kept ----------------------------------------------------------------------------------


def thirds(x: Tensor, y: Tensor) -> tuple[Tensor]:
    y.copy_(x / 3)
    return (x * 3,)


@pytest.mark.thorough
@needs_compiler
def test_what_cannot_run_any_more_is_made_anew(folder: Path) -> None:
    def run() -> None:
        x, y = torch.randn(2, 3, 4, 5), torch.empty(2, 3, 4, 5)
        (thrice,) = CompiledFunction(thirds, "thirds", (True, True), "3 x, x / 3")(x, y)
        assert torch.equal(thrice, 3 * x)
        assert torch.equal(y, x / 3)

    run()
    (place,) = [each for each in folder.iterdir() if each.is_file()]
    whole = place.read_bytes()
    assert whole.startswith(saved._MARK)
    for damaged in (b"", saved._MARK, whole[:-40]):
        place.write_bytes(damaged)
        run()
        assert place.read_bytes().startswith(saved._MARK)
    saved._library.cache_clear()
    for library in folder.rglob("*.so"):
        library.unlink()
    run()


class Runner:
    """As Inductor writes them; what it calls is not there, or not what it seems."""

    def itself(self, args: list[Tensor]) -> Any:
        return self

    def known(self, args: list[Tensor]) -> Any:
        return torch.zeros(3) + math.pi

    def unknown(self, args: list[Tensor]) -> Any:
        return subprocess.run(args)  # type: ignore[call-overload]

    def named_alike(self, args: list[Tensor]) -> Any:
        return empty_strided_cpu(args)

    def inside(self, args: list[Tensor]) -> Any:
        return (lambda: subprocess)()

    def builtin(self, args: list[Tensor]) -> Any:
        return len(args)


def empty_strided_cpu(args: list[Tensor]) -> list[Tensor]:
    return args


def test_what_is_not_of_the_known_form_is_not_kept(folder: Path) -> None:
    place, runner = folder / "a kernel", Runner()
    for name in ("itself", "unknown", "named_alike", "inside", "builtin"):
        call: Callable[..., Any] = getattr(runner, name)
        assert not saved.write(call, place), name
    assert not saved.write(empty_strided_cpu, place)
    assert not saved.write(None, place)
    assert saved.read(place) is None
    assert saved.write(runner.known, place)
    run = saved.read(place)
    assert run is not None
    assert torch.equal(run(), torch.zeros(3) + math.pi)  # type: ignore[arg-type]
    place.write_bytes(b"in Inductor's form")
    assert saved.read(place) is None


# -- settings --------------------------------------------------------------------------------------

SETTINGS = """
import sys
from danetc.runtime.kernels import saved
from danetc.runtime.kernels.compiled import compiles, missing_compiler
{before}
known = saved.settings()
imported = "torch._inductor.config" in sys.modules
if {compiles}:
    missing_compiler("cpu")
print(known, imported, saved.has_had_compiler())
"""


def asked(before: str = "", compiles: bool = True, **variables: str) -> tuple[str, bool, bool]:
    """The settings of another process, whether it had to import the compiler for them, and whether an
    earlier one had a compiler."""
    import os

    program = SETTINGS.format(before=before, compiles=compiles)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    known, imported, had = done.stdout.split()
    return known, imported == "True", had == "True"


@pytest.mark.thorough
@needs_compiler
def test_settings_are_those_that_a_process_begins_with(folder: Path) -> None:
    first, imported, _ = asked(compiles=False)
    assert imported
    assert asked() == (first, True, False), "without a compiler nothing is remembered"
    assert asked() == (first, False, True)
    changed = "import torch._inductor.config as config; config.epilogue_fusion = False"
    other, imported, _ = asked(changed)
    assert imported
    assert other != first
    assert asked() == (first, False, True)
    of_variable, imported, _ = asked(TORCHINDUCTOR_USE_FAST_MATH="1")
    assert imported
    assert of_variable != first
    assert asked(TORCHINDUCTOR_USE_FAST_MATH="1") == (of_variable, False, True)


def test_a_folder_that_cannot_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later processes import the compiler then."""
    saved._FRESH.add(folder)
    (folder / "settings").touch()
    saved.remember_settings()
    assert saved._remembered(folder) is None
    assert folder not in saved._FRESH


def test_variables_of_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved._settings_file(folder)
    for variable in ("TORCHINDUCTOR_CACHE_DIR", saved._DATA_POINTER, "TORCHELASTIC_RUN_ID", "HOME"):
        monkeypatch.setenv(variable, "another")
        assert saved._settings_file(folder) == before, variable
    for variable in ("CXX", "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCH_COMPILE_DEBUG"):
        monkeypatch.setenv(variable, "another")
        assert saved._settings_file(folder) != before, variable
        before = saved._settings_file(folder)


def test_its_names_are_torchs() -> None:
    """That what kernels call is there is for `test_torch_internals.py`."""
    assert internals.find(f"{saved._GUARDS}{saved._DATA_POINTER.lower()}") > 0
