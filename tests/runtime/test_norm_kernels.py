"""Fusion groups with norms as on a GPU, against torch in float64, and the generated kernels."""

import copy
import re
from collections.abc import Sequence

import pytest
import torch
from torch import nn

import danetc
from danetc.dsl.kinds import ANALOG
from danetc.runtime.kernels.compiled import CompiledFunction, missing_compiler
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.norm import StaticBatchNorm2d
from danetc.runtime.layers.statistics import affine
from tests.runtime.conftest import compile_text, laid, step
from tests.runtime.triton_source import TritonKernel, on_gpu, triton_kernels

STEPS, BATCH, CHANNELS, SIZE = 3, 2, 5, 6
VALUE, NORM, STATIC = "value", "norm", "static norm"


@pytest.fixture
def uncompiled(inductor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run GPU kernels here, operation by operation."""
    monkeypatch.setattr(CompiledFunction, "__call__", lambda self, *args: self.function(*args))


def layer(program: str, forms: Sequence[str], training: bool) -> FusedNeuron:
    torch.manual_seed(1)
    kinds = {NORM: nn.BatchNorm2d, STATIC: lambda width: StaticBatchNorm2d(width, STEPS)}
    norms = [kinds[form](CHANNELS) if form in kinds else None for form in forms]
    made = FusedNeuron(program, STEPS, 3, norms, [ANALOG] * len(forms), (CHANNELS, SIZE, SIZE))
    made.norms = nn.ModuleList(norms)
    for norm in filter(None, norms):
        for value in (norm.weight, norm.bias, norm.running_var):
            nn.init.uniform_(value, 0.5, 1.5)
    return made.double().train(training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("neuron", ["LIF", "PLIF", "SlidingPSN"])
@pytest.mark.parametrize(
    "forms", [(NORM,), (NORM, VALUE), (NORM, NORM), (STATIC,), (STATIC, NORM)], ids=" + ".join
)
def test_gradients(
    uncompiled: None, forms: Sequence[str], neuron: str, last: bool, training: bool
) -> None:
    made = layer(compile_text(neuron).text(), forms, training)
    inputs = []
    for form in forms:
        shape = (*[STEPS] * (form is not STATIC), BATCH, CHANNELS, SIZE, SIZE)
        inputs.append(laid(torch.randn(shape, dtype=torch.float64) + 1, last))
    plain: nn.Module = copy.deepcopy(made)
    plain.forward = lambda *xs: Neuron.forward(plain, plain._total(xs))
    torch.testing.assert_close(step(made, *inputs), step(plain, *inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("memory", ["none", "recompute"])
def test_a_network_trains_as_eagerly(uncompiled: None, memory: str) -> None:
    """Outputs, gradients and statistics agree in both layouts; recomputing does not update statistics."""
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    found = []
    for how in ({"backend": "eager"}, {"backend": "fused", "memory": memory}):
        torch.manual_seed(0)
        model = danetc.build("sew_r18", set={"image": 64, "steps": 2}, **how).double().train()
        layouts = x, x.contiguous(memory_format=torch.channels_last)
        steps = [value for inputs in layouts for value in step(model, inputs).values()]
        found.append([*steps, model.eval()(x)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))


@pytest.mark.parametrize("in_kernels", [False, pytest.param(True, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
def test_statistics_of_values_far_from_zero(
    mean: float, last: bool, in_kernels: bool, request: pytest.FixtureRequest
) -> None:
    """In float32, sums of squares lose a variance of 1 for means of 1e4 and above."""
    norm = nn.BatchNorm2d(CHANNELS)
    x = torch.randn(4, 2, CHANNELS, 196, generator=torch.Generator().manual_seed(0)) + mean
    given = x.transpose(-1, -2).contiguous() if last else x
    if in_kernels:
        pytest.importorskip("triton", reason="Triton, an extra for tests on Linux, is missing")
        from tests.gpu.interpreter import interpreted

        with interpreted() as interpreter:
            found = affine(norm, given, static=False, last=last)
        assert len(interpreter.launches) == 2
    else:
        request.getfixturevalue("uncompiled")
        found = affine(norm, given, static=False, last=last)
    variance, expected = torch.var_mean(x.double(), (0, 1, 3), correction=0)
    torch.testing.assert_close(found.mean.double(), expected, rtol=2e-7, atol=1e-7)
    inverse = (variance + norm.eps).rsqrt()
    torch.testing.assert_close(found.inverse.double(), inverse, rtol=1e-5 + 2e-8 * mean, atol=0)
    squares = x.square().mean((0, 1, 3)) - x.mean((0, 1, 3)).square()
    assert mean < 1e4 or float((squares - variance).abs().max()) > 0.1


# -- generated kernels -----------------------------------------------------------------------------

FORMS = {
    "norm": ("SlidingPSN", (Term(True, False),), 16, 24),
    "norm + value": ("PLIF", (Term(True, False), Term(False, False)), 24, 40),
    "norm + norm": ("LIF", (Term(True, False), Term(True, False)), 24, 40),
}
"""A neuron, its terms, and the bytes that the kernels of sums and of gradients move for T = 4 in bfloat16."""


def moved(kernel: TritonKernel) -> int:
    """Bytes moved of the bfloat16 values per position. No store is indexed by an element of a sum."""
    halves = "|".join(name for name, kind in kernel._types().items() if kind == "*bf16")
    others = re.findall(r"tl\.store\((?:\w+) \+ \((.*?)\), ", kernel.text)
    assert not [index for index in others if "r0" in index]
    return 2 * len(re.findall(rf"tl\.(?:load|store)\((?:{halves or None}) ", kernel.text))


@pytest.mark.thorough
@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="Inductor does not work here")
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "channels last"])
@pytest.mark.parametrize("form", FORMS)
def test_a_backward_pass_moves_no_gradient_of_the_sum(form: str, last: bool) -> None:
    """There are two kernels for sums, only the first of which reads values, and one for input gradients."""
    neuron, terms, of_sums, of_inputs = FORMS[form]
    program, count = compile_text(neuron), sum(term.normed for term in terms)
    group = fusion_kernel(program.text(), terms, 4)
    values = [on_gpu(4, *((6, 196, 64) if last else (6, 64, 196))) for _ in range(1 + len(terms))]
    column = on_gpu(*((64,) if last else (64, 1)), dtype=torch.float32)
    scalar = on_gpu(dtype=torch.float32)
    params = [scalar if item.is_scalar else column for item in program.learnables]
    columns = [*[column] * 2 * count, *params, *[column] * 2 * count]
    first, second = triton_kernels(group.sums, [*values, *columns])
    assert (moved(first), moved(second)) == (of_sums, 0)
    columns += [column] * 2 * count + [scalar] * count
    (kernel,) = triton_kernels(group.inputs, [*values, *columns])
    assert moved(kernel) == of_inputs
