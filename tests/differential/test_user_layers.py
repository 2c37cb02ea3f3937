"""Layers in Python, compared with built-in operations, with the plain module and with other forms."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.nir import emit_nir
from danetc.compiler.emit.onnx.network import emit_onnx
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.main import main as danetc_main
from danetc.runtime.system.user_code import UserCodeError
from danetc.tasks.proofs import prove
from tests.differential.helpers import (
    assert_close,
    assert_same,
    model_py,
    observe,
    observe_each,
    randn,
    shake,
    streamed,
)
from tests.differential.test_resume import check_resumed

FILE = '''
import torch
from torch import nn

class ConvNorm(nn.Module):
    """Convolution and norm, under the names that danetc gives them."""
    def __init__(self, into, count):
        super().__init__()
        self.conv = nn.Conv2d(into, count, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(count)
    def forward(self, x):
        return self.norm(self.conv(x))

class Mixer(nn.Module):
    """Has weights, statistics, random numbers, and a state that is no weight."""
    def __init__(self, channels, hidden=4, p=0.5):
        super().__init__()
        self.into, self.back = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.norm, self.drop = nn.BatchNorm2d(channels), nn.Dropout(p)
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)
    def forward(self, x):
        y = self.back(torch.tanh(self.into(x.movedim(1, -1)))).movedim(-1, 1)
        return self.norm(x + self.scale * self.drop(y))

class Positive(nn.Module):
    def forward(self, x):
        return (x > 0).to(x.dtype) + (x - x.detach())

class Pool(nn.Module):
    def forward(self, x):
        return x.amax((2, 3))

class Pair(nn.Module):
    def forward(self, x):
        return x, x

class Half(nn.Module):
    def forward(self, x):
        return 0.5 * x

class Broken(nn.Module):
    def forward(self, x):
        return x.reshape(7)  # broken

class Raises(nn.Module):
    def __init__(self):
        raise KeyError("no such weights")  # raises

class Linear(nn.Module):
    def __init__(self, into, count):
        super().__init__()
        self.layer = nn.Linear(into, count)
    def forward(self, x):
        return self.layer(x)

def function(x):
    return x
'''
SPEC = """use std
network n {{
  input = image(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem = conv(6) -> norm -> spike
  middle = {layer}
  out = in -> stem -> middle -> spike -> conv(4) -> norm -> spike -> avgpool -> mean_over_time -> linear(5)
}}
"""
BLOCKS = """use std
block own {
  y = in -> python("mine.py:Mixer", channels = channels(in), p = 0.25) -> spike
  out = (y -> conv(6) -> norm -> spike) + in
}
network n {
  input = image(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem = conv(6) -> norm -> spike
  stages = stage(own, 2)
  head = python("mine.py:Positive", gives = spikes) -> conv(4) -> norm -> spike
    -> python("mine.py:Mixer", channels = 4) -> avgpool -> mean_over_time -> linear(5)
}
"""

LOOP = """use std
network n {
  input = image(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem = conv(6) -> norm -> spike
  h = (s + (h -> delay(1))) -> python("mine.py:Mixer", channels = 6, p = 0.25) -> spike
  s = in -> stem
  out = h -> avgpool -> flatten -> python("mine.py:Linear", into = 6, count = 7, width = 7) -> spike
    -> mean_over_time -> python("mine.py:Linear", into = 7, count = 5, width = 5)
}
"""
"""A layer in a loop over time, a layer on vectors, and a layer on values without time."""
FORMS = pytest.mark.parametrize("text", [BLOCKS, LOOP], ids=["blocks", "loop"])


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "mine.py"
    place.write_text(FILE)
    names = re.findall(r"^(?:class|def) (\w+)", FILE, re.MULTILINE)
    danetc.allow_code(*(f"mine.py:{name}" for name in names))
    return place


def graph(text: str) -> Graph:
    return graph_of(check_text(text))


def image(*lead: int) -> Tensor:
    return randn(*lead, 2, 6, 6, seed=0)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_layer_is_the_operations_that_its_class_computes(backend: str) -> None:
    """Outputs, gradients and running statistics agree in training and in inference."""
    own = emit(graph(SPEC.format(layer="conv(6) -> batchnorm")), backend=backend).double()
    layer = 'python("mine.py:ConvNorm", into = 6, count = 7 - 1)'
    model = emit(graph(SPEC.format(layer=layer)), backend=backend).double()
    shake(own)
    names = {name: name.replace("middle.", "middle.python.") for name in own.state_dict()}
    assert [*names.values()] == [*model.state_dict()]
    model.load_state_dict({names[name]: value for name, value in own.state_dict().items()})
    for training in (True, False):
        seen = observe_each((own, model), image(4), training)
        assert any(spikes.any() for spikes in seen[0].spikes)
        assert_same(*seen, names, outputs=1e-12, gradients=1e-9, buffers=1e-12)


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_gets_frames_and_is_the_plain_module(backend: str, dtype: torch.dtype) -> None:
    model = emit(graph(BLOCKS), backend=backend)
    layer = model.get_submodule("head.python2")
    plain = type(layer)(4)
    plain.load_state_dict(layer.state_dict())
    seen: list[tuple[Tensor, Tensor]] = []
    layer.register_forward_hook(lambda _, x, y: seen.append((x[0], y)))
    layer.register_forward_pre_hook(lambda *_: torch.manual_seed(5) and None)
    with torch.autocast("cpu", dtype, dtype == torch.bfloat16):
        y = model(image(4).float())
        x, found = seen[0]
        assert x.shape == (3 * 4, 4, 6, 6)
        torch.manual_seed(5)
        assert torch.equal(found, plain(x))
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(
        dict(layer.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0
    )


@FORMS
def test_backends_and_model_py_agree(text: str) -> None:
    own = graph(text)
    eager = emit(own, 1).double()
    shake(eager)
    close = {"outputs": 1e-12, "gradients": 1e-9, "buffers": 1e-12}
    for other, gaps in (
        (emit(own, 1, "fused").double(), close),
        (model_py(own), {"gradients": 1e-12}),
    ):
        assert [*eager.state_dict()] == [*other.state_dict()]
        other.load_state_dict(eager.state_dict())
        for training in (True, False):
            assert_same(*observe_each((other, eager), image(4), training), **gaps)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_recomputation_runs_no_layer_in_python_twice(backend: str) -> None:
    text = BLOCKS.replace("stage(own, 2)", "stage(own, 2) -> stage(basic(6), 2) via origin")
    results = []
    for memory in ("none", "recompute"):
        model, calls = emit(graph(text), 1, backend, memory), []
        for name, module in model.named_modules():
            if name.rpartition(".")[2].startswith("python"):
                module.register_forward_hook(lambda module, *_, calls=calls: calls.append(module))
        torch.manual_seed(0)
        results.append(observe(model, image(4).float()))
        assert len(calls) == len({*calls}) == 4
    assert_same(*results)


@FORMS
def test_a_stream_and_a_folded_model_give_the_same(text: str) -> None:
    model = emit(graph(text), 1, "eager").double()
    shake(model)
    observe(model, image(4))  # updates running statistics
    x = image(4)
    model.eval()
    with torch.no_grad():
        expected = model(x)
        assert expected.any()
        assert_close(torch.stack(streamed(model, [x] * 3)).mean(0), expected, 1e-12)
        single = model.float()
        assert_close(danetc.fold(single)(x.float()), single(x.float()), 1e-5)


def test_resumed_bit_for_bit(tmp_path: Path) -> None:
    check_resumed(graph(BLOCKS), tmp_path / "run")


def test_layers_of_the_same_class_have_their_own_weights() -> None:
    layer = 'python("mine.py:Mixer", channels = 6)'
    twice = graph(SPEC.format(layer=f"({layer}) -> {layer}"))
    model = emit(twice)
    a, b = (model.get_submodule(f"middle.python{number}") for number in (1, 2))
    assert not torch.equal(a.into.weight, b.into.weight)
    assert all(map(torch.equal, model.parameters(), emit(twice).parameters()))
    shared = "f = shared(" + layer + ")\n  middle = f -> f"
    model = emit(graph(SPEC.format(layer="identity").replace("middle = identity", shared)))
    assert sum("into.weight" in name for name in model.state_dict()) == 1


POOLED = r"returns real numbers \[12, 6\], but the spec declares \[12, 6, 6, 6\]"


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ('"mine.py:Pool"', POOLED),
        ('"mine.py:Pair"', "returns a tuple"),
        ('"mine.py:Half", gives = spikes', "other numbers than 0 and 1"),
        ('"mine.py:Missing"', "no `Missing`"),
        ('"other.py:Mixer"', "there is no file"),
        ('"mine.py:function"', "not a class derived from torch.nn.Module"),
        ('"mine.py:Mixer", channels = 6, depth = 2', "unexpected keyword argument 'depth'"),
        ('"mine.py:Raises"', r"mine.py, line \d+, in __init__: KeyError.*# raises"),
    ],
)
def test_what_it_is_and_returns_is_checked(layer: str, says: str) -> None:
    danetc.allow_code("mine.py:Missing", "other.py:Mixer")
    own = graph(SPEC.format(layer=f"python({layer})"))
    returned = "returns" in says or "numbers" in says
    call = partial(emit(own), image(4).float()) if returned else partial(emit, own)
    with pytest.raises(UserCodeError, match=says):
        call()


def test_shapes_are_declared() -> None:
    text = SPEC.format(layer='python("mine.py:Pool", {}) -> python("mine.py:Pool")')

    def shape(arguments: str) -> tuple[int, ...]:
        nodes = graph(text.replace("{}", arguments)).nodes.values()
        return next(node.value.shape for node in nodes if node.name == "python1")

    assert shape("width = 3") == (3, 6, 6)
    assert shape("rows = 2") == (6, 2, 6)
    assert shape("like = in, columns = 5") == (2, 6, 5)


def test_what_has_no_form_of_it_refuses_it_by_name() -> None:
    own = graph(BLOCKS)
    uses: dict[str, Any] = {
        "has no form in ONNX": lambda: emit_onnx(own, {}),
        "has no form in NIR": lambda: emit_nir(own, {}),
        "`prove` does not run": lambda: prove(own),
    }
    for why, use in uses.items():
        with pytest.raises(SpecError) as found:
            use()
        first = found.value.diagnostics[0]
        assert (first.code, first.span.line) == ("E0508", 3)
        assert first.message == f"`stages.0.blocks.0.y.python` is a layer in Python, which {why}"
    assert prove(own, numbers=False)["findings"]


def test_errors_of_its_code_are_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = "recipe r { epochs = 1; batch = 4; optimizer = sgd(lr = 0.1) }"
    Path("n.danet").write_text(SPEC.format(layer='python("mine.py:Broken")') + recipe)
    data = "synthetic:size=6,channels=2,classes=5,count=8,test=4"
    assert danetc_main(["train", "n.danet", "--data", data, "-o", "run", "-q"]) == 1
    said = capsys.readouterr().err
    assert re.search(r"mine.py, line \d+, in forward: RuntimeError[\s\S]*# broken", said)
    assert "Traceback" not in said
