"""C++ text of neuron programs: what a library made for a fusion group knows of its neuron.

As in ``kernel_text`` it is made of templates and of names like ``v3`` alone. ``vec`` and the functions
that it calls stand in ``runtime/kernels/group.hpp``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from danetc.dsl.neuron.derivative import GRAD_OUTPUT, differentiate
from danetc.dsl.neuron.opcodes import ALL_OPCODES, Operand
from danetc.dsl.neuron.program import INPUT, NeuronProgram
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.neuron.strength_reduction import cheaper

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
    """A struct ``Neuron`` with one time step of a program that takes one input.

    It is made of its learnables; ``step`` and ``vjp`` are as ``kernel_text`` has them, on vectors: u are
    the states, h the gradients of those behind the step; gradients of learnables are those of elements.
    """
    if program.inputs:
        raise ValueError(f"neuron {program.name} takes several inputs")
    backward = differentiate(program)
    learnables = [item.parameter for item in program.learnables]
    outputs = [program.output, *program.next_states]
    gradients = [backward.grad_input, *backward.grad_states, *backward.grad_learnables]
    forward_ops = cheaper(program.ops, outputs)
    backward_ops = cheaper(backward.ops, gradients)

    known: dict[Operand, str] = {name: f"q{i}" for i, name in enumerate(learnables)}
    made = [f"q{i} = p[{i}];" for i in range(len(learnables))]
    members = [f"q{i}" for i in range(len(learnables))]
    before: dict[str, dict[Operand, str]] = {}
    for pass_, ops in (("a", forward_ops), ("b", backward_ops)):
        before[pass_] = dict(known)
        for name, line in _body(_of_scalars(ops, learnables), before[pass_], pass_):
            members.append(name)
            made.append(f"{name} = {line};")

    scope = {**before["a"], INPUT: "x", **_states(program)}
    elementwise = [op for op in forward_ops if op.name not in before["a"]]
    step = [f"const auto {name} = {line};" for name, line in _body(elementwise, scope, "v")]
    step.append(f"s = {_spread(outputs[0], scope)};")
    step += _assigned("next", outputs[1:], scope)

    scope = {**before["b"], INPUT: "x", GRAD_OUTPUT: "g", **_states(program)}
    scope |= {name: f"h[{i}]" for i, name in enumerate(backward.grad_next_states)}
    elementwise = [op for op in backward_ops if op.name not in before["b"]]
    vjp = _surrogate(program, known)
    vjp += [f"const auto {name} = {line};" for name, line in _body(elementwise, scope, "v")]
    vjp.append(f"dx = {_spread(backward.grad_input, scope)};")
    vjp += _assigned("du", backward.grad_states, scope)
    vjp += _assigned("dp", backward.grad_learnables, scope)
    return _NEURON.format(
        states=len(program.states),
        params=len(learnables),
        per_step=", ".join([str(item.per_step).lower() for item in program.learnables] + ["false"]),
        initial=", ".join([*(_constant(state.init) for state in program.states), "0.0f"]),
        members=f"vec {', '.join(f'{name} = {{}}' for name in members)}"
        if members
        else "char none",
        made=_indented(made),
        step=_indented(step),
        vjp=_indented(vjp),
    )


def _states(program: NeuronProgram) -> dict[Operand, str]:
    return {state.name: f"u[{i}]" for i, state in enumerate(program.states)}


def _constant(value: float) -> str:
    """As torch takes a number of Python's beside tensors of float32."""
    return f"float({value!r})"


def _of_scalars(ops: Sequence[Instruction], learnables: Collection[str]) -> list[Instruction]:
    """The operations on numbers that are the same for all elements of a channel."""
    known, found = set(learnables), []
    for op in ops:
        info = ALL_OPCODES[op.opcode]
        if info.gives == "number" and all(isinstance(a, float) or a in known for a in op.args):
            known.add(op.name)
            found.append(op)
    return found


def _body(
    ops: Sequence[Instruction], scope: dict[Operand, str], letter: str
) -> list[tuple[str, str]]:
    """Name and expression of each operation; the names are added to ``scope``."""
    lines = []
    for i, op in enumerate(ops):
        args = [_constant(arg) if isinstance(arg, float) else scope[arg] for arg in op.args]
        scope[op.name] = f"{letter}{i}"
        lines.append((f"{letter}{i}", expression(op.opcode, args)))
    return lines


def expression(opcode: str, args: Sequence[str]) -> str:
    """An operation, of vectors and masks."""
    info = ALL_OPCODES[opcode]
    return (info.cpp or info.text).format(*args)


def _surrogate(program: NeuronProgram, known: dict[Operand, str]) -> list[str]:
    surrogate = program.surrogate
    if surrogate is None:
        return []
    scope = {**known, INPUT: "x"}
    body = [f"const auto {name} = {line};" for name, line in _body(surrogate.ops, scope, "w")]
    body.append(f"return {_spread(surrogate.derivative, scope)};")
    return ["const auto surrogate = [&](vec x) -> vec {", *(f"    {line}" for line in body), "};"]


def _spread(value: Operand, scope: dict[Operand, str]) -> str:
    return f"spread({_constant(value) if isinstance(value, float) else scope[value]})"


def _assigned(to: str, values: Sequence[Operand], scope: dict[Operand, str]) -> list[str]:
    return [f"{to}[{i}] = {_spread(value, scope)};" for i, value in enumerate(values)]


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)
