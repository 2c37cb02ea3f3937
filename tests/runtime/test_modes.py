"""Models under torch modes and with other tensors: fake tensors, the device meta, subclasses.

Only plain CPU tensors reach native code. Other tensors give the same values, or the same metadata.
"""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import BaseTorchFunctionMode
from torch.testing._internal.logging_tensor import LoggingTensor
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from danetc.compiler.emit.fx import emit
from danetc.runtime.model.built import Model
from tests.alternating import alternating
from tests.differential.helpers import shake, text
from tests.differential.networks import LEARNT, small

pytestmark = [
    pytest.mark.usefixtures("compiling"),
    pytest.mark.skipif(sys.platform != "linux", reason="libraries of groups are for Linux"),
]

NETWORKS = {
    "residual": small("stage(basic(4), 2) via origin"),
    "learnt": small("stage(basic(4), 1) via sew", settings="neuron = leaky", more=LEARNT),
    "pooled": small("stage(basic(4), 1) via sew", stem="conv(4) -> norm -> spike -> maxpool(2)"),
    "beside": small(
        "layers via dense_layer by densely_concatenated",
        more="backbone layers = stage(dense(2), 2) -> transition -> stage(dense(2), 2)",
    ),
}
MEMORY = [("eager", "none"), ("fused", "none"), ("fused", "recompute")]


def built(name: str, backend: str, memory: str = "none") -> Model:
    model = emit(text(NETWORKS[name]), 0, backend, memory)
    shake(model)
    return model


def image(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def step(model: Model, x: Tensor) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), *[p.grad for p in model.parameters() if p.grad is not None]]


class Log(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Tagged(Tensor):
    """A subclass that adds nothing but its name."""


# -- fake tensors ----------------------------------------------------------------------------------


def forms(model: Model, x: Tensor) -> tuple[list[Any], list[Any]]:
    """Metadata of a training step's saved tensors, and of its output and gradients."""
    kept = []

    def note(value: Tensor) -> Tensor:
        kept.append((value.shape, value.stride(), value.dtype))
        return value

    model.zero_grad(set_to_none=True)
    with saved_tensors_hooks(note, lambda value: value):
        y = model(x)
    y.square().sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return kept, [(v.shape, v.stride(), v.dtype, v.device) for v in (y, *grads)]


@pytest.mark.parametrize(("backend", "memory"), MEMORY)
@pytest.mark.parametrize("name", alternating(NETWORKS))
def test_fake_tensors_have_the_forms_of_real_ones(name: str, backend: str, memory: str) -> None:
    real = forms(built(name, backend, memory), image())
    with FakeTensorMode():
        model = built(name, backend, memory)
        assert forms(model, torch.empty(4, 3, 8, 8)) == real
    # a model built outside the mode has real weights and gets a fake input
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    model = built(name, backend, memory)
    with mode:
        assert forms(model, mode.from_tensor(image())) == real
    numbers = step(built(name, backend, memory), image())
    torch.testing.assert_close(step(model, image()), numbers, rtol=0, atol=0)


def test_fake_calls_leave_nothing_behind_for_real_ones() -> None:
    """Neither caches nor attributes of real tensors keep a fake tensor."""
    source = small("stage(basic(4), 1) via sew", input="events(3, 8, 8, bound = 3)", stem="conv(4)")
    x = image().abs().floor().clamp(max=3).expand(3, 4, 3, 8, 8).contiguous()
    for dtype in (torch.float32, torch.bfloat16):
        model = emit(text(source), 0, "fused").to(dtype)
        other = emit(text(source), 0, "fused").to(dtype)
        with FakeTensorMode(allow_non_fake_inputs=True):
            step(model, x.to(dtype))
        found = step(model, x.to(dtype))
        assert {type(value) for value in found} == {Tensor}
        torch.testing.assert_close(found, step(other, x.to(dtype)), rtol=0, atol=0)


# -- other devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "memory"), MEMORY)
def test_a_model_that_ran_on_the_cpu_moves_to_meta(backend: str, memory: str) -> None:
    model = built("residual", backend, memory)
    step(model, image())
    model.to("meta")
    for training in (True, False):
        found = step(model.train(training), image().to("meta"))
        assert all(value.device.type == "meta" for value in found)
        assert found[0].shape == (4, 5)
    with torch.no_grad():
        assert model.stream(image().to("meta"))[0].is_meta


# -- modes and subclasses --------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "memory"), MEMORY)
@pytest.mark.parametrize(
    "mode", [Log, BaseTorchFunctionMode, lambda: FlopCounterMode(display=False)]
)
def test_modes_see_what_runs(mode: Callable[[], Any], backend: str, memory: str) -> None:
    plain = step(built("residual", backend, memory), image())
    with mode() as seen:
        found = step(built("residual", backend, memory), image())
    torch.testing.assert_close(found, plain)
    if isinstance(seen, Log) and backend == "fused":
        assert {"danetc.fusion_group.default", "danetc.convert_bits.default"} <= {*seen.names}


@pytest.mark.parametrize(("backend", "memory"), MEMORY)
@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda x: TwoTensor(x, x.clone()), lambda y: y.b),
        (LoggingTensor, lambda y: y.elem),
        (lambda x: x.as_subclass(Tagged), lambda y: y.as_subclass(Tensor)),
        (lambda x: torch._neg_view(-x), lambda y: y),
    ],
    ids=["two", "wrapper", "tagged", "negative"],
)
def test_subclasses_as_inputs(wrap: Any, unwrap: Any, backend: str, memory: str) -> None:
    plain = step(built("residual", backend, memory), image())
    found = step(built("residual", backend, memory), wrap(image()))
    same = [unwrap(value) if type(value) is not Tensor else value for value in found]
    torch.testing.assert_close(same, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("backend", "memory"), MEMORY[:2])
def test_weights_of_a_subclass(backend: str, memory: str) -> None:
    plain, model = (built("residual", backend, memory).eval() for _ in range(2))
    for module in model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            module._parameters[name] = nn.Parameter(LoggingTensor(value.detach()))
    found = model(LoggingTensor(image()))
    assert isinstance(found, LoggingTensor)
    torch.testing.assert_close(found.elem, plain(image()), rtol=1e-4, atol=1e-5)


def test_a_gradient_of_another_kind_is_an_error() -> None:
    y = built("residual", "fused")(image())
    with pytest.raises(RuntimeError, match="backend='eager'"):
        y.backward(TwoTensor(torch.ones_like(y), torch.ones_like(y)))
