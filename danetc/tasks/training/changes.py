"""Networks whose parameters a recipe changes during training: they are stored, not built in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import is_scheduled
from danetc.compiler.warnings import warnings_of_network
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.neuron.program import SURROGATE
from danetc.dsl.recipe.item import Change
from danetc.dsl.recipe.schema import SCHEDULED_OPERATIONS
from danetc.dsl.recipe.settings import Recipe
from danetc.errors import UserError
from danetc.output.echo import warn
from danetc.tasks.networks import CompiledNetwork

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph, Node
    from danetc.dsl.neuron.program import NeuronProgram


def changing(compiled: CompiledNetwork, recipe: Recipe) -> CompiledNetwork:
    """Return the network with ``scheduled(...)`` for every parameter that a phase changes.

    The parameter keeps its initial value in a phase that does not change it. Raises UserError for a
    parameter that the network does not have, that is learned or overridden, and for invalid values.
    """
    changes = [change for phase in recipe.phases for change in phase.change]
    if not changes:
        return compiled
    starts = {change.path: change.item["start"] for change in changes}
    of_operations = {path for path in starts if path.partition(".")[0] in SCHEDULED_OPERATIONS}
    for change in changes:
        if change.path in of_operations:
            _check_operation(compiled.lowered.graph, change)
    changes = [change for change in changes if change.path not in of_operations]
    starts = {path: value for path, value in starts.items() if path not in of_operations}
    for path in starts:
        if path in compiled.settings:
            raise UserError(
                f"`{path}` is set to {compiled.settings[path]}, but recipe `{recipe.name}` changes it "
                "while it trains; leave one of them out: --set recipe.change=none"
            )
        starts[path] = _start(compiled, path, starts[path])
    for change in changes:
        ends = change.item["start"], change.item["end"]
        between = (0.0,) if min(ends) < 0 < max(ends) else ()
        for value in (*ends, *between):
            _try(compiled, change.path, value)
    settings = {path: f"scheduled({value!r})" for path, value in starts.items()}
    return compiled.with_settings({**compiled.settings, **settings})


def _check_operation(graph: Graph, change: Change) -> None:
    """Raise UserError unless an operation is scheduled by that name and takes the values."""
    operation, _, name = change.path.partition(".")
    found = [
        row
        for node in graph.nodes.values()
        for row in OPS[node.op].parameters
        if row.schedule == change.path and is_scheduled(node.attrs.get(row.name))
    ]
    if not found:
        raise UserError(
            f"the recipe changes `{change.path}`, but no layer of network `{graph.name}` has it; "
            f"write `{operation}(..., {name} = scheduled({change.item['start']:g}))`"
        )
    for value in (change.item["start"], change.item["end"]):
        low, high = found[0].low, found[0].high
        if (low is not None and value < low) or (high is not None and value > high):
            raise UserError(
                f"{value:g} is not allowed: the recipe changes `{change.path}`, which must lie between "
                f"{low:g} and {high:g}"
            )


def _start(compiled: CompiledNetwork, path: str, first: float) -> float:
    """Return the value of a parameter in the network, or ``first`` if it differs between layers."""
    try:
        changed = compiled.with_settings({**compiled.settings, path: f"scheduled({first!r})"})
    except SpecError as error:
        raise UserError(_refused(path, error)) from error
    before = {node.path: program for node, program in _neurons(compiled.lowered.graph)}
    found: set[float] = set()
    for node, program in _neurons(changed.lowered.graph):
        if not any(item.scheduled == path for item in program.learnables):
            continue
        own = before[node.path]
        given = own.parameters
        if path.startswith(SURROGATE):
            given = own.surrogate.parameters if own.surrogate is not None else ()
        name = path.partition(".")[2]
        value = dict(given).get(name)
        if value is None or isinstance(value, bool):
            what = "a choice" if value is not None else "learnt, or flows in"
            raise UserError(f"the recipe changes `{path}`, which is {what} in {node.path}")
        found.add(float(value))
    if not found:
        raise UserError(
            f"the recipe changes `{path}`, but no layer of network `{compiled.graph.name}` has it: "
            "its neurons have their own parameters"
        )
    return found.pop() if len(found) == 1 else first


def _neurons(graph: Graph) -> Iterator[tuple[Node, NeuronProgram]]:
    for node in graph.nodes.values():
        if node.op == "neuron":
            yield node, graph.program(node)


def _try(compiled: CompiledNetwork, path: str, value: float) -> None:
    """Raise UserError if a value is not valid in the network; print the warnings about it."""
    try:
        tried = compiled.with_settings({**compiled.settings, path: repr(value)})
    except SpecError as error:
        raise UserError(f"{value:g} is not allowed: {_refused(path, error)}") from error
    known = {item.message for item in warnings_of_network(compiled.checked, compiled.lowered)}
    found = warnings_of_network(compiled.checked, tried.lowered)
    warn(tuple(item for item in found if item.message not in known))


def _refused(path: str, error: SpecError) -> str:
    first = error.diagnostics[0]
    hint = f"; {first.hint}" if first.hint else ""
    return f"the recipe changes `{path}`: {first.message}{hint}"
