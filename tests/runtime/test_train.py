"""Training: its formulas against ones written here, its loop on a small network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import danetc
import pytest
import torch
from danetc.dsl.diagnostics import Reporter
from danetc.dsl.modules import load_module
from danetc.dsl.recipe import Item, Phase, Recipe, resolve_recipe
from danetc.dsl.source import SourceFile
from danetc.runtime.data import DataError, DataSet, Memory, open_data
from danetc.runtime.train import (
    Epoch,
    TrainingError,
    make_loss,
    make_optimizer,
    schedule,
    train,
)
from torch import nn
from torch.nn import functional as F

NETWORK = """
use std
network small {
  input  = image(1, 8, 8)
  steps  = 2
  neuron = LIF
  surrogate = sigmoid(alpha = 4)
  stem   = conv(8) -> norm -> spike
  stages = stage(basic(8), 1) via sew
  head   = avgpool -> %s linear(10)
}
"""


def recipe(body: str, **overrides: Any) -> Recipe:
    reporter = Reporter()
    module = load_module(SourceFile("test.danet", f"recipe test {{ {body} }}"), reporter)
    reporter.raise_if_errors()
    found = resolve_recipe(module.own["test"], overrides, reporter, module)
    reporter.raise_if_errors()
    assert found is not None
    return found


def phase(body: str) -> Phase:
    return recipe(body).phases[0]


class Silent:
    """An observer that counts."""

    def __init__(self) -> None:
        self.batches = 0
        self.epochs: list[Epoch] = []

    def begin(self, phase: str, epochs: int, batches: int) -> None:
        self.expected = epochs * batches

    def batch(self, epoch: int, loss: float) -> None:
        self.batches += 1

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


@pytest.fixture(scope="module")
def few() -> DataSet:
    """200 of the digits to train on, 60 to test."""
    data = open_data("digits")
    return replace(
        data,
        train=Memory(data.train.images[:200], data.train.labels[:200]),
        test=Memory(data.test.images[:60], data.test.labels[:60]),
    )


def small(time: str = "mean_over_time ->") -> Any:
    return danetc.build(text=NETWORK % time, seed=1)


def run(
    model: Any, data: DataSet, chosen: Phase, seed: int = 3
) -> tuple[list[Epoch], nn.Module, Silent, list[Mapping[str, torch.Tensor]]]:
    observer = Silent()
    saved: list[Mapping[str, torch.Tensor]] = []
    history, kept = train(
        model,
        data,
        chosen,
        seed=seed,
        observer=observer,
        save=lambda model, epoch: saved.append(
            {name: value.clone() for name, value in model.state_dict().items()}
        ),
        device=torch.device("cpu"),
    )
    return history, kept, observer, saved


ADAM = "epochs = 3; batch = 50; optimizer = adamw(lr = 0.01)"


# -- formulas --------------------------------------------------------------------------------------


def test_warmup_rises_linearly_and_reaches_one_with_its_last_batch() -> None:
    chosen = phase("epochs = 10; warmup = 2; optimizer = sgd(lr = 1.0)")
    shares = [schedule(chosen, index / 4, 1 / 4) for index in range(10)]
    assert shares == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1])


def test_step_multiplies_at_each_milestone() -> None:
    chosen = phase("epochs = 9; optimizer = sgd(lr = 1.0); schedule = step(3, 6, factor = 0.1)")
    shares = [schedule(chosen, float(epoch), 1.0) for epoch in range(9)]
    assert shares == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)


def test_step_changes_at_the_first_batch_of_its_epoch_whatever_the_rounding() -> None:
    chosen = phase("epochs = 60; optimizer = sgd(lr = 1.0); schedule = step(30, factor = 0.1)")
    batches = 23
    assert schedule(chosen, 29 + 22 / batches, 1 / batches) == 1
    assert schedule(chosen, 30.0, 1 / batches) == pytest.approx(0.1)


def test_cosine_ends_with_the_last_batch() -> None:
    chosen = phase(
        "epochs = 6; warmup = 1; optimizer = sgd(lr = 1.0); schedule = cosine(end = 0.1)"
    )
    batches = 4
    shares = [schedule(chosen, index / batches, 1 / batches) for index in range(6 * batches)]
    after = shares[batches:]
    expected = [
        0.1 + 0.9 * (1 + math.cos(math.pi * index / (len(after) - 1))) / 2
        for index in range(len(after))
    ]
    assert after == pytest.approx(expected)
    assert after[-1] == pytest.approx(0.1)


def test_cross_entropy_takes_the_mean_over_time() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, 5, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1])
    loss = make_loss(Item("cross_entropy", (("label_smoothing", 0.1),)))
    mean = output.mean(0)
    smooth = torch.full((5, 3), 0.1 / 3) + F.one_hot(labels, 3) * 0.9
    expected = -(smooth * mean.log_softmax(-1)).sum(-1).mean()
    assert torch.allclose(loss(output, labels), expected)
    assert torch.allclose(loss(mean, labels), expected)


def test_tet_takes_every_step() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, 5, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1])
    item = phase("epochs = 1; optimizer = sgd(lr = 1.0); loss = tet(weight = 0.2, target = 2)").loss
    entropy = -output.log_softmax(-1)[:, torch.arange(5), labels].mean()
    expected = 0.8 * entropy + 0.2 * ((output - 2) ** 2).mean()
    assert torch.allclose(make_loss(item)(output, labels), expected)
    with pytest.raises(TrainingError, match="mean_over_time"):
        make_loss(item)(output[0], labels)


def test_optimizers_get_what_the_recipe_says() -> None:
    model = nn.Linear(2, 2)
    sgd = phase("epochs = 1; optimizer = sgd(lr = 0.5, momentum = 0.9, weight_decay = 1e-4)")
    group = make_optimizer(model, sgd.optimizer).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.9, 1e-4)
    adamw = phase("epochs = 1; optimizer = adamw(lr = 0.1, beta2 = 0.95)")
    group = make_optimizer(model, adamw.optimizer).param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.9, 0.95), 0.0)


# -- the loop --------------------------------------------------------------------------------------


def test_training_learns_reports_and_saves_each_epoch(few: DataSet) -> None:
    chosen = phase("epochs = 12; batch = 50; optimizer = adamw(lr = 0.02)")
    history, kept, observer, saved = run(small(), few, chosen)
    assert [epoch.epoch for epoch in history] == list(range(1, 13))
    assert observer.epochs == history
    assert observer.batches == observer.expected == 12 * 4
    assert history[-1].train_loss < history[0].train_loss
    assert history[-1].train_accuracy > 0.4  # chance is 0.1
    assert len(saved) == 12
    assert all(torch.equal(value, saved[-1][name]) for name, value in kept.state_dict().items())
    assert any(not torch.equal(saved[0][name], saved[1][name]) for name in saved[0])


def test_the_same_seed_gives_the_same_training(few: DataSet) -> None:
    chosen = phase(ADAM + "; augment = random_crop(8, padding = 1)")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, one, _, _ = run(small(), few, chosen)
    assert torch.equal(torch.get_rng_state(), state), "the global random state has changed"
    torch.manual_seed(6)
    second, two, _, _ = run(small(), few, chosen)
    other, _, _, _ = run(small(), few, chosen, seed=4)
    without = [replace(epoch, seconds=0.0) for epoch in first]
    assert without == [replace(epoch, seconds=0.0) for epoch in second]
    assert without != [replace(epoch, seconds=0.0) for epoch in other]
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])


def test_a_head_that_keeps_time_is_trained_too(few: DataSet) -> None:
    history, _, _, _ = run(small(time=""), few, phase(ADAM))
    assert history[-1].train_loss < history[0].train_loss
    history, _, _, _ = run(small(time=""), few, phase(ADAM + "; loss = tet"))
    assert history[-1].train_loss < history[0].train_loss


def test_accumulated_parts_make_one_step(few: DataSet) -> None:
    # Without a norm the parts of a batch do not see each other, so only rounding differs.
    text = (NETWORK % "mean_over_time ->").replace("norm -> ", "").replace("via sew", "via bare")
    text += "connection bare { each = conv -> spike; projection = conv; out = branch + shortcut }"
    states = []
    for parts in (1, 2):
        model = danetc.build(text=text, seed=1).double()
        data = replace(
            few,
            train=Memory(few.train.images.double(), few.train.labels),
            test=Memory(few.test.images.double(), few.test.labels),
        )
        chosen = phase(f"epochs = 1; batch = 50; accumulate = {parts}; optimizer = sgd(lr = 0.1)")
        _, kept, _, _ = run(model, data, chosen)
        states.append(kept.state_dict())
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-10), name


def test_the_running_mean_of_the_weights_is_kept(few: DataSet) -> None:
    model = small()
    _, kept, _, saved = run(model, few, phase(ADAM + "; ema = 0.5"))
    assert kept is not model
    assert all(torch.equal(value, saved[-1][name]) for name, value in kept.state_dict().items())
    assert any(
        not torch.equal(value, kept.state_dict()[name])
        for name, value in model.state_dict().items()
    )


def test_clipping_bounds_the_step(few: DataSet) -> None:
    model = small()
    before = torch.cat([p.detach().clone().flatten() for p in model.parameters()])
    run(model, few, phase("epochs = 1; batch = 200; clip = 1e-3; optimizer = sgd(lr = 1.0)"))
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert 0 < (after - before).norm() <= 1.001e-3


def test_a_loss_that_is_not_finite_stops_with_the_last_epoch_kept(few: DataSet) -> None:
    model = small()
    with torch.no_grad():
        list(model.parameters())[-1].fill_(math.nan)  # the head's bias: no neuron hides it
    with pytest.raises(TrainingError, match=r"phase `train`, epoch 1, batch 1.*lower optimizer.lr"):
        run(model, few, phase(ADAM))


def test_a_network_for_other_images_is_refused_before_training(few: DataSet) -> None:
    text = (NETWORK % "mean_over_time ->").replace("image(1, 8, 8)", "image(3, 16, 16)")
    with pytest.raises(DataError, match=r"image\(1, 8, 8\)"):
        run(danetc.build(text=text), few, phase(ADAM))


def test_a_last_batch_of_one_image_is_left_out(few: DataSet) -> None:
    data = replace(few, train=Memory(few.train.images[:51], few.train.labels[:51]))
    _, _, observer, _ = run(
        small(), data, phase("epochs = 1; batch = 50; optimizer = sgd(lr = 0.1)")
    )
    assert observer.batches == 1
