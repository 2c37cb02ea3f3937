"""Compiled kernels: the numbers of the functions they come from, and what happens without them.

Compiling takes seconds a kernel: two are compiled here, and run at every size.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels import native, native_group, saved
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.bit_packing import _native
from danetc.runtime.kernels.compiled import CompiledFunction, missing_compiler
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from tests.differential.helpers import text
from tests.differential.networks import small

pytestmark = pytest.mark.usefixtures("compiling")

STEPS = 3
TERMS = (Term(normed=True, static=False), Term(normed=False, static=True))
needs_compiler = pytest.mark.skipif(
    missing_compiler("cpu") is not None, reason="no C++ compiler on this machine"
)


@pytest.fixture
def fresh() -> Iterator[None]:
    """No kernel is known, before and after."""

    def clear() -> None:
        for cache in (fusion_kernel, _native, internals.notice):
            cache.cache_clear()
        native_group.forget()

    clear()
    yield
    clear()


def arguments(batch: int, channels: int, length: int, last: bool = False) -> list[Tensor]:
    shape = (batch, length, channels) if last else (batch, channels, length)
    affine = [torch.rand(channels) + 0.5, torch.randn(channels)]
    return [
        torch.randn(STEPS, *shape),
        torch.randn(shape),
        *(value if last else value.unsqueeze(1) for value in affine),
        torch.tensor(0.3),
    ]


@pytest.mark.thorough
@needs_compiler
def test_one_kernel_for_every_size(
    compiled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fresh: None, tmp_path: Path
) -> None:
    """float32: spikes equal, gradients to rounding; sizes of 1; and channels last."""
    kernel = fusion_kernel(compiled("PLIF").text(), TERMS, STEPS)
    count = 0
    plain = compiler._make

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return plain(*args)

    monkeypatch.setattr(compiler, "_make", counted)
    place_of = compiler.saved.place_of  # no kernel of an earlier process is read
    monkeypatch.setattr(compiler.saved, "place_of", lambda *known: tmp_path / place_of(*known).name)
    torch.manual_seed(0)
    for last in (False, True):
        for size in ((4, 8, 9), (1, 8, 9), (2, 1, 9), (2, 8, 1), (1, 1, 1), (5, 70, 33)):
            given = arguments(*size, last)
            grad = torch.randn_like(given[0])
            monkeypatch.setattr(compiler, "COMPILE", False)
            (expected,) = kernel.forward(*given)
            grads = kernel.backward(grad, *given)
            monkeypatch.setattr(compiler, "COMPILE", True)
            if not last:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)
                    (found,) = kernel.forward(*given)
                assert torch.equal(found, expected)
            # One layout is enough for the other direction.
            else:
                for one, other in zip(kernel.backward(grad, *given), grads, strict=True):
                    assert one.shape == other.shape
                    scale = max(1.0, float(other.abs().max()))
                    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6 * scale)
    assert count == 2, "one kernel for all sizes"
    monkeypatch.setattr(compiler, "_make", plain)
    with torch.inference_mode():
        given = arguments(2, 3, 4)
        (found,) = kernel.forward(*given)
        assert torch.equal(found, kernel.forward.function(*given)[0])  # type: ignore[attr-defined]


def double(x: Tensor) -> tuple[Tensor]:
    return (x * 2,)


@pytest.mark.thorough
@needs_compiler
def test_a_kernel_on_disk_is_not_traced_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same text is loaded, another text or a damaged file is compiled; the numbers are those
    of the function, with an output and in place. All that is written is in the user's folder."""
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    theirs = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    traced: list[str] = []
    plain = compiler._compiled

    def counted(*args: Any) -> Any:
        traced.append(args[0].function.__name__)
        return plain(*args)

    def both(x: Tensor, y: Tensor) -> tuple[Tensor]:
        y.copy_(x / 2)
        return (2 * x,)

    monkeypatch.setattr(compiler, "_compiled", counted)
    for expected in (["both"], []):
        for shape in ((2, 3, 4, 5), (2, 1, 7, 1)):
            x, y = torch.randn(shape), torch.empty(shape)
            (twice,) = CompiledFunction(both, "both", (True, True), "2 x, x / 2")(x, y)
            assert torch.equal(twice, 2 * x)
            assert torch.equal(y, x / 2)
        assert traced == expected
        traced.clear()
    files = [each for each in (tmp_path / "kernels").iterdir() if each.is_file()]
    assert len(files) == 1
    assert list((tmp_path / "kernels" / "inductor").rglob("*.so"))
    assert not list((tmp_path / "temporary").iterdir())
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == theirs
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    (twice,) = CompiledFunction(double, "double", (True,), "2 x")(x)
    assert traced == ["double"]
    assert torch.equal(twice, 2 * x)


@pytest.mark.thorough
@needs_compiler
def test_a_kernel_is_called_without_what_stands_around_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compiled now, or loaded in torch's form; what is no kernel, or several, is left as it is."""
    monkeypatch.setattr(saved, "write", lambda *_: False)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    around: list[Any] = []
    plain = compiler._direct

    def seen(run: Any) -> Any:
        around.append(run)
        return plain(run)

    monkeypatch.setattr(compiler, "_direct", seen)
    x = torch.randn(2, 3, 4, 5)
    for _ in range(2):
        kernel = CompiledFunction(double, "double", (True,), "2 x")
        (twice,) = kernel(x)
        (run,) = kernel._runs.values()
        assert run is not around[-1]
        assert torch.equal(around[-1](x)[0], twice)
        assert torch.equal(run(x)[0], 2 * x)
    assert len(around) == 2
    both = lambda *args: (around[0](*args), around[1](*args))  # noqa: E731
    for run in (double, both):
        assert plain(run) is run


def test_a_kernel_that_fails_to_compile_runs_uncompiled_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("no registers left\nand more of that")

    monkeypatch.setattr(compiler, "_compile", broken)
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: None)
    run = CompiledFunction(double, "IF behind norm, forward", (True,))
    x = torch.ones(1, 2, 3, 4)
    with pytest.warns(RuntimeWarning, match="IF behind norm, forward .* no registers left$"):
        (y,) = run(x)
    assert torch.equal(y, 2 * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (y,) = run(x)
    assert torch.equal(y, 2 * x)


def test_a_network_trains_where_nothing_can_be_compiled(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    """Without a compiler on the machine: one notice for all kernels, and the same numbers."""
    for module in (compiler, native):
        monkeypatch.setattr(module, "missing_compiler", lambda device: "no C++ compiler")
    monkeypatch.setattr(native, "compiler", lambda: None)
    monkeypatch.setattr(compiler, "_compile", lambda *args: pytest.fail("tried to compile"))
    graph = text(small("stage(basic(4), 2) via origin"))
    model = emit(graph, 0, "fused")
    x = torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y = model(x)
        y.sum().backward()
    assert [str(item.message).split(":")[0] for item in caught] == [
        "there is no C++ compiler on this machine"
    ]
    assert torch.equal(y, emit(graph, 0)(x))


def test_a_missing_compiler_is_found_early() -> None:
    from torch._inductor import config

    missing_compiler.cache_clear()
    with config.patch({"cpp.cxx": ("/nowhere/g++",)}):
        reason = missing_compiler("cpu")
    missing_compiler.cache_clear()
    assert reason is not None
    assert "C++ compiler" in reason
    assert "CXX" in reason


@needs_compiler
def test_a_compiler_that_was_there_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """But where there is no C++ compiler any more, as where another machine shares the folder."""
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: "no C++ compiler")
    for had, found, wanted in (
        (True, True, None),
        (True, False, "no C++ compiler"),
        (False, True, "no C++ compiler"),
    ):
        monkeypatch.setattr(saved, "has_had_compiler", lambda had=had: had)
        monkeypatch.setattr(shutil, "which", lambda name, found=found: name if found else None)
        compiler._finds_cpp.cache_clear()
        assert compiler.lacking_compiler("cpu") == wanted
        assert compiler.compiles("cpu") is (wanted is None)
        assert compiler.lacking_compiler("cuda") == "no C++ compiler"
    monkeypatch.undo()
    compiler._finds_cpp.cache_clear()


def test_errors_of_arguments_are_not_taken_for_errors_of_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only compiling falls back. What fails when a compiled kernel runs is raised."""

    def failing(*args: Tensor) -> tuple[Tensor]:
        raise ValueError("bad argument")

    monkeypatch.setattr(compiler, "_compile", lambda *args: failing)
    with pytest.raises(ValueError, match="bad argument"):
        CompiledFunction(double, "double", (True,))(torch.ones(1, 2, 3, 4))


def test_a_full_disk_is_named(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor wraps an error of the system that says no file."""

    class InductorError(RuntimeError):
        inner_exception = OSError(errno.ENOSPC, "No space left on device")

    def full(*arguments: object) -> None:
        raise InductorError("OSError: [Errno 28] No space left on device")

    monkeypatch.setattr(compiler, "_compile", full)
    compiler._failed.cache_clear()
    kernel = CompiledFunction(lambda x: (x + 1,), "one more", (True,))
    with pytest.warns(RuntimeWarning, match="one more could not be compiled") as caught:
        kernel.compile([torch.zeros(2, 2, 2, 2)], {})
    folder = re.escape(str(compiler.kernel_folder()))
    assert re.search(f"{folder}: the disk is full .* DANETC_CACHE_DIR", str(caught[0].message))
    compiler._failed.cache_clear()


class OnGpu:
    """What a kernel for a GPU looks at of its argument."""

    device, dtype = torch.device("cuda"), torch.float32

    def __init__(self, size: int) -> None:
        self.shape = torch.Size([1, 1, 1, size])

    def numel(self) -> int:
        return self.shape.numel()

    def dim(self) -> int:
        return len(self.shape)


def test_a_kernel_for_a_gpu_is_first_called_where_it_may_be_tuned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that was made along with another; and never on more than 32 bits can count."""
    entered: list[str] = []

    @contextmanager
    def making() -> Iterator[dict[str, Any]]:
        entered.append("making")
        yield {}

    monkeypatch.setattr(compiler, "making_kernels", making)
    monkeypatch.setattr(compiler, "_MAX_INDEX", 8)
    monkeypatch.setattr(compiler.internals, "has_values", lambda x: True)
    kernel = CompiledFunction(lambda *args: ["function"], "a test", (True,))  # type: ignore[list-item]
    small, large = OnGpu(7), OnGpu(8)
    assert kernel(large) == ["function"]  # type: ignore[arg-type, comparison-overlap]
    assert not entered
    kernel._runs[kernel.key([small])] = lambda *args: ["kernel"]  # type: ignore[list-item]
    assert [kernel(each) for each in (small, small, large)] == [  # type: ignore[arg-type, comparison-overlap]
        ["kernel"], ["kernel"], ["function"],
    ]  # fmt: skip
    assert entered == ["making"]
