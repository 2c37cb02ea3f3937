"""What the expressions of a spec are: numbers, values of the network, layers, declarations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from danetc.dsl.syntax import tree as s
from tests.reference.equations import CONSTANTS, OPERATORS, Learn, learn_of
from tests.reference.values import (
    LAYER_LINES,
    NORMS,
    NUMBERS,
    OF_VALUES,
    OPERATIONS,
    Backbone,
    BlockLayer,
    Bound,
    Env,
    Identity,
    Learnt,
    Loops,
    Named,
    Once,
    Op,
    Sequence,
    StageOf,
    Wire,
    assigned,
    is_layer,
    unnamed,
)


def _made(value: Learn | Learnt, step: Callable[[Any], Any]) -> Learnt:
    """What is made of learnt numbers and constants."""
    if isinstance(value, Learn):
        return Learnt(value, made=step)
    return replace(value, made=lambda item: step(value.made(item)))


def _called(value: Any, id: str, env: Env) -> Any:
    """Learnt numbers by the name that a body has for them."""
    if not isinstance(value, Learn | Learnt) or env.what not in ("network", "block", "connection"):
        return value
    found = value if isinstance(value, Learnt) else Learnt(value)
    return found if found.name else replace(found, name=id, scope=env.scope)


def _given(value: Any) -> Any:
    """Of learnt numbers that a declaration is called with it has its own; a neuron takes these."""
    if not isinstance(value, Learnt):
        return value
    probe = object()
    return value.learn if value.made(probe) is probe else replace(value, name="", scope=())


class Evaluator:
    """Evaluates expressions. ``settings`` are the network's, or those of the stage at hand.

    ``Layers`` has what it asks for: ``apply``, ``join``, ``function``, ``product``, ``input``,
    ``carried``, ``delayed``, ``numbers`` and ``put_back``.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.scope: tuple[str, ...] = ()

    def evaluate(self, expr: s.Expr, env: Env, want: str = "any") -> Any:
        """``want`` is what an ambiguous name is asked for: a ``layer``, a ``norm``, or ``any``."""
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
            case s.Binary("and", left, right):
                return bool(self.evaluate(left, env)) and bool(self.evaluate(right, env))
            case s.Binary("or", left, right):
                return bool(self.evaluate(left, env)) or bool(self.evaluate(right, env))
            case s.Binary(op, left, right):
                return self.binary(op, self.evaluate(left, env), self.evaluate(right, env))
            case s.At(base, (index,)):
                ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
                low, high = (int(self.evaluate(end, env)) for end in ends)
                value = self.evaluate(base, env)
                return (
                    self.channels(value, low, high)
                    if isinstance(value, Wire)
                    else value.part(low, high)
                )
            case s.Via(subject, connection):
                bound = self.evaluate(connection, env, "connection")
                return self._backbone(subject, env).with_stages(
                    lambda stage: replace(stage, connection=bound)
                )
            case s.By(subject, rule):
                bound = self.evaluate(rule, env, "rule")
                return self._backbone(subject, env).with_stages(
                    lambda stage: replace(stage, rule=bound)
                )
            case s.With(subject, settings):
                changes = {str(arg.name): self.evaluate(arg.value, env) for arg in settings}
                changes = {name: unnamed(value) for name, value in changes.items()}
                return self._backbone(subject, env).with_stages(
                    lambda stage: replace(stage, settings={**stage.settings, **changes})
                )
        raise AssertionError(expr)

    def _backbone(self, subject: s.Expr, env: Env) -> Backbone:
        value = unnamed(self.evaluate(subject, env))
        assert isinstance(value, Backbone)
        return value

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
        """What a name stands for: of the nearest that has it."""
        if id in env.values:
            return _called(env.values[id], id, env)
        if id == "norm" and env.what == "network":
            return self.settings["norm"]
        if id in env.definitions:
            value = self.defined(id, env)
            return Named(id, value) if want == "layer" and is_layer(value) else value
        if id in CONSTANTS:
            return CONSTANTS[id]
        if id == "spike":
            return self.settings["neuron"]
        if id == "norm":
            return self.settings["norm"]
        if id == "conv" and env.block_layers:
            return BlockLayer({})
        if id == "steps":
            return self.settings["steps"]
        if id in ("identity", "none"):
            return Identity()
        if id in env.module.names and not self._means_operation(id, env, want):
            resolved = env.module.names[id]
            return self.refer(Bound(resolved.declaration, resolved.module))
        return self.operation(id, (), env)

    def _means_operation(self, id: str, env: Env, want: str) -> bool:
        """Whether a name that a declaration has too is the operation here (`tdbn`, `sigmoid`)."""
        if id not in OPERATIONS or id not in env.module.names:
            return id in OPERATIONS
        kind = env.module.names[id].declaration.kind
        if want == "layer":
            return kind not in ("block", "neuron", "backbone")
        return want == "norm"

    def defined(self, id: str, env: Env) -> Any:
        """The value of a line of the body: computed once, its weights called by its name."""
        if id in env.cache:
            return env.cache[id]
        if env.loops.reads is None and not env.loops.pending:
            return self._until_settled(id, env)
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

    def _until_settled(self, id: str, env: Env) -> Any:
        """A line, computed over all steps as often as there are steps.

        What is delayed in a circle is taken to be 0 at first, and then as it came out: each time one
        more step is right, and so are the gradients of that many.
        """
        loops, cache, numbers = env.loops, dict(env.cache), self.numbers()
        loops.guesses = {}
        done = 0
        while True:
            loops.reads = {}
            value = self._line(id, env)
            found = self._read_all(loops)
            loops.reads = None
            done += 1
            if not found or done == next(iter(found.values())).data.shape[0]:
                return value
            loops.guesses = found
            env.cache.clear()
            env.cache.update(cache)
            self.put_back(numbers)

    def _read_all(self, loops: Loops) -> dict[object, Wire]:
        """What is delayed, as it comes out of a pass."""
        assert loops.reads is not None
        found: dict[object, Wire] = {}
        while len(found) < len(loops.reads):  # what is read may come upon another
            key = list(loops.reads)[len(found)]
            read, steps, _ = loops.reads[key]
            found[key] = self.delayed(read(), steps)
        return found

    def _cut(self, steps: tuple[s.Expr, ...], env: Env) -> int | None:
        """The first delay of a flow, where what stands before it depends on the line itself."""
        if env.loops.reads is None or not env.loops.pending:
            return None
        for place, step in enumerate(steps):
            name = step.function if isinstance(step, s.Call) else step
            if place and isinstance(name, s.Name) and self._is_delay(name.id, env):
                names = {
                    n.id for each in steps[:place] for n in s.walk(each) if isinstance(n, s.Name)
                }
                return place if self._reads(names, env.loops.pending[-1], env) else None
        return None

    def _is_delay(self, id: str, env: Env) -> bool:
        own = id in env.values or id in env.definitions
        return id == "delay" and not own and self._means_operation(id, env, "layer")

    def _reads(self, names: set[str], wanted: str, env: Env) -> bool:
        """Whether one of some names is a line, or reads one, that is ``wanted``."""
        seen: set[str] = set()
        waiting = [*names]
        while waiting:
            id = waiting.pop()
            if id in seen or id in env.values or id not in env.definitions:
                continue
            seen.add(id)
            expr, _ = env.definitions[id]
            waiting += [node.id for node in s.walk(expr) if isinstance(node, s.Name)]
        return wanted in seen

    def _carried(self, steps: tuple[s.Expr, ...], place: int, env: Env) -> Wire:
        """What the delay of a flow gives, as this pass takes it."""
        loops, scope, first = env.loops, self.scope, steps[0]
        assert loops.reads is not None
        delay = self.layer(steps[place], env)
        count = int(delay.attrs["steps"])
        named = isinstance(first, s.Name) and place == 1
        key: object = (first.id, count) if named else (first.span.start, count, scope)
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
        """A backbone by its name is its stages; what else is declared stays as it is."""
        if bound.kind != "backbone":
            return bound
        assert bound.declaration.value is not None
        return self.evaluate(bound.declaration.value, self.complete(bound))

    # -- calls

    def call(self, call: s.Call, env: Env, want: str) -> Any:
        assert isinstance(call.function, s.Name)
        id, args = call.function.id, call.args
        own = id in env.values or (id in env.definitions and (id, env.what) != ("norm", "network"))
        if own:
            target = env.values[id] if id in env.values else self.defined(id, env)
            if isinstance(target, Bound):
                return self.refer(self.bind(target, args, env))
        elif id == "spike":
            return self.bind(self.settings["neuron"], args, env)
        elif id == "norm":
            norm = self.settings["norm"]
            return replace(norm, attrs={**norm.attrs, **self._attributes(norm.name, args, env)})
        elif id == "conv" and env.block_layers and not any(a.name in (None, "width") for a in args):
            return BlockLayer(self._attributes("conv", args, env))
        elif id in env.module.names and not self._means_operation(id, env, want):
            resolved = env.module.names[id]
            return self.refer(self.bind(Bound(resolved.declaration, resolved.module), args, env))
        if id in OF_VALUES:
            given = assigned(args, [*OF_VALUES[id], *OPERATIONS[id]])
            values = {name: self.evaluate(expr, env) for name, expr in given.items()}
            wires = {name: value for name, value in values.items() if isinstance(value, Wire)}
            attrs = {name: value for name, value in values.items() if name not in wires}
            return self.product(id, wires, {**OPERATIONS[id], **attrs})
        if id in NUMBERS and not any(arg.name == "over" for arg in args):
            values = [self.evaluate(arg.value, env) for arg in args]
            if any(isinstance(value, Wire) for value in values):
                return self.function(id, values)
            return NUMBERS[id](*values)
        match id:
            case "stage":
                given = assigned(args, ["block", "blocks", "stride"])
                stride = self.evaluate(given["stride"], env) if "stride" in given else 1
                count = int(self.evaluate(given["blocks"], env))
                return Backbone((StageOf(self.evaluate(given["block"], env), count, int(stride)),))
            case "channels" | "rows" | "columns":
                (wire,) = (self.evaluate(arg.value, env) for arg in args)
                return wire.data.shape[2 + ("channels", "rows", "columns").index(id)]
            case "concat":
                return self.function(id, [self.evaluate(arg.value, env) for arg in args])
            case "image" | "events":
                given = assigned(args, ["channels", "height", "width", "bound"])
                sizes = (given[name] for name in ("channels", "height", "width"))
                return self.input(id, tuple(int(self.evaluate(size, env)) for size in sizes))
            case "shared":
                return Once(self.evaluate(args[0].value, env, "layer"))
            case "inputs":
                return {arg.name: self.evaluate(arg.value, env) for arg in args}
            case "outputs":
                return {
                    arg.name or (arg.value.id if isinstance(arg.value, s.Name) else f"out{place}"):
                    self.evaluate(arg.value, env)
                    for place, arg in enumerate(args)
                }  # fmt: skip
            case "learn":
                named = tuple(
                    replace(arg, name="start" if arg.name == "init" else arg.name) for arg in args
                )
                return learn_of(replace(call, args=named), lambda expr: self.evaluate(expr, env))
            case "scheduled":
                (arg,) = args
                return Learn(float(self.evaluate(arg.value, env)), trained=False)
        return self.operation(id, args, env)

    def operation(self, id: str, args: tuple[s.Arg, ...], env: Env) -> Op:
        """An operation with its parameters, those left out by default."""
        role = "norm" if id in NORMS else id
        if id == "avgpool" and not args:
            return Op("global_avgpool", {}, role)
        if id == "delay":  # a shape that is known here
            args = tuple(arg for arg in args if arg.name != "like")
        return Op(id, {**OPERATIONS[id], **self._attributes(id, args, env)}, role)

    def _attributes(self, id: str, args: tuple[s.Arg, ...], env: Env) -> dict[str, Any]:
        given = assigned(args, list(OPERATIONS[id]))
        if id not in NORMS:
            given.pop("init", None)  # where weights start: they are given
        return {name: self.evaluate(expr, env) for name, expr in given.items()}

    def bind(self, bound: Bound, args: tuple[s.Arg, ...], env: Env) -> Bound:
        given = assigned(args, [param.name for param in bound.declaration.params])
        values = {name: _given(self.evaluate(expr, env)) for name, expr in given.items()}
        return replace(bound, args={**bound.args, **values})

    def complete(self, bound: Bound) -> Env:
        """The environment of a declaration's own text: its parameters, given or by default.

        A default reads the parameters before it, and names of the file that it stands in.
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
        """Follow ``kind name = other(...)`` to a declaration with a body; a block may be a flow."""
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
        """A value through layers, or layers in order; with stages among them a backbone."""
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
        """A declaration that cannot be a layer means the operation of its name."""
        if isinstance(value, Bound) and not is_layer(value):
            return self.operation(value.declaration.name, (), Env(value.module, "flow"))
        return value
