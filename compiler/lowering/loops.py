"""Loops over time in a body: definitions that depend on themselves through a delay.

``h = (a + (h -> delay(1) -> conv(64))) -> spike`` reads a value that is not known yet. A ``carry``
node stands for it, and the definition is read several times: the first reading takes a shape of
which nothing is known and the number 0, and finds what comes out; the next takes that. It counts
once the same comes out, a kind that still grows being analog by then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from danetc.compiler.ir.graph import Value as Known
from danetc.compiler.ir.ops import OPS, text
from danetc.compiler.ir.ops.kinds import ZERO, or_zero
from danetc.compiler.ir.ops.unknown import ANY_SHAPE, is_known
from danetc.compiler.lowering.builder import Builder
from danetc.compiler.lowering.environment import Carry, EarlierValue, Env, Loops, is_op
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import Failed, Invalid, OpLayer, Value, Wire, describe
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.kinds import ANALOG
from danetc.dsl.syntax import tree as s


def is_flow(expr: s.Expr) -> bool:
    """Whether layers stand in an expression."""
    return any(isinstance(node, s.Flow) for node in s.walk(expr))


def has_delays(evaluator: Evaluator, env: Env) -> bool:
    """True if the text of a body delays anything; read once for the definitions that it has."""
    count, found = env.loops.delays
    if count != len(env.definitions):
        found = any(_delays(evaluator, each.value) for each in env.definitions.values())
        env.loops.delays = len(env.definitions), found
    return found


def _delays(evaluator: Evaluator, value: s.Expr) -> bool:
    known = evaluator.shared.delays.get(id(value))
    if known is None:
        is_delay = any(cuts(name) for name in evaluator.names_in(value))
        known = evaluator.shared.delays[id(value)] = value, is_delay
    return known[1]


def cut_of(evaluator: Evaluator, flow: s.Flow, env: Env) -> int | None:
    """The place in a flow of the delay that closes a loop: what stands before it may depend on the
    definition that the flow stands in. None where none does."""
    if env.loops.carries is None or not env.pending:
        return None
    place = next((i for i, step in enumerate(flow.steps) if i and _is_cut(step, env)), None)
    if place is None:
        return None
    circles = circles_of(evaluator, env)
    names = (name for step in flow.steps[:place] for name in evaluator.names_in(step))
    own = circles.get(env.pending[-1])
    closes = own is not None and any(circles.get(name) == own for name in names)
    return place if closes else None


def cuts(name: str) -> bool:
    """Whether a name is that of an operation which gives values of earlier steps alone."""
    return name in OPS and OPS[name].public and OPS[name].cuts


def _is_cut(step: s.Expr, env: Env) -> bool:
    """Whether a step of a flow is a delay, by its name."""
    name = s.called(step)
    if name is None or not cuts(name.id):
        return False
    other = env.module.names.get(name.id)
    shadowed = other is not None and not is_op(name.id, other.declaration.kind, "layer")
    return not shadowed and name.id not in env.values and name.id not in env.definitions


def circles_of(evaluator: Evaluator, env: Env) -> dict[str, int]:
    """For each definition that depends on itself the number of its circle, as the text has it."""
    if env.loops.circles is None:
        import networkx as nx  # late: few networks have delays

        flow: nx.DiGraph[str] = nx.DiGraph()
        for name, definition in env.definitions.items():
            for other in evaluator.names_in(definition.value):
                if other in env.definitions and other not in env.values:
                    flow.add_edge(name, other)
        circles = (
            part
            for part in nx.strongly_connected_components(flow)
            if len(part) > 1 or any(flow.has_edge(name, name) for name in part)
        )
        env.loops.circles = {name: i for i, part in enumerate(circles) for name in part}
    return env.loops.circles


def carried(evaluator: Evaluator, flow: s.Flow, cut: int, env: Env) -> Wire | Invalid:
    """The delayed value at a place of a flow, of what may not be known yet."""
    builder, carries = evaluator.builder, env.loops.carries
    assert carries is not None
    before, step = flow.steps[:cut], flow.steps[cut]
    layer = evaluator.evaluate(step, env, "layer")
    if not isinstance(layer, OpLayer):
        raise Failed
    steps = layer.attrs["steps"]
    assert isinstance(steps, int)
    only = before[0] if len(before) == 1 else None
    source: object = only.id if isinstance(only, s.Name) else id(flow)
    key = source, steps, None if isinstance(source, str) else builder.scope
    reader = env.pending[-1]

    def read() -> Value:
        env.pending.append(reader)
        try:
            found: Value = evaluator.evaluate(before[0], env, "layer")
            if isinstance(found, Invalid):
                return found
            if not isinstance(found, Wire):
                raise builder.fail(
                    "E0402",
                    f"{describe(found)} is delayed here, not a value",
                    before[0].span,
                    hint="a value starts at `in`: `in -> ...`",
                )
            for each in before[1:]:
                inner = evaluator.evaluate(each, env, "layer")
                found = evaluator.apply(inner, found, each.span)  # type: ignore[arg-type]
            return found
        finally:
            env.pending.pop()

    hint = "say whose shape it has: `delay(1, like = a)`"
    return carry(
        evaluator,
        env.loops,
        EarlierValue(key, steps, read, step.span, hint, layer.role, _like(layer)),
    )


def carry(evaluator: Evaluator, loops: Loops, earlier: EarlierValue) -> Wire:
    """The node of a value of earlier steps, in the scope where it is read first."""
    builder, carries = evaluator.builder, loops.carries
    assert carries is not None
    if earlier.key not in carries:
        shape = earlier.shape or ANY_SHAPE
        value = loops.known.get(earlier.key) or Known(shape, ZERO, varies=True)
        attrs = {"steps": earlier.steps}
        wire = builder.add("carry", (), attrs, earlier.span, earlier.role, value)
        assert isinstance(wire, Wire)
        carries[earlier.key] = Carry(wire.id, earlier, builder.scope, tuple(builder.use_sites))
    return Wire(carries[earlier.key].id)


def _like(layer: OpLayer) -> tuple[int, ...] | None:
    """The shape that the delay is said to have."""
    like = layer.attrs.get("like")
    return None if like is None else tuple(map(int, str(like).split("x")))


def settled(evaluator: Evaluator, env: Env, read: Callable[[], Value]) -> Value:
    """What a definition is, read until what its loops carry comes out as it goes in."""
    builder, loops = evaluator.builder, env.loops
    errors = builder.reporter.met
    loops.known = {}
    readings = 0
    while True:
        mark, before = evaluator.mark(), len(env.cache)
        loops.carries = {}
        evaluator.readings.append(loops)
        try:
            value = read()
            found = _close(evaluator, env)
        finally:
            evaluator.readings.pop()
            carries, loops.carries = loops.carries, None
        if builder.reporter.met > errors or not carries:
            return value
        readings += 1
        taken = {key: builder.nodes[carry.id].value for key, carry in carries.items()}
        try:
            known = {
                key: _next(evaluator, carry, found[key], readings) for key, carry in carries.items()
            }
            if all(_same(known[key], taken[key]) for key in carries):
                for key, carry in carries.items():
                    if not is_known(known[key].shape) and not _guesses(evaluator):
                        raise _untold(evaluator, carry)
                    builder.carries[carry.id] = found[key].id
                return value
        except Failed as failed:  # what was read stands on what does not hold
            env.cache.update(dict.fromkeys(list(env.cache)[before:], failed))
            raise
        loops.known = known
        evaluator.take_back(mark)
        while len(env.cache) > before:
            env.cache.popitem()


def _guesses(evaluator: Evaluator) -> bool:
    """Whether a loop around this one is read with shapes that are not known yet."""
    nodes = evaluator.builder.nodes
    carries = (carry for loops in evaluator.readings for carry in (loops.carries or {}).values())
    return any(not is_known(nodes[carry.id].value.shape) for carry in carries)


def _same(a: Known, b: Known) -> bool:
    """Whether two values are one, what is unknown of them too."""
    unknown = [tuple(map(is_known, zip(value.shape))) for value in (a, b)]
    return a == b and unknown[0] == unknown[1]


def _close(evaluator: Evaluator, env: Env) -> dict[object, Wire]:
    """What is carried, read after all else; more may come to it meanwhile."""
    carries = env.loops.carries
    assert carries is not None
    found: dict[object, Wire] = {}
    while len(found) < len(carries):
        carry = list(carries.values())[len(found)]
        value = _source(evaluator.builder, carry)
        if not isinstance(value, Wire):
            raise Failed
        found[carry.of.key] = value
    return found


def _source(builder: Builder, carry: Carry) -> Value:
    """What is carried, once all that it may need has a value."""
    outer, outer_sites = builder.scope, tuple(builder.use_sites)
    builder.scope, builder.use_sites[:] = carry.scope, carry.use_sites
    try:
        return carry.of.read()
    finally:
        builder.scope, builder.use_sites[:] = outer, outer_sites


def _next(evaluator: Evaluator, carry: Carry, source: Wire, readings: int) -> Known:
    """What the next reading takes for a carried value: the same, if it holds."""
    taken, found = evaluator.builder.nodes[carry.id].value, evaluator.builder.value(source)
    told = is_known(taken.shape)
    if told and tuple(taken.shape) != found.shape:
        raise evaluator.builder.fail(
            "E0507",
            f"what is delayed is {text(found.shape)}, and what the delay gives {text(taken.shape)}",
            carry.of.span,
            labels=(Label(evaluator.builder.nodes[source.id].origin, "this is delayed"),),
            hint="the two are one value at different steps: make widths and strides equal",
        )
    kind = or_zero(found.kind)
    if (told or readings > 1) and taken.kind | kind == taken.kind:
        kind = taken.kind
    elif readings > 1:
        kind = ANALOG
    return replace(taken, shape=found.shape, kind=kind)


def _untold(evaluator: Evaluator, carry: Carry) -> Failed:
    return evaluator.builder.fail(
        "E0507",
        "nothing tells the shape of what is delayed here",
        carry.of.span,
        hint=carry.of.hint,
    )
