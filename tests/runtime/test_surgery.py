"""What users do to the modules of a built model: the backends fused and eager then compute the same.

Each surgery is a function of a model. Both backends get it, and outputs, gradients and buffers of a
training step, and outputs in eval mode and of a stream, are compared. Where the eager backend
refuses, the fused one refuses too.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, parametrize, prune

from danetc.compiler.emit.fx import emit
from danetc.runtime.kernels.torch_internals import notice
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.sync import convert_sync
from danetc.runtime.model.built import Model
from tests.differential.helpers import streamed, text
from tests.differential.networks import small
from tests.runtime import test_fused

NETWORK = small("layers via origin", more="backbone layers = stage(basic(4), 2)")

LOOPED = """backbone layers = stage(basic(4), 1)
block looped {
  h = (in + (h -> delay(1) -> conv(4))) -> spike
  out = h
}"""


def both(source: str = NETWORK) -> tuple[Model, Model]:
    return test_fused.both(text(source), torch.float32)


def images(seed: int = 3) -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def children(model: nn.Module, kind: type[nn.Module]) -> list[tuple[nn.Module, str, Any]]:
    """All modules of a kind with the modules and names that they are registered under."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]


def norms(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    return children(model, nn.BatchNorm2d)


def spikes(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    return children(model, Neuron)


class Times(nn.Module):
    """A parametrization that multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def each_norm(change: Callable[[Any], Any]) -> Callable[[Model], None]:
    return lambda model: [change(norm) for _, _, norm in norms(model)] and None


def with_values(**values: Any) -> Callable[[Model], None]:
    """Set attributes of every norm."""
    return each_norm(lambda norm: [setattr(norm, *item) for item in values.items()])


def replaced(new: Callable[[Any], nn.Module | None]) -> Callable[[Model], None]:
    """Every norm in place of itself."""

    def change(model: Model) -> None:
        for parent, name, norm in norms(model):
            setattr(parent, name, new(norm))

    return change


def group_norm(norm: nn.BatchNorm2d) -> nn.Module:
    new = nn.GroupNorm(2, norm.num_features)
    nn.init.constant_(new.weight, 1.3)
    nn.init.constant_(new.bias, 0.2)
    return new


def strided(x: Tensor) -> Tensor:
    """The same values, not contiguous."""
    return torch.stack([x, x + 1], 1)[:, 0]


def non_contiguous(*names: str) -> Callable[[Any], None]:
    def change(norm: Any) -> None:
        for name in names:
            value = getattr(norm, name)
            value.data = strided(value.data)
            assert not getattr(norm, name).is_contiguous()

    return change


def parametrized(norm: Any) -> None:
    parametrize.register_parametrization(norm, "weight", Times(1.2))
    parametrize.register_parametrization(norm, "bias", Times(0.5))


def plain_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    new = nn.BatchNorm2d(norm.num_features, momentum=0.3)
    nn.init.constant_(new.weight, 1.5)
    return new


def scaled_spikes(model: Model) -> None:
    for _, _, neuron in spikes(model):
        neuron.register_forward_hook(lambda module, args, out: 0.7 * out)


def changed_conv(model: Model) -> None:
    in_branch(model).conv2 = nn.Conv2d(4, 4, 1).apply(_constant)


def in_branch(model: Model) -> Any:
    return model.stages.get_submodule("0.blocks.0.branch")


def in_block(model: Model) -> Any:
    return model.stages.get_submodule("0.blocks.0")


def _constant(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.constant_(parameter, 0.1)


class PerStep(nn.Module):
    """A module of [N, C, H, W] as one of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1).apply(_constant)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.flatten(0, -4)).unflatten(0, x.shape[:-3])
        return out


def branch_per_step(model: Model) -> None:
    in_block(model).branch = PerStep()


def tied(model: Model) -> None:
    first, second = norms(model)[1][2], norms(model)[2][2]
    second.weight, second.bias = first.weight, first.bias


def shared_norm(model: Model) -> None:
    branch = in_branch(model)
    branch.norm2 = branch.norm1


def subclass(norm: Any) -> nn.Module:
    class Negative(type(norm)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = -super().forward(x)
            return out

    new = copy.copy(norm)
    new.__class__ = Negative
    return new


def pruned(norm: Any) -> None:
    prune.random_unstructured(norm, "weight", 0.5)
    prune.remove(norm, "weight")
    prune.l1_unstructured(norm, "bias", 0.5)


def seeded(change: Callable[[Model], None]) -> Callable[[Model], None]:
    def run(model: Model) -> None:
        torch.manual_seed(5)
        change(model)

    return run


def half_frozen(model: Model) -> None:
    for _, _, norm in norms(model)[::2]:
        norm.eval().requires_grad_(False)


def own_forward(norm: Any) -> None:
    norm.forward = lambda x, call=norm.forward: 2 * call(x)


def double_buffer(norm: Any) -> None:
    norm.running_mean = norm.running_mean.double()


def old_weight_norm(model: Model) -> None:
    nn.utils.weight_norm(model.stem.conv)
    nn.utils.spectral_norm(in_branch(model).conv1)


def new_weight_norm(model: Model) -> None:
    parametrizations.weight_norm(model.stem.conv)
    parametrizations.spectral_norm(in_branch(model).conv1)
    parametrizations.orthogonal(in_branch(model).conv2)


SURGERIES: dict[str, Callable[[Model], Any]] = {
    "nothing": lambda model: None,
    "parametrized norms": each_norm(parametrized),
    "weight of norms not contiguous": each_norm(non_contiguous("weight")),
    "others not contiguous": each_norm(non_contiguous("bias", "running_mean", "running_var")),
    "a buffer in float64": each_norm(double_buffer),
    "norms in float64": each_norm(nn.Module.double),
    "group norms": replaced(group_norm),
    "no norms": replaced(lambda norm: nn.Identity()),
    "norms that are None": replaced(lambda norm: None),
    "new batch norms": replaced(plain_norm),
    "copies of norms": replaced(copy.deepcopy),
    "norms of another width": replaced(lambda norm: nn.BatchNorm2d(norm.num_features + 1)),
    "subclasses": replaced(subclass),
    "torch's SyncBatchNorm": nn.SyncBatchNorm.convert_sync_batchnorm,
    "our own": convert_sync,
    "instance norms": replaced(lambda norm: nn.InstanceNorm2d(norm.num_features, affine=True)),
    "no momentum": with_values(momentum=None),
    "no running statistics": with_values(
        track_running_stats=False, running_mean=None, running_var=None, num_batches_tracked=None
    ),
    "running statistics that stay": with_values(track_running_stats=False),
    "not affine": with_values(weight=None, bias=None),
    "eps and momentum": with_values(eps=0.1, momentum=0.7),
    "frozen statistics": each_norm(nn.Module.eval),
    "some frozen": half_frozen,
    "no gradients of norms": each_norm(lambda norm: norm.requires_grad_(False)),
    "weights of norms that are tied": tied,
    "one norm twice": shared_norm,
    "pruned norms": seeded(each_norm(pruned)),
    "a forward of its own": each_norm(own_forward),
    "forward hooks": each_norm(lambda n: n.register_forward_hook(lambda m, x, y: 1.5 * y)),
    "forward pre-hooks": each_norm(
        lambda n: n.register_forward_pre_hook(lambda m, x: (x[0] + 0.3,))
    ),
    "backward hooks": each_norm(
        lambda n: n.register_full_backward_hook(lambda m, given, grads: (given[0] * 3,))
    ),
    "backward pre-hooks": each_norm(
        lambda n: n.register_full_backward_pre_hook(lambda m, grads: (grads[0] * 2,))
    ),
    "weight norm by hooks": seeded(old_weight_norm),
    "weight norm": seeded(new_weight_norm),
    "a branch replaced": branch_per_step,
    "a convolution replaced": changed_conv,
    "a pooling replaced": lambda model: setattr(model.head, "avgpool", nn.AdaptiveMaxPool2d(1)),
    "spikes that a hook scales": scaled_spikes,
}


def outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        return type(error)


def observed(model: Model, change: Callable[[Model], Any], warm: bool = True) -> dict[str, Any]:
    """Outputs, gradients and buffers; the error where there is one."""
    if warm:  # as in use: kernels are known before
        model(images(9))
    change(model)
    found: dict[str, Any] = {}
    with torch.no_grad():
        found["before"] = outcome(lambda: model(images(4)))
    x = images().requires_grad_()

    def step() -> Tensor:
        out: Tensor = model(x)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        return out.detach()

    found["training"] = outcome(step)
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    found["gradient of x"] = x.grad
    found |= {name: value.clone() for name, value in model.named_buffers()}
    model.eval()
    with torch.no_grad():
        found["evaluation"] = outcome(lambda: model(images()))
        found["stream"] = outcome(lambda: torch.stack(streamed(model, [images()] * 3)))
    return found


def agree(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    gradients = [v for name, v in expected.items() if name.startswith("gradient") and v is not None]
    largest = max([float(value.abs().max()) for value in gradients], default=0.0)
    for name, value in expected.items():
        mine = found[name]
        if isinstance(value, Tensor):
            assert isinstance(mine, Tensor), f"{name}: {mine}"
            scale = largest if name.startswith("gradient") else float(value.abs().max()) or 1.0
            torch.testing.assert_close(
                mine,
                value,
                rtol=1e-4,
                atol=1e-4 * scale,
                equal_nan=True,
                msg=lambda m, n=name: f"{n}: {m}",
            )
        elif isinstance(value, type):
            assert isinstance(mine, type), f"{name}: eager ends in {value}"
        else:
            assert mine is value, name


FIRST = (
    "nothing", "parametrized norms", "weight of norms not contiguous", "a buffer in float64",
    "group norms", "torch's SyncBatchNorm", "forward hooks",
    "spikes that a hook scales", "frozen statistics",
)  # fmt: skip


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FIRST else pytest.mark.thorough) for name in SURGERIES],
)
def test_both_backends_do_the_same(name: str) -> None:
    eager, fused = both()
    agree(observed(fused, SURGERIES[name]), observed(eager, SURGERIES[name]))


def test_a_hook_of_a_fused_neuron_is_warned_of_its_inputs() -> None:
    """They are the terms of the sum before the norms. Hooks of danetc read outputs alone."""
    eager, fused = (spikes(model)[0][2] for model in both())
    notice.cache_clear()
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            getattr(eager, register)(lambda *_: None)
            getattr(fused, register)(partial(Neuron.values))
        with pytest.warns(RuntimeWarning, match="the terms of the sum before the norms") as caught:
            getattr(fused, register)(lambda *_: None)
        assert caught[0].filename == __file__
        notice.cache_clear()


@pytest.mark.parametrize("place", [0, 1])
def test_a_stream_calls_the_hooks_of_its_layers(place: int) -> None:
    """With sequences of one step; what a hook gives counts, and gradients go through it."""
    model = both()[place].eval()
    took: list[torch.Size] = []
    gave: list[torch.Size] = []
    back: list[torch.Size] = []
    layer = spikes(model)[0][2]
    layer.register_forward_pre_hook(lambda module, args: took.append(args[0].shape))
    layer.register_forward_hook(lambda module, args, out: gave.append(out.shape))
    layer.register_full_backward_hook(lambda module, grads, outs: back.append(outs[0].shape))
    out, states = model.stream(images())
    out, states = model.stream(images(), states)
    out.sum().backward()
    assert took == gave == [torch.Size((1, 4, 4, 8, 8))] * 2
    assert back == took
    assert "forward" not in layer.__dict__
    layer.register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    silent, _ = model.stream(images(), states)
    assert not torch.equal(silent, out)


def test_a_stream_calls_the_hooks_of_layers_in_loops() -> None:
    graph = text(small("layers via origin", more=LOOPED, stem="conv(4) -> norm -> looped"))
    for backend in ("eager", "fused"):
        model = emit(graph, 0, backend).eval()
        seen: list[torch.Size] = []
        for module in model.modules():
            if isinstance(module, Neuron):
                module.register_forward_hook(
                    lambda module, args, out, seen=seen: seen.append(out.shape)  # type: ignore[misc]
                )
        with torch.no_grad():
            _, states = model.stream(images())
            model.stream(images(), states)
        layers = sum(isinstance(module, Neuron) for module in model.modules())
        assert seen == [torch.Size((1, 4, 4, 8, 8))] * 2 * layers


def test_a_stream_says_which_hooks_it_does_not_call() -> None:
    model = both()[0].eval()
    model.stem.register_forward_hook(lambda module, args, out: None)
    with pytest.warns(RuntimeWarning, match="hooks of `stem` do not run in a stream"):
        model.stream(images())


def test_hooks_of_all_modules() -> None:
    eager, fused = both()
    called: dict[Model, list[str]] = {}
    for model in (eager, fused):
        names = {module: name for name, module in model.named_modules()}
        own = called[model] = []
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, args, out, own=own, names=names: own.append(names[module])  # type: ignore[misc]
        )
        try:
            model(images())
        finally:
            handle.remove()
    assert sorted(called[eager]) == sorted(called[fused])


def test_layers_in_loops_can_be_replaced() -> None:
    graph = text(small("layers via origin", more=LOOPED, stem="conv(4) -> norm -> looped"))
    for backend in ("eager", "fused"):
        model = emit(graph, 0, backend)
        before = model(images())
        found = [each for each in children(model.stem, nn.Conv2d) if each[0] is not model.stem]
        assert found
        for parent, name, _ in found:
            setattr(parent, name, nn.Conv2d(4, 4, 3, padding=1).apply(_constant))
        after = model(images())
        after.sum().backward()
        assert not torch.equal(before, after)
        for parent, name, _ in found:
            assert getattr(parent, name).weight.grad is not None


@pytest.mark.thorough
@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(
    "name", ["parametrized norms", "group norms", "torch's SyncBatchNorm", "forward hooks"]
)
def test_copies_and_segments_do_the_same(name: str) -> None:
    """A model that was copied, before the change and after it, and one that runs again by segments."""
    graph = text(NETWORK)
    eager, fused = both()
    lean = emit(graph, 0, "fused", "recompute")
    lean.load_state_dict(eager.state_dict())
    models = [copy.deepcopy(fused), lean]
    SURGERIES[name](fused)
    models.append(copy.deepcopy(fused))
    changes = [SURGERIES[name]] * 2 + [lambda model: None]
    expected = observed(eager, SURGERIES[name], warm=False)
    for model, change in zip(models, changes, strict=True):
        agree(observed(model, change, warm=False), expected)


def test_the_neuron_of_a_fusion_group_stays() -> None:
    eager, fused = both()
    wrapped = nn.Sequential(fused.stem.spike, nn.Identity())
    for neuron in (nn.ReLU(), copy.deepcopy(fused.stem.spike), wrapped, None):
        with pytest.raises(RuntimeError, match=r"norms and the sum before it.*backend=\"eager\""):
            fused.stem.spike = neuron
        with pytest.raises(RuntimeError, match="norms and the sum before it"):
            fused.stem.add_module("spike", neuron)
    fused.stem.spike = fused.stem.spike
    before = eager(images())
    in_block(eager).spike = nn.ReLU()
    assert not torch.equal(eager(images()), before)


def dense() -> tuple[Model, Model]:
    """With neurons that read a concat, which is not joined for them."""
    eager, fused = both(
        small(
            "layers via dense_layer by densely_concatenated",
            more="backbone layers = stage(dense(2), 3)",
        )
    )
    assert "lazy_concat" in "".join(
        scope.code for scope in fused.modules() if isinstance(scope, fx.GraphModule)
    )
    return eager, fused


def test_a_neuron_that_reads_a_concat_is_traced() -> None:
    eager, fused = dense()
    expected = eager.eval()(images())
    torch.testing.assert_close(fused.eval()(images()), expected)
    torch.testing.assert_close(fx.symbolic_trace(fused)(images()), expected)
