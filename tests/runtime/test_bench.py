"""Timing of training steps against each other."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from benchmarks.steps import TrainingStep, mean_over_steps
from benchmarks.timing import WARM_UP, Sample, medians, ratio, time_interleaved

CPU = torch.device("cpu")


def step_of(model: nn.Module, features: int = 6, **options: object) -> TrainingStep:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, features, generator=generator)
    labels = torch.randint(3, (8,), generator=generator)
    return TrainingStep(model, x, labels, **options)  # type: ignore[arg-type]


def test_a_step_prepares_and_resets_before_each_forward_pass() -> None:
    calls: list[str] = []

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            calls.append(f"forward {tuple(x.shape)}")
            y: Tensor = self.linear(x)
            return y

    step = step_of(
        Steps(),
        prepare=lambda x: x.expand(4, *x.shape),
        read=mean_over_steps,
        reset=lambda: calls.append("reset"),
    )
    step()
    step()
    assert calls == ["reset", "forward (4, 8, 6)"] * 2


def test_a_race_is_interleaved_and_turned_round() -> None:
    calls: list[str] = []
    ticks: list[str] = []

    def step(name: str) -> None:
        calls.append(name)
        time.sleep(0.002)

    steps = {name: lambda name=name: step(name) for name in "abc"}
    samples = time_interleaved(steps, CPU, 4, sample=0.002, on_progress=ticks.append)
    warm_up = [name for name in "abc" for _ in range(WARM_UP + 1)]
    assert calls[: len(warm_up)] == warm_up
    assert calls[len(warm_up) :] == [*"abc", *"cba", *"abc", *"cba"]
    assert ticks == [*"abc", *"abc", *"cba", *"abc", *"cba"]
    assert {name: len(each) for name, each in samples.items()} == dict.fromkeys("abc", 4)


def test_ratios_are_those_of_the_same_round() -> None:
    # The machine becomes four times slower: medians alone would say something else.
    base = [Sample(cpu, 9.0) for cpu in (1.0, 1.0, 4.0)]
    other = [Sample(cpu, 1.0) for cpu in (1.5, 6.0, 6.0)]
    assert ratio({"base": base, "other": other}, "other", "base") == 1.5
    assert ratio({"base": base, "other": other}, "base", "base") == 1.0
    assert medians(other) == Sample(6.0, 1.0)
