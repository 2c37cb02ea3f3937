"""Loops over time, in which a definition reads its own value of an earlier step.

``h = (a + (h -> delay(1) -> conv(64))) -> spike`` reads a value that is not known yet. A ``carry``
node stands for it, and the definition is read repeatedly: first with an unknown shape and the number
0, then with the shape and kind of the result of the reading before, until these no longer change. A
kind that keeps growing becomes analog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from danetc.compiler.ir.graph import Value as NodeValue
from danetc.compiler.ir.ops import OPS, text
from danetc.compiler.ir.ops.kinds import ZERO, or_zero
from danetc.compiler.ir.ops.shapes import ANY_SHAPE, is_known
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.environment import Env, Loops, RecurrentState, is_op
from danetc.compiler.lowering.operations import OperationValues
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.kinds import ANALOG
from danetc.dsl.syntax import tree as s


class LoopsOverTime(OperationValues):
    """Definitions that depend on their own values of earlier steps."""

    def has_delays(self, env: Env) -> bool:
        """Return True if a definition contains a delay. The result is cached."""
        count, found = env.loops.delays
        if count != len(env.definitions):
            names = (self.names_in(each.value) for each in env.definitions.values())
            found = any(cuts(name) for each in names for name in each)
            env.loops.delays = len(env.definitions), found
        return found

    def cut_of(self, flow: s.Flow, env: Env) -> int | None:
        """Index of the delay in a flow that closes a loop through the definition being read."""
        if env.loops.carries is None or not env.pending:
            return None
        place = next((i for i, step in enumerate(flow.steps) if i and _is_cut(step, env)), None)
        if place is None:
            return None
        circles = self.circles_of(env)
        names = (name for step in flow.steps[:place] for name in self.names_in(step))
        own = circles.get(env.pending[-1])
        closes = own is not None and any(circles.get(name) == own for name in names)
        return place if closes else None

    def circles_of(self, env: Env) -> dict[str, int]:
        """Return the number of the circle of each definition whose text depends on itself."""
        if env.loops.circles is None:
            import networkx as nx  # only for networks with delays

            flow: nx.DiGraph[str] = nx.DiGraph()
            for name, definition in env.definitions.items():
                for other in self.names_in(definition.value):
                    if other in env.definitions and other not in env.values:
                        flow.add_edge(name, other)
            circles = (
                part
                for part in nx.strongly_connected_components(flow)
                if len(part) > 1 or any(flow.has_edge(name, name) for name in part)
            )
            env.loops.circles = {name: i for i, part in enumerate(circles) for name in part}
        return env.loops.circles

    def carried(self, flow: s.Flow, cut: int, env: Env) -> v.Wire:
        """Return the delayed value at step ``cut`` of a flow, whose source may not be known yet."""
        before, step = flow.steps[:cut], flow.steps[cut]
        layer = self.evaluate(step, env, "layer")
        if not isinstance(layer, v.OpLayer):
            raise v.Failed
        steps, like = layer.attrs["steps"], layer.attrs.get("like")
        assert isinstance(steps, int)
        key: object = (id(flow), steps, self.scope, env.counters)
        if len(before) == 1 and isinstance(before[0], s.Name):
            key = before[0].id, steps
        reader = env.pending[-1]

        def read() -> v.Wire:
            env.pending.append(reader)
            try:
                found = self.wire_of(self.evaluate(before[0], env, "layer"), before[0].span)
                for each in before[1:]:
                    inner = self.evaluate(each, env, "layer")
                    found = self.apply(inner, found, each.span)  # type: ignore[arg-type]
                return found
            finally:
                env.pending.pop()

        hint = "give a value of the same shape: `delay(1, like = a)`"
        shape = None if like is None else tuple(map(int, str(like).split("x")))
        earlier = RecurrentState(key, steps, read, step.span, hint, shape)
        return self.carry(env.loops, earlier)

    def carry(self, loops: Loops, state: RecurrentState) -> v.Wire:
        """Return the node of a value of earlier steps, placed in the scope that first reads it."""
        carries = loops.carries
        assert carries is not None
        if state.key not in carries:
            shape = state.shape or ANY_SHAPE
            value = loops.known.get(state.key) or NodeValue(shape, ZERO, varies=True)
            made = self.add("carry", (), {"steps": state.steps}, state.span, "delay", value)
            state.id, state.scope, state.use_sites = made.id, self.scope, self.use_sites
            carries[state.key] = state
        return v.Wire(carries[state.key].id)

    def converged(self, env: Env, read: Callable[[], v.T]) -> v.T:
        """Read a definition until its loops give the shapes and kinds that they take."""
        loops = env.loops
        errors = self.reporter.met
        loops.known = {}
        readings = 0
        while True:
            take_back, before = self.mark(), len(env.cache)
            loops.carries = {}
            self.readings.append(loops)
            try:
                value = read()
                found = self._sources(loops.carries)
            finally:
                self.readings.pop()
                carries, loops.carries = loops.carries, None
            if self.reporter.met > errors or not carries:
                return value
            readings += 1
            taken = {key: self.nodes[state.id].value for key, state in carries.items()}
            try:
                known = {
                    key: self._next(state, found[key], readings) for key, state in carries.items()
                }
                if all(_same(known[key], taken[key]) for key in carries):
                    outer = (it for each in self.readings for it in (each.carries or {}).values())
                    guesses = any(not is_known(self.nodes[it.id].value.shape) for it in outer)
                    for key, state in carries.items():
                        if not is_known(known[key].shape) and not guesses:
                            message = "the shape of the delayed value is unknown"
                            raise self.error("E0507", message, state.span, hint=state.hint)
                        self.carries[state.id] = found[key].id
                    return value
            except v.Failed as failed:  # cached values may depend on the failure
                env.cache.update(dict.fromkeys(list(env.cache)[before:], failed))
                raise
            loops.known = known
            take_back()
            while len(env.cache) > before:
                env.cache.popitem()

    def _sources(self, carries: dict[object, RecurrentState]) -> dict[object, v.Wire]:
        """Read what is delayed, after all else; reading may add to ``carries``."""
        found: dict[object, v.Wire] = {}
        while len(found) < len(carries):
            state = list(carries.values())[len(found)]
            with self.changed(scope=state.scope, use_sites=state.use_sites):
                found[state.key] = state.read()
        return found

    def _next(self, state: RecurrentState, source: v.Wire, readings: int) -> NodeValue:
        """Return what the next reading takes for a delayed value: the same, if it holds."""
        taken, found = self.nodes[state.id].value, self.value(source)
        shape_known = is_known(taken.shape)
        if shape_known and tuple(taken.shape) != found.shape:
            gives = text(taken.shape)
            raise self.error(
                "E0507",
                f"the delayed value is {text(found.shape)}, but the output of the delay {gives}",
                state.span,
                labels=(Label(self.nodes[source.id].origin, "this is delayed"),),
                hint="both are the same value at different steps: make widths and strides equal",
            )
        kind = or_zero(found.kind)
        if (shape_known or readings > 1) and taken.kind | kind == taken.kind:
            kind = taken.kind
        elif readings > 1:
            kind = ANALOG
        return replace(taken, shape=found.shape, kind=kind)


def cuts(name: str) -> bool:
    """Return True if the output of an operation only depends on earlier steps."""
    return name in OPS and OPS[name].public and OPS[name].cuts


def _is_cut(step: s.Expr, env: Env) -> bool:
    """True if a step of a flow is a delay, by its name."""
    name = s.called(step)
    if name is None or not cuts(name.id):
        return False
    other = env.module.names.get(name.id)
    shadowed = other is not None and not is_op(name.id, other.declaration.kind, "layer")
    return not shadowed and name.id not in env.values and name.id not in env.definitions


def _same(a: NodeValue, b: NodeValue) -> bool:
    """True if two values are equal, and unknown in the same dimensions."""
    unknown = [tuple(map(is_known, zip(value.shape))) for value in (a, b)]
    return a == b and unknown[0] == unknown[1]
