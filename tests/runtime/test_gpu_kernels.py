"""What is compiled for a GPU, by the code that Inductor writes for it. (None of it runs here.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from danetc.runtime.kernels.compiled import missing_compiler
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from tests.runtime.triton_source import on_gpu, triton_kernels

pytestmark = pytest.mark.skipif(
    missing_compiler("cpu") is not None, reason="Inductor is not known to work here"
)
TERMS = (Term(normed=True, static=False), Term(normed=False, static=False))
STEPS, BATCH, CHANNELS, LENGTH = 4, 6, 64, 196


@pytest.mark.thorough
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "channels last"])
def test_a_fusion_group_is_one_kernel(compiled: Callable[..., Any], last: bool) -> None:
    """In bfloat16, T = 4, of a norm and a value: 24 bytes a value forward and 32 backward, which is
    what must be read and written; aligned; and no index is divided by a size that is not known."""
    group = fusion_kernel(compiled("LIF").text(), TERMS, STEPS)
    shape = (BATCH, LENGTH, CHANNELS) if last else (BATCH, CHANNELS, LENGTH)
    column = (CHANNELS,) if last else (CHANNELS, 1)
    values = [on_gpu(STEPS, *shape) for _ in TERMS]
    affine = [on_gpu(*column, dtype=torch.float32) for _ in range(2)]
    (backward,) = triton_kernels(group.backward, [on_gpu(STEPS, *shape), *values, *affine])
    assert backward.traffic() == 32
    kernels = [backward]
    if not last:
        kernels += triton_kernels(group.forward, [*values, *affine])
        assert [kernel.traffic() for kernel in kernels[1:]] == [24]
    for kernel in kernels:
        assert kernel.aligned()
        assert kernel.index_arithmetic() <= {str(CHANNELS), str(LENGTH)}
