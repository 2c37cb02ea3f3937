"""Convolutions that read only the weights of spikes, laid out once, against torch in float64."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import danetc
from danetc.compiler.emit.fx import emit
from danetc.runtime.kernels import compiled
from danetc.runtime.layers import laid_out, sparse
from danetc.runtime.layers.inference import InferenceConv2d
from danetc.runtime.layers.laid_out import is_laid_out
from danetc.runtime.layers.packed import PackedConv2d
from danetc.runtime.model.built import Model
from tests.differential.helpers import shake, streamed, text
from tests.differential.networks import small
from tests.runtime.test_small_maps import OPTIONS

pytestmark = pytest.mark.usefixtures("compiling", "one_thread")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spikes(shape: tuple[int, ...], rate: float) -> Tensor:
    """Counts from 1 to 3 at a share ``rate`` of the places, 0 elsewhere."""
    generator = torch.Generator().manual_seed(1)
    counts = torch.randint(1, 4, shape, generator=generator)
    return (counts * (torch.rand(shape, generator=generator) < rate)).float()


def convolved(layer: nn.Conv2d, x: Tensor) -> Tensor | None:
    with torch.no_grad():
        return sparse.convolved(layer, x) if is_laid_out(x, layer) else None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (3, 5, 3)])
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
    one_by_one = [convolved(layer, image) for image in x.split(1)]
    assert torch.equal(torch.cat(one_by_one), convolved(layer, x))


def test_where_it_is_faster() -> None:
    """The largest rate depends on how often each weight is read; above it, torch's convolution runs."""
    layer = nn.Conv2d(64, 64, 3, padding=1)
    for size, rate, slower in ((1, 0.9, None), (2, 0.6, 0.8), (4, 0.2, 0.4), (16, 0.1, 0.3)):
        shape = (1, 64, size, size)
        assert convolved(layer, spikes(shape, rate)) is not None, shape
        assert slower is None or convolved(layer, spikes(shape, slower)) is None, shape
    rare = spikes((1, 64, 4, 4), 0.1)
    torch.set_num_threads(4)
    assert convolved(layer, rare) is None  # torch with four threads is equally fast
    torch.set_num_threads(1)
    for other, x in (
        (layer, spikes((1, 64, 33, 33), 0.01)),
        (nn.Conv2d(64, 64, 3, padding=1, groups=2), rare),
        (nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"), rare),
        (nn.Conv2d(64, 64, 3, padding="same"), rare),
        (nn.Conv2d(3, 64, 3), rare[:, :3]),
        (copy.deepcopy(layer).double(), rare.double()),
        (nn.Conv2d(64, 64, 3), rare[:0]),
        (nn.Conv2d(64, 64, 5), rare),  # torch reports wrong shapes
        (nn.Conv2d(32, 64, 3), rare),
        (nn.Conv2d(64, 64, 3), rare[0]),
        (nn.Conv2d(64, 64, 3, device="meta"), rare.to("meta")),
    ):
        assert convolved(other, x) is None
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
    """The forward pass of a model that is not folded keeps its output bit for bit."""
    monkeypatch.setattr(compiled, "COMPILE", False)  # neurons run uncompiled
    model = danetc.build("sew_r18", set={"steps": 3, "image": image, "classes": 10}, seed=1)
    x = torch.randn(2, 3, image, image, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for _ in range(5):
            model.train()(x)
        wanted = model.eval()(x)
        assert float(wanted.std(0).mean()) > 0.01
        layers: set[type] = set()
        run = sparse.convolved

        def noted(layer: nn.Conv2d, x: Tensor, *laid: Any) -> Tensor | None:
            with monkeypatch.context() as patch:
                patch.setattr(compiled, "COMPILE", True)
                out = run(layer, x, *laid)
            if out is not None:
                layers.add(type(layer))
            return out

        monkeypatch.setattr(sparse, "convolved", noted)
        assert torch.equal(model(x), wanted)
        assert not layers
        outputs = streamed(model, [x] * 3)
        torch.testing.assert_close(torch.stack(outputs).mean(0), wanted, rtol=1e-4, atol=1e-5)
        assert layers == {PackedConv2d}
        torch.testing.assert_close(danetc.fold(model)(x), wanted, rtol=1e-4, atol=1e-5)
        assert any(issubclass(kind, InferenceConv2d) for kind in layers)


# -- layouts ---------------------------------------------------------------------------------------

NETWORK = small(
    "layers via origin",
    more="backbone layers = stage(basic(16), 1)",
    stem="conv(16) -> norm -> spike",
)


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    form = laid_out.form

    def noted(layer: nn.Conv2d, name: str, make: Callable[..., Any]) -> Any:
        found.append(name)
        return form(layer, name, make)

    monkeypatch.setattr(sparse, "form", noted)
    monkeypatch.setattr(sparse, "PER_READING", 1.0)
    return found


def built() -> Model:
    model = emit(text(NETWORK), 0, "fused")
    shake(model)
    return model.eval()


def stream(model: Model, states: Any = None) -> tuple[Tensor, Any]:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    first, states = model.stream(x, states)
    second, states = model.stream(x, states)
    return torch.stack([first, second]), states


def moved_twice(p: nn.Parameter) -> None:
    for _ in range(2):  # the second value may reuse the first one's memory
        p.data = p.data * 1.3


CHANGES: dict[str, Callable[[nn.Parameter], Any]] = {
    "in place": lambda p: p[0].mul_(3.0),
    "an optimizer": lambda p: torch.optim.SGD([p], 0.5).step(
        lambda: setattr(p, "grad", torch.ones_like(p))  # type: ignore[arg-type, return-value]
    ),
    "data": moved_twice,
    "layout": lambda p: setattr(
        p, "data", p.data.contiguous(memory_format=torch.channels_last) * 2
    ),
    "strides": lambda p: setattr(p, "data", torch.stack([p.data * 2, p.data], -1)[..., 0]),
    "data.mul_": lambda p: p.data.mul_(1.3),
    "NumPy": lambda p: p.detach().numpy().__imul__(1.3),
}
UNSEEN: dict[str, Callable[[nn.Parameter], Any]] = {
    "one number of data": lambda p: p.data.view(-1)[407].add_(3.0),
    "one number by NumPy": lambda p: p.detach().numpy().reshape(-1).__setitem__(7, 2.0),
}
"""Changes that take effect after ``model.eval()``."""


@pytest.mark.parametrize("is_folded", [False, True])
@pytest.mark.parametrize("change", [*CHANGES, *UNSEEN])
def test_a_change_counts_in_the_next_call(change: str, is_folded: bool, uses: list[str]) -> None:
    model = danetc.fold(built()) if is_folded else built()
    with torch.no_grad():
        before, states = stream(model)
        assert "rows" in uses
        for parameter in model.parameters():
            if parameter.dim() == 4:
                (CHANGES | UNSEEN)[change](parameter)
        if change in UNSEEN:
            model.eval()
        twin = copy.deepcopy(model)  # the twin has no laid out weights yet
        twin.load_state_dict(model.state_dict())
        assert torch.equal(stream(model, states)[0], stream(twin, states)[0])
        after = stream(model)[0]
        assert torch.equal(after, stream(twin)[0])
        assert not torch.equal(after, before)


def test_another_parameter_in_the_same_memory_is_laid_out() -> None:
    layer = nn.Conv2d(16, 16, 3)
    with torch.no_grad():
        for factor in (1.0, 2.0, 3.0):
            layer.weight = nn.Parameter(layer.weight.data)
            layer.weight[0, 0, 0, 1] = factor
            copied = laid_out.form(layer, "copy", Tensor.clone)
            assert torch.equal(copied, layer.weight)
            assert laid_out.form(layer, "copy", Tensor.clone) is copied


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_computed_weights_stay(norm: Callable[[nn.Module], nn.Module], uses: list[str]) -> None:
    model = built()
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            norm(module)
    model.eval()
    for factor in (1.0, 1.3):
        for parameter in model.parameters():
            parameter.data.mul_(factor)
        with torch.no_grad():
            assert torch.equal(stream(model)[0], stream(copy.deepcopy(model))[0])
    assert not uses


def test_a_bias_may_be_strided() -> None:
    layer, x = nn.Conv2d(16, 16, 3), torch.zeros(1, 16, 4, 4)
    x[0, 3] = 1.0
    layer.bias.data = torch.stack([layer.bias.data, layer.bias.data + 5], 1)[:, 0]  # type: ignore[union-attr]
    with torch.no_grad():
        found = sparse.convolved(layer, x)
        assert found is None or torch.allclose(found, layer(x), atol=1e-6)
        layer.bias.data = layer.bias.data.double()  # type: ignore[union-attr]
        assert sparse.convolved(layer, x) is None
