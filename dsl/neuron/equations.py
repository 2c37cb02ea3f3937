"""Compilation of neuron and surrogate declarations to programs.

Equations run from top to bottom at each time step. A parameter is a constant or a ``Learn``.
Expressions of constants are computed at compile time and must be finite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter
from danetc.dsl.neuron.derivative import derive_surrogate, differentiate
from danetc.dsl.neuron.expressions import OUTPUT, Arguments, ExpressionLowering
from danetc.dsl.neuron.learn import Learn, check_learn
from danetc.dsl.neuron.opcodes import ConstantError, Operand, functions
from danetc.dsl.neuron.parameters import Parameters, ParameterValue
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    SURROGATE,
    Learnable,
    NeuronProgram,
    NeuronState,
    SurrogateProgram,
    Wired,
    settled,
    unique,
)
from danetc.dsl.neuron.ssa import TooManyOperations
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration, Define, Group, State


def compile_neuron(
    declaration: Declaration,
    arguments: Arguments,
    surrogate: Declaration | None,
    surrogate_arguments: Arguments,
    reporter: Reporter,
    *,
    argument_spans: Mapping[str, Span] | None = None,
    surrogate_spans: Mapping[str, Span] | None = None,
) -> NeuronProgram | None:
    """Compile a neuron. Return None if errors were reported.

    Args:
        arguments: A value for every parameter.
        surrogate: Without a surrogate the program cannot be differentiated.
        argument_spans: Where the user gave arguments; errors that they cause are reported there.
        surrogate_spans: The same for the surrogate.
    """
    slope = None
    if surrogate is not None:
        slope = compile_surrogate(
            surrogate, surrogate_arguments, reporter, argument_spans=surrogate_spans
        )
    with _reporting(declaration, reporter):
        lowering = ExpressionLowering(declaration, arguments, reporter, argument_spans or {})
        program = _neuron(lowering, slope)
        return program if surrogate is None or slope is not None else None
    return None


def compile_surrogate(
    declaration: Declaration,
    arguments: Arguments,
    reporter: Reporter,
    *,
    argument_spans: Mapping[str, Span] | None = None,
) -> SurrogateProgram | None:
    """Compile the derivative of a surrogate. Return None if errors were reported."""
    with _reporting(declaration, reporter):
        return _surrogate(
            ExpressionLowering(declaration, arguments, reporter, argument_spans or {})
        )
    return None


@contextmanager
def _reporting(declaration: Declaration, reporter: Reporter) -> Iterator[None]:
    """Suppress errors that are reported, and report equations that are too long."""
    try:
        yield
    except TooManyOperations:
        message = f"the equations of `{declaration.name}` are too long"
        reporter.error("E0716", message, declaration.name_span)
    except Reported:
        pass


def _neuron(lowering: ExpressionLowering, surrogate: SurrogateProgram | None) -> NeuronProgram:
    declaration, builder = lowering.declaration, lowering.builder
    states = _read_states(lowering)
    builder.inputs += tuple(states)
    for item in surrogate.scheduled if surrogate is not None else ():
        if item.name in {INPUT, OUTPUT, *lowering.places}:
            message = f"`{item.name}` is what the surrogate's schedule is called"
            raise lowering.error("E0703", message, lowering.places[item.name])
        lowering.taken.add(item.name)
    lowering.values |= {name: name for name in states}
    _read_parameters(lowering)
    inits, assigned = _lower_equations(lowering, states)
    for name, state in states.items():
        if name not in assigned:
            lowering.error(
                "E0706",
                f"the state `{name}` never changes",
                state.name_span,
                hint=f"give its value for the next step, `{name} = ...`, or make it a parameter",
            )
    output = lowering.values.get(OUTPUT)
    if output is None and OUTPUT not in lowering.failed:
        message = f"`{declaration.name}` never gives `{OUTPUT}`, a neuron's output"
        hint = f"an equation `{OUTPUT} = ...`"
        lowering.error("E0705", message, declaration.name_span, hint=hint)
    if lowering.wrong or output is None:
        raise Reported
    after = {name: builder.number(lowering.values[name]) for name in states}
    after |= {name: value for name, value in lowering.delayed.items() if value is not None}
    inits |= dict.fromkeys(lowering.delayed, 0.0)
    return _finish(lowering, inits, after, builder.number(output), surrogate)


def _read_states(lowering: ExpressionLowering) -> dict[str, State]:
    """Return the states with valid names."""
    states: dict[str, State] = {}
    for item in lowering.body:
        if not isinstance(item, State):
            continue
        if item.name in (INPUT, OUTPUT):
            what = "the input" if item.name == INPUT else "the output"
            lowering.error("E0704", f"`{item.name}` is {what}, not a state", item.name_span)
            lowering.failed |= {item.name} - {INPUT}  # reading it is not a second error
            lowering.refused.add(item.name)
        elif item.name in states:
            first = Label(states[item.name].name_span, "first here")
            message = f"the state `{item.name}` is declared twice"
            lowering.error("E0703", message, item.name_span, labels=(first,))
            lowering.refused.add(item.name)
        else:
            states[item.name] = item
    return states


def _read_parameters(lowering: ExpressionLowering) -> None:
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
        value = lowering.arguments[name]
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
            lowering.error("E0714", "a surrogate has no learnable parameters", span)
        elif check_learn(value, span, lowering.reporter):
            lowering.values[name] = lowering.learn(name, value, span, owned=True)
        else:
            lowering.wrong = True
            lowering.failed.add(name)


def _lower_equations(
    lowering: ExpressionLowering, states: Mapping[str, State]
) -> tuple[dict[str, float], set[str]]:
    """Lower the statements in order. Return initial values, and the states that are set."""
    inits: dict[str, float] = {}
    places: dict[str, Span] = {}
    parameters = {param.name for param in lowering.declaration.params}
    lowering.later = {
        item.name: item.name_span
        for item in lowering.body
        if isinstance(item, Define) and item.name not in lowering.values
    }
    for item in lowering.body:
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
                message = f"a group is not allowed in a {lowering.what}"
                lowering.error(
                    "E0709", message, item.span, hint="write one equation per line: `v = ...`"
                )
    return inits, set(places) & set(states)


def _define(lowering: ExpressionLowering, item: Define, is_state: bool) -> None:
    try:
        lowering.whole = item.value
        lowering.define(item.name, lowering.value(item.value), is_state)
    except Reported:
        lowering.failed.add(item.name)
        lowering.values.pop(item.name, None)


def _may_define(
    lowering: ExpressionLowering,
    item: Define,
    parameters: set[str],
    places: Mapping[str, Span],
    states: Mapping[str, State],
) -> bool:
    name = item.name
    if item.index is not None:
        message = f"an index is not allowed in the equations of a {lowering.what}"
        lowering.error("E0709", message, item.name_span)
        lowering.failed.add(name)
    elif name in places:
        first = Label(places[name], "first here")
        hint = None
        if name not in states:
            hint = "each name has one equation; declare a `state` to carry a value to the next step"
        message = f"`{name}` is assigned twice"
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


def _finish(
    lowering: ExpressionLowering,
    inits: Mapping[str, float],
    after: Mapping[str, Operand],
    output: Operand,
    surrogate: SurrogateProgram | None,
) -> NeuronProgram:
    """Remove what the output does not need, and check that gradients reach the rest."""
    declaration, builder = lowering.declaration, lowering.builder
    inputs = tuple(key for key, value in lowering.arguments.items() if isinstance(value, Wired))
    full = NeuronProgram(
        declaration.name,
        tuple(NeuronState(name, inits[name]) for name in after),
        tuple(lowering.learnables),
        tuple(builder.ops),
        output,
        tuple(after.values()),
        surrogate,
        inputs=inputs,
    )
    needed, trained = full.reaching(gradients=False), full.reaching(gradients=True)
    _check_paths(lowering, needed, trained, inputs)
    states = [name for name in after if name in needed]
    for name in states:
        builder.label(after[name], unique(f"{name}{NEXT}", lowering.taken))
    ops, (output, *next_states) = builder.finish([output, *(after[name] for name in states)])
    uses_surrogate = any(op.opcode == "heaviside" for op in ops)
    if surrogate is not None and uses_surrogate:
        lowering.learnables += surrogate.scheduled
    program = replace(
        full,
        states=tuple(NeuronState(name, inits[name]) for name in states),
        learnables=tuple(lowering.learnables),
        ops=ops,
        output=output,
        next_states=tuple(next_states),
        surrogate=surrogate if uses_surrogate else None,
        parameters=_given(lowering.arguments),
    )
    program = settled(program, builder.fixed)
    if surrogate is not None or not uses_surrogate:
        try:
            differentiate(program)
        except ConstantError as problem:
            message = f"the derivative of `{declaration.name}` has no value: {problem}"
            raise lowering.error("E0710", message, declaration.name_span) from None
    return program


def _check_paths(
    lowering: ExpressionLowering,
    needed: frozenset[Operand],
    trained: frozenset[Operand],
    inputs: tuple[str, ...],
) -> None:
    declaration = lowering.declaration
    for name in inputs:
        if name not in needed:
            message = f"`{name}` is an input and has no influence on `{OUTPUT}`"
            span = lowering.argument_spans.get(name, declaration.name_span)
            raise lowering.error("E0712", message, span)
    if INPUT not in needed:
        message = f"the output of `{declaration.name}` does not depend on `{INPUT}`, its input"
        labels = (Label(lowering.places[OUTPUT], "the output"),)
        raise lowering.error("E0712", message, declaration.name_span, labels=labels)
    detaches = any(op.opcode == "detach" and op.name in needed for op in lowering.builder.ops)
    if INPUT not in trained and not detaches:
        raise lowering.error(
            "E0712",
            f"no gradient flows from the output of `{declaration.name}` to `{INPUT}`",
            declaration.name_span,
            labels=(Label(lowering.places[OUTPUT], "the output"),),
            hint="a comparison has slope 0; `heaviside(v - v_threshold)` has the surrogate's",
        )
    for item in lowering.learnables:
        if item.scheduled and item.parameter not in needed:
            message = f"`{item.name}` is scheduled but has no influence on `{OUTPUT}`"
            raise lowering.error("E0711", message, lowering.learnt_at[item.name])
        if item.parameter not in trained and not item.scheduled:
            how = "gets no gradient from" if item.parameter in needed else "has no influence on"
            message = f"`{item.name}` is learnable but {how} `{OUTPUT}`"
            raise lowering.error("E0711", message, lowering.learnt_at[item.name])


def _surrogate(lowering: ExpressionLowering) -> SurrogateProgram:
    declaration, builder = lowering.declaration, lowering.builder
    _read_parameters(lowering)
    _lower_equations(lowering, {})
    defined = {item.name for item in lowering.body if isinstance(item, Define)}
    given = [name for name in ("y", "dy") if name in defined]
    if len(given) != 1:
        what = "both `y` and `dy`" if given else "neither `y` nor `dy`"
        raise lowering.error(
            "E0713",
            f"`{declaration.name}` gives {what}",
            declaration.name_span,
            hint="a surrogate gives `y`, a smooth step, or `dy`, its derivative",
        )
    if lowering.wrong:
        raise Reported
    value = builder.number(lowering.values[given[0]])
    try:
        if given == ["y"]:
            program = derive_surrogate(declaration.name, builder, value)
        else:
            ops, (value,) = builder.finish([value])
            program = SurrogateProgram(declaration.name, ops, value)
    except ConstantError as problem:
        message = f"the derivative of `{declaration.name}` has no value: {problem}"
        raise lowering.error("E0710", message, declaration.name_span) from None
    if program.derivative == 0.0:
        raise lowering.error(
            "E0714",
            f"the derivative of `{declaration.name}` is 0 everywhere",
            declaration.name_span,
            hint="`y` has to be smooth: a comparison has slope 0",
        )
    parameters, scheduled = _given(lowering.arguments), tuple(lowering.learnables)
    return settled(replace(program, parameters=parameters, scheduled=scheduled), builder.fixed)


def _given(arguments: Arguments) -> Parameters:
    """Parameters that are not learnt, with their values."""
    return tuple(
        (name, value if isinstance(value, bool) else float(value))
        for name, value in arguments.items()
        if not isinstance(value, (Learn, Wired))
    )
