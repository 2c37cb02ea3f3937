"""Calls: of declarations, of operations, and of the functions that every spec knows."""

from __future__ import annotations

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.graph import Value as NodeValue
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.environment import MATH, SPECIAL, Env, Want, is_op
from danetc.compiler.lowering.names import DefinedNames, of_values
from danetc.compiler.lowering.values import (
    INVALID,
    Backbone,
    BlockConv,
    Bound,
    Choice,
    Failed,
    Identity,
    Inputs,
    Invalid,
    Layer,
    OpLayer,
    Outputs,
    SharedLayer,
    StageOf,
    Value,
    Wire,
    describe,
    is_layer,
    is_number,
)
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.first_weights import FIRST_WEIGHTS
from danetc.dsl.kinds import ANALOG, count
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.words import LEARNT_PER

_A_VALUE = "a value starts at `in` or at the name of one"


class Calls(DefinedNames):
    """Values of calls."""

    def call_value(self, call: s.Call, env: Env, want: Want) -> Value:
        """Evaluate a call; ``want`` selects between two meanings of its name."""
        span, args = call.span, call.args
        if not isinstance(call.function, s.Name):
            raise self.error("E0402", "only a name can be called", call.function.span)
        id = call.function.id
        target: Value | None = None
        if id == "norm" and env.what == "network" and id not in env.values:
            return self._norm(call, env)  # the setting, as the bare name is
        if id in env.values or id in env.definitions:
            target = self._called_value(call, id, env)
        elif id == "spike":
            target = self.default_layer("neuron", span)
        elif id == "norm":
            return self._norm(call, env)
        elif id == "conv" and env.block_conv and not any(a.name in (None, "width") for a in args):
            return BlockConv(self.attributes("conv", args, env, span, partial=True), span)
        elif id in env.module.names:
            resolved = env.module.names[id]
            if not is_op(id, resolved.declaration.kind, want):
                target = Bound(resolved.declaration, resolved.module, {}, span)
        if isinstance(target, Bound):
            return self.refer(self.bind(target, args, env, span), span)
        if id in MATH and not (id in OPS and any(arg.name for arg in args)):
            return self._math(id, call, env)
        match id:
            case "stage":
                return self._stage(call, env)
            case "channels" | "rows" | "columns":
                return self._size(id, call, env)
            case "concat":
                return self._concat(call, env)
            case "image" | "events":
                return self._input(id, call, env)
            case "shared":
                return self._shared(call, env)
            case "inputs":
                return self._inputs(call, env)
            case "outputs":
                return self._outputs(call, env)
            case "learn":
                return self._learn(call, env)
            case "scheduled":
                given = self.assign_special(id, args, span)
                if "start" not in given:
                    raise self.error("E0307", "`scheduled` needs the value to start from", span)
                return Learn(float(self.number(given["start"].value, env)), trained=False)
        if id in FIRST_WEIGHTS:
            return self.drawn(id, span, self.assign_special(id, args, span), env)
        if id in OPS and OPS[id].public:
            if want in ("neuron", "surrogate") and not self.complete_names:
                raise Failed  # a syntax error hides the declaration of this name
            if OPS[id].arguments:
                return self.product_of(id, call, env)
            return self.operation(id, args, env, span)
        raise self.unknown(id, env, call.function.span, want)

    def _called_value(self, call: s.Call, id: str, env: Env) -> Bound | None:
        """Return the declaration that a local name stands for; None if it means a function here."""
        target = env.values[id] if id in env.values else self.defined(id, env, call.function.span)
        if isinstance(target, Bound):
            return target
        if isinstance(target, (bool, int, float, str)) and (id in SPECIAL or id in OPS):
            return None
        if isinstance(target, Invalid):
            raise Failed
        hint = "is a `*` missing?" if isinstance(target, (int, float)) else None
        if isinstance(target, Wire):
            hint = "a layer follows a value: `a -> b`; or is a `*` missing?"
        message = f"`{id}` is {describe(target)} and takes no arguments"
        raise self.error("E0402", message, call.span, hint=hint)

    def _norm(self, call: s.Call, env: Env) -> Layer:
        """Return the network's norm with arguments changed, as in ``norm(init = 0)``."""
        layer = self.setting_of("norm", call.span)
        if isinstance(layer, Identity):
            message = "the network has no norm (`norm = none`), so it has no parameters"
            raise self.error("E0301", message, call.span)
        if not isinstance(layer, OpLayer):
            message = f"norm is {describe(layer)} and takes no arguments"
            raise self.error("E0402", message, call.span)
        changes = self.attributes(layer.op, call.args, env, call.span, partial=True)
        return OpLayer(layer.op, {**layer.attrs, **changes}, call.span, layer.role)

    def _math(self, id: str, call: s.Call, env: Env) -> Value:
        several = id in ("min", "max")
        self.assign_special(id, call.args, call.span)
        values = [self.evaluate(arg.value, env) for arg in call.args]
        if len(values) == 1 and isinstance(values[0], Wire) and id in OPS and not several:
            return self.add(id, (values[0],), {}, call.span)
        if len(values) < 2 if several else len(values) != 1:
            needs = "two values or more" if several else "one number"
            of_wires = id in OPS and any(isinstance(value, Wire) for value in values)
            hint = f"over an axis it is a layer: `a -> {id}(over = channels)`" if of_wires else None
            message = f"`{id}` takes {needs}, not {len(values) or 'none'}"
            raise self.error("E0303", message, call.span, hint=hint)
        if any(isinstance(value, Invalid) for value in values):
            return INVALID
        wire = next((value for value in values if isinstance(value, Wire)), None)
        if several and wire is not None:
            op = "minimum" if id == "min" else "maximum"
            values = [self.met(value, wire, call.span) for value in values]
            return self.join(op, self._wires(id, call, values), call.span)
        for arg, value in zip(call.args, values, strict=True):
            if not is_number(value):
                hint = of_values(id) if isinstance(value, Wire) else None
                message = f"`{id}` takes numbers here, not {describe(value)}"
                raise self.error(
                    "E0304", message, arg.span, blame=self.blame(arg.value, env), hint=hint
                )
        try:
            return self.bounded(MATH[id](*values), call.span)
        except (ValueError, OverflowError):
            shown = ", ".join(f"{value:g}" for value in values)
            raise self.reject("E0306", f"`{id}({shown})` has no value", call, env) from None

    def _wires(self, name: str, call: s.Call, values: list[Value]) -> tuple[Wire | Invalid, ...]:
        """Return the arguments of a function of values (E0402)."""
        wires: list[Wire | Invalid] = []
        for arg, value in zip(call.args, values, strict=True):
            if not isinstance(value, (Wire, Invalid)):
                message = f"`{name}` takes values, not {describe(value)}"
                raise self.error("E0402", message, arg.span, hint=_A_VALUE)
            wires.append(value)
        return tuple(wires)

    def _operands(self, name: str, call: s.Call, env: Env) -> tuple[Wire | Invalid, ...]:
        self.assign_special(name, call.args, call.span)
        return self._wires(name, call, [self.evaluate(arg.value, env) for arg in call.args])

    def _concat(self, call: s.Call, env: Env) -> Wire | Invalid:
        wires = self._operands("concat", call, env)
        if len(wires) < 2:
            raise self.error("E0303", "`concat` takes two values or more", call.span)
        return self.add("concat", wires, {}, call.span)

    def _size(self, name: str, call: s.Call, env: Env) -> int | Invalid:
        """Return the number of channels, rows or columns of a value."""
        axis = ("channels", "rows", "columns").index(name)
        wires = self._operands(name, call, env)
        if len(wires) != 1:
            message = f"`{name}` takes one value, not {len(wires) or 'none'}"
            raise self.error("E0303", message, call.span)
        (wire,) = wires
        if isinstance(wire, Invalid):
            return INVALID
        shape = self.value(wire).shape
        if axis >= len(shape):
            message = f"a vector of {shape[0]} has no {name}"
            raise self.error("E0501", message, call.span, hint="ask a map")
        return shape[axis]

    def _stage(self, call: s.Call, env: Env) -> Backbone:
        given = self.assign_special("stage", call.args, call.span)
        hint = "write `stage(BLOCK, N, stride = S)`"
        for name, what in (("block", "its block"), ("blocks", "a number of blocks")):
            if name not in given:
                raise self.error("E0307", f"`stage` needs {what}", call.span, hint=hint)
        expr = given["block"].value
        block = self.valid(expr, env, "block")
        if not isinstance(block, Bound) or block.kind != "block":
            message = f"a stage is made of blocks, not of {describe(block)}"
            raise self.reject("E0403", message, expr, env, hint)
        number = self.whole(given["blocks"].value, env, "the number of blocks", 1, 100_000)
        stride = 1
        if "stride" in given:
            stride = self.whole(given["stride"].value, env, "stride", 1, 4096)
        return Backbone((StageOf(block, number, stride, call.span),), call.span)

    def _input(self, name: str, call: s.Call, env: Env) -> Wire | Invalid:
        """Add an input of the network: ``image`` or ``events`` with counts up to a bound."""
        given = self.assign_special(name, call.args, call.span)
        sizes = ("channels", "height", "width")
        missing = ", ".join(size for size in sizes if size not in given)
        if missing:
            hint = f"write `{name}(C, H, W)`"
            raise self.error("E0307", f"`{name}` needs {missing}", call.span, hint=hint)
        shape = tuple(self.whole(given[size].value, env, size, 1, 2**16) for size in sizes)
        kind, events, own = ANALOG, name == "events", self.input_name
        if "bound" in given:
            kind = count(self.whole(given["bound"].value, env, "bound", 1, 2**24))
        known = (node for node in self.nodes.values() if node.op == "input")
        if any(node.attrs.get("name", "") == own for node in known):
            message = f"`{own}` holds two inputs" if own else "a network has one input"
            hint = "several have names: `input = inputs(a = image(C, H, W), b = ...)`"
            raise self.error("E0502", message, call.span, hint=hint)
        attrs: dict[str, Attribute] = {"events": events}
        if own:
            attrs["name"] = own
        value = NodeValue(shape, kind, events)
        return self.at_each_step(
            self.add("input", (), attrs, call.span, own or None, value), call.span
        )

    def at_each_step(self, wire: Wire | Invalid, span: Span) -> Wire | Invalid:
        """Return a value that varies; a static one is repeated."""
        if isinstance(wire, Invalid) or self.value(wire).varies:
            return wire
        return self.add("repeat", (wire,), {}, span)

    def _shared(self, call: s.Call, env: Env) -> SharedLayer:
        given = self.assign_special("shared", call.args, call.span)
        if "layer" not in given:
            hint = "write `f = shared(conv(8) -> norm)`"
            raise self.error("E0307", "`shared` needs the layer", call.span, hint=hint)
        value = self.valid(given["layer"].value, env, "layer")
        if not is_layer(value):
            message = f"`shared` takes a layer, not {describe(value)}"
            hint = "a flow that starts with a layer: `f = shared(conv(8) -> norm)`, then `a -> f`"
            raise self.error("E0401", message, given["layer"].span, hint=hint)
        return SharedLayer(value, call.span)

    def _inputs(self, call: s.Call, env: Env) -> Inputs:
        wires: dict[str, Wire | Invalid] = {}
        places: dict[str, Span] = {}
        for arg in call.args:
            if arg.name is None:
                hint = f"write `inputs(NAME = {arg.span.text}, ...)`"
                raise self.error("E0307", "an input of several needs a name", arg.span, hint=hint)
            if arg.name in wires:
                raise self.error("E0302", f"two inputs are called `{arg.name}`", arg.span)
            self.input_name = arg.name
            try:
                value = self.evaluate(arg.value, env)
            finally:
                self.input_name = ""
            if not isinstance(value, (Wire, Invalid)):
                message = f"`{arg.name}` is {describe(value)}, not an image or events"
                hint = "write `image(C, H, W)` or `events(C, H, W)`, and encoders after `->`"
                raise self.error("E0502", message, arg.value.span, hint=hint)
            wires[arg.name], places[arg.name] = value, arg.span
        if len(wires) < 2:
            hint = "one is written without it: `input = image(C, H, W)`"
            raise self.error("E0303", "`inputs` takes two inputs or more", call.span, hint=hint)
        return Inputs(wires, places)

    def _outputs(self, call: s.Call, env: Env) -> Outputs:
        wires: dict[str, Wire | Invalid] = {}
        for index, arg in enumerate(call.args):
            value = self.evaluate(arg.value, env)
            if not isinstance(value, (Wire, Invalid)):
                message = f"an output is a value, not {describe(value)}"
                raise self.error("E0402", message, arg.value.span, hint=_A_VALUE)
            name = arg.name or (arg.value.id if isinstance(arg.value, s.Name) else f"out{index}")
            if name in wires:
                raise self.error("E0302", f"two outputs are called `{name}`", arg.span)
            wires[name] = value
        if not wires:
            raise self.error("E0303", "`outputs` takes one value or more", call.span)
        return Outputs(wires)

    def _learn(self, call: s.Call, env: Env) -> Learn:
        given = self.assign_special("learn", call.args, call.span)
        if "init" not in given:
            raise self.error("E0307", "`learn` needs the value to start from", call.span)
        per = "layer"
        if "per" in given:
            arg = given.pop("per")
            value = self.evaluate(arg.value, env, "per")
            if not (isinstance(value, Choice) and value.id in LEARNT_PER):
                words = ", ".join(f"`{word}`" for word in LEARNT_PER)
                hint = did_you_mean(arg.value.span.text, LEARNT_PER)
                message = f"`per` of `learn` must be one of {words}, not {describe(value)}"
                raise self.error("E0304", message, arg.span, hint=hint)
            per = value.id
        by_step = given.pop("per_step", None)
        steps = per == "step" or (by_step is not None and self.condition(by_step.value, env))
        numbers = {name: float(self.number(arg.value, env)) for name, arg in given.items()}
        init, above, below = numbers["init"], numbers.get("above"), numbers.get("below")
        if (above is not None and init <= above) or (below is not None and init >= below):
            message = f"learn starts at {init:g}, outside of its bounds"
            raise self.error("E0305", message, call.span)
        return Learn(init, above, below, "layer" if per == "step" else per, steps)
