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


PER_STEP = """neuron scaled {
  state u = 0.0
  v = u / 2 + x * learn(1.0, per = channel, per_step = true)
  s = heaviside(v - 1)
  u = v * (1 - s)
}"""


@pytest.mark.thorough
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "channels last"])
@pytest.mark.parametrize(
    ("neuron", "sums"),
    [("LIF", 0), ("PLIF", 1), ("PLIF_soft", 1), ("SlidingPSN", 3), (PER_STEP, STEPS)],
)
def test_a_fusion_group_is_one_kernel(
    compiled: Callable[..., Any], neuron: str, sums: int, last: bool
) -> None:
    """In bfloat16, T = 4, of a norm and a value: 24 bytes per value forward, 32 backward, and 4 for each sum of a
    learnt parameter's gradient, the minimum; aligned; and no index is divided by an unknown size."""
    program = compiled(neuron)
    group = fusion_kernel(program.text(), TERMS, STEPS)
    shape = (BATCH, LENGTH, CHANNELS) if last else (BATCH, CHANNELS, LENGTH)
    column = (CHANNELS,) if last else (CHANNELS, 1)
    values = [on_gpu(STEPS, *shape) for _ in TERMS]
    others = [on_gpu(*column, dtype=torch.float32) for _ in range(2)]
    for item in program.learnables:
        own = on_gpu(*(() if item.is_scalar else column), dtype=torch.float32)
        others += [own] * (STEPS if item.per_step else 1)
    (backward,) = triton_kernels(group.backward, [on_gpu(STEPS, *shape), *values, *others])
    assert backward.traffic() == 32 + 4 * sums
    kernels = [backward]
    if not last:
        kernels += triton_kernels(group.forward, [*values, *others])
        assert [kernel.traffic() for kernel in kernels[1:]] == [24]
    for kernel in kernels:
        assert kernel.aligned()
        assert kernel.index_arithmetic() <= {str(CHANNELS), str(LENGTH)}
