"""Sources of `danetc import` that are Python code: ``MODULE:FACTORY(name = value, ...)``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from danetc.errors import UserError
from danetc.runtime.system.user_code import UserCodeError, found_at, where_it_failed

_SOURCE = re.compile(
    r"(?P<module>[^:()]+):(?P<factory>\w+)\s*(?P<arguments>\(.*\))?\s*\Z", re.DOTALL
)


@dataclass(frozen=True)
class Factory:
    """A factory that was read and not yet called."""

    module: str
    name: str
    arguments: Mapping[str, Any]


def parse_factory(text: str) -> Factory:
    """Read a factory without running it. Raises UserError.

    Values are Python literals, or dotted names of something that can be imported.
    """
    found = _SOURCE.match(text)
    if found is None:
        raise UserError(
            f"{text!r} names neither a file nor a model: write MODULE:FACTORY, as in "
            "torchvision.models:resnet18 or my_nets.py:make(depth=18)"
        )
    given = found["arguments"] or "()"
    try:
        call = ast.parse(f"f{given}", mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{given} are no arguments: {error.msg}") from error
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise UserError(f"{given}: give arguments by name, as in (depth=18, cnf='ADD')")
    arguments = {str(item.arg): _value(item.value) for item in call.keywords}
    return Factory(found["module"], found["factory"], arguments)


def _value(node: ast.expr) -> Any:
    text = ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        module, _, attribute = text.rpartition(".")
        if not module or not all(part.isidentifier() for part in text.split(".")):
            raise UserError(
                f"{text} is not a literal (18, 'ADD', True, (1, 2)) nor the dotted name of something "
                "in a module; write a factory without arguments in a file of yours"
            ) from error
    return _found(f"{module}:{attribute}")


def _found(place: str) -> Any:
    try:
        return found_at(place)
    except UserCodeError as error:
        raise UserError(str(error)) from error


def made(factory: Factory) -> nn.Module:
    """Return the model of a factory, called with its arguments. Raises UserError."""
    name = f"{factory.module}:{factory.name}"
    found = _found(name)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UserError(f"{name} is a {type(found).__name__}, neither a model nor a function")
        try:
            found = found(**factory.arguments)
        except (Exception, SystemExit) as error:
            own = error.__traceback__ is not None and error.__traceback__.tb_next is not None
            if isinstance(error, TypeError) and not own:
                raise UserError(
                    f"{name} cannot be called with these arguments: {error}. Give them by name: "
                    f"'{name}(depth=18)'"
                ) from error
            raise UserError(f"{name} failed: {where_it_failed(error)}") from error
    if not isinstance(found, nn.Module):
        raise UserError(f"{name} returns a {type(found).__name__}, not a torch.nn.Module")
    return found
