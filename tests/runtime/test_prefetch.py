"""Kernels of a call are found before the first is compiled, and announced.

The CPU stands for a GPU here, and no kernel is compiled: each runs as the function that it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.runtime.kernels import announcing
from danetc.runtime.kernels import bit_packing as packing
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels import fusion_group as group
from danetc.runtime.layers import small_maps, statistics
from danetc.runtime.model.built import Model
from tests.differential.helpers import text
from tests.differential.networks import small
from tests.runtime.triton_source import uncompiled

CACHES = group.fusion_kernel, packing._packing, packing._unpacking, statistics._finishing


@pytest.fixture
def totals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int | None]]:
    """Numbers of kernels that are announced. None is known; each that is asked for is its own function."""
    for cache in CACHES:
        cache.cache_clear()
    monkeypatch.setattr(compiler, "COMPILE", True)
    monkeypatch.setattr(compiler, "DEVICES", ("cpu",))
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: None)
    monkeypatch.setattr(compiler, "_compiled", uncompiled)
    monkeypatch.setattr(compiler, "_save", lambda *_: None)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    found: list[int | None] = []
    monkeypatch.setattr(compiler, "announce", found.append)
    yield found
    for cache in CACHES:
        cache.cache_clear()


def model(memory: str = "none", more: str = "") -> Model:
    return emit(
        text(small("stage(basic(4), 2) via origin by densely_additive" + more)), 0, "fused", memory
    )


def x(dtype: torch.dtype = torch.float32, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 8, 8, dtype=dtype)


def test_gradients_are_real(totals: list[int | None], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer remembers from the first call is not of the tensors without values that went before."""
    for least in ("GRADIENT_WEIGHTS", "FEW_WEIGHTS"):
        monkeypatch.setattr(small_maps, least, 1)
    monkeypatch.setattr(small_maps, "GRADIENT_OUTPUTS", 10**6)
    small_maps.reads.cache_clear()
    net = model()
    net(x()).sum().backward()
    assert len(totals) == 1
    assert small_maps.reads.cache_info().currsize
    assert {type(p.grad) for p in net.parameters()} == {Tensor}


@pytest.mark.thorough
@pytest.mark.parametrize("memory", ["none", "recompute"])
def test_a_training_step_announces_all_its_kernels_at_once(
    totals: list[int | None], memory: str
) -> None:
    """Those of the backward pass too; and once more where the dtype changes, but not the size."""
    net = model(memory)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    net(x()).sum().backward()
    (first,) = totals
    assert first is not None
    assert first > 8
    net(x(batch=5)).sum().backward()
    assert len(totals) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(x()).sum().backward()
    assert len(totals) == 2
    assert totals[1] is not None
    # Looking ahead leaves no trace: the same steps, of kernels that are there.
    other = model(memory)
    other.load_state_dict(before)
    torch.set_rng_state(state)
    other(x()).sum().backward()
    other(x(batch=5)).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other(x()).sum().backward()
    assert len(totals) == 2
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name  # type: ignore[arg-type]
    for name, value in other.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


def test_in_eval_mode_forward_kernels_alone_are_announced(totals: list[int | None]) -> None:
    """Those of a folded model too."""
    net = model().eval()
    for each in (net, fold(net)):
        with torch.inference_mode():
            each(x())
    assert len(totals) == 2
    assert None not in totals


def test_hooks_see_one_call(totals: list[int | None]) -> None:
    """Of the modules below, of the model, and on saved tensors; all with values."""
    net = model()
    seen: list[type] = []
    for module in net.modules():
        if not isinstance(module, nn.BatchNorm2d):  # with these, norms are no part of a kernel
            module.register_forward_hook(lambda module, args, out: seen.append(type(out)))
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        net(x()).sum().backward()
    assert set(seen) == {Tensor}
    assert {type(value) for value in kept} <= {Tensor, nn.Parameter}
    assert len(totals) == 1


def test_where_it_is_not_known_kernels_are_counted_one_by_one(
    totals: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danetc.runtime.kernels.prefetch._run_on_fakes", lambda call: 1 / 0)
    model()(x()).sum().backward()
    assert len(totals) > 8
    assert set(totals) == {None}


# -- how it looks ----------------------------------------------------------------------------------


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
