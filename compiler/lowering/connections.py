"""Connections: what stands around a block's layers, its shortcut and their join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.ops import OPS, text
from danetc.compiler.lowering.backbones import layer_of
from danetc.compiler.lowering.blocks import misnamed, self_wired
from danetc.compiler.lowering.declared import complete
from danetc.compiler.lowering.environment import PORTS, Definition, Env
from danetc.compiler.lowering.layers import flat_layers, operations
from danetc.compiler.lowering.names import defined_layer
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.unknown import is_known
from danetc.compiler.lowering.values import (
    INVALID,
    BlockConv,
    Bound,
    Failed,
    Invalid,
    Joined,
    Layer,
    OpLayer,
    StageOf,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import Label, did_you_mean
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.loading import is_library
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

CONNECTION_PARTS = ("each", "last", "projection", "identity", "out")


def connected(
    lowering: Lowering,
    stage: StageOf,
    block: Bound,
    connection: Bound,
    wire: Wire,
    i: int,
    stride: int,
    start: Wire | None = None,
) -> Joined:
    """A block of a stage inside of its connection. The shortcut starts from ``start``, if the rule
    says it, else from the block's input."""
    wires_itself = block.declaration.body is not None
    parts = parts_of(lowering, connection)
    if wires_itself and (
        bad := next((parts[name] for name in ("each", "last") if name in parts), None)
    ):
        raise lowering.builder.fail(
            "E0604",
            f"block `{block.name}` wires itself, so `{bad.name}` of connection `{connection.name}` would have no effect",
            stage.connection.span if stage.connection else stage.span,
            labels=(
                Label(bad.name_span, f"`{bad.name}` stands here"),
                Label(block.declaration.name_span, "the block says `out = ...` itself"),
            ),
            hint="take a connection without `each`, or write the block as a flow of its weights",
        )
    values: dict[str, Value] = {"stride": stride, "i": i, "n": stage.blocks, "in": wire}
    for param in connection.declaration.params:
        if param.name in values or param.name in ("channels", "branch", "shortcut"):
            raise lowering.builder.fail(
                "E0302",
                f"a connection knows `{param.name}` already",
                param.name_span,
                hint=f"`{param.name}` can be read without a parameter; rename yours, or leave it out",
            )
    env = _connection_env(lowering, connection, parts, values)
    within = (*stage.use_sites, stage.span)
    if wires_itself:
        with lowering.builder.within("branch"), lowering.builder.site(*within):
            branch = self_wired(lowering, block, wire, {"i": i, "n": stage.blocks})
        if not isinstance(branch, Invalid):
            env.values["channels"] = lowering.builder.value(branch).shape[0]
    else:
        with lowering.builder.site(*within):
            layers = _weights(lowering, block)
        last = layers[-1]
        assert isinstance(last, OpLayer)
        if isinstance(width := last.attrs["width"], int):
            env.values["channels"] = width
        branch = _build_branch(lowering, layers, connection, parts, env, wire, within)
        if not isinstance(branch, Invalid):
            env.values["channels"] = lowering.builder.value(branch).shape[0]
    env.values["branch"] = branch
    if isinstance(branch, Invalid):
        return Joined(INVALID, INVALID, ())
    chosen = _chosen(lowering, parts["out"].value, env)
    if start is not None and "shortcut" not in _read(lowering, parts["out"].value, parts):
        raise no_shortcut(lowering, stage, f"connection `{connection.name}`")
    if "shortcut" in _read(lowering, chosen, parts):
        env.values["shortcut"] = _build_shortcut(
            lowering, connection, parts, env, start or wire, branch, stride, within
        )
    return _joined(lowering, chosen, env)


def no_shortcut(lowering: Lowering, stage: StageOf, what: str) -> Failed:
    """The rule says what a shortcut starts from, and there is none."""
    rule = stage.rule.name if stage.rule is not None else "chain"
    return lowering.builder.fail(
        "E0610",
        f"rule `{rule}` says `shortcut[i]`, and {what} has no `shortcut`",
        stage.rule.span if stage.rule is not None else stage.span,
        hint="join `branch` and `shortcut` in the `out` of a connection, or take a rule without it",
    )


def parts_of(lowering: Lowering, connection: Bound) -> dict[str, s.Define]:
    """The definitions of a connection by name; ``out`` is one, and none is without use."""
    lowering.work.spend(5 * len(connection.declaration.body or ()), connection.span)
    parts: dict[str, s.Define] = {}
    for item in connection.declaration.body or ():
        if not isinstance(item, s.Define) or item.index is not None:
            raise lowering.builder.fail("E0601", "a connection holds definitions alone", item.span)
        parts[item.name] = item
    if "out" not in parts:
        raise lowering.builder.fail(
            "E0601",
            f"connection `{connection.name}` does not define `out`",
            connection.declaration.name_span,
            labels=misnamed(connection.declaration, "out"),
            hint=add(connection.declaration, "out = branch + shortcut"),
        )
    used = {name for part in parts.values() for name in lowering.names_in(part.value)}
    for name, part in parts.items():
        if name in PORTS["connection"]:
            continue  # reported: a connection knows them already
        if name not in CONNECTION_PARTS and name not in used:
            local = (*parts, *PORTS["connection"], *(p.name for p in connection.declaration.params))
            env = Env(connection.module, "connection", dict.fromkeys(local, 0))
            if not all(is_known(other, env) for other in used):
                continue  # what reads it may be what a name, reported as unknown, was meant to be
            raise lowering.builder.fail(
                "E0308",
                f"nothing uses `{name}` of connection `{connection.name}`",
                part.name_span,
                hint=answer("part", name)
                or did_you_mean(name, CONNECTION_PARTS)
                or f"a connection's parts are {', '.join(CONNECTION_PARTS)}",
            )
    return parts


def _connection_env(
    lowering: Lowering, connection: Bound, parts: dict[str, s.Define], values: dict[str, Value]
) -> Env:
    """What names mean in a connection that wires one block."""
    env = complete(lowering, connection)
    env.values.update(values)
    env.scope = lowering.builder.scope
    env.block_conv = True
    fresh = replace(env, block_conv=False)
    for name, part in parts.items():
        own = env if name in ("each", "last", "projection", "identity") else fresh
        env.definitions[name] = Definition(part.value, own, part.span)
    return env


def _weights(lowering: Lowering, block: Bound) -> list[Layer]:
    """The layers of a block that is a flow of weights; the last with weights gives its width."""
    env = complete(lowering, block)
    assert block.declaration.value is not None
    value = lowering.evaluate(block.declaration.value, env, "layer")
    if isinstance(value, Invalid):
        raise Failed
    layers = flat_layers(lowering, value, block.declaration.value.span) if is_layer(value) else []
    weighted = [layer for layer in layers if isinstance(layer, OpLayer) and OPS[layer.op].weighted]
    if not weighted:
        raise lowering.builder.fail(
            "E0408",
            f"block `{block.name}` is {describe(value)}, not a flow of weighted layers",
            block.declaration.value.span,
            hint="write `conv(...) -> conv(...)`, or wire the block itself: `{ out = in -> ... }`",
        )
    if layers[-1] is not weighted[-1]:
        raise lowering.builder.fail(
            "E0408",
            f"block `{block.name}` must end with a weighted layer",
            block.declaration.value.span,
            hint="put what follows into the connection's `out`, or between the stages",
        )
    return layers


def _build_branch(
    lowering: Lowering,
    layers: list[Layer],
    connection: Bound,
    parts: dict[str, s.Define],
    env: Env,
    wire: Wire,
    within: tuple[Span, ...],
) -> Wire | Invalid:
    """Each weighted layer of the block inside of ``each``, the last inside of ``last``.

    ``within`` are the uses of the block, which its errors are led back to.
    """
    if "each" not in parts:
        raise lowering.builder.fail(
            "E0606",
            f"connection `{connection.name}` does not say what is around each layer",
            connection.declaration.name_span,
            hint=add(connection.declaration, "each = conv -> norm -> spike"),
        )
    result: Wire | Invalid = wire
    with lowering.builder.within("branch"):
        first = len(lowering.builder.nodes)
        for layer in layers:
            if not (isinstance(layer, OpLayer) and OPS[layer.op].weighted):
                result = lowering.apply(layer, result, connection.span)
                continue
            name = "last" if layer is layers[-1] and "last" in parts else "each"
            around = _around(lowering, name, parts, env)
            first = len(lowering.builder.nodes)
            lowering.block_layers.append(layer)
            try:
                with lowering.builder.site(*within, layer.span):
                    result = lowering.apply(around, result, parts[name].span)
            finally:
                lowering.block_layers.pop()
        if lowering.settings.get("zero_init") and not isinstance(result, Invalid):
            _zero_last_norm(lowering, first, connection, parts)
    return result


def _around(lowering: Lowering, name: str, parts: dict[str, s.Define], env: Env) -> Layer:
    """The layer around the block's: ``each`` or ``last``, with one place for it."""
    around = defined_layer(lowering, name, env, parts[name].span)
    flat = flat_layers(lowering, around, parts[name].value.span)
    places = sum(isinstance(layer, BlockConv) for layer in flat)
    if places != 1:
        raise lowering.builder.fail(
            "E0606",
            f"`{name}` has {places or 'no'} place{'s' if places > 1 else ''} for the block's layer",
            parts[name].value.span,
            hint="write `conv` without a width once: `conv -> norm -> spike`",
        )
    return around


def _zero_last_norm(
    lowering: Lowering, first: int, connection: Bound, parts: dict[str, s.Define]
) -> None:
    """``zero_init = true``: the last norm of the branch starts at 0."""
    norms = [
        id
        for id in range(first, len(lowering.builder.nodes))
        if OPS[lowering.builder.nodes[id].op].norm is not None
    ]
    if not norms:
        part = parts.get("last", parts["each"])
        raise lowering.builder.fail(
            "E0503",
            f"zero_init: the branch of connection `{connection.name}` does not end with a norm",
            part.span,
            hint="a norm that starts at 0 after the join would silence the block; leave `zero_init` out",
        )
    node = lowering.builder.nodes[norms[-1]]
    lowering.builder.nodes[node.id] = replace(node, attrs={**node.attrs, "init": 0.0})


def _build_shortcut(
    lowering: Lowering,
    connection: Bound,
    parts: dict[str, s.Define],
    env: Env,
    wire: Wire,
    branch: Wire,
    stride: int,
    within: tuple[Span, ...],
) -> Wire | Invalid:
    """What the shortcut starts from, through ``projection`` where the shape changes, else ``identity``."""
    shape, wanted = lowering.builder.value(wire).shape, lowering.builder.value(branch).shape
    name = "identity" if shape == wanted else "projection"
    if name not in parts:
        if name == "identity":
            return wire
        out = parts["out"]
        raise lowering.builder.fail(
            "E0602",
            f"the shape changes from {text(shape)} to {text(wanted)}, and connection `{connection.name}` has no projection",
            out.span,
            labels=_used(lowering, within),
            hint=add(
                connection.declaration,
                "projection = conv -> norm",
                ", or keep widths and strides",
            ),
        )
    layer = defined_layer(lowering, name, env, parts[name].span)
    width = env.values["channels"]
    assert isinstance(width, int)
    attrs: dict[str, Attribute] = {"width": width}
    op = "linear"
    if len(shape) == 3:
        op = "conv"
        attrs |= {"kernel": 1, "stride": stride}
    fitting = OpLayer(op, attrs, parts[name].span, op)
    lowering.block_layers.append(fitting)
    try:
        with lowering.builder.within("shortcut"):
            result = lowering.apply(layer, wire, parts[name].span)
    finally:
        lowering.block_layers.pop()
    if isinstance(result, Wire) and lowering.builder.value(result).shape != wanted:
        lowering.builder.error(
            "E0602",
            f"`{name}` of connection `{connection.name}` gives {text(lowering.builder.value(result).shape)}, and the branch {text(wanted)}",
            parts[name].span,
            labels=_used(lowering, within),
            hint="the shortcut must end with the branch's shape",
        )
        return INVALID
    return result


def _used(lowering: Lowering, within: tuple[Span, ...]) -> tuple[Label, ...]:
    """A label of the user's own text that leads to a block."""
    own = (span for span in reversed(within) if not is_library(span.source))
    return tuple(Label(span, "for a block from here") for span in islice(own, 1))


def _chosen(lowering: Lowering, expr: s.Expr, env: Env) -> s.Expr:
    """What the conditions of ``out`` choose for this block."""
    while isinstance(expr, s.IfElse):
        expr = expr.then if lowering.condition(expr.condition, env) else expr.otherwise
    return expr


def _read(lowering: Lowering, expr: s.Expr, parts: Mapping[str, s.Define]) -> set[str]:
    """The names that an expression is made of, those of the lines that it names too."""
    found: set[str] = set()
    waiting = list(lowering.names_in(expr))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += lowering.names_in(parts[name].value) if name in parts else ()
    return found


def _joined(lowering: Lowering, expr: s.Expr, env: Env) -> Joined:
    """Evaluate ``out`` and tell the join from what follows it."""
    plain = replace(env, block_conv=False)
    if isinstance(expr, s.Flow):
        join = lowering.evaluate(expr.steps[0], plain, "layer")
        if isinstance(join, (Wire, Invalid)):
            result: Wire | Invalid = join
            after: list[str] = []
            for step in expr.steps[1:]:
                layer = layer_of(lowering, step, plain)
                result = lowering.apply(layer, result, step.span)
                after += operations(layer)
            if lowering.trace is not None and isinstance(result, Wire):
                lowering.trace.note(expr.span, result.id)
            return Joined(result, join, tuple(after))
    value = lowering.evaluate(expr, plain)
    if not isinstance(value, (Wire, Invalid)):
        raise lowering.builder.fail(
            "E0402",
            f"`out` is {describe(value)}, not a value",
            expr.span,
            hint="join `branch` and `shortcut` in it: `out = branch + shortcut`",
        )
    return Joined(value, value, ())
