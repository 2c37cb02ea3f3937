"""Environments of expressions, and the names that every expression knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.graph import Value as KnownValue
from danetc.compiler.ir.ops import OPS, REQUIRED, Parameter
from danetc.compiler.lowering.values import ArgumentOrigin, Failed, Value, Wire
from danetc.dsl.first_weights import ARGUMENTS, DRAW_WORDS, FIRST_WEIGHTS, MODES
from danetc.dsl.loading import Module
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.words import LEARNT_PER, OF_PARAMETER

Want = str
"""Expected value: ``layer``, ``number``, ``norm``, a kind of declaration, ``over``, or ``any``."""

WANTED: Mapping[str, Mapping[str, Want]] = {
    "network": {
        **{name: name for name in ("neuron", "surrogate", "norm", "init")},
        **dict.fromkeys(("weight", "stem", "head"), "layer"),
        "stages": "backbone",
    },
    "connection": dict.fromkeys(("each", "last", "projection", "identity"), "layer"),
}
"""Expected values of the definitions of a body."""


@record
class Definition:
    """``name = value`` in a body, with the environment of the value."""

    value: s.Expr
    env: Env
    span: Span


@record(frozen=False)
class Loops:
    """State of the loops over time in a body.

    ``circles`` numbers the definitions that depend on each other in a circle, if computed. ``carries``
    are the delayed values of the current reading, None if there is none. ``delays`` is a number of
    definitions, and whether one of them delays anything.
    """

    circles: dict[str, int] | None = None
    carries: dict[object, RecurrentState] | None = None
    known: dict[object, KnownValue] = field(default_factory=dict)
    delays: tuple[int, bool] = (0, False)


@record(frozen=False)
class RecurrentState:
    """Delayed value in a loop: ``read`` evaluates its source, ``id`` is its node.

    Values of one ``key`` are the same. ``hint`` is for an unknown shape. ``scope`` and ``use_sites``
    are those where it is first read.
    """

    key: object
    steps: int
    read: Callable[[], Wire]
    span: Span
    hint: str
    shape: Shape | None = None
    id: int = -1
    scope: tuple[str, ...] = ()
    use_sites: tuple[Span, ...] = ()


@record(frozen=False)
class Env:
    """Meanings of names in an expression.

    ``definitions``, shared by a network and its variants, are evaluated when first read.
    ``block_conv`` is True if ``conv`` without a width is the block's next layer. ``given`` are the
    origins of parameters, ``places`` those of their declarations, ``elsewhere`` hints for names that
    have a meaning only in another place, ``counters`` the numbers of the enclosing `for`.
    """

    module: Module
    what: str
    values: dict[str, Value] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    cache: dict[str, Value | Failed] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    block_conv: bool = False
    scope: tuple[str, ...] = ()
    given: Mapping[str, ArgumentOrigin] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Span] = field(default_factory=dict)
    counters: tuple[int, ...] = ()
    loops: Loops = field(default_factory=Loops)


LAYER_SETTINGS = ("surrogate", "neuron", "norm", "init", "weight", "zero_init")
"""Settings of a network that `with` changes for some of its stages."""

PORTS: Mapping[str, tuple[str, ...]] = {
    "block": ("in", "i", "n"),
    "connection": ("in", "branch", "shortcut", "channels", "stride", "i", "n"),
    "backbone": (),
}
"""Predefined names of a body."""


DEFAULT_LAYERS = ("spike", "norm", "identity", "none")
"""Names of layers that are not operations."""


def is_op(id: str, kind: str, want: Want) -> bool:
    """True if a name of both a declaration and an operation means the operation."""
    if id not in OPS or not OPS[id].public:
        return False
    if want == "layer":
        return kind not in ("block", "neuron", "backbone")
    return want == "norm"


_OF_NUMBER: Mapping[str, tuple[Callable[[float], int | float], str]] = {
    "exp": (math.exp, "e to the power of x"),
    "log": (math.log, "natural logarithm of x"),
    "sqrt": (math.sqrt, "square root of x"),
    "abs": (abs, "absolute value of x"),
    "floor": (math.floor, "largest integer that is at most x"),
    "ceil": (math.ceil, "smallest integer that is at least x"),
    "round": (lambda x: math.floor(x + 0.5), "nearest integer; halves are rounded up"),
}
MATH: Mapping[str, Callable[..., int | float]] = {
    "min": min,
    "max": max,
    **{name: function for name, (function, _) in _OF_NUMBER.items()},
}
JOINS = ("sum", "mean", "concat", "max", "min")
"""Functions of a list of values, in which a `for` is allowed."""


def is_function(call: s.Call, id: str) -> bool:
    """True if a call is a function of its arguments; `max(over = time)` is a layer."""
    if any(arg.name for arg in call.args):
        return id in MATH and id not in OPS
    several = len(call.args) > 1 or any(isinstance(arg.value, s.Each) for arg in call.args)
    return id in MATH or (id in ("sum", "mean") and several)


@record
class SpecFunction:
    """Function that every spec knows.

    ``parameters`` is None for a function of values without names, whose meanings ``says`` gives.
    ``example`` is a line of a network with ``input`` and spikes `a` and `b`: a value if it ``starts``,
    else a layer after `a`. A parameter of type ``object`` takes what its name says: a block, a layer.
    """

    usage: str
    meaning: str
    parameters: tuple[Parameter, ...] | None = None
    says: Mapping[str, str] = field(default_factory=dict)
    example: str = ""
    input: str = "image(3, 16, 16)"
    starts: bool = True


_MAP = (
    Parameter("channels", int, "channels", low=1, high=2**16),
    Parameter("height", int, "rows", low=1, high=2**16),
    Parameter("width", int, "columns", low=1, high=2**16),
)
_VALUES = {"a, b, ...": "values, or one for each j of a range: `a -> f(j) for j in 0 .. 3`"}

SPECIAL: Mapping[str, SpecFunction] = {
    "stage": SpecFunction(
        "stage(BLOCK, N, stride = 1)",
        "N blocks in sequence, the first with the stride; without a connection, a flow of layers N times",
        (
            Parameter("block", object, "block, or flow of layers"),
            Parameter("blocks", int, "number of blocks", low=1, high=100_000),
            Parameter("stride", int, "stride of the first block", 1, low=1, high=4096),
        ),
        example="a -> (stage(basic(16), 2, stride = 2) via sew)",
    ),
    "image": SpecFunction(
        "image(C, H, W)",
        "static image as input",
        _MAP,
        example="in -> conv(4) -> norm -> spike",
    ),
    "events": SpecFunction(
        "events(C, H, W, bound = ...)",
        "frames of events as input, optionally with counts of at most `bound`",
        (
            *_MAP,
            Parameter(
                "bound", int, "largest count in a frame; a model rejects larger counts", None,
                low=1, high=2**24,
            ),
        ),
        example="in -> conv(4) -> norm -> spike",
        input="events(2, 16, 16, bound = 15)",
    ),
    "tokens": SpecFunction(
        "tokens(VOCABULARY)",
        "indices of a vocabulary as input, for `embedding`: one at each time step, or `length` at once",
        (
            Parameter("vocabulary", int, "number of different tokens", low=2, high=2**24),
            Parameter("length", int, "number of tokens that are given at once", None, low=2, high=2**16),
        ),
        example="in -> embedding(16) -> layernorm -> spike",
        input="tokens(256)",
    ),
    "concat": SpecFunction(
        "concat(a, b, ...)",
        "concatenation of values along their channels",
        None,
        _VALUES,
        "concat(a, b)",
    ),
    "sum": SpecFunction("sum(a, b, ...)", "sum of values", None, _VALUES, "sum(a, b)"),
    "mean": SpecFunction("mean(a, b, ...)", "mean of values", None, _VALUES, "mean(a, b)"),
    "channels": SpecFunction(
        "channels(a)", "number of channels of a value", None, {"a": "value"},
        "a -> conv(2 * channels(a))",
    ),
    "rows": SpecFunction(
        "rows(a)", "number of rows of a map", None, {"a": "map"}, "a -> avgpool(rows(a))"
    ),
    "columns": SpecFunction(
        "columns(a)", "number of columns of a map", None, {"a": "map"},
        "a -> avgpool(columns(a))",
    ),
    "outputs": SpecFunction(
        "outputs(a, NAME = b, ...)", "declares several outputs of a network", (),
        {"a": "first output, which is trained unless a loss names another",
         "NAME": "another output with its name"},
        "outputs(a -> avgpool -> mean_over_time -> linear(10), early = b)",
    ),
    "shared": SpecFunction(
        "shared(LAYER)",
        "layer that shares its weights between all uses",
        (Parameter("layer", object, "layer or flow; neurons keep separate states for each use"),),
        example="shared(conv(8) -> norm -> spike)",
        starts=False,
    ),
    "python": SpecFunction(
        'python("FILE.py:CLASS", like = a, gives = spikes, NAME = ...)',
        "layer that a class of `torch.nn.Module` in a Python file computes for frames [B, C, H, W] or "
        "[B, C]; only building, training and loading run its code",
        OPS["user_module"].parameters[:-1],
        {"NAME": "argument of the class: a number, a truth value or a text"},
        'python("mixer.py:Mixer", width = 16, hidden = 32)',
        starts=False,
    ),
    "inputs": SpecFunction(
        "inputs(NAME = image(C, H, W), NAME = events(C, H, W), ...)",
        "several inputs of a network, each with a name that is used instead of `in`", (),
        {"NAME": "input with its name"},
        "concat(left, right) -> conv(4) -> norm -> spike",
        input="inputs(left = image(1, 16, 16), right = image(1, 16, 16))",
    ),
    "table": SpecFunction(
        'table("FILE.npy")',
        "constant numbers of a NumPy file inside the spec's folder, up to 32,768: one for each channel of a "
        "vector, or a map [C, H, W]. A model directory contains them in its spec",
        None,
        {'"FILE.npy"': "path relative to the spec; for an .npz file with several arrays followed by the "
         "name of one in quotes, or the numbers themselves as a model directory has them"},
        'a * table("f8:1x1x1:AAAAAAAA8D8=")',
    ),
    "learn": SpecFunction(
        "learn(1.0, above = ..., below = ..., per = channel)",
        "learnable parameters, optionally with bounds: one for the layer, or one for each `channel`, "
        "`neuron` or `step`; with `per_step = true`, separate ones for each time step",
        (
            Parameter(
                "init", float,
                "initial value, or its distribution: `uniform(low, high)`, `normal(mean, std)`",
            ),
            Parameter("above", float, "lower bound, excluded; by default none", None),
            Parameter("below", float, "upper bound, excluded; by default none", None),
            Parameter(
                "per", str, "unit with a separate parameter: `layer`, `channel`, `neuron` or `step`",
                "layer", words=LEARNT_PER,
            ),
            Parameter("per_step", bool, "if true, each time step has separate parameters", False),
        ),
        example="learn(1.0, per = channel) * a + b",
    ),
    "random": SpecFunction(
        "random(normal(0, 1), evaluate = mean)",
        "random numbers of the size of the value that they are combined with; "
        "`random(normal)` has mean 0 and standard deviation 1",
        (
            Parameter(
                "law", object,
                "distribution: `uniform(low, high)`, `normal(mean, std)`; by default `uniform(0, 1)`", None,
            ),
            Parameter(
                "evaluate", str, "in evaluation, `draw` or the `mean` of the distribution", "draw",
                words=DRAW_WORDS["evaluate"],
            ),
            Parameter(
                "per", str, "`step`: new numbers at each time step; `sample`: the same at all of them",
                "step", words=DRAW_WORDS["per"],
            ),
        ),
        example="a + random(normal(0, 0.1), evaluate = mean)",
    ),
    "scheduled": SpecFunction(
        "scheduled(1.0)",
        "parameter of a neuron, surrogate or operation that a recipe changes during training "
        "(`change`); its value is stored with the weights",
        (Parameter("start", float, "initial value"),),
        example="a -> conv(8) -> LIF(tau = scheduled(2.0))",
    ),
    **{
        name: SpecFunction(
            f"{name}(x)", meaning, None, {"x": "a number"}, f"{name}(2.5) * a"
        )
        for name, (_, meaning) in _OF_NUMBER.items()
    },
    **{
        name: SpecFunction(
            f"init = {name}" + f"({', '.join(row.arguments)})" * bool(row.arguments),
            f"initial weights: {row.meaning}",
            tuple(
                Parameter(
                    key,
                    str if isinstance(default, str) else float,
                    ARGUMENTS[key],
                    REQUIRED if default is None else default,
                    words=MODES if isinstance(default, str) else (),
                )
                for key, default in row.arguments.items()
            ),
        )
        for name, row in FIRST_WEIGHTS.items()
    },
    "min": SpecFunction(
        "min(a, b, ...)", "minimum of numbers, or elementwise minimum of values", None, _VALUES,
        "min(a, b)",
    ),
    "max": SpecFunction(
        "max(a, b, ...)", "maximum of numbers, or elementwise maximum of values", None, _VALUES,
        "max(a, b)",
    ),
}  # fmt: skip
CONSTANTS = {"true": True, "false": False, "pi": math.pi}


def wants(root: s.Expr, want: Want) -> Iterator[tuple[s.Name | s.Call, Want]]:
    """Iterate over the names and calls in an expression, each with its expected value."""
    stack: list[tuple[s.Node, Want]] = [(root, want)]
    while stack:
        node, want = stack.pop()
        inner: list[tuple[s.Node, Want]]
        match node:
            case s.Name():
                yield node, want
                continue
            case s.Call(function, args):
                yield node, want
                inner = [(function, want), *zip(args, _argument_wants(node), strict=True)]
            case s.Arg(_, value) | s.Unary(_, value):
                inner = [(value, want)]
            case s.Binary(_, left, right):
                inner = [(item, "number" if want == "number" else "any") for item in (left, right)]
            case s.IfElse(then, condition, otherwise):
                inner = [(then, want), (condition, "number"), (otherwise, want)]
            case s.Each(value):
                inner = [(it, want if it is value else "number") for it in s.children(node)]
            case s.Flow(steps):
                inner = [(step, "layer") for step in steps]
            case s.Via(subject, other) | s.By(subject, other):
                kind = "connection" if isinstance(node, s.Via) else "rule"
                inner = [(subject, "backbone"), (other, kind)]
            case s.With(subject, settings):
                wanted = WANTED["network"]
                inner = [(arg, wanted.get(arg.name or "", "number")) for arg in settings]
                inner.insert(0, (subject, "backbone"))
            case _:
                inner = [(child, "number") for child in s.children(node)]
                if isinstance(node, s.At):
                    inner[0] = (node.base, "backbone")
        stack.extend(reversed(inner))


def _argument_wants(call: s.Call) -> list[Want]:
    """Return the expected values of the arguments of a call."""
    name = call.function.id if isinstance(call.function, s.Name) else ""
    if name == "stage":
        first = call.args[0] if call.args and call.args[0].name is None else None
        return ["block" if arg is first or arg.name == "block" else "number" for arg in call.args]
    numbers = name in MATH or (name in OPS and OPS[name].public and name not in JOINS)
    other = "number" if numbers else "any"
    wanted = {key: key for key in OF_PARAMETER} | ({"weight": "layer"} if name in OPS else {})
    return [wanted.get(arg.name or "", other) for arg in call.args]
