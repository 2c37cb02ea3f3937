"""Commands as functions: what the parser makes of signatures, and that no parameter is lost."""

from __future__ import annotations

import importlib
from dataclasses import fields, is_dataclass
from typing import Any

import click
import pytest

from danetc.arguments import hints_of, split_hint
from danetc.commands.parser import make_command
from danetc.main import COMMANDS


def function_of(name: str) -> Any:
    module = importlib.import_module(f"danetc.commands.{COMMANDS[name][0]}")
    return getattr(module, f"{name}_command")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_on_the_command_line_and_explained(name: str) -> None:
    """An annotation that cannot be evaluated would drop its parameter without a word."""
    function = function_of(name)
    wanted: set[str] = set()
    for key, hint in hints_of(function).items():
        if is_dataclass(hint) and key != "return":
            kinds = hints_of(hint)  # type: ignore[arg-type]
            names = {each.name for each in fields(hint)}
            wanted |= {each for each in names if not split_hint(kinds[each])[1].python}
        elif key != "return":
            wanted.add(key)
    command = make_command(name, function)
    found = {each.name: each for each in command.params}
    assert found.keys() - {"json"} == wanted
    for each in found.values():
        assert not isinstance(each, click.Option) or each.help, each.name
