"""Equations of neurons and surrogates as Python: their parameters, and the expressions of their values."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from danetc.compiler.emit.python.names import free, variable
from danetc.compiler.emit.python.trees import assign, call, constant, function, name, template
from danetc.dsl.neuron.kernel_text import MODULE_ATTRIBUTES
from danetc.dsl.neuron.opcodes import ALL_OPCODES, Operand
from danetc.dsl.neuron.parameters import Origin, ParameterValue, names_of, opcodes_of
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    NeuronProgram,
    SurrogateProgram,
    constants_of,
    parameters_of,
)
from danetc.dsl.neuron.ssa import Instruction

_SHORT = 60  # so long may an expression be that is written where it is read
STEPS = {"heaviside": "Heaviside", "round": "Round"}

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
Arguments: TypeAlias = tuple[tuple[str, float], ...]


class ClassParameters:
    """The parameters that the constants of a program were made of, as arguments of a class."""

    def __init__(self, program: NeuronProgram | SurrogateProgram, taken: Iterable[str]) -> None:
        self.names: dict[str, str] = {}
        self.read: set[str] = set()  # by the forward method
        attributes = set(taken)
        self.surrogate = free(
            "surrogate", attributes.__contains__
        )  # (a learnt number may have the name)
        used = {self.surrogate, "channels", *MODULE_ATTRIBUTES, *attributes}
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


class ClassEquations:
    """The expressions of a program's values, under names as close to the spec's as can be."""

    def __init__(
        self,
        inputs: Sequence[str],
        ops: Sequence[Instruction],
        roots: Sequence[Operand],
        parameters: ClassParameters,
        held: Sequence[str] = (),
    ) -> None:
        self.parameters, self.held = parameters, held
        self.scope: dict[Operand, ast.expr] = {}
        used = {"x_seq", "outputs", "state", "t", *STEPS.values()}
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
        surrogate = name(f"self.{self.parameters.surrogate}")
        if op.opcode == "heaviside" and self.held:
            made = template("lambda x: surrogate(x)", surrogate=surrogate)
            assert isinstance(made, ast.Lambda)
            made.body = call(surrogate, name("x"), *(self.scope[k] for k in self.held))
            return template("Heaviside.apply(x, surrogate)", x=args[0], surrogate=made)
        if op.opcode == "heaviside":
            return template("Heaviside.apply(x, surrogate)", x=args[0], surrogate=surrogate)
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


def unwritten(program: NeuronProgram | SurrogateProgram) -> set[str]:
    """The parameters in constants that Python's own functions cannot make."""
    return {
        key
        for value in constants_of(program)
        if isinstance(value, ParameterValue) and not opcodes_of(value.origin) <= _NUMBERS.keys()
        for key in names_of(value)
    }
