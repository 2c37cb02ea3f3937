"""Convolutions that read the weights of spikes alone: held to torch's in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.runtime.kernels import compiled
from danetc.runtime.layers import sparse
from danetc.runtime.layers.inference import InferenceConv2d
from danetc.runtime.layers.laid_out import is_laid_out
from danetc.runtime.layers.packed import PackedConv2d
from tests.differential.helpers import streamed
from tests.runtime.test_small_maps import OPTIONS

pytestmark = pytest.mark.usefixtures("compiling", "one_thread")
SHAPES = ((1, 1, 1), (1, 4, 4), (3, 5, 3))


def spikes(shape: tuple[int, ...], rate: float, seed: int = 1) -> Tensor:
    """Counts up to 3, at most places 0."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 4, shape, generator=generator)
    return (counts * (torch.rand(shape, generator=generator) < rate)).float()


def convolved(layer: nn.Conv2d, x: Tensor) -> Tensor | None:
    with torch.no_grad():
        return sparse.convolved(layer, x) if is_laid_out(x, layer) else None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_the_convolution(
    options: dict[str, Any],
    shape: tuple[int, int, int],
    rate: float,
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, height, width = shape
    layer = nn.Conv2d(17, 23, **options, bias=rate < 1)
    kernel = layer.weight.shape[2:]
    monkeypatch.setattr(sparse, "PER_READING", 1.0)
    x = spikes((images, 17, max(height, kernel[0]), max(width, kernel[1])), rate)
    found = convolved(layer, x.to(memory_format=layout))
    torch.testing.assert_close(found, layer.double()(x.double()).float())
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_the_sums_do_not_depend_on_the_batch() -> None:
    layer, x = nn.Conv2d(64, 32, 3, padding=1), spikes((5, 64, 4, 4), 0.1)
    whole = convolved(layer, x)
    for image, wanted in zip(x.split(1), whole.split(1), strict=True):
        found = convolved(layer, image)
        assert found is not None
        assert torch.equal(found, wanted)


def test_where_it_is_faster() -> None:
    """Up to which rate depends on how often each weight is read; of many spikes it leaves all to torch."""
    layer = nn.Conv2d(64, 64, 3, padding=1)
    for size, rate, wanted in (
        (1, 0.9, True),
        (2, 0.6, True),
        (2, 0.8, False),
        (4, 0.2, True),
        (4, 0.4, False),
        (16, 0.1, True),
        (16, 0.3, False),
        (33, 0.01, False),
    ):
        x = spikes((1, 64, size, size), rate)
        assert (convolved(layer, x) is not None) is wanted, (size, rate)
    rare = spikes((1, 64, 4, 4), 0.1)
    torch.set_num_threads(4)
    assert convolved(layer, rare) is None  # four threads of torch's are as fast
    torch.set_num_threads(1)
    grouped = nn.Conv2d(64, 64, 3, padding=1, groups=2)
    around = nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular")
    same = nn.Conv2d(64, 64, 3, padding="same")
    narrow = nn.Conv2d(3, 64, 3)
    for other, x in (
        (grouped, rare),
        (around, rare),
        (same, rare),
        (narrow, rare[:, :3]),
        (layer.double(), rare.double()),
        (nn.Conv2d(64, 64, 3), rare[:0]),
        (nn.Conv2d(64, 64, 5), rare),  # what is wrong is torch's to say
        (nn.Conv2d(32, 64, 3), rare),
        (nn.Conv2d(64, 64, 3), rare[0]),
        (nn.Conv2d(64, 64, 3, device="meta"), rare.to("meta")),
    ):
        assert convolved(other, x) is None
    layer = nn.Conv2d(64, 64, 3, padding=1)
    assert not is_laid_out(rare, layer)  # gradients are needed
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not is_laid_out(rare, layer)


def test_without_the_library_it_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = InferenceConv2d(64, 64, 3, padding=1), spikes((1, 64, 4, 4), 0.05)
    with torch.no_grad():
        found = layer(x)
        monkeypatch.setattr(sparse, "_native", lambda: None)
        assert sparse.convolved(layer, x) is sparse.as_bytes(x, 1.0) is None
        torch.testing.assert_close(layer(x), found)
        monkeypatch.undo()
        monkeypatch.setattr(compiled, "COMPILE", False)
        assert sparse.convolved(layer, x) is None


@pytest.mark.parametrize("image", [16, 32])
def test_streams_use_it_forward_passes_do_not(image: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass of a model that is not folded stays to the bit that of the plain backend."""
    monkeypatch.setattr(compiled, "COMPILE", False)  # of neurons
    model = danetc.build("sew_r18", set={"steps": 3, "image": image, "classes": 10}, seed=1)
    x = torch.randn(2, 3, image, image, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        model.train()
        for _ in range(5):
            model(x)
        model.eval()
        wanted = model(x)
        assert float(wanted.std(0).mean()) > 0.01
        layers: set[type] = set()
        run = sparse.convolved

        def noted(layer: nn.Conv2d, x: Tensor, *laid: Any) -> Tensor | None:
            monkeypatch.setattr(compiled, "COMPILE", True)
            out = run(layer, x, *laid)
            monkeypatch.setattr(compiled, "COMPILE", False)
            if out is not None:
                layers.add(type(layer))
            return out

        monkeypatch.setattr(sparse, "convolved", noted)
        assert torch.equal(model(x), wanted)
        assert not layers
        outputs = streamed(model, [x] * 3)
        torch.testing.assert_close(torch.stack(outputs).mean(0), wanted, rtol=1e-4, atol=1e-5)
        assert layers == {PackedConv2d}
        folded = danetc.fold(model)
        torch.testing.assert_close(folded(x), wanted, rtol=1e-4, atol=1e-5)
        assert any(issubclass(kind, InferenceConv2d) for kind in layers)
