"""Kernels of a GPU compiled for real GPUs, and the bytes that they move."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton, an extra for tests on Linux, is not installed")

from tests.gpu.cases import Case, compare
from tests.gpu.compilers import TARGETS, compiled
from tests.gpu.interpreter import Launch

SIZE = (2, 16, 8, 8)
GROUP = Case("LIF", "norm + value", torch.bfloat16, steps=4, size=SIZE)


@cache
def launches(last: bool) -> list[Launch]:
    return compare(GROUP._replace(last=last)).interpreter.launches


LAYOUTS = [False, pytest.param(True, marks=pytest.mark.thorough)]


@pytest.mark.parametrize("last", LAYOUTS)
def test_a_fusion_group_reads_each_value_once(last: bool) -> None:
    """In bfloat16, T = 4, of a norm and a value: 24 bytes per value forward and 32 backward."""
    values, affine = torch.Size(SIZE).numel(), 2 * 4 * SIZE[1]
    scale, *passes = launches(last)
    assert scale.traffic < values
    assert [each.traffic for each in passes] == [24 * values + affine, 32 * values + affine]
    for launch in passes:
        pointers = {name for name, kind in launch.kernel.signature.items() if kind[0] == "*"}
        assert pointers <= launch.kernel.divisible()


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_fusion_group_compiles(
    target: str, last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for launch in launches(last):
        needs = compiled(launch.kernel, target)
        assert needs.spilled == 0
        assert 0 < needs.registers <= 128
        assert needs.occupancy >= 0.25
