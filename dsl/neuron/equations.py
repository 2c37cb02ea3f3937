"""Neuron and surrogate declarations to programs.

Equations run from top to bottom at each time step. A parameter is a constant here (or a ``Learn``);
what is made of constants alone is worked out now, and has to be a finite number.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter
from danetc.dsl.neuron.derivative import derive_surrogate, differentiate
from danetc.dsl.neuron.expressions import (
    ExpressionLowering,
    Learn,
    Value,
    check_learn,
    functions,
)
from danetc.dsl.neuron.opcodes import ConstantError, Operand
from danetc.dsl.neuron.parameters import Parameters, ParameterValue
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    NeuronProgram,
    NeuronState,
    SurrogateProgram,
    settled,
    unique,
)
from danetc.dsl.neuron.ssa import ProgramBuilder, TooManyOperations
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration, Define, Group, State, Stmt

__all__ = [
    "Learn",
    "NeuronProgram",
    "SurrogateProgram",
    "check_learn",
    "compile_neuron",
    "compile_surrogate",
]

OUTPUT = "s"


def compile_neuron(
    declaration: Declaration,
    arguments: Mapping[str, int | float | bool | Learn],
    surrogate: Declaration | None,
    surrogate_arguments: Mapping[str, int | float | bool | Learn],
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
    arguments: Mapping[str, int | float | bool | Learn],
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
    arguments: Mapping[str, int | float | bool | Learn],
    surrogate: SurrogateProgram | None,
    reporter: Reporter,
    argument_spans: Mapping[str, Span],
) -> NeuronProgram:
    body = _body(declaration)
    names = _names(declaration, body)
    builder = ProgramBuilder((INPUT,))
    texts, places = _texts(arguments), _places(declaration, body)
    lowering = ExpressionLowering(
        "neuron", builder, reporter, argument_spans, texts, names, declaration, places
    )
    states = _states(lowering, body)
    builder.inputs += tuple(states)
    lowering.values = {name: name for name in (INPUT, *states)}
    _parameters(lowering, declaration, arguments)
    inits, assigned = _equations(lowering, declaration, body, states)
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
    output = builder.number(output)
    parameters = _given(arguments)
    return _finish(declaration, lowering, inits, after, output, surrogate, parameters)


def _finish(
    declaration: Declaration,
    lowering: ExpressionLowering,
    inits: Mapping[str, float],
    after: Mapping[str, Operand],
    output: Operand,
    surrogate: SurrogateProgram | None,
    parameters: Parameters,
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
    )
    needed, trained = full.reaching(gradients=False), full.reaching(gradients=True)
    _check_paths(declaration, lowering, needed, trained)
    states = [name for name in after if name in needed]
    for name in states:
        builder.label(after[name], unique(f"{name}{NEXT}", lowering.taken))
    ops, (output, *next_states) = builder.finish([output, *(after[name] for name in states)])
    uses_surrogate = any(op.opcode == "heaviside" for op in ops)
    program = NeuronProgram(
        declaration.name,
        tuple(NeuronState(name, inits[name]) for name in states),
        tuple(lowering.learnables),
        ops,
        output,
        tuple(next_states),
        surrogate if uses_surrogate else None,
        parameters,
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
) -> None:
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
        if item.parameter not in trained:
            how = "gets no gradient from" if item.parameter in needed else "has no influence on"
            message = f"`{item.name}` is learnt and {how} `{OUTPUT}`"
            raise lowering.error("E0711", message, lowering.learnt_at[item.name])


def _surrogate(
    declaration: Declaration,
    arguments: Mapping[str, int | float | bool | Learn],
    reporter: Reporter,
    argument_spans: Mapping[str, Span],
) -> SurrogateProgram:
    body = _body(declaration)
    names = _names(declaration, body)
    builder = ProgramBuilder((INPUT,))
    texts, places = _texts(arguments), _places(declaration, body)
    lowering = ExpressionLowering(
        "surrogate", builder, reporter, argument_spans, texts, names, declaration, places
    )
    lowering.values = {INPUT: INPUT}
    _parameters(lowering, declaration, arguments)
    _equations(lowering, declaration, body, {})
    defined = {item.name for item in body if isinstance(item, Define)}
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
    return settled(replace(program, parameters=_given(arguments)), builder.fixed)


def _given(arguments: Mapping[str, int | float | bool | Learn]) -> Parameters:
    """The parameters that are not learnt, with their values."""
    return tuple(
        (name, value if isinstance(value, bool) else float(value))
        for name, value in arguments.items()
        if not isinstance(value, Learn)
    )


def _body(declaration: Declaration) -> tuple[Stmt, ...]:
    """The equations; a declaration that names another one (``= LIF(...)``) is not for here."""
    if declaration.value is not None or declaration.body is None:
        raise ValueError(f"{declaration.kind} {declaration.name} has no equations of its own")
    return declaration.body


def _texts(arguments: Mapping[str, int | float | bool | Learn]) -> dict[str, str]:
    """The arguments as errors show them."""
    texts = {}
    for name, value in arguments.items():
        if isinstance(value, Learn):
            texts[name] = "learnt"
        elif isinstance(value, bool):
            texts[name] = str(value).lower()
        else:
            with suppress(OverflowError):
                texts[name] = f"{float(value):g}"
    return texts


def _names(declaration: Declaration, body: tuple[Stmt, ...]) -> set[str]:
    """The names that the text itself uses."""
    names = {INPUT, OUTPUT} | {param.name for param in declaration.params}
    return names | {item.name for item in body if item.name is not None}


def _places(declaration: Declaration, body: tuple[Stmt, ...]) -> dict[str, Span]:
    """Where the names of the text stand first."""
    places: dict[str, Span] = {}
    for item in (*declaration.params, *body):
        if item.name is not None:
            places.setdefault(item.name, item.name_span)
    return places


def _states(lowering: ExpressionLowering, body: tuple[Stmt, ...]) -> dict[str, State]:
    """The states that are well named."""
    states: dict[str, State] = {}
    for item in body:
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


def _parameters(
    lowering: ExpressionLowering,
    declaration: Declaration,
    arguments: Mapping[str, int | float | bool | Learn],
) -> None:
    """Give each parameter its value."""
    for param in declaration.params:
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
        elif not isinstance(value, Learn):
            try:
                lowering.values[name] = ParameterValue(float(value), name)
            except OverflowError:
                lowering.failed.add(name)
                lowering.error("E0710", f"`{name}` is a number too large", span)
        elif lowering.what == "surrogate":
            lowering.failed.add(name)
            lowering.error("E0714", "a surrogate has nothing that is learnt", span)
        elif check_learn(value, span, lowering.reporter):
            lowering.values[name] = lowering.learn(name, value, span, owned=True)
        else:
            lowering.wrong = True
            lowering.failed.add(name)


def _equations(
    lowering: ExpressionLowering,
    declaration: Declaration,
    body: tuple[Stmt, ...],
    states: Mapping[str, State],
) -> tuple[dict[str, float], set[str]]:
    """Lower the statements in order: initial values of states, and the states that are set."""
    inits: dict[str, float] = {}
    places: dict[str, Span] = {}
    parameters = {param.name for param in declaration.params}
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
