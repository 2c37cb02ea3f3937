"""The statements of a neuron or surrogate, lowered in their order."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter
from danetc.dsl.neuron.expressions import ExpressionLowering, Value
from danetc.dsl.neuron.functions import functions
from danetc.dsl.neuron.learn import Learn, check_learn
from danetc.dsl.neuron.parameters import ParameterValue
from danetc.dsl.neuron.program import INPUT, SURROGATE, Learnable, Wired
from danetc.dsl.neuron.ssa import ProgramBuilder
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration, Define, Group, State, Stmt

Arguments: TypeAlias = Mapping[str, int | float | bool | Learn | Wired]
"""A value for every parameter of a declaration."""

OUTPUT = "s"


def lowering_of(
    declaration: Declaration,
    arguments: Arguments,
    reporter: Reporter,
    argument_spans: Mapping[str, Span],
) -> ExpressionLowering:
    """A lowering that has read nothing of the declaration yet."""
    body = body_of(declaration)
    names = {INPUT, OUTPUT, *(param.name for param in declaration.params)}
    places: dict[str, Span] = {}
    for item in (*declaration.params, *body):
        if item.name is not None:
            names.add(item.name)
            places.setdefault(item.name, item.name_span)
    return ExpressionLowering(
        declaration,
        ProgramBuilder((INPUT,)),
        reporter,
        argument_spans,
        _texts(arguments),
        names,
        places,
    )


def body_of(declaration: Declaration) -> tuple[Stmt, ...]:
    """The equations; a declaration that names another one (``= LIF(...)``) has none."""
    if declaration.value is not None or declaration.body is None:
        raise ValueError(f"{declaration.kind} {declaration.name} has no equations of its own")
    return declaration.body


def _texts(arguments: Arguments) -> dict[str, str]:
    """The arguments as errors show them."""
    texts = {}
    for name, value in arguments.items():
        if isinstance(value, Learn):
            texts[name] = "learnt"
        elif isinstance(value, Wired):
            texts[name] = "a value that flows in"
        elif isinstance(value, bool):
            texts[name] = str(value).lower()
        else:
            with suppress(OverflowError):
                texts[name] = f"{float(value):g}"
    return texts


def read_states(lowering: ExpressionLowering) -> dict[str, State]:
    """The states that are well named."""
    states: dict[str, State] = {}
    for item in body_of(lowering.declaration):
        if not isinstance(item, State):
            continue
        if item.name in (INPUT, OUTPUT):
            what = "the input" if item.name == INPUT else "the output"
            lowering.error("E0704", f"`{item.name}` is {what}, not a state", item.name_span)
            lowering.failed |= {item.name} - {INPUT}  # reading it is no second error
            lowering.refused.add(item.name)
        elif item.name in states:
            first = Label(states[item.name].name_span, "first here")
            message = f"the state `{item.name}` is declared twice"
            lowering.error("E0703", message, item.name_span, labels=(first,))
            lowering.refused.add(item.name)
        else:
            states[item.name] = item
    return states


def read_parameters(lowering: ExpressionLowering, arguments: Arguments) -> None:
    """Give each parameter its value."""
    for param in lowering.declaration.params:
        name = param.name
        if name in {INPUT, OUTPUT, *lowering.values, *functions()}:
            what = "a function" if name in functions() else "the output"
            what = "the input" if name == INPUT else what
            what = "a state" if name in lowering.values and name != INPUT else what
            message = f"`{name}` cannot be a parameter: it is {what}"
            lowering.error("E0703", message, param.name_span)
            lowering.refused.add(name)
            continue
        value = arguments[name]
        span = lowering.argument_spans.get(name, param.span)
        if isinstance(value, bool):
            lowering.values[name] = value
        elif isinstance(value, Wired):
            lowering.builder.inputs += (name,)
            lowering.values[name] = name
        elif not isinstance(value, Learn):
            try:
                lowering.values[name] = ParameterValue(float(value), name)
            except OverflowError:
                lowering.failed.add(name)
                lowering.error("E0710", f"`{name}` is a number too large", span)
        elif lowering.what == "surrogate" and not value.trained:
            held = Learnable(f"surrogate_{name}", value.init, scheduled=SURROGATE + name)
            lowering.learnables.append(held)
            lowering.builder.add_input(held.name, scalar=True)
            lowering.values[name] = held.name
        elif lowering.what == "surrogate":
            lowering.failed.add(name)
            lowering.error("E0714", "a surrogate has nothing that is learnt", span)
        elif check_learn(value, span, lowering.reporter):
            lowering.values[name] = lowering.learn(name, value, span, owned=True)
        else:
            lowering.wrong = True
            lowering.failed.add(name)


def lower_equations(
    lowering: ExpressionLowering, states: Mapping[str, State]
) -> tuple[dict[str, float], set[str]]:
    """Lower the statements in order: initial values of states, and the states that are set."""
    body = body_of(lowering.declaration)
    inits: dict[str, float] = {}
    places: dict[str, Span] = {}
    parameters = {param.name for param in lowering.declaration.params}
    lowering.later = {
        item.name: item.name_span
        for item in body
        if isinstance(item, Define) and item.name not in lowering.values
    }
    for item in body:
        lowering.target = item.name or ""
        match item:
            case State() if lowering.what == "surrogate":
                lowering.error("E0714", "a surrogate has no states", item.span)
            case Define() if _may_define(lowering, item, parameters, places, states):
                places[item.name] = item.name_span
                lowering.later.pop(item.name, None)
                _define(lowering, item, item.name in states)
            case State() if states.get(item.name) is item:
                message = f"the state `{item.name}` starts at a value that is not constant"
                with suppress(Reported):
                    inits[item.name] = lowering.constant(item.value, "E0715", message)
            case Group():
                message = f"a group has no place in a {lowering.what}"
                lowering.error("E0709", message, item.span, hint="one equation a line: `v = ...`")
    return inits, set(places) & set(states)


def _define(lowering: ExpressionLowering, item: Define, is_state: bool) -> None:
    try:
        lowering.whole = item.value
        value: Value = lowering.value(item.value)
    except Reported:
        lowering.failed.add(item.name)
        lowering.values.pop(item.name, None)
        return
    lowering.values[item.name] = value
    lowering.failed.discard(item.name)
    if not is_state:
        lowering.builder.label(value, item.name)
        lowering.delays.define(item.name, value)


def _may_define(
    lowering: ExpressionLowering,
    item: Define,
    parameters: set[str],
    places: Mapping[str, Span],
    states: Mapping[str, State],
) -> bool:
    name = item.name
    if item.index is not None:
        message = f"an index has no place in the equations of a {lowering.what}"
        lowering.error("E0709", message, item.name_span)
        lowering.failed.add(name)
    elif name in places:
        first = Label(places[name], "first here")
        hint = None
        if name not in states:
            hint = "each name has one equation; a value kept for the next step is a `state`"
        message = f"`{name}` gets a value twice"
        lowering.error("E0703", message, item.name_span, labels=(first,), hint=hint)
    elif name == INPUT or name in parameters or name in functions():
        what = "a function" if name in functions() else "a parameter"
        what = "the input" if name == INPUT else what
        if name not in lowering.refused:  # once is enough
            lowering.error("E0703", f"`{name}` is {what} and cannot be set", item.name_span)
        lowering.refused.add(name)
    else:
        return True
    return False
