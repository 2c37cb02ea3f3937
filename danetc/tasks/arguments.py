"""Arguments, what they may be, and checks of those of the Python interface, as click checks those of the
command line."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from danetc.errors import SaidElsewhere, UserError

P = ParamSpec("P")
R = TypeVar("R")
BACKENDS = ("eager", "fused", "spikingjelly")
PRECISIONS = ("float32", "mixed", "bf16")
MOST_STEPS = 10_000
"""Time steps that a network is run for."""


def check_choice(name: str, value: str | None, choices: Collection[str]) -> None:
    """Raise UserError unless ``value`` is one of ``choices``, or None."""
    if value is not None and value not in choices:
        raise UserError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def check_whole(name: str, value: int | None, least: int, most: int | None = None) -> None:
    """Raise UserError unless ``value`` is a whole number of this range, or None."""
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limit = f" to {most}" if most is not None else " or more"
        raise UserError(f"{name} is a whole number, {least}{limit}, not {value!r}")


def look_at_data(text: str, hint: str = "") -> None:
    """Raise UserError where there are no such data."""
    from danetc.runtime.sources.table import look_at
    from danetc.runtime.system.errors import DataError
    from danetc.runtime.system.torchrun import local_rank

    try:
        look_at(text)
    except DataError as error:
        kind = SaidElsewhere if local_rank() else UserError
        raise kind(f"{error}{hint}") from error


# -- types of the Python interface -----------------------------------------------------------------


class WrongType(UserError, TypeError):
    """An argument of a function of ``danetc`` is of a type that it does not take."""


def check_types(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with a check of its arguments against its annotations.

    The result is found under ``danetc`` by its name, also by pickle.
    """
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the function's own names it
            return function(*args, **kwargs)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if name not in hints:
                try:
                    hints[name] = eval(parameter.annotation, function.__globals__)
                except NameError:  # of a type that only type checkers import
                    hints[name] = object
            several = parameter.kind is parameter.VAR_POSITIONAL
            for each in value if several else (value,):
                if not _fits(each, hints[name]):
                    described = _described(function.__doc__ or "", name)
                    shown = repr(each) if isinstance(each, str | int | float | None) else "one"
                    raise WrongType(
                        f"danetc.{function.__name__} takes `{name}` as {parameter.annotation}"
                        f"{described}; not {shown} of type {type(each).__name__}"
                    )
                if isinstance(each, str) and "\0" in each and name != "text":
                    raise UserError(f"`{name}` of danetc.{function.__name__} holds a NUL character")
        return function(*args, **kwargs)

    checked.__module__ = "danetc"
    return checked


def _fits(value: object, hint: Any) -> bool:
    """True if a value is of an annotated type, as far as that can be told; numbers of NumPy are."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str)  # which of them, its function says
    if origin is tuple:
        return isinstance(value, tuple | list) and all(_fits(item, inner[0]) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    if origin is not None and issubclass(origin, Collection):
        text = isinstance(value, str | bytes)  # a sequence of texts, or of numbers
        plain = inner[0] in (str, int) or get_origin(inner[0]) is not None  # else it checks itself
        return (
            isinstance(value, origin)
            and not text
            and (not plain or all(_fits(item, inner[0]) for item in value))
        )
    if hint in (int, float, bool):  # a bool that is no number, its function refuses
        return isinstance(value, Real if hint is float else Integral)
    if hint is None:
        return value is None
    kind = origin or hint
    return (
        not isinstance(kind, type)
        or getattr(kind, "_is_protocol", False)
        or isinstance(value, kind)
    )


def _described(doc: str, name: str) -> str:
    """What the section Args of a docstring says of an argument, in brackets."""
    entry = rf"^ +\*?{name}: (.*?)(?:[.;](?:\s|$)|\n\s*\w+: |\n\n)"
    match = re.search(entry, doc, re.DOTALL | re.MULTILINE)
    return f" ({' '.join(match[1].split()).replace('``', '`')})" if match else ""
