"""``model.py`` computes what the fx model computes, bit for bit, and is safe and clean to read."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.emit.python.prelude import attention, frames, loading
from danetc.compiler.emit.python.prelude import norms as norm_layers
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.simplify import merge_duplicates
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax import tree
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from tests.compiler.emit import graphs, small
from tests.compiler.emit.graphs import Net, head, stem
from tests.compiler.emit.test_fx import tangled
from tests.differential import networks
from tests.differential.networks import variety
from tests.written import neuron_text


def module_of(text: str) -> ModuleType:
    module = ModuleType("standalone")
    exec(compile(text, "model.py", "exec"), module.__dict__)
    return module


def standalone(graph: Graph) -> nn.Module:
    made: nn.Module = module_of(emit_python(graph)).Model()
    return made


def test_no_variable_hides_a_function() -> None:
    """A mean over time is called `mean_over_time` where another value is needed besides."""
    text = """use std
    network n {
      input = image(1, 4, 4); steps = 2; neuron = IF; surrogate = sigmoid
      mean = in -> conv(2) -> spike
      per_step = mean -> mean_over_time
      out = outputs(mean -> mean_over_time, in -> conv(2), per_step -> tanh)
    }"""
    assert_equal_models(graph_of(check_text(text)))


# -- networks -------------------------------------------------------------------------------------


def norms() -> Graph:
    """Every norm, on static and varying values, maps and vectors."""
    net = Net(steps=3)
    with net.within("stem"):
        x = net("batchnorm", net("conv", 0, name="conv", width=4), name="static", init=0.5)
        x = net.spike(x)
    for name in ("groupnorm", "tebn"):
        x = net(name, net("conv", x, name=f"conv_{name}", width=4), name=name, init=0.5)
    x = net("batchnorm", x, name="steps", per_step=True, init=2.0)
    x = net("batchnorm", net.spike(x), name="batchnorm")
    x = net("flatten", net("global_avgpool", x), name="flat")
    x = net("batchnorm", x, name="vector")
    x = net("groupnorm", x, name="groups", init=0.25)
    x = net("tebn", net.spike(x, "last"), name="tebn_vector")
    x = net("mean_over_time", x)
    x = net("batchnorm", net("linear", x, name="wide", width=6), name="static_vector")
    return net.finish(net("linear", x, width=3))


def statistics() -> Graph:
    """Norms with statistics of each step, alone and of all so far, and whole numbers of spikes."""
    text = """use std
    neuron counting { state u = 0.0; v = u + x; s = round(min(max(v, 0), 3)); u = v - s }
    network net {
      input = events(2, 8, 8); steps = 3; neuron = counting
      a = in -> conv(4) -> batchnorm(statistics = step) -> spike
      b = a -> conv(4) -> batchnorm(statistics = cumulative) -> spike
      h = (b + (h -> delay(1) -> conv(4) -> batchnorm(statistics = step))) -> spike
      c = (a + (c -> delay(1) -> conv(4) -> batchnorm(statistics = cumulative))) -> spike
      d = (a + (d -> delay(1) -> conv(4) -> batchnorm(per_step = true))) -> spike
      out = (h + c + d) -> avgpool -> mean_over_time -> linear(3)
    }"""
    return graph_of(check_text(text))


def functions() -> Graph:
    """Every join and every function."""
    net = Net(steps=3)
    a = net("conv", 0, name="a", width=4)
    s = net.spike(a)
    b = net("conv", s, name="b", width=4)
    x = net("sigmoid", net("sub", net("add", a, b, s), net("mul", s, b, s, name="product")))
    x = net("maximum", x, b, a)
    x = net("minimum", x, net("tanh", b), s)
    x = net("div", x, net("affine", s, name="half", factor=0.5, offset=1.0))
    x = net("affine", x, name="negated", factor=-1, offset=1)
    x = net("affine", x, name="scaled", factor=1.5, offset=0)
    x = net("affine", x, name="moved", factor=1, offset=-2)
    x = net("concat", x, b, net("softplus", b), name="cat")
    x = net("avgpool", net("upsample", x, scale=2), name="pool")
    x = net("maxpool", x)
    x = net("dropout", x, p=0.5)
    x = net("droppath", x, p=0.3)
    return net.finish(head(net, x), s)


def encoded(op: str, **attrs: float) -> Graph:
    net = Net(steps=4)
    x = net(op, 0, name="code", **attrs)
    return net.finish(head(net, stem(net, x, 4)))


def several_values() -> Graph:
    """A scope that takes two values and gives two."""
    net = Net(steps=2)
    a, b = net("conv", 0, name="a", width=4), net("conv", 0, name="b", width=4)
    with net.within("cross"):
        c, d = net("add", a, b, name="sum"), net("sub", a, b, name="difference")
    with net.within("more"):
        e = net("conv", c, name="conv", width=4)
        f = net.spike(net("mul", e, d))
    return net.finish(head(net, f), e)


NETWORKS = {
    "dense": graphs.resnet(),
    "running-sums": merge_duplicates(graphs.resnet(blocks=5)),
    "plif": graphs.resnet("PLIF"),
    "relu": graphs.resnet("ReLU"),
    "sequence": graphs.resnet(varies=True),
    "chain": small.resnet((4, 3), dense=False),
    "bottleneck": small.resnet((2, 3), bottleneck=True),
    "norms": norms(),
    "statistics": statistics(),
    "functions": functions(),
    "poisson": encoded("poisson"),
    "latency": encoded("latency", tau=2.0),
    "tangled": tangled(),
    "several-values": several_values(),
}
QUICK = {"norms", "statistics", "functions", "poisson", "latency", "tangled", "several-values"}
FIXED_LENGTH = {"norms", "statistics"}  # what has a length of its own takes no other sequence


def random_input(graph: Graph, sequence: bool, dtype: torch.dtype, steps: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    lead = (steps, 2) if sequence else (2,)
    return torch.randn(*lead, *graph.input.value.shape, generator=generator, dtype=dtype) * 2


def results(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(7)
    y = model(x)
    return y if isinstance(y, tuple) else (y,)


def assert_same(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """Equal outputs and buffers in training and evaluation, bit for bit; equal gradients."""
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        made, wanted = results(ours, x), results(theirs, x)
        assert len(made) == len(wanted)
        for a, b in zip(made, wanted, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
            assert a.isfinite().all()
    for (name, a), (other, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        assert name == other
        assert torch.equal(a, b)
    ours.train()
    theirs.train()
    for model in (ours, theirs):
        model.zero_grad()
        sum(y.square().sum() for y in results(model, x)).backward()  # type: ignore[union-attr]
    if x.dtype == torch.float64:
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert a.grad is not None
            assert torch.allclose(a.grad, b.grad, rtol=1e-9, atol=1e-9)


def assert_equal_models(graph: Graph, *, sequence: bool = False) -> None:
    ours, theirs = standalone(graph), emit(graph, seed=3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours, theirs, random_input(graph, sequence, torch.float32))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough) for name in NETWORKS],
)
def test_same_numbers_as_the_fx_model(name: str) -> None:
    graph = NETWORKS[name]
    ours = standalone(graph)
    for dtype in (torch.float32, torch.float64):
        for sequence in (False, True):
            varies, fixed = graph.input.value.varies, name in FIXED_LENGTH
            if (sequence and fixed and not varies) or (varies and not sequence):
                continue
            theirs = emit(graph, seed=3).to(dtype)
            assert list(ours.state_dict()) == list(theirs.state_dict())
            ours.to(dtype).load_state_dict(theirs.state_dict())
            assert_same(
                ours, theirs, random_input(graph, sequence, dtype, graph.steps if fixed else 5)
            )


@pytest.mark.thorough
def test_the_text_is_clean(tmp_path: Path) -> None:
    for name, graph in NETWORKS.items():
        (tmp_path / f"{name}.py").write_text(emit_python(graph))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120"]
    command += ["--select", "E,F,I", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -- what it looks like ---------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [50, 152])
def test_a_network_of_the_paper_fits_on_a_few_pages(depth: int) -> None:
    text = emit_python(graph_of(check_file(f"specs/danet_c_r{depth}.danet")))
    assert "class OriginBottleneck(nn.Module):" in text
    assert text.count("\n") <= 260


def test_golden() -> None:
    path = Path(__file__).parent / "goldens" / "small.py.txt"
    assert emit_python(small.resnet((2, 4), (4, 8))) == path.read_text()


# -- the prelude ----------------------------------------------------------------------------------

PRELUDE = {
    name: value
    for module in (attention, frames, loading, norm_layers)
    for name, value in vars(module).items()
    if getattr(value, "__module__", "") == module.__name__
}
USES = {
    **{name: NETWORKS[name] for name in ("norms", "statistics", "functions", "tangled")},
    **{name: variety(name) for name in ("attention", "mixed", "ordinary", "shared", "two_inputs")},
}


def test_prelude_module_equals_its_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every definition is called, so its lines are those of the file and not of a text."""
    seen = set()
    for graph in USES.values():
        text = emit_python(graph)
        tree = ast.parse(text)
        names = [getattr(item, "name", "") for item in tree.body]
        seen |= PRELUDE.keys() & {*names}
        tree.body = [
            item
            for item, name in zip(tree.body, names, strict=True)
            if name == "Model" or name not in PRELUDE
        ]
        module = ModuleType("imported")
        vars(module).update({key: value for key, value in PRELUDE.items() if key != "Model"})
        exec(compile(tree, "model.py", "exec"), vars(module))
        monkeypatch.setattr(loading, "Model", module.Model)
        theirs = standalone(graph)
        path = tmp_path / "weights.safetensors"
        save_file(theirs.state_dict(), path, metadata={"format": "pt"})
        ours = module.load(str(path))
        generator = torch.Generator().manual_seed(2)
        inputs = [
            torch.rand(
                *[graph.steps] * item.value.varies, 2, *item.value.shape, generator=generator
            )
            for item in graph.inputs
        ]
        for model in (ours, theirs):
            torch.manual_seed(1)
            out = model(*inputs)
            sum(y.square().sum() for y in (out if isinstance(out, tuple) else [out])).backward()  # type: ignore[union-attr]
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.grad is None or torch.equal(mine.grad, other.grad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="the model takes"):
            ours(*(x[..., :1] for x in inputs))
    assert seen == {*PRELUDE}


# -- use ------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_it_needs_torch_alone(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(emit_python(NETWORKS["norms"]))
    code = (
        "import sys\n"
        "for name in ('danetc', 'safetensors', 'torchvision', 'numpy'): sys.modules[name] = None\n"
        "import torch, model\n"
        "print(model.Model()(torch.randn(2, 3, 8, 8)).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "torch.Size([2, 3])\n", done.stderr


# -- names ----------------------------------------------------------------------------------------

HOSTILE = [
    *("lambda", "__import__", "__init__", "class", "forward", "x", "self", "torch", "nn", "Tensor"),
    *("Model", "Conv2d", "build", "print", "append", "weight", "training", "IF", "frames", "json"),
    '"""', "\\", "'); raise SystemExit('", "a\nimport os", "\0", "é", "ﬁ", "x, y", "_1", "$", "~}{",
]  # fmt: skip


def renamed(graph: Graph, name: str) -> Graph:
    """A graph in which all that has a name is called ``name``, as far as it stays one graph."""

    def scope(path: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if part in ("stem", "branch", "stages") else part for part in path)

    nodes = {
        id: replace(
            node,
            scope=scope(node.scope),
            name=name if node.name in ("conv", "conv1", "add", "flatten") else node.name,
        )
        for id, node in graph.nodes.items()
    }
    return replace(graph, name=name, nodes=nodes, outputs={name: graph.outputs["out"]})


@pytest.fixture(scope="module")
def plain() -> tuple[Graph, nn.Module]:
    """A network with ordinary names, and its model."""
    graph = small.resnet((2, 3))
    return graph, emit(graph, seed=3)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_data(name: str, plain: tuple[Graph, nn.Module]) -> None:
    graph = renamed(plain[0], name)
    text = emit_python(graph)
    assert text.isascii()
    wanted = plain[1]
    ours = module_of(text).Model()
    if name in {*HOSTILE[:20], "é"}:
        assert list(ours.state_dict()) == list(emit(graph).state_dict())
    ours.load_state_dict(dict(zip(ours.state_dict(), wanted.state_dict().values(), strict=True)))
    x = random_input(graph, False, torch.float32)
    assert torch.equal(ours(x), wanted(x))


def test_two_neurons_of_one_name_are_two_classes() -> None:
    graph = small.resnet((2,), (4,))
    other = read_program(small.IF.text().replace("sub v 1.0", "sub v 0.5"))
    last = next(node for node in reversed(graph.nodes.values()) if node.op == "neuron")
    nodes = {**graph.nodes, last.id: replace(last, attrs={"neuron": "other"})}
    graph = replace(graph, nodes=nodes, neurons={**graph.neurons, "other": other})
    text = emit_python(graph)
    assert "class IF(nn.Module):" in text
    assert "class IF2(nn.Module):" in text
    assert text.count("class Atan(") == 1
    assert_equal_models(graph)


def neuron_graph(neuron: str, surrogate: str) -> Graph:
    return graph_of(
        check_text(
            f"use std\nnetwork n {{ input = image(1, 4, 4); steps = 3; neuron = {neuron}; "
            f"surrogate = {surrogate}\nout = in -> conv(2) -> spike -> mean_over_time }}"
        )
    )


def std(kind: str) -> dict[str, list[tuple[str, float]]]:
    """The standard library's declarations of a kind, with their numbers; counts are left out."""
    found = {}
    for path in Path("dsl/std").glob("*.danet"):
        for item in parse(SourceFile(str(path), path.read_text()), Reporter()).declarations:
            if item.kind == kind:
                found[item.name] = [
                    (param.name, float(param.default.text))
                    for param in item.params
                    if isinstance(param.default, tree.Number) and "." in param.default.text
                ]
    return found


CASES = [
    *((name, values, "sigmoid", []) for name, values in std("neuron").items()),
    *(("IF", [], name, values) for name, values in std("surrogate").items()),
]


@pytest.mark.parametrize(("neuron", "values", "surrogate", "others"), CASES)
def test_parameters_of_neurons_can_be_changed_in_the_text(
    neuron: str, values: list[tuple[str, float]], surrogate: str, others: list[tuple[str, float]]
) -> None:
    """The class written for some values, given others, is the neuron compiled for those."""

    def call(name: str, values: list[tuple[str, float]], more: float) -> str:
        return f"{name}({', '.join(f'{k} = {v + more}' for k, v in values)})"

    first, second = (
        neuron_graph(call(neuron, values, more), call(surrogate, others, more))
        for more in (0.125, 0.375)
    )
    one, other = (neuron_text(next(iter(graph.neurons.values()))) for graph in (first, second))
    ours: dict[str, Any] = {"torch": torch, "nn": nn, "Tensor": Tensor, "math": math}
    exec(one[1], ours)
    changed = ours[one[0]](**{key: value + 0.375 for key, value in values})
    for key, value in others:
        assert getattr(changed.surrogate, key) == value + 0.125
        setattr(changed.surrogate, key, value + 0.375)
    theirs = dict(ours)
    exec(other[1], theirs)
    assert one[1] != other[1] or not (values or others)
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    results = []
    for layer in (changed, theirs[other[0]]()):
        layer = layer.double()
        at = (2 * x).requires_grad_()
        out = layer(at)
        out.square().sum().backward()
        results.append(
            [out, at.grad, *(p for p in layer.parameters()), *(p.grad for p in layer.parameters())]
        )
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "name",
    ["self", "torch", "math", "x", "x_seq", "u", "surrogate", "training", "forward", "lambda",
     "__class__", "_1", "é", "ﬁ", "outputs", "float", "super", "channels", "steps", "Heaviside"],
)  # fmt: skip
def test_parameters_of_any_name(name: str) -> None:
    text = small.IF.text().replace(
        "neuron IF;", f"neuron IF; param {name} = 1.5; param other = 0.5;"
    )
    text = text.replace("sub v 1.0", f"sub v 2.0[add({name},other)]")
    program = read_program(text)
    graph = small.resnet((2,), (4,))
    graph = replace(graph, neurons={"IF": program})
    written = emit_python(graph)
    assert written.isascii()
    assert "float = 1.5" in written
    assert_equal_models(graph)


def test_a_parameter_that_decided_on_the_operations_is_no_argument() -> None:
    program = next(iter(neuron_graph("IF(v_rest = 0)", "triangle(alpha = 1)").neurons.values()))
    assert dict(program.parameters) == {"v_threshold": 1.0, "v_rest": 0.0, "detach_reset": False}
    _, text = neuron_text(program)
    assert "def __init__(self, v_threshold: float = 1.0) -> None" in text
    assert "alpha" not in text


def test_blocks_that_differ_in_one_size_are_one_class() -> None:
    grown = "connection grown { each = norm -> spike -> conv; out = branch }"
    graph = networks.text(
        networks.small("stage(single(3), 6) via grown by densely_concatenated", more=grown)
    )
    text = emit_python(graph)
    assert "GrownSingle(4),\n            GrownSingle(7)," in text
    assert "x = torch.cat([x, block(x)], dim=-3)" in text
    assert_equal_models(graph)
