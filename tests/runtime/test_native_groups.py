"""Fusion groups as one pass in C++: held to their operations in float64, and each operation to torch's."""

from __future__ import annotations

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
from danetc.dsl.neuron.program import NeuronProgram
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
from tests.runtime.test_fused import NEURONS, both, compare_models, inputs
from tests.runtime.test_native import compiles

pytestmark = [
    pytest.mark.usefixtures("compiling"),
    pytest.mark.skipif(sys.platform != "linux", reason="libraries of groups are for Linux"),
]
STEPS, BATCH = 3, 4
SIZES = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 13))
"""Of maps: runs of one value, of less than a vector, of whole vectors and of a rest."""
CHANNELS = 19  # more than one vector, and no multiple


def program_of(setting: str) -> NeuronProgram:
    graph = text(small("layers via origin", more=LAYERS, settings=setting))
    return next(graph.program(n) for n in graph.nodes.values() if n.op == "neuron")


def key_of(setting: str) -> native_group.GroupKey:
    return native_group.GroupKey(program_of(setting).text(), (Term(True, False),), STEPS, False)


LAYERS = "backbone layers = stage(basic(4), 1)"
# fmt: off
FORMS: dict[str, tuple[tuple[bool, bool], ...]] = {
    # of each term: whether it goes through a norm, whether it is the same at all steps
    "norm": ((True, False),), "value": ((False, False),),
    "norm + value": ((True, False), (False, False)), "norm + norm": ((True, False), (True, False)),
    "value + value": ((False, False), (False, False)),
    "static norm": ((True, True),), "static value": ((False, True),),
    "static norm + norm": ((True, True), (True, False)), "norm + static value": ((True, False), (False, True)),
    "static value + static norm": ((False, True), (True, True)),
}
# fmt: on


def layer(
    program: NeuronProgram, form: str, training: bool = True, channels: int = CHANNELS
) -> FusedNeuron:
    """A fusion group whose numbers are none that any default has."""
    generator = torch.Generator().manual_seed(1)
    norms: list[Any] = []
    for normed, static in FORMS[form]:
        kind = StaticBatchNorm2d(channels, steps=STEPS) if static else nn.BatchNorm2d(channels)
        if normed:
            for value in (kind.weight, kind.bias, kind.running_mean, kind.running_var):
                value.data.copy_(torch.rand(channels, generator=generator) + 0.5)
        norms.append(kind.train(training) if normed else None)
    made = FusedNeuron(
        program.text(), STEPS, 3, norms, [ANALOG] * len(norms), size=(channels, 1, 1)
    )
    made.held = nn.ModuleList(n for n in norms if n is not None)  # as a model holds them
    return made


def values(form: str, size: tuple[int, int], last: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    found = []
    for _, static in FORMS[form]:
        lead = (BATCH,) if static else (STEPS, BATCH)
        x = torch.randn(*lead, CHANNELS, *size, generator=generator) * 2 + 0.3
        found.append(laid(x, last))
    return found


def laid(x: Tensor, last: bool) -> Tensor:
    return x.movedim(-3, -1).contiguous().movedim(-1, -3) if last else x


def run(made: FusedNeuron, inputs: Sequence[Value]) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and all gradients and buffers by name."""
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


def twin(made: FusedNeuron) -> FusedNeuron:
    """The same operation by operation, in float64."""
    other = copy.deepcopy(made).double()
    norms = iter(other.held)
    other.replace_norms(lambda norm: next(norms))  # type: ignore[arg-type, return-value]
    return other


def compare(made: FusedNeuron, inputs: Sequence[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    other = twin(made)
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
    assert found.keys() == others.keys()
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    for name, value in found.items():
        scale = float(others[name].double().abs().max()) or 1.0
        error = float((value.double() - others[name].double()).abs().max())
        assert error <= 5e-5 * scale, f"{name}: {error} of {scale}"


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_at_every_size(
    form: str, size: tuple[int, int], last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = layer(program_of("neuron = LIF"), form)
    compare(made, values(form, size, last), monkeypatch)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 13)])
@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_float32_but_rounded(form: str, size: tuple[int, int], last: bool) -> None:
    """Outputs are equal; gradients of inputs are rounded to 8 bits, sums over them are not."""
    program = program_of("neuron = LIF")
    first, second = layer(program, form), layer(program, form)
    inputs = [x.bfloat16() for x in values(form, size, last)]
    out, found = run(first, inputs)
    expected, others = run(second, [x.detach().float() for x in inputs])
    assert out.dtype is torch.bfloat16
    assert torch.equal(out.float(), expected)
    for name, value in found.items():
        tolerance = 2e-2 if name.startswith("input") else 1e-5
        scale = float(others[name].float().abs().max()) or 1.0
        error = float((value.float() - others[name].float()).abs().max())
        assert error <= tolerance * scale, f"{name}: {error} of {scale}"


def test_inputs_of_two_types_and_layouts_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    form = "norm + value"
    first, second = values(form, (3, 3), False)
    compare(layer(program_of("neuron = LIF"), form), [first, laid(second, True)], monkeypatch)
    out, found = run(layer(program_of("neuron = LIF"), form), [first.detach(), second.bfloat16()])
    assert out.dtype is torch.float32
    assert found["input 1"].dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("neuron", ["neuron = IF", NEURONS["PLIF"]])
def test_folded_groups_and_streams(
    neuron: str, added: bool, last: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input added to the spikes, the output in the place of another, and one step after the other: by a
    library and by operations of torch."""
    norm = nn.BatchNorm2d(CHANNELS).eval()
    made = FusedNeuron(
        program_of(neuron).text(),
        STEPS,
        3,
        [None, norm],
        size=(CHANNELS, 1, 1),
        owned=0,
        added=added,
    )
    names = ["value + value", "norm"] if added else ["value + value"]
    inputs = [x.to(dtype) for name in names for x in values(name, (3, 5), last)]
    with torch.no_grad():
        frames = list(zip(*[x.clone().unbind(0) for x in inputs], strict=True))
        steps, state = [], None
        for frame in frames:
            y, state = made.advance([x.clone() for x in frame], state)
            steps.append(y)
        assert is_last(steps[0]) is last
        results = [made(*[x.clone() for x in inputs]), torch.stack(steps)]
        with monkeypatch.context() as patch:
            patch.setattr("danetc.runtime.kernels.compiled.COMPILE", False)
            results.append(made(*[x.clone() for x in inputs]))
        y = made(*inputs)
    assert y.data_ptr() == inputs[added].data_ptr()
    for each in (*results, y):
        torch.testing.assert_close(each, results[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron(neuron: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = layer(program_of(NEURONS[neuron]), "norm + value")
    compare(made, values("norm + value", (3, 3), last), monkeypatch)


@pytest.mark.parametrize("last", [False, True])
def test_parts_are_as_good_as_one_tensor(last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    form = "norm + value"
    widths = (3, 15, 1)
    first, second = layer(program_of("neuron = LIF"), form), layer(program_of("neuron = LIF"), form)
    whole, other = values(form, (3, 5), last)
    parts = [laid(x.clone(), last) for x in whole.split(widths, 2)]
    out, found = run(first, [whole, other])
    same, again = run(
        second, [LazyConcatenation(list(map(Slice, parts)), -3), other.detach().clone()]
    )
    assert torch.equal(out, same)
    joined = torch.cat([again[f"input {i}"] for i in range(3)], 2)
    assert torch.equal(joined, found["input 0"])
    assert torch.equal(again["input 3"], found["input 1"])


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    for last in (False, True):
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made = layer(program_of("neuron = PLIF"), "norm + norm")
            results.append(run(made, values("norm + norm", (3, 3), last)))
        torch.set_num_threads(before)
        (one, found), (three, others) = results
        assert torch.equal(one, three)
        assert all(torch.equal(value, others[name]) for name, value in found.items())


def test_what_does_not_fit_is_an_error() -> None:
    """A single value a channel, terms of other sizes or channels, and states of other frames."""
    program = program_of("neuron = LIF")
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer(program, "norm")(torch.randn(1, 1, CHANNELS, 1, 1))
    first, second = values("norm + value", (3, 3), False)
    for other in (second[:, 1:], second[..., 1:], second[1:], second[:, :, 1:]):
        with pytest.raises(RuntimeError, match=r"differ in size|channels"):
            layer(program, "norm + value")(first, other.contiguous())
    with pytest.raises(RuntimeError, match="channels"):
        layer(program, "norm")(first[:, :, 1:].contiguous())
    made = layer(program, "value")
    with torch.no_grad():
        _, state = made.advance([first[0]], None)
        with pytest.raises(RuntimeError, match="the states of a stream are not those of frames"):
            made.advance([first[0, 1:]], state)


def test_what_is_not_a_number_stays_so() -> None:
    made = layer(program_of("neuron = LIF"), "norm")
    (x,) = values("norm", (3, 3), False)
    x[1, 2, 3, 1, 1] = torch.nan
    made(x)
    (norm,) = made.held
    assert torch.equal(norm.running_mean.isnan(), norm.running_var.isnan())
    assert norm.running_mean.isnan().nonzero().flatten().tolist() == [3]


def test_an_empty_batch_is_left_to_torch() -> None:
    made = layer(program_of("neuron = LIF"), "norm").eval()
    assert made(torch.empty(STEPS, 0, CHANNELS, 2, 2)).shape == (STEPS, 0, CHANNELS, 2, 2)


@pytest.mark.filterwarnings("ignore:this layer also computes the norms")
def test_single_pixels_are_contiguous() -> None:
    """A convolution of torch copies its weight to channels last for an input with such strides."""
    model = emit(text(small(stem="conv(4, kernel = 8, padding = 0) -> norm -> spike")), 0, "fused")
    found: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, FusedNeuron):
            module.register_forward_hook(lambda _, __, out: found.append(out))
    model.train()(randn(2, 3, 8, 8).float())
    assert len(found) == 11
    for each in found:
        assert each.shape[-2:] == (1, 1)
        assert each.stride()[-3:] == (1, 1, 1)


def test_a_dense_block_is_never_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(self: LazyConcatenation) -> Tensor:
        raise AssertionError("it was joined")

    model = danetc.build("spiking_densenet121", set={"steps": 2, "image": 32, "classes": 5})
    monkeypatch.setattr(LazyConcatenation, "whole", property(no))
    model(torch.randn(2, 3, 32, 32)).sum().backward()


@pytest.mark.parametrize("memory", ["none", "recompute"])
@pytest.mark.parametrize("name", alternating(VARIETY, 1))
def test_whole_networks_in_float32(name: str, memory: str) -> None:
    """The neurons fire as those of the plain network in float32, whose gradients are theirs."""
    graph = variety(name)
    eager, fused = both(graph, torch.float32, memory)
    x = next(inputs(graph)).float()
    compare_models(eager, fused, x, outputs=2e-5, gradients=1e-3)


def test_libraries_are_compiled_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said how many, once, and nothing where they are there."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    graph, said = text(small("stage(basic(4), 2) via origin")), []
    monkeypatch.setattr(native_group, "announce", said.append)
    for _ in range(2):
        native_group.forget()
        emit(graph, 0, "fused")(randn(2, 3, 8, 8).float()).sum().backward()
    assert said == [3]


# -- the text ------------------------------------------------------------------------------------------


def test_every_operation_is_torch_s(tmp_path: Path) -> None:
    """Walks the table: what C++ makes of a row, against the row's own expression in torch."""
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
        library.run(
            number,
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_void_p(y.data_ptr()),
            ctypes.c_int64(4096),
        )
        given = [x[i] > 0 if i in info.conditions else x[i] for i in range(info.arity)]
        scope = {"torch": torch, **{f"v{i}": v for i, v in enumerate(given)}}
        written = info.text.format(*[f"v{i}" for i in range(info.arity)], like="like")
        expected = eval(written, {**scope, "like": x[0]}).to(torch.float32)
        exact = not info.rounds
        torch.testing.assert_close(
            y, expected, rtol=0 if exact else 1e-6, atol=0 if exact else 1e-37, equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize(
    "change", [{}, {"channels_last": True}, {"bfloat16": True}, {"added": True, "carries": True}]
)
def test_a_source_compiles_without_a_warning(change: dict[str, bool], tmp_path: Path) -> None:
    terms = (Term(False, False), Term(True, False), Term(False, True))
    source = native_group.group_source(key_of(NEURONS["PLIF"])._replace(terms=terms, **change))
    compiles(source.encode(), tmp_path / "library", native_group._OPTION, "-Wno-unused")
