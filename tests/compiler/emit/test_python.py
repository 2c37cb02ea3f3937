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
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.compiler.emit.python.prelude import attention, frames, loading
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax import tree
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from tests.compiler.emit.graphs import PROGRAMS, resnet
from tests.compiler.emit.test_fx import tangled
from tests.differential import networks
from tests.differential.helpers import assert_same, observe, randn
from tests.differential.networks import VARIETY, variety
from tests.written import neuron_text


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


def assert_equal_models(graph: Graph, *, sequence: bool = False) -> None:
    """Equal outputs and buffers in training and evaluation, bit for bit; equal gradients."""
    ours, theirs = standalone(emit_python(graph), "net").double(), emit(graph, seed=3).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = 2 * randn(*[5] * sequence, 2, *graph.input.value.shape)
    for training in (True, False):
        found, expected = (observe(model.train(training), x) for model in (ours, theirs))
        assert_same(found, expected, gradients=1e-9)


def test_scopes_that_need_each_other() -> None:
    assert_equal_models(tangled(), sequence=True)


@pytest.mark.thorough
def test_the_text_is_clean(tmp_path: Path) -> None:
    for name in VARIETY.keys() - {"two_inputs"}:  # one line of its usage names every input
        (tmp_path / f"{name}.py").write_text(emit_python(variety(name)))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120"]
    command += ["--select", "E,F,I", "--ignore", "E742", "."]  # a class has the name of its block
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
    assert emit_python(resnet()) == path.read_text()


# -- the prelude ----------------------------------------------------------------------------------

PRELUDE = {
    name: value
    for module in (attention, frames, loading)
    for name, value in vars(module).items()
    if getattr(value, "__module__", "") == module.__name__
}
USES = [
    tangled(),
    *map(variety, ("attention", "ms", "ordinary", "cumulative", "integer", "two_inputs", "shared")),
]


def test_prelude_module_equals_its_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every definition is called, so its lines are those of the file and not of a text."""
    seen = set()
    for graph in USES:
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
        theirs = standalone(text, "net").train()
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
    assert seen == {*PRELUDE} - {"class_in"}  # see ``test_user_layers``


# -- use ------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_it_needs_torch_alone(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(emit_python(variety("tebn")))
    code = (
        "import sys\n"
        "for name in ('danetc', 'safetensors', 'torchvision', 'numpy'): sys.modules[name] = None\n"
        "import torch, model\n"
        "print(model.Model()(torch.randn(2, 3, 8, 8)).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "torch.Size([2, 5])\n", done.stderr


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
    graph = resnet()
    return graph, emit(graph, seed=3)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_data(name: str, plain: tuple[Graph, nn.Module]) -> None:
    graph = renamed(plain[0], name)
    text = emit_python(graph)
    assert text.isascii()
    wanted = plain[1]
    ours = standalone(text, "net").train()
    if name in {*HOSTILE[:20], "é"}:
        assert list(ours.state_dict()) == list(emit(graph).state_dict())
    ours.load_state_dict(dict(zip(ours.state_dict(), wanted.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(ours(x), wanted(x))


def test_two_neurons_of_one_name_are_two_classes() -> None:
    graph = resnet(widths=(4,), blocks=2)
    other = read_program(PROGRAMS["IF"].text().replace("sub v 1.0", "sub v 0.5"))
    last = next(node for node in reversed(graph.nodes.values()) if node.op == "neuron")
    nodes = {**graph.nodes, last.id: replace(last, attrs={"neuron": "other"})}
    graph = replace(graph, nodes=nodes, neurons={**graph.neurons, "other": other})
    text = emit_python(graph)
    assert "class IF(nn.Module):" in text
    assert "class IF2(nn.Module):" in text
    assert text.count("class Sigmoid(") == 1
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
    text = (
        PROGRAMS["IF"]
        .text()
        .replace("neuron IF;", f"neuron IF; param {name} = 1.5; param other = 0.5;")
    )
    text = text.replace("sub v 1.0", f"sub v 2.0[add({name},other)]")
    program = read_program(text)
    graph = resnet(widths=(4,), blocks=2)
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
