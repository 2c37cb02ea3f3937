"""The classes of neurons and surrogates in a standalone model: their equations, with parameters."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from danetc.compiler.emit.python.forms import New
from danetc.compiler.emit.python.names import camel, free, variable
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
from danetc.dsl.neuron.kernel_text import parameter_names
from danetc.dsl.neuron.opcodes import ALL_OPCODES, Operand
from danetc.dsl.neuron.program import INPUT, NEXT, NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.ssa import Instruction

_SHORT = 60  # so long may an expression be that is written where it is read
_STEPS = {"heaviside": "Heaviside", "round": "Round"}

_HEAVISIDE = '''
class Heaviside(torch.autograd.Function):
    """1 where x >= 0, else 0; backward it has the slope of a surrogate."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ctx.slope(x), None
'''
_ROUND = '''
class Round(torch.autograd.Function):
    """The nearest whole number (halves to even), with slope 1."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, grad):
        return grad
'''


class Neurons:
    """The classes of neurons and surrogates. ``claim`` gives a free name."""

    def __init__(self, claim: Callable[[str], str]) -> None:
        self.claim = claim
        self.made: dict[NeuronProgram, str] = {}
        self.surrogates: dict[SurrogateProgram, str] = {}
        self.steps: dict[str, str] = {}
        self.classes: list[ast.stmt] = []

    def instance(self, program: NeuronProgram) -> New:
        """A constructor call of the class of a neuron."""
        if program not in self.made:
            self.made[program] = self._neuron(program)
        return New(self.made[program], ())

    def _neuron(self, program: NeuronProgram) -> str:
        surrogate = program.surrogate
        if surrogate is not None and surrogate not in self.surrogates:
            self._step("heaviside", _HEAVISIDE)
            label = self.claim(camel(surrogate.name))
            self.surrogates[surrogate] = label
            self.classes.append(_surrogate_class(surrogate, label, self.steps["heaviside"]))
        if any(op.opcode == "round" for op in program.ops):
            self._step("round", _ROUND)
        label = self.claim(camel(program.name))
        spike = self.surrogates[surrogate] if surrogate is not None else ""
        self.classes.append(_neuron_class(program, label, spike, self.steps.get("round", "")))
        return label

    def _step(self, opcode: str, text: str) -> None:
        if opcode in self.steps:
            return
        self.steps[opcode] = self.claim(_STEPS[opcode])
        made = ast.parse(text).body[0]
        assert isinstance(made, ast.ClassDef)
        made.name = self.steps[opcode]
        self.classes.append(made)


def neuron_text(program: NeuronProgram) -> tuple[str, str]:
    """The name of a neuron's class, and the text of the classes that it needs and of itself."""
    names: list[str] = []

    def claim(base: str) -> str:
        names.append(free(base, names.__contains__))
        return names[-1]

    neurons = Neurons(claim)
    label = neurons.instance(program).target
    return str(label), "\n\n\n".join(map(text_of, neurons.classes))


class _Equations:
    """The expressions of a program's values, under names as close to the spec's as can be."""

    def __init__(
        self,
        inputs: Sequence[str],
        ops: Sequence[Instruction],
        roots: Sequence[Operand],
        steps: Mapping[str, Callable[[ast.expr], ast.expr]],
        taken: Iterable[str],
    ) -> None:
        self.steps = steps
        self.scope: dict[Operand, ast.expr] = {}
        used = {"x_seq", "outputs", *taken}
        for value in [*inputs, *(op.name for op in ops)]:
            label = free(variable(value) if value != "_" else "v", used.__contains__)
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
        return constant_of(operand) if isinstance(operand, float) else self.scope[operand]

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
        if op.opcode in self.steps:
            return self.steps[op.opcode](args[0])
        parts = {f"_{index}": arg for index, arg in enumerate(args)} | {"_like": self.like}
        info = ALL_OPCODES[op.opcode]
        text = info.text
        if info.with_constants is not None:
            places, other = info.with_constants
            if all(isinstance(op.args[i], float) for i in places):
                text = other
        text = text.format(*(f"_{index}" for index in range(len(args))), like="_like")
        return template(text, **parts)


def constant_of(value: float) -> ast.expr:
    """A constant of an equation."""
    return constant(float(value))


def _surrogate_class(surrogate: SurrogateProgram, label: str, heaviside: str) -> ast.ClassDef:
    """A module: heaviside forward, the surrogate's derivative backward."""
    equations = _Equations((INPUT,), surrogate.ops, [surrogate.derivative] * 2, {}, ())
    x = equations.names[INPUT]
    slope = equations.returning(surrogate.derivative)
    return class_(
        label,
        ["nn.Module"],
        "A spike where x >= 0, with a surrogate for its derivative.",
        [
            function("slope", [("self", "", None), (x, "Tensor", None)], "Tensor", slope),
            function(
                "forward",
                [("self", "", None), ("x", "Tensor", None)],
                "Tensor",
                [ast.Return(template("step.apply(x, self.slope)", step=name(heaviside)))],
            ),
        ],
    )


def _neuron_class(program: NeuronProgram, label: str, spike: str, rounds: str) -> ast.ClassDef:
    """A module with the equations of ``program`` in its forward method.

    It takes [T, N, ...] and gives [T, N, ...], or what it takes if it has no states; its numbers
    are those of the runtime's operator, bit for bit.
    """
    states = [state.name for state in program.states]
    learnables = [item.parameter for item in program.learnables]
    steps: dict[str, Callable[[ast.expr], ast.expr]] = {
        "heaviside": lambda x: template("self.surrogate(x)", x=x),
        "round": lambda x: template("step.apply(x)", step=name(rounds), x=x),
    }
    roots = [program.output, *program.next_states]
    taken = (spike, rounds, "self")
    equations = _Equations((INPUT, *states, *learnables), program.ops, roots, steps, taken)
    x = equations.names[INPUT]
    init: list[ast.stmt] = [ast.Expr(template("super().__init__()"))]
    if spike:
        init.append(assign(["self.surrogate"], call(name(spike))))
    reads: list[ast.stmt] = []
    for attribute, item in zip(parameter_names(program), program.learnables, strict=True):
        value = template("nn.Parameter(torch.tensor(raw))", raw=constant_of(item.raw))
        init.append(assign([f"self.{attribute}"], value))
        reads.append(assign([equations.names[item.parameter]], name(f"self.{attribute}")))
    output = equations.value(program.output)
    if not states:
        takes, body = x, [*reads, *equations.returning(program.output)]
    else:
        takes, body = "x_seq", [*reads, *_over_time(program, equations, x, output)]
    shapes = "[T, N, ...] to [T, N, ...]" if states else "each element by itself"
    return class_(
        label,
        ["nn.Module"],
        f"The neuron {variable(program.name)}: {shapes}.",
        [
            function("__init__", [("self", "", None)], "None", init),
            function("forward", [("self", "", None), (takes, "Tensor", None)], "Tensor", body),
        ],
    )


def _over_time(
    program: NeuronProgram, equations: _Equations, x: str, output: ast.expr
) -> list[ast.stmt]:
    """The loop over the time steps."""
    first: list[ast.stmt] = []
    for state in program.states:
        start = template("torch.full_like(x_seq[0], init)", init=constant_of(state.init))
        if repr(state.init) == "0.0":
            start = template("torch.zeros_like(x_seq[0])")
        first.append(assign([equations.names[state.name]], start))
    scalars = program.scalars()
    after: list[ast.expr] = []
    for value in program.next_states:
        node = equations.value(value)
        if isinstance(value, float):
            node = template("torch.full_like(x, value)", x=equations.like, value=node)
        elif value in scalars:
            node = template("value.to(x.dtype).expand_as(x)", x=equations.like, value=node)
        after.append(node)
    targets = [equations.names[state.name] for state in program.states]
    body = [
        *equations.lines,
        ast.Expr(method(name("outputs"), "append", output)),
        assign(targets, sequence(after)),
    ]
    return [
        *first,
        assign(["outputs"], ast.List([], ast.Load())),
        loop(x, name("x_seq"), body),
        ast.Return(template("torch.stack(outputs)")),
    ]
