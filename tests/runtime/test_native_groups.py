"""Fusion groups as one C++ pass, against their operations in float64, and each operation against torch."""

import copy
import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler.emit.fx import emit
from danetc.dsl.kinds import ANALOG
from danetc.dsl.neuron.kernel_cpp import expression
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.runtime.kernels import native, native_group
from danetc.runtime.kernels.fusion_group import Term
from danetc.runtime.layers import group_calls
from danetc.runtime.layers.concatenation import LazyConcatenation, Slice, Value, slices_of
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.layouts import is_last
from danetc.runtime.layers.norm import StaticBatchNorm2d
from tests.alternating import alternating
from tests.differential.helpers import randn, text
from tests.differential.networks import VARIETY, small, variety
from tests.runtime.conftest import evaluated, laid
from tests.runtime.test_fused import NEURONS, both, compare_models, inputs
from tests.runtime.test_kernel_cache import compiles

pytestmark = [
    pytest.mark.usefixtures("compiling"),
    pytest.mark.skipif(sys.platform != "linux", reason="libraries of groups are for Linux"),
]
STEPS, BATCH = 3, 4
SIZES = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 13))
"""Map sizes with runs of one value, less than a vector, whole vectors, and a remainder."""
CHANNELS = 19  # more than one vector, but not a multiple


def program_of(setting: str) -> str:
    (program,) = text(small("stage(basic(4), 1) via origin", settings=setting)).neurons.values()
    return program.text()


def key_of(setting: str) -> native_group.GroupKey:
    return native_group.GroupKey(program_of(setting), (Term(True, False),), STEPS, False)


# fmt: off
FORMS: dict[str, tuple[tuple[bool, bool], ...]] = {
    # for each term: whether it has a norm, whether it is equal at all steps
    "norm": ((True, False),), "value": ((False, False),),
    "norm + value": ((True, False), (False, False)), "norm + norm": ((True, False), (True, False)),
    "value + value": ((False, False), (False, False)),
    "static norm": ((True, True),), "static value": ((False, True),),
    "static norm + norm": ((True, True), (True, False)), "norm + static value": ((True, False), (False, True)),
    "static value + static norm": ((False, True), (True, True)),
}
# fmt: on


def layer(form: str, setting: str = "neuron = LIF") -> FusedNeuron:
    """A fusion group whose norms have no default values."""
    generator = torch.Generator().manual_seed(1)
    norms: list[Any] = []
    for normed, static in FORMS[form]:
        kind = StaticBatchNorm2d(CHANNELS, steps=STEPS) if static else nn.BatchNorm2d(CHANNELS)
        if normed:
            for value in (kind.weight, kind.bias, kind.running_mean, kind.running_var):
                value.data.copy_(torch.rand(CHANNELS, generator=generator) + 0.5)
        norms.append(kind if normed else None)
    made = FusedNeuron(
        program_of(setting), STEPS, 3, norms, [ANALOG] * len(norms), (CHANNELS, 1, 1)
    )
    made.held = nn.ModuleList(n for n in norms if n is not None)  # a model registers them
    return made


def values(form: str, size: tuple[int, int], last: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    found = []
    for _, static in FORMS[form]:
        lead = (BATCH,) if static else (STEPS, BATCH)
        x = torch.randn(*lead, CHANNELS, *size, generator=generator) * 2 + 0.3
        found.append(laid(x, last))
    return found


def run(made: FusedNeuron, inputs: Sequence[Value]) -> tuple[Tensor, dict[str, Tensor]]:
    parts = [p.tensor for x in inputs for p in slices_of(x)]
    for x in parts:
        x.requires_grad_()
    y = made(*inputs)
    generator = torch.Generator().manual_seed(3)
    grad = torch.randn(y.shape, generator=generator, dtype=torch.float32).bfloat16().to(y.dtype)
    y.backward(grad)
    found = {f"input {i}": x.grad for i, x in enumerate(parts)}
    found |= {name: p.grad for name, p in made.named_parameters()}
    found |= dict(made.named_buffers())
    return y.detach(), {name: x for name, x in found.items() if x is not None}


def compare(made: FusedNeuron, inputs: Sequence[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with the same operations run one by one in float64."""
    other = copy.deepcopy(made).double()
    norms = iter(other.held)
    other.replace_norms(lambda norm: next(norms))  # type: ignore[arg-type, return-value]
    doubles = [x.detach().double() for x in inputs]
    calls: list[object] = []
    real = group_calls.NativePlan.forward
    with monkeypatch.context() as patch:
        patch.setattr(group_calls.NativePlan, "forward", lambda *a: (calls.append(a), real(*a))[1])
        out, found = run(made, inputs)
    assert calls, "the library has run"
    with monkeypatch.context() as patch:
        patch.setattr("danetc.runtime.kernels.compiled.COMPILE", False)
        expected, others = run(other, doubles)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    assert_near(found, others)


def assert_near(
    found: dict[str, Tensor], others: dict[str, Tensor], most: float = 5e-5, of_inputs: float = 5e-5
) -> None:
    """Tolerances are relative to the largest entry of each tensor."""
    assert found.keys() == others.keys()
    for name, value in found.items():
        scale = float(others[name].double().abs().max()) or 1.0
        error = float((value.double() - others[name].double()).abs().max())
        tolerance = of_inputs if name.startswith("input") else most
        assert error <= tolerance * scale, f"{name}: {error} of {scale}"


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_at_every_size(
    form: str, size: tuple[int, int], last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = layer(form)
    compare(made, values(form, size, last), monkeypatch)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 13)])
@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_float32_but_rounded(form: str, size: tuple[int, int], last: bool) -> None:
    """Outputs are equal. Input gradients are rounded to 8 bits, sums over them are not."""
    first, second = layer(form), layer(form)
    inputs = [x.bfloat16() for x in values(form, size, last)]
    out, found = run(first, inputs)
    expected, others = run(second, [x.detach().float() for x in inputs])
    assert out.dtype is torch.bfloat16
    assert torch.equal(out.float(), expected)
    assert_near(found, others, 1e-5, of_inputs=2e-2)


def test_inputs_of_two_types_and_layouts_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    form = "norm + value"
    first, second = values(form, (3, 3), False)
    compare(layer(form), [first, laid(second, True)], monkeypatch)
    out, found = run(layer(form), [first.detach(), second.bfloat16()])
    assert out.dtype is torch.float32
    assert found["input 1"].dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("neuron", ["neuron = IF", NEURONS["PLIF"]])
def test_folded_groups_and_streams(
    neuron: str, added: bool, last: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input is added to the spikes, the output reuses a term's memory, and single steps agree."""
    norm = nn.BatchNorm2d(CHANNELS).eval()
    text, size = program_of(neuron), (CHANNELS, 1, 1)
    made = FusedNeuron(text, STEPS, 3, [None, norm], size=size, owned=0, added=added)
    names = ["value + value", "norm"] if added else ["value + value"]
    inputs = [x.to(dtype) for name in names for x in values(name, (3, 5), last)]
    with torch.no_grad():
        given = [x.clone() for x in inputs]
        frames = list(zip(*[x.clone().unbind(0) for x in inputs], strict=True))
        steps, state = [], None
        for frame in frames:
            y, state = made.advance([x.clone() for x in frame], state)
            steps.append(y)
        assert is_last(steps[0]) is last
        results = [made(*[x.clone() for x in inputs]), torch.stack(steps), made(*inputs)]
        assert results[-1].data_ptr() == inputs[added].data_ptr()
        monkeypatch.setattr("danetc.runtime.kernels.compiled.COMPILE", False)
        expected = made(*given)
    for each in results:
        torch.testing.assert_close(each, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron(neuron: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = layer("norm + value", NEURONS[neuron])
    compare(made, values("norm + value", (3, 3), last), monkeypatch)


@pytest.mark.parametrize("last", [False, True])
def test_parts_are_as_good_as_one_tensor(last: bool) -> None:
    form = "norm + value"
    widths = (3, 15, 1)
    first, second = layer(form), layer(form)
    whole, other = values(form, (3, 5), last)
    parts = [laid(x.clone(), last) for x in whole.split(widths, 2)]
    out, found = run(first, [whole, other])
    lazy = LazyConcatenation(list(map(Slice, parts)), -3)
    same, again = run(second, [lazy, other.detach().clone()])
    joined = torch.cat([again[f"input {i}"] for i in range(3)], 2)
    expected = out, found["input 0"], found["input 1"]
    torch.testing.assert_close((same, joined, again["input 3"]), expected, rtol=0, atol=0)


@pytest.mark.parametrize("last", [False, True])
def test_threads_change_nothing(last: bool) -> None:
    results, before = [], torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        made = layer("norm + norm", "neuron = PLIF")
        results.append(run(made, values("norm + norm", (3, 3), last)))
    torch.set_num_threads(before)
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer("norm")(torch.randn(1, 1, CHANNELS, 1, 1))
    first, second = values("norm + value", (3, 3), False)
    for other in (second[:, 1:], second[..., 1:], second[1:], second[:, :, 1:]):
        with pytest.raises(RuntimeError, match=r"differ in size|channels"):
            layer("norm + value")(first, other.contiguous())
    with pytest.raises(RuntimeError, match="channels"):
        layer("norm")(first[:, :, 1:].contiguous())
    made = layer("value")
    with torch.no_grad():
        _, state = made.advance([first[0]], None)
        with pytest.raises(RuntimeError, match="the states of a stream are not those of frames"):
            made.advance([first[0, 1:]], state)


def test_what_is_not_a_number_stays_so() -> None:
    made = layer("norm")
    (x,) = values("norm", (3, 3), False)
    x[1, 2, 3, 1, 1] = torch.nan
    made(x)
    (norm,) = made.held
    assert torch.equal(norm.running_mean.isnan(), norm.running_var.isnan())
    assert norm.running_mean.isnan().nonzero().flatten().tolist() == [3]


def test_an_empty_batch_is_left_to_torch() -> None:
    made = layer("norm").eval()
    assert made(torch.empty(STEPS, 0, CHANNELS, 2, 2)).shape == (STEPS, 0, CHANNELS, 2, 2)


@pytest.mark.filterwarnings("ignore:this layer also computes the norms")
def test_single_pixels_are_contiguous() -> None:
    """For an input with channels-last strides, torch's convolution would copy its weight."""
    model = emit(text(small(stem="conv(4, kernel = 8, padding = 0) -> norm -> spike")), 0, "fused")
    found: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, FusedNeuron):
            module.register_forward_hook(
                lambda _, __, out: found.append(out.shape[-2:] + out.stride()[-3:])
            )
    model.train()(randn(2, 3, 8, 8).float())
    assert found == [(1, 1, 1, 1, 1)] * 11


def test_a_dense_block_is_never_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    model = danetc.build("spiking_densenet121", set={"steps": 2, "image": 32, "classes": 5})
    monkeypatch.setattr(LazyConcatenation, "whole", property(lambda self: pytest.fail("joined")))
    model(torch.randn(2, 3, 32, 32)).sum().backward()


@pytest.mark.parametrize("memory", ["none", "recompute"])
@pytest.mark.parametrize("name", alternating(VARIETY, 1))
def test_whole_networks_in_float32(name: str, memory: str) -> None:
    """In float32, the neurons fire as in the eager network, and the gradients match."""
    graph = variety(name)
    eager, fused = both(graph, torch.float32, memory)
    x = next(inputs(graph)).float()
    compare_models(eager, fused, x, outputs=2e-5, gradients=1e-3)


def test_libraries_are_compiled_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their number is announced once, and nothing is announced if the libraries are cached."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    graph, said = text(small("stage(basic(4), 2) via origin")), []
    monkeypatch.setattr(native_group, "announce", said.append)
    for _ in range(2):
        native_group.forget()
        emit(graph, 0, "fused")(randn(2, 3, 8, 8).float()).sum().backward()
    assert said == [3]


# -- source text ---------------------------------------------------------------------------------------


def test_every_operation_is_torch_s(tmp_path: Path) -> None:
    """For each row of the table, the C++ expression agrees with the row's torch expression."""
    lines, arity = [], max(info.arity for info in OPCODES.values())
    names = list(OPCODES)
    for number, name in enumerate(names):
        info = OPCODES[name]
        operands = [
            f"a[{i}]" if i not in info.conditions else f"(a[{i}] > 0.0f)" for i in range(info.arity)
        ]
        made = expression(name, operands)
        made = f"select({made}, 1.0f, 0.0f)" if info.gives == "condition" else f"spread({made})"
        lines.append(f"case {number}: return {made};")
    source = native_group.group_source(key_of("neuron = IF"))
    body = "\n".join(lines)
    source += f"""
    static vec one(int op, const vec* a) {{ switch (op) {{ {body} }} return vec{{}}; }}
    extern "C" void run(int op, const float* x, float* y, int64_t n) {{
        for (int64_t i = 0; i < n; i += V) {{
            vec a[{arity}];
            for (int k = 0; k < {arity}; ++k) a[k] = load(x + k * n + i, V);
            store(y + i, one(op, a), V);
        }}
    }}"""
    library = native.library("all operations", source, native_group._OPTION)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(arity, 4096, generator=generator) * 3
    x[:, :64] = torch.linspace(-100, 100, 64)
    x[1, 64:128] = x[0, 64:128]  # equal operands
    x[:, 128:144] = 0.0
    y = torch.empty(4096)
    for number, name in enumerate(names):
        info = OPCODES[name]
        places = (ctypes.c_void_p(value.data_ptr()) for value in (x, y))
        library.run(number, *places, ctypes.c_int64(4096))
        given = [x[i] > 0 if i in info.conditions else x[i] for i in range(info.arity)]
        near = {"rtol": 1e-6, "atol": 1e-37} if info.rounds else {"rtol": 0, "atol": 0}
        expected = evaluated(name, given).to(torch.float32)
        torch.testing.assert_close({name: y}, {name: expected}, **near, equal_nan=True)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "change", [{}, {"channels_last": True}, {"bfloat16": True}, {"added": True, "carries": True}]
)
def test_a_source_compiles_without_a_warning(change: dict[str, bool], tmp_path: Path) -> None:
    terms = (Term(False, False), Term(True, False), Term(False, True))
    source = native_group.group_source(key_of(NEURONS["PLIF"])._replace(terms=terms, **change))
    compiles(source.encode(), tmp_path / "library", native_group._OPTION, "-Wno-unused")
