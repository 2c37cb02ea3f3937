"""Weights that are laid out once: whatever changes them, the next call uses the new numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import danetc
from danetc.compiler.emit.fx import emit
from danetc.runtime.layers import laid_out, sparse
from danetc.runtime.model.built import Model
from tests.differential.helpers import shake, text
from tests.differential.networks import small

pytestmark = pytest.mark.usefixtures("compiling")
NETWORK = small(
    "layers via origin",
    more="backbone layers = stage(basic(16), 1)",
    stem="conv(16) -> norm -> spike",
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made of weights and used, by name."""
    found: list[str] = []

    form = laid_out.Layouts.form

    def noted(self: laid_out.Layouts, layer: nn.Conv2d, name: str, make: Callable[..., Any]) -> Any:
        found.append(name)
        return form(self, layer, name, make)

    monkeypatch.setattr(laid_out.Layouts, "form", noted)
    monkeypatch.setattr(sparse, "PER_READING", 1.0)
    return found


def built() -> Model:
    model = emit(text(NETWORK), 0, "fused")
    shake(model)
    return model.eval()


def x(seed: int = 1) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def stream(model: Model, states: Any = None, steps: int = 2) -> tuple[Tensor, Any]:
    outputs = []
    for _ in range(steps):
        out, states = model.stream(x(), states)
        outputs.append(out)
    return torch.stack(outputs), states


def swap(weight: Tensor) -> None:
    weight[[0, 3]] = weight[[3, 0]]


def one_number(weight: Tensor) -> None:
    weight.view(-1)[407] += 3.0


CHANGES: dict[str, Callable[[nn.Parameter], Any]] = {
    "data.mul_": lambda p: p.data.mul_(1.3),
    "data.copy_": lambda p: p.data.copy_(torch.full_like(p, 0.05)),
    "data": lambda p: setattr(p, "data", p.data * 1.3),
    "detach": lambda p: p.detach().mul_(1.3),
    "NumPy": lambda p: p.detach().numpy().__imul__(1.3),
    "signs": lambda p: p.data.neg_(),
    "channels that change places": lambda p: swap(p.data),
    "one number": lambda p: one_number(p.data),
    "one number by NumPy": lambda p: p.detach().numpy().reshape(-1).__setitem__(7, 2.0),
    "layout": lambda p: setattr(
        p, "data", p.data.contiguous(memory_format=torch.channels_last) * 2
    ),
    "strides": lambda p: setattr(p, "data", torch.stack([p.data * 2, p.data], -1)[..., 0]),
    "an optimizer": lambda p: torch.optim.SGD([p], 0.5).step(
        lambda: setattr(p, "grad", torch.ones_like(p))  # type: ignore[arg-type, return-value]
    ),
}


def fresh(model: Model, like: Model) -> Model:
    """A model that has laid out nothing yet."""
    twin = copy.deepcopy(model)
    twin.load_state_dict(like.state_dict())
    return twin


@pytest.mark.parametrize("is_folded", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_counts_from_the_next_call_on(
    change: str, is_folded: bool, uses: list[str]
) -> None:
    model = danetc.fold(built()) if is_folded else built()
    with torch.no_grad():
        before, states = stream(model)
        forward = model(x())
        assert "rows" in uses
    for parameter in model.parameters():
        if parameter.dim() == 4:
            CHANGES[change](parameter)
    twin = fresh(model, model)
    with torch.no_grad():
        # (The digest of a weight this small is compared whole in later steps, too.)
        assert torch.equal(stream(model, states)[0], stream(twin, states)[0])
        assert torch.equal(model(x()), twin(x()))
        after = stream(model)[0]
        assert torch.equal(after, stream(twin)[0])
        assert not torch.equal(after, before)
        assert not torch.equal(model(x()), forward)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, uses: list[str]) -> None:
    monkeypatch.setattr(laid_out, "_function", lambda: None)
    test_a_change_counts_from_the_next_call_on("one number", True, uses)
    test_a_change_counts_from_the_next_call_on("layout", True, uses)


def test_of_a_large_weight_later_steps_read_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of all of it is found at once, of one number in as many calls as there are parts."""
    monkeypatch.setattr(laid_out, "WHOLE", 2**12)
    layer = nn.Conv2d(64, 64, 3)
    made: list[Tensor] = []

    def use(later: bool) -> int:
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(laid_out, "is_later_step", lambda: later)
            laid_out.layouts(layer).form(layer, "copy", lambda weight: made.append(weight.clone()))
        return len(made)

    assert use(True) == use(True) == use(False) == 1
    layer.weight.data.mul_(1.0001)
    assert use(True) == 2
    one_number(layer.weight.data)
    assert max(use(False) for _ in range(64)) == 3
    one_number(layer.weight.data)
    assert use(True) == 4


@pytest.mark.parametrize(("channels", "size"), [(64, 3), (128, 3), (256, 1), (512, 1)])
def test_a_change_of_a_filter_or_a_channel_of_a_large_weight_is_found_at_once(
    channels: int, size: int
) -> None:
    layer = nn.Conv2d(channels, 160, size)
    assert layer.weight.nbytes > laid_out.WHOLE
    made: list[Tensor] = []
    with torch.no_grad():
        for index in range(channels):
            for part in (layer.weight.data[index % 160], layer.weight.data[:, index]):
                part.add_(1.0)
                laid_out.layouts(layer).form(layer, "copy", lambda w: made.append(w.clone()))
                assert torch.equal(made[-1], layer.weight)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 255 * 16 + 3, 256 * 16, 10_000])
def test_a_digest_is_of_every_number(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laid_out, "WHOLE", 2**20)
    if laid_out._function() is None:
        pytest.skip("there is no C++ compiler")
    layer = nn.Conv2d(count, 1, 1)
    made: list[int] = []

    def use() -> int:
        with torch.no_grad():
            laid_out.layouts(layer).form(layer, "count", lambda weight: made.append(1))
        return len(made)

    use()
    for place in sorted({0, count // 2, count - 1}):
        seen = use()
        layer.weight.data.view(-1)[place] += 1.0
        assert use() == seen + 1
        assert use() == seen + 1


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_what_makes_its_weight_anew_in_each_call_is_laid_out_in_none(
    norm: Callable[[nn.Module], nn.Module], uses: list[str]
) -> None:
    model = built()
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            norm(module)
    model.eval()
    for factor in (1.0, 1.3, 0.7, 2.0):
        for parameter in model.parameters():
            parameter.data.mul_(factor)
        twin = copy.deepcopy(model)
        with torch.no_grad():
            assert torch.equal(stream(model)[0], stream(twin)[0])
    assert not uses


def test_a_bias_may_lie_anywhere(uses: list[str]) -> None:
    layer, spikes = nn.Conv2d(16, 16, 3), torch.zeros(1, 16, 4, 4)
    spikes[0, 3] = 1.0
    layer.bias.data = torch.stack([layer.bias.data, layer.bias.data + 5], 1)[:, 0]  # type: ignore[union-attr]
    with torch.no_grad():
        found = sparse.convolved(layer, spikes)
        assert found is None or torch.allclose(found, layer(spikes), atol=1e-6)
        layer.bias.data = layer.bias.data.double()  # type: ignore[union-attr]
        assert sparse.convolved(layer, spikes) is None
