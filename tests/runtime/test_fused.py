"""The fused backend against the eager backend: equal results, and less saved for the backward pass.

Kernels run uncompiled here, so float64 results agree up to rounding. test_compiled.py compiles kernels.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.layouts import layout_of
from danetc.runtime.layers.packed import PackedAvgPool2d, PackedConv2d, PackedMaxPool2d, product
from danetc.runtime.model.built import Model
from tests.alternating import alternating
from tests.differential.helpers import assert_same, observe, randn, shake, text
from tests.differential.networks import ANALOG_STEM, ENCODED, VARIETY, small, variety
from tests.runtime.conftest import step

STEPS, BATCH = 3, 2
SPIKING = ("IF", "LIF", "PLIF", "IF_soft", "LIF_soft", "PLIF_soft", "ALIF", "MSLIF")
NEURONS = {
    **{name: f"neuron = {name}" for name in SPIKING},
    "detached": "neuron = LIF(detach_reset = true)",
    "rest": "neuron = LIF(v_rest = 0.25)",
    "learnt": "neuron = LIF(tau = learn(2.0, above = 1))",
    "sliding": "neuron = SlidingPSN(k = 3)",
    "ann": "neuron = ReLU",
}


def both(
    graph: Graph, dtype: torch.dtype = torch.float64, memory: str = "none"
) -> tuple[Model, Model]:
    eager, fused = emit(graph, 0).to(dtype), emit(graph, 0, "fused", memory).to(dtype)
    shake(eager)
    fused.load_state_dict(eager.state_dict())
    return eager, fused


def compare_models(
    eager: Model, fused: Model, x: Tensor, outputs: float = 1e-12, gradients: float = 1e-9
) -> None:
    torch.manual_seed(0)
    expected = observe(eager, x)
    torch.manual_seed(0)
    found = observe(fused, x)
    for mine, other in zip(found.spikes, expected.spikes, strict=True):
        if bool(((other == 0) | (other == 1)).all()):
            assert torch.equal(mine, other)
    assert_same(found, expected, outputs=outputs, gradients=gradients, buffers=outputs)


def inputs(graph: Graph) -> Iterator[Tensor]:
    shape = taken(graph).shape
    if not taken(graph).varies:
        yield randn(BATCH, *shape).sigmoid()
    if graph.name not in ENCODED:
        yield randn(STEPS, BATCH, *shape).sigmoid()


@pytest.mark.parametrize("name", alternating(VARIETY))
def test_every_kind_of_network(name: str) -> None:
    graph = variety(name)
    eager, fused = both(graph)
    first, *others = inputs(graph)
    compare_models(eager, fused, first)
    if others and name not in ENCODED:
        fused.load_state_dict(eager.state_dict())
        compare_models(eager.eval(), fused.eval(), others[0])


LAYERS = "backbone layers = stage(basic(4), 2) -> stage(basic(8), 1, stride = 2)"


@pytest.mark.parametrize("connection", ["origin", "pa_a"])
@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron(neuron: str, connection: str) -> None:
    stem = ANALOG_STEM if connection == "pa_a" else {}
    graph = text(small(f"layers via {connection}", more=LAYERS, settings=NEURONS[neuron], **stem))
    compare_models(*both(graph), randn(BATCH, 3, 8, 8))
    compare_models(*both(graph), randn(STEPS, BATCH, 3, 8, 8))


# -- copies and layouts ----------------------------------------------------------------------------


def origin(**options: str) -> Graph:
    return text(small("layers via origin by densely_additive", more=LAYERS, **options))


def test_a_copy_has_its_own_norms() -> None:
    _, fused = both(origin())
    x = randn(BATCH, 3, 8, 8)
    twin = copy.deepcopy(fused)
    torch.testing.assert_close(step(twin, x), step(fused, x), rtol=0, atol=0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    expected = twin(x)
    step(fused, x)
    assert torch.equal(twin(x), expected)
    used = [norm for m in twin.modules() if isinstance(m, FusedNeuron) for norm in m._norms if norm]
    assert {id(norm.weight) for norm in used} < {id(p) for p in twin.parameters()}


def test_channels_last() -> None:
    """Kernels take channels-last inputs without a copy, and gradients equal those of the eager backend."""
    for stages in ("layers via sew", "layers via origin", "layers via baa"):
        eager, fused = both(text(small(stages, more=LAYERS, stem=MAXPOOL)))
        x = randn(BATCH, 3, 8, 8)
        expected, last = step(eager, x), x.to(memory_format=torch.channels_last)
        layouts: list[bool] = []
        found = step(fused.to(memory_format=torch.channels_last), last)
        assert torch.equal(found["output"], expected["output"])
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        for module in fused.modules():
            if isinstance(module, PackedConv2d):
                module.register_forward_hook(
                    lambda module, args, y, to=layouts: to.append(layout_of(args[0]).is_last)  # type: ignore[misc]
                )
        fused(last)
        assert layouts
        assert all(layouts), "a convolution got an input that had to be copied"


MAXPOOL = "conv(4) -> norm -> spike -> maxpool(3, stride = 2)"


# -- saved tensors ---------------------------------------------------------------------------------


def kept(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The tensors that autograd saves in a forward pass, except parameters and buffers."""
    found: dict[int, Tensor] = {}

    def pack(value: Tensor) -> Tensor:
        found[value.untyped_storage().data_ptr()] = value
        return value

    with saved_tensors_hooks(pack, lambda value: value):
        model(x)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    return [value for place, value in found.items() if place not in own]


def test_whole_numbers_are_kept_as_bits() -> None:
    """The only floats saved are norm inputs, the image, and the head's small vectors."""
    for connection in ("origin", "sew", "baa", "sew_iand"):
        graph = text(small(f"layers via {connection}", more=LAYERS, stem=MAXPOOL))
        x = torch.randn(BATCH, 3, 8, 8)
        model = emit(graph, 0, "fused")
        tensors = kept(model, x)
        given = {
            node.id for node in graph.nodes.values()
            if node.op == "batchnorm" for node in graph.inputs_of(node)
        }  # fmt: skip
        sizes = {graph[id].value.shape for id in given} | {(3, 8, 8)}
        bulky = [t for t in tensors if t.is_floating_point() and t.dim() >= 4]
        assert bulky
        assert {tuple(t.shape[-3:]) for t in bulky} <= sizes
        assert len(bulky) <= len(given) + 1
        assert any(t.dtype == torch.uint8 for t in tensors)


def test_a_product_of_spikes_keeps_bits() -> None:
    a, b = (torch.rand(2, 3, 4, 4).gt(0.5).float().requires_grad_() for _ in range(2))
    saved: list[torch.dtype] = []
    with saved_tensors_hooks(lambda x: (saved.append(x.dtype), x)[1], lambda x: x):
        y = product(a, b, 0, 1, 1.0, 0, 1, 1.0)
        product(a, b.detach(), 0, 1, 1.0, 0, 1, 1.0)
    assert saved == [torch.uint8] * 4
    grads = torch.autograd.grad(y, [a, b], torch.full_like(y, 3.0))
    torch.testing.assert_close([y, *grads], [a * b, 3 * b, 3 * a], rtol=0, atol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_where_no_gradient_is_wanted(
    mode: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager, fused = both(origin(stem=MAXPOOL))
    x = randn(BATCH, 3, 8, 8)

    monkeypatch.setattr(
        "danetc.runtime.kernels.bit_packing.pack", lambda *args: pytest.fail("packed without need")
    )
    for training in (True, False):
        with mode():
            y = fused.train(training)(x)
            assert torch.equal(y, eager.train(training)(x))
        assert not y.requires_grad


def test_frozen_weights_keep_no_input() -> None:
    conv = PackedConv2d(2, 3, 3, low=0, high=1, unit=1.0)
    x = torch.ones(1, 2, 5, 5, requires_grad=True)
    before = {t.data_ptr() for t in kept(conv, x)}
    assert before
    conv.weight.requires_grad_(False)
    remaining = kept(conv, x)
    assert all(t.shape != x.shape and t.dtype != torch.uint8 for t in remaining)
    y = conv(x)
    y.sum().backward()
    plain = nn.functional.conv2d(torch.ones_like(x), conv.weight, conv.bias)
    assert torch.equal(y, plain)
    assert x.grad is not None


def assert_pools_as_torch(mine: nn.Module, other: nn.Module, x: Tensor) -> None:
    found, expected = step(mine, x), step(other, x)
    with torch.no_grad():
        found["evaluated"], expected["evaluated"] = mine(x), expected["output"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0, check_stride=True)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 2, 0), (3, 1, 1), (5, 2, 2), (2, 3, 1)])
def test_pooling(shape: tuple[int, int, int], last: bool) -> None:
    """Spikes often tie: the first maximum of a window gets the gradient, as in torch."""
    layout = torch.channels_last if last else torch.contiguous_format
    few, many = randn(2, 3, 9, 7), randn(2, 20, 9, 8).gt(0.5).float()
    spikes = randn(1, 2, 8, 8).gt(0.5).double()
    for values in (few, randn(2, 3, 9, 300), many, many.bfloat16(), spikes):
        x = values.to(memory_format=layout)
        assert_pools_as_torch(PackedMaxPool2d(*shape), nn.MaxPool2d(*shape), x)
    x = few.to(memory_format=layout)
    assert_pools_as_torch(PackedAvgPool2d(*shape), nn.AvgPool2d(*shape), x)
    assert kept(PackedAvgPool2d(*shape), x.requires_grad_()) == []
