"""``model.py`` computes the same as the fx model, bit for bit, and its text is safe and clean."""

from __future__ import annotations

import ast
import copy
import math
import re
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

from danetc.compiler import check_file, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.compiler.emit.python.prelude import attention, frames, loading
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.text import write
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax import tree
from tests.compiler.emit.graphs import PROGRAMS, resnet
from tests.compiler.emit.test_fx import tangled
from tests.compiler.emit.test_onnx import inputs_of
from tests.compiler.test_suggestions import STANDARD
from tests.differential import networks
from tests.differential.helpers import assert_same, observe, randn
from tests.differential.networks import VARIETY, variety
from tests.written import neuron_text


def test_no_variable_hides_a_function() -> None:
    """The value of the layer `per_step` is named `per_step2`, because the function `per_step` is called."""
    lines = """network n {
      input = image(1, 4, 4); steps = 2; neuron = IF; surrogate = sigmoid
      mean = in -> conv(2) -> spike
      per_step = mean -> mean_over_time
      out = outputs(mean -> mean_over_time, in -> conv(2), per_step -> tanh)
    }"""
    assert_equal_models(networks.text(lines))


def assert_equal_models(graph: Graph, *, sequence: bool = False) -> None:
    """Assert that outputs and buffers are equal bit for bit in both modes, and gradients to 1e-9."""
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
    for name in VARIETY.keys() - {"two_inputs"}:  # its usage names every input in one line
        (tmp_path / f"{name}.py").write_text(emit_python(variety(name)))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120"]
    command += ["--select", "E,F,I", "--ignore", "E742", "."]  # a class is named after its block
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("depth", [50, 152])
def test_a_network_of_the_paper_fits_on_a_few_pages(depth: int) -> None:
    text = emit_python(graph_of(check_file(f"specs/danet_c_r{depth}.danet")))
    assert "class OriginBottleneck(nn.Module):" in text
    assert text.count("\n") <= 260


def test_goldens() -> None:
    goldens = Path(__file__).parent / "goldens"
    assert emit_python(resnet()) == (goldens / "small.py.txt").read_text()
    assert write(resnet()) == (goldens / "small.graph").read_text()


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
    """Every definition is called from its module, and not from a copy in the emitted text."""
    seen = set()
    for graph in USES:
        text = emit_python(graph)
        tree = ast.parse(text)
        names = [getattr(item, "name", "") for item in tree.body]
        seen |= PRELUDE.keys() & {*names}
        named = zip(tree.body, names, strict=True)
        tree.body = [item for item, name in named if name == "Model" or name not in PRELUDE]
        module = ModuleType("imported")
        vars(module).update({key: value for key, value in PRELUDE.items() if key != "Model"})
        exec(compile(tree, "model.py", "exec"), vars(module))
        monkeypatch.setattr(loading, "Model", module.Model)
        theirs = standalone(text, "net").train()
        path = tmp_path / "weights.safetensors"
        save_file(theirs.state_dict(), path, metadata={"format": "pt"})
        ours = module.load(str(path))
        inputs = inputs_of(graph, 2)
        for model in (ours, theirs):
            torch.manual_seed(1)
            out = model(*inputs)
            sum(y.square().sum() for y in (out if isinstance(out, tuple) else [out])).backward()  # type: ignore[union-attr]
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.grad is None or torch.equal(mine.grad, other.grad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="the model takes"):
            ours(*(x[..., :1] for x in inputs))
    assert seen == {*PRELUDE} - {"class_in"}  # see ``test_user_layers``


@pytest.mark.thorough
def test_it_needs_torch_alone(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(emit_python(variety("tebn")))
    code = """import sys
for name in ('danetc', 'safetensors', 'torchvision', 'numpy'): sys.modules[name] = None
import torch, model
print(model.Model()(torch.randn(2, 3, 8, 8)).shape)"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([2, 5])\n", done.stderr


HOSTILE = [
    *("lambda", "__import__", "__init__", "class", "forward", "x", "self", "torch", "nn", "Tensor"),
    *("Model", "Conv2d", "build", "print", "append", "weight", "training", "IF", "frames", "json"),
    *("in", "train", "graph", "_modules", "getattr", "lead", "shape", "stream", "topology", "keys", "__class__"),
    '"""', "\\", "'); raise SystemExit('", "a\nimport os", "\0", "é", "ﬁ", "x, y", "_1", "$", "~}{",
]  # fmt: skip


def renamed(graph: Graph, name: str) -> Graph:
    """A copy in which the graph, its output and some of its scopes and nodes are called ``name``."""

    def own(part: str) -> str:
        parts = ("stem", "branch", "stages", "conv", "conv1", "add", "flatten")
        return name if part in parts else part

    nodes = {
        id: replace(node, scope=tuple(map(own, node.scope)), name=own(node.name))
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
    models = [ours]
    if name.isidentifier() and name.isascii():
        emitted = emit(graph, seed=3)
        assert list(ours.state_dict()) == list(emitted.state_dict())
        models += [emitted, copy.deepcopy(emitted), torch.fx.symbolic_trace(emitted)]
    ours.load_state_dict(dict(zip(ours.state_dict(), wanted.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 8, 8)
    for model in models:
        assert torch.equal(model(x), wanted(x))


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


def neuron_program(neuron: str, surrogate: str) -> NeuronProgram:
    settings = f"steps = 3; neuron = {neuron}; surrogate = {surrogate}"
    lines = f"input = image(1, 4, 4); {settings}; out = in -> conv(2) -> spike -> mean_over_time"
    (program,) = networks.text(f"network n {{ {lines} }}").neurons.values()
    return program


def std(kind: str) -> dict[str, list[tuple[str, float]]]:
    """The standard library's declarations of a kind, with their parameters that are decimal numbers."""
    return {
        item.name: [
            (param.name, float(param.default.text))
            for param in item.params
            if isinstance(param.default, tree.Number) and "." in param.default.text
        ]
        for item in STANDARD
        if item.kind == kind
    }


CASES = [
    *((name, values, "sigmoid", []) for name, values in std("neuron").items()),
    *(("IF", [], name, values) for name, values in std("surrogate").items()),
]


@pytest.mark.parametrize(("neuron", "values", "surrogate", "others"), CASES)
def test_parameters_of_neurons_can_be_changed_in_the_text(
    neuron: str, values: list[tuple[str, float]], surrogate: str, others: list[tuple[str, float]]
) -> None:
    """A class written for some values and called with others equals the neuron compiled for the others."""

    def call(name: str, values: list[tuple[str, float]], more: float) -> str:
        return f"{name}({', '.join(f'{k} = {v + more}' for k, v in values)})"

    one, other = (
        neuron_text(neuron_program(call(neuron, values, more), call(surrogate, others, more)))
        for more in (0.125, 0.375)
    )
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
        parameters = [*layer.parameters()]
        results.append([out, at.grad, *parameters, *(p.grad for p in parameters)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "name",
    ["self", "torch", "math", "x", "x_seq", "u", "surrogate", "training", "forward", "lambda",
     "__class__", "_1", "é", "ﬁ", "outputs", "float", "super", "channels", "steps", "Heaviside"],
)  # fmt: skip
def test_parameters_of_any_name(name: str) -> None:
    text = PROGRAMS["IF"].text().replace("sub v 1.0", f"sub v 2.0[add({name},other)]")
    text = text.replace("neuron IF;", f"neuron IF; param {name} = 1.5; param other = 0.5;")
    graph = replace(resnet(widths=(4,), blocks=2), neurons={"IF": read_program(text)})
    written = emit_python(graph)
    assert written.isascii()
    assert "float = 1.5" in written
    assert_equal_models(graph)


def test_a_parameter_that_decided_on_the_operations_is_no_argument() -> None:
    program = neuron_program("IF(v_rest = 0)", "triangle(alpha = 1)")
    assert dict(program.parameters) == {"v_threshold": 1.0, "v_rest": 0.0, "detach_reset": False}
    _, text = neuron_text(program)
    assert "def __init__(self, v_threshold: float = 1.0) -> None" in text
    assert "alpha" not in text


def test_blocks_that_differ_in_one_size_are_one_class() -> None:
    grown = "connection grown { each = norm -> spike -> conv; out = branch }"
    stages = "stage(single(3), 6) via grown by densely_concatenated"
    graph = networks.text(networks.small(stages, more=grown))
    text = emit_python(graph)
    assert "GrownSingle(4),\n            GrownSingle(7)," in text
    assert "x = torch.cat([x, block(x)], dim=-3)" in text
    assert_equal_models(graph)


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, -0.0, 1e22, 1 / 3])
def test_floats_are_exact(value: float) -> None:
    graph = resnet()
    node = replace(graph[2], attrs={"factor": value})
    text = write(replace(graph, nodes={**graph.nodes, 2: node}))
    assert float(re.findall(r"factor=(\S+)\)", text)[0]).hex() == value.hex()
