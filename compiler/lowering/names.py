"""Meanings of names: values, definitions of the body, declarations, operations; and calls of these."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from danetc.compiler.ir.graph import Attribute, Shape
from danetc.compiler.ir.graph import Value as NodeValue
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.user import PLACE, extents
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.backbones import Backbones
from danetc.compiler.lowering.environment import (
    CONSTANTS,
    MATH,
    SPECIAL,
    WANTED,
    Env,
    Want,
    is_function,
    is_op,
)
from danetc.compiler.lowering.operations import named
from danetc.compiler.lowering.tables import TableError, table_of
from danetc.dsl.diagnostics.diagnostic import Label, closest, suggestion
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.first_weights import FIRST_WEIGHTS, STANDARD, Draw
from danetc.dsl.kinds import ANALOG, count, tokens
from danetc.dsl.neuron.opcodes import functions
from danetc.dsl.neuron.program import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span


class NamedValues(Backbones):
    """Values of names. A definition is evaluated when it is first read, and cached."""

    def meaning(self, id: str, env: Env, span: Span, want: Want = "any") -> v.Value:
        """Return the value of a name; ``want`` selects between two meanings."""
        if id in env.values:
            return named(v.known(env.values[id]), id, env)
        if id in env.definitions and (id, env.what) != ("norm", "network"):  # a setting
            value = self.defined(id, env, span)
            return v.Named(id, value, span) if want == "layer" and v.is_layer(value) else value
        if id in CONSTANTS:
            return CONSTANTS[id]
        if id in ("spike", "norm"):
            return self.default_layer("neuron" if id == "spike" else "norm", span)
        if id == "conv" and env.block_conv:
            return v.BlockConv({}, span)
        if id == "steps" and id in self.settings:
            return self.settings[id]
        if id in ("identity", "none"):
            return v.Identity(span)
        resolved = env.module.names.get(id)
        if resolved is not None and not is_op(id, resolved.declaration.kind, want):
            return self.refer(v.Bound(resolved.declaration, resolved.module, {}, span), span)
        if id in OPS and OPS[id].public:
            return self.operation(id, s.Call(s.Name(id), (), span=span), env)
        if want == "init" and id in FIRST_WEIGHTS:
            return self.initial(id, env, span)
        if id in SPECIAL:
            what = "a function of numbers" if id in MATH else "called with arguments"
            near = closest(id, env.places)
            hint = env.elsewhere.get(id) or suggestion(id, (near,) if near else ())
            hint = hint or (of_values(id) if want == "layer" else None)
            hint = hint or f"write `{SPECIAL[id].usage}`"
            raise self.error("E0405", f"`{id}` is {what}", span, hint=hint)
        raise self.unknown(id, env, span, want)

    def defined(self, id: str, env: Env, span: Span) -> v.Value:
        """Return the value of ``id = ...`` in the body."""
        env.used.add(id)
        if id in env.pending and id not in env.cache:
            raise self._circle(id, env, span)
        if id not in env.cache:
            for name in self._needs(id, env):
                with suppress(v.Failed):  # the failure is cached
                    self._evaluated(name, env)
        return self._evaluated(id, env)

    def _circle(self, id: str, env: Env, span: Span) -> v.Failed:
        """Report a definition that needs its own value."""
        circle = env.pending[env.pending.index(id) :]
        through = f", through `{'`, `'.join(circle[1:])}`" if len(circle) > 1 else ""
        hint = f"to read its value at the previous step, use a delay: `{id} -> delay(1)`"
        is_flow = any(isinstance(node, s.Flow) for node in s.walk(env.definitions[id].value))
        if not through and env.what == "network" and not is_flow:
            hint = f"to set it from outside, declare a parameter: `network NAME({id} = ...)`"
        places = ((name, env.definitions[name].span) for name in circle)
        labels = tuple(Label(at, f"`{name}` is defined here") for name, at in places)
        message = f"`{id}` is defined in terms of itself{through}"
        return self.error("E0211", message, span, labels=labels, hint=hint)

    def defined_layer(self, id: str, env: Env, span: Span) -> v.Layer:
        """Return the layer that ``id = ...`` defines in the body (E0401)."""
        found = self.defined(id, env, span)
        if not v.is_layer(found):
            message = f"`{id}` is {v.describe(found)}, not a layer"
            raise self.error("E0401", message, env.definitions[id].value.span)
        return found

    def _needs(self, id: str, env: Env) -> list[str]:
        """Return the definitions that one always reads, in an order in which none needs a later one.

        This order avoids recursion for a long chain of definitions.
        """
        order: list[str] = []
        seen = {id, *env.pending}
        # what is in a circle with the reader may be read through a delay alone: then it comes later
        circles = self.circles_of(env) if self.has_delays(env) else {}
        stack = [(id, iter(self.certain_names(env.definitions[id].value)))]
        while stack:
            name, names = stack[-1]
            found = next(names, None)
            if found is None:
                stack.pop()
                order.append(name)
            elif (
                found in env.definitions
                and found not in env.values
                and found not in env.cache
                and found not in seen
                and (found not in circles or circles[found] != circles.get(name))
            ):
                seen.add(found)
                stack.append((found, iter(self.certain_names(env.definitions[found].value))))
        return order[:-1]

    def _evaluated(self, id: str, env: Env) -> v.Value:
        """Return the value of a definition; a failure is cached, and so is reported once."""
        if id in env.cache:
            return v.known(env.cache[id])
        if not env.pending and env.loops.carries is None and self.has_delays(env):
            return self.converged(env, lambda: self._read(id, env))
        return self._read(id, env)

    def _read(self, id: str, env: Env) -> v.Value:
        definition = env.definitions[id]
        env.pending.append(id)
        want = WANTED.get(env.what, {}).get(id, "any")
        try:
            with self.changed(scope=env.scope if id == "out" else (*env.scope, id)):
                value = named(self.evaluate(definition.value, definition.env, want), id, env)
        except v.Failed as failed:
            env.cache[id] = failed
            raise
        finally:
            env.pending.pop()
        env.cache[id] = value
        return value

    def setting_of(self, id: str, span: Span) -> v.Value:
        """Return the neuron, surrogate or norm of the network or stage."""
        self.settings_read.add(id)
        value = v.known(self.settings.get(id))
        if id in self.misspelt:
            raise v.Failed
        if value is None:
            lines = {"neuron": "neuron = IF", "surrogate": "surrogate = sigmoid(alpha = 4)"}
            line = lines.get(id, id)
            hint = f"add `{line}` to it"
            if self.network is not None:
                hint = add(self.network, line, " to it")
            raise self.error("E0404", f"the network does not define its {id}", span, hint=hint)
        return value

    def default_layer(self, id: str, span: Span) -> v.Value:
        """Return the neuron or norm that `spike` or `norm` stands for."""
        value = self.setting_of(id, span)
        return replace(value, at=span) if isinstance(value, (v.Bound, v.OpLayer)) else value

    def refer(self, bound: v.Bound, span: Span) -> v.Value:
        """Return the value of a declaration's name: a backbone is unfolded."""
        if bound.kind == "backbone":
            return self.unfold(bound, span)
        if bound.kind in ("network", "recipe"):
            labels = (Label(bound.declaration.name_span, "declared here"),)
            message = f"the {bound.kind} `{bound.name}` cannot be used here"
            raise self.error("E0403", message, span, labels=labels)
        return bound

    # -- calls ----------------------------------------------------------------------------------------

    def call_value(self, call: s.Call, env: Env, want: Want) -> v.Value:
        """Evaluate a call; ``want`` selects between two meanings of its name."""
        span, args = call.span, call.args
        if not isinstance(call.function, s.Name):
            raise self.error("E0402", "only names can be called", call.function.span)
        id = call.function.id
        target: v.Value | None = None
        if id in env.values or (id in env.definitions and (id, env.what) != ("norm", "network")):
            target = self._called_value(call, id, env)
        elif id == "spike":
            target = self.default_layer("neuron", span)
        elif id == "norm":
            return self._norm(call, env)
        elif id == "conv" and env.block_conv and not any(a.name in (None, "width") for a in args):
            return v.BlockConv(self.attributes("conv", call, env, partial=True), span)
        elif id in env.module.names:
            resolved = env.module.names[id]
            if not is_op(id, resolved.declaration.kind, want):
                target = v.Bound(resolved.declaration, resolved.module, {}, span)
        if isinstance(target, v.Bound):
            return self.refer(self.bind(target, call, env), span)
        if is_function(call, id):
            return self.sum_of(id, call, env) if id not in MATH else self._math(id, call, env)
        if id in _CALLS:
            return _CALLS[id](self, call, env)
        if id in ("channels", "rows", "columns"):
            return self._size(id, call, env)
        if id in ("image", "events", "tokens"):
            return self._input(id, call, env)
        if id in FIRST_WEIGHTS:
            return self.initial(id, env, span, call)
        if id in OPS and OPS[id].public:
            if want in ("neuron", "surrogate") and not self.complete_names:
                raise v.Failed  # a syntax error hides the declaration of this name
            if OPS[id].arguments:
                return self.product_of(id, call, env)
            return self.operation(id, call, env)
        raise self.unknown(id, env, call.function.span, want)

    def _called_value(self, call: s.Call, id: str, env: Env) -> v.Bound | None:
        """Return the declaration that a local name stands for; None if it means a function here."""
        target = env.values[id] if id in env.values else self.defined(id, env, call.function.span)
        if isinstance(target, v.Bound):
            return target
        if isinstance(target, (bool, int, float, str)) and (id in SPECIAL or id in OPS):
            return None
        hint = "is a `*` missing?" if isinstance(target, (int, float)) else None
        if isinstance(target, v.Wire):
            hint = "a layer follows a value: `a -> b`; or is a `*` missing?"
        message = f"`{id}` is {v.describe(target)} and takes no arguments"
        raise self.error("E0402", message, call.span, hint=hint)

    def _norm(self, call: s.Call, env: Env) -> v.Layer:
        """Return the network's norm with arguments changed, as in ``norm(init = 0)``."""
        layer = self.setting_of("norm", call.span)
        if isinstance(layer, v.Identity):
            message = "the network has no norm (`norm = none`), so it has no parameters"
            raise self.error("E0301", message, call.span)
        if not isinstance(layer, v.OpLayer):
            message = f"norm is {v.describe(layer)} and takes no arguments"
            raise self.error("E0402", message, call.span)
        changes = self.attributes(layer.op, call, env, partial=True)
        return v.OpLayer(layer.op, {**layer.attrs, **changes}, call.span, layer.role)

    def _math(self, id: str, call: s.Call, env: Env) -> v.Value:
        several = id in ("min", "max")
        self.assign_special(id, call)
        listed = self.list_of(call, env)
        values = [self.evaluate(arg.value, inner) for arg, inner in listed]
        if len(values) == 1 and id in OPS and not several:
            if isinstance(values[0], v.Wire):
                return self.add(id, (values[0],), {}, call.span)
            if isinstance(found := values[0], v.LearntValue):
                before = *found.functions, (found.factor, found.offset, id)
                return replace(found, factor=1.0, offset=0.0, functions=before)
        if several and len(values) == 1 and _has_each(call):
            return values[0]
        if len(values) < 2 if several else len(values) != 1:
            needs = "two values or more" if several else "one number"
            of_wires = id in OPS and any(isinstance(value, v.Wire) for value in values)
            hint = f"over an axis it is a layer: `a -> {id}(over = channels)`" if of_wires else None
            message = f"`{id}` takes {needs}, not {len(values) or 'none'}"
            raise self.error("E0303", message, call.span, hint=hint)
        wire = next((value for value in values if isinstance(value, v.Wire)), None)
        if several and wire is not None:
            op = "minimum" if id == "min" else "maximum"
            values = [self.met(value, wire, call.span) for value in values]
            wires = tuple(value for value in values if isinstance(value, v.Wire))
            if len(wires) < len(values):
                message = f"`{id}` takes numbers or values, not both"
                raise self.error("E0402", message, call.span)
            return self.join(op, wires, call.span)
        for (arg, inner), value in zip(listed, values, strict=True):
            if not v.is_number(value):
                hint = of_values(id) if isinstance(value, v.Wire) else None
                message = f"`{id}` takes numbers here, not {v.describe(value)}"
                raise self.reject("E0304", message, arg.value, inner, hint)
        try:
            return self.bounded(MATH[id](*values), call.span)
        except (ValueError, OverflowError):
            shown = ", ".join(f"{value:g}" for value in values)
            raise self.reject("E0306", f"`{id}({shown})` has no value", call, env) from None

    def _operands(self, name: str, call: s.Call, env: Env) -> tuple[v.Wire, ...]:
        self.assign_special(name, call)
        needs = f"`{name}` takes values"
        return tuple(self.operand(arg, inner, needs) for arg, inner in self.list_of(call, env))

    def _concat(self, call: s.Call, env: Env) -> v.Wire:
        wires = self._operands("concat", call, env)
        if len(wires) == 1 and _has_each(call):
            return wires[0]
        if len(wires) < 2:
            raise self.error("E0303", "`concat` takes two values or more", call.span)
        return self.add("concat", wires, {}, call.span)

    def _size(self, name: str, call: s.Call, env: Env) -> int:
        """Return the number of channels, rows or columns of a value."""
        axis = ("channels", "rows", "columns").index(name)
        wires = self._operands(name, call, env)
        if len(wires) != 1:
            message = f"`{name}` takes one value, not {len(wires) or 'none'}"
            raise self.error("E0303", message, call.span)
        shape = self.value(wires[0]).shape
        if axis >= len(shape):
            message = f"a vector of {shape[0]} has no {name}"
            raise self.error("E0501", message, call.span, hint="ask a map")
        return shape[axis]

    def _stage(self, call: s.Call, env: Env) -> v.Backbone:
        given = self.arguments("stage", call, env)
        block = given["block"]
        named = (arg.value for arg in call.args if arg.name == "block")
        expr = next(named, call.args[0].value)
        if isinstance(expr, s.Flow) or (v.is_layer(block) and not isinstance(block, v.Bound)):
            flow = s.Declaration(
                "block", "flow", (), expr, None, span=expr.span, name_span=expr.span
            )
            block = v.Bound(flow, env.module, {}, expr.span, env=env)
        if not isinstance(block, v.Bound) or block.kind != "block":
            message = f"a stage consists of blocks, not of {v.describe(block)}"
            raise self.reject("E0403", message, expr, env, f"write `{SPECIAL['stage'].usage}`")
        stage = v.StageOf(block, given["blocks"], given["stride"], call.span)
        return v.Backbone((stage,), call.span)

    def _input(self, name: str, call: s.Call, env: Env) -> v.Wire:
        """Add an input of the network: ``image``, ``events`` with counts up to a bound, or ``tokens``."""
        given, own = self.arguments(name, call, env), self.input_name
        shape: Shape
        if name == "tokens":
            shape, kind = (given["length"] or 1,), tokens(given["vocabulary"])
            events = given["length"] is None
        else:
            shape = given["channels"], given["height"], given["width"]
            events, kind = name == "events", count(given["bound"]) if given.get("bound") else ANALOG
        known = (node for node in self.nodes.values() if node.op == "input")
        if any(node.attrs.get("name", "") == own for node in known):
            message = f"`{own}` contains two inputs" if own else "a network has one input"
            hint = "several have names: `input = inputs(a = image(C, H, W), b = ...)`"
            raise self.error("E0502", message, call.span, hint=hint)
        attrs: dict[str, Attribute] = {"events": events, **({"name": own} if own else {})}
        value = NodeValue(shape, kind, events)
        made = self.add("input", (), attrs, call.span, own or None, value)
        return self.at_each_step(made, call.span)

    def _shared(self, call: s.Call, env: Env) -> v.SharedLayer:
        value = self.arguments("shared", call, env)["layer"]
        if not v.is_layer(value):
            message = f"`shared` takes a layer, not {v.describe(value)}"
            hint = "a flow that starts with a layer: `f = shared(conv(8) -> norm)`, then `a -> f`"
            raise self.error("E0401", message, call.args[0].span, hint=hint)
        return v.SharedLayer(value, call.span)

    def _python(self, call: s.Call, env: Env) -> v.OpLayer:
        """Return a layer in Python; arguments that are not its own are those of its class."""
        parameters = SPECIAL["python"].parameters or ()
        names = [item.name for item in parameters]
        others = [arg.name for arg in call.args if arg.name and arg.name not in names]
        given = self.assign(call, [*names, *others], "`python`", "python", unnamed=1)
        attrs = self._values("python", parameters, given, call, env)
        place, like = attrs["place"], attrs["like"]
        if not isinstance(place, str) or not PLACE.fullmatch(place):
            message = f"`python` takes a file and a class, not {v.describe(place)}"
            hint = 'write `python("FILE.py:CLASS")`'
            raise self.reject("E0508", message, given["place"].value, env, hint)
        if like is not None:
            wire = self.operand(given["like"], env, "`like` of `python` is a value")
            attrs["like"] = extents(self.value(wire).shape)
        own: dict[str, v.Value] = {}
        for name in others:
            value = own[name] = self.evaluate(given[name].value, env)
            if not isinstance(value, (bool, int, float, str)):
                what = f"`{name}` of `{place}`"
                message = f"{what} must be a number or a text, not {v.describe(value)}"
                raise self.reject("E0304", message, given[name].value, env)
        attrs["arguments"] = json.dumps(own, sort_keys=True)
        return v.OpLayer("user_module", attrs, call.span, "python")

    def _table(self, call: s.Call, env: Env) -> v.Wire:
        """Return the numbers of a file beside the spec as a value."""
        try:
            numbers = table_of(call)
        except TableError as problem:
            message, hint = problem.args
            raise self.error("E0509", message, call.span, hint=hint) from None
        return self.add("table", (), {"numbers": numbers}, call.span)

    def no_input(self, name: str, value: v.Value, span: Span) -> v.Failed:
        """Report a value in place of an input."""
        message = f"`{name}` is {v.describe(value)}, not an image, events or tokens"
        hint = "write `image(C, H, W)`, `events(C, H, W)` or `tokens(VOCABULARY)`, and encoders after `->`"
        return self.error("E0502", message, span, hint=hint)

    def _inputs(self, call: s.Call, env: Env) -> v.Inputs:
        wires: dict[str, v.Wire] = {}
        places: dict[str, Span] = {}
        for arg in call.args:
            if arg.name is None:
                hint = f"write `inputs(NAME = {arg.span.text}, ...)`"
                message = "each of several inputs needs a name"
                raise self.error("E0307", message, arg.span, hint=hint)
            if arg.name in wires:
                raise self.error("E0302", f"two inputs are called `{arg.name}`", arg.span)
            with self.changed(input_name=arg.name):
                value = self.evaluate(arg.value, env)
            if not isinstance(value, v.Wire):
                raise self.no_input(arg.name, value, arg.value.span)
            wires[arg.name], places[arg.name] = value, arg.span
        if len(wires) < 2:
            hint = "for a single input, write `input = image(C, H, W)`"
            raise self.error("E0303", "`inputs` takes two inputs or more", call.span, hint=hint)
        return v.Inputs(wires, places)

    def _outputs(self, call: s.Call, env: Env) -> v.Outputs:
        wires: dict[str, v.Wire] = {}
        for index, (arg, inner) in enumerate(self.list_of(call, env)):
            value = self.operand(arg, inner, "an output is a value")
            name = arg.name or (arg.value.id if isinstance(arg.value, s.Name) else f"out{index}")
            if name in wires:
                raise self.error("E0302", f"two outputs are called `{name}`", arg.span)
            wires[name] = value
        if not wires:
            raise self.error("E0303", "`outputs` takes one value or more", call.span)
        return v.Outputs(wires)

    def _learn(self, call: s.Call, env: Env) -> v.LearntValue:
        given = self.arguments("learn", call, env)
        init, above, below, per = (given[name] for name in ("init", "above", "below", "per"))
        steps = given["per_step"] or per == "step"
        learn = Learn(init, above, below, "layer" if per == "step" else per, steps)
        if learn.fault is not None:
            message, hint = learn.fault
            raise self.error("E0305", message, call.span, hint=hint)
        return v.LearntValue(learn)

    def _random(self, call: s.Call, env: Env) -> v.LearntValue:
        given = self.arguments("random", call, env)
        draw = Draw(given["law"] or STANDARD["uniform"], given["evaluate"], given["per"])
        if draw.law.fault is not None:
            message = f"`{draw.law}` is not a distribution: {draw.law.fault}"
            raise self.error("E0305", message, call.span)
        return v.LearntValue(draw)

    def _scheduled(self, call: s.Call, env: Env) -> v.LearntValue:
        return v.LearntValue(Learn(self.arguments("scheduled", call, env)["start"], trained=False))


_CALLS: Mapping[str, Callable[[NamedValues, s.Call, Env], v.Value]] = {
    "stage": NamedValues._stage,
    "concat": NamedValues._concat,
    "shared": NamedValues._shared,
    "python": NamedValues._python,
    "inputs": NamedValues._inputs,
    "outputs": NamedValues._outputs,
    "table": NamedValues._table,
    "learn": NamedValues._learn,
    "random": NamedValues._random,
    "scheduled": NamedValues._scheduled,
}
"""Functions of ``SPECIAL`` with methods of their own."""


def _has_each(call: s.Call) -> bool:
    """True if a list of values may have any length."""
    return any(isinstance(arg.value, s.Each) for arg in call.args)


def of_values(id: str) -> str | None:
    """Hint for a function of numbers that is applied to values; None if it takes them."""
    if id not in MATH or id in ("min", "max"):
        return None
    if id in OPS:
        return f"for a value, write `{id}(a)`"
    if id in functions():
        return f"for a value, write an activation: `neuron NAME {{ s = {id}(x) }}`"
    return f"`{id}` takes numbers, not values, as in `{id}(width / 2)`"
