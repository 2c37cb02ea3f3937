"""Networks of every operation in all of their forms, against the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from danetc.compiler import check_text
from tests.differential.looped import LOOPED
from tests.differential.networks import TOKENS, VARIETY
from tests.differential.test_shared import SIAMESE
from tests.fuzzing import compare
from tests.fuzzing.compare import Case, Subject, compiling
from tests.fuzzing.forms import FORMS, _check_form

QUICK = (
    "two lines", "feedback", "earlier values", "siamese", "several_inputs", "by_step", "attention", "lists",
    *TOKENS,
)  # fmt: skip
NETWORKS = {**VARIETY, **LOOPED, **SIAMESE, **TOKENS}


@pytest.fixture(autouse=True)
def _near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "NEAR", 1e-10)  # roundings of float64 are smaller


def check(name: str, modes: Sequence[bool], forms: Sequence[str]) -> None:
    """Compare a network on both backends, in training or not, and in further forms."""
    subject = Subject(check_text(f"use std\n{NETWORKS[name]}"), "net", 3, torch.float64)
    case = Case()
    with compiling(False):
        fused = subject.emitted("fused")
        for training in modes:
            subject.check(subject.model, training, "eager", case)
            subject.check(fused, training, "fused", case)
        for form in forms:
            _check_form(subject, form, fused, case)
    assert case.compared["eager, training"] == case.compared["fused, training"] == 1
    assert case.near == case.unstable == case.infinite == 0


@pytest.mark.parametrize("name", QUICK)
def test_training_is_the_interpreter_s(name: str) -> None:
    check(name, [True], [])


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_is_the_interpreter_s(name: str) -> None:
    check(name, [False, True], FORMS)
