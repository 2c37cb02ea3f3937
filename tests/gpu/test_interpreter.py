"""The kernels of a GPU in Triton's interpreter, against the references; and what it takes to notice a fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch

pytest.importorskip("triton", reason="Triton, an extra for tests on Linux, is not installed")

from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.runtime.kernels import fusion_group, neuron
from tests.differential.helpers import randn, streamed, text
from tests.differential.networks import small
from tests.gpu import interpreter
from tests.gpu.cases import (
    DTYPES,
    FORMS,
    SIZES,
    Case,
    Different,
    Layer,
    compare,
    covering,
    standard,
)  # fmt: skip
from tests.gpu.interpreter import Broken, Interpreter, interpreted
from tests.gpu.modules import Module
from tests.runtime.test_fused import both, compare_models
from tests.runtime.triton_source import on_gpu, written

EACH = [
    Case(name, [*FORMS][i % len(FORMS)], DTYPES[i % 4], 2 + i % 2, bool(i // 2 % 2), SIZES[i % 5])
    for i, name in enumerate(name for name in standard() if " per " not in name)
]
"""Each neuron of the standard library, and each form."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.thorough) if i % 8 else case
        for i, case in enumerate(EACH)
    ],
    ids=str,
)
def test_a_layer_is_what_both_references_compute(case: Case) -> None:
    compare(case)


def test_a_layer_takes_sequences_of_different_lengths() -> None:
    with interpreted() as interpreter:
        for steps in (2, 1):
            Layer(Case("ReLU", "norm", steps=steps), 0).fused()
    lengths = [launch.tensors[0].shape[0] for launch in interpreter.launches]
    assert {1, 2} <= set(lengths)


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(12))
def test_another_layer_is_too(part: int) -> None:
    """``make gpu-check`` runs all of them."""
    compare(covering()[part::12][5])


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["trained", "evaluated", "folded", "streamed"])
def test_a_network_is_the_eager_one(mode: str) -> None:
    """In float64; the kernels of a network take each other's outputs."""
    graph = text(small(settings="neuron = PLIF"))
    eager, fused = both(graph)
    x = randn(2, 3, 8, 8)
    with interpreted() as interpreter:
        if mode in ("trained", "evaluated"):
            compare_models(eager.train(mode == "trained"), fused.train(mode == "trained"), x)
        else:
            steps = [x] * graph.steps
            found = (
                sum(streamed(fused.eval(), steps)) / graph.steps
                if mode == "streamed"
                else fold(fused)(x)
            )
            torch.testing.assert_close(found, eager.eval()(x))
    assert len(interpreter.launches) > 5


def test_neurons_of_several_inputs_have_no_kernels() -> None:
    """They run operation by operation, so ``make gpu-check`` leaves them out."""
    network = """
neuron product(other) { s = x * tanh(other) }

network n {
  input = events(3, 4, 4)
  steps = 2
  out = in -> product(other = in) -> flatten -> mean_over_time -> linear(2)
}
"""
    with interpreted() as interpreter:
        emit(text(network), 0, "fused")(randn(2, 1, 3, 4, 4).float()).sum().backward()
    assert not interpreter.launches


# -- faults ----------------------------------------------------------------------------------------

LIF = Case("LIF", "norm + value", torch.bfloat16)
PLIF = Case("PLIF", "norm + value")
LONG = Case("LIF", "value", torch.bfloat16, size=SIZES[2])
BFLOAT16 = r"(\1).to(tl.bfloat16).to(tl.float32)\n"
FAULTS = {
    "sign": (LIF, r"(= tmp\d+) - (tmp\d+\n    tmp\d+ = tmp\d+ \* tmp)", r"\1 + \2"),
    "mask of a load": (LIF, r"(tl\.load\(in_ptr\d \+ \(x3\)), xmask", r"\1"),
    "mask of a load in a sum": (PLIF, r"(tl\.load\(.*), r0_mask & xmask,.*(\)\n)", r"\1\2"),
    "mask of a store": (LIF, r"(tl\.store\(.*), xmask", r"\1, None"),
    "stride": (LIF, r"(x3 \+ )49\*ks0", r"\g<1>48*ks0"),
    "stride of the channels": (LIF, r"xindex // 7", r"xindex // 6"),
    "current in bfloat16": (LIF, r"(?<== )(tmp\d+ \+ tmp\d+)\n", BFLOAT16),
    "sum in bfloat16": (PLIF, r"(?<== )(_tmp\d+ \+ tmp\d+)\n", BFLOAT16),
    "state without its reset": (LIF, r"( - tmp\d+\n    tmp\d+ = tmp\d+) \* tmp\d+\n", r"\1\n"),
    "state of no step": (LIF, r"(>= [\s\S]*?= )tmp\d+ \+ (tmp\d+\n    tmp\d+ = tmp\d+ >=)", r"\1\2"),
    "input of the step before": (LIF, r"x3 \+ 49\*ks0\), xmask\)", r"x3), xmask)"),
    "no output of a step": (LIF, r"    tl\.store\(.*\n(?=    tl\.store)", ""),
    "programs that overlap": (LONG, r"tl\.program_id\(0\) \* XBLOCK", r"tl.program_id(0) * 8"),
}  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=[pytest.mark.thorough] * (FAULTS[f][0] is not LIF)) for f in FAULTS],
)
def test_a_fault_in_the_text_of_a_kernel_is_noticed(fault: str) -> None:
    case, pattern, other = FAULTS[fault]
    changed: list[int] = []

    def change(text: str) -> str:
        if "rsqrt" in text:  # the scale of the norm
            return text
        found, count = re.subn(pattern, other, text, count=1)
        changed.append(count)
        return found

    with pytest.raises((Broken, Different)):
        compare(case, change)
    assert sum(changed)


def _replaced(old: str, new: str) -> Callable[[Any], str]:
    plain = neuron.kernel_source

    def source(program: Any) -> str:
        text = plain(program)
        assert old in text
        return text.replace(old, new, 1)

    return source


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("form", "target", "other"),
    [
        ("value", "neuron.kernel_source", _replaced(" - ", " + ")),
        ("value", "neuron.kernel_source", _replaced(">= 1.0", "> 1.25")),
        ("value", "neuron.kernel_source", _replaced("spread(v7, x)", "spread(v3, x)")),
        ("value", "neuron.NeuronKernel.initial_states", lambda self, x: [torch.full_like(x, 0.125)]),
        ("value", "fusion_group.to_accumulate_dtype", lambda x: x),
        ("norm + static value", "fusion_group._summed", lambda grads: sum(g.bfloat16() for g in grads).float()),
    ],
)  # fmt: skip
def test_a_fault_in_the_code_that_makes_kernels_is_noticed(
    form: str, target: str, other: Any
) -> None:
    for cached in (neuron.kernel, fusion_group.fusion_kernel):
        cached.cache_clear()
    case = Case("PLIF", form, torch.float32 if "static" in form else torch.bfloat16, 4)
    try:
        with (
            mock.patch(f"danetc.runtime.kernels.{target}", other),
            mock.patch.dict(interpreter._texts, clear=True),
            pytest.raises((Broken, Different)),
        ):
            compare(case)
    finally:
        for cached in (neuron.kernel, fusion_group.fusion_kernel):
            cached.cache_clear()


def test_promises_are_checked() -> None:
    group = fusion_group.fusion_kernel(standard()["LIF"], (fusion_group.Term(False, False),), 2)
    text = written(group.forward, [on_gpu(2, 3, 8, 8)])
    (kernel,) = Module(text, lambda *_: None).kernels
    x, *outputs = (torch.zeros(392, dtype=torch.bfloat16)[:384] for _ in range(3))
    run = partial(Interpreter().run, kernel)
    run(x, *outputs, 3, 192)
    with pytest.raises(Broken, match="in_ptr0 is not a multiple of 16"):
        run(x[1:], *outputs, 3, 192)
    with pytest.raises(Broken, match="does not fit in 32 bits"):
        run(x, *outputs, 2**26, 2**32)
    with pytest.raises(Broken, match="outside of its arguments"):
        run(x[:383], *outputs, 3, 192)
