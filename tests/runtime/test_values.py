"""Learnt values of neurons within their bounds, against their formulas in float64."""

from __future__ import annotations

from math import exp, log1p
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc
from danetc.main import main
from tests.runtime.training.common import STILL

TEXT = (
    STILL.replace("neuron = LIF", "neuron = mine")
    + """
neuron mine {
  state u = 0
  a = learn(0.25, above = 0, below = 1)
  b = learn(2, above = 1)
  c = learn(-1, below = 0, per = channel)
  d = learn(0.5)
  v = a * u + b * x + c * d
  s = heaviside(v - 1)
  u = v * (1 - s)
}
"""
)


def numbers(neuron: Any) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in neuron.values().items()}


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_values_are_within_their_bounds(backend: str) -> None:
    model = danetc.build(text=TEXT, seed=1, backend=backend)
    neuron: Any = model.get_submodule("stem.spike")
    start = {"a": [0.25], "b": [2.0], "c": [-1.0] * 8, "d": [0.5]}
    assert numbers(neuron) == {name: pytest.approx(values) for name, values in start.items()}
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter) + 0.7)
    softplus = [log1p(exp(number + 0.7)) for number in range(8)]
    expected = {"a": [1 / (1 + exp(-0.7))], "b": [1 + softplus[0]], "d": [0.7]}
    expected["c"] = [-value for value in softplus]
    found = numbers(neuron)
    assert found == {name: pytest.approx(values, rel=1e-6) for name, values in expected.items()}
    assert neuron.values()["c"].shape == (8, 1, 1)
    assert not neuron.values()["a"].requires_grad


def test_measure_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.danet").write_text(TEXT)
    Path("plain.danet").write_text(STILL)
    for spec in ("mine.danet", "plain.danet"):
        common = ["--data", "digits", "--batches", "1", "--only", "firing-rate"]
        assert main(["measure", spec, *common]) == 0
        out = capsys.readouterr().out
        assert ("a 0.25, b 2, c -1, d 0.5" in out) == (spec == "mine.danet")
        assert ("learnt" in out) == (spec == "mine.danet")
    rates = danetc.measure("mine.danet", "digits", batches=1, only=["firing-rate"]).firing_rate
    assert rates is not None
    assert rates.layers[0].learnt["b"] == pytest.approx(2.0)
