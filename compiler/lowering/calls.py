"""Calls: of declarations, of operations, and of the functions that every spec knows."""

from __future__ import annotations

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.arguments import assign_special
from danetc.compiler.lowering.axes import join
from danetc.compiler.lowering.declared import bind
from danetc.compiler.lowering.environment import MATH, SPECIAL, Env, Want, is_op
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.learnt import met
from danetc.compiler.lowering.names import defined, of_values, refer, setting_of, standing
from danetc.compiler.lowering.operations import drawn, operation, operation_attributes, product_of
from danetc.compiler.lowering.unknown import unknown
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
    OnceMade,
    OpLayer,
    Outputs,
    StageOf,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.first_weights import FIRST_WEIGHTS
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.words import LEARNT_PER


def call_value(evaluator: Evaluator, call: s.Call, env: Env, want: Want) -> Value:
    """The value of a call; ``want`` tells apart the two meanings that its name may have."""
    span = call.span
    if not isinstance(call.function, s.Name):
        raise evaluator.builder.fail("E0402", "only a name can be called", call.function.span)
    id = call.function.id
    target: Value | None = None
    if id == "norm" and env.what == "network" and id not in env.values:
        return _norm(evaluator, call, env)  # the setting, as the bare name is
    if id in env.values or id in env.definitions:
        target = (
            env.values[id] if id in env.values else defined(evaluator, id, env, call.function.span)
        )
        if isinstance(target, (bool, int, float, str)) and (id in SPECIAL or id in OPS):
            target = None
        elif isinstance(target, Invalid):
            raise Failed
        elif not isinstance(target, Bound):
            hint = "is a `*` missing?" if isinstance(target, (int, float)) else None
            if isinstance(target, Wire):
                hint = "a layer follows a value: `a -> b`; or is a `*` missing?"
            raise evaluator.builder.fail(
                "E0402", f"`{id}` is {describe(target)} and takes no arguments", span, hint=hint
            )
    elif id == "spike":
        target = standing(evaluator, "neuron", span)
    elif id == "norm":
        return _norm(evaluator, call, env)
    elif id == "conv" and env.block_conv and not _gives(call.args, "width"):
        return BlockConv(
            operation_attributes(evaluator, "conv", call.args, env, span, partial=True), span
        )
    elif id in env.module.names:
        resolved = env.module.names[id]
        if not is_op(id, resolved.declaration.kind, want):
            target = Bound(resolved.declaration, resolved.module, {}, span)
    if isinstance(target, Bound):
        return refer(evaluator, bind(evaluator, target, call.args, env, span), span)
    if id in MATH and not (id in OPS and any(arg.name for arg in call.args)):
        return _math(evaluator, id, call, env)
    match id:
        case "stage":
            return _stage(evaluator, call, env)
        case "channels":
            return _size(evaluator, id, call, env, 0)
        case "rows" | "columns":
            return _size(evaluator, id, call, env, 1 + (id == "columns"))
        case "concat":
            return _concat(evaluator, call, env)
        case "image" | "events":
            return _input(evaluator, id, call, env)
        case "shared":
            return _shared(evaluator, call, env)
        case "inputs":
            return _inputs(evaluator, call, env)
        case "outputs":
            return _outputs(evaluator, call, env)
        case "learn":
            return _learn(evaluator, call, env)
        case "scheduled":
            return _scheduled(evaluator, call, env)
    if id in FIRST_WEIGHTS:
        return drawn(evaluator, id, span, assign_special(evaluator, id, call.args, span), env)
    if id in OPS and OPS[id].public:
        if want in ("neuron", "surrogate") and not evaluator.complete_names:
            raise Failed  # the declaration of this name was kept out by a syntax error
        if OPS[id].arguments:
            return product_of(evaluator, id, call, env)
        return operation(evaluator, id, call.args, env, span)
    raise unknown(evaluator, id, env, call.function.span, want)


def _gives(args: tuple[s.Arg, ...], name: str) -> bool:
    return any(arg.name in (None, name) for arg in args)


def _math(evaluator: Evaluator, id: str, call: s.Call, env: Env) -> Value:
    several = id in ("min", "max")
    values = _values(evaluator, id, call, env)
    if len(values) == 1 and isinstance(values[0], Wire) and id in OPS and not several:
        return evaluator.builder.add(id, (values[0],), {}, call.span)
    if len(values) < 2 if several else len(values) != 1:
        needs = "two values or more" if several else "one number"
        raise evaluator.builder.fail(
            "E0303",
            f"`{id}` takes {needs}, not {len(values) or 'none'}",
            call.span,
            hint=f"over an axis it is a layer: `a -> {id}(over = channels)`"
            if id in OPS and any(isinstance(value, Wire) for value in values)
            else None,
        )
    if any(isinstance(value, Invalid) for value in values):
        return INVALID
    wire = next((value for value in values if isinstance(value, Wire)), None)
    if several and wire is not None:
        values = [met(evaluator, value, wire, call.span) for value in values]
    if several and any(isinstance(value, Wire) for value in values):
        op = "minimum" if id == "min" else "maximum"
        return join(evaluator, op, _joinable(evaluator, id, call, values), call.span)
    for arg, value in zip(call.args, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise evaluator.builder.fail(
                "E0304",
                f"`{id}` takes numbers here, not {describe(value)}",
                arg.span,
                blame=evaluator.blame(arg.value, env),
                hint=of_values(id) if isinstance(value, Wire) else None,
            )
    try:
        return evaluator.bounded(MATH[id](*values), call.span)
    except (ValueError, OverflowError):
        shown = ", ".join(f"{value:g}" for value in values)
        raise evaluator.builder.fail(
            "E0306", f"`{id}({shown})` has no value", call.span, blame=evaluator.blame(call, env)
        ) from None


def _values(evaluator: Evaluator, name: str, call: s.Call, env: Env) -> list[Value]:
    """The values of a function's arguments, none of which has a name."""
    assign_special(evaluator, name, call.args, call.span)
    return [evaluator.evaluate(arg.value, env) for arg in call.args]


def _joinable(
    evaluator: Evaluator, name: str, call: s.Call, values: list[Value]
) -> tuple[Wire | Invalid, ...]:
    wires: list[Wire | Invalid] = []
    for arg, value in zip(call.args, values, strict=True):
        if not isinstance(value, (Wire, Invalid)):
            raise evaluator.builder.fail(
                "E0402",
                f"`{name}` takes values, not {describe(value)}",
                arg.span,
                hint="a value starts at `in` or at the name of one",
            )
        wires.append(value)
    return tuple(wires)


def _concat(evaluator: Evaluator, call: s.Call, env: Env) -> Wire | Invalid:
    wires = _joinable(evaluator, "concat", call, _values(evaluator, "concat", call, env))
    if len(wires) < 2:
        raise evaluator.builder.fail("E0303", "`concat` takes two values or more", call.span)
    return evaluator.builder.add("concat", wires, {}, call.span)


def _size(evaluator: Evaluator, name: str, call: s.Call, env: Env, axis: int) -> int | Invalid:
    """How many channels, rows or columns a value has."""
    wires = _joinable(evaluator, name, call, _values(evaluator, name, call, env))
    if len(wires) != 1:
        raise evaluator.builder.fail("E0303", f"`{name}` takes one value", call.span)
    (wire,) = wires
    if isinstance(wire, Invalid):
        return INVALID
    shape = evaluator.builder.value(wire).shape
    if axis >= len(shape):
        raise evaluator.builder.fail(
            "E0501", f"a vector of {shape[0]} has no {name}", call.span, hint="ask a map"
        )
    return shape[axis]


def _stage(evaluator: Evaluator, call: s.Call, env: Env) -> Backbone:
    given = assign_special(evaluator, "stage", call.args, call.span)
    for name in ("block", "blocks"):
        if name not in given:
            raise evaluator.builder.fail(
                "E0307",
                f"`stage` needs {'its block' if name == 'block' else 'a number of blocks'}",
                call.span,
                hint="write `stage(BLOCK, N, stride = S)`",
            )
    block = evaluator.evaluate(given["block"].value, env, "block")
    if isinstance(block, Invalid):
        raise Failed
    if not isinstance(block, Bound) or block.kind != "block":
        raise evaluator.builder.fail(
            "E0403",
            f"a stage is made of blocks, not of {describe(block)}",
            given["block"].value.span,
            blame=evaluator.blame(given["block"].value, env),
            hint="write `stage(BLOCK, N, stride = S)`",
        )
    number = evaluator.whole(given["blocks"].value, env, "the number of blocks", 1, 100_000)
    stride = (
        evaluator.whole(given["stride"].value, env, "stride", 1, 4096) if "stride" in given else 1
    )
    return Backbone((StageOf(block, number, stride, call.span),), call.span)


def _input(evaluator: Evaluator, id: str, call: s.Call, env: Env) -> Wire | Invalid:
    given = assign_special(evaluator, id, call.args, call.span)
    sizes = ("channels", "height", "width")
    missing = [name for name in sizes if name not in given]
    if missing:
        raise evaluator.builder.fail(
            "E0307",
            f"`{id}` needs {', '.join(missing)}",
            call.span,
            hint=f"write `{id}(C, H, W)`",
        )
    shape = tuple(evaluator.whole(given[name].value, env, name, 1, 2**16) for name in sizes)
    bound = (
        evaluator.whole(given["bound"].value, env, "bound", 1, 2**24) if "bound" in given else None
    )
    return evaluator.encode(id, shape, bound, call.span)


def _shared(evaluator: Evaluator, call: s.Call, env: Env) -> OnceMade:
    given = assign_special(evaluator, "shared", call.args, call.span)
    if "layer" not in given:
        raise evaluator.builder.fail(
            "E0307",
            "`shared` needs the layer",
            call.span,
            hint="write `f = shared(conv(8) -> norm)`",
        )
    arg = given["layer"]
    value = evaluator.evaluate(arg.value, env, "layer")
    if isinstance(value, Invalid):
        raise Failed
    if not is_layer(value):
        raise evaluator.builder.fail(
            "E0401",
            f"`shared` takes a layer, not {describe(value)}",
            arg.span,
            hint="a flow that starts with a layer: `f = shared(conv(8) -> norm)`, then `a -> f`",
        )
    return OnceMade(value, call.span)


def _inputs(evaluator: Evaluator, call: s.Call, env: Env) -> Inputs:
    wires: dict[str, Wire | Invalid] = {}
    for arg in call.args:
        if arg.name is None:
            raise evaluator.builder.fail(
                "E0307",
                "an input of several needs a name",
                arg.span,
                hint=f"write `inputs(NAME = {arg.span.text}, ...)`",
            )
        if arg.name in wires:
            raise evaluator.builder.fail("E0302", f"two inputs are called `{arg.name}`", arg.span)
        evaluator.input_name = arg.name
        try:
            value = evaluator.evaluate(arg.value, env)
        finally:
            evaluator.input_name = ""
        if not isinstance(value, (Wire, Invalid)):
            raise evaluator.builder.fail(
                "E0502",
                f"`{arg.name}` is {describe(value)}, not an image or events",
                arg.value.span,
                hint="write `image(C, H, W)` or `events(C, H, W)`, and encoders after `->`",
            )
        wires[arg.name] = value
    if len(wires) < 2:
        raise evaluator.builder.fail(
            "E0303",
            "`inputs` takes two inputs or more",
            call.span,
            hint="one is written without it: `input = image(C, H, W)`",
        )
    return Inputs(wires, {arg.name or "": arg.span for arg in call.args})


def _outputs(evaluator: Evaluator, call: s.Call, env: Env) -> Outputs:
    wires: dict[str, Wire | Invalid] = {}
    for index, arg in enumerate(call.args):
        value = evaluator.evaluate(arg.value, env)
        if not isinstance(value, (Wire, Invalid)):
            raise evaluator.builder.fail(
                "E0402",
                f"an output is a value, not {describe(value)}",
                arg.value.span,
                hint="a value starts at `in` or at the name of one",
            )
        name = arg.name or (arg.value.id if isinstance(arg.value, s.Name) else f"out{index}")
        if name in wires:
            raise evaluator.builder.fail("E0302", f"two outputs are called `{name}`", arg.span)
        wires[name] = value
    if not wires:
        raise evaluator.builder.fail("E0303", "`outputs` takes one value or more", call.span)
    return Outputs(wires)


def _learn(evaluator: Evaluator, call: s.Call, env: Env) -> Learn:
    given = assign_special(evaluator, "learn", call.args, call.span)
    if "init" not in given:
        raise evaluator.builder.fail("E0307", "`learn` needs the value to start from", call.span)
    per = _per(evaluator, given.pop("per"), env) if "per" in given else "layer"
    by_step = given.pop("per_step", None)
    steps = per == "step" or (by_step is not None and evaluator.condition(by_step.value, env))
    numbers = {name: float(evaluator.number(arg.value, env)) for name, arg in given.items()}
    init, above, below = numbers["init"], numbers.get("above"), numbers.get("below")
    if (above is not None and init <= above) or (below is not None and init >= below):
        raise evaluator.builder.fail(
            "E0305", f"learn starts at {init:g}, outside of its bounds", call.span
        )
    return Learn(init, above, below, "layer" if per == "step" else per, steps)


def _scheduled(evaluator: Evaluator, call: s.Call, env: Env) -> Learn:
    given = assign_special(evaluator, "scheduled", call.args, call.span)
    if "start" not in given:
        message = "`scheduled` needs the value to start from"
        raise evaluator.builder.fail("E0307", message, call.span)
    return Learn(float(evaluator.number(given["start"].value, env)), trained=False)


def _per(evaluator: Evaluator, arg: s.Arg, env: Env) -> str:
    """What each learnt number is for."""
    value = evaluator.evaluate(arg.value, env, "per")
    if not (isinstance(value, Choice) and value.id in LEARNT_PER):
        words = ", ".join(f"`{word}`" for word in LEARNT_PER)
        raise evaluator.builder.fail(
            "E0304",
            f"`per` of `learn` must be one of {words}, not {describe(value)}",
            arg.span,
            hint=did_you_mean(arg.value.span.text, LEARNT_PER),
        )
    return value.id


def _norm(evaluator: Evaluator, call: s.Call, env: Env) -> Layer:
    """``norm(init = 0)``: the network's norm with something changed."""
    layer = setting_of(evaluator, "norm", call.span)
    if isinstance(layer, Identity):
        raise evaluator.builder.fail(
            "E0301",
            "the network has no norm (`norm = none`), so it has no parameters",
            call.span,
        )
    if not isinstance(layer, OpLayer):
        raise evaluator.builder.fail(
            "E0402", f"norm is {describe(layer)} and takes no arguments", call.span
        )
    changes = operation_attributes(evaluator, layer.op, call.args, env, call.span, partial=True)
    return OpLayer(layer.op, {**layer.attrs, **changes}, call.span, layer.role)
