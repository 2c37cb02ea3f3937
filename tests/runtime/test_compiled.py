"""Kernels for a GPU: their numbers, and what happens if they cannot be compiled. The CPU stands for a GPU."""

from __future__ import annotations

import errno
import os
import re
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
from danetc.runtime.kernels import native, native_group
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.bit_packing import _native
from danetc.runtime.kernels.compiled import CompiledFunction, missing_compiler
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from tests.differential.helpers import text
from tests.differential.networks import small

pytestmark = pytest.mark.usefixtures("inductor")

STEPS = 3
TERMS = (Term(normed=True, static=False), Term(normed=False, static=True))
needs_compiler = pytest.mark.skipif(
    native.compiler() is None, reason="no C++ compiler on this machine"
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
def test_one_kernel_for_every_batch(
    compiled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In float32: spikes are equal, gradients to rounding; also with channels last."""
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    kernel = fusion_kernel(compiled("PLIF").text(), TERMS, STEPS)
    torch.manual_seed(0)
    forward, backward = kernel.forward, kernel.backward
    assert isinstance(forward, CompiledFunction)
    assert isinstance(backward, CompiledFunction)
    for batch in (4, 1, 5):
        given = arguments(batch, 8, 9)
        (found,) = forward(*given)
        assert torch.equal(found, forward.function(*given)[0])
        given = arguments(batch, 8, 9, last=True)
        grad = torch.randn_like(given[0])
        for one, other in zip(backward(grad, *given), backward.function(grad, *given), strict=True):
            assert one.shape == other.shape
            scale = max(1.0, float(other.abs().max()))
            torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6 * scale)
    assert len(forward._runs) == len(backward._runs) == 1


def double(x: Tensor) -> tuple[Tensor]:
    return (x * 2,)


@pytest.mark.thorough
@needs_compiler
def test_a_kernel_on_disk_is_not_traced_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same text is loaded, another text or a damaged file is compiled. All files are in the user's folder."""
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
        return (2 * x + y,)

    monkeypatch.setattr(compiler, "_compiled", counted)
    for expected in (["both"], []):
        for shape in ((2, 3, 4, 5), (2, 1, 4, 5)):
            x, y = torch.randn(shape), torch.randn(shape)
            (found,) = CompiledFunction(both, "both", (True, True), "2 x + y")(x, y)
            torch.testing.assert_close(found, 2 * x + y)
        assert traced == expected
        traced.clear()
    files = [each for each in (tmp_path / "kernels").iterdir() if len(each.name) == 64]
    assert len(files) == 1
    assert not list((tmp_path / "temporary").iterdir())
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == theirs
    files[0].write_bytes(files[0].read_bytes()[:100])
    CompiledFunction(both, "both", (True, True), "2 x + y")(x, y)
    assert traced == ["both"]


def test_a_kernel_that_fails_to_compile_runs_uncompiled_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("no registers left\nand more of that")

    monkeypatch.setattr(compiler, "_compiled", broken)
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: None)
    run = CompiledFunction(double, "IF behind norm, forward", (True,), "")
    x = torch.ones(1, 2, 3, 4)
    with pytest.warns(RuntimeWarning, match="IF behind norm, forward .* no registers left$"):
        (y,) = run(x)
    assert torch.equal(y, 2 * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (y,) = run(x)
    assert torch.equal(y, 2 * x)


@pytest.mark.parametrize("devices", [("cuda",), ("cpu",)])
def test_a_network_trains_where_nothing_can_be_compiled(
    devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    """Without a compiler on the machine: one notice for all kernels, and the same numbers."""
    monkeypatch.setattr(compiler, "DEVICES", devices)
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: "no C++ compiler")
    monkeypatch.setattr(native, "compiler", lambda: None)
    graph = text(small("stage(basic(4), 2) via origin"))
    model = emit(graph, 0, "fused")
    x = torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y = model(x)
        y.sum().backward()
    assert [str(item.message).split(" (")[0].split(":")[0] for item in caught] == [
        "there is no C++ compiler" + " on this machine" * (devices == ("cpu",))
    ]
    assert torch.equal(y, emit(graph, 0)(x))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert missing_compiler("cpu") is None or native.compiler() is None
    missing_compiler.cache_clear()
    monkeypatch.setenv("CXX", "/nowhere/g++")
    reason = missing_compiler("cpu")
    missing_compiler.cache_clear()
    assert reason is not None
    assert "C++ compiler" in reason
    assert "CXX" in reason


@pytest.mark.usefixtures("compiling")
def test_what_no_library_covers_runs_operation_by_operation(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setattr(compiler, "DEVICES", ("cuda",))
    graph = text(small("stage(basic(4), 2) via origin"))
    plain, model = emit(graph, 0).double(), emit(graph, 0, "fused").double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with pytest.warns(
        RuntimeWarning, match="unless their inputs are float32 or bfloat16"
    ) as caught:
        y = model(x)
    assert len(caught) == 1
    torch.testing.assert_close(y, plain(x), rtol=1e-12, atol=1e-12)


def test_errors_of_arguments_are_not_taken_for_errors_of_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only compiling falls back. What fails when a compiled kernel runs is raised."""

    def failing(args: list[Tensor]) -> tuple[Tensor]:
        raise ValueError("bad argument")

    monkeypatch.setattr(compiler, "_compiled", lambda *args: ("", failing))
    monkeypatch.setattr(compiler, "_save", lambda *_: None)
    with pytest.raises(ValueError, match="bad argument"):
        CompiledFunction(double, "double", (True,), "2 x")(torch.ones(1, 2, 3, 4))


def test_a_full_disk_is_named(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor wraps an error of the system that says no file."""

    class InductorError(RuntimeError):
        inner_exception = OSError(errno.ENOSPC, "No space left on device")

    def full(*arguments: object) -> None:
        raise InductorError("OSError: [Errno 28] No space left on device")

    monkeypatch.setattr(compiler, "_compiled", full)
    compiler._FAILURES.clear()
    kernel = CompiledFunction(lambda x: (x + 1,), "one more", (True,), "x + 1")
    with pytest.warns(RuntimeWarning, match="one more could not be compiled") as caught:
        kernel.compile([torch.zeros(2, 2, 2, 2)])
    folder = re.escape(str(compiler.kernel_folder()))
    assert re.search(f"{folder}: the disk is full .* DANETC_CACHE_DIR", str(caught[0].message))
    compiler._FAILURES.clear()


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
    """Also one that was made along with another."""
    entered: list[str] = []

    @contextmanager
    def making() -> Iterator[None]:
        entered.append("making")
        yield

    monkeypatch.setattr(compiler, "making_kernels", making)
    monkeypatch.setattr(compiler, "DEVICES", ("cuda",))
    monkeypatch.setattr(compiler.internals, "has_values", lambda x: True)
    kernel = CompiledFunction(lambda *args: ["function"], "a test", (True,), "")  # type: ignore[list-item]
    x = OnGpu(8)
    kernel._runs[kernel.key([x])] = lambda *args: ["kernel"]  # type: ignore[list-item]
    assert [kernel(x), kernel(x)] == [["kernel"], ["kernel"]]  # type: ignore[arg-type, comparison-overlap]
    assert entered == ["making"]
