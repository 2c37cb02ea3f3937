"""Networks of every operation in all of their forms, against the interpreter."""

from __future__ import annotations

import pytest
import torch

from danetc.compiler import check_text
from tests.differential.networks import VARIETY
from tests.fuzzing import compare
from tests.fuzzing.compare import Case, Subject, compiling
from tests.fuzzing.forms import FORMS, _check_form

NESTED = """
connection sewn { each = conv -> spike; out = shortcut + branch }
block inner { out = in -> (stage(single(3), 2) via sewn by feedback) }
network net {
  input = events(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  a = in -> conv(3)
  h = a * (h -> delay(1) -> inner -> avgpool -> sigmoid) + (h -> delay(2))
  g = ((g -> delay(1) -> (stage(single(3), 2) via sewn by feedback)) + a) -> spike
  out = (h + g) -> avgpool -> linear(3)
}"""
"""Stages in loops of lines, of which the first reading knows no shape."""

NETWORKS = {**VARIETY, "stages_within_loops": NESTED}


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_is_the_interpreter_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "NEAR", 1e-10)  # roundings of float64 are smaller
    subject = Subject(check_text(f"use std\n{NETWORKS[name]}"), "net", 3, torch.float64)
    case = Case()
    with compiling(False):
        fused = subject.emitted("fused")
        for training in (False, True):
            subject.check(subject.model, training, "eager", case)
            subject.check(fused, training, "fused", case)
        for form in FORMS:
            _check_form(subject, form, fused, case)
    assert case.compared["eager, training"] == case.compared["fused, training"] == 1
    assert case.near == case.unstable == case.infinite == 0
