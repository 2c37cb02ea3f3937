"""`--set NAME=VALUE`, and options of other programs that stand for one."""

from __future__ import annotations

import shlex

import pytest

from danetc.arguments import Setting, parse_setting
from danetc.dsl.diagnostics.habits import habits
from danetc.tasks.networks import compile_spec
from danetc.tasks.training.plan import find_recipe

from .conftest import SMALL, Run


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


OPTIONS = {row.answer: row.name for row in habits() if "--set" in row.answer}


@pytest.mark.parametrize("answer", OPTIONS)
def test_an_option_of_other_programs_says_which_setting_to_write(danetc: Run, answer: str) -> None:
    option = f"--{OPTIONS[answer].replace('_', '-')}"
    result = danetc("train", "a.danet", option, "4")
    assert (result.status, result.out) == (2, "")
    assert f"no such option: {option}; {answer}" in result.err
    _, written = shlex.split(answer.split("`")[1])
    name, value = parse_setting(written)
    if name.startswith("recipe."):
        module = compile_spec(text=SMALL).checked.module
        recipe = find_recipe(module, None, "digits", {name.removeprefix("recipe."): value})
        assert "--set" in [origin.kind for _, origin in recipe.phases[0].origins]
    else:
        assert compile_spec(text=SMALL, settings={name: value}).graph


@pytest.mark.parametrize(
    "command", ["summary", "build", "draw", "prove", "bench", "measure", "search"]
)
def test_every_command_with_set_knows_the_options(danetc: Run, command: str) -> None:
    assert "write `--set steps=4`" in danetc(command, "a.danet", "--T=4").err
    said = danetc(command, "a.danet", "--epochs", "5").err
    assert ("write `--set recipe.epochs=5`" in said) == (command == "search")
    assert "Error:" in said
