"""Types and checks of the arguments of commands and of the functions of the Python interface.

::

    def command(spec: Spec, *, batch: Annotated[int, Option(least=1)] = 4) -> None: ...

Positional parameters become arguments of the command, keyword-only parameters become options. A
parameter whose type is a request (``danetc.requests``) adds the fields of that request. The docstring
of the function or request describes them; the section below is for those that many share. Importing
this module loads neither click nor torch.

Args:
    allow_code: Run this code in Python, which a directory or a spec names. Can be repeated.
    backend: Backend that runs the network.
    batch: Images per batch.
    checkpoint: Use these weights of a run, as in best or epoch-0010. [default: those of the last epoch]
    classes: Use this many classes of the data set, drawn at random.
    data: Data set, as in digits or folder:DIR. With ,val=0.1 behind it, a tenth of the training images is
        held out for validation.
    device: Device that runs the network. [default: the accelerator if there is one, else cpu]
    force: Replace an existing file.
    form: Format of the result.
    init: Start from these weights: safetensors, a state dict that contains only tensors, the directory of
        a run, or pretrained:NAME.
    init_skip: Parts of the network that keep new weights, as in head or 'stem + head'.
    memory: Policy for the backward pass. ``recompute`` runs blocks again to save memory; a SIZE, as in
        8GB or 512MB, selects the fastest policy with which a training step fits.
    network: Network to use if the file has several.
    no_code: Refuse a recipe or a network that runs a Python file.
    precision: Precision of the arithmetic.
    prepare: Preprocessing of images, written like a recipe's ``evaluate``: 'resize(256) ->
        center_crop(224)', or none. [default: the training's]
    progress: If True, show progress and notes like the command; by default only in a notebook.
    quiet: Show no progress.
    seed: Seed of all random numbers.
    set: Change a parameter or a setting of the network, as in steps=2, or an argument in a setting, as in
        neuron.tau=3. Can be repeated.
    split: Images to use. They are never augmented.
    subset_seed: Seed for drawing the classes.
    workers: Processes that read images.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeAlias, TypeVar, get_args, get_origin

from danetc.errors import SaidElsewhere, UserError

P = ParamSpec("P")
R = TypeVar("R")
Request = TypeVar("Request")

MOST_STEPS = 10_000
"""Maximum number of time steps of a forward pass."""


@dataclass(frozen=True)
class Option:
    """How an argument is written on the command line, and which values it accepts.

    Args:
        metavar: Placeholder for the value in the help.
        flag: Name of the option, by default that of the parameter.
        least: Minimum of a number.
        most: Maximum of a number.
        parse: Converts the text; raises ValueError or UserError.
        separator: Splits the text into several values.
        missing: Returns a hint for the error if the argument is missing. The command line then requires
            the argument, even if the parameter has a default.
        python: True for an argument of the Python interface alone.
    """

    metavar: str | None = None
    flag: str | None = None
    least: float | None = None
    most: float | None = None
    parse: Callable[[str], Any] | None = None
    separator: str | None = None
    missing: Callable[[], str] | None = None
    python: bool = False


def late(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports a name when it is called, and calls or returns its value."""

    def call(*arguments: Any) -> Any:
        value = getattr(importlib.import_module(module), name)
        return value(*arguments) if callable(value) else value

    return call


# -- values ----------------------------------------------------------------------------------------

Setting: TypeAlias = int | float | bool | str
"""Value of a setting. A ``str`` is the text of an expression, such as ``LIF(tau = 4.0)``."""


def parse_setting(text: str) -> tuple[str, Setting]:
    """Return ``steps=2`` as ``("steps", 2)``.

    The value is a number or a truth value if it reads as one, else the text of an expression. Raises
    ValueError if there is no name or no value.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value or not re.fullmatch(r"(?a:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)", name):
        raise ValueError(f"`{text}` is not NAME=VALUE, as in steps=2 or neuron='LIF(tau = 4.0)'")
    if value in ("true", "false"):
        return name, value == "true"
    if re.fullmatch(r"-?[0-9]{1,18}", value):
        return name, int(value)
    if re.fullmatch(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", value):
        return name, float(value)
    return name, value


def parse_memory(text: str) -> str | int:
    """Return ``none``, ``recompute``, or the bytes of ``8GB`` or ``512 MiB``. Raises ValueError."""
    from danetc.compiler.passes.recompute import POLICIES  # late: `--help` does without passes

    if text in POLICIES:
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?))?B?\s*", text, re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ValueError(
            f"{text!r} is not a size: write it like 8GB, 512MiB or 1.5G, or name a policy: "
            f"{', '.join(POLICIES)}"
        )
    power = " KMGT".index((match[2] or " ").upper())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def look_at_data(text: str, hint: str = "") -> str:
    """Return the name of a data set. Raises UserError if there is none of this name."""
    from danetc.runtime.data.sources import look_at  # late: only if it is given
    from danetc.runtime.system.errors import DataError
    from danetc.runtime.system.torchrun import local_rank

    try:
        look_at(text)
    except DataError as error:
        kind = SaidElsewhere if local_rank() else UserError
        raise kind(f"{error}{hint}") from error
    return text


in_memory = late("danetc.runtime.data.sources.python", "in_memory")
"""Return arrays or Datasets as a text. Raises UserError if the argument is something else."""


def file_place(*endings: str) -> Callable[[str], Path]:
    """Return a function that checks the name of a file to write, which has one of the ``endings``.

    It raises ValueError for another ending, UserError if no file can be written there.
    """

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in endings:
            listed = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
            raise ValueError(f"the name of this file ends in {listed}: {path}")
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file in it")
        if not path.absolute().parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
        return path

    return parse


# -- arguments of several commands ----------------------------------------------------------


PYTHON = Option(python=True)
SPEC = Option("FILE|NAME")
DATA = Option(
    "NAME[:DIR]", "--data", parse=look_at_data, missing=late("danetc.runtime.data.sources", "KNOWN")
)

BackendName: TypeAlias = Literal["eager", "fused", "spikingjelly"]
Form: TypeAlias = Literal["table", "markdown", "latex", "csv", "json"]
Place: TypeAlias = str | os.PathLike[str]
Precision: TypeAlias = Literal["float32", "tf32", "bf16", "fp16"]
Split: TypeAlias = Literal["test", "train", "val"]

Checkpoint: TypeAlias = Annotated[str, Option("NAME")]
Classes: TypeAlias = Annotated[int, Option(least=2)]
Count: TypeAlias = Annotated[int, Option(least=1)]
Data: TypeAlias = Annotated[str | Any, DATA]
Device: TypeAlias = Annotated[str, Option("cpu|cuda|cuda:1|mps|xpu")]
Init: TypeAlias = Annotated[Place, Option("WEIGHTS")]
InitSkip: TypeAlias = Annotated[str, Option("PARTS")]
Memory: TypeAlias = Annotated[str | int, Option("none|recompute|SIZE", parse=parse_memory)]
Network: TypeAlias = Annotated[str, Option("NAME")]
Plot: TypeAlias = Annotated[
    Path, Option("OUT.svg|png|pdf", parse=late("danetc.output.returned", "plot_place"))
]
Prepare: TypeAlias = Annotated[str, Option("STEPS", "--evaluate")]
Seed: TypeAlias = Annotated[int, Option(least=0, most=2**63 - 1)]
Settings: TypeAlias = Annotated[Mapping[str, Setting], Option("NAME=VALUE", parse=parse_setting)]
Spec: TypeAlias = Annotated[str, SPEC]
SubsetSeed: TypeAlias = Annotated[int, Option(least=0)]
Workers: TypeAlias = Annotated[int, Option(least=0, most=1024)]


# -- reading annotations ---------------------------------------------------------------------------


hints_of = functools.partial(typing.get_type_hints, include_extras=True)
"""Return the annotations of a function's parameters, or of a dataclass's fields."""


def split_hint(hint: Any) -> tuple[Any, Option]:
    """Return the type of an annotation, without None, and its Option."""
    option = Option()
    for _ in range(2):  # Annotated[X | None, ...] and Annotated[X, ...] | None mean the same
        if get_origin(hint) is Annotated:
            hint, option = get_args(hint)
        if get_origin(hint) in (typing.Union, UnionType):
            inner = [each for each in get_args(hint) if each is not type(None)]
            hint = typing.Union[tuple(inner)]
    return hint, option


def described(documented: Any) -> tuple[str, dict[str, str]]:
    """Return a docstring without its section Args, which is the last, and the entries of that section."""
    text, _, section = (inspect.getdoc(documented) or "").partition("\nArgs:\n")
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
    return text.strip(), {name: " ".join(said.split()) for name, said in entries}


def help_of(function: Callable[..., Any], name: str) -> str:
    """Return the description of a parameter, or of a field."""
    owners = function.__mro__[:-1] if isinstance(function, type) else (function,)
    for owner in (*owners, sys.modules[__name__]):
        if text := described(owner)[1].get(name):
            return text.replace("``", "`").replace(" [default: ", "  [default: ")
    return ""


def takes(request: Callable[P, Request]) -> Callable[[Callable[[Request], R]], Callable[P, R]]:
    """Give a function of a request the signature and the documentation of the request's fields."""

    def decorate(function: Callable[[Request], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            made: Any = request(*args, **kwargs)
            data, share = getattr(made, "data", None), getattr(made, "held_out", None)
            if not isinstance(data, str) and (data is not None or share is not None):
                made = dataclasses.replace(made, data=in_memory(data, share))
            check_fields(made)
            return function(made)

        hints, signature = hints_of(request), inspect.signature(request)
        fields = [
            each.replace(annotation=split_hint(hints[each.name])[0])
            for each in signature.parameters.values()
        ]
        lines = [f"    {each.name}: {help_of(request, each.name)}" for each in fields]
        call.__doc__ = "\n".join([described(function)[0], "", "Args:", *lines, ""])
        result = function.__annotations__["return"]
        vars(call)["__signature__"] = inspect.Signature(fields, return_annotation=result)
        return call

    return decorate


# -- checks ----------------------------------------------------------------------------------------


def check_fields(request: Any) -> None:
    """Raise UserError if a field of a request does not fit its annotation or its Option."""
    from danetc.runtime.training.evaluation import fits  # late: the command line does without

    hints = hints_of(type(request))
    for field in dataclasses.fields(request):
        name, value, hint = field.name, getattr(request, field.name), hints[field.name]
        kind, option = split_hint(hint)
        if not fits(value, hint):
            raise UserError(f"`{name}` is {inspect.formatannotation(kind)}, not {value!r}")
        if get_origin(kind) is Literal:
            check_choice(name, value, get_args(kind))
        least, most = option.least, option.most
        if value is None or least is None:
            continue
        for each in value if isinstance(value, Sequence) else (value,):
            whole = kind is float or (isinstance(each, int) and not isinstance(each, bool))
            if not whole or each < least or (most is not None and each > most):
                number = "a number" if kind is float else "a whole number"
                limit = " or more" if most is None else f" to {most}"
                raise UserError(f"{name} is {number}, {least}{limit}, not {each!r}")


def check_choice(name: str, value: str | None, choices: Collection[str]) -> None:
    """Raise UserError unless ``value`` is None or one of ``choices``."""
    if value is not None and value not in choices:
        raise UserError(f"{name} is one of {', '.join(choices)}, not {value!r}")
