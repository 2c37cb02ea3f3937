"""Compilation of neuron and surrogate declarations to programs.

Equations are evaluated from top to bottom at each time step. A parameter is a constant or a
``Learn``. Constant expressions are evaluated at compile time and must be finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from danetc.dsl.diagnostics.diagnostic import Label, Reported, Reporter
from danetc.dsl.neuron.derivative import derive_surrogate, differentiate
from danetc.dsl.neuron.expressions import OUTPUT, Arguments, ExpressionLowering
from danetc.dsl.neuron.opcodes import ConstantError, Operand, functions
from danetc.dsl.neuron.parameters import Parameters, ParameterValue
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    SURROGATE,
    Learn,
    Learnable,
    NeuronProgram,
    NeuronState,
    Program,
    SurrogateProgram,
    Wired,
    drop_origins,
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
        surrogate: A program without a surrogate cannot be differentiated.
        argument_spans: Spans of the arguments, where the errors that they cause are reported.
        surrogate_spans: The same for the surrogate.
    """
    slope = None
    if surrogate is not None:
        slope = compile_surrogate(
            surrogate, surrogate_arguments, reporter, argument_spans=surrogate_spans
        )
    equations = _Equations(declaration, arguments, reporter, argument_spans or {})
    program = equations.compiled(lambda: equations.neuron(slope))
    return program if surrogate is None or slope is not None else None


def compile_surrogate(
    declaration: Declaration,
    arguments: Arguments,
    reporter: Reporter,
    *,
    argument_spans: Mapping[str, Span] | None = None,
) -> SurrogateProgram | None:
    """Compile the derivative of a surrogate. Return None if errors were reported."""
    equations = _Equations(declaration, arguments, reporter, argument_spans or {})
    return equations.compiled(equations.surrogate)


class _Equations(ExpressionLowering):
    """Compiles one declaration."""

    def compiled(self, compile: Callable[[], Program]) -> Program | None:
        """Return the program, or None if errors were reported."""
        name, place = self.declaration.name, self.declaration.name_span
        try:
            return compile()
        except TooManyOperations:
            self.error("E0716", f"the equations of `{name}` are too long", place)
        except ConstantError as problem:
            self.error("E0710", f"the derivative of `{name}` has no value: {problem}", place)
        except Reported:
            pass
        return None

    def neuron(self, surrogate: SurrogateProgram | None) -> NeuronProgram:
        declaration, builder = self.declaration, self.builder
        states = self._read_states()
        builder.inputs += tuple(states)
        for item in surrogate.scheduled if surrogate is not None else ():
            if item.name in {INPUT, OUTPUT, *self.places}:
                message = f"`{item.name}` is the name of the surrogate's schedule"
                raise self.error("E0703", message, self.places[item.name])
            self.taken.add(item.name)
        self.values |= {name: name for name in states}
        self._read_parameters()
        inits, assigned = self._lower(states)
        for name in (name for name in states if name not in assigned):
            hint = f"give its value for the next step, `{name} = ...`, or make it a parameter"
            message = f"the state `{name}` never changes"
            self.error("E0706", message, states[name].name_span, hint=hint)
        output = self.values.get(OUTPUT)
        if output is None and OUTPUT not in self.failed:
            message = f"`{declaration.name}` does not define its output `{OUTPUT}`"
            hint = f"add an equation `{OUTPUT} = ...`"
            self.error("E0705", message, declaration.name_span, hint=hint)
        if self.wrong or output is None:
            raise Reported
        after = {name: builder.number(self.values[name]) for name in states}
        after |= {name: value for name, value in self.delayed.items() if value is not None}
        inits |= dict.fromkeys(self.delayed, 0.0)
        return self._finish(inits, after, builder.number(output), surrogate)

    def surrogate(self) -> SurrogateProgram:
        declaration, builder = self.declaration, self.builder
        self._read_parameters()
        self._lower({})
        defined = {item.name for item in self.body if isinstance(item, Define)}
        given = [name for name in ("y", "dy") if name in defined]
        if len(given) != 1:
            what = "both `y` and `dy`" if given else "neither `y` nor `dy`"
            message = f"`{declaration.name}` defines {what}"
            hint = "a surrogate defines `y`, a smooth step, or `dy`, its derivative"
            raise self.error("E0713", message, declaration.name_span, hint=hint)
        if self.wrong:
            raise Reported
        value = builder.number(self.values[given[0]])
        if given == ["y"]:
            program = derive_surrogate(declaration.name, builder, value)
        else:
            ops, (value,) = builder.finish([value])
            program = SurrogateProgram(declaration.name, ops, value)
        if program.derivative == 0.0:
            message = f"the derivative of `{declaration.name}` is 0 everywhere"
            hint = "`y` must be smooth: the derivative of a comparison is 0"
            raise self.error("E0714", message, declaration.name_span, hint=hint)
        scheduled = tuple(self.learnables)
        program = replace(program, parameters=_given(self.arguments), scheduled=scheduled)
        return drop_origins(program, builder.fixed)

    def _read_states(self) -> dict[str, State]:
        """Return the states with valid names."""
        states: dict[str, State] = {}
        for item in (each for each in self.body if isinstance(each, State)):
            if item.name in (INPUT, OUTPUT):
                message = f"`{item.name}` is {self._meaning(item.name)}, not a state"
                self.error("E0704", message, item.name_span)
                self.failed |= {item.name} - {INPUT}  # reading it is not a second error
            elif item.name in states:
                first = Label(states[item.name].name_span, "first here")
                message = f"the state `{item.name}` is declared twice"
                self.error("E0703", message, item.name_span, labels=(first,))
            else:
                states[item.name] = item
        return states

    def _meaning(self, name: str) -> str | None:
        """Return the meaning of a name that an equation or a parameter cannot have, or None."""
        if name in (INPUT, OUTPUT):
            return "the input" if name == INPUT else "the output"
        return "a function" if name in functions() else "a state" if name in self.values else None

    def _read_parameters(self) -> None:
        """Assign its value to each parameter."""
        for param in self.declaration.params:
            name = param.name
            if (meaning := self._meaning(name)) is not None:
                message = f"`{name}` cannot be a parameter: it is {meaning}"
                self.error("E0703", message, param.name_span)
                continue
            span = self.argument_spans.get(name, param.span)
            try:
                self.values[name] = self._argument(name, self.arguments[name], span)
            except OverflowError:
                self.failed.add(name)
                self.error("E0710", f"`{name}` is too large a number", span)
            except Reported:
                self.failed.add(name)

    def _argument(self, name: str, value: float | Learn | Wired, span: Span) -> Operand | bool:
        """Return the value of a parameter for an argument. Raises Reported, OverflowError."""
        match value:
            case bool():
                return value
            case Wired():
                self.builder.inputs += (name,)
                return name
            case Learn(trained=False) if self.what == "surrogate":
                held = Learnable(f"surrogate_{name}", value.start, scheduled=SURROGATE + name)
                self.learnables.append(held)
                self.builder.add_input(held.name, scalar=True)
                return held.name
            case Learn() if self.what == "surrogate":
                raise self.error("E0714", "a surrogate has no learnable parameters", span)
            case Learn():
                return self.learn(name, value, span, owned=True)
        return ParameterValue(float(value), name)

    def _lower(self, states: Mapping[str, State]) -> tuple[dict[str, float], set[str]]:
        """Lower the statements in order. Return initial values, and the states with an equation."""
        inits: dict[str, float] = {}
        places: dict[str, Span] = {}
        self.later = {
            item.name: item.name_span
            for item in self.body
            if isinstance(item, Define) and item.name not in self.values
        }
        for item in self.body:
            self.target = item.name or ""
            match item:
                case State() if self.what == "surrogate":
                    self.error("E0714", "a surrogate has no states", item.span)
                case State() if states.get(item.name) is item:
                    message = f"the initial value of state `{item.name}` is not constant"
                    with suppress(Reported):
                        inits[item.name] = self.constant(item.value, "E0715", message)
                case Define() if self._may_define(item, places, states):
                    places[item.name] = item.name_span
                    self.later.pop(item.name, None)
                    try:
                        self.whole = item.value
                        self.define(item.name, self.value(item.value), item.name in states)
                    except Reported:
                        self.failed.add(item.name)
                        self.values.pop(item.name, None)
                case Group():
                    message = f"a group is not allowed in a {self.what}"
                    hint = "write one equation per line: `v = ...`"
                    self.error("E0709", message, item.span, hint=hint)
        return inits, set(places) & set(states)

    def _may_define(
        self, item: Define, places: Mapping[str, Span], states: Mapping[str, State]
    ) -> bool:
        name = item.name
        parameters = {param.name for param in self.declaration.params}
        meaning = "a parameter" if name in parameters else self._meaning(name)
        if item.index is not None:
            message = f"an index is not allowed in the equations of a {self.what}"
            self.error("E0709", message, item.name_span)
            self.failed.add(name)
        elif name in places:
            first = Label(places[name], "first here")
            message = f"`{name}` is assigned twice"
            hint = "each name has one equation; declare a `state` to carry a value to the next step"
            if name in states:
                hint = "a state has one equation, its next value; rename intermediate values"
            self.error("E0703", message, item.name_span, labels=(first,), hint=hint)
        elif meaning in ("the input", "a function", "a parameter"):
            self.error("E0703", f"`{name}` is {meaning} and cannot be set", item.name_span)
        else:
            return True
        return False

    def _finish(
        self,
        inits: Mapping[str, float],
        after: Mapping[str, Operand],
        output: Operand,
        surrogate: SurrogateProgram | None,
    ) -> NeuronProgram:
        """Remove unused operations, and check that gradients reach the input and the learnables."""
        builder = self.builder
        inputs = tuple(key for key, value in self.arguments.items() if isinstance(value, Wired))
        known = tuple(NeuronState(name, inits[name]) for name in after), tuple(self.learnables)
        step = *known, tuple(builder.ops), output, tuple(after.values()), surrogate
        full = NeuronProgram(self.declaration.name, *step, inputs=(*inputs, *self.draws))
        needed, trained = full.reaching(gradients=False), full.reaching(gradients=True)
        name, place = self.declaration.name, self.declaration.name_span
        labels = (Label(self.places[OUTPUT], "the output"),)
        for wired in (*inputs, INPUT):
            if wired not in needed:
                message = f"the output of `{name}` does not depend on `{wired}`, its input"
                span = self.argument_spans.get(wired, place)
                raise self.error("E0712", message, span, labels=labels)
        detaches = any(op.opcode == "detach" and op.name in needed for op in self.builder.ops)
        if INPUT not in trained and not detaches:
            message = f"no gradient flows from the output of `{name}` to `{INPUT}`"
            hint = "a comparison has derivative 0; `heaviside(v - v_threshold)` has the surrogate's"
            raise self.error("E0712", message, place, labels=labels, hint=hint)
        for item in self.learnables:
            kind = "scheduled" if item.scheduled else "learnable"
            if item.parameter not in (needed if item.scheduled else trained):
                how = "gets no gradient from" if item.parameter in needed else "has no influence on"
                message = f"`{item.name}` is {kind} but {how} `{OUTPUT}`"
                raise self.error("E0711", message, self.learnt_at[item.name])
        states = [name for name in after if name in needed]
        draws = {name: draw for name, draw in self.draws.items() if name in needed}
        for name in states:
            builder.label(after[name], unique(f"{name}{NEXT}", self.taken))
        ops, (output, *next_states) = builder.finish([output, *(after[name] for name in states)])
        uses_surrogate = any(op.opcode == "heaviside" for op in ops)
        if surrogate is not None and uses_surrogate:
            self.learnables += surrogate.scheduled
        program = replace(
            full,
            states=tuple(NeuronState(name, inits[name]) for name in states),
            learnables=tuple(self.learnables),
            ops=ops,
            output=output,
            next_states=tuple(next_states),
            surrogate=surrogate if uses_surrogate else None,
            parameters=_given(self.arguments),
            inputs=(*inputs, *draws),
            draws=tuple(draws.values()),
        )
        program = drop_origins(program, builder.fixed)
        if surrogate is not None or not uses_surrogate:
            differentiate(program)  # a constant of the derivative may have no value
        return program


def _given(arguments: Arguments) -> Parameters:
    """Return the parameters that are not learnt, with their values."""
    return tuple(
        (name, value if isinstance(value, bool) else float(value))
        for name, value in arguments.items()
        if not isinstance(value, (Learn, Wired))
    )
