"""Losses, optimizers and schedules against formulas written here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.items import ITEMS, OPTIMIZERS
from danetc.dsl.recipe.schema import WordType
from danetc.runtime.layers.norm import StepBatchNorm2d
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.losses import LOSSES, of_term
from danetc.runtime.training.optim import SCHEDULES, Schedules, make_optimizer
from tests.runtime.training.common import phase

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
    """The warm-up reaches 1 and the cosine its end with their last batch; a step is at the first
    batch of its epoch, whatever the rounding."""
    chosen = phase(f"{settings}; optimizer = sgd(lr = 0.5)")
    optimizer = make_optimizer(nn.Linear(1, 1), chosen.optimizer)
    schedules = Schedules(chosen, batches, optimizer)
    for done, share in enumerate(expected):
        schedules.put(done)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * share)


def test_cross_entropy_takes_the_mean_over_time() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, 5, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1])
    loss = of_term(Item("cross_entropy", (("label_smoothing", 0.1),)))
    mean = output.mean(0)
    smooth = torch.full((5, 3), 0.1 / 3) + F.one_hot(labels, 3) * 0.9
    expected = -(smooth * mean.log_softmax(-1)).sum(-1).mean()
    assert torch.allclose(loss(output, labels), expected)
    assert torch.allclose(loss(mean, labels), expected)


def test_tet_takes_every_step() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, 5, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1])
    text = "epochs = 1; optimizer = sgd(lr = 1.0); loss = tet(weight = 0.2, target = 2)"
    (term,) = phase(text).loss
    loss = of_term(term.item)
    entropy = -output.log_softmax(-1)[:, torch.arange(5), labels].mean()
    expected = 0.8 * entropy + 0.2 * ((output - 2) ** 2).mean()
    assert torch.allclose(loss(output, labels), expected)
    with pytest.raises(TrainingError, match="mean_over_time"):
        loss(output[0], labels)


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.torch])
def test_an_optimizer_is_that_of_its_row(name: str) -> None:
    row = OPTIMIZERS[name]
    given = {argument.name: argument.default for argument in row.arguments} | {"lr": 0.1}
    model = nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    optimizer = make_optimizer(model, Item(row.name, tuple(given.items())))  # type: ignore[arg-type]
    assert type(optimizer).__name__ == row.torch
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)


READS = {
    "output": ["output", "labels"],
    "teacher": ["output", "teacher"],
    "neurons": ["layer", "values"],
}


@pytest.mark.parametrize(("family", "functions"), [("loss", LOSSES), ("schedule", SCHEDULES)])
def test_a_row_of_the_schema_has_a_function_that_takes_its_arguments(
    family: str, functions: Mapping[str, Callable[..., object]]
) -> None:
    assert functions.keys() == ITEMS[family].keys()
    for name, row in ITEMS[family].items():
        places = (WordType.NAME, WordType.PATH, WordType.LAYERS)
        names = [
            item.name for item in row.arguments if item.type not in places and item.name != "of"
        ]
        names += [row.many.name] if row.many is not None else []
        given = READS[row.reads] if family == "loss" else ["epoch", "done"]
        assert [*inspect.signature(functions[name]).parameters] == [*given, *names]


def test_only_weights_decay_where_the_recipe_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), StepBatchNorm2d(2, steps=3))
    chosen = phase(
        "epochs = 1; optimizer = sgd(lr = 0.5, weight_decay = 1e-4, decay = weights)"
    ).optimizer
    decays = {
        id(parameter): group["weight_decay"]
        for group in make_optimizer(model, chosen).param_groups
        for parameter in group["params"]
    }
    assert len(decays) == 6
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (1e-4 if name == "0.weight" else 0.0)
