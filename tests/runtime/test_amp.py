"""Half precision: autocast and half-precision models, of both backends.

Rounding can flip a spike, and a flipped spike changes all later layers. Layers are therefore compared on
the same half-precision input, and networks by their whole gradient.
"""

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.dsl.kinds import ANALOG
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.packed import PackedConv2d
from danetc.runtime.model.built import Model
from tests.differential.helpers import randn, text
from tests.differential.networks import ANALOG_STEM, small
from tests.runtime.conftest import By, compile_text, step, surrogate_text

HALF = (torch.bfloat16, torch.float16)
BACKENDS = ("eager", "fused")
SURROGATES = ("sigmoid", "atan", "triangle", "rectangle")
NEURONS = (
    "IF", "LIF", "PLIF", "IF_soft", "LIF_soft", "PLIF_soft", "ALIF", "MSLIF", "readout", "ReLU",
)  # fmt: skip
EPSILON = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
LAYERS = "backbone layers = stage(basic(8), 2) -> stage(basic(16), 1, stride = 2)"


def layer(program: str, backend: str) -> nn.Module:
    """A norm with fixed statistics and the neuron that follows it, in one backend."""
    norm = nn.BatchNorm2d(3).eval()
    if backend == "fused":
        fused = FusedNeuron(program, 4, 3, [norm], [ANALOG])
        fused.norm = norm  # type: ignore[assignment]
        return fused
    neuron = Neuron(program, 4, 3)
    return By(lambda x: neuron(norm(x.flatten(0, 1)).view(x.shape)), norm, neuron)


def gradient(run: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    found = step(run, x, weight=grad)
    return found["output"], found["input 0"]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("neuron", NEURONS)
def test_float32_potentials(neuron: str, name: str, dtype: torch.dtype) -> None:
    """Spikes are equal, and gradients differ only by the rounding of the result."""
    run = Neuron(compile_text(neuron, surrogate_text(name)).text(), 6, 1)
    x, grad = (2 * randn(6, 4, 50)).to(dtype), randn(6, 4, 50, seed=2).to(dtype)
    y, dx = gradient(run, x, grad)
    expected, expected_dx = gradient(run, x.float(), grad.float())
    assert torch.equal(y, expected.to(dtype))
    assert torch.equal(dx, expected_dx.to(dtype))
    if neuron not in ("readout", "ReLU"):
        assert bool(((y == 0) | (y == 1)).all())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("neuron", NEURONS)
def test_fused_groups_in_half_precision(neuron: str, dtype: torch.dtype) -> None:
    run = layer(compile_text(neuron).text(), "fused")
    x, grad = randn(4, 2, 3, 5, 5).to(dtype), randn(4, 2, 3, 5, 5, seed=2).to(dtype)
    y, dx = gradient(run, x, grad)
    expected, expected_dx = gradient(run, x.float(), grad.float())
    assert torch.equal(y, expected.to(dtype))
    near, scale = 4 * EPSILON[dtype], float(expected_dx.abs().max())
    torch.testing.assert_close(dx.float(), expected_dx, rtol=near, atol=near * scale)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SURROGATES)
def test_gradients_are_finite(name: str, backend: str, dtype: torch.dtype) -> None:
    """exp(4 * 10,000) is inf: the slope far from the threshold is 0, not inf / inf."""
    run = layer(compile_text("IF", surrogate_text(name)).text(), backend)
    x = torch.tensor([-3e4, -1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4, 3e4])
    x = x.view(1, 1, 1, 9, 1).expand(4, 1, 3, 9, 1).to(dtype)
    y, dx = gradient(run, x, torch.ones_like(x))
    assert bool(((y == 0) | (y == 1)).all())
    assert dx.isfinite().all()
    assert dx.abs().max() > 0


# -- networks under autocast -----------------------------------------------------------------------


def gradients(model: Model, x: Tensor, dtype: torch.dtype) -> Tensor:
    model.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        y = model(x)
        outputs = y if isinstance(y, tuple) else (y,)
    assert all(value.isfinite().all() for value in outputs)
    loss = sum((v.float() * randn(*v.shape, seed=i).float()).sum() for i, v in enumerate(outputs))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
    for buffer in model.buffers():
        assert buffer.isfinite().all()
        assert buffer.dtype in (torch.float32, torch.int64)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("stages", ["origin", "sew", "pa_a"])
def test_networks_under_autocast(stages: str, name: str, dtype: torch.dtype, backend: str) -> None:
    options = ANALOG_STEM if stages == "pa_a" else {}
    source = small(f"layers via {stages}", more=LAYERS, settings="neuron = LIF", **options)
    source = source.replace("sigmoid(alpha = 4)", name)
    model = emit(text(source), 0, backend)
    x = randn(8, 3, 8, 8).float()
    expected = gradients(model, x, torch.float32)
    found = gradients(model, x, dtype)
    assert found.isfinite().all()
    # Flipped spikes change the direction of a small network's gradient, but do not reverse it.
    assert 0.7 < found.norm() / expected.norm() < 1.4
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.4


@pytest.mark.parametrize("dtype", HALF)
def test_a_convolution_of_spikes_is_torchs(dtype: torch.dtype) -> None:
    conv = PackedConv2d(3, 4, 3, padding=1, low=0, high=7, unit=1.0)
    plain = nn.Conv2d(3, 4, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    counts = torch.randint(0, 8, (2, 3, 6, 6)).float()
    with torch.autocast("cpu", dtype):
        found, expected = step(conv, counts), step(plain, counts)
    assert found["output"].dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_streaming_keeps_states_in_float32(backend: str) -> None:
    model = emit(text(small(head="avgpool -> linear(5)")), 0, backend).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, states = model.stream(torch.randn(2, 3, 8, 8))
        _, states = model.stream(torch.randn(2, 3, 8, 8), states)
    tensors = [t for values in states.values() if isinstance(values, list) for t in values]
    assert tensors
    assert all(t.dtype == torch.float32 for t in tensors)
