"""What a source of `danetc import` names: a model of Python code, or a file."""

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
    """``MODULE:FACTORY(name = value, ...)``, read and not yet called."""

    module: str
    name: str
    arguments: Mapping[str, Any]


def parse_factory(text: str) -> Factory:
    """Read ``MODULE:FACTORY`` or ``MODULE:FACTORY(name = value, ...)``. Nothing is run.

    A value is a Python literal, or the dotted name of something that can be imported. Raises
    UserError.
    """
    found = _SOURCE.match(text)
    if found is None:
        raise UserError(
            f"{text!r} names neither a file nor a model: write MODULE:FACTORY, as in "
            "torchvision.models:resnet18 or my_nets.py:make(depth=18)"
        )
    given = found["arguments"]
    return Factory(found["module"], found["factory"], {} if given is None else _arguments(given))


def _arguments(text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f{text}", mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{text} are no arguments: {error.msg}") from error
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise UserError(f"{text}: give arguments by name, as in (depth=18, cnf='ADD')")
    return {str(item.arg): _value(item.value) for item in call.keywords}


def _value(node: ast.expr) -> Any:
    name = _dotted(node)
    if name is not None:
        return _imported(name)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UserError(
            f"{ast.unparse(node)} is not a literal (18, 'ADD', True, (1, 2)) nor the dotted name of "
            "something that can be imported; write a factory without arguments in a file of yours"
        ) from error


def _dotted(node: ast.expr) -> str | None:
    match node:
        case ast.Attribute(value, attr):
            front = _dotted(value)
            return None if front is None else f"{front}.{attr}"
        case ast.Name(id):
            return id
    return None


def _imported(name: str) -> Any:
    """Something of a module, by its dotted name."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise UserError(f"{name} is neither a literal nor the dotted name of something in a module")
    return _found(f"{module}:{attribute}")


def _found(place: str) -> Any:
    try:
        return found_at(place)
    except UserCodeError as error:
        raise UserError(str(error)) from error


def made(factory: Factory) -> nn.Module:
    """The model of a factory, which is called with its arguments. Raises UserError."""
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
                    f"{name} cannot be called so: {error}. Arguments are given by name: "
                    f"'{name}(depth=18)'"
                ) from error
            raise UserError(f"{name} failed: {where_it_failed(error)}") from error
    if not isinstance(found, nn.Module):
        raise UserError(f"{name} gives a {type(found).__name__}, not a torch.nn.Module")
    return found
