"""What a source of `danetc import` names: a model of Python code, or a file."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.errors import UserError

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
    return _attribute(_module(module), attribute)


@contextmanager
def _here() -> Any:
    """Modules of the folder that danetc is called in can be imported."""
    place = str(Path.cwd())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _module(name: str) -> Any:
    with _here():
        try:
            if not name.endswith(".py"):
                return importlib.import_module(name)
            file = Path(name)
            spec = importlib.util.spec_from_file_location(file.stem, file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except FileNotFoundError as error:
            raise UserError(f"there is no file {name}") from error
        except Exception as error:
            raise UserError(
                f"{name} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        return module


def _attribute(module: Any, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError as error:
        names = [item for item in vars(module) if not item.startswith("_")]
        close = did_you_mean(name, names)
        raise UserError(
            f"{module.__name__} has no {name}" + (f"; {close}" if close else "")
        ) from error


def made(factory: Factory) -> nn.Module:
    """The model of a factory, which is called with its arguments. Raises UserError."""
    found = _attribute(_module(factory.module), factory.name)
    name = f"{factory.module}:{factory.name}"
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UserError(f"{name} is a {type(found).__name__}, neither a model nor a function")
        try:
            found = found(**factory.arguments)
        except TypeError as error:
            raise UserError(
                f"{name} cannot be called so: {error}. Arguments are given by name: "
                f"'{name}(depth=18)'"
            ) from error
        except Exception as error:
            raise UserError(f"{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, nn.Module):
        raise UserError(f"{name} gives a {type(found).__name__}, not a torch.nn.Module")
    return found
