"""Any name that the language accepts, at any place: the network is built and runs in each form."""

from __future__ import annotations

import builtins
import keyword
import math
import random
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.runtime.model.built import Model
from tests.differential.networks import VARIETY, variety
from tests.differential.test_forms import executed
from tests.fuzzing.compare import compiling
from tests.fuzzing.forms import essence

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
"""Names that generated code hid, or could not have, at the place where they stand."""


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
    try:
        check_text(TEXT.format(**names))
    except SpecError:
        return False
    return True


def accepted(wanted: dict[str, str]) -> dict[str, str]:
    """The names, without those that the language refuses where they stand."""
    names = dict(PLAIN)
    if len({*wanted.values()}) == len(wanted) and is_accepted(wanted):
        return wanted
    for role, name in wanted.items():
        more = {**names, role: name}
        names = more if len({*more.values()}) == len(more) and is_accepted(more) else names
    return names


def check_forms(names: dict[str, str]) -> None:
    """Build and run the network in each form, and compare."""
    checked = check_text(TEXT.format(**names))
    graph = graph_of(checked, names["network"])
    again = check_text(resolved_spec(checked, names["network"]))
    assert essence(graph_of(again, names["network"])) == essence(graph)
    eager, fused = emit(graph).double(), emit(graph, backend="fused").double()
    written = executed(emit_python(graph))
    written.load_state_dict(eager.state_dict())
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    events = torch.rand(2, 2, 2, 8, 8, generator=generator, dtype=torch.float64)

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
