"""Programs of neurons and surrogates as text: calls of std, or equations.

A program is a call of std if a declaration, compiled with some arguments, has the same form. These
are the parameters of the program, the defaults, or found by trying constants of the program.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, islice, product

from danetc.compiler.analysis.neuron_forms import program_form
from danetc.compiler.importing.expressions import (
    Unwritten,
    call,
    constant,
    defaults_of,
    of_kind,
    standard,
)
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

MAX_TRIED = 500
"""Maximum number of combinations of arguments to try for a declaration."""

Given = Mapping[str, float | bool]


@record(slots=False)
class Described:
    """A neuron or a surrogate in a spec: name and arguments, and the body if it is not in std."""

    name: str
    given: tuple[tuple[str, float | bool], ...] = ()
    body: str = ""

    def call(self, usual: Described | None = None) -> str:
        """Write a call, which is `spike` if ``usual``, the network's neuron, has the same name."""
        given = dict(self.given)
        if usual is None or usual.name != self.name:
            return call(self.name, **{name: constant(value) for name, value in given.items()})
        defaults = {} if self.body else defaults_of(standard()[self.name])
        theirs = {**defaults, **dict(usual.given)}
        mine = {**defaults, **given}
        changed = {name: value for name, value in mine.items() if value != theirs[name]}
        return call("spike", **{name: constant(value) for name, value in changed.items()})


@lru_cache(maxsize=500)
def describe_neuron(program: NeuronProgram) -> Described:
    """Return a neuron's program as text, without its surrogate. Raises Unwritten."""
    form = program_form(replace(program, surrogate=None))
    constants = {*_constants(program.ops), *(state.init for state in program.states)}
    for item in program.learnables:
        constants |= {item.start, 1 + math.exp(min(-item.raw, 50.0))}

    def same(declaration: s.Declaration, given: Given) -> bool:
        made = compile_neuron(declaration, given, None, {}, Reporter())
        return made is not None and program_form(made) == form

    found = _named("neuron", program.name, dict(program.parameters), constants, program.ops, same)
    name = "imported_neuron" if program.name in standard() else program.name
    return found or Described(name, body=_neuron_body(program))


@lru_cache(maxsize=500)
def describe_surrogate(surrogate: SurrogateProgram) -> Described:
    """Return a surrogate's program as text. Raises Unwritten."""
    wanted = _surrogate_form(surrogate)
    constants = {*_constants(surrogate.ops)}
    if isinstance(surrogate.derivative, float):
        constants.add(surrogate.derivative)

    def same(declaration: s.Declaration, given: Given) -> bool:
        made = compile_surrogate(declaration, given, Reporter())
        return made is not None and _surrogate_form(made) == wanted

    found = _named(
        "surrogate", surrogate.name, dict(surrogate.parameters), constants, surrogate.ops, same
    )
    lines = [*_equations(surrogate.ops), *_result("dy", surrogate.derivative)]
    return found or Described(
        surrogate.name if surrogate.name not in standard() else "imported_surrogate",
        body="\n".join(lines),
    )


def _surrogate_form(surrogate: SurrogateProgram) -> str:
    """Return the form of a neuron that consists of `heaviside` and the surrogate."""
    ops = (Instruction("s", "heaviside", ("x",)),)
    return program_form(NeuronProgram("_", (), (), ops, "s", (), surrogate))


def _constants(ops: Iterable[Instruction]) -> Iterator[float]:
    return (arg for op in ops for arg in op.args if isinstance(arg, float))


# -- declarations of std ---------------------------------------------------------------------------


def _named(
    kind: str, name: str, parameters: Mapping[str, object], constants: set[float],
    ops: tuple[Instruction, ...], same: Callable[[s.Declaration, Given], bool],
) -> Described | None:  # fmt: skip
    """Return the call of std that equals a program, or None."""
    known: list[tuple[s.Declaration, dict[str, float | bool]]] = []
    for declaration in sorted(of_kind(kind), key=lambda item: item.name != name):
        usual = {key: value for key, value in defaults_of(declaration).items() if value is not None}
        if len(usual) == len(declaration.params):
            known.append((declaration, usual))
    given = {key: value for key, value in parameters.items() if isinstance(value, (int, float))}
    numbers = sorted({_short(value) for c in constants for value in (c, *_times_of(c))})

    def quick(defaults: Given) -> Iterator[Given]:
        yield {**defaults, **given} if given.keys() <= defaults.keys() else defaults
        yield defaults
        for key, value in defaults.items():
            if not isinstance(value, bool):
                yield {**defaults, key: 0.0}

    for thorough in (False, True):
        for declaration, usual in known:
            if thorough and not (usual and _may_be(declaration, usual, ops)):
                continue
            trials = islice(_trials(usual, numbers), MAX_TRIED) if thorough else quick(usual)
            for trial in trials:
                if same(declaration, trial):
                    changed = {k: value for k, value in trial.items() if value != usual[k]}
                    return Described(declaration.name, tuple(changed.items()))
    return None


def _times_of(constant: float) -> tuple[float, ...]:
    """Return time constants tau from which a factor 1 / tau or 1 - 1 / tau may result."""
    return (1 / constant, 1 / (1 - constant)) if 0 < constant < 1 else ()


def _trials(defaults: Given, numbers: Sequence[float]) -> Iterator[Given]:
    """Yield arguments to try: first those that change no number, then one, then two, ..."""
    flags = [name for name, value in defaults.items() if isinstance(value, bool)]
    others = [name for name in defaults if name not in flags]
    for many in range(len(others) + 1):
        for names in combinations(others, many):
            for values in product(numbers, repeat=many):
                for states in product((False, True), repeat=len(flags)):
                    changed = zip((*names, *flags), (*values, *states), strict=True)
                    yield {**defaults, **dict(changed)}


def _may_be(declaration: s.Declaration, defaults: Given, ops: tuple[Instruction, ...]) -> bool:
    """True if a declaration can have these operations, of which constants remove some."""
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
    """Round a number to 12 digits if it differs by a rounding error only."""
    short = float(f"{value:.12g}")
    return short if math.isclose(short, value, rel_tol=1e-14) else value


# -- equations -------------------------------------------------------------------------------------


def _neuron_body(program: NeuronProgram) -> str:
    lines = [f"state {_name(state.name)} = {constant(state.init)}" for state in program.states]
    for item in program.learnables:
        per = {} if item.is_scalar else {"per": item.per}
        lines.append(f"{_name(item.name)} = {call('learn', constant(_short(item.start)), **per)}")
    lines += [*_equations(program.ops), *_result("s", program.output)]
    names = [state.name for state in program.states]
    after = dict(zip(names, map(str, program.next_states), strict=True))
    taken = {value: f"{_name(value)}_before" for key, value in after.items() if key != value in names}  # fmt: skip
    lines += [f"{before} = {_name(state)}" for state, before in taken.items()]
    for name, value in zip(names, program.next_states, strict=True):
        lines += _result(_name(name), taken.get(str(value), value))
    return "\n".join(lines)


def _result(name: str, value: Operand) -> list[str]:
    text = _operand(value)
    return [] if text == name else [f"{name} = {text}"]


def _equations(ops: Iterable[Instruction]) -> list[str]:
    return [f"{_name(op.name)} = {_expression(op)}" for op in ops]


def _expression(op: Instruction) -> str:
    row, args = OPCODES[op.opcode], [*map(_operand, op.args)]
    match op.opcode:
        case "neg":
            return f"-{args[0]}"
        case "where":
            return f"{args[1]} if {args[0]} else {args[2]}"
        case "not":
            return f"not {args[0]}"
        case "number" | "cast":  # a condition is allowed as a number
            return args[0]
        case "relu":
            return f"max({args[0]}, 0.0)"
    if row.infix:
        return f"{args[0]} {row.infix} {args[1]}"
    if row.takes is None and op.opcode not in {"heaviside", "detach"}:
        raise Unwritten(f"equations have no `{op.opcode}`")
    return call(op.opcode, *args)


def _operand(value: Operand) -> str:
    if isinstance(value, float):
        return f"({constant(value)})" if value < 0 else constant(value)
    return _name(value)


def _name(name: str) -> str:
    """Return a valid name for an equation; names made by the compiler begin with `_`."""
    return f"t{name}" if name.startswith("_") else name
