"""Users change modules of a built model; the backends fused and eager still compute the same.

Each surgery is a function that changes a model. The tests apply it to both backends and compare outputs,
gradients and buffers of a training step, and outputs in eval mode and of a stream. Where the eager
backend raises an error, the fused backend raises one too.
"""

import copy
import warnings
from collections import Counter
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
from tests.runtime.conftest import By, step

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
    """All modules of a kind, each with its parent module and its name in the parent."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]


norms = partial(children, kind=nn.BatchNorm2d)
spikes = partial(children, kind=Neuron)


def each_norm(change: Callable[[Any], Any]) -> Callable[[Model], None]:
    return lambda model: [change(norm) for _, _, norm in norms(model)] and None


def with_values(**values: Any) -> Callable[[Model], None]:
    return each_norm(lambda norm: [setattr(norm, *item) for item in values.items()])


def replaced(new: Callable[[Any], nn.Module | None]) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        for parent, name, norm in norms(model):
            setattr(parent, name, new(norm))

    return change


def filled(new: Any, weight: float, bias: float) -> nn.Module:
    nn.init.constant_(new.weight, weight)
    nn.init.constant_(new.bias, bias)
    return new  # type: ignore[no-any-return]


def non_contiguous(*names: str) -> Callable[[Any], None]:
    def change(norm: Any) -> None:
        for value in (getattr(norm, name) for name in names):
            value.data = torch.stack([value.data, value.data + 1], 1)[:, 0]

    return change


def parametrized(norm: Any) -> None:
    parametrize.register_parametrization(norm, "weight", By(lambda x: 1.2 * x))
    parametrize.register_parametrization(norm, "bias", By(lambda x: 0.5 * x))


def in_block(model: Model) -> Any:
    return model.stages.get_submodule("0.blocks.0")


def _constant(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.constant_(parameter, 0.1)


def branch_per_step(model: Model) -> None:
    """Replace a branch with a module that applies a convolution of [N, C, H, W] to sequences."""
    conv = nn.Conv2d(4, 4, 3, padding=1).apply(_constant)
    per_step = By(lambda x: conv(x.flatten(0, -4)).unflatten(0, x.shape[:-3]), conv)
    in_block(model).branch = per_step


def tied(model: Model) -> None:
    first, second = norms(model)[1][2], norms(model)[2][2]
    second.weight, second.bias = first.weight, first.bias


def subclass(norm: Any) -> nn.Module:
    new, kind = copy.copy(norm), type(norm)
    new.__class__ = type("Negative", (kind,), {"forward": lambda self, x: -kind.forward(self, x)})
    return new  # type: ignore[no-any-return]


def pruned(norm: Any) -> None:
    prune.random_unstructured(norm, "weight", 0.5)
    prune.remove(norm, "weight")
    prune.l1_unstructured(norm, "bias", 0.5)


def old_weight_norm(model: Model) -> None:
    nn.utils.weight_norm(model.stem.conv)
    nn.utils.spectral_norm(in_block(model).branch.conv1)


def new_weight_norm(model: Model) -> None:
    parametrizations.weight_norm(model.stem.conv)
    parametrizations.spectral_norm(in_block(model).branch.conv1)
    parametrizations.orthogonal(in_block(model).branch.conv2)


SURGERIES: dict[str, Callable[[Model], Any]] = {
    "nothing": lambda model: None,
    "parametrized norms": each_norm(parametrized),
    "weight of norms not contiguous": each_norm(non_contiguous("weight")),
    "others not contiguous": each_norm(non_contiguous("bias", "running_mean", "running_var")),
    "a buffer in float64": each_norm(lambda n: setattr(n, "running_mean", n.running_mean.double())),
    "norms in float64": each_norm(nn.Module.double),
    "group norms": replaced(lambda n: filled(nn.GroupNorm(2, n.num_features), 1.3, 0.2)),
    "no norms": replaced(lambda norm: nn.Identity()),
    "norms that are None": replaced(lambda norm: None),
    "new batch norms": replaced(
        lambda n: filled(nn.BatchNorm2d(n.num_features, momentum=0.3), 1.5, 0.0)
    ),
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
    "some frozen": lambda model: [
        norm.eval().requires_grad_(False) for *_, norm in norms(model)[::2]
    ],
    "no gradients of norms": each_norm(lambda norm: norm.requires_grad_(False)),
    "weights of norms that are tied": tied,
    "one norm twice": lambda model: setattr(
        in_block(model).branch, "norm2", in_block(model).branch.norm1
    ),
    "pruned norms": each_norm(pruned),
    "a forward of its own": each_norm(
        lambda n: setattr(n, "forward", lambda x, call=n.forward: 2 * call(x))
    ),
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
    "weight norm by hooks": old_weight_norm,
    "weight norm": new_weight_norm,
    "a branch replaced": branch_per_step,
    "a convolution replaced": lambda model: setattr(
        in_block(model).branch, "conv2", nn.Conv2d(4, 4, 1).apply(_constant)
    ),
    "a pooling replaced": lambda model: setattr(model.head, "avgpool", nn.AdaptiveMaxPool2d(1)),
    "spikes that a hook scales": lambda model: [
        neuron.register_forward_hook(lambda m, x, y: 0.7 * y) for *_, neuron in spikes(model)
    ],
}


def outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        return type(error)


def observed(model: Model, change: Callable[[Model], Any], warm: bool = True) -> dict[str, Any]:
    """Outputs, gradients and buffers after a change. An error's type replaces the output."""
    if warm:  # as in normal use, kernels exist before the change
        model(images(9))
    torch.manual_seed(5)
    change(model)
    found: dict[str, Any] = {}
    with torch.no_grad():
        found["before"] = outcome(lambda: model(images(4)))
    trained = outcome(lambda: step(model, images()))
    found |= trained if isinstance(trained, dict) else {"training": trained}
    found |= {name: value.clone() for name, value in model.named_buffers()}
    model.eval()
    with torch.no_grad():
        found["evaluation"] = outcome(lambda: model(images()))
        found["stream"] = outcome(lambda: torch.stack(streamed(model, [images()] * 3)))
    return found


def agree(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    gradients = [name for name in expected if name.startswith(("gradient", "input"))]
    largest = max([float(expected[name].abs().max()) for name in gradients], default=0.0)
    for name, value in expected.items():
        if isinstance(value, type):
            assert isinstance(found[name], type), f"{name}: eager ends in {value}"
            continue
        scale = largest if name in gradients else float(value.abs().max()) or 1.0
        near: Any = {"rtol": 1e-4, "atol": 1e-4 * scale, "equal_nan": True}
        torch.testing.assert_close({name: found[name]}, {name: value}, **near)


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
    """The inputs are the terms of the sum before the norms. Hooks of danetc read only outputs."""
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
    """Hooks get sequences of one step. A returned value replaces the output, and backward hooks run."""
    model = both()[place].eval()
    seen, size = Counter[tuple[str, torch.Size]](), torch.Size((1, 4, 4, 8, 8))
    layer = spikes(model)[0][2]
    layer.register_forward_pre_hook(lambda module, args: seen.update([("took", args[0].shape)]))
    layer.register_forward_hook(lambda module, args, out: seen.update([("gave", out.shape)]))
    layer.register_full_backward_hook(lambda module, g, gs: seen.update([("back", gs[0].shape)]))
    out, states = model.stream(images())
    out, states = model.stream(images(), states)
    out.sum().backward()
    assert seen == {("took", size): 2, ("gave", size): 2, ("back", size): 2}
    assert "forward" not in layer.__dict__
    layer.register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    silent, _ = model.stream(images(), states)
    assert not torch.equal(silent, out)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_layers_in_loops(backend: str) -> None:
    graph = text(small("layers via origin", more=LOOPED, stem="conv(4) -> norm -> looped"))
    model = emit(graph, 0, backend).eval()
    seen: list[torch.Size] = []
    layers = [layer for *_, layer in spikes(model)]
    for layer in layers:
        layer.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    with torch.no_grad():
        streamed(model, [images()] * 2)
    assert seen == [torch.Size((1, 4, 4, 8, 8))] * 2 * len(layers)
    before = model.train()(images())
    found = [each for each in children(model.stem, nn.Conv2d) if each[0] is not model.stem]
    assert found
    for parent, name, _ in found:
        setattr(parent, name, nn.Conv2d(4, 4, 3, padding=1).apply(_constant))
    after = model(images())
    after.sum().backward()
    assert not torch.equal(before, after)
    for parent, name, _ in found:
        assert getattr(parent, name).weight.grad is not None


def test_a_stream_says_which_hooks_it_does_not_call() -> None:
    model = both()[0].eval()
    model.stem.register_forward_hook(lambda module, args, out: None)
    with pytest.warns(RuntimeWarning, match="hooks of `stem` do not run in a stream"):
        model.stream(images())


def test_hooks_of_all_modules() -> None:
    eager, fused = both()
    called: dict[Model, list[str]] = {eager: [], fused: []}
    names = {m: (own, n) for model, own in called.items() for n, m in model.named_modules()}
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, out: names[module][0].append(names[module][1])
    )
    try:
        eager(images()), fused(images())
    finally:
        handle.remove()
    assert sorted(called[eager]) == sorted(called[fused])


@pytest.mark.thorough
@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(
    "name", ["parametrized norms", "group norms", "torch's SyncBatchNorm", "forward hooks"]
)
def test_copies_and_segments_do_the_same(name: str) -> None:
    """Models copied before and after the change, and a model with the memory policy ``recompute``."""
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


def test_a_neuron_that_reads_a_concat_is_traced_and_streamed() -> None:
    more = "backbone layers = stage(dense(2), 3)"
    eager, fused = both(small("layers via dense_layer by densely_concatenated", more=more))
    scopes = [scope for scope in fused.modules() if isinstance(scope, fx.GraphModule)]
    assert any("lazy_concat" in scope.code for scope in scopes)
    expected = eager.eval()(images())
    mean = torch.stack(streamed(fused.eval(), [images()] * 3)).mean(0)
    for found in (fused(images()), fx.symbolic_trace(fused)(images()), mean):
        torch.testing.assert_close(found, expected)
