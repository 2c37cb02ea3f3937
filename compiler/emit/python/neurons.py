"""Classes of neurons and surrogates in a standalone model: their equations, with parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from danetc.compiler.emit.names import camel, free, variable
from danetc.compiler.emit.python.constructors import Argument, New, Size
from danetc.compiler.emit.python.text import class_, constant, indented, method, sequence, signature
from danetc.compiler.ir.graph import Shape
from danetc.dsl.neuron.kernel_text import MODULE_ATTRIBUTES, parameter_names
from danetc.dsl.neuron.opcodes import ATOM, OPCODES, Operand, enclosed, torch_form
from danetc.dsl.neuron.parameters import Origin, ParameterValue, names_of, opcodes_of
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    Learnable,
    NeuronProgram,
    SurrogateProgram,
    constants_of,
    drop_origins,
    parameters_of,
)
from danetc.dsl.neuron.ssa import Instruction, fold
from danetc.dsl.record import record

_SHORT = 60  # longest expression that is written where its value is read
_STEPS = {"heaviside": "Heaviside", "round": "Round"}
_SIZES = {"layer": "", "channel": "channels, *[1] * (rank - 1)", "neuron": "*size"}
"""Sizes of a learnable by its unit."""

Arguments: TypeAlias = tuple[tuple[str, float], ...]
Text: TypeAlias = tuple[str, int]
"""An expression, and how tight its outermost operator binds."""


@record
class _Class:
    """A class without its name. ``sizes`` and ``arguments`` are the parameters of its constructor."""

    title: str
    doc: str
    sizes: tuple[str, ...]
    arguments: Arguments
    init: tuple[str, ...]
    method: tuple[str, ...]

    def text(self, name: str) -> str:
        """The text of the class, whose defaults are the values of the arguments."""
        methods = [self.method]
        if self.init or self.arguments:
            kinds = {"rank": "int = 3", "size": "tuple[int, ...]"}
            takes = [f"{key}: {kinds.get(key, 'int')}" for key in self.sizes]
            takes += [f"{key}: float = {constant(value)}" for key, value in self.arguments]
            head = signature("__init__", takes, "None")
            methods.insert(0, (*method(head, ["super().__init__()", *self.init]),))
        return class_(name, "nn.Module", self.doc, methods)


class Neurons:
    """The classes of neurons and surrogates. ``claim`` returns a free name; ``used`` collects the
    names that they need from the prelude.

    Neurons that differ only in the values of their parameters share a class, whose defaults are
    those of the first.
    """

    def __init__(self, claim: Callable[[str], str], used: set[str]) -> None:
        self.claim, self.used = claim, used
        self.made: dict[_Class, tuple[str, Arguments]] = {}
        self.classes: list[str] = []

    def instance(self, program: NeuronProgram, stepping: bool, sample: Shape, steps: int) -> New:
        """Return the constructor call of a neuron for samples of a shape at ``steps`` time steps.

        A ``stepping`` neuron is one in a loop over time.
        """
        surrogate = ""
        if program.surrogate is not None:
            slope = _surrogate_class(program.surrogate)
            given = sequence(f"{key}={constant(value)}" for key, value in slope.arguments)
            surrogate = f"{self._name(slope)[0]}({given})"
        self.used |= {_STEPS[op.opcode] for op in program.ops if op.opcode in _STEPS}
        self.used |= {"drawn_numbers" for item in program.learnables if item.random is not None}
        neuron = _neuron_class(program, surrogate, stepping)
        label, defaults = self._name(neuron)
        known: dict[str, Argument] = {"steps": Size("steps", steps)}
        known |= {"channels": Size("channels", sample[0]), "rank": str(len(sample))}
        known["size"] = str(sample)
        default_rank = ("rank", "3")
        size = [item for item in known.items() if item[0] in neuron.sizes and item != default_rank]
        for (key, value), (_, default) in zip(neuron.arguments, defaults, strict=True):
            size.append((key, Size(key, value, default)))
        return New(label, tuple(size))

    def _name(self, made: _Class) -> tuple[str, Arguments]:
        """The name of a class and its defaults. Writes the class if there is none like it."""
        key = replace(made, arguments=tuple((label, 0.0) for label, _ in made.arguments))
        if key not in self.made:
            self.made[key] = self.claim(made.title), made.arguments
            self.classes.append(made.text(self.made[key][0]))
        return self.made[key]


class _Equations:
    """The parameters of a program as arguments of a class, and its values as expressions."""

    def __init__(
        self,
        program: NeuronProgram | SurrogateProgram,
        inputs: Sequence[str],
        roots: Sequence[Operand],
        attributes: Sequence[str] = (),
        scheduled: Sequence[str] = (),
    ) -> None:
        self.surrogate = free("surrogate", {*attributes}.__contains__)
        taken = {self.surrogate, "channels", "size", *MODULE_ATTRIBUTES, *attributes}
        self.parameters: dict[str, str] = {}
        for parameter, _ in program.parameters:
            self.parameters[parameter] = free(variable(parameter), taken.__contains__)
            taken.add(self.parameters[parameter])
        values, found = dict(program.parameters), parameters_of(program)
        self.arguments: Arguments = tuple(
            (label, float(values[key])) for key, label in self.parameters.items() if key in found
        )
        self.read: set[str] = set()  # parameters that the forward method reads

        used = {"x_seq", "outputs", "state", "t", *_STEPS.values()}
        self.names: dict[str, str] = {}
        for value in [*inputs, *(op.name for op in program.ops)]:
            label = free("y" if value.startswith("_") else variable(value), used.__contains__)
            used.add(label)
            self.names[value] = label
        self.x = self.names[INPUT]
        uses = Counter([*roots, *(arg for op in program.ops for arg in op.args)])
        slope = f"self.{self.surrogate}"
        if scheduled:
            slope = f"lambda x: {slope}({sequence(['x', *(self.names[k] for k in scheduled)])})"
        self.lines: list[str] = []

        def apply(op: Instruction, args: list[Text]) -> Text:
            if op.opcode in _STEPS:
                more = [slope] if op.opcode == "heaviside" else []
                made = f"{_STEPS[op.opcode]}.apply({sequence([args[0][0], *more])})", ATOM
            else:
                form, binds = torch_form(op.opcode, op.args)
                made = enclosed(form, binds, args, like=self.x), binds[0]
            hidden = op.name.startswith("_") or op.name.endswith(NEXT)
            if hidden and uses[op.name] == 1 and len(made[0]) < _SHORT:
                return made
            self.lines.append(f"{self.names[op.name]} = {made[0]}")
            return self.names[op.name], ATOM

        known = {name: (self.names[name], ATOM) for name in inputs}
        self.scope = fold(program.ops, known, apply, self.constant)

    def constant(self, value: float, holder: str = "self.") -> Text:
        """The text of a constant, made of the parameters of which the spec made it."""
        if not isinstance(value, ParameterValue):
            return constant(float(value)), ATOM
        if holder:
            self.read |= {self.parameters[key] for key in names_of(value)}
        return self._origin(value.origin, holder)

    def _origin(self, origin: Origin, holder: str) -> Text:
        match origin:
            case str():
                return f"{holder}{self.parameters[origin]}", ATOM
            case (str(opcode), *args):
                row = OPCODES[opcode]
                binds = row.binds if row.python == row.text else (ATOM,)
                parts = [self._origin(arg, holder) for arg in args]
                return enclosed(row.python, binds, parts), binds[0]
            case _:
                return constant(origin), ATOM

    def value(self, operand: Operand, tight: int = 0) -> str:
        """The text of a value that binds as ``tight``."""
        made = self.constant(operand) if isinstance(operand, float) else self.scope[operand]
        return enclosed("{0}", (0, tight), [made])

    def returning(self, operand: Operand) -> list[str]:
        """The lines of a method that returns one of the values."""
        value = self.value(operand)
        *lines, last = [*self.lines, f"return {value}"]
        if lines and lines[-1].startswith(f"{value} = "):
            return [*lines[:-1], f"return {lines[-1].removeprefix(f'{value} = ')}"]
        return [*lines, last]

    @property
    def saved(self) -> tuple[str, ...]:
        """The statements of the constructor that save parameters."""
        return tuple(f"self.{key} = {key}" for key, _ in self.arguments if key in self.read)


def _surrogate_class(program: SurrogateProgram) -> _Class:
    """A module that computes the derivative of a surrogate."""
    program = drop_origins(program, _unwritten(program))
    takes = (INPUT, *(item.name for item in program.scheduled))
    equations = _Equations(program, takes, [program.derivative] * 2)
    head = signature("forward", (f"{equations.names[key]}: Tensor" for key in takes), "Tensor")
    forward = method(head, equations.returning(program.derivative))
    doc = f"The surrogate {variable(program.name)}: a derivative for Heaviside."
    arguments = equations.arguments
    return _Class(camel(program.name), doc, (), arguments, equations.saved, tuple(forward))


def _neuron_class(program: NeuronProgram, surrogate: str, stepping: bool) -> _Class:
    """A module that computes a neuron, with the same numbers as the runtime's operator.

    ``forward`` takes and returns [T, N, ...], or values of any shape if the program does not vary.
    A ``stepping`` neuron has a method ``step`` instead.
    """
    program = drop_origins(program, _unwritten(program))
    attributes = parameter_names(program)
    inputs = [*program.takes, *(state.name for state in program.states)]
    inputs += [item.parameter for item in program.learnables]
    held = () if program.surrogate is None else program.surrogate.scheduled
    equations = _Equations(
        program,
        inputs,
        [program.output, *program.next_states],
        [*attributes, surrogate.partition("(")[0]],  # the constructor calls the surrogate's class
        [item.name for item in held],
    )
    names, x = equations.names, equations.x
    init = [f"self.{equations.surrogate} = {surrogate}"] if surrogate else []
    reads: list[str] = []
    reads_at: list[str] = []  # at each time step
    for attribute, item in zip(attributes, program.learnables, strict=True):
        start = _start(item, equations)
        if item.scheduled:
            init.append(f"self.register_buffer({constant(attribute)}, {start})")
        else:
            init.append(f"self.{attribute} = nn.Parameter({start})")
        read = f"{names[item.parameter]} = self.{attribute}"
        (reads_at if item.per_step else reads).append(read + "[t]" * item.per_step)
    split = []
    if program.inputs:
        split = [f"{sequence(names[key] for key in program.takes)} = {x}.unbind(-1)"]
    sizes = ["steps"] * program.per_step
    units = {item.per for item in program.learnables}
    found = {"channels": "channel", "size": "neuron", "rank": "channel"}
    sizes += [key for key, unit in found.items() if unit in units]
    doc = f"The neuron {variable(program.name)}"
    if stepping:
        doc += ", one step of [N, ...] after the other."
        states = "tuple" if program.per_step else "tuple[Tensor, ...]"
        takes = [f"{x}: Tensor", f"state: {states} | None"]
        head = signature("step", takes, f"tuple[Tensor, {states}]")
        body = [*reads, *split, *_one_step(program, equations, reads_at)]
    elif program.varies:
        doc += ": [T, N, ...] to [T, N, ...]."
        head = signature("forward", ["x_seq: Tensor"], "Tensor")
        body = [*reads, *_over_time(program, equations, [*reads_at, *split])]
    else:
        doc += ": each element by itself."
        head = signature("forward", [f"{x}: Tensor"], "Tensor")
        body = [*reads, *split, *equations.returning(program.output)]
    return _Class(
        camel(program.name) + "Step" * stepping,
        doc,
        tuple(sizes),
        equations.arguments,
        (*equations.saved, *init),
        tuple(method(head, body)),
    )


def _start(item: Learnable, equations: _Equations) -> str:
    """The first stored numbers of a learnable."""
    sizes = sequence(["steps"] * item.per_step + [_SIZES[item.per]] * (not item.is_scalar))
    if item.random is not None:
        bounds = [item.above, item.below] if item.parameter != item.name else []
        given = [f"[{sizes}]", *map(constant, [item.random.text, *bounds])]
        return f"drawn_numbers({sequence(given)}).to(torch.get_default_dtype())"
    raw = equations.constant(item.raw, holder="")[0]
    shape = f"({sizes})" if ", " in sizes else f"({sizes},)"
    return f"torch.full({shape}, {raw})" if sizes else f"torch.tensor({raw})"


def _over_time(program: NeuronProgram, equations: _Equations, before: Sequence[str]) -> list[str]:
    """The loop over time steps. ``before`` is the start of each."""
    x = equations.x
    states = [equations.names[state.name] for state in program.states]
    starts = _starts(program, equations, "x_seq[0, ..., 0]" if program.inputs else "x_seq[0]")
    body = [*before, *equations.lines, f"outputs.append({equations.value(program.output)})"]
    if states:
        body.append(f"{sequence(states)} = {sequence(_next_states(program, equations))}")
    head = f"for t, {x} in enumerate(x_seq):" if program.per_step else f"for {x} in x_seq:"
    first = [f"{name} = {start}" for name, start in zip(states, starts, strict=True)]
    return [*first, "outputs = []", head, *indented(body), "return torch.stack(outputs)"]


def _one_step(program: NeuronProgram, equations: _Equations, reads_at: Sequence[str]) -> list[str]:
    """One time step, which returns the output and the next states. The first state of a neuron
    with learnables for each step is the number of the step."""
    starts = _starts(program, equations, equations.x)
    after = _next_states(program, equations)
    states = [equations.names[state.name] for state in program.states]
    if program.per_step:
        starts, states, after = ["0", *starts], ["t", *states], ["t + 1", *after]
    targets = sequence(states) if len(states) > 1 else _tuple(states)
    begin = f"{targets} = {_tuple(starts)} if state is None else state"
    result = f"return {equations.value(program.output)}, {_tuple(after)}"
    return [*([begin] if states else []), *reads_at, *equations.lines, result]


def _starts(program: NeuronProgram, equations: _Equations, like: str) -> list[str]:
    """The states before the first step."""
    return [
        f"torch.zeros_like({like})"
        if repr(state.init) == "0.0" and not names_of(state.init)
        else f"torch.full_like({like}, {equations.constant(state.init)[0]})"
        for state in program.states
    ]


def _next_states(program: NeuronProgram, equations: _Equations) -> list[str]:
    scalars, x = program.scalars(), equations.x
    after: list[str] = []
    for value in program.next_states:
        if isinstance(value, float):
            after.append(f"torch.full_like({x}, {equations.value(value)})")
        elif value in scalars:
            after.append(f"{equations.value(value, ATOM)}.to({x}.dtype).expand_as({x})")
        else:
            after.append(equations.value(value))
    return after


def _tuple(items: Sequence[str]) -> str:
    return f"({sequence(items)}{',' * (len(items) == 1)})"


def _unwritten(program: NeuronProgram | SurrogateProgram) -> set[str]:
    """The parameters in constants that Python's own functions cannot compute."""
    return {
        key
        for value in constants_of(program)
        if isinstance(value, ParameterValue)
        and not all(OPCODES[opcode].python for opcode in opcodes_of(value.origin))
        for key in names_of(value)
    }
