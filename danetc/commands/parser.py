"""Commands as functions: the parser, ``--help``, completion and ``--json`` follow from the signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, is_dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click

from danetc.arguments import Option, described, help_of, hints_of, split_hint
from danetc.dsl.diagnostics.habits import answer
from danetc.errors import UserError
from danetc.output.echo import echo, json_text


@dataclass(frozen=True)
class Answer:
    """Result of a command.

    ``record`` is printed with ``--json``, otherwise ``show()`` prints the result. Then ``then()`` is
    called, and the command exits with ``status``.
    """

    record: Any
    show: Callable[[], object]
    status: int = 0
    then: Callable[[], object] = lambda: None


def json_wanted() -> bool:
    """Return True if the running command prints JSON."""
    return bool(click.get_current_context().params["json"])


def require(*names: str) -> None:
    """Raise a usage error if the command line lacks one of these arguments."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and not context.params[parameter.name]:
            raise click.MissingParameter(ctx=context, param=parameter)


LOADS = {
    "bench", "build", "convert", "data", "eval", "export", "measure", "predict", "record", "report",
}  # fmt: skip
"""Commands besides ``train`` that run code that is allowed: layers of networks, steps of ``augment``."""


def make_command(name: str, function: Callable[..., Any]) -> click.Command:
    """Return the command of a function.

    A parameter whose type is a dataclass stands for the fields of that class. A function that returns an
    Answer has ``--json``, which is short for ``--format json`` if there is a parameter ``form``. Other
    functions return an exit status or None.
    """
    hints = hints_of(function)
    result = hints.pop("return")
    requests = {key: _parameters(hints[key]) for key in hints if is_dataclass(hints[key])}
    params = [*chain(*requests.values()), *_parameters(function)]
    form = "form" in hints
    if form or Answer in (result, *get_args(result)):
        text = "Short for --format json." if form else "Print JSON."
        params.append(click.Option(["--json"], is_flag=True, help=text))

    if name in LOADS:
        text, place = help_of(function, "allow_code"), "FILE.py:NAME"
        params.append(click.Option(["--allow-code"], multiple=True, metavar=place, help=text))

    def call(**given: Any) -> None:
        values = {name: value for name, value in given.items() if value is not None}
        json = values.pop("json", False)
        if allowed := name in LOADS and values.pop("allow_code"):
            from danetc.compiler.ir.ops.user import allow_code  # late: only if it is given

            allow_code(*allowed)
        if form and json:
            values["form"] = "json"
        for key, fields in requests.items():
            names = [each.name for each in fields if each.name in values]
            try:
                values[key] = hints[key](**{name: values.pop(name) for name in names})
            except UserError as error:
                raise click.UsageError(str(error)) from error
        answer = function(**values)
        if not isinstance(answer, Answer):
            raise click.exceptions.Exit(answer or 0)
        if json:
            echo(json_text(answer.record))
        else:
            answer.show()
        answer.then()
        raise click.exceptions.Exit(answer.status)

    return _Command(name, params=params, callback=call, help=described(function)[0])


class _Command(click.Command):
    """A command that answers an unknown option with the setting that it stands for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            own = {each.name for each in self.params}
            said = answer("command", error.option_name)
            if said is None or "set" not in own or ("recipe." in said and "recipe" not in own):
                raise
            raise click.UsageError(f"no such option: {error.option_name}; {said}", ctx) from None


SHORT = {"level": "-l", "network": "-n", "networks": "-n", "output": "-o", "quiet": "-q"}


def _parameters(function: Callable[..., Any]) -> list[click.Parameter]:
    """Return the arguments and options of a function, or of a dataclass, without those of requests."""
    hints = hints_of(function)
    return [
        _parameter(function, parameter, kind, option)
        for parameter in inspect.signature(function).parameters.values()
        for kind, option in [split_hint(hints[parameter.name])]
        if not (option.python or is_dataclass(kind))
    ]


def _parameter(
    function: Callable[..., Any], parameter: inspect.Parameter, kind: Any, option: Option
) -> click.Parameter:
    """Return the argument or option of a parameter whose annotation is ``kind``."""
    name, default = parameter.name, parameter.default
    container, element = _container(kind)
    several = container is not None and option.separator is None
    settings: dict[str, Any] = {
        "metavar": option.metavar or ("N" if kind is int else None),
        "callback": partial(_finished, option, container),
        "required": default is parameter.empty,
    }
    if kind is not bool:
        settings["type"] = _click_type(option, element)
    positional = parameter.kind is not parameter.KEYWORD_ONLY and name not in SHORT
    if positional and option.flag is None:
        settings["metavar"] = f"{option.metavar}..." if several else option.metavar
        return click.Argument([name], nargs=-1 if several else 1, **settings)
    flag = option.flag or f"--{name.replace('_', '-')}"
    if kind is bool:
        if default and "/" not in flag:
            flag = f"{flag}/--no-{flag[2:]}"
        settings |= {"is_flag": True, "default": default, "show_default": default}
    elif several:
        settings |= {"multiple": True, "required": False}
    elif default not in (None, (), parameter.empty) and option.missing is None:
        settings |= {"default": default, "show_default": True}
    flags = [SHORT[name]] if name in SHORT else []
    return click.Option([*flags, flag, name], help=help_of(function, name), **settings)


def _container(kind: Any) -> tuple[type | None, Any]:
    """Return the container in an annotation and the type of its elements, or None and the type."""
    for each in get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,):
        origin = get_origin(each)
        if isinstance(origin, type) and issubclass(origin, Collection):
            return origin, get_args(each)[0]
    return None, kind


def _click_type(option: Option, kind: Any) -> click.ParamType[Any]:
    """Return the type of the values of a parameter, whose annotation is ``kind``."""
    found: click.ParamType[Any] = click.STRING
    if get_origin(kind) is Literal:
        found = click.Choice(get_args(kind))
    elif kind is int:
        found = click.IntRange(option.least, option.most)  # type: ignore[arg-type]
    elif kind is float:
        found = click.FloatRange(option.least, option.most)
    elif kind is Path:
        found = click.Path(path_type=Path)
    parsed = option.parse is not None or option.separator is not None
    return _Parsed(option, found) if parsed else found


class _Parsed(click.ParamType):  # type: ignore[type-arg]
    """Type of values that an Option parses, or splits into elements of another type."""

    name = "text"

    def __init__(self, option: Option, element: click.ParamType[Any]) -> None:
        self.option, self.element = option, element

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or (param is not None and value == param.default):
            return value
        if self.option.parse is not None:
            try:
                return self.option.parse(value)
            except ValueError as error:
                self.fail(str(error), param, ctx)
        parts = (part.strip() for part in value.split(self.option.separator))
        return tuple(dict.fromkeys(self.element.convert(part, param, ctx) for part in parts))

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str | None:
        return None if self.option.missing is None else self.option.missing()


def _finished(
    option: Option, container: Any, context: click.Context, parameter: click.Parameter, value: Any
) -> Any:
    """Return the value of a parameter; a mapping is made of pairs."""
    if container is not Mapping:
        return value
    found: dict[str, Any] = {}
    for key, item in value:
        if key in found:
            raise click.BadParameter(f"{key} is set twice", context, parameter)
        found[key] = item
    return found
