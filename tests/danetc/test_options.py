"""`--set NAME=VALUE`."""

from __future__ import annotations

import pytest

from danetc.arguments import Setting, parse_setting


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("shift=-3", "shift", -3),
        ("lr=1e-4", "lr", 1e-4),
        ("flag=true", "flag", True),
        ("neuron=LIF", "neuron", "LIF"),
        (" neuron = LIF(tau = 4.0) ", "neuron", "LIF(tau = 4.0)"),
        ("recipe.full.epochs=5", "recipe.full.epochs", 5),
        ("a=b==c", "a", "b==c"),
        ("a=1_000", "a", "1_000"),  # not a number of the language, so left to the compiler
        ("a=nan", "a", "nan"),
        ("a=" + "9" * 5000, "a", "9" * 5000),  # int() would refuse it
        ("a=9**9**9", "a", "9**9**9"),
    ],
)
def test_values_that_read_as_numbers_are_numbers(text: str, name: str, value: Setting) -> None:
    found = parse_setting(text)
    assert found == (name, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    "text", ["", "steps", "=2", "steps=", "steps= ", "1a=2", "a b=2", "a..b=2", "é=1", "a;b=1"]
)
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=VALUE"):
        parse_setting(text)
