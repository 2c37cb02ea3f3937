"""GPU kernels on a CPU: results, the cache on disk, missing compilers and announcements."""

import errno
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.runtime.kernels import announcing, native, native_group
from danetc.runtime.kernels import bit_packing as packing
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.bit_packing import _native
from danetc.runtime.kernels.compiled import CompiledFunction, missing_compiler
from danetc.runtime.kernels.fusion_group import fusion_kernel
from danetc.runtime.layers import small_maps
from danetc.runtime.layers.statistics import _finishing
from danetc.runtime.model.built import Model
from tests.differential.helpers import text
from tests.differential.networks import small
from tests.runtime.conftest import step
from tests.runtime.triton_source import on_gpu, uncompiled

pytestmark = pytest.mark.usefixtures("inductor")


CACHES = fusion_kernel, _native, internals.notice, packing._packing, packing._unpacking, _finishing


@pytest.fixture
def fresh() -> Iterator[None]:
    def clear() -> None:
        for cache in CACHES:
            cache.cache_clear()
        native_group.forget()
        compiler._FAILURES.clear()

    clear()
    yield
    clear()


def double(x: Tensor) -> tuple[Tensor]:
    return (x * 2,)


@pytest.mark.thorough
@pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler on this machine")
def test_a_kernel_on_disk_is_not_traced_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An equal kernel is loaded and a damaged file is compiled again. All files are in the cache folder."""
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    theirs = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    traced = Mock(side_effect=compiler._compiled)

    def both(x: Tensor, y: Tensor) -> tuple[Tensor]:
        return (2 * x + y,)

    monkeypatch.setattr(compiler, "_compiled", traced)
    for expected in (1, 0):
        for shape in ((2, 3, 4, 5), (2, 1, 4, 5)):
            x, y = torch.randn(shape), torch.randn(shape)
            (found,) = CompiledFunction(both, "both", (True, True), "2 x + y")(x, y)
            torch.testing.assert_close(found, 2 * x + y)
        assert traced.call_count == expected
        traced.reset_mock()
    files = [each for each in (tmp_path / "kernels").iterdir() if len(each.name) == 64]
    assert len(files) == 1
    assert not list((tmp_path / "temporary").iterdir())
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == theirs
    files[0].write_bytes(files[0].read_bytes()[:100])
    CompiledFunction(both, "both", (True, True), "2 x + y")(x, y)
    traced.assert_called_once()


class InductorError(RuntimeError):
    """An error that wraps a system error without a file name."""

    inner_exception = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("no registers left\nand more of that"), "no registers left$"),
        (InductorError("[Errno 28]"), "{folder}: the disk is full .* DANETC_CACHE_DIR"),
    ],
)
def test_a_kernel_that_fails_to_compile_runs_uncompiled_and_says_so_once(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setattr(compiler, "_compiled", Mock(side_effect=error))
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: None)
    run = CompiledFunction(double, "IF behind norm, forward", (True,), "")
    x = torch.ones(1, 2, 3, 4)
    said = said.format(folder=re.escape(str(compiler.kernel_folder())))
    with pytest.warns(
        RuntimeWarning, match=f"IF behind norm, forward could not be compiled.*{said}"
    ):
        assert torch.equal(run(x)[0], 2 * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(run(x)[0], 2 * x)


@pytest.mark.parametrize(
    ("devices", "dtype", "said"),
    [
        (("cuda",), torch.float32, r"there is no C\+\+ compiler \("),
        (("cpu",), torch.float32, r"there is no C\+\+ compiler on this machine:"),
        (("cuda",), torch.float64, "on a CPU.* unless their inputs are float32 or bfloat16"),
    ],
)
def test_a_network_trains_where_nothing_can_be_compiled(
    devices: tuple[str, ...],
    dtype: torch.dtype,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    fresh: None,
) -> None:
    """Without a compiler, or a library for the dtype, all kernels give one notice and equal outputs."""
    monkeypatch.setattr(compiler, "DEVICES", devices)
    if dtype == torch.float32:
        monkeypatch.setattr(compiler, "missing_compiler", lambda device: "no C++ compiler")
        monkeypatch.setattr(native, "compiler", lambda: None)
    graph = text(small("stage(basic(4), 2) via origin"))
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    with pytest.warns(RuntimeWarning, match=said) as caught:
        found = step(emit(graph, 0, "fused").to(dtype), x)
    assert len(caught) == 1
    assert torch.equal(found["output"], emit(graph, 0).to(dtype)(x))


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


def test_errors_of_arguments_are_not_taken_for_errors_of_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only compilation falls back. An error while a compiled kernel runs is raised."""
    failing = Mock(side_effect=ValueError("bad argument"))
    monkeypatch.setattr(compiler, "_compiled", lambda *args: ("", failing))
    monkeypatch.setattr(compiler, "_save", lambda *_: None)
    with pytest.raises(ValueError, match="bad argument"):
        CompiledFunction(double, "double", (True,), "2 x")(torch.ones(1, 2, 3, 4))


def test_a_kernel_for_a_gpu_is_first_called_where_it_may_be_tuned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making = Mock(side_effect=nullcontext)
    monkeypatch.setattr(compiler, "making_kernels", making)
    monkeypatch.setattr(compiler, "DEVICES", ("cuda",))
    monkeypatch.setattr(compiler.internals, "has_values", lambda x: True)
    kernel = CompiledFunction(double, "a test", (True,), "")
    x, made = on_gpu(1, 1, 1, 8), on_gpu(1)
    kernel._runs[kernel.key([x])] = lambda *args: [made]
    assert [kernel(x), kernel(x)] == [[made], [made]]
    making.assert_called_once()


# -- kernels that are found in advance -------------------------------------------------------------


@pytest.fixture
def totals(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int | None]:
    """The announced numbers of kernels. No kernel is cached, and each one runs as its Python function."""
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: None)
    monkeypatch.setattr(compiler, "_compiled", uncompiled)
    monkeypatch.setattr(compiler, "_save", lambda *_: None)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    found: list[int | None] = []
    monkeypatch.setattr(compiler, "announce", found.append)
    return found


def model(memory: str = "none") -> Model:
    graph = text(small("stage(basic(4), 2) via origin by densely_additive"))
    return emit(graph, 0, "fused", memory)


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 8, 8)


def test_gradients_are_real(totals: list[int | None], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer caches in the first call does not come from the fake tensors of the look-ahead."""
    for least in ("GRADIENT_WEIGHTS", "FEW_WEIGHTS"):
        monkeypatch.setattr(small_maps, least, 1)
    monkeypatch.setattr(small_maps, "GRADIENT_OUTPUTS", 10**6)
    small_maps.reads.cache_clear()
    net = model()
    net(images()).sum().backward()
    assert len(totals) == 1
    assert small_maps.reads.cache_info().currsize
    assert {type(p.grad) for p in net.parameters()} == {Tensor}


@pytest.mark.thorough
@pytest.mark.parametrize("memory", ["none", "recompute"])
def test_a_training_step_announces_all_its_kernels_at_once(
    totals: list[int | None], memory: str
) -> None:
    """Backward kernels are included. A new dtype is announced again, a new batch size is not."""
    found, state = [], torch.get_rng_state()
    for _ in range(2):  # the look-ahead has no side effects: cached kernels give equal steps
        net = model(memory)
        torch.set_rng_state(state)
        counts = []
        for batch, dtype in ((2, torch.float32), (5, torch.float32), (2, torch.bfloat16)):
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                net(images(batch)).sum().backward()
            counts.append(len(totals))
        found.append(({name: p.grad for name, p in net.named_parameters()}, net.state_dict()))
        assert counts == ([1, 1, 2] if len(found) == 1 else [2, 2, 2])
    assert totals[0] is not None
    assert totals[0] > 8
    assert totals[1] is not None
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_in_eval_mode_forward_kernels_alone_are_announced(totals: list[int | None]) -> None:
    net = model().eval()
    for each in (net, fold(net)):
        with torch.inference_mode():
            each(images())
    assert len(totals) == 2
    assert None not in totals


def test_hooks_see_one_call(totals: list[int | None]) -> None:
    net = model()
    seen: list[type] = []
    for module in net.modules():
        if not isinstance(module, nn.BatchNorm2d):  # a norm with hooks is not fused
            module.register_forward_hook(lambda module, args, out: seen.append(type(out)))
    kept: list[type] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: (kept.append(type(x)), x)[1], lambda x: x
    ):
        net(images()).sum().backward()
    assert set(seen) == {Tensor}
    assert {*kept} <= {Tensor, nn.Parameter}
    assert len(totals) == 1


def test_where_it_is_not_known_kernels_are_counted_one_by_one(
    totals: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danetc.runtime.kernels.prefetch._run_on_fakes", lambda call: 1 / 0)
    model()(images()).sum().backward()
    assert len(totals) > 8
    assert set(totals) == {None}


# -- printed notes ---------------------------------------------------------------------------------


def test_a_line_for_each_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(announcing, "_has_told_of_some", False)
    for total in (14, 1, None, None):
        announcing.announce(total)
    with announcing.unannounced(), announcing.unannounced(False):
        announcing.announce(2)
    monkeypatch.setenv("RANK", "1")
    announcing.announce(3)
    assert capsys.readouterr().err.splitlines() == [
        "note: compiling 14 kernels", "note: compiling 1 kernel", "note: compiling kernels",
    ]  # fmt: skip
