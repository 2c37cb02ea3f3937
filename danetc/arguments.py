"""Types of arguments: the command line and the Python interface read the same annotations.

::

    def command(spec: Spec, *, batch: Annotated[int, Option("Images per batch.", least=1)] = 4) -> None: ...

Positional parameters are arguments on the command line, keyword-only ones are options. A frozen dataclass
(``danetc.requests``) stands for its fields. Importing this module loads neither click nor torch.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
)  # fmt: skip

from danetc.errors import SaidElsewhere, UserError
from danetc.setting import Setting, parse_setting

P = ParamSpec("P")
R = TypeVar("R")
Request = TypeVar("Request")

MOST_STEPS = 10_000
"""Largest number of time steps that a network is run for."""


@dataclass(frozen=True)
class Option:
    """Meaning of an argument, its spelling on the command line, and the values it takes.

    Args:
        help: Description. An entry in the section Args of the function or request replaces it.
        metavar: Placeholder for the value in the help.
        flags: Names of the option. The default is ``--NAME``, to which a short name such as ``-n`` is added.
        choices: Texts that the argument takes. The choices of a Literal need not be listed.
        least: Smallest number, included.
        most: Largest number, included.
        above: Lower bound of a number, not included.
        parse: Converts the text; raises ValueError or UserError.
        separator: Splits one text into several values.
        complete: Returns the names that a shell completes.
        files: True if a shell completes file names, too.
        explicit: True if the command line does not use the default of the parameter.
        missing: Returns what to say in addition if a required option is missing.
        apply: Called with the value before the command runs.
        python: True if only the Python interface has the argument.
    """

    help: str = ""
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    choices: Collection[str] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    parse: Callable[[str], Any] | None = None
    separator: str | None = None
    complete: Callable[[], Iterable[str]] | None = None
    files: bool = False
    explicit: bool = False
    missing: Callable[[], str] | None = None
    apply: Callable[[Any], None] | None = None
    python: bool = False


PYTHON = Option(python=True)


def look_at_data(text: str, hint: str = "") -> str:
    """Return the name of a data set. Raises UserError if there is none of this name."""
    from danetc.runtime.data.sources import look_at  # late, as below: only if it is given
    from danetc.runtime.system.errors import DataError
    from danetc.runtime.system.torchrun import local_rank

    try:
        look_at(text)
    except DataError as error:
        kind = SaidElsewhere if local_rank() else UserError
        raise kind(f"{error}{hint}") from error
    return text


def late(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports a name when it is called, and calls or returns its value."""

    def call(*arguments: Any) -> Any:
        value = getattr(importlib.import_module(module), name)
        return value(*arguments) if callable(value) else value

    return call


def _evaluate(text: str) -> Any:
    from danetc.dsl.recipe.text import read_setting

    return read_setting("evaluate", text, "--evaluate")


def _deny(value: bool) -> None:
    from danetc.output.spec_messages import deny_warnings

    if value:
        deny_warnings()


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_memory(text: str) -> str | int:
    """Return ``none``, ``recompute``, or the bytes of ``8GB``, ``512 MiB``, ``1.5G``.

    Raises ValueError.
    """
    from danetc.compiler.passes.recompute import POLICIES  # late: `--help` does without passes

    if text in POLICIES:
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", text, re.IGNORECASE)
    factor = _UNITS.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"{text!r} is no size: write it like 8GB, 512MiB or 1.5G, or name a policy: "
            f"{', '.join(POLICIES)}"
        )
    size = int(float(match[1]) * factor)
    if not size:
        raise ValueError(f"a size of 0 holds nothing; name a policy: {', '.join(POLICIES)}")
    return size


# -- arguments that several commands take ----------------------------------------------------------

SPECS = late("danetc.dsl.reading", "shipped_specs")
PRETRAINED = late("danetc.pretrained", "pretrained_sources")
SOURCES = "danetc.runtime.data.sources"
SPEC = Option("", "FILE|NAME", complete=SPECS, files=True)
Spec: TypeAlias = Annotated[str, SPEC]
DIRECTORY = Option("", "DIR", complete=PRETRAINED, files=True)
RUN = Option("", "RUN", complete=PRETRAINED, files=True)
Network: TypeAlias = Annotated[
    str, Option("Network to use if the file has several.", "NAME", ("-n",))
]
Settings: TypeAlias = Annotated[
    Mapping[str, Setting],
    Option(
        "Change a parameter or a setting of the network, as in steps=2, or an argument in a setting, "
        "as in neuron.tau=3. Can be repeated.",
        "NAME=VALUE",
        ("--set",),
        parse=parse_setting,
    ),
]
Place: TypeAlias = str | os.PathLike[str]
Count: TypeAlias = Annotated[int, Option(least=1)]
Seed: TypeAlias = Annotated[int, Option("Seed of all random numbers.", least=0, most=2**63 - 1)]
Batch: TypeAlias = Annotated[int, Option("Images per batch.", least=1)]
Workers: TypeAlias = Annotated[int, Option("Processes that read images.", least=0, most=1024)]
DATA = Option(
    "Data set, as in digits or folder:DIR.",
    "NAME[:DIR]",
    ("--data",),
    parse=look_at_data,
    complete=late(SOURCES, "SOURCES"),
    missing=late(SOURCES, "KNOWN"),
    explicit=True,
)
Data: TypeAlias = Annotated[str, DATA]
Classes: TypeAlias = Annotated[
    int, Option("Use this many classes of the data set, drawn at random.", least=2)
]
SubsetSeed: TypeAlias = Annotated[int, Option("Seed for drawing the classes.", least=0)]
Split: TypeAlias = Annotated[
    Literal["test", "train"], Option("Images to use. They are never augmented.")
]
BackendName: TypeAlias = Literal["eager", "fused", "spikingjelly"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
Backend: TypeAlias = Annotated[BackendName, Option("Backend that runs the network.")]
PrecisionName: TypeAlias = Literal["float32", "mixed", "bf16"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
Precision: TypeAlias = Annotated[PrecisionName, Option("Precision of the arithmetic.")]
Memory: TypeAlias = Annotated[
    str | int,
    Option(
        "What is saved for the backward pass. `recompute` runs blocks again instead; a SIZE, as in "
        "8GB or 512MB, selects the faster policy with which a training step fits.",
        "none|recompute|SIZE",
        parse=parse_memory,
    ),
]
Evaluate: TypeAlias = Annotated[
    Any,
    Option(
        "Preprocessing of images, written like a recipe's `evaluate`: 'resize(256) -> "
        "center_crop(224)', or none.  [default: the training's]",
        "STEPS",
        parse=_evaluate,
    ),
]
Init: TypeAlias = Annotated[
    str | os.PathLike[str],
    Option(
        "Start from these weights: safetensors, a state dict that contains only tensors, or "
        "pretrained:NAME.",
        "WEIGHTS",
    ),
]
Checkpoint: TypeAlias = Annotated[
    str,
    Option(
        "Use these weights of a run, as in best or epoch-0010.  [default: those of the last epoch]",
        "NAME",
    ),
]
AllowChanged: TypeAlias = Annotated[
    Collection[str],
    Option(
        "Accept this file of a directory, as in spec.danet, even if it was changed after danetc "
        "wrote it. Can be repeated.",
        "FILE",
    ),
]
Plot: TypeAlias = Annotated[Path, Option("", "OUT.svg|OUT.png")]
Force: TypeAlias = Annotated[bool, Option("Replace an existing file.")]
Quiet: TypeAlias = Annotated[bool, Option("Show no progress.", flags=("-q",))]
DenyWarnings: TypeAlias = Annotated[bool, Option("Exit with 1 if there is a warning.", apply=_deny)]
Form: TypeAlias = Annotated[
    Literal["table", "markdown", "latex", "csv", "json"],
    Option("Format of the result; --json is short for --format json.", flags=("--format",)),
]


# -- reading annotations ---------------------------------------------------------------------------


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's parameters, or of a dataclass's fields.

    An annotation whose names only a type checker imports becomes Any.
    """
    owners = reversed(function.__mro__[:-1]) if isinstance(function, type) else (function,)
    found: dict[str, Any] = {}
    for owner in owners:
        names = vars(sys.modules[owner.__module__])
        for name, text in inspect.get_annotations(owner).items():
            try:
                found[name] = eval(text, dict(names)) if isinstance(text, str) else text
            except NameError:
                found[name] = Any
    return found


def split_hint(hint: Any) -> tuple[Any, Option | None]:
    """Return the type of an annotation, without None, and its Option."""
    argument = None
    for _ in range(2):  # Annotated[X | None, ...] and Annotated[X, ...] | None mean the same
        if get_origin(hint) is Annotated:
            hint, argument = get_args(hint)
        if get_origin(hint) in (Union, UnionType):
            inner = [each for each in get_args(hint) if each is not type(None)]
            hint = Union[tuple(inner)]
    return hint, argument


def described(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the docstring of a function without its section Args, and the entries of that section."""
    text, _, section = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    entries: dict[str, str] = {}
    lines = section.splitlines()
    while lines and (not lines[0].strip() or lines[0].startswith("    ")):
        line = lines.pop(0)
        if entry := re.match(r"    \*?(\w+): (.*)", line):
            name, entries[entry[1]] = entry.groups()
        elif line.strip():
            entries[name] += f" {line.strip()}"
    return "\n\n".join(filter(None, (text.strip(), "\n".join(lines).strip()))), entries


def help_of(function: Callable[..., Any], name: str, argument: Option | None) -> str:
    """Return the description of an argument: from a docstring, else from the Option."""
    owners = function.__mro__[:-1] if isinstance(function, type) else (function,)
    for owner in owners:
        if text := described(owner)[1].get(name):
            return text.replace("``", "`").replace(" [default: ", "  [default: ")
    return "" if argument is None else argument.help


def type_text(hint: Any) -> str:
    """Return an annotation as text, without what it says to the command line."""
    hint = _plain(hint)
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(map(type_text, get_args(hint)))
    return (
        "None"
        if hint is type(None)
        else re.sub(r"\b(collections\.abc|danetc[\w.]*)\.", "", inspect.formatannotation(hint))
    )


def takes(request: Callable[P, Request]) -> Callable[[Callable[[Request], R]], Callable[P, R]]:
    """Give a function of a request the signature and the documentation of the request's fields."""

    def decorate(function: Callable[[Request], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(request(*args, **kwargs))

        hints, signature = hints_of(request), inspect.signature(request)
        names = signature.parameters
        lines = [
            f"    {name}: {help_of(request, name, split_hint(hints[name])[1])}" for name in names
        ]
        call.__doc__ = "\n".join([described(function)[0], "", "Args:", *lines, ""])
        call.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[
                each.replace(annotation=type_text(hints[name])) for name, each in names.items()
            ],
            return_annotation=function.__annotations__["return"],
        )
        call.__wrapped__ = request  # type: ignore[attr-defined]
        return call

    return decorate


# -- checks ----------------------------------------------------------------------------------------


class WrongType(UserError, TypeError):
    """An argument of a function of ``danetc`` has a type that the function does not take."""


def check_choice(name: str, value: str | None, choices: Collection[str]) -> None:
    """Raise UserError unless ``value`` is None or one of ``choices``."""
    if value is not None and value not in choices:
        raise UserError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def check_whole(name: str, value: int | None, least: int, most: int | None = None) -> None:
    """Raise UserError unless ``value`` is None or an integer in this range."""
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limit = f" to {most}" if most is not None else " or more"
        raise UserError(f"{name} is a whole number, {least}{limit}, not {value!r}")


def check_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with a check of its arguments against its annotations.

    ``danetc`` exports the result under the function's name, where pickle finds it.
    """
    signature = inspect.signature(function)
    described_by = getattr(function, "__wrapped__", function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the function's own message is better
            return function(*args, **kwargs)
        hints = hints_of(described_by)
        for name, value in bound.arguments.items():
            several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            for each in value if several else (value,):
                if not _fits(each, hints[name]):
                    meaning = _meaning(function.__doc__ or "", name)
                    shown = repr(each) if isinstance(each, str | int | float | None) else "one"
                    raise WrongType(
                        f"danetc.{function.__name__} takes `{name}` as {type_text(hints[name])}{meaning}; not {shown} "
                        f"of type {type(each).__name__}"
                    )
                if isinstance(each, str) and "\0" in each and name != "text":
                    raise UserError(f"`{name}` of danetc.{function.__name__} holds a NUL character")
                _check_value(name, each, hints[name])
        return function(*args, **kwargs)

    checked.__module__ = "danetc"
    return checked


def check_fields(request: Any) -> None:
    """Raise UserError if a field of a request does not fit its annotation."""
    hints = hints_of(type(request))
    for field in dataclasses.fields(request):
        value, hint = getattr(request, field.name), hints[field.name]
        if not _fits(value, hint):
            raise WrongType(f"`{field.name}` is {type_text(hint)}, not {value!r}")
        _check_value(field.name, value, hint)


def _check_value(name: str, value: Any, hint: Any) -> None:
    """Raise UserError if a value is not among the choices or outside the bounds of its annotation."""
    kind, option = split_hint(hint)
    option = option or Option()
    if value is None:
        return
    if choices := get_args(kind) if get_origin(kind) is Literal else option.choices:
        check_choice(name, value, choices)
    least, most, above = option.least, option.most, option.above
    for each in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
        if kind is not float and least is not None:
            check_whole(name, each, int(least), None if most is None else int(most))
        elif (
            (least is not None and each < least)
            or (most is not None and each > most)
            or (above is not None and each <= above)
        ):
            limits = [f"{least:g} or more"] if least is not None else []
            limits += [f"{most:g} or less"] if most is not None else []
            limits += [f"more than {above:g}"] if above is not None else []
            raise UserError(f"{name} is a number, {' and '.join(limits)}, not {each!r}")


def _plain(hint: Any) -> Any:
    """Return an annotation without what it says to the command line."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(_plain(each) for each in get_args(hint))]
    return hint


def _fits(value: object, hint: Any) -> bool:
    """Return True if a value has an annotated type, as far as can be told. Numbers of NumPy do."""
    hint = _plain(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str)
    if origin is tuple:
        return isinstance(value, tuple | list) and all(_fits(item, inner[0]) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    if origin is not None and issubclass(origin, Collection):
        text = isinstance(value, str | bytes)  # a sequence of texts or of numbers
        plain = (
            inner[0] in (str, int) or get_origin(inner[0]) is not None
        )  # else the function checks
        return (
            isinstance(value, origin)
            and not text
            and (not plain or all(_fits(item, inner[0]) for item in value))
        )
    if hint in (int, float, bool):  # the function refuses a bool that is no number
        return isinstance(value, Real if hint is float else Integral)
    if hint is None:
        return value is None
    kind = origin or hint
    return (
        not isinstance(kind, type)
        or getattr(kind, "_is_protocol", False)
        or isinstance(value, kind)
    )


def _meaning(doc: str, name: str) -> str:
    """Return what the section Args of a docstring says about an argument, in parentheses."""
    entry = rf"^ +\*?{name}: (.*?)(?:[.;](?:\s|$)|\n\s*\w+: |\n\n)"
    match = re.search(entry, doc, re.DOTALL | re.MULTILINE)
    return f" ({' '.join(match[1].split()).replace('``', '`')})" if match else ""
