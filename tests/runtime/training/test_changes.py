"""Parameters that a recipe changes: values by step, and a network that has each of them built in."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.schema import SCHEDULED_OPERATIONS
from danetc.errors import UserError
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.kernels.compiled import CompiledFunction
from danetc.runtime.training.optim import CHANGES, Schedules, make_optimizer, value_at
from tests.runtime.training.common import phase, recipe, run

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
    paths = {"tau": "neuron.tau", "alpha": "surrogate.alpha"}
    given = {paths[name]: value for name, value in values.items()}
    return danetc.build(text=text, set=given, seed=1, backend=backend)


def test_values_by_step() -> None:
    """Of an epoch of 4 steps the first has the start and the last the end."""
    assert set(CHANGES) == {"linear", "cosine", "exponential"}
    body = "epochs = 2; batch = 50; optimizer = sgd(lr = 0.1); change = neuron(a = %s)"
    for text, expected in (
        ("linear(1, 8)", [1, 2, 3, 4, 5, 6, 7, 8, 8]),
        ("linear(4, 1, epochs = 1)", [4, 3, 2, 1, 1]),
        ("exponential(1, 128)", [2.0**k for k in range(8)]),
        ("cosine(3, 1)", [2 + math.cos(math.pi * k / 7) for k in range(8)]),
    ):
        chosen = phase(body % text)
        (change,) = chosen.change
        found = [value_at(chosen, change.item, done, 4) for done in range(len(expected))]
        assert found == pytest.approx(expected)


@pytest.mark.usefixtures("inductor")
def test_kernels_for_a_gpu_take_scheduled_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of these kernels run here operation by operation."""
    monkeypatch.setattr(CompiledFunction, "__call__", lambda self, *args: self.function(*args))
    results = []
    for backend in ("eager", "fused"):
        model = built(SCHEDULED, backend)
        out = model(torch.arange(128.0).view(2, 1, 8, 8).sin())
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad for p in model.parameters())])
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
        other = built(PLAIN, tau=tau, alpha=alpha).to(dtype)
        outputs = [each(x) for each in (model, other)]
        assert float(outputs[0].detach().std()) > 0.01
        close = {"rtol": 1e-6 if dtype == torch.float64 else 1e-4, "atol": 1e-7}
        torch.testing.assert_close(*outputs, **close)
        for each, output in zip((model, other), outputs, strict=True):
            each.zero_grad()
            output.square().sum().backward()
        for (name, p), (_, q) in zip(
            model.named_parameters(), other.named_parameters(), strict=True
        ):
            torch.testing.assert_close(p.grad, q.grad, msg=name, **close)


def test_a_training_puts_them_where_they_are_to_be(few: DataSet) -> None:
    """Behind the last step the ends, in what is kept too, which is a mean of weights."""
    chosen = phase(FEW_EPOCHS + CHANGE + "; ema = 0.5")
    trained = run(built(SCHEDULED), few, chosen)
    for name, end in (("tau", 1.5), ("surrogate_alpha", 8.0)):
        for epoch, weights in enumerate(trained.saved, 1):
            at_epoch = end if epoch == 2 or name == "tau" else 8 ** (4 / 7)
            for layer in ("spike1", "spike2"):
                assert float(weights[f"{layer}.{name}"]) == pytest.approx(at_epoch)
    assert not any("alpha" in name for name, _ in trained.model.named_parameters())


MASKED = """
use std
network small {
  input = events(2, 8, 8); steps = 4; surrogate = sigmoid(alpha = 4)
  out = in -> conv(6) -> norm -> MaskedPSN(2, masked = scheduled(0.25)) -> conv(6) -> norm
    -> MaskedPSN(3, masked = scheduled(0.25)) -> avgpool -> mean_over_time -> linear(10)
}
"""


def _masked(model: Any) -> Any:
    """The first layer with a mask."""
    return next(layer for layer in model.modules() if hasattr(layer, "masked"))


def test_the_share_of_a_mask_is_that_of_spikingjelly() -> None:
    """Forward and back at each value of a schedule, against its MaskedPSN and its lambda."""
    jelly = pytest.importorskip("spikingjelly.activation_based.neuron")
    slope = pytest.importorskip("spikingjelly.activation_based.surrogate").Sigmoid(4.0)
    text = (
        MASKED[: MASKED.index("  out =")]
        + """
      out = in -> MaskedPSN(2, masked = scheduled(0.25))
    }"""
    )
    model = danetc.build(text=text, seed=1, backend="eager").double()
    layer = _masked(model)
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
        wanted = torch.autograd.grad((theirs * x).sum(), [other.weight, other.bias])
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found[1], wanted[1].view(-1), rtol=1e-9, atol=1e-9)
    assert float(found[0].triu(1).abs().max()) == 0  # at the end nothing looks ahead
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
    """The first keeps what the network says; the directory has the ends, model.py too."""
    done = danetc.train(text=PLAIN + TWO, data="digits", output=tmp_path / "run", backend="eager")
    model = danetc.load(done.directory)
    assert float(model.spike1.surrogate_alpha) == 4.0
    assert "sigmoid(alpha = scheduled(5.0))" in (done.directory / "spec.danet").read_text()
    assert danetc.evaluate(done.directory).results[0].top1 == done.test_accuracy
    scope: dict[str, Any] = {"__name__": "standalone"}
    exec((done.directory / "model.py").read_text(), scope)
    from safetensors.torch import load_file

    weights = load_file(done.directory / "weights.safetensors")
    alone = scope["Model"]()
    alone.load_state_dict(weights)
    x = torch.rand(3, 1, 8, 8)
    outputs = [each.train()(x) for each in (model, alone)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.sum().backward()
    for (name, p), (_, q) in zip(model.named_parameters(), alone.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


EVENTS = MASKED.replace("events(2", "image(1")


@pytest.mark.parametrize(
    ("text", "change", "says"),
    [
        (PLAIN, "surrogate(beta = linear(1, 2))", "`surrogate.beta`.*no parameter `beta`"),
        (PLAIN, "neuron(tau = linear(0, 2))", "0 is not allowed: .*division by zero$"),
        (PLAIN, "neuron(tau = linear(-1, 2))", "0 is not allowed: .*division by zero$"),
        (PLAIN, "neuron(detach_reset = linear(0, 1))", "`neuron.detach_reset`, which is a choice"),
        (
            PLAIN.replace("= 3.0", "= learn(3.0, above = 1)"),
            "neuron(tau = linear(2, 3))",
            r"`neuron\.tau`, which is learnt",
        ),
        (
            PLAIN.replace("-> spike", "-> IF"),
            "neuron(tau = linear(2, 3))",
            "no layer of network `small` has it",
        ),
        (EVENTS, "linear(masked = linear(0, 2))", "2 is not allowed: .*lie between 0 and 1"),
        (EVENTS, "linear(window = linear(1, 2))", "no layer of network `small` has it; write"),
        (PLAIN, "linear(masked = linear(0, 1))", r"write `linear\(..., masked = scheduled\(0\)\)`"),
    ],
)
def test_what_a_network_refuses(tmp_path: Path, text: str, change: str, says: str) -> None:
    text += f"recipe r {{ epochs = 1; optimizer = sgd(lr = 0.1); change = {change} }}"
    warnings.simplefilter("ignore")  # of values that are no leaks
    with pytest.raises(UserError, match=says):
        danetc.train(text=text, data="digits", output=tmp_path / "run")


def test_a_changed_parameter_cannot_be_set(tmp_path: Path) -> None:
    recipe = "epochs = 1; optimizer = sgd(lr = 0.1); change = neuron(tau = linear(2, 3))"
    text = f"{PLAIN} recipe r {{ {recipe} }}"
    with pytest.raises(UserError, match=r"`neuron.tau` is set to 2.0, but recipe `r` changes it"):
        danetc.train(text=text, set={"neuron.tau": 2.0}, output=tmp_path)


def test_where_else_it_cannot_stand() -> None:
    with pytest.raises(SpecError, match="cannot be combined with values"):
        danetc.build(text=PLAIN.replace("in -> conv", "(scheduled(2.0) * in) -> conv"))
    for change in ("neuron(linear(1, 2))", "norm(eps = linear(1, 2))", "3", "linear(1, 2)"):
        with pytest.raises(SpecError):
            recipe(f"{FEW_EPOCHS} change = {change}")
    with pytest.raises(SpecError, match="changes twice"):
        recipe(f"{FEW_EPOCHS} change = neuron(tau = linear(1, 2)) + neuron(tau = linear(1, 3))")
