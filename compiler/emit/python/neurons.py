"""The classes of neurons and surrogates in a standalone model: their equations, with parameters."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from danetc.compiler.emit.python.forms import Argument, Fixed, New, SizeArgument
from danetc.compiler.emit.python.names import camel, free, variable
from danetc.compiler.emit.python.prelude_parts import Prelude
from danetc.compiler.emit.python.trees import (
    assign,
    call,
    class_,
    constant,
    function,
    loop,
    method,
    name,
    sequence,
    template,
    text_of,
)
from danetc.dsl.neuron.kernel_text import MODULE_ATTRIBUTES, parameter_names
from danetc.dsl.neuron.opcodes import ALL_OPCODES, Operand
from danetc.dsl.neuron.parameters import Origin, ParameterValue, names_of, opcodes_of
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    NeuronProgram,
    SurrogateProgram,
    constants_of,
    parameters_of,
    settled,
)
from danetc.dsl.neuron.ssa import Instruction

_SHORT = 60  # so long may an expression be that is written where it is read
_STEPS = {"heaviside": "Heaviside", "round": "Round"}

_NUMBERS: Mapping[str, str] = {
    "add": "_0 + _1",
    "sub": "_0 - _1",
    "mul": "_0 * _1",
    "div": "_0 / _1",
    "neg": "-_0",
    "abs": "abs(_0)",
    "max": "max(_0, _1)",
    "min": "min(_0, _1)",
    "exp": "math.exp(_0)",
    "log": "math.log(_0)",
    "sqrt": "math.sqrt(_0)",
    "tanh": "math.tanh(_0)",
    "sin": "math.sin(_0)",
    "cos": "math.cos(_0)",
    "erf": "math.erf(_0)",
}
"""How Python computes constants, as the compiler does."""
_FORMS: Mapping[tuple[bool, bool], str] = {
    (True, False): "nn.Parameter(torch.tensor(raw))",
    (True, True): "nn.Parameter(torch.full((steps,), raw))",
    (False, False): "nn.Parameter(torch.full((channels, *[1] * (rank - 1)), raw))",
    (False, True): "nn.Parameter(torch.full((steps, channels, *[1] * (rank - 1)), raw))",
}
"""How a learnt number is made, by whether it is one for the layer and one for each step."""
Arguments: TypeAlias = tuple[tuple[str, float], ...]


class Neurons:
    """The classes of neurons and surrogates. ``claim`` gives a free name, ``used`` gets those of what
    they need of the prelude.

    Neurons and surrogates that differ in the values of their parameters alone share a class, whose
    defaults are those of the first one.
    """

    def __init__(self, claim: Callable[[str], str], used: set[str]) -> None:
        self.claim, self.used = claim, used
        self.made: dict[str, tuple[str, Arguments]] = {}
        self.classes: list[ast.stmt] = []

    def instance(
        self,
        program: NeuronProgram,
        stepping: bool = False,
        sample: Sequence[int] = (),
        steps: int = 1,
    ) -> New:
        """A constructor call of the class of a neuron that takes ``steps`` samples of a shape;
        ``stepping`` of one for a loop over time."""
        surrogate = None
        if program.surrogate is not None:
            label, arguments, _ = self._class(_surrogate_class(program.surrogate))
            surrogate = call(name(label), **{key: constant(value) for key, value in arguments})
        self.used |= {_STEPS[op.opcode] for op in program.ops if op.opcode in _STEPS}
        label, arguments, defaults = self._class(_neuron_class(program, surrogate, stepping))
        size: list[tuple[str, Argument]] = []
        if program.per_step:
            size.append(("steps", SizeArgument("steps", steps)))
        if not all(item.is_scalar for item in program.learnables):
            size.append(("channels", SizeArgument("channels", sample[0])))
            size += [("rank", Fixed(len(sample)))] if len(sample) != 3 else []
        given = (
            (key, SizeArgument(key, value, default))
            for (key, value), (_, default) in zip(arguments, defaults, strict=True)
        )
        return New(label, (*size, *given))

    def _class(self, made: _Made) -> tuple[str, Arguments, Arguments]:
        """The name of a class that is written, if it is not yet; its arguments and its defaults."""
        key = made.base + text_of(made.write("", ()))
        if key not in self.made:
            self.made[key] = self.claim(made.base), made.arguments
            self.classes.append(made.write(self.made[key][0], made.arguments))
        label, defaults = self.made[key]
        return label, made.arguments, defaults


def neuron_text(program: NeuronProgram) -> tuple[str, str]:
    """The name of a neuron's class, and the text of the classes that it needs and of itself."""
    prelude = Prelude()
    names = [*prelude.source]

    def claim(base: str) -> str:
        names.append(free(base, names.__contains__))
        return names[-1]

    neurons = Neurons(claim, set())
    label = neurons.instance(program).target
    needed, _ = prelude.chosen(neurons.used)
    return str(label), "\n\n\n".join([*needed, *map(text_of, neurons.classes)])


@dataclass(frozen=True, slots=True)
class _Made:
    """A class: a name to begin with, its arguments, and what writes it for a name and defaults."""

    base: str
    arguments: Arguments
    write: Callable[[str, Arguments], ast.ClassDef]


class _Parameters:
    """The parameters that the constants of a program were made of, as arguments of a class."""

    def __init__(self, program: NeuronProgram | SurrogateProgram, taken: Iterable[str]) -> None:
        self.names: dict[str, str] = {}
        self.read: set[str] = set()  # by the forward method
        used = {"surrogate", "channels", *MODULE_ATTRIBUTES, *taken}
        for parameter, _ in program.parameters:
            self.names[parameter] = free(variable(parameter), used.__contains__)
            used.add(self.names[parameter])
        values = dict(program.parameters)
        found = parameters_of(program)
        self.arguments: Arguments = tuple(
            (label, float(values[key])) for key, label in self.names.items() if key in found
        )

    def constant(self, value: float, holder: str = "self.") -> ast.expr:
        """A constant, made of the parameters where it was made of them in the spec."""
        if not isinstance(value, ParameterValue):
            return constant(float(value))
        if holder:
            self.read |= {self.names[key] for key in names_of(value)}
        return self._origin(value.origin, holder)

    def _origin(self, origin: Origin, holder: str) -> ast.expr:
        match origin:
            case str():
                return name(f"{holder}{self.names[origin]}")
            case (str(opcode), *args):
                parts = {f"_{i}": self._origin(arg, holder) for i, arg in enumerate(args)}
                return template(_NUMBERS[opcode], **parts)
            case _:
                assert isinstance(origin, float)
                return constant(origin)

    def init(
        self, defaults: Arguments, body: list[ast.stmt], sizes: Sequence[str] = ()
    ) -> list[ast.stmt]:
        """The constructor, if it does anything; it takes ``sizes`` of what is learnt."""
        kept = [assign([f"self.{key}"], name(key)) for key, _ in self.arguments if key in self.read]
        if not kept and not body and not self.arguments:
            return []
        given = dict(defaults)
        takes: list[tuple[str, str, ast.expr | None]] = [
            (key, "float", constant(given[key]) if key in given else None)
            for key, _ in self.arguments
        ]
        default = {"rank": constant(3)}
        takes = [*((key, "int", default.get(key)) for key in sizes), *takes]
        start = ast.Expr(template("super().__init__()"))
        return [function("__init__", [("self", "", None), *takes], "None", [start, *kept, *body])]


class _Equations:
    """The expressions of a program's values, under names as close to the spec's as can be."""

    def __init__(
        self,
        inputs: Sequence[str],
        ops: Sequence[Instruction],
        roots: Sequence[Operand],
        parameters: _Parameters,
        held: Sequence[str] = (),
    ) -> None:
        self.parameters, self.held = parameters, held
        self.scope: dict[Operand, ast.expr] = {}
        used = {"x_seq", "outputs", "t", *_STEPS.values()}
        for value in [*inputs, *(op.name for op in ops)]:
            label = free("y" if value.startswith("_") else variable(value), used.__contains__)
            used.add(label)
            self.scope[value] = name(label)
        self.like = self.scope[INPUT]
        self.names = {value: ast.unparse(node) for value, node in self.scope.items()}
        uses = Counter([*roots, *(arg for op in ops for arg in op.args)])
        self.lines: list[ast.stmt] = []
        for op in ops:
            expression = self._expression(op)
            hidden = op.name.startswith("_") or op.name.endswith(NEXT)
            if hidden and uses[op.name] == 1 and len(ast.unparse(expression)) < _SHORT:
                self.scope[op.name] = expression
            else:
                self.lines.append(assign([self.names[op.name]], expression))

    def value(self, operand: Operand) -> ast.expr:
        if isinstance(operand, float):
            return self.parameters.constant(operand)
        return self.scope[operand]

    def returning(self, operand: Operand) -> list[ast.stmt]:
        """All of it as the body of a function that gives one of the values."""
        value = self.value(operand)
        match self.lines:
            case [*_, ast.Assign(targets=[target], value=last)] if ast.dump(value) == ast.dump(
                ast.Name(ast.unparse(target), ast.Load())
            ):
                return [*self.lines[:-1], ast.Return(last)]
        return [*self.lines, ast.Return(value)]

    def _expression(self, op: Instruction) -> ast.expr:
        """The torch expression of an operation."""
        args = [self.value(arg) for arg in op.args]
        if op.opcode == "heaviside" and self.held:
            made = template("lambda x: self.surrogate(x)")
            assert isinstance(made, ast.Lambda)
            made.body = call(name("self.surrogate"), name("x"), *(self.scope[k] for k in self.held))
            return template("Heaviside.apply(x, surrogate)", x=args[0], surrogate=made)
        if op.opcode == "heaviside":
            return template("Heaviside.apply(x, self.surrogate)", x=args[0])
        if op.opcode == "round":
            return template("Round.apply(x)", x=args[0])
        parts = {f"_{index}": arg for index, arg in enumerate(args)} | {"_like": self.like}
        info = ALL_OPCODES[op.opcode]
        text = info.text
        if info.with_constants is not None:
            places, other = info.with_constants
            if all(isinstance(op.args[i], float) for i in places):
                text = other
        text = text.format(*(f"_{index}" for index in range(len(args))), like="_like")
        return template(text, **parts)


def _surrogate_class(surrogate: SurrogateProgram) -> _Made:
    """A module that gives the surrogate's derivative."""
    surrogate = settled(surrogate, _unwritten(surrogate))
    parameters = _Parameters(surrogate, ())
    roots = [surrogate.derivative] * 2
    inputs = (INPUT, *(item.name for item in surrogate.scheduled))
    equations = _Equations(inputs, surrogate.ops, roots, parameters)
    takes = [("self", "", None), *((equations.names[key], "Tensor", None) for key in inputs)]
    forward = function("forward", takes, "Tensor", equations.returning(surrogate.derivative))
    doc = f"The surrogate {variable(surrogate.name)}: a derivative for Heaviside."
    return _Made(
        camel(surrogate.name),
        parameters.arguments,
        lambda label, defaults: class_(
            label, ["nn.Module"], doc, [*parameters.init(defaults, []), forward]
        ),
    )


def _neuron_class(program: NeuronProgram, surrogate: ast.expr | None, stepping: bool) -> _Made:
    """A module with the equations of ``program`` in its forward method.

    It takes [T, N, ...] and gives [T, N, ...], or what it takes if it has no states; its numbers
    are those of the runtime's operator, bit for bit.
    """
    program = settled(program, _unwritten(program))
    attributes = parameter_names(program)
    parameters = _Parameters(program, attributes)
    states = [state.name for state in program.states]
    learnables = [item.parameter for item in program.learnables]
    roots = [program.output, *program.next_states]
    inputs = (*program.takes, *states, *learnables)
    held = () if program.surrogate is None else program.surrogate.scheduled
    equations = _Equations(inputs, program.ops, roots, parameters, [item.name for item in held])
    x = equations.names[INPUT]
    init = [assign(["self.surrogate"], surrogate)] if surrogate is not None else []
    reads: list[ast.stmt] = []
    reads_at: list[ast.stmt] = []  # of each time step
    for attribute, item in zip(attributes, program.learnables, strict=True):
        raw = parameters.constant(item.raw, holder="")
        form = _FORMS[item.is_scalar, item.per_step]
        if item.scheduled:
            held_at = template(
                "self.register_buffer(label, torch.tensor(raw))", label=constant(attribute), raw=raw
            )
            init.append(ast.Expr(held_at))
        else:
            init.append(assign([f"self.{attribute}"], template(form, raw=raw)))
        if item.per_step:
            value = template("stored[t]", stored=name(f"self.{attribute}"))
            reads_at.append(assign([equations.names[item.parameter]], value))
        else:
            reads.append(assign([equations.names[item.parameter]], name(f"self.{attribute}")))
    output = equations.value(program.output)
    parted: list[ast.stmt] = []
    if program.inputs:
        each = [x, *(equations.names[name] for name in program.inputs)]
        parted.append(assign(each, template("x.unbind(-1)", x=name(x))))
    sizes = ["steps"] * program.per_step
    if not all(item.is_scalar for item in program.learnables):
        sizes += ["channels", "rank"]
    if stepping:
        doc = f"The neuron {variable(program.name)}, one step of [N, ...] after the other."
        kept = "tuple" if program.per_step else "tuple[Tensor, ...]"
        both = f"tuple[Tensor, {kept}]"
        given = [("self", "", None), (x, "Tensor", None), ("state", f"{kept} | None", None)]
        step = [*reads, *parted, *_one_step(program, equations, x, output, reads_at)]
        return _Made(
            f"{camel(program.name)}Step",
            parameters.arguments,
            lambda label, defaults: class_(
                label,
                ["nn.Module"],
                doc,
                [*parameters.init(defaults, init, sizes), function("step", given, both, step)],
            ),
        )
    if not program.varies:
        takes, body = x, [*reads, *parted, *equations.returning(program.output)]
    else:
        begin = [*reads_at, *parted]
        takes, body = "x_seq", [*reads, *_over_time(program, equations, x, output, begin)]
    shapes = "[T, N, ...] to [T, N, ...]" if program.varies else "each element by itself"
    doc = f"The neuron {variable(program.name)}: {shapes}."
    forward = function("forward", [("self", "", None), (takes, "Tensor", None)], "Tensor", body)
    return _Made(
        camel(program.name),
        parameters.arguments,
        lambda label, defaults: class_(
            label, ["nn.Module"], doc, [*parameters.init(defaults, init, sizes), forward]
        ),
    )


def _unwritten(program: NeuronProgram | SurrogateProgram) -> set[str]:
    """The parameters in constants that Python's own functions cannot make."""
    return {
        key
        for value in constants_of(program)
        if isinstance(value, ParameterValue) and not opcodes_of(value.origin) <= _NUMBERS.keys()
        for key in names_of(value)
    }


def _over_time(
    program: NeuronProgram,
    equations: _Equations,
    x: str,
    output: ast.expr,
    before: list[ast.stmt],
) -> list[ast.stmt]:
    """The loop over the time steps; ``before`` is what each begins with."""
    like = template("x_seq[0, ..., 0]" if program.inputs else "x_seq[0]")
    first = [
        assign([equations.names[name]], start) for name, start in _starts(program, equations, like)
    ]
    after = _next_states(program, equations)
    targets = [equations.names[state.name] for state in program.states]
    body = [
        *before,
        *equations.lines,
        ast.Expr(method(name("outputs"), "append", output)),
        *([assign(targets, sequence(after))] if targets else []),
    ]
    steps = [x], name("x_seq")
    if program.per_step:
        steps = ["t", x], call(name("enumerate"), name("x_seq"))
    return [
        *first,
        assign(["outputs"], ast.List([], ast.Load())),
        loop(*steps, body),
        ast.Return(template("torch.stack(outputs)")),
    ]


def _one_step(
    program: NeuronProgram,
    equations: _Equations,
    x: str,
    output: ast.expr,
    reads_at: list[ast.stmt],
) -> list[ast.stmt]:
    """One time step: the output, and the states behind it; the step's number before them where
    what ``reads_at`` reads depends on it."""
    starts = [start for _, start in _starts(program, equations, name(x))]
    targets = [equations.names[state.name] for state in program.states]
    after = _next_states(program, equations)
    if program.per_step:
        starts, targets = [constant(0), *starts], ["t", *targets]
        after = [template("t + 1"), *after]
    begin: list[ast.stmt] = []
    if targets:
        start = template("starts if state is None else state", starts=ast.Tuple(starts, ast.Load()))
        made = ast.Tuple([ast.Name(target, ast.Store()) for target in targets], ast.Store())
        begin.append(ast.Assign([made], start, lineno=0))
    states = ast.Tuple(after, ast.Load())
    return [
        *begin, *reads_at, *equations.lines, ast.Return(ast.Tuple([output, states], ast.Load())),
    ]  # fmt: skip


def _starts(
    program: NeuronProgram, equations: _Equations, like: ast.expr
) -> Iterator[tuple[str, ast.expr]]:
    """The states before the first step."""
    for state in program.states:
        if repr(state.init) == "0.0" and not names_of(state.init):
            yield state.name, template("torch.zeros_like(x)", x=like)
        else:
            init = equations.parameters.constant(state.init)
            yield state.name, template("torch.full_like(x, init)", x=like, init=init)


def _next_states(program: NeuronProgram, equations: _Equations) -> list[ast.expr]:
    """The states behind a step."""
    scalars = program.scalars()
    after: list[ast.expr] = []
    for value in program.next_states:
        node = equations.value(value)
        if isinstance(value, float):
            node = template("torch.full_like(x, value)", x=equations.like, value=node)
        elif value in scalars:
            node = template("value.to(x.dtype).expand_as(x)", x=equations.like, value=node)
        after.append(node)
    return after
