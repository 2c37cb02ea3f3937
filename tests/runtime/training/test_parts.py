"""Learning rates, optimizers, parts and scheduled parameters, against formulas and loops in torch."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import danetc
from danetc.compiler.emit.program import standalone
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.schema import SCHEDULED_OPERATIONS
from danetc.errors import UserError
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.kernels.compiled import CompiledFunction
from danetc.runtime.layers.norm import StepBatchNorm2d
from danetc.runtime.system.seeds import derive
from danetc.runtime.training.optim import CHANGES, Schedules, make_optimizer, value_at
from tests.runtime.training.common import STILL, gradients, phase, run
from tests.runtime.training.test_own_code import FILE

AFTER = [0.1 + 0.9 * (1 + math.cos(math.pi * index / 19)) / 2 for index in range(20)]


@pytest.mark.parametrize(
    ("settings", "batches", "expected"),
    [
        ("epochs = 10; warmup = 2", 4, [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1]),
        ("epochs = 9; schedule = step(3, 6, factor = 0.1)", 1, [1] * 3 + [0.1] * 3 + [0.01] * 3),
        ("epochs = 60; schedule = step(30, factor = 0.1)", 23, [1] * 690 + [0.1]),
        ("epochs = 6; warmup = 1; schedule = cosine(end = 0.1)", 4, [0.25, 0.5, 0.75, 1, *AFTER]),
    ],
)
def test_learning_rates(settings: str, batches: int, expected: list[float]) -> None:
    """A warm-up and a cosine end with their last batch. A step occurs at the first batch of its epoch."""
    chosen = phase(f"{settings}; optimizer = sgd(lr = 0.5)")
    optimizer = make_optimizer(nn.Linear(1, 1), chosen.optimizer)
    schedules = Schedules(chosen, batches, optimizer)
    for done, share in enumerate(expected):
        schedules.put(done)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * share)


def test_only_weights_decay_where_the_recipe_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), StepBatchNorm2d(2, steps=3))
    chosen = phase("epochs = 1; optimizer = sgd(lr = 0.5, weight_decay = 1e-4, decay = weights)")
    groups = make_optimizer(model, chosen.optimizer).param_groups
    decays = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert decays == {each: 1e-4 * (name == "0.weight") for each, name in names.items()}


ALIVE = STILL.replace("LIF", "LIF(v_threshold = 0.2)")
"""A network whose neurons all fire."""
BODY = """
epochs = 2; batch = 50; freeze = stem; lr_scale = 0.1 * stages + 3 * head
schedule = cosine; warmup = 0.5; clip = 0.02; ema = 0.5; optimizer = """
SHARES = [0.5, 1.0, *((1 + math.cos(math.pi * k / 5)) / 2 for k in range(6))]
DECAY = "lr = 0.1, weight_decay = 0.01"
BETAS = f"{DECAY}, beta1 = 0.8, beta2 = 0.99, decay = weights"


@pytest.mark.parametrize(
    ("text", "make", "times"),
    [
        (f"sgd({DECAY}, momentum = 0.9)", partial(SGD, momentum=0.9), 1),
        (f"adamw({DECAY})", AdamW, 1),
        (f'python("mine.py:faster", {DECAY})', partial(SGD, momentum=0.9), 3),
        (f"adamw({BETAS})", partial(AdamW, betas=(0.8, 0.99)), 1),
        (f'python("mine.py:adamw", {BETAS})', partial(AdamW, betas=(0.8, 0.99)), 1),
    ],
)
def test_a_loop_with_torch_groups_gives_the_same_weights(
    few: DataSet,
    text: str,
    make: Callable[..., Any],
    times: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are in float64. The loop's optimizer has no group for the frozen stem, which is in eval mode."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    first, model = (danetc.build(text=ALIVE, seed=1, backend="eager").double() for _ in range(2))
    start = {key: value.clone() for key, value in first.state_dict().items()}
    done = run(first, few, phase(BODY + text))
    groups = [
        {
            "params": [p for p in part.parameters() if (p.dim() > 1) == whole],
            "weight_decay": 0.01 if whole or "decay = weights" not in text else 0.0,
        }
        for part in (model.stages, model.head)
        for whole in (True, False)
    ]
    optimizer, learning = make(groups, lr=0.0), [p for group in groups for p in group["params"]]
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    seed = derive("phase", 3, 0)
    batches = Batches(few.train, image_transform(()), batch=50, seed=seed, train=True)
    for step, batch in enumerate([*batches.epoch(0), *batches.epoch(1)]):
        model.train().stem.eval()
        for group, rate in zip(optimizer.param_groups, (0.01, 0.01, 0.3, 0.3), strict=True):
            group["lr"] = times * rate * SHARES[step]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch.images.double()), batch.labels).backward()
        norm = nn.utils.clip_grad_norm_(learning, 0.02)
        optimizer.step()
        mean.update_parameters(model)
        told = done.reports[step]
        assert told.learning_rate == pytest.approx(0.1 * SHARES[step])
        assert told.grad_norm == pytest.approx(float(norm), rel=1e-6)
        assert norm > 0.02
    means, trained = mean.module.state_dict(), first.cpu().state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(trained[key], value, rtol=1e-9, atol=1e-10, msg=key)
        if value.is_floating_point():
            torch.testing.assert_close(
                done.weights[key], means[key], rtol=1e-9, atol=1e-10, msg=key
            )
        assert key.startswith("stem.") == torch.equal(done.weights[key], start[key]), key


WAYS = {
    "ema": ("ema = 0.5", {}),
    "decay": ("optimizer = adamw(lr = 0.01, weight_decay = 0.1, decay = weights)", {}),
    "clip": ("clip = 0.01; accumulate = 2; precision = bf16", {}),
    "truncated": ("gradient = truncated(1)", {}),
    "online": ("gradient = online(trace = 0.5)", {}),
    "rates": ("loss = cross_entropy + 0.1 * firing_rate(target = 0.1)", {}),
    "fused": ("", {"backend": "fused"}),
    "recompute": ("", {"memory": "recompute"}),
    "fused recompute": ("ema = 0.5", {"backend": "fused", "memory": "recompute"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_frozen_parts_keep_their_bits(few: DataSet, way: str) -> None:
    """Stem and stage are frozen, including norms and neurons with a learnt value; only the head learns."""
    body, built = WAYS[way]
    text = STILL.replace("LIF", "PLIF").replace("basic(8), 1", "basic(8), 3")
    model = danetc.build(text=text, **{"backend": "eager", "seed": 1, **built})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = "" if "optimizer" in body else "optimizer = sgd(lr = 0.1, weight_decay = 0.01)"
    settings = ["epochs = 1; batch = 50; freeze = stem + stages(0)", optimizer, body]
    done = run(model, few, phase("; ".join(filter(None, settings))))
    for key, value in done.weights.items():
        assert torch.equal(value, before[key]) == (not key.startswith("head.")), key


@pytest.mark.parametrize("policy", ["none", "recompute"])
def test_the_memory_policy_and_the_backend_change_no_weight(few: DataSet, policy: str) -> None:
    """Gradients pass through the frozen stages and head to the stem, which learns."""
    body = phase("epochs = 1; batch = 50; optimizer = adamw(lr = 0.01); freeze = stages + head")
    one, two = (
        run(danetc.build(text=ALIVE, seed=1, backend=backend, memory=memory).double(), few, body)
        for backend, memory in (("eager", "none"), ("fused", policy))
    )
    torch.testing.assert_close(two.weights, one.weights, rtol=1e-9, atol=1e-10)


FEW_EPOCHS = "epochs = 2; batch = 50; optimizer = sgd(lr = 0.1); "
CHANGE = "change = surrogate(alpha = exponential(1, 8)) + neuron(tau = linear(2, 1.5, epochs = 1))"
PLAIN = """
use std
network small {
  input = image(1, 8, 8); steps = 2; neuron = LIF(tau = 3.0); surrogate = sigmoid(alpha = 5.0)
  out = in -> conv(6) -> norm -> spike -> conv(6) -> norm -> spike -> avgpool -> mean_over_time -> linear(10)
}
"""
SCHEDULED = PLAIN.replace("tau = 3.0", "tau = scheduled(3.0)").replace("5.0", "scheduled(5.0)")


def built(text: str, backend: str = "eager", **values: float) -> Any:
    return danetc.build(text=text, set=values, seed=1, backend=backend)


def test_values_by_step() -> None:
    """The first step has the start and the last has the end; an epoch has 4 steps."""
    assert set(CHANGES) == {"linear", "cosine", "exponential"}
    for text, expected in (
        ("linear(1, 8)", [1, 2, 3, 4, 5, 6, 7, 8, 8]),
        ("linear(4, 1, epochs = 1)", [4, 3, 2, 1, 1]),
        ("exponential(1, 128)", [2.0**k for k in range(8)]),
        ("cosine(3, 1)", [2 + math.cos(math.pi * k / 7) for k in range(8)]),
    ):
        chosen = phase(f"{FEW_EPOCHS} change = neuron(a = {text})")
        (change,) = chosen.change
        found = [value_at(chosen, change.item, done, 4) for done in range(len(expected))]
        assert found == pytest.approx(expected)


@pytest.mark.usefixtures("inductor")
def test_kernels_for_a_gpu_take_scheduled_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompiledFunction, "__call__", lambda self, *args: self.function(*args))
    results = []
    for backend in ("eager", "fused"):
        model = built(SCHEDULED, backend)
        out = model(torch.arange(128.0).view(2, 1, 8, 8).sin())
        results.append(gradients(model, out.square().sum()) | {"out": out.detach()})
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_step_is_that_of_a_network_with_the_values_built_in(backend: str) -> None:
    chosen = phase(FEW_EPOCHS + CHANGE)
    dtype = torch.float64 if backend == "eager" else torch.float32
    model = built(SCHEDULED, backend).to(dtype)
    changes = Schedules(chosen, 4, make_optimizer(model, chosen.optimizer), model)
    x = 3 * torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)
    for done in (0, 2, 5):
        changes.put(done)
        tau, alpha = 2 - min(done / 3, 1) / 2, 8 ** (done / 7)
        other = built(PLAIN, **{"neuron.tau": tau, "surrogate.alpha": alpha}).to(dtype)
        outputs = [each(x) for each in (model, other)]
        assert float(outputs[0].detach().std()) > 0.01
        close = {"rtol": 1e-6 if dtype == torch.float64 else 1e-4, "atol": 1e-7}
        torch.testing.assert_close(*outputs, **close)
        pairs = zip((model, other), outputs, strict=True)
        grads = [gradients(each, output.square().sum()) for each, output in pairs]
        torch.testing.assert_close(*grads, **close)


def test_a_training_puts_them_where_they_are_to_be(few: DataSet) -> None:
    """After the last step the values are the ends, also in the kept model, which is a mean of weights."""
    chosen = phase(FEW_EPOCHS + CHANGE + "; ema = 0.5")
    trained = run(built(SCHEDULED), few, chosen)
    for name, end in (("tau", 1.5), ("surrogate_alpha", 8.0)):
        for epoch, weights in enumerate(trained.saved, 1):
            at_epoch = end if epoch == 2 or name == "tau" else 8 ** (4 / 7)
            for layer in ("spike1", "spike2"):
                assert float(weights[f"{layer}.{name}"]) == pytest.approx(at_epoch)
    assert not any("alpha" in name for name, _ in trained.kept.named_parameters())


MASKED = """
use std
network small {
  input = events(2, 8, 8); steps = 4; surrogate = sigmoid(alpha = 4)
  out = in -> MaskedPSN(2, masked = scheduled(0.25))
}
"""


def test_the_share_of_a_mask_is_that_of_spikingjelly() -> None:
    """Outputs and gradients at values of a schedule, against its MaskedPSN with the same lambda."""
    jelly = pytest.importorskip("spikingjelly.activation_based.neuron")
    slope = pytest.importorskip("spikingjelly.activation_based.surrogate").Sigmoid(4.0)
    model = built(MASKED).double()
    layer = next(layer for layer in model.modules() if hasattr(layer, "masked"))
    chosen = phase(FEW_EPOCHS + "change = linear(masked = linear(0, 1))")
    changes = Schedules(chosen, 4, make_optimizer(model, chosen.optimizer), model)
    other = jelly.MaskedPSN(2, 4, 0.0, slope, "m").double()
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(4, 3, 2, 8, 8, generator=generator, dtype=torch.float64)
    for done in (0, 3, 7):
        changes.put(done)
        other.lambda_ = done / 7
        other.load_state_dict(
            {**other.state_dict(), "weight": layer.weight, "bias": layer.bias[:, None] - 1}
        )
        ours, theirs = model(x), other(x)
        assert torch.equal(ours, theirs)
        assert 0.05 < float(ours.detach().mean()) < 0.95
        found = torch.autograd.grad((ours * x).sum(), [layer.weight, layer.bias])
        weight, bias = torch.autograd.grad((theirs * x).sum(), [other.weight, other.bias])
        torch.testing.assert_close(found, (weight, bias.view(-1)), rtol=1e-9, atol=1e-9)
    assert float(found[0].triu(1).abs().max()) == 0  # at the end no step reads later ones
    with pytest.raises(ValueError, match="linear gives at a step depends on later ones"):
        model.stream(x[0])


def test_recipes_name_the_operations_whose_parameters_may_be_scheduled() -> None:
    paths = {item.schedule for row in OPS.values() for item in row.parameters if item.schedule}
    assert {path.partition(".")[0] for path in paths} == {*SCHEDULED_OPERATIONS}
    for path in paths:
        operation, _, name = path.partition(".")
        assert any(item.name == name and item.schedule for item in OPS[operation].parameters)


TWO = """
recipe two {
  batch = 500
  optimizer = sgd(lr = 0.05)
  phase first { epochs = 1; steps = 1 }
  phase second { epochs = 1; start = first; change = surrogate(alpha = linear(1, 4)) }
}
"""


@pytest.mark.thorough
def test_two_phases_and_what_is_left_of_them(tmp_path: Path) -> None:
    """The first phase keeps the network's values. The directory has the ends, and so does model.py."""
    done = danetc.train(text=PLAIN + TWO, data="digits", output=tmp_path / "run", backend="eager")
    model = danetc.load(done.directory)
    assert float(model.spike1.surrogate_alpha) == 4.0
    assert "sigmoid(alpha = scheduled(5.0))" in (done.directory / "spec.danet").read_text()
    assert danetc.evaluate(done.directory).results[0].top1 == done.test_accuracy
    alone = standalone((done.directory / "model.py").read_text(), "alone")
    alone.load_state_dict(load_file(done.directory / "weights.safetensors"))
    x = torch.rand(3, 1, 8, 8)
    outputs = [each.train()(x) for each in (model, alone)]
    assert torch.equal(*outputs)
    pairs = zip((model, alone), outputs, strict=True)
    torch.testing.assert_close(*(gradients(each, output.sum()) for each, output in pairs))


LEARNT = PLAIN.replace("= 3.0", "= learn(3.0, above = 1)")
WITHOUT = PLAIN.replace("-> spike", "-> IF")
EVENTS = MASKED.replace("events(2", "image(1").replace(
    "(0.25))", "(0.25)) -> avgpool -> mean_over_time -> linear(10)"
)


@pytest.mark.parametrize(
    ("text", "change", "says"),
    [
        (PLAIN, "surrogate(beta = linear(1, 2))", "`surrogate.beta`.*no parameter `beta`"),
        (PLAIN, "surrogate(alpha = linear(1, 2)) + neuron(tau = linear(0, 2))", "0 is not allowed"),
        (PLAIN, "neuron(tau = linear(-1, 2))", "0 is not allowed: .*division by zero$"),
        (PLAIN, "neuron(detach_reset = linear(0, 1))", "`neuron.detach_reset`, which is a choice"),
        (LEARNT, "neuron(tau = linear(2, 3))", r"`neuron\.tau`, which is learnt"),
        (WITHOUT, "neuron(tau = linear(2, 3))", "no layer of network `small` has it"),
        (EVENTS, "linear(masked = linear(0, 2))", "2 is not allowed: .*lie between 0 and 1"),
        (EVENTS, "linear(window = linear(1, 2))", "no layer of network `small` has it; write"),
        (PLAIN, "linear(masked = linear(0, 1))", r"write `linear\(..., masked = scheduled\(0\)\)`"),
    ],
)
def test_what_a_network_refuses(tmp_path: Path, text: str, change: str, says: str) -> None:
    text += f"recipe r {{ epochs = 1; optimizer = sgd(lr = 0.1); change = {change} }}"
    warnings.simplefilter("ignore")  # about values that are no leaks
    with pytest.raises(UserError, match=says):
        danetc.train(text=text, data="digits", output=tmp_path / "run")


def test_where_else_it_cannot_stand(tmp_path: Path) -> None:
    text = f"{PLAIN} recipe r {{ {FEW_EPOCHS} change = neuron(tau = linear(2, 3)) }}"
    with pytest.raises(UserError, match=r"`neuron.tau` is set to 2.0, but recipe `r` changes it"):
        danetc.train(text=text, set={"neuron.tau": 2.0}, output=tmp_path)
    with pytest.raises(SpecError, match="cannot be combined with values"):
        built(PLAIN.replace("in -> conv", "(scheduled(2.0) * in) -> conv"))
    for change in ("neuron(linear(1, 2))", "norm(eps = linear(1, 2))", "3", "linear(1, 2)"):
        with pytest.raises(SpecError):
            phase(f"{FEW_EPOCHS} change = {change}")
    with pytest.raises(SpecError, match="changes twice"):
        phase(f"{FEW_EPOCHS} change = neuron(tau = linear(1, 2)) + neuron(tau = linear(1, 3))")
