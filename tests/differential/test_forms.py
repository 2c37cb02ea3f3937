"""One network in several forms: GraphModule, ``model.py``, resolved spec and the interpreter. The names
and numbers are difficult ones.
"""

import builtins
import keyword
import math
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import nothing
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from tests.alternating import alternating
from tests.differential.helpers import (
    all_zero,
    assert_same,
    built,
    model_py,
    observe_each,
    text,
)
from tests.differential.looped import LOOPED
from tests.differential.networks import SIAMESE, TOKENS, VARIETY, small, variety
from tests.fuzzing import compare
from tests.fuzzing.compare import Case, Subject, compiling
from tests.fuzzing.forms import FORMS, _check_form, essence, streamed
from tests.runtime.test_fused import inputs


def test_the_networks_here_use_every_operation() -> None:
    used: set[str] = {node.op for lines in TOKENS.values() for node in text(lines).nodes.values()}
    for name in VARIETY:
        for graph in (variety(name, ()), variety(name)):
            used |= {node.op for node in graph.nodes.values()}
    sugar = {name for name, row in OPS.items() if row.emit is nothing or row.opaque}
    assert used == set(OPS) - sugar | {"input", "carry"}, "tdbn is lowered to batchnorm"


@pytest.mark.parametrize("name", alternating(VARIETY, 1))
def test_the_written_model_is_the_graph_module(name: str) -> None:
    graph = variety(name)
    model, written = built(graph), model_py(graph)
    assert list(model.state_dict()) == list(written.state_dict())
    written.load_state_dict(model.state_dict())
    for training, x in product((True, False), inputs(graph)):
        seen = observe_each((model, written), x, training)
        assert not all_zero(seen[0].outputs)
        assert_same(*seen, gradients=1e-12)


@pytest.mark.parametrize("name", VARIETY)
def test_the_resolved_spec_is_the_same_graph(name: str) -> None:
    """``danetc.load`` builds a model from the resolved spec, so the model is the same."""
    graph = variety(name)
    again = graph_of(check_text(resolved_spec(check_text(f"use std\n{VARIETY[name]}"))))
    assert again == graph


# -- all forms against the interpreter ------------------------------------------------------------

BEGINS = "mean_over_time -> stage(dense(2), 3) via dense_layer by densely_concatenated"
MORE = {
    # the input of the stage is static, and the outputs of its blocks vary over time
    "an image without time": small(BEGINS),
    "events without time": small(BEGINS, input="events(3, 8, 8)"),
    # a neuron's inputs are stacked along the last dimension, which ``model.py`` took for time
    "static gates": """
        neuron gated(gate) { v = 0.7 * delay(gate, 1) + max(x, gate); s = heaviside(v - 0.4) }
        network net { input = events(1, 7, 7); steps = 2; surrogate = atan
          a = in -> conv(4) -> mean(over = time)
          out = a -> gated(gate = a) }""",
    "settings of stages": small(
        "tiny[0] via origin with (neuron = PLIF, norm = batchnorm(init = 0.5)) "
        "-> tiny[1] via origin with (zero_init = true)",
        settings="neuron = IF",
    ),
}
QUICK = (
    "two lines", "feedback", "earlier values", "siamese", "several_inputs", "by_step", "attention", "lists",
    "weights", "constants", "learnt_values", "random", "tdbn", *TOKENS, *MORE,
)  # fmt: skip
NETWORKS = {**VARIETY, **LOOPED, **SIAMESE, **TOKENS, **MORE}


@pytest.fixture(autouse=True)
def _near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "NEAR", 1e-10)  # rounding errors of float64 are smaller


def check(name: str, modes: Sequence[bool], forms: Sequence[str]) -> None:
    """Compare a network with the interpreter, on both backends in ``modes`` of training and in ``forms``."""
    subject = Subject(check_text(f"use std\n{NETWORKS[name]}"), "net", 3, torch.float64)
    case = Case()
    with compiling(False):
        fused = subject.emitted("fused")
        for training in modes:
            subject.check(subject.model, training, "eager", case)
            subject.check(fused, training, "fused", case)
        for form in forms:
            _check_form(subject, form, fused, case)
    assert case.compared["eager, training"] == case.compared["fused, training"] == 1
    assert case.near == case.unstable == case.infinite == 0


@pytest.mark.parametrize("name", QUICK)
def test_training_is_the_interpreter_s(name: str) -> None:
    check(name, [True], ["python"])


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_is_the_interpreter_s(name: str) -> None:
    check(name, [False, True], FORMS)


# -- NaN and infinity: no form hides a diverged value ---------------------------------------------

DIVERGES = """use std
neuron diverges { state c = 0.5
  c = log(x) * heaviside(c); s = heaviside(c - 1) + 0.1 * c }
neuron whole { state u = 0.0
  v = u + x; s = min(max(round(v), 0), 4); u = v - s }
network n { input = events(2, 8, 8); steps = 3; neuron = IF; surrogate = atan
  a = in -> conv(4) -> norm -> diverges -> maxpool(2)
  b = in -> conv(4) -> norm -> whole -> conv(4) -> norm -> spike -> avgpool(2)
  c = in -> norm -> LIF_soft -> conv(4) -> tanh -> PLIF -> maxpool(2)
  out = (a + b + c + 0 * a + (b - b) * c) -> linear(5) }
"""
VALUES = [math.nan, math.inf, -math.inf, 1e30]
DETERMINISTIC = [
    name for name in VARIETY
    if not any(OPS[node.op].random for node in variety(name).nodes.values())
]  # fmt: skip


def check_all_forms(graph: Graph, where: str, value: float, compiled: bool = False) -> None:
    """Compare each form with ``model.py``, which uses torch's own operations."""
    written = model_py(graph).float()
    generator = torch.Generator().manual_seed(1)
    leading = (graph.steps, 4) if taken(graph).varies else (4,)
    x = torch.rand(*leading, *taken(graph).shape, generator=generator)
    if taken(graph).kind.is_integer:
        x = (x * (taken(graph).kind.high + 1)).floor()
    state = emit(graph).state_dict()
    with torch.no_grad():
        for tensor in state.values():
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor += 0.2 * torch.rand(tensor.shape, generator=generator)
    if where == "input":
        x.view(-1)[torch.randperm(x.numel(), generator=generator)[:3]] = value
    else:
        weights = [key for key in state if key.endswith("weight")]
        state[weights[len(weights) // 2]].view(-1)[1] = value
    eager, fused = emit(graph), emit(graph, backend="fused")
    recompute = emit(graph, backend="fused", memory="recompute")
    for training in (False, True):
        written.load_state_dict(state)
        expected = [y.detach() for y in outputs_of(written.train(training)(x))]
        found: dict[str, object] = {}
        with compiling(compiled), torch.no_grad():
            for form, model in (("eager", eager), ("fused", fused), ("recompute", recompute)):
                model.load_state_dict(state)
                found[form] = model.train(training)(x)
            if not training:
                fused.load_state_dict(state)
                found["folded"] = danetc.fold(fused)(x)
                ops = {node.op for node in graph.nodes.values()}
                if not eager.signature.whole and not ops & {"mean_over_time", "latency"}:
                    found["stream"] = streamed(fused, graph)(x)
        for form, y in found.items():
            torch.testing.assert_close(
                [*outputs_of(y)],
                expected,
                rtol=1e-3,
                atol=1e-3,
                equal_nan=True,
                msg=lambda text, form=form: f"{form}: {text}",
            )


@pytest.mark.parametrize("value", VALUES[:3])
@pytest.mark.parametrize("where", ["input", "weight"])
def test_one_meaning(where: str, value: float) -> None:
    check_all_forms(graph_of(check_text(DIVERGES)), where, value)


@pytest.mark.thorough
@pytest.mark.parametrize("value", VALUES)
def test_one_meaning_compiled(value: float) -> None:
    for where in ("input", "weight"):
        check_all_forms(graph_of(check_text(DIVERGES)), where, value, compiled=True)


@pytest.mark.thorough
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_one_meaning_of_every_operation(name: str) -> None:
    for where in ("input", "weight"):
        for value in VALUES[:2]:
            check_all_forms(variety(name), where, value)


# -- every name that the language accepts, in every role ------------------------------------------

TEXT = """use std (basic)
neuron {neuron}({constant} = 2.0, {learnt} = learn(0.5)) {{
  state {state} = 0.0
  {gain} = learn(0.3, above = 0)
  {value} = {state} / {constant} + x * {learnt} + {gain}
  s = heaviside({value} - 1)
  {state} = {value} * (1 - s)
}}
surrogate {surrogate}({slope} = 2.0) {{ y = 1 / (1 + exp(-{slope} * x)) }}
block {block}({width}) {{
  {inner} = in -> conv({width}) -> norm
  out = {inner} + (in -> norm -> spike)
}}
block part({layer}, k) {{ out = in[i * k .. (i + 1) * k - 1] -> {layer} }}
rule {rule} {{ in[i] = in
  result = concat(out[0 .. n-1]) }}
connection {connection} {{
  each = conv -> norm -> spike
  projection = conv -> norm
  out = (branch + shortcut) -> spike
}}
block split {{
  one = shared(conv(4, bias = true))
  three = shared(conv(4, kernel = 1, bias = true))
  {scope} = in -> stage(part(one, 4), 2) by {rule} -> norm
  b = in -> stage(part(three, 4), 2) by {rule} -> norm
  out = {scope} + b
}}
network {network} {{
  input = inputs({input1} = image(3, 8, 8), {input2} = events(2, 8, 8))
  steps = 2
  neuron = {neuron}
  surrogate = {surrogate}
  {line1} = concat({input1}, {input2}) -> conv(8) -> norm -> spike
  {line2} = {line1} -> {block}(8) -> split -> stage(basic(8), 2) via {connection}
  loop = ({line2} + (loop -> delay(1) -> conv(8))) -> spike
  out = outputs({output1} = loop -> avgpool -> mean_over_time -> linear(4),
                {output2} = {line1} -> avgpool -> mean_over_time -> linear(3))
}}
"""
ROLES = [*dict.fromkeys(re.findall(r"\{(\w+)\}", TEXT))]
PLAIN = {role: f"a_{role}" for role in ROLES}

FAILED = {
    "slice": "input1",
    "torch": "input2",
    "check_alike": "line1",
    "state": "learnt",
    "requires_grad_": "inner",
    "__dict_": "inner",
    "input": "value",
    "ASurrogate": "constant",
}
"""Names that generated code shadowed or could not use, each with its role in ``TEXT``."""


def words() -> list[str]:
    """Names that Python, torch and generated code use."""
    found = {*dir(builtins), *keyword.kwlist, *keyword.softkwlist, *dir(math), *dir(nn)}
    found |= {*dir(nn.Module()), *dir(Model), *dir(torch.fx.GraphModule)}
    found |= {
        "torch", "nn", "math", "json", "self", "cls", "args", "kwargs", "inf", "nan", "device", "pytree",
        "fx_pytree", "NoneType", "x", "g", "u0", "p0", "v0", "_", "__", "__x",
    }  # fmt: skip
    for name in VARIETY:
        text = compile(emit_python(variety(name)), "model.py", "exec", dont_inherit=True)
        found |= {word for code in _codes(text) for word in (*code.co_names, *code.co_varnames)}
    return sorted(filter(str.isidentifier, found))


def _codes(code: object) -> Iterator[object]:
    yield code
    for item in code.co_consts:  # type: ignore[attr-defined]
        if isinstance(item, type(code)):
            yield from _codes(item)


def is_accepted(names: dict[str, str]) -> bool:
    with suppress(SpecError):
        check_text(TEXT.format(**names))
        return len({*names.values()}) == len(names)
    return False


def accepted(wanted: dict[str, str]) -> dict[str, str]:
    """Replace the names that the language refuses by those of ``PLAIN``."""
    if is_accepted(wanted):
        return wanted
    names = dict(PLAIN)
    for role, name in wanted.items():
        more = {**names, role: name}
        names = more if is_accepted(more) else names
    return names


def check_forms(names: dict[str, str]) -> None:
    checked = check_text(TEXT.format(**names))
    graph = graph_of(checked, names["network"])
    again = check_text(resolved_spec(checked, names["network"]))
    assert essence(graph_of(again, names["network"])) == essence(graph)
    eager, fused = emit(graph).double(), emit(graph, backend="fused").double()
    written = model_py(graph)
    written.load_state_dict(eager.state_dict())
    torch.manual_seed(0)
    image, events = (torch.rand(2, *lead, 8, 8, dtype=torch.float64) for lead in ([3], [2, 2]))

    def run(model: nn.Module) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = model(image, events)
        sum(y.sum() for y in found).backward()  # type: ignore[union-attr]
        return found

    with compiling(False):
        expected = run(eager)
        for model in (fused, written):
            torch.testing.assert_close(run(model), expected)
        with torch.no_grad():
            named = dict(zip(eager.signature.inputs, (image, events), strict=True))
            torch.testing.assert_close(eager.train()(**named), expected)
            danetc.fold(fused.eval())(image, events)
            eager.eval().stream((image, events[0]))


@pytest.mark.parametrize(("word", "role"), FAILED.items())
def test_a_name_that_generated_code_uses(word: str, role: str) -> None:
    check_forms({**PLAIN, role: word})


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(8))
def test_each_word_at_each_place(part: int) -> None:
    pool = words()
    orders = [random.Random(seed).sample(pool, len(pool)) for seed in range(len(ROLES))]
    for number in range(part, len(pool), 8):
        check_forms(
            accepted({role: order[number] for role, order in zip(ROLES, orders, strict=True)})
        )
