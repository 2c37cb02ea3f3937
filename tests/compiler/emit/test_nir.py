"""NIR graphs return the outputs of the model in SpikingJelly, and in nirtorch by NIR's equations."""

import inspect
from pathlib import Path
from typing import Any

import nir
import nirtorch
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.nir_exchange import import_from_nir
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.nir import DT, NotInNir, emit_nir
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python.spikingjelly import _DEFAULTS, emit_spikingjelly
from danetc.compiler.ir.graph import Graph
from danetc.dsl.errors import UserError
from danetc.runtime.layers.weight_layer import computed_state
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from tests.alternating import alternating
from tests.compiler.emit.test_onnx import inputs_of, warmed
from tests.differential.helpers import text
from tests.differential.networks import VARIETY, small

TAKEN = {
    *(f"{name}_{rule}" for name in ("origin", "baa", "sew")
      for rule in ("chain", "densely_additive", "densely_additive_all")),
    "after_opening", "tdbn", "bottleneck", "groups", "window", "dropped", "dropout", "no_norm",
    "every_step", "events", "readout", "plif", "pre_activation", "mixed",
}  # fmt: skip
"""The networks that NIR can represent."""
MORE = {
    "plif": small(settings="neuron = PLIF(tau = 3.0)"),
    "pre_activation": small(
        "tiny via pa_b_spike by densely_additive",
        stem="conv(4) -> norm",
        head="spike -> avgpool(2) -> mean_over_time -> linear(5)",
    ),
}
NETWORKS = {**VARIETY, **MORE}
UNREAD = {"readout"}
"""SpikingJelly does not read NIR's leaky integrator."""


class Euler(nn.Module):
    """A neuron of NIR by forward Euler steps: tau dv/dt = v_leak - v + r x, or dv/dt = r x."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.node = node

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        n = {key: torch.from_numpy(value).to(x) for key, value in vars(self.node).items()
             if isinstance(value, np.ndarray)}  # fmt: skip
        start = n.get("v_reset", torch.zeros(()).to(x))  # as in SpikingJelly, undefined in NIR
        v = start.expand_as(x) if state is None else state
        leak = (n["v_leak"] - v + n["r"] * x) / n["tau"] if "tau" in n else n["r"] * x
        v = v + DT * leak
        if "v_threshold" not in n:
            return v, v
        s = (v >= n["v_threshold"]).to(x)
        return s, torch.where(s > 0, n["v_reset"].expand_as(v), v)


def _conv(node: nir.Conv2d) -> nn.Module:
    pairs = (node.stride, node.padding, node.dilation)
    layer = nn.Conv2d(
        node.weight.shape[1] * int(node.groups), node.weight.shape[0], node.weight.shape[2:],
        *(pair if isinstance(pair, str) else np.broadcast_to(pair, 2).tolist() for pair in pairs),
        int(node.groups),
    )  # fmt: skip
    return _filled(layer, node)


def _linear(node: Any) -> nn.Module:
    return _filled(nn.Linear(*reversed(node.weight.shape), bias=hasattr(node, "bias")), node)


def _filled(layer: Any, node: Any) -> nn.Module:
    layer.weight.data = torch.from_numpy(node.weight).float()
    if layer.bias is not None:
        layer.bias.data = torch.from_numpy(node.bias).float()
    made: nn.Module = layer
    return made


def _pooled(node: nir.AvgPool2d) -> nn.Module:
    return nn.AvgPool2d(*(tuple(pair.tolist()) for pair in (node.kernel_size, node.stride, node.padding)))  # fmt: skip


PLAIN = {
    nir.IF: Euler, nir.LIF: Euler, nir.LI: Euler, nir.Conv2d: _conv, nir.Affine: _linear,
    nir.Linear: _linear,
    nir.AvgPool2d: _pooled, nir.Flatten: lambda node: nn.Flatten(),
}  # fmt: skip


def played(network: Any, graph: Graph, x: Tensor) -> Tensor:
    """The outputs of an imported network over T steps, or their mean if the model returns a mean."""
    state, found = None, []
    for t in range(graph.steps):
        y, state = network(x[t] if graph.input.value.varies else x, state)
        found.append(y)
    (end,) = graph.outputs.values()
    steps = torch.stack(found)
    return steps if graph[end].value.varies else steps.mean(0)


def written(model: Model) -> nir.NIRGraph:
    graph = model.topology
    assert isinstance(graph, Graph)
    return emit_nir(graph, {name: value.numpy() for name, value in computed_state(model).items()})


@pytest.mark.parametrize("name", alternating(NETWORKS, 1))
def test_every_kind_of_network_is_read_or_refused(name: str, tmp_path: Path) -> None:
    graph = text(NETWORKS[name])
    if name not in TAKEN:
        model = emit(graph)
        with pytest.raises(NotInNir) as refused:
            written(model)
        assert refused.value.hint
        named = any(str(refused.value).startswith(f"{node.path}:") for node in graph.nodes.values())
        assert named or len(graph.inputs) + len(graph.outputs) > 2
        return
    model = warmed(graph)
    nir.write(tmp_path / "net.nir", written(model))
    made = nir.read(tmp_path / "net.nir")
    assert {node.path for node in graph.nodes.values() if node.op in ("conv", "neuron")} <= {*made.nodes}  # fmt: skip
    (x,) = inputs_of(graph, 6)
    with torch.no_grad():
        mine = model(x)
        assert mine.std() > 0.01
        plain = nirtorch.nir_to_torch(made, PLAIN)
        torch.testing.assert_close(played(plain, graph, x), mine, rtol=1e-5, atol=1e-5)
        if name not in UNREAD:
            theirs = import_from_nir(made).eval()
            torch.testing.assert_close(played(theirs, graph, x), mine, rtol=1e-5, atol=1e-5)


def test_a_kernel_along_an_axis_leaves_the_other_as_it_is() -> None:
    for axis, first in (("rows", 0), ("columns", 1)):
        stem = f"conv(4, stride = 2, over = {axis}) -> norm -> spike"
        layer = written(emit(text(small(stem=stem)))).nodes["stem.conv"]
        for found, along, other in ((layer.stride, 2, 1), (layer.padding, 1, 0)):
            assert (found[first], found[1 - first]) == (along, other)


def of_flow(flow: str, neuron: str, size: int = 20, side: int = 1) -> str:
    return f"""network n {{
      input = image({size}, {side}, {side}); steps = 4; neuron = {neuron}; surrogate = atan
      {flow}
    }}"""


FLOWS = {
    "conv": "out = in -> conv(4) -> norm -> spike -> conv(8, stride = 2) -> spike -> flatten -> linear(5)",
    "pool": "out = in -> conv(4) -> spike -> avgpool(2) -> conv(8) -> spike -> flatten -> linear(5)",
    "vector": "out = in -> linear(16) -> spike -> linear(5) -> spike",
    "loop": """h = ((in -> linear(8)) + (h -> delay(1) -> linear(8, bias = false))) -> spike
  out = h -> linear(5)""",
}
READERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "nirtorch": ("nirtorch", "nir_to_torch", {"node_map": PLAIN}),
    "SpikingJelly": ("spikingjelly.activation_based.nir_exchange", "import_from_nir", {}),
    "snnTorch": ("snntorch.import_nir", "import_from_nir", {}),
    "Norse": ("norse.torch", "from_nir", {"dt": DT}),
}
REFUSED_BY = {
    "snnTorch": {("IF", flow) for flow in FLOWS} | {("LIF(tau = 3.0)", "loop")},
    "Norse": {("IF", "pool"), ("LIF(tau = 3.0)", "pool")},
}
"""snnTorch reads IF only with r = 1, and loops only in its own form. Norse does not read AvgPool2d."""


@pytest.mark.parametrize("neuron", ["IF", "LIF(tau = 3.0)"])
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("reader", READERS)
def test_who_reads_what(reader: str, flow: str, neuron: str) -> None:
    """The readers match the table in docs/guides/exchange.md and return the same outputs."""
    module, function, more = READERS[reader]
    load = getattr(pytest.importorskip(module), function)
    if (neuron, flow) in REFUSED_BY.get(reader, ()):
        pytest.skip(f"{reader} does not read it")
    size, side = (2, 8) if flow in ("conv", "pool") else (20, 1)
    graph = text(of_flow(FLOWS[flow], neuron, size, side))
    model = emit(graph).eval()
    x = 2 * torch.randn(30, size, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(3)
        made = written(model)
        assert len(made.nodes["input"].input_type["input"]) == (1 if side == 1 else 3)
        read, state, found = load(made, **more), None, []
        for _ in range(graph.steps):
            y, state = read(x.flatten(1) if side == 1 else x, *(() if state is None else (state,)))
            found.append(y)
        assert model(x).std() > 0.1
        torch.testing.assert_close(torch.stack(found), model(x), rtol=1e-5, atol=1e-5)


def looped(feed: str) -> str:
    return of_flow(FLOWS["loop"].replace("h -> delay(1) -> linear(8, bias = false)", feed), "IF")


NOT_IN_NIR = {
    small(
        settings="neuron = IF_soft"
    ): "^stem.spike: NIR has no node with the equations of `IF_soft`; ",
    small(
        settings="neuron = LIF; norm = batchnorm(per_step = true)"
    ): "^stem.norm: NIR has no norm per time step or with a border; ",
    small(
        head="avgpool -> mean_over_time -> linear(5) -> relu"
    ): "reads a mean over time, which NIR does not have",
    looped("h -> delay(1) -> linear(8)"): "`h.linear2` reads a loop, and has a bias",
    looped("h -> delay(1) -> relu"): "`h.relu` reads a loop, and has a bias or is no layer",
    looped(
        "h -> delay(2) -> linear(8, bias = false)"
    ): "NIR has loops over one time step from a neuron",
}


@pytest.mark.parametrize("lines", NOT_IN_NIR)
def test_what_nir_has_not_is_named(lines: str) -> None:
    model = emit(text(lines))
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(0.5)  # a bias of 0 counts as no bias
    with pytest.raises(NotInNir, match=NOT_IN_NIR[lines]) as refused:
        written(model)
    assert refused.value.hint


SPIKINGJELLY = {
    **{name: VARIETY[name] for name in (
        "origin_chain", "sew_densely_additive", "pa_b_spike", "densenet", "tdbn", "events",
        "unet", "gated",
    )},
    "plif": small(settings="neuron = PLIF(tau = 3.0, detach_reset = true)"),
    "looped": """network looped { input = events(2, 6, 6); steps = 3; surrogate = atan
  h = ((in -> conv(4)) + (h -> delay(1) -> conv(4) -> maxpool(3, stride = 1))) -> tanh
  out = h -> conv(3) -> sigmoid }""",
    "soft": small(settings="neuron = LIF_soft(tau = 3.0, v_threshold = 0.5)"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPIKINGJELLY)
def test_the_file_computes_the_same(name: str) -> None:
    model = warmed(text(SPIKINGJELLY[name]))
    graph = model.topology
    written = emit_spikingjelly(graph)
    made = standalone(written, graph.name)
    made.load_state_dict(model.state_dict())
    layers = [module for module in made.modules() if isinstance(module, neuron.BaseNode)]
    assert len(layers) == sum(node.op == "neuron" for node in graph.nodes.values())
    assert "class Heaviside" not in written
    inputs = inputs_of(graph, 5)
    with torch.no_grad():
        for _ in range(2):
            mine, theirs = (outputs_of(each(*inputs)) for each in (model, made))
            functional.reset_net(made)
            torch.testing.assert_close([*mine], [*theirs], rtol=1e-5, atol=1e-5)
        assert max(y.std() for y in mine) > 0.01


def test_what_spikingjelly_has_not_is_named() -> None:
    own = "branch.spike: SpikingJelly has no neuron with the equations"
    for name, message in (("own_neurons", own), ("loops", "is in a loop over time")):
        with pytest.raises(UserError, match=message):
            emit_spikingjelly(text(VARIETY[name]))


def test_the_defaults_that_are_left_out_are_those_of_spikingjelly() -> None:
    for kind in (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode):
        parameters = inspect.signature(kind).parameters
        for key, value in _DEFAULTS.items():
            if key in parameters:
                assert parameters[key].default == value, (kind, key)
