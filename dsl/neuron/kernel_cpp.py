"""C++ source of neuron programs, for the libraries of fusion groups.

As in ``kernel_text``, the source consists of templates and generated names. The type ``vec`` and
the functions that it calls are defined in ``runtime/kernels/group.hpp``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from danetc.dsl.neuron.derivative import GRAD_OUTPUT, differentiate
from danetc.dsl.neuron.opcodes import ALL_OPCODES, Operand
from danetc.dsl.neuron.program import INPUT, NeuronProgram
from danetc.dsl.neuron.ssa import Instruction, cheaper, computed_from, fold

_NEURON = """\
constexpr int STATES = {states}, PARAMS = {params};
constexpr bool PER_STEP[] = {{{per_step}}};
constexpr float INITIAL[] = {{{initial}}};

struct Neuron {{
    {members};

    Neuron() = default;
    explicit Neuron(const vec* p) {{
{made}
    }}

    INLINE void step(vec x, const vec* u, vec& s, vec* next) const {{
{step}
    }}

    INLINE void vjp(vec x, const vec* u, vec g, const vec* h, vec& dx, vec* du, vec* dp) const {{
{vjp}
    }}
}};
"""


def neuron_source(program: NeuronProgram) -> str:
    """Return a struct ``Neuron`` with one time step of a program with one input.

    Its constructor takes the learnables. ``step`` and ``vjp`` compute the functions of
    ``kernel_text`` on vectors: u are the states, h the gradients of the next states. Gradients of
    learnables are not summed over elements.
    """
    if program.inputs:
        raise ValueError(f"neuron {program.name} takes several inputs")
    backward = differentiate(program)
    learnables = [item.parameter for item in program.learnables]
    outputs = [program.output, *program.next_states]
    gradients = [backward.grad_input, *backward.grad_states, *backward.grad_learnables]
    forward_ops = cheaper(program.ops, outputs)
    backward_ops = cheaper(backward.ops, gradients)

    known = {name: f"q{i}" for i, name in enumerate(learnables)}
    members = [*known.values()]
    made = [f"q{i} = p[{i}];" for i in range(len(learnables))]
    before: list[dict[str, str]] = []
    for letter, ops in (("a", forward_ops), ("b", backward_ops)):
        numbers = (op for op in ops if ALL_OPCODES[op.opcode].gives == "number")
        lines, scope = _body(computed_from(numbers, learnables), known, letter)
        members += [name for name, _ in lines]
        made += [f"{name} = {line};" for name, line in lines]
        before.append(scope)

    states = {state.name: f"u[{i}]" for i, state in enumerate(program.states)}
    lines, scope = _body(forward_ops, {**before[0], INPUT: "x", **states}, "v")
    step = [*_defined(lines), f"s = {_spread(outputs[0], scope)};"]
    step += _assigned("next", outputs[1:], scope)

    inputs = {**before[1], INPUT: "x", GRAD_OUTPUT: "g", **states}
    inputs |= {name: f"h[{i}]" for i, name in enumerate(backward.grad_next_states)}
    lines, scope = _body(backward_ops, inputs, "v")
    vjp = []
    if program.surrogate is not None:
        slope, values = _body(program.surrogate.ops, {**known, INPUT: "x"}, "w")
        result = f"return {_spread(program.surrogate.derivative, values)};"
        body = (f"    {line}" for line in [*_defined(slope), result])
        vjp = ["const auto surrogate = [&](vec x) -> vec {", *body, "};"]
    vjp += [*_defined(lines), f"dx = {_spread(backward.grad_input, scope)};"]
    vjp += _assigned("du", backward.grad_states, scope)
    vjp += _assigned("dp", backward.grad_learnables, scope)
    fields = ", ".join(f"{name} = {{}}" for name in members)
    return _NEURON.format(
        states=len(program.states),
        params=len(learnables),
        per_step=", ".join([str(item.per_step).lower() for item in program.learnables] + ["false"]),
        initial=", ".join([*(_constant(state.init) for state in program.states), "0.0f"]),
        members=f"vec {fields}" if members else "char none",
        made=_indented(made),
        step=_indented(step),
        vjp=_indented(vjp),
    )


def expression(opcode: str, args: Sequence[str]) -> str:
    """Return the expression of an operation on vectors and masks."""
    info = ALL_OPCODES[opcode]
    return (info.cpp or info.text).format(*args)


def _constant(value: float) -> str:
    """Return a literal in float32, the precision of torch for numbers beside float32 tensors."""
    return f"float({value!r})"


def _body(
    ops: Iterable[Instruction], known: Mapping[str, str], letter: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return name and expression of each operation not ``known``, and the names of all values."""
    lines: list[tuple[str, str]] = []

    def apply(op: Instruction, args: list[str]) -> str:
        lines.append((f"{letter}{len(lines)}", expression(op.opcode, args)))
        return lines[-1][0]

    return lines, fold((op for op in ops if op.name not in known), known, apply, _constant)


def _defined(lines: Iterable[tuple[str, str]]) -> list[str]:
    return [f"const auto {name} = {line};" for name, line in lines]


def _spread(value: Operand, scope: Mapping[str, str]) -> str:
    return f"spread({_constant(value) if isinstance(value, float) else scope[value]})"


def _assigned(to: str, values: Sequence[Operand], scope: Mapping[str, str]) -> list[str]:
    return [f"{to}[{i}] = {_spread(value, scope)};" for i, value in enumerate(values)]


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)
