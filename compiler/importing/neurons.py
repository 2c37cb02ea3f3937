"""Programs of neurons and surrogates as text: the standard library's by value, others as equations.

A program has the name of a declaration of std where that, compiled with some values of its
parameters, has the same form. Values are tried: those that the program says, then its constants.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, islice, product

from danetc.compiler.analysis.equivalence.programs import program_form
from danetc.compiler.importing.library import default_of, of_kind
from danetc.compiler.importing.trees import call, constant, number
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import Learnable, NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

MAX_TRIED = 500
"""Values of a declaration's parameters that are tried, all together."""

Given = Mapping[str, float | bool]


@record(slots=False)
class Described:
    """A neuron or a surrogate in a spec: what it is called, and its declaration where it has one."""

    name: str
    given: tuple[tuple[str, float | bool], ...] = ()
    declaration: s.Declaration | None = None

    def call(
        self, than: Described | None = None, inputs: Mapping[str, s.Expr] | None = None
    ) -> s.Expr:
        """The use of it, with its further ``inputs``; ``than`` is the network's, of which it says the
        differences alone."""
        if than is not None and than.name == self.name:
            usual = dict(than.given)
            defaults = {} if self.declaration else _defaults(self.name)
            names = dict.fromkeys([*dict(self.given), *usual])
            values = {name: dict(self.given).get(name, defaults.get(name)) for name in names}
            changed = {k: v for k, v in values.items() if v != usual.get(k, defaults.get(k))}
            return call("spike", **{key: constant(value) for key, value in changed.items()})
        given = {key: constant(value) for key, value in self.given}
        return call(self.name, **given, **(inputs or {}))


class Unwritten(ValueError):
    """Something that there is no text for. Its message says what and why."""


@lru_cache(maxsize=500)
def describe_neuron(program: NeuronProgram) -> Described:
    """Return a neuron's program as text, without its surrogate. Raises Unwritten."""
    bare = replace(program, surrogate=None)
    learnables = tuple(item for item in program.learnables if not item.scheduled)
    if len(learnables) != len(program.learnables):
        raise Unwritten(f"the neuron {program.name} has numbers that a recipe changes")
    form = program_form(bare)
    constants = {*_constants(program.ops), *(state.init for state in program.states)}
    for item in program.learnables:
        constants |= {item.start, 1 + math.exp(min(-item.raw, 50.0))}

    def same(declaration: s.Declaration, given: Given) -> bool:
        made = compile_neuron(declaration, given, None, {}, Reporter())
        return made is not None and program_form(made) == form

    found = _named("neuron", program.name, dict(program.parameters), constants, program.ops, same)
    return _own_neuron(program) if found is None else found


@lru_cache(maxsize=500)
def describe_surrogate(surrogate: SurrogateProgram) -> Described:
    """A surrogate's program as text. Raises Unwritten."""
    if surrogate.scheduled:
        raise Unwritten(f"the surrogate {surrogate.name} has parameters that a recipe changes")
    wanted = _surrogate_form(surrogate)
    constants = set(_constants(surrogate.ops))
    if isinstance(surrogate.derivative, float):
        constants.add(surrogate.derivative)

    def same(declaration: s.Declaration, given: Given) -> bool:
        made = compile_surrogate(declaration, given, Reporter())
        return made is not None and _surrogate_form(made) == wanted

    found = _named(
        "surrogate", surrogate.name, dict(surrogate.parameters), constants, surrogate.ops, same
    )
    if found is not None:
        return found
    lines = _equations(surrogate.ops)
    if surrogate.derivative != "dy":
        lines.append(s.Define("dy", None, _operand(surrogate.derivative)))
    return Described(
        "imported_surrogate",
        declaration=s.Declaration("surrogate", "imported_surrogate", (), None, tuple(lines)),
    )


def _surrogate_form(surrogate: SurrogateProgram) -> str:
    """The form of a neuron that has it and nothing else."""
    ops = (Instruction("s", "heaviside", ("x",)),)
    return program_form(NeuronProgram("_", (), (), ops, "s", (), surrogate))


def _constants(ops: tuple[Instruction, ...]) -> Iterator[float]:
    for op in ops:
        yield from (float(arg) for arg in op.args if isinstance(arg, float))


# -- declarations of std ---------------------------------------------------------------------------


def _named(
    kind: str, name: str, said: Mapping[str, object], constants: set[float],
    ops: tuple[Instruction, ...], same: Callable[[s.Declaration, Given], bool],
) -> Described | None:  # fmt: skip
    """The declaration of std that is the same with some arguments: as said, by default, or tried."""
    known = {item.name: _defaults_of(item) for item in of_kind(kind)}
    declared = {item.name: item for item in of_kind(kind)}
    order = sorted(
        (item for item, values in known.items() if values is not None),
        key=lambda item: item != name,
    )
    for found in order:
        defaults = known[found] or {}
        given = {key: value for key, value in said.items() if isinstance(value, (int, float))}
        first = {**defaults, **given} if given.keys() <= defaults.keys() else defaults
        zeros = (
            {**defaults, name: 0.0}
            for name, value in defaults.items()
            if not isinstance(value, bool)
        )
        for trial in (first, defaults, *zeros):
            if same(declared[found], trial):
                return Described(found, _changed(declared[found], trial))
    numbers = {_short(value) for c in constants for value in (c, *_times_of(c))}
    for found in order:
        defaults = known[found] or {}
        if defaults and _may_be(declared[found], defaults, ops):
            for tried in islice(_trials(defaults, sorted(numbers)), MAX_TRIED):
                if same(declared[found], tried):
                    return Described(found, _changed(declared[found], tried))
    return None


def _defaults_of(declaration: s.Declaration) -> dict[str, float | bool] | None:
    """All defaults of a declaration, or None where one is no number."""
    found: dict[str, float | bool] = {}
    for param in declaration.params:
        value = default_of(param)
        if value is None:
            return None
        found[param.name] = value
    return found


def _times_of(constant: float) -> tuple[float, ...]:
    """The time constants that a factor may come from: 1 / tau, and 1 - 1 / tau."""
    return (1 / constant, 1 / (1 - constant)) if 0 < constant < 1 else ()


def _trials(defaults: Given, numbers: Sequence[float]) -> Iterator[Given]:
    """Values of parameters to try: those that change one number, then two, then all."""
    flags = [name for name, value in defaults.items() if isinstance(value, bool)]
    others = [name for name in defaults if name not in flags]
    for many in range(len(others) + 1):
        for names in combinations(others, many):
            for values in product(numbers, repeat=many):
                for states in product((False, True), repeat=len(flags)):
                    changed = zip((*names, *flags), (*values, *states), strict=True)
                    yield {**defaults, **dict(changed)}


def _may_be(declaration: s.Declaration, defaults: Given, ops: tuple[Instruction, ...]) -> bool:
    """Whether a declaration can have these operations: constants only ever take some away."""
    wanted = Counter(op.opcode for op in ops)
    for flag in (False, True):
        given = {
            name: flag if isinstance(value, bool) else 1.0137 * value + 0.0171
            for name, value in defaults.items()
        }
        made: NeuronProgram | SurrogateProgram | None
        if declaration.kind == "neuron":
            made = compile_neuron(declaration, given, None, {}, Reporter())
        else:
            made = compile_surrogate(declaration, given, Reporter())
        if made is not None and not wanted - Counter(op.opcode for op in made.ops):
            return True
    return False


def _short(value: float) -> float:
    """A number that rounding has moved by an ulp, as it would be written."""
    short = float(f"{value:.12g}")
    return short if math.isclose(short, value, rel_tol=1e-14) else value


def _changed(declaration: s.Declaration, given: Given) -> tuple[tuple[str, float | bool], ...]:
    defaults = {param.name: default_of(param) for param in declaration.params}
    return tuple((name, value) for name, value in given.items() if value != defaults[name])


def _defaults(name: str) -> dict[str, float | bool | None]:
    declaration = next(item for item in of_kind("neuron") if item.name == name)
    return {param.name: default_of(param) for param in declaration.params}


# -- equations -------------------------------------------------------------------------------------


def _own_neuron(program: NeuronProgram) -> Described:
    """A program as a declaration of its own."""
    lines: list[s.Stmt] = [
        s.State(_name(state.name), number(state.init)) for state in program.states
    ]
    hidden: set[str] = set()
    for item in program.learnables:
        lines.append(s.Define(_name(item.name), None, _learn(item)))
        hidden |= _bounding(program, item)
    lines += _equations(tuple(op for op in program.ops if op.name not in hidden))
    if program.output != "s":
        lines.append(s.Define("s", None, _operand(program.output)))
    after = zip((state.name for state in program.states), program.next_states, strict=True)
    names = {state.name for state in program.states}
    moved = [(name, value) for name, value in after if value != name]
    kept = {value for _, value in moved if value in names}
    for state in sorted(map(str, kept)):  # which another one takes before it changes
        lines.append(s.Define(f"{_name(state)}_before", None, s.Name(_name(state))))
    for name, after_it in moved:
        taken = s.Name(f"{_name(str(after_it))}_before")
        lines.append(s.Define(_name(name), None, taken if after_it in kept else _operand(after_it)))
    params = tuple(s.Param(name, None) for name in program.inputs)
    return Described(
        "imported_neuron",
        declaration=s.Declaration("neuron", "imported_neuron", params, None, tuple(lines)),
    )


def _learn(item: Learnable) -> s.Expr:
    named = {
        name: number(value)
        for name, value in (("above", item.above), ("below", item.below))
        if value is not None
    }
    if not item.is_scalar:
        named["per"] = s.Word(item.per)
    return call("learn", number(_short(item.start)), **named)


def _bounding(program: NeuronProgram, item: Learnable) -> set[str]:
    """The operations that keep a learnable in its bounds: ``learn`` writes them."""
    if item.parameter == item.name:
        return set()
    found = {item.parameter}
    for op in program.ops:
        if found.issuperset(arg for arg in op.args if isinstance(arg, str)) and (
            item.name not in found
        ):
            found.add(op.name)
    if item.name not in found:
        raise Unwritten(f"the bounds of `{item.name}` in the neuron {program.name} are not known")
    return found


def _equations(ops: tuple[Instruction, ...]) -> list[s.Stmt]:
    return [s.Define(_name(op.name), None, _expression(op)) for op in ops]


def _expression(op: Instruction) -> s.Expr:
    row = OPCODES[op.opcode]
    args = [_operand(arg) for arg in op.args]
    if op.opcode == "neg":
        return s.Unary("-", args[0])
    if op.opcode == "where":
        return s.IfElse(args[1], args[0], args[2])
    if op.opcode == "not":
        return s.Unary("not", args[0])
    if op.opcode in {"number", "cast"}:  # a condition is one where a number is wanted
        return args[0]
    if op.opcode == "relu":
        return call("max", args[0], number(0.0))
    if row.infix:
        return s.Binary(row.infix, args[0], args[1])
    name = op.opcode
    if row.takes is None and name not in {"heaviside", "detach"}:
        raise Unwritten(f"equations have no `{name}`")
    return call(name, *args)


def _operand(value: Operand) -> s.Expr:
    return number(value) if isinstance(value, float) else s.Name(_name(value))


def _name(name: str) -> str:
    """A value's name as equations take it: those that the compiler made begin with `_`."""
    return f"t{name}" if name.startswith("_") else name
