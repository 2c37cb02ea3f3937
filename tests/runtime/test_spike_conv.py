"""Integer convolutions of spikes: float32 results, no farther from the exact ones than torch's."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.emit.inference import fold
from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse
from danetc.runtime.layers import inference
from danetc.runtime.layers.inference import DIGITS, InferenceConv2d, SpikeConv2d, suits
from danetc.runtime.layers.sparse import as_bytes
from tests.compiler.emit.test_inference import NETWORKS, compiling, trained

pytestmark = pytest.mark.skipif(
    not (internals.has(InternalUse.INTEGERS) and getattr(torch.cpu, "_is_vnni_supported", bool)()),
    reason="this processor sums products of bytes in 16 bits",
)


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use integer convolutions even where they do not pay."""
    monkeypatch.setattr(inference, "multiplies_integers", lambda: True)
    monkeypatch.setattr(inference, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(inference, "LEAST_PRODUCTS", 0)


def numbers(high: int, unit: float, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, high + 1, shape, generator=generator) * unit


@pytest.mark.parametrize(("high", "unit"), [(1, 1.0), (5, 1.0), (255, 1.0), (3, 0.25), (7, 1 / 3)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "bias": False},
        {"kernel_size": (3, 1), "groups": 2},
    ],
)
def test_it_is_as_exact_as_float32(high: int, unit: float, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = SpikeConv2d(32, 48, high=high, unit=unit, **options)
    for count in (1, 6):
        x = numbers(high, unit, count, 32, 9, 7)
        with torch.no_grad():
            found, plain = layer(x), InferenceConv2d.convolve(layer, x)
            wanted = nn.Conv2d.forward(copy.deepcopy(layer).double(), x.double())
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert not torch.equal(found, plain)
        error, theirs = ((y - wanted).abs().max() for y in (found, plain))
        assert error <= theirs
        assert error <= 5e-7 * wanted.abs().max()


@pytest.mark.parametrize("of", [1.0, 1 / 64])
def test_three_digits_are_the_weight(of: float) -> None:
    """The weights cover all remainders and include channels of 0 and of very small numbers."""
    layer = SpikeConv2d(256, 5, 3, high=1, unit=of, bias=False)
    steps = torch.linspace(-1.0, 1.0, layer.weight[0].numel(), dtype=torch.float64)
    with torch.no_grad():
        for channel, largest in enumerate((1.0, 0.0, 1e-25, 3.0, 1e-3)):
            layer.weight[channel] = (steps * largest).view(layer.weight[0].shape)
        for place in range(0, 9, 4):  # a spike in one pixel of one channel reads one weight
            x = torch.zeros(256, 256, 3, 3)
            x[range(256), range(256), place // 3, place % 3] = of
            found = layer(x).flatten(1).double()
            wanted = layer.weight.double().flatten(2)[:, :, place].T * of
            unit = of * layer.weight.double().abs().amax((1, 2, 3)) / (127 * sum(DIGITS))
            assert ((found - wanted).abs() <= 0.51 * unit + 2e-7 * wanted.abs()).all()


def test_of_few_products_one_pixel_or_changed_spikes_it_is_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = numbers(1, 1.0, 3, 8, 6, 6)
    changed = x.clone()
    changed[1, 2, 3, 4] = 0.5
    with torch.no_grad():
        layer = SpikeConv2d(8, 4, 3, padding=1, stride=2, high=1, unit=1.0)
        for given in (x[..., :2, :2], changed):
            assert torch.equal(layer(given), InferenceConv2d.convolve(layer, given))
        plain = InferenceConv2d.convolve(layer, x)
        for more in (0, 1):
            monkeypatch.setattr(inference, "LEAST_PRODUCTS", 3 * 9 * layer.weight.numel() + more)
            assert torch.equal(layer(x), plain) == more


@pytest.mark.thorough
@pytest.mark.parametrize("key", NETWORKS)
def test_a_folded_model_computes_the_same(key: str) -> None:
    model = trained(key).float()
    folded = fold(model)
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    assert any(type(layer) is SpikeConv2d for layer in folded.modules())
    assert type(folded.stem.conv) is InferenceConv2d
    with torch.no_grad(), compiling(False):
        expected = model(x)
        assert float(expected.std(0).mean()) > 0.001
        torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit", [1.0, 0.25, 1 / 3])
def test_only_whole_numbers_are_bytes(unit: float) -> None:
    """A hook may have changed one of the values."""
    whole = torch.arange(256).repeat(2).view(2, 16, 4, 4)
    for x in (whole * unit, (whole * unit).contiguous(memory_format=torch.channels_last)):
        found = as_bytes(x, unit)
        assert found is not None
        assert torch.equal(found.long(), whole)
        assert found.is_contiguous(memory_format=torch.channels_last)
        for sample, channel, row in ((0, 0, 0), (1, 3, 2), (1, 15, 3)):
            for value in (0.5, 1.001, -1.0, -0.001, 256.0, 1e30, -1e30, math.inf, math.nan):
                changed = x.clone()
                changed[sample, channel, row, row] = value * unit
                assert as_bytes(changed, unit) is None, value


def test_what_is_convolved_as_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    spikes = Kind(0, 1, 1.0)
    assert suits(spikes, 64, 9)
    assert suits(Kind(0, 255, 0.25), 64, 9)
    assert not suits(spikes, 64, 1)
    for kind in (Kind(0, 256, 1.0), Kind(-1, 1, 1.0), ANALOG):
        assert not suits(kind, 64, 9)
    assert not suits(Kind(0, 255, 1.0), 2**14, 9)  # sums that exceed 32 bits
    monkeypatch.setattr(inference, "LEAST_CHANNELS", 65)
    assert not suits(spikes, 64, 9)
