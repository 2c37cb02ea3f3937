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

pytestmark = pytest.mark.thorough
SIZE = (1, 16, 64, 16)
GROUP = Case("LIF", "norm + value", torch.bfloat16, steps=4, size=SIZE)


@cache
def launches(last: bool) -> list[Launch]:
    return compare(GROUP._replace(last=last)).interpreter.launches


@pytest.mark.parametrize("last", [False, True])
def test_a_fusion_group_reads_each_value_once(last: bool) -> None:
    """In bfloat16, T = 4, of a norm and a value, a value takes 8 bytes for the statistics, 24 forward, 24 for
    the sums of the norm's gradient, and 40 backward."""
    values = torch.Size(SIZE).numel()
    passes = [each for each in launches(last) if each.traffic > values]
    assert [each.traffic // values for each in passes] == [8, 24, 24, 40]
    for launch in passes:
        pointers = {name for name, kind in launch.kernel.signature.items() if kind[0] == "*"}
        assert pointers <= launch.kernel.divisible()


@pytest.mark.parametrize("last", [False, True])
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
