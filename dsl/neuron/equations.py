"""Neuron and surrogate declarations to programs.

Equations run from top to bottom at each time step. A parameter is a constant here (or a ``Learn``);
what is made of constants alone is computed now, and has to be a finite number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter
from danetc.dsl.neuron.body import (
    OUTPUT,
    Arguments,
    body_of,
    lower_equations,
    lowering_of,
    read_parameters,
    read_states,
)
from danetc.dsl.neuron.derivative import derive_surrogate, differentiate
from danetc.dsl.neuron.expressions import ExpressionLowering
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.neuron.opcodes import ConstantError, Operand
from danetc.dsl.neuron.parameters import Parameters
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    NeuronProgram,
    NeuronState,
    SurrogateProgram,
    Wired,
    settled,
    unique,
)
from danetc.dsl.neuron.ssa import TooManyOperations
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration, Define


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
    """The program of a neuron, or None where errors were reported.

    ``arguments`` hold a value for every parameter. ``argument_spans`` and ``surrogate_spans`` say
    where the user gave those that are not defaults: errors that they cause are reported there.
    Without a ``surrogate`` the program can be looked at, not differentiated.
    """
    stand_in = None
    if surrogate is not None:
        stand_in = compile_surrogate(
            surrogate, surrogate_arguments, reporter, argument_spans=surrogate_spans
        )
    try:
        program = _neuron(declaration, arguments, stand_in, reporter, argument_spans or {})
    except TooManyOperations:
        _too_long(declaration, reporter)
    except Reported:
        pass
    else:
        return program if surrogate is None or stand_in is not None else None
    return None


def compile_surrogate(
    declaration: Declaration,
    arguments: Arguments,
    reporter: Reporter,
    *,
    argument_spans: Mapping[str, Span] | None = None,
) -> SurrogateProgram | None:
    """The derivative that a surrogate stands for, or None where errors were reported."""
    try:
        return _surrogate(declaration, arguments, reporter, argument_spans or {})
    except TooManyOperations:
        _too_long(declaration, reporter)
    except Reported:
        pass
    return None


def _too_long(declaration: Declaration, reporter: Reporter) -> None:
    message = f"the equations of `{declaration.name}` are too long"
    reporter.error("E0716", message, declaration.name_span)


def _neuron(
    declaration: Declaration,
    arguments: Arguments,
    surrogate: SurrogateProgram | None,
    reporter: Reporter,
    argument_spans: Mapping[str, Span],
) -> NeuronProgram:
    lowering = lowering_of(declaration, arguments, reporter, argument_spans)
    builder = lowering.builder
    states = read_states(lowering)
    builder.inputs += tuple(states)
    if surrogate is not None:
        for item in surrogate.scheduled:
            if item.name in {INPUT, OUTPUT, *lowering.places}:
                message = f"`{item.name}` is what the surrogate's schedule is called"
                raise lowering.error("E0703", message, lowering.places[item.name])
        lowering.taken |= {item.name for item in surrogate.scheduled}
    lowering.values = {name: name for name in (INPUT, *states)}
    read_parameters(lowering, arguments)
    inits, assigned = lower_equations(lowering, states)
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
    after |= lowering.delays.next_values
    inits |= dict.fromkeys(lowering.delays.after, 0.0)
    output = builder.number(output)
    inputs = tuple(name for name, value in arguments.items() if isinstance(value, Wired))
    parameters = _given(arguments)
    return _finish(declaration, lowering, inits, after, output, surrogate, parameters, inputs)


def _finish(
    declaration: Declaration,
    lowering: ExpressionLowering,
    inits: Mapping[str, float],
    after: Mapping[str, Operand],
    output: Operand,
    surrogate: SurrogateProgram | None,
    parameters: Parameters,
    inputs: tuple[str, ...],
) -> NeuronProgram:
    """Drop what ``s`` does not need, and see that training reaches what is left."""
    builder = lowering.builder
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
    _check_paths(declaration, lowering, needed, trained, inputs)
    states = [name for name in after if name in needed]
    for name in states:
        builder.label(after[name], unique(f"{name}{NEXT}", lowering.taken))
    ops, (output, *next_states) = builder.finish([output, *(after[name] for name in states)])
    uses_surrogate = any(op.opcode == "heaviside" for op in ops)
    if surrogate is not None and uses_surrogate:
        lowering.learnables += surrogate.scheduled
    program = NeuronProgram(
        declaration.name,
        tuple(NeuronState(name, inits[name]) for name in states),
        tuple(lowering.learnables),
        ops,
        output,
        tuple(next_states),
        surrogate if uses_surrogate else None,
        parameters,
        inputs,
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
    declaration: Declaration,
    lowering: ExpressionLowering,
    needed: frozenset[Operand],
    trained: frozenset[Operand],
    inputs: tuple[str, ...],
) -> None:
    for name in inputs:
        if name not in needed:
            message = f"`{name}` is a value and has no influence on `{OUTPUT}`"
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
            message = f"`{item.name}` is scheduled and has no influence on `{OUTPUT}`"
            raise lowering.error("E0711", message, lowering.learnt_at[item.name])
        if item.parameter not in trained and not item.scheduled:
            how = "gets no gradient from" if item.parameter in needed else "has no influence on"
            message = f"`{item.name}` is learnt and {how} `{OUTPUT}`"
            raise lowering.error("E0711", message, lowering.learnt_at[item.name])


def _surrogate(
    declaration: Declaration,
    arguments: Arguments,
    reporter: Reporter,
    argument_spans: Mapping[str, Span],
) -> SurrogateProgram:
    lowering = lowering_of(declaration, arguments, reporter, argument_spans)
    builder = lowering.builder
    lowering.values = {INPUT: INPUT}
    read_parameters(lowering, arguments)
    lower_equations(lowering, {})
    defined = {item.name for item in body_of(declaration) if isinstance(item, Define)}
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
    program = replace(program, parameters=_given(arguments), scheduled=tuple(lowering.learnables))
    return settled(program, builder.fixed)


def _given(arguments: Arguments) -> Parameters:
    """The parameters that are not learnt, with their values."""
    return tuple(
        (name, value if isinstance(value, bool) else float(value))
        for name, value in arguments.items()
        if not isinstance(value, (Learn, Wired))
    )
