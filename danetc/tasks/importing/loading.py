"""Sources of `danetc import` that are Python code: ``MODULE:FACTORY(name = value, ...)``."""

from __future__ import annotations

import ast
from typing import Any

from torch import nn

from danetc.errors import UserError
from danetc.runtime.system.user_code import found_at, where_it_failed


def load_model(text: str) -> tuple[str, nn.Module]:
    """Return the name of a factory and its model. Raises UserError.

    Values of arguments are Python literals, or dotted names of something that can be imported.
    """
    place, bracket, arguments = text.partition("(")
    module, _, name = place.strip().rpartition(":")
    if not module or not name.isidentifier():
        raise UserError(
            f"{text!r} names neither a file nor a model: write MODULE:FACTORY, as in "
            "torchvision.models:resnet18 or my_nets.py:make(depth=18)"
        )
    given = bracket + arguments or "()"
    try:
        call = ast.parse(f"f{given}", mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{given} are no arguments: {error.msg}") from error
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise UserError(f"{given}: give arguments by name, as in (depth=18, cnf='ADD')")
    values = {str(item.arg): _value(item.value) for item in call.keywords}
    found = found_at(f"{module}:{name}")
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UserError(f"{place} is a {type(found).__name__}, neither a model nor a function")
        try:
            found = found(**values)
        except (Exception, SystemExit) as error:
            own = error.__traceback__ is not None and error.__traceback__.tb_next is not None
            if isinstance(error, TypeError) and not own:
                raise UserError(
                    f"{place} cannot be called with these arguments: {error}. Give them by name: "
                    f"'{place}(depth=18)'"
                ) from error
            raise UserError(f"{place} failed: {where_it_failed(error)}") from error
    if not isinstance(found, nn.Module):
        raise UserError(f"{place} returns a {type(found).__name__}, not a torch.nn.Module")
    return name, found


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
    return found_at(f"{module}:{attribute}")
