"""Warnings about neurons: their equations, and their position in the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from danetc.compiler.ir.graph import Node
from danetc.compiler.warnings.linear_forms import Form, Held, bounds, held
from danetc.compiler.warnings.network import CheckedNetwork
from danetc.compiler.warnings.rule import Finding, Rule
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.diagnostics.fixes import Hint, add, line_removed
from danetc.dsl.kinds import SPIKE, count
from danetc.dsl.neuron.program import INPUT, NeuronProgram

MAX_STEPS = 64
"""Maximum number of time steps to examine. In longer runs, the states must have converged."""

_MARGIN = 1e-6  # tolerance of float32 sums
_POINTS = [0.0, *(sign * 10.0**power for power in range(-3, 3) for sign in (-1, 1))]
_POINTS += [sign * step / 4 for step in range(1, 13) for sign in (-1, 1)]


def _first_of_each(network: CheckedNetwork) -> Iterator[tuple[Node, NeuronProgram]]:
    """Yield the first layer of each neuron with the neuron's program."""
    seen: set[str] = set()
    for node in network.of("neuron"):
        key = str(node.attrs["neuron"])
        if key not in seen:
            seen.add(key)
            yield node, network.program(node)


def _leak(network: CheckedNetwork) -> Iterator[Finding]:
    for node, program in _first_of_each(network):
        found = next((pair for step in held(program) for pair in _outside(step)), None)
        if found is not None:
            state, factor = found
            what = "changes its sign at each step" if factor < 0 else "grows at each step"
            yield Finding(
                network.place(node),
                f"the state `{state}` of `{program.name}` is multiplied by {factor:.4g} at each step",
                label=f"without spikes, it {what}",
                hint="a leak must lie in 0 .. 1; if it is `1 - 1 / tau`, tau must be at least 1",
            )


def _outside(step: Held) -> Iterator[tuple[str, float]]:
    """Yield the states with a leak outside of 0 .. 1 in a step without spikes.

    Only states that the input drives are checked. States that drive each other are exempt, because
    they may oscillate.
    """
    if step.spikes and step.output != Form(0.0, {}):
        return
    for name, form in step.after.items():
        if form is None or 0 <= form.factor(name) <= 1 + _MARGIN:
            continue
        reached = _reads(name, step.after)
        if INPUT in reached and not any(
            name in _reads(other, step.after) for other in reached - {name}
        ):
            yield name, form.factor(name)


def _reads(name: str, after: Mapping[str, Form | None]) -> set[str]:
    """Return the names on which the next value of a state depends, directly or indirectly."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        form = after.get(waiting.pop())
        new = set(form.factors) - found if form is not None else set()
        found |= new
        waiting += new
    return found


def _constant_output(network: CheckedNetwork, node: Node) -> float | None:
    """Return the output of a neuron with integer input if it is always the same, else None."""
    kind = network.source(node).value.kind
    if not kind.is_integer:
        return None
    graph = network.lowered.graph
    steps = None if any(node.attrs["events"] for node in graph.inputs) else graph.steps
    x = kind.range
    return _constant(graph.program(node), x.low, x.high, steps)


@lru_cache(maxsize=1024)
def _constant(program: NeuronProgram, low: float, high: float, steps: int | None) -> float | None:
    """Return the output for inputs from ``low`` to ``high`` if it is always the same, else None."""
    if program.learnables:
        return None
    for step in held(program):
        constant = step.spikes and step.output is not None and not step.output.factors
        if constant and _stays(program, step, (low, high), steps):
            assert step.output is not None
            return step.output.constant
    return None


def _stays(program: NeuronProgram, step: Held, x: tuple[float, float], steps: int | None) -> bool:
    """True if the spikes are the same at all steps for every input in the range ``x``."""
    arguments = {op.name: op.args[0] for op in program.ops if op.opcode == "heaviside"}
    known = dict.fromkeys(program.takes, x)
    known |= {state.name: (state.init, state.init) for state in program.states}
    for _ in range(min(steps or MAX_STEPS, MAX_STEPS)):
        for name, spike in step.spikes.items():
            argument = arguments[name]
            form = step.values[argument] if isinstance(argument, str) else Form(argument, {})
            if not isinstance(form, Form):
                return False
            low, high = bounds(form, known)
            if not (low >= _MARGIN if spike else high <= -_MARGIN):
                return False
        before = known
        known = dict.fromkeys(program.takes, x)
        for name, after in step.after.items():
            if after is None:
                return False
            known[name] = bounds(after, before)
        if known == before:
            return True
    return steps is not None and steps <= MAX_STEPS


def _always_the_same(network: CheckedNetwork) -> Iterator[Finding]:
    for node in network.of("neuron"):
        value = _constant_output(network, node)
        if value is None:
            continue
        source, name = network.source(node), network.program(node).name
        kind = source.value.kind
        counts = f"counts of at most {kind.high}"
        reads = "spikes" if kind == SPIKE else counts if kind == count(kind.high) else str(kind)
        steps = network.lowered.graph.steps
        within = f" within {steps} step{'' if steps == 1 else 's'}"
        what = f"cannot fire{within}" if value == 0 else f"returns {value:g} at every step"
        yield Finding(
            network.written_at(node),
            f"`{name}` {what}: it reads {reads}",
            label=f"reads `{source.path}`",
            hint="add a weighted layer and a norm before it, or choose another threshold",
        )


def _behind_neuron(network: CheckedNetwork) -> Iterator[Finding]:
    for node in network.of("neuron"):
        before = network.source(node)
        if before.op != "neuron" or not before.value.kind.is_integer:
            continue
        if network.program(node).membrane is None or _constant_output(network, node) is not None:
            continue
        place, other = network.written_at(node), network.written_at(before)
        yield Finding(
            place,
            f"`{node.path}` reads the spikes of a neuron, `{before.path}`",
            label="there are no layers between them",
            labels=(Label(other, "the first neuron"),) if other != place else (),
            hint="remove one of them, or add a weighted layer between them",
        )


def _loses_settings(network: CheckedNetwork) -> Iterator[Finding]:
    graph = network.lowered.graph
    for id, given in network.lowered.resets.items():
        name = network.program(graph[id]).name
        yield Finding(
            network.place(graph[id]),
            f"this `{name}` ignores the settings of the network's neuron",
            label="its other parameters have their default values",
            labels=tuple(Label(item.span, f"here {item.text}") for item in given),
            hint="`spike` is the network's neuron, `spike(v_threshold = 0.5)` changes one setting",
        )


def _one_step(network: CheckedNetwork) -> Iterator[Finding]:
    graph = network.lowered.graph
    if "steps" in network.lowered.says or any(node.attrs["events"] for node in graph.inputs):
        return
    for node, program in _first_of_each(network):
        if program.states:
            yield Finding(
                network.declaration.name_span,
                f"network `{graph.name}` does not set `steps`, so it has one time step",
                label=f"the state of `{program.name}` is never read",
                labels=(Label(network.place(node), "this neuron has a state"),),
                hint=add(
                    network.declaration, "steps = 4", ", or `steps = 1` if one step is intended"
                ),
            )
            return


def _unused_setting(network: CheckedNetwork) -> Iterator[Finding]:
    """Inherited settings are exempt, because a base may be used by several variants."""
    words = {"neuron": "spike", "norm": "norm"}
    for setting, word in words.items():
        place = network.lowered.says.get(setting)
        own = network.declaration.span
        if place is None or setting in network.lowered.settings_read:
            continue
        if place.source is own.source and own.start <= place.start and place.end <= own.end:
            yield Finding(
                place,
                f"no layer of network `{network.declaration.name}` uses its {setting}",
                label=f"the network does not contain `{word}`",
                hint=Hint(
                    f"add `{word}`, or remove this line",
                    *(
                        line_removed(line.span)
                        for line in network.declaration.body or ()
                        if line.name == setting
                    ),
                ),
            )


RULES: tuple[Rule[CheckedNetwork], ...] = (
    Rule("W0301", _leak),
    Rule("W0302", _always_the_same),
    Rule("W0304", _behind_neuron),
    Rule("W0305", _loses_settings),
    Rule("W0306", _one_step),
    Rule("W0308", _unused_setting),
)
