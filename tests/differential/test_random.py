"""Random numbers in equations, flows and loops: ``random(...)``."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import onnxruntime
import pytest
import torch
from scipy import stats
from torch import Tensor

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.nir import NotInNir, emit_nir
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.model.built import Model
from tests.compiler.emit.onnx_files import ran, written
from tests.differential.helpers import randn, streamed

NEURON = """neuron bernoulli(sigma = 0.5) {{
  state v = 0.0
  h = 0.5 * v + x + sigma * random({normal})
  p = 1 / (1 + exp(1 - h))
  s = heaviside(p - random({uniform}))
  v = h * (1 - s)
}}"""
LOOP = "h = (in + 0.5 * (h -> delay(1)) + random(uniform(-1, 1))) -> bernoulli; out = h + random()"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    onnxruntime.set_seed(0)


def graph(line: str, more: str = "", *, normal: str = "normal", uniform: str = "") -> Graph:
    own = NEURON.format(normal=normal, uniform=uniform)
    return graph_of(
        check_text(f"""use std
        {own}
        {more}
        network net {{
          input = events(2, 6, 6); steps = 4; surrogate = atan(alpha = 3)
          {line}
        }}""")
    )


def run(model: Model, x: Tensor, seed: int = 5) -> list[Tensor]:
    """Output and gradients of a training step whose random numbers have a seed."""
    x = x.clone().requires_grad_()
    torch.manual_seed(seed)
    y = model(x)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 1.5 / (1 + (torch.pi / 2 * 3 * x) ** 2)


def in_torch(x: Tensor, seed: int = 5) -> list[Tensor]:
    """The same as ``LOOP`` in torch: what a loop draws, step by step, and then the last numbers."""
    x = x.clone().requires_grad_()
    torch.manual_seed(seed)
    v = s = torch.zeros_like(x[0])
    outputs = []
    for now in x:
        feed = now + 0.5 * s + (2 * torch.rand(now.shape) - 1)
        noise, threshold = torch.randn(now.shape), torch.rand(now.shape)
        h = 0.5 * v + feed + 0.5 * noise
        s = Spike.apply(1 / (1 + torch.exp(1 - h)) - threshold)
        v = h * (1 - s)
        outputs.append(s)
    y = torch.stack(outputs) + torch.rand(x.shape)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad]


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_loop_draws_at_each_step_as_torch_does(backend: str) -> None:
    x = randn(4, 3, 2, 6, 6)
    found, expected = run(emit(graph(LOOP), 0, backend).double(), x), in_torch(x)
    assert 0.1 < expected[0].floor().mean() < 0.9
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_memory_backends_and_model_py_draw_the_same_bits() -> None:
    made = graph(
        "neuron = bernoulli; stem = conv(4) -> norm; stages = stage(basic(4), 2) via origin; head = avgpool"
    )
    x = torch.randn(4, 3, 2, 6, 6)
    models = [emit(made, 1, *how) for how in (("eager",), ("fused",), ("fused", "recompute"))]
    one, *others = (run(model, x) for model in models)
    for other in others:
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert all(map(torch.equal, others[0], others[1]))
    module = ModuleType("standalone")
    exec(compile(emit_python(made), "model.py", "exec", dont_inherit=True), module.__dict__)
    standalone = module.Model()
    standalone.load_state_dict(models[0].state_dict())
    for training in (True, False):
        ys = []
        for model in (models[0], standalone):
            torch.manual_seed(2)
            ys.append(model.train(training)(x))
        assert torch.equal(*ys)


@pytest.mark.parametrize(
    ("call", "law"),
    [
        ("random()", stats.uniform(0, 1)),
        ("random(uniform)", stats.uniform(0, 1)),
        ("random(uniform(-1, 3))", stats.uniform(-1, 4)),
        ("random(normal)", stats.norm(0, 1)),
        ("random(normal(2, 0.5))", stats.norm(2, 0.5)),
        ("2 * random(normal(2, 0.5)) - 1", stats.norm(3, 1)),
    ],
)
@pytest.mark.parametrize("place", ["flow", "equation"])
def test_numbers_have_the_distribution_of_the_spec(
    call: str, law: stats.rv_continuous, place: str
) -> None:
    more = f"neuron noisy {{ s = x + {call} }}"
    line = f"out = in + ({call})" if place == "flow" else "out = in -> noisy"
    model = emit(graph(line, more)).eval()
    x = torch.zeros(4, 20, 2, 6, 6)
    torch.manual_seed(0)
    one, two = model(x), model(x)
    torch.manual_seed(0)
    assert torch.equal(one, model(x))
    for values in (one, torch.stack(streamed(model, x))):
        assert float(stats.kstest(values.flatten().numpy(), law.cdf).pvalue) > 1e-3
    assert not torch.equal(one, two)
    assert len(one.unique()) > 5000
    drawn = ran(written(model, False), model.topology, (x,), False)[0]  # type: ignore[arg-type]
    assert float(stats.kstest(drawn.flatten().numpy(), law.cdf).pvalue) > 1e-3


@pytest.mark.parametrize(("law", "mean"), [("normal(2, 1)", 2.0), ("uniform(1, 2)", 1.5)])
@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_an_evaluation_may_take_the_mean(law: str, mean: float, backend: str) -> None:
    more = f"neuron noisy {{ s = x + random({law}, evaluate = mean) }}"
    line = f"a = in -> noisy; out = a + random({law}, evaluate = mean)"
    model = emit(graph(line, more), 0, backend)
    x = torch.randn(4, 2, 2, 6, 6)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), (x + mean) + mean)
    assert torch.equal(torch.stack(streamed(model, x)), model(x))
    torch.testing.assert_close(
        ran(written(model, False), model.topology, (x,), False)[0],  # type: ignore[arg-type]
        model(x),
    )


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    "line",
    [
        "out = in + random(normal, per = sample)",
        "out = in -> noisy",
        "out = in + 0 * (out -> delay(1)) + random(normal, per = sample)",
    ],
)
def test_a_sample_may_have_the_same_numbers_at_all_steps(line: str, backend: str) -> None:
    model = emit(graph(line, "neuron noisy { s = x + random(normal, per = sample) }"), 0, backend)
    x = torch.zeros(4, 30, 2, 6, 6)
    module = ModuleType("standalone")
    code = emit_python(model.topology)  # type: ignore[arg-type]
    exec(compile(code, "model.py", "exec", dont_inherit=True), module.__dict__)
    found = [model(x), torch.stack(streamed(model, x)), module.Model()(x)]
    found += [ran(written(model, s), model.topology, (x,), s)[0] for s in (False, True)]  # type: ignore[arg-type]
    for values in found:
        assert torch.equal(values, values[:1].expand(4, -1, -1, -1, -1))
        assert float(stats.kstest(values[0].flatten().numpy(), stats.norm.cdf).pvalue) > 1e-3
        assert len(values[0].unique()) > 2000


def test_numbers_of_a_sample_beside_a_static_value_are_static() -> None:
    """As in a variational autoencoder: one latent value for all steps."""
    latent = (
        "m = in -> mean_over_time; z = exp(0.5 * m) * random(normal, per = sample); out = m + z"
    )
    assert emit(graph(latent))(torch.zeros(4, 3, 2, 6, 6)).shape == (3, 2, 6, 6)
    assert emit(graph(latent.replace(", per = sample", "")))(torch.zeros(4, 3, 2, 6, 6)).dim() == 5


def test_a_name_stands_for_the_same_numbers_and_each_place_draws_its_own() -> None:
    x = torch.zeros(4, 2, 2, 6, 6)
    assert not emit(graph("z = random(normal); a = in + z; out = a - z"))(x).any()
    assert emit(graph("a = in + random(normal); out = a - random(normal)"))(x).all()
    twice = "neuron own { s = x + sum(random() for j in 0 .. 2) - random() }"
    program = next(iter(graph("out = in -> own", twice).neurons.values()))
    assert program.inputs == ("s_random_0", "s_random_1", "s_random_2", "s_random")


def test_programs_are_read_back_and_numbers_without_effect_are_left_out() -> None:
    made = graph(
        LOOP, "neuron own { y = random(); s = x + random(uniform(0, 2), evaluate = mean) }"
    )
    (program,) = made.neurons.values()
    assert [str(draw) for draw in program.draws] == ["normal(0, 1)", "uniform(0, 1)"]
    assert read_program(program.text()) == program
    own = graph("out = in -> own", "neuron own { y = random(); s = x + random(evaluate = mean) }")
    assert list(next(iter(own.neurons.values())).drawn) == ["s_random"]
    for text in ("normal 0 draw step", "gamma 0 1 draw step", "normal 0 nan draw step",
                 "normal inf 1 draw step", "uniform 1 0 draw step", "normal 0 1 maybe step",
                 "normal 0 1 draw neuron", "normal 0 1 draw step step"):  # fmt: skip
        with pytest.raises(ValueError, match=r"not a|values to unpack"):
            read_program(program.text().replace("normal 0.0 1.0 draw step", text))


@pytest.mark.parametrize(
    "other",
    [
        {"normal": "normal(0, 2)"},
        {"normal": "uniform"},
        {"uniform": "evaluate = mean"},
        {"uniform": "per = sample"},
        {"line": LOOP.replace("random()", "random(evaluate = mean)")},
        {"line": LOOP.replace("+ random()", "+ 1")},
    ],
)
def test_equal_networks_draw_from_the_same_distribution(other: dict[str, str]) -> None:
    same = graph(LOOP, normal="normal(0, 1)", uniform="uniform(0, 1)")
    assert isinstance(compare_graphs(graph(LOOP), same), Same)
    different = graph(**{"line": LOOP, **other})
    assert isinstance(compare_graphs(graph(LOOP), different), Different)


def test_a_format_without_random_numbers_names_them() -> None:
    made = graph("out = in + random()")
    with pytest.raises(NotInNir, match=r"^random: NIR has no node for random"):
        emit_nir(made, {})


def test_distributions_are_allowed_in_blocks() -> None:
    block = "block own { out = learn(uniform(-1, 1)) * in + random(uniform(-1, 1)) }"
    assert emit(graph("out = in -> own", block))(torch.ones(4, 2, 2, 6, 6)).shape[0] == 4


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("out = in + random(0.5)", "E0304", "`0.5` is not a distribution"),
        ("out = in + random(gamma)", "E0304", "`gamma` is not a distribution"),
        ("out = in + random(normal(0))", "E0307", "`normal` in `random` takes two numbers"),
        ("out = in + random(normal(0, 0))", "E0305", "its `std` is not above 0"),
        ("out = in + random(uniform(1, 0))", "E0305", "its `low` is not below its `high`"),
        ("out = in + random(evaluate = sometimes)", "E0210", "expected one of `draw`, `mean`"),
        ("out = in + random(seed = 1)", "E0301", "has no parameter `seed`"),
        ("out = in + random", "E0405", "`random` is called with arguments"),
        (
            "out = in + random() * random()",
            "E0410",
            "of two learnable parameters or random numbers",
        ),
        ("out = in + 1 / random()", "E0410", "`/` cannot be applied to random numbers"),
        ("z = random(); a = in + z; b = (a -> conv(4)) + z; out = b", "E0410", "`z` is drawn as 2"),
        ("out = in -> LIF(tau = random())", "E0304", "must be a number, not random numbers"),
        ("out = in -> dropout(random())", "E0304", "not random numbers"),
        ("out = in -> (stage(basic(2), 2) via sew by r)", "E0608", "a rule has no random numbers"),
    ],
)
def test_misuse_in_flows_is_named(line: str, code: str, words: str) -> None:
    rule = "rule r { in[i] = random() * out[i - 1]; result = out[n - 1] }" * ("by r" in line)
    with pytest.raises(SpecError) as found:
        graph(f"neuron = LIF; {line}", rule)
    error = found.value.diagnostics[0]
    assert error.code == code
    assert words in f"{error.message} {error.hint}"
