"""Random numbers (``random(...)``) and learnt numbers (``learn(...)``) in equations, flows and loops."""

from collections.abc import Callable
from hashlib import sha256

import onnxruntime
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs
from danetc.compiler.analysis.initial_values import initial_values
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import weights_of
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.model.built import Model
from tests.compiler.emit.onnx_files import ran, written
from tests.differential.helpers import follows, model_py, randn, streamed, text
from tests.differential.networks import ANALOG_STEM, small
from tests.surrogates import step

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
    network = f"input = events(2, 6, 6); steps = 4; surrogate = atan(alpha = 3); {line}"
    return text(f"{own}\n{more}\nnetwork net {{ {network} }}")


def run(model: Model, x: Tensor, seed: int = 5) -> list[Tensor]:
    """Output and gradients of a training step with a fixed random seed."""
    x = x.clone().requires_grad_()
    torch.manual_seed(seed)
    y = model(x)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


def slope(x: Tensor) -> Tensor:
    return 1.5 / (1 + (torch.pi / 2 * 3 * x) ** 2)


def in_torch(x: Tensor, seed: int = 5) -> list[Tensor]:
    """``LOOP`` in torch. The loop draws its numbers step by step, and the output draws after it."""
    x = x.clone().requires_grad_()
    torch.manual_seed(seed)
    v = s = torch.zeros_like(x[0])
    outputs = []
    for now in x:
        feed = now + 0.5 * s + (2 * torch.rand(now.shape) - 1)
        noise, threshold = torch.randn(now.shape), torch.rand(now.shape)
        h = 0.5 * v + feed + 0.5 * noise
        s = step(1 / (1 + torch.exp(1 - h)) - threshold, slope)
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
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def in_onnx(model: Model, x: Tensor, streaming: bool = False) -> Tensor:
    """The output of the model's ONNX file in ONNX Runtime."""
    return ran(written(model, streaming), model.topology, (x,), streaming)[0]  # type: ignore[arg-type]


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
    for values in (one, torch.stack(streamed(model, x)), in_onnx(model, x)):
        assert follows(values, law)
    assert not torch.equal(one, two)
    assert len(one.unique()) > 5000


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
    torch.testing.assert_close(in_onnx(model, x), model(x))


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
    found = [model(x), torch.stack(streamed(model, x)), model_py(model.topology)(x).float()]
    found += [in_onnx(model, x, streaming) for streaming in (False, True)]
    for values in found:
        assert torch.equal(values, values[:1].expand(4, -1, -1, -1, -1))
        assert follows(values[0], stats.norm)
        assert len(values[0].unique()) > 2000


def test_numbers_of_a_sample_beside_a_static_value_are_static() -> None:
    """A variational autoencoder has one latent value for all steps."""
    latent = "m = in -> mean_over_time; z = exp(0.5 * m) * random(normal{}); out = m + z"
    for given, lead in ((", per = sample", ()), ("", (4,))):
        y = emit(graph(latent.format(given)))(torch.zeros(4, 3, 2, 6, 6))
        assert y.shape == (*lead, 3, 2, 6, 6)


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
    for line in ("normal 0 draw step", "gamma 0 1 draw step", "normal 0 nan draw step",
                 "normal inf 1 draw step", "uniform 1 0 draw step", "normal 0 1 maybe step",
                 "normal 0 1 draw neuron", "normal 0 1 draw step step"):  # fmt: skip
        with pytest.raises(ValueError, match=r"not a|values to unpack"):
            read_program(program.text().replace("normal 0.0 1.0 draw step", line))


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


# -- learnt numbers -------------------------------------------------------------------------------

BY_STEP = """use std
neuron decaying {
  state u = 0.0
  leak = learn(0.6, above = 0, below = 1, per = step)
  th = learn(0.7, per = channel, per_step = true)
  v = leak * u + x
  s = heaviside(v - th)
  u = v * (1 - s)
}
network net {
  input = image(2, 6, 6); steps = 3; surrogate = sigmoid(alpha = 4); neuron = decaying
  out = in -> conv(4) -> norm -> spike -> conv(3) -> norm -> spike
}"""


def test_numbers_of_each_step_stream_and_fix_how_many_there_are() -> None:
    model = emit(graph_of(check_text(BY_STEP)), 0).double().eval()
    with torch.no_grad():
        model.spike2.th.add_(torch.arange(3.0).view(3, 1, 1, 1) / 4)
    x = randn(2, 2, 6, 6)
    assert torch.equal(torch.stack(streamed(model, [x] * 3)), model(x))
    with pytest.raises(ValueError, match="has numbers for 3 time steps, not for more"):
        streamed(model, [x] * 4)
    with pytest.raises(ValueError, match="spike1 has parameters for each of them"):
        model(x.expand(4, *x.shape))
    graph = graph_of(check_text(BY_STEP), None, {"steps": 5})
    assert sum(weights_of(graph, node) for node in graph.nodes.values()) == (
        2 * 4 * 9 + 4 * 3 * 9 + 2 * (4 + 3) + 5 * (1 + 4) + 5 * (1 + 3)
    )


def test_a_branch_scaled_by_zero_starts_as_the_identity() -> None:
    """ReZero: a learnt factor of 0 has the same effect as a norm that starts at 0."""
    rezero = "each = spike -> conv -> norm; out = learn(0.0) * branch + shortcut"
    rezero = f"connection rezero {{ {rezero} }}"
    graph = text(small("stage(basic(4), 2) via rezero", more=rezero, **ANALOG_STEM))
    known = initial_values(graph)
    (stage,) = graph.stages
    assert [known[block.output] for block in stage.blocks] == [stage.entry, stage.entry]


# -- random initial values --------------------------------------------------------------------------

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
  first = in -> conv(4) -> norm -> spike
  late = (learn({start}, per = neuron{bounds}) * first) -> spike
  out = late -> conv(3)
}}"""


def starting(start: str, bounds: str = "") -> Graph:
    return graph_of(check_text(SPEC.format(start=start, bounds=bounds)))


def generator(seed: int, name: str) -> torch.Generator:
    digest = sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)


@pytest.mark.parametrize(("seed", "backend"), [(0, "eager"), (7, "fused")])
def test_numbers_are_those_of_a_generator_of_torch_for_each_parameter(
    seed: int, backend: str
) -> None:
    model = emit(starting("normal(0.5, 0.1)"), seed, backend)
    drawn = {k: p for k, p in model.named_parameters() if ".learn." in k or ".spike." in k}
    neuron = {"a": [4, 6, 6], "t": [3, 4, 1, 1], "g": []}
    shapes = {
        f"{line}.spike.{key}": shape for line in ("first", "late") for key, shape in neuron.items()
    }
    assert {key: [*p.shape] for key, p in drawn.items()} == shapes | {
        "late.learn.weight": [4, 6, 6]
    }
    for name, parameter in drawn.items():
        expected = torch.empty(parameter.shape, dtype=torch.float64)
        if name.endswith(".t"):
            expected.uniform_(0.5, 0.9, generator=generator(seed, name))
        else:
            law = (1, 0.2) if name.endswith(".g") else (0.5, 0.1)
            expected.normal_(*law, generator=generator(seed, name))
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
def test_first_numbers_have_the_distribution_of_the_spec(
    start: str, bounds: dict[str, float], law: stats.rv_continuous
) -> None:
    given = "".join(f", {key} = {value}" for key, value in bounds.items())
    line = f"input = image(8, 40, 40); neuron = IF; out = learn({start}, per = neuron{given}) * in"
    with torch.no_grad():
        model = emit(text(f"network net {{ {line} }}"), 3)
        values = model(torch.ones(1, 8, 40, 40)).flatten().double()
    assert follows(values, law, 0.01)
    low, high = bounds.get("above", -torch.inf), bounds.get("below", torch.inf)
    assert bool(((low < values) & (values < high)).all())
    assert len(values.unique()) > 10_000


@pytest.mark.parametrize("bounds", ["", ", above = 0", ", above = 0, below = 1"])
def test_a_standalone_model_draws_the_same_distribution(bounds: str) -> None:
    made = starting("uniform(0.2, 0.8)", bounds)
    torch.manual_seed(0)
    one, two = (model_py(made).float() for _ in range(2))
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
        assert follows(found, stats.uniform(0.2, 0.6), 0.01)
        assert not torch.equal(one.get_parameter(key), two.get_parameter(key))
    model = emit(made, 5)
    one.load_state_dict(model.state_dict())
    x = randn(2, 2, 6, 6).float()
    assert torch.allclose(one.eval()(x), model.eval()(x), atol=1e-6)


def test_the_text_of_a_program_and_its_equality_tell_the_distribution() -> None:
    one = starting("uniform(0.2, 0.8)")
    program = one.program(next(node for node in one.nodes.values() if node.op == "neuron"))
    assert "learn a = 0.5 from uniform 0.2 0.8 per neuron" in program.text()
    assert "learn t = 0.7 from uniform 0.5 0.9 per channel per step" in program.text()
    assert read_program(program.text()) == program
    assert isinstance(compare_graphs(one, starting("uniform(0.2, 0.8)")), Same)
    for other in ("0.5", "uniform(0.3, 0.7)", "normal(0.5, 0.1)"):
        assert isinstance(compare_graphs(one, starting(other)), Different)
