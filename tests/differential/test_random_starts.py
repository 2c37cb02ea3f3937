"""Learnable parameters with random initial values, and those of each neuron."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.reading import read_program
from tests.differential.helpers import randn

SPEC = """use std
neuron own(low = 0.5, high = 0.9) {{
  a = learn({start}, per = neuron{bounds})
  t = learn(uniform(low, high), per = channel, per_step = true)
  g = learn(normal(1, 0.2))
  u = a * delay(u, 1) + (1 - a) * x * t * g
  s = u
}}
network net {{
  input = image(2, 6, 6); steps = 3; surrogate = atan; neuron = own
  {before}
  late = (learn({start}, per = neuron{bounds}) * first) -> spike
  out = late -> conv(3)
}}"""
BEFORE = "first = in -> conv(4) -> norm -> spike"


def graph(start: str, bounds: str = "", before: str = BEFORE) -> Graph:
    return graph_of(check_text(SPEC.format(start=start, bounds=bounds, before=before)))


def generator(seed: int, name: str) -> torch.Generator:
    digest = sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)


@pytest.mark.parametrize("seed", [0, 7])
def test_numbers_are_those_of_a_generator_of_torch_for_each_parameter(seed: int) -> None:
    model = emit(graph("normal(0.5, 0.1)"), seed)
    drawn = {key: p for key, p in model.named_parameters() if "conv" not in key}
    del drawn["first.norm.weight"], drawn["first.norm.bias"]
    assert {key: [*p.shape] for key, p in drawn.items()} == {
        "first.spike.a": [4, 6, 6],
        "first.spike.t": [3, 4, 1, 1],
        "first.spike.g": [],
        "late.learn.weight": [4, 6, 6],
        "late.spike.a": [4, 6, 6],
        "late.spike.t": [3, 4, 1, 1],
        "late.spike.g": [],
    }
    for name, parameter in drawn.items():
        expected = torch.empty(parameter.shape, dtype=torch.float64)
        if name.endswith(".t"):
            expected.uniform_(0.5, 0.9, generator=generator(seed, name))
        elif name.endswith(".g"):
            expected.normal_(1, 0.2, generator=generator(seed, name))
        else:
            expected.normal_(0.5, 0.1, generator=generator(seed, name))
        assert torch.equal(parameter, expected.float()), name


@pytest.mark.parametrize(
    ("start", "bounds", "law"),
    [
        ("uniform(-1, 3)", {}, stats.uniform(-1, 4)),
        ("uniform(0.1, 0.9)", {"above": 0.0, "below": 1.0}, stats.uniform(0.1, 0.8)),
        ("uniform(1.5, 9)", {"above": 1.0}, stats.uniform(1.5, 7.5)),
        ("normal(2, 0.5)", {}, stats.norm(2, 0.5)),
        ("normal(0.9, 0.4)", {"above": 0.0, "below": 1.0}, stats.truncnorm(-2.25, 0.25, 0.9, 0.4)),
        ("normal(0.1, 5)", {"above": 0.0, "below": 0.5}, stats.truncnorm(-0.02, 0.08, 0.1, 5)),
        ("normal(0.1, 1)", {"below": 0.2}, stats.truncnorm(-float("inf"), 0.1, 0.1, 1)),
    ],
)
def test_numbers_have_the_distribution_of_the_spec(
    start: str, bounds: dict[str, float], law: stats.rv_continuous
) -> None:
    given = "".join(f", {key} = {value}" for key, value in bounds.items())
    source = f"""use std
    network net {{
      input = image(8, 40, 40); steps = 1; neuron = IF; surrogate = atan
      out = learn({start}, per = neuron{given}) * in
    }}"""
    with torch.no_grad():
        values = emit(graph_of(check_text(source)), 3)(torch.ones(1, 8, 40, 40)).flatten().double()
    assert float(stats.kstest(values.numpy(), law.cdf).pvalue) > 0.01
    low, high = bounds.get("above", -torch.inf), bounds.get("below", torch.inf)
    assert bool(((low < values) & (values < high)).all())
    assert len(values.unique()) > 10_000


def test_other_layers_and_backends_do_not_change_them() -> None:
    more = "early = in -> conv(2) -> norm\n  first = early -> conv(4) -> norm -> spike"
    one, two = (emit(graph("uniform(0.2, 0.8)", before=text), 1) for text in (BEFORE, more))
    fused = emit(graph("uniform(0.2, 0.8)"), 1, "fused")
    for name in ("first.spike.a", "first.spike.t", "late.learn.weight", "late.spike.t"):
        assert torch.equal(one.get_parameter(name), two.get_parameter(name))
        assert torch.equal(one.get_parameter(name), fused.get_parameter(name))
    x = randn(2, 2, 6, 6).float()
    results = []
    for model in (one, fused):
        y = model(x)
        y.square().sum().backward()
        results.append([y, *(parameter.grad for parameter in model.parameters())])
    assert all(map(torch.equal, *results))


def test_a_neuron_for_each_entry_is_that_of_torch() -> None:
    model = emit(graph("uniform(0.2, 0.8)", ", above = 0, below = 1"), 0).double()
    spike = model.get_submodule("late.spike")
    raw, t, g = (spike.get_parameter(name) for name in ("a_raw", "t", "g"))
    x = randn(3, 5, 4, 6, 6).requires_grad_()
    a, u, outputs = torch.sigmoid(raw), torch.zeros(4, 6, 6, dtype=torch.float64), []
    for step in range(3):
        u = a * u + (1 - a) * x[step] * t[step] * g
        outputs.append(u)
    expected = torch.stack(outputs)
    found = spike(x)
    assert torch.allclose(found, expected, rtol=1e-13, atol=1e-14)
    ends = [x, raw, t, g]
    weight = randn(*expected.shape)
    for mine, other in zip(
        torch.autograd.grad((found * weight).sum(), ends),
        torch.autograd.grad((expected * weight).sum(), ends),
        strict=True,
    ):
        assert torch.allclose(mine, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bounds", ["", ", above = 0", ", above = 0, below = 1"])
def test_a_standalone_model_draws_the_same_distribution(bounds: str) -> None:
    made = graph("uniform(0.2, 0.8)", bounds)
    file: dict[str, Any] = {}
    exec(compile(emit_python(made), "model.py", "exec", dont_inherit=True), file)
    torch.manual_seed(0)
    one, two = file["Model"](), file["Model"]()
    values: Callable[[Tensor], Tensor] = {
        "": lambda raw: raw,
        ", above = 0": nn.functional.softplus,
        ", above = 0, below = 1": torch.sigmoid,
    }[bounds]
    for name in ("first.spike.a", "late.learn.weight", "late.spike.a"):
        key = name + "_raw" * bool(bounds)
        found = values(one.get_parameter(key).detach())
        assert found.shape == (4, 6, 6)
        assert bool(((found >= 0.2) & (found <= 0.8)).all())
        assert (
            float(stats.kstest(found.flatten().numpy(), stats.uniform(0.2, 0.6).cdf).pvalue) > 0.01
        )
        assert not torch.equal(one.get_parameter(key), two.get_parameter(key))
    model = emit(made, 5)
    one.load_state_dict(model.state_dict())
    x = randn(2, 2, 6, 6).float()
    assert torch.allclose(one.eval()(x), model.eval()(x), atol=1e-6)


def test_the_text_of_a_program_and_its_equality_tell_the_distribution() -> None:
    one = graph("uniform(0.2, 0.8)")
    program = one.program(next(node for node in one.nodes.values() if node.op == "neuron"))
    assert "learn a = 0.5 from uniform 0.2 0.8 per neuron" in program.text()
    assert "learn t = 0.7 from uniform 0.5 0.9 per channel per step" in program.text()
    assert read_program(program.text()) == program
    assert isinstance(compare_graphs(one, graph("uniform(0.2, 0.8)")), Same)
    for other in ("0.5", "uniform(0.3, 0.7)", "normal(0.5, 0.1)"):
        assert isinstance(compare_graphs(one, graph(other)), Different)
