"""The values of a spec's expressions (numbers, values of the network, layers, declarations), the meaning
of names, and the table of operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

from danetc.dsl.loading import Module
from danetc.dsl.syntax import tree as s
from tests.reference.equations import CONSTANTS, OPERATORS, Drawn, Learn, learn_of
from tests.reference.tape import Var

# -- values ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """A value of the network, [T, N, ...]. All steps are the same if it does not vary."""

    data: Var
    varies: bool


@dataclass(frozen=True, eq=False)
class Learnt:
    """Learnt numbers, ``learn``, and the function that a line applies to them, ``made``.

    A ``name`` of the body in ``scope`` stands for the same numbers each time it is read.
    """

    learn: Any
    name: str = ""
    scope: tuple[str, ...] = ()
    made: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Op:
    """An operation with its parameters. ``role`` is the name of the layer in the names of its weights."""

    name: str
    attrs: Mapping[str, Any]
    role: str


@dataclass(frozen=True)
class Identity:
    """``identity`` and ``none``."""


@dataclass(frozen=True)
class BlockLayer:
    """``conv`` in a connection: the next layer of the block, with some parameters changed."""

    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Sequence:
    steps: tuple[Any, ...]


@dataclass(frozen=True)
class Named:
    """A layer with the name of its definition, which becomes part of the names of its weights."""

    name: str
    layer: Any


@dataclass(frozen=True, eq=False)
class Bound:
    """A declaration with arguments."""

    declaration: s.Declaration
    module: Module
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.declaration.kind


@dataclass(frozen=True, eq=False)
class Once:
    """A shared layer. Every use has the weights of its first use."""

    layer: Any


@dataclass(frozen=True)
class StageOf:
    """``stage(block, count, stride = ...)`` with the arguments of its ``via``, ``by`` and ``with``."""

    block: Any
    count: int
    stride: int
    connection: Bound | None = None
    rule: Bound | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backbone:
    """Stages and the layers between them."""

    items: tuple[Any, ...]

    def part(self, low: int, high: int) -> Backbone:
        """Stages ``low`` to ``high``. A layer belongs to the next stage, or to the last if there is none."""
        last = sum(isinstance(item, StageOf) for item in self.items) - 1
        kept, number = [], 0
        for item in self.items:
            if low <= min(number, last) <= high:
                kept.append(item)
            number += isinstance(item, StageOf)
        return Backbone(tuple(kept))


@dataclass
class Loops:
    """The lines of a body that are being computed, and the delayed values in its loops.

    ``guesses`` has the delayed values for this pass over the lines. ``reads`` has the function that
    computes a value after the pass, the number of steps of its delay, and the value in this pass.
    """

    pending: list[str] = field(default_factory=list)
    guesses: dict[object, Wire] = field(default_factory=dict)
    reads: dict[object, tuple[Callable[[], Wire], int, Wire]] | None = None


@dataclass
class Env:
    """The meaning of names in an expression.

    ``values`` has parameters and other names without a definition. ``definitions`` has the lines of
    the body, each with the environment in which it is evaluated. ``scope`` is the path of the body in
    the names of weights. ``what`` is the kind of the declaration.
    """

    module: Module
    what: str
    values: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, tuple[s.Expr, Env]] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    scope: tuple[str, ...] = ()
    block_layers: bool = False
    counters: tuple[int, ...] = ()
    loops: Loops = field(default_factory=lambda: Loops())


# -- the table of operations ------------------------------------------------------------------------

OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    "conv": {"width": None, "kernel": 3, "stride": 1, "padding": None, "groups": 1, "bias": False, "dilation": 1, "init": None, "weight": None, "over": None},
    "linear": {"width": None, "bias": True, "init": None, "weight": None, "over": None, "window": None, "masked": 1.0},
    "embedding": {"width": None, "init": None, "vocabulary": None},
    "conv_transposed": {"width": None, "kernel": 2, "stride": 2, "padding": 0, "output_padding": 0, "groups": 1, "bias": False, "init": None, "weight": None},
    "pad": {"before": None, "after": None, "over": "pixels"},
    "batchnorm": {"init": 1.0, "per_step": False, "statistics": None, "eps": 1e-5, "bias": True, "pad": 0},
    "tebn": {"init": 1.0},
    "groupnorm": {"groups": 32, "init": 1.0},
    "layernorm": {"init": 1.0, "eps": 1e-5},
    "tdbn": {"alpha": 1.0},
    "maxpool": {"kernel": None, "stride": None, "padding": None},
    "avgpool": {"kernel": None, "stride": None, "padding": None},
    "upsample": {"scale": 2, "over": "pixels", "mode": "nearest", "like": None, "rows": None, "columns": None},
    "flatten": {},
    "sum": {"over": None, "groups": 1},
    "mean": {"over": None, "groups": 1},
    "max": {"over": None, "groups": 1},
    "swap": {"a": None, "b": None},
    "shuffle": {"groups": None},
    "transform": {"by": None, "over": None, "inverse": False},
    "sinusoidal": {"over": "pixels"},
    "mask": {"kept": None, "parts": None},
    "reshape": {"channels": None, "rows": 1, "columns": 1},
    "relu": {},
    "detach": {},
    "sigmoid": {},
    "tanh": {},
    "softplus": {},
    "gelu": {},
    "softmax": {"over": "channels"},
    "scores": {"heads": 1},
    "mix": {},
    "running_mean": {"groups": 1, "momentum": 0.1},
    "dropout": {"p": 0.5, "per": None},
    "droppath": {"p": 0.1},
    "delay": {"steps": 1, "like": None},
    "mean_over_time": {},
    "poisson": {},
    "latency": {"tau": 6.0},
}  # fmt: skip
"""The operations by name, with their parameters in order and the default values."""

OF_VALUES: Mapping[str, tuple[str, ...]] = {"scores": ("q", "k"), "mix": ("a", "v", "like")}
"""The operations that are written as functions of values, with the names of these values."""
NORMS = ("batchnorm", "tebn", "groupnorm", "layernorm", "tdbn")
NUMBERS: Mapping[str, Callable[..., float]] = {
    **{name: getattr(math, name) for name in ("exp", "log", "sqrt", "floor", "ceil")},
    "abs": abs,
    "min": min,
    "max": max,
    "round": lambda a: math.floor(a + 0.5),
}
LAYER_LINES = {
    "network": ("stem", "head", "weight"),
    "connection": ("each", "last", "projection", "identity"),
}


def assigned(args: tuple[s.Arg, ...], names: list[str]) -> dict[str, s.Expr]:
    """Arguments by the names of their parameters. Arguments without a name come first, in order."""
    free = iter(names)
    return {arg.name if arg.name is not None else next(free): arg.value for arg in args}


def is_layer(value: object) -> bool:
    if isinstance(value, Bound):
        return value.kind in ("block", "neuron")
    return isinstance(value, Op | Identity | BlockLayer | Sequence | Named | Once | Backbone)


def unnamed(value: Any) -> Any:
    return value.layer if isinstance(value, Named) else value


# -- expressions -----------------------------------------------------------------------------------


def _made(value: Learn | Learnt, step: Callable[[Any], Any]) -> Learnt:
    """Learnt numbers with ``step`` applied to them."""
    if isinstance(value, Learn):
        return Learnt(value, made=step)
    return replace(value, made=lambda item: step(value.made(item)))


def _called(value: Any, id: str, env: Env) -> Any:
    """Give learnt numbers the name that they have in a body. Other values stay unchanged."""
    if not isinstance(value, Learn | Learnt) or env.what not in ("network", "block", "connection"):
        return value
    found = value if isinstance(value, Learnt) else Learnt(value)
    return found if found.name else replace(found, name=id, scope=env.scope)


def _given(value: Any) -> Any:
    """An argument of a declaration: learnt numbers lose their name, so the declaration has its own."""
    if not isinstance(value, Learnt):
        return value
    probe = object()
    return value.learn if value.made(probe) is probe else replace(value, name="", scope=())


class Evaluator:
    """Evaluates expressions. ``settings`` are those of the network or of the current stage.

    ``Network`` defines the other methods: ``apply``, ``join``, ``function``, ``product``, ``channels``,
    ``input``, ``tokens``, ``table``, ``carried``, ``delayed``, ``numbers`` and ``put_back``.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.scope: tuple[str, ...] = ()

    def evaluate(self, expr: s.Expr, env: Env, want: str = "any") -> Any:
        """``want`` is the expected kind of an ambiguous name, such as ``layer``, ``norm`` or ``any``."""
        match expr:
            case s.Number():
                return expr.value
            case s.String(value) | s.Word(value):
                return value
            case s.Name(id):
                return self.meaning(id, env, want)
            case s.Call():
                return self.call(expr, env, want)
            case s.Flow(steps):
                return self.flow(steps, env)
            case s.IfElse(then, condition, otherwise):
                return self.evaluate(
                    then if self.evaluate(condition, env) else otherwise, env, want
                )
            case s.Unary("-", operand):
                value = self.evaluate(operand, env)
                wide = isinstance(value, Wire | Learn | Learnt)
                return self.binary("*", value, -1.0) if wide else -value
            case s.Unary(_, operand):
                return not self.evaluate(operand, env)
            case s.Binary("and" | "or" as op, left, right):
                value = bool(self.evaluate(left, env))
                return value if value == (op == "or") else bool(self.evaluate(right, env))
            case s.Binary(op, left, right):
                return self.binary(op, self.evaluate(left, env), self.evaluate(right, env))
            case s.At(base, (index,)):
                ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
                low, high = (int(self.evaluate(end, env)) for end in ends)
                value = self.evaluate(base, env)
                wired = isinstance(value, Wire)
                return self.channels(value, low, high) if wired else value.part(low, high)
            case s.Via(subject, value) | s.By(subject, value):
                name = "connection" if isinstance(expr, s.Via) else "rule"
                wired = {name: self.evaluate(value, env, name)}
                return self._stages(subject, env, lambda stage: replace(stage, **wired))
            case s.With(subject, settings):
                given = {arg.name: unnamed(self.evaluate(arg.value, env)) for arg in settings}
                return self._stages(
                    subject, env, lambda stage: replace(stage, settings={**stage.settings, **given})
                )
        raise AssertionError(expr)

    def _stages(self, subject: s.Expr, env: Env, change: Callable[[StageOf], StageOf]) -> Backbone:
        """A backbone with changed stages."""
        items = unnamed(self.evaluate(subject, env)).items
        return Backbone(
            tuple(change(item) if isinstance(item, StageOf) else item for item in items)
        )

    def binary(self, op: str, left: Any, right: Any) -> Any:
        if isinstance(left, Wire) or isinstance(right, Wire):
            return self.join(op, left, right)
        if isinstance(left, Learn | Learnt):
            return _made(left, lambda value: self.binary(op, value, right))
        if isinstance(right, Learn | Learnt):
            return _made(right, lambda value: self.binary(op, left, value))
        if op == "/" and isinstance(left, int) and isinstance(right, int) and left % right == 0:
            return left // right
        return OPERATORS[op](left, right)

    # -- names

    def meaning(self, id: str, env: Env, want: str = "any") -> Any:
        """What a name stands for, or the operation with this name if nothing else has it."""
        found = self._known(id, env, want)
        if found is None:
            return self.operation(id, (), env)
        return self.refer(found) if isinstance(found, Bound) else found

    def _known(self, id: str, env: Env, want: str) -> Any:
        """What a name stands for, or None if it is the name of an operation."""
        if id in env.values:
            return _called(env.values[id], id, env)
        if id in env.definitions and (id, env.what) != ("norm", "network"):
            value = self.defined(id, env)
            return Named(id, value) if want == "layer" and is_layer(value) else value
        if id in CONSTANTS:
            return CONSTANTS[id]
        if id in ("spike", "norm", "steps"):
            return self.settings["neuron" if id == "spike" else id]
        if id == "conv" and env.block_layers:
            return BlockLayer({})
        if id in ("identity", "none"):
            return Identity()
        if id in env.module.names and not self._means_operation(id, env, want):
            resolved = env.module.names[id]
            return Bound(resolved.declaration, resolved.module)
        return None

    def _means_operation(self, id: str, env: Env, want: str) -> bool:
        """Whether a name that is also a declaration's means the operation here (`tdbn`, `sigmoid`)."""
        if id not in OPERATIONS or id not in env.module.names:
            return id in OPERATIONS
        kind = env.module.names[id].declaration.kind
        if want == "layer":
            return kind not in ("block", "neuron", "backbone")
        return want == "norm"

    def defined(self, id: str, env: Env) -> Any:
        """The value of a line of the body. It is computed once. The line's name scopes its weights."""
        if id in env.cache:
            return env.cache[id]
        if env.loops.reads is None and not env.loops.pending:
            return self.settled(env.loops, partial(self._from, dict(env.cache), id, env))
        return self._line(id, env)

    def _line(self, id: str, env: Env) -> Any:
        expr, own = env.definitions[id]
        outer, self.scope = self.scope, env.scope if id == "out" else (*env.scope, id)
        want = id if id in ("neuron", "surrogate", "norm") else "any"
        want = "layer" if id in LAYER_LINES.get(env.what, ()) else want
        env.loops.pending.append(id)
        env.cache[id] = _called(self.evaluate(expr, own, want), id, env)
        env.loops.pending.pop()
        self.scope = outer
        return env.cache[id]

    # -- loops over time

    def settled(self, loops: Loops, compute: Callable[[], Any]) -> Any:
        """Compute a value with loops over time, in as many passes as there are steps.

        The delayed values in a loop are 0 in the first pass, and then those of the previous pass. Each
        pass computes one more step correctly, and its gradients.
        """
        numbers, done = self.numbers(), 0
        loops.guesses = {}
        while True:
            loops.reads = {}
            value, found = compute(), dict[object, Wire]()
            while len(found) < len(loops.reads):  # a read may add another one
                key = list(loops.reads)[len(found)]
                read, steps, _ = loops.reads[key]
                found[key] = self.delayed(read(), steps)
            loops.reads = None
            done += 1
            if not found or done == next(iter(found.values())).data.shape[0]:
                return value
            loops.guesses = found
            self.put_back(numbers)

    def _from(self, cache: dict[str, Any], id: str, env: Env) -> Any:
        """Compute a line again, with the other lines in the cache as they were before it."""
        env.cache.clear()
        env.cache.update(cache)
        return self._line(id, env)

    def _cut(self, steps: tuple[s.Expr, ...], env: Env) -> int | None:
        """The place of the first delay in a flow, if the steps before it depend on the line itself."""
        if env.loops.reads is None or not env.loops.pending:
            return None
        for place, step in enumerate(steps):
            name = step.function if isinstance(step, s.Call) else step
            if place and isinstance(name, s.Name) and self._is_delay(name.id, env):
                own = env.loops.pending[-1]
                return place if own in self._named(steps[:place], env) else None
        return None

    def _is_delay(self, id: str, env: Env) -> bool:
        own = id in env.values or id in env.definitions
        return id == "delay" and not own and self._means_operation(id, env, "layer")

    def _named(self, exprs: Iterable[s.Expr], env: Env) -> set[str]:
        """The names in expressions, and in the lines that these names refer to."""
        seen: set[str] = set()
        waiting = [*exprs]
        while waiting:
            names = {node.id for node in s.walk(waiting.pop()) if isinstance(node, s.Name)} - seen
            seen |= names
            lines = names & env.definitions.keys() - env.values.keys()
            waiting += [env.definitions[name][0] for name in lines]
        return seen

    def _carried(self, steps: tuple[s.Expr, ...], place: int, env: Env) -> Wire:
        """The output of the delay in a flow, as it is used in this pass."""
        loops, scope, first = env.loops, self.scope, steps[0]
        assert loops.reads is not None
        delay = self.layer(steps[place], env)
        count = int(delay.attrs["steps"])
        named = isinstance(first, s.Name) and place == 1
        key: object = (first.id, count)
        if not named:
            key = first.span.start, count, scope, env.counters
        if key in loops.reads:
            return loops.reads[key][2]
        start = self.carried(delay.role)
        assert start is not None
        wire = loops.guesses.get(key, start)
        own = loops.pending[-1]

        def read() -> Wire:
            outer, self.scope = self.scope, scope
            loops.pending.append(own)
            found: Wire = self.flow(steps[:place], env)
            loops.pending.pop()
            self.scope = outer
            return found

        loops.reads[key] = read, count, wire
        return wire

    def refer(self, bound: Bound) -> Any:
        """The name of a backbone stands for its stages. Other declarations stay as they are."""
        if bound.kind != "backbone":
            return bound
        assert bound.declaration.value is not None
        return self.evaluate(bound.declaration.value, self.complete(bound))

    # -- calls

    def call(self, call: s.Call, env: Env, want: str) -> Any:
        assert isinstance(call.function, s.Name)
        id, args = call.function.id, call.args
        match unnamed(self._known(id, env, want)):
            case Bound() as bound:
                return self.refer(self.bind(bound, args, env))
            case Op(name, attrs) as norm if id == "norm":
                return replace(norm, attrs={**attrs, **self._attributes(name, args, env)})
            case BlockLayer() if not any(arg.name in (None, "width") for arg in args):
                return BlockLayer(self._attributes("conv", args, env))
        if id in OF_VALUES:
            given = assigned(args, [*OF_VALUES[id], *OPERATIONS[id]])
            values = {name: self.evaluate(expr, env) for name, expr in given.items()}
            wires = {name: value for name, value in values.items() if isinstance(value, Wire)}
            attrs = {name: value for name, value in values.items() if name not in wires}
            return self.product(id, wires, {**OPERATIONS[id], **attrs})
        if id in (*NUMBERS, "sum", "mean") and not any(arg.name == "over" for arg in args):
            values = [self.evaluate(arg.value, inner) for arg, inner in self._listed(args, env)]
            if id in ("sum", "mean"):
                total = reduce(partial(self.binary, "+"), values)
                return self.binary("*", total, 1 / len(values)) if id == "mean" else total
            if len(values) == 1 and isinstance(values[0], Learn | Learnt):
                return _made(values[0], lambda item: self.function(id, [item]))
            if any(isinstance(value, Wire) for value in values):
                return self.function(id, values)
            return values[0] if id in ("min", "max") and len(values) == 1 else NUMBERS[id](*values)
        match id:
            case "stage":
                given = assigned(args, ["block", "blocks", "stride"])
                stride = self.evaluate(given["stride"], env) if "stride" in given else 1
                count = int(self.evaluate(given["blocks"], env))
                block = partial(self.evaluate, given["block"], env)  # a flow: once for each block
                block = block if isinstance(given["block"], s.Flow) else block()
                return Backbone((StageOf(block, count, int(stride)),))
            case "channels" | "rows" | "columns":
                (wire,) = (self.evaluate(arg.value, env) for arg in args)
                return wire.data.shape[2 + ("channels", "rows", "columns").index(id)]
            case "concat":
                listed = self._listed(args, env)
                return self.function(id, [self.evaluate(arg.value, own) for arg, own in listed])
            case "image" | "events":
                given = assigned(args, ["channels", "height", "width", "bound"])
                sizes = (given[name] for name in ("channels", "height", "width"))
                return self.input(id, tuple(int(self.evaluate(size, env)) for size in sizes))
            case "tokens":
                given = assigned(args, ["vocabulary", "length"])
                return self.tokens(*(int(self.evaluate(each, env)) for each in given.values()))
            case "table":
                return self.table(str(self.evaluate(args[0].value, env)))
            case "shared":
                return Once(self.evaluate(args[0].value, env, "layer"))
            case "inputs":
                return {arg.name: self.evaluate(arg.value, env) for arg in args}
            case "outputs":
                return {
                    arg.name or (arg.value.id if isinstance(arg.value, s.Name) else f"out{place}"):
                    self.evaluate(arg.value, inner)
                    for place, (arg, inner) in enumerate(self._listed(args, env))
                }  # fmt: skip
            case "learn":
                named = tuple(
                    replace(arg, name="start" if arg.name == "init" else arg.name) for arg in args
                )
                return learn_of(replace(call, args=named), lambda expr: self.evaluate(expr, env))
            case "random":
                return Drawn(0.0)
            case "scheduled":
                (arg,) = args
                return Learn(float(self.evaluate(arg.value, env)), trained=False)
        return self.operation(id, args, env)

    def _listed(self, args: tuple[s.Arg, ...], env: Env) -> list[tuple[s.Arg, Env]]:
        """The values of a list with their environments. A `for` has one value for each number."""
        found = []
        for arg in args:
            if not isinstance(arg.value, s.Each):
                found.append((arg, env))
                continue
            each = arg.value
            low, high = (int(self.evaluate(end, env)) for end in (each.low, each.high))
            for number in range(low, high + 1):
                values = {**env.values, each.variable: number}
                inner = replace(env, values=values, counters=(*env.counters, number))
                if each.condition is None or self.evaluate(each.condition, inner):
                    found.append((replace(arg, value=each.value), inner))
        return found

    def operation(self, id: str, args: tuple[s.Arg, ...], env: Env) -> Op:
        """An operation with its parameters. Omitted parameters have their default values."""
        role = "norm" if id in NORMS else id
        if id == "avgpool" and not args:
            return Op("global_avgpool", {}, role)
        if id == "delay":  # ``like`` is a shape that is known here
            args = tuple(arg for arg in args if arg.name != "like")
        return Op(id, {**OPERATIONS[id], **self._attributes(id, args, env)}, role)

    def _attributes(self, id: str, args: tuple[s.Arg, ...], env: Env) -> dict[str, Any]:
        given = assigned(args, list(OPERATIONS[id]))
        if id not in NORMS:
            given.pop("init", None)  # initial weights are not used: weights are given
        return {name: self.evaluate(expr, env) for name, expr in given.items()}

    def bind(self, bound: Bound, args: tuple[s.Arg, ...], env: Env) -> Bound:
        given = assigned(args, [param.name for param in bound.declaration.params])
        values = {name: _given(self.evaluate(expr, env)) for name, expr in given.items()}
        return replace(bound, args={**bound.args, **values})

    def complete(self, bound: Bound) -> Env:
        """The environment of a declaration's own text: its parameters, with arguments or default values.

        A default value may read the parameters before it and the names of its own file.
        """
        env = Env(bound.module, bound.kind)
        for param in bound.declaration.params:
            if param.name in bound.args:
                env.values[param.name] = bound.args[param.name]
            else:
                assert param.default is not None
                env.values[param.name] = self.evaluate(param.default, env)
        return env

    def written_out(self, bound: Bound) -> Bound:
        """Follow ``kind name = other(...)`` to a declaration with a body, or to a block that is a flow."""
        while bound.declaration.body is None:
            value = bound.declaration.value
            assert value is not None
            name = value.function if isinstance(value, s.Call) else value
            known = bound.module.names.get(name.id) if isinstance(name, s.Name) else None
            if bound.kind == "block" and (known is None or known.declaration.kind != "block"):
                return bound
            target = self.evaluate(value, self.complete(bound))
            assert isinstance(target, Bound)
            bound = target
        return bound

    def flow(self, steps: tuple[s.Expr, ...], env: Env) -> Any:
        """Pass a value through layers, or return the layers in order, as a backbone if some are stages."""
        cut = self._cut(steps, env)
        first = self.evaluate(steps[0], env, "layer") if cut is None else None
        if cut is not None:
            first = self._carried(steps, cut, env)
        if isinstance(first, Wire):
            wire = first
            for step in steps[1 if cut is None else cut + 1 :]:
                wire = self.apply(self.layer(step, env), wire)
            return wire
        layers = [self._as_layer(first), *(self.layer(step, env) for step in steps[1:])]
        if any(isinstance(layer, Backbone) for layer in layers):
            items: list[Any] = []
            for layer in layers:
                items += layer.items if isinstance(layer, Backbone) else (layer,)
            return Backbone(tuple(items))
        return Sequence(tuple(layers))

    def layer(self, expr: s.Expr, env: Env) -> Any:
        return self._as_layer(self.evaluate(expr, env, "layer"))

    def _as_layer(self, value: Any) -> Any:
        """A declaration that cannot be a layer stands for the operation with its name."""
        if isinstance(value, Bound) and not is_layer(value):
            return self.operation(value.declaration.name, (), Env(value.module, "flow"))
        return value
